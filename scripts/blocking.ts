// SPDX-License-Identifier: MIT
/**
 * Blocking I/O: the eight steps of a TCP server, each of them a system call, for one client after another.
 *
 * accept and recv put the whole process to sleep until somebody connects, or says something. While one client is
 * served the next one waits, though it doesn't know: the kernel has made its connection, takes in what it sends, and
 * keeps it in the backlog. The log shows how many wait there.
 *
 * With `--threads N` there are N threads that do the same on one listening socket. All of them block in accept, and
 * the kernel wakes one for each client: N are served at once, and nobody has to hand anything over. (Web servers
 * called that preforked, or prethreaded.)
 *
 * The limit: a client that says nothing holds a whole thread. One thread can serve many if no call ever blocks:
 * see nonblocking.ts, and select.ts, which blocks for all of them at once.
 *
 * These are the kernel's own calls, made through the runtime's FFI. Linux only.
 *
 *   deno run -A scripts/blocking.ts   or: bun scripts/blocking.ts   or: node scripts/blocking.ts
 *   nc 127.0.0.1 9999                 in two terminals: the second is served when the first has left
 */

import { setTimeout as sleep } from "node:timers/promises";
import { URL } from "node:url";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { explain, fail, joinThreads, log, onStop, parseOptions, ready, serverOptions } from "./program.ts";
import { sharedOptions, type ThreadSettings, threadSettings } from "./program.ts";
import * as sys from "./sys.ts";

const options = sharedOptions(() =>
  parseOptions(
    "Blocking I/O: the eight steps as system calls, for one client after another.",
    "nc 127.0.0.1 9999, in two terminals: the second waits until the first has left",
    {
      ...serverOptions,
      messages: [0, "exchanges per connection; 0 = until the client leaves"],
      threads: [0, "threads that block in accept on one listening socket; 0 = no further thread", 0, 1000],
    },
  )
);

/** What a thread is to do. */
interface Work {
  listener: number;
  /** Shared by all threads: how many clients there have been, then the descriptor of each thread's client. */
  shared: Int32Array;
  /** Where in `shared` this thread's descriptor stands. */
  place: number;
}

/**
 * Milliseconds after which a call gives up. A runtime sees to signals between calls only, so that none may block
 * for ever. In C this wouldn't be needed.
 */
const TIMEOUT = 500;
const BUFFER_SIZE = 65_536;

async function main(): Promise<void> {
  sys.requireLinux();
  const { listener, port } = await open()
    .catch((error) => fail(`cannot listen on ${options.host}:${options.port}`, error));
  const shared = new Int32Array(new SharedArrayBuffer(4 * (2 + options.threads))).fill(-1, 1);
  onStop(() => {
    // Closing would not wake a thread that is blocked on a socket, but this does.
    for (const fd of shared.subarray(1)) if (fd >= 0) sys.shutdown(fd, sys.SHUT_RDWR);
    sys.shutdown(listener, sys.SHUT_RDWR);
    // Step 8: close. With threads it is left to the end of the process, as they would complain.
    if (options.threads === 0) sys.close(listener);
  });
  ready(options.host, port);
  log("create", 0, "step 1: socket(2) gives descriptor", listener);
  log("bind", 0, "step 2: bind(2) gives it an address");
  log("listen", 0, "step 3: listen(2), and the backlog takes clients");

  let waiting = 0;
  setInterval(() => {
    const before = waiting;
    waiting = sys.backlogOf(listener);
    if (waiting !== before) log("backlog", 0, `${waiting} waiting to be accepted`);
  }, TIMEOUT / 2);

  if (options.threads === 0) return await serveAll({ listener, shared, place: 1 });
  for (let number = 1; number <= options.threads; number++) {
    await startThread({ ...threadSettings(`t-${number}`, options), listener, shared, place: 1 + number });
  }
}

/** Steps 1 to 3. */
async function open(): Promise<{ listener: number; port: number }> {
  const address = await sys.resolveAddress(options);
  // Step 1: create.
  const listener = sys.must(sys.socket(sys.familyOf(address), sys.SOCK_STREAM | sys.SOCK_CLOEXEC, 0));
  sys.must(sys.setOption(listener, sys.SOL_SOCKET, sys.SO_REUSEADDR, 1));
  // The connections that it accepts have these options, too.
  sys.must(sys.setOption(listener, sys.IPPROTO_TCP, sys.TCP_NODELAY, 1));
  const timeout = sys.timeval();
  sys.setTimeval(timeout, TIMEOUT);
  sys.must(sys.setsockopt(listener, sys.SOL_SOCKET, sys.SO_RCVTIMEO, timeout, 16));
  sys.must(sys.setsockopt(listener, sys.SOL_SOCKET, sys.SO_SNDTIMEO, timeout, 16));
  // Step 2: bind.
  sys.must(sys.bind(listener, address));
  // Step 3: listen.
  sys.must(sys.listen2(listener, 4096));
  sys.must(sys.getsockname(listener, address));
  return { listener, port: sys.portOf(address) };
}

/** Starts a thread, and another one in its place if it dies. */
async function startThread(data: Work & ThreadSettings): Promise<void> {
  const { name, shared, place } = data;
  const worker = new Worker(new URL(import.meta.url), { name, workerData: data });
  worker.on("error", (error: unknown) => log("error", 0, `thread ${name}:`, explain(error)));
  worker.once("exit", async () => {
    const fd = Atomics.exchange(shared, place, -1);
    if (fd >= 0) sys.close(fd);
    await sleep(TIMEOUT);
    await startThread(data);
  });
  // One after the other: a runtime may not like to load the C library in several threads at once.
  await new Promise((resolve) => worker.once("message", resolve).once("exit", resolve));
}

/** Serves one client after another, until the listening socket is shut down. */
async function serveAll({ listener, shared, place }: Work): Promise<void> {
  const buffer = sys.memory(BUFFER_SIZE), peer = sys.socketAddress();
  for (;;) {
    // Step 4: accept. Everything stops here until somebody connects.
    const fd = await blocking(() => sys.accept4(listener, peer, sys.SOCK_CLOEXEC));
    if (fd === -sys.EINVAL) return;
    if (fd < 0) {
      log("error", 0, "accept:", explain(sys.systemError(fd)));
      // Out of descriptors, for example. Who has connected waits in the backlog.
      await sleep(TIMEOUT);
      continue;
    }
    Atomics.store(shared, place, fd);
    const id = Atomics.add(shared, 0, 1) + 1;
    log("accept", id, sys.addressText(peer));
    const result = await serve(fd, id, buffer);
    if (options.idle > 0 && result === -sys.EAGAIN) log("idle", id, `silent for ${options.idle} s`);
    else if (result < 0) log("error", id, explain(sys.systemError(result)));
    // Step 7: close.
    Atomics.store(shared, place, -1);
    sys.close(fd);
    log("close", id);
  }
}

/** The handler. Returns 0, or what the call that failed has returned: -EAGAIN if the client was silent for too long. */
async function serve(fd: number, id: number, buffer: sys.Memory): Promise<number> {
  const patience = options.idle > 0 ? options.idle * 1000 : Infinity;
  for (let count = 0; options.messages === 0 || count < options.messages; count++) {
    // Step 5: recv. Everything stops here until the client says something.
    const size = await blocking(() => sys.recv(fd, buffer, BUFFER_SIZE, 0), patience);
    if (size <= 0) return size;
    log("recv", id, buffer.bytes.subarray(0, size));
    // Step 6: send. It blocks until the kernel has taken everything; but if the timeout has passed, only a part.
    for (let left = size; left > 0;) {
      const sent = await blocking(() => sys.send(fd, buffer, left, 0), patience);
      if (sent < 0) return sent;
      left -= sent;
      buffer.bytes.copyWithin(0, sent, sent + left);
    }
    log("send", id, size);
  }
  return 0;
}

/** Makes a call until something comes of it: -EAGAIN if nothing has for so many milliseconds. */
async function blocking(call: () => number, patience = Infinity): Promise<number> {
  for (const start = performance.now();;) {
    const result = call();
    const nothing = result === -sys.EAGAIN || result === -sys.EINTR;
    if (nothing || sys.turnIsDue()) await sys.runtimeTurn();
    if (!nothing) return result;
    if (performance.now() - start >= patience) return -sys.EAGAIN;
  }
}

if (isMainThread) {
  await main();
} else {
  const data = workerData as Work & ThreadSettings;
  joinThreads(data);
  parentPort!.postMessage("ready");
  await serveAll(data);
}
