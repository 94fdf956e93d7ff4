// SPDX-License-Identifier: MIT
/** An echo server on Bun's own API, with a promise for each message: bench.ts compares tasks.ts with it. */

/** What has come, and what is to be called when more does or there is room. */
interface State {
  data: Uint8Array[];
  ended: boolean;
  wake(): void;
}

const listener = Bun.listen<State>({
  hostname: "127.0.0.1",
  port: 0,
  allowHalfOpen: true,
  socket: {
    open: (socket) => void serve(socket),
    data: (socket, data) => (socket.data.data.push(data), socket.data.wake()),
    drain: (socket) => socket.data.wake(),
    end: (socket) => (socket.data.ended = true, socket.data.wake()),
    close: (socket) => (socket.data.ended = true, socket.data.wake()),
    error() {},
  },
});
console.log(`listening on 127.0.0.1:${listener.port}`);

async function serve(socket: Bun.Socket<State>): Promise<void> {
  const state: State = socket.data = { data: [], ended: false, wake() {} };
  const change = () => new Promise<void>((resolve) => state.wake = resolve);
  for (;;) {
    const data = state.data.shift();
    if (!data && state.ended) break;
    if (!data) await change();
    else {
      // What Bun does not take, it does not keep.
      let sent = Math.max(0, socket.write(data));
      for (; sent < data.length && !state.ended; sent += Math.max(0, socket.write(data.subarray(sent)))) await change();
    }
  }
  socket.end();
}
