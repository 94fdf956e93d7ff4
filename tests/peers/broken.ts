// SPDX-License-Identifier: MIT
/** An echo server with a fault, for the tests of what should notice: it shows once in each connection, or for good. */

import { openSync } from "node:fs";
import * as net from "node:net";
import process from "node:process";

/** Where in a connection the fault shows: after the first messages, when nobody looks any more. */
const place = 2000;

/** What is sent instead of `data`, with byte number `at` of a connection first; `null` closes it. */
const faults: Record<string, (data: Uint8Array, at: number, turns: number) => Uint8Array | null> = {
  none: (data) => data,
  drop: (data, at) => holds(data, at) ? splice(data, place - at, 1) : data,
  corrupt: (data, at) => holds(data, at) ? splice(data, place - at, 1, data[place - at] ^ 1) : data,
  duplicate: (data, at) => holds(data, at) ? splice(data, place - at, 0, data[place - at]) : data,
  // Two in the middle of a message; those that are equal would not be missed.
  swap: (data, at) => holds(data, at) ? splice(data, place - at, 2, data[place - at + 1], data[place - at]) : data,
  silent: (data, at) => at + data.length > place ? new Uint8Array(0) : data,
  mute: () => new Uint8Array(0),
  close: (data, at) => at + data.length > place ? null : data,
  exit: (data, at) => at + data.length > place ? exit() : data,
  // Loses bytes of a connection that sends again after another has: its predecessor has left for good.
  together: (data, _, turns) => turns > 1 ? data.subarray(1) : data,
};

/** Faults that no byte shows: what is done with a connection when it begins. */
const others: Record<string, (socket: net.Socket) => void> = {
  leak: () => void openSync("/dev/null", "r"),
  deaf: (socket) => socket.allowHalfOpen = true,
  crash: (socket) =>
    socket.on("error", (error) => {
      throw error;
    }),
  stubborn: () => void process.removeAllListeners("SIGTERM"),
};

let last: net.Socket | null = null;

function exit(): never {
  console.log("this is enough");
  process.exit(1);
}

function holds(data: Uint8Array, at: number): boolean {
  return at <= place && place < at + data.length;
}

function splice(data: Uint8Array, at: number, count: number, ...others: number[]): Uint8Array {
  return Uint8Array.from([...data.subarray(0, at), ...others, ...data.subarray(at + count)]);
}

const name = process.argv.at(-1)!, fault = faults[name] ?? faults.none;
const server = net.createServer({ noDelay: true }, (socket) => {
  let at = 0, turns = 0;
  others[name]?.(socket);
  socket.on("error", () => {});
  socket.on("data", (data: Uint8Array | string) => {
    if (last !== socket) turns++;
    last = socket;
    const reply = fault(data as Uint8Array, at, turns);
    at += data.length;
    if (!reply) socket.destroy();
    else if (!socket.write(reply)) {
      socket.pause();
      if (name !== "stuck") socket.once("drain", () => socket.resume());
    }
  });
});
process.on("SIGTERM", () => process.exit(0));
server.listen(
  0,
  "127.0.0.1",
  () => console.log(`listening on 127.0.0.1:${(server.address() as net.AddressInfo).port}`),
);
