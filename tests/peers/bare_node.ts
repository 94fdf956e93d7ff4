// SPDX-License-Identifier: MIT
/** An echo server on Node's own API and nothing else: bench.ts shows with it what the shim costs. */

import { type AddressInfo, createServer } from "node:net";

const listener = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
  socket.on("data", (data) => {
    if (socket.write(data)) return;
    socket.pause();
    socket.once("drain", () => socket.resume());
  });
  socket.on("end", () => socket.end());
  socket.on("error", () => {});
});
listener.listen(
  0,
  "127.0.0.1",
  () => console.log(`listening on 127.0.0.1:${(listener.address() as AddressInfo).port}`),
);
