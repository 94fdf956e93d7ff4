// SPDX-License-Identifier: MIT
/** An echo server on Node's own API, with a promise for each message: bench.ts compares tasks.ts with it. */

import { type AddressInfo, createServer, type Socket } from "node:net";

const listener = createServer({ allowHalfOpen: true, noDelay: true }, serve);
listener.listen(
  0,
  "127.0.0.1",
  () => console.log(`listening on 127.0.0.1:${(listener.address() as AddressInfo).port}`),
);

async function serve(socket: Socket): Promise<void> {
  const queue: Uint8Array[] = [];
  let ended = false, wake = () => {};
  const change = () => new Promise<void>((resolve) => wake = resolve);
  socket.on("data", (data: Uint8Array) => (queue.push(data), wake()));
  socket.on("drain", () => wake());
  for (const event of ["end", "close"]) socket.on(event, () => (ended = true, wake()));
  socket.on("error", () => {});
  for (;;) {
    const data = queue.shift();
    if (!data && ended) break;
    if (!data) await change();
    else if (!socket.write(data) && !ended) {
      socket.pause();
      await change();
      socket.resume();
    }
  }
  socket.end();
}
