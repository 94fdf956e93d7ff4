// SPDX-License-Identifier: MIT
/** An echo server on Bun's own API and nothing else: bench.ts shows with it what the shim costs. */

const listener = Bun.listen<Uint8Array | undefined>({
  hostname: "127.0.0.1",
  port: 0,
  allowHalfOpen: true,
  socket: {
    data(socket, data) {
      // What Bun does not take, it does not keep.
      if (socket.data) socket.data = Buffer.concat([socket.data, data]);
      else send(socket, data);
    },
    drain(socket) {
      if (socket.data) send(socket, socket.data);
    },
    end(socket) {
      socket.end();
    },
    error() {},
  },
});
console.log(`listening on 127.0.0.1:${listener.port}`);

function send(socket: Bun.Socket<Uint8Array | undefined>, data: Uint8Array): void {
  const sent = Math.max(0, socket.write(data));
  socket.data = sent < data.length ? data.slice(sent) : undefined;
}
