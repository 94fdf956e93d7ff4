// SPDX-License-Identifier: MIT
/** An echo server with a fault, for the tests of load.ts and bench.ts: it shows once in each connection, or for good. */

import * as net from "node:net";
import process from "node:process";

/** Where in a connection the fault shows: after the first messages, when nobody looks any more. */
const place = 2000;

/** What is sent instead of `data`, whose first byte is number `at` of the connection; `null` closes it. */
const faults: Record<string, (data: Uint8Array, at: number) => Uint8Array | null> = {
  none: (data) => data,
  drop: (data, at) => holds(data, at) ? splice(data, place - at, 1) : data,
  corrupt: (data, at) => holds(data, at) ? splice(data, place - at, 1, data[place - at] ^ 1) : data,
  duplicate: (data, at) => holds(data, at) ? splice(data, place - at, 0, data[place - at]) : data,
  // Two in the middle of a message; those that are equal would not be missed.
  swap: (data, at) => holds(data, at) ? splice(data, place - at, 2, data[place - at + 1], data[place - at]) : data,
  silent: (data, at) => at + data.length > place ? new Uint8Array(0) : data,
  mute: () => new Uint8Array(0),
  close: (data, at) => at + data.length > place ? null : data,
};

function holds(data: Uint8Array, at: number): boolean {
  return at <= place && place < at + data.length;
}

function splice(data: Uint8Array, at: number, count: number, ...others: number[]): Uint8Array {
  return Uint8Array.from([...data.subarray(0, at), ...others, ...data.subarray(at + count)]);
}

const fault = faults[process.argv[2]];
const server = net.createServer({ noDelay: true }, (socket) => {
  let at = 0;
  socket.on("error", () => {});
  socket.on("data", (data: Uint8Array | string) => {
    const reply = fault(data as Uint8Array, at);
    at += data.length;
    if (reply) socket.write(reply);
    else socket.destroy();
  });
});
server.listen(
  0,
  "127.0.0.1",
  () => console.log(`listening on 127.0.0.1:${(server.address() as net.AddressInfo).port}`),
);
