// SPDX-License-Identifier: MIT
/**
 * Blocking I/O: the steps of a TCP server, each of them a system call, for one client after another.
 *
 * accept and recv put the whole process to sleep until a client connects or sends something. While one client is
 * served, the next one waits without noticing: the kernel has completed its connection, keeps it in the backlog, and
 * keeps what it sends in the connection's receive buffer. The log shows how many clients wait in the backlog.
 *
 * With `--threads N` there are N threads that do the same on one listening socket. All of them block in accept, and
 * the kernel wakes one for each client: N are served at once, and no thread hands anything over to another. (This
 * is called prethreaded; with processes it is preforked: see prefork.ts.)
 *
 * The limit: a silent client holds a whole thread. One thread can serve many clients if no call ever blocks: see
 * nonblocking.ts, and select.ts, which blocks in a single call for all of them.
 *
 * These are the kernel's own calls, made through the runtime's FFI. Linux only. A runtime can't handle Ctrl-C while a
 * call blocks, so each call gives up after half a second and is made again: the log shows this as one sleep.
 *
 *   deno run -A scripts/blocking.ts   or: bun scripts/blocking.ts   or: node scripts/blocking.ts
 *   nc 127.0.0.1 9999                 in two terminals: the second is served when the first has left
 */

import { isMainThread, workerData } from "node:worker_threads";
import { BlockingServer, BlockingThread, TIMEOUT } from "./shim/blocking.ts";
import {
  cannotListen,
  formatAddress,
  heartbeat,
  log,
  messages,
  onStop,
  parseOptions,
  ready,
  serverOptions,
} from "./shim/program.ts";
import * as sys from "./shim/sys.ts";

const options = parseOptions(
  "Blocking I/O: the eight steps as system calls, for one client after another.",
  "nc 127.0.0.1 9999, in two terminals: the second waits until the first has left",
  {
    ...serverOptions,
    ...messages,
    threads: [0, "threads that block in accept on one listening socket; 0 = no further thread", 0, 1000],
  },
);
sys.requireSystemCalls();

const BUFFER_SIZE = 65_536;

async function main(): Promise<void> {
  const listener = await createListener().catch(cannotListen);
  heartbeat("backlog", 0.25, () => sys.backlogOf(listener));
  const server = new BlockingServer(listener, options.threads);
  onStop(async () => {
    await server.stop();
    sys.close(listener);
    log("close", 0, "step 8: the listening socket");
  });
  if (options.threads > 0) return await server.startThreads(import.meta.url);
  await serveAll(new BlockingThread(server.settings(0)));
}

/** Steps 1 to 3. Returns the descriptor of the listening socket. */
async function createListener(): Promise<number> {
  const [address] = await sys.resolveAddresses(options);
  // Step 1: create.
  const listener = sys.must(sys.socket(sys.familyOf(address), sys.SOCK_STREAM | sys.SOCK_CLOEXEC, 0));
  sys.must(sys.setOption(listener, sys.SOL_SOCKET, sys.SO_REUSEADDR, 1));
  sys.must(sys.setOption(listener, sys.IPPROTO_TCP, sys.TCP_NODELAY, 1));
  sys.limitCalls(listener, TIMEOUT);
  // Step 2: bind.
  sys.must(sys.bind(listener, address));
  // Step 3: listen. From here on clients can connect.
  sys.must(sys.listen(listener, 4096));
  sys.must(sys.getsockname(listener, address));
  const port = sys.portOf(address);
  log("create", 0, "step 1: socket(2) gives descriptor", listener);
  log("bind", 0, "step 2: bind(2) gives it the address", formatAddress(options.host, port));
  ready(options.host, port);
  return listener;
}

/** Serves one client after another. */
async function serveAll(thread: BlockingThread): Promise<void> {
  const { listener } = thread, peer = sys.socketAddress(), buffer = sys.memory(BUFFER_SIZE);
  for (;;) {
    // Step 4: accept. The thread sleeps here until a client connects.
    const fd = await thread.accept(peer, () => sys.accept4(listener, peer, sys.SOCK_CLOEXEC));
    if (fd < 0) return;
    for (;;) {
      // Step 5: recv. The thread sleeps here until the client sends something.
      const size = await thread.recv(buffer, () => sys.recv(fd, buffer, BUFFER_SIZE, 0));
      if (size === 0) break;
      // Step 6: send. The thread sleeps here until the kernel has taken everything.
      await thread.send(buffer, size, (left) => sys.send(fd, buffer, left, 0));
    }
    // Step 7: close.
    await thread.close(buffer, () => sys.close(fd));
  }
}

if (isMainThread) await main();
else await serveAll(new BlockingThread(workerData));
