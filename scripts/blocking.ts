// SPDX-License-Identifier: MIT
/**
 * Blocking I/O: the eight steps of a TCP server, each of them a system call, for one client after another.
 *
 * accept and recv put the whole process to sleep until a client connects, or says something. While one client is
 * served the next one waits, though it doesn't know: the kernel has connected it, keeps the connection in the backlog,
 * and what the client sends in that connection's receive buffer. The log shows how many wait in the backlog.
 *
 * With `--threads N` there are N threads that do the same on one listening socket. All of them block in accept, and
 * the kernel wakes one for each client: N are served at once, and no thread has to hand anything over. (Web servers
 * called that preforked, or prethreaded.)
 *
 * The limit: a client that says nothing holds a whole thread. One thread can serve many if no call ever blocks:
 * see nonblocking.ts, and select.ts, which blocks for all of them at once.
 *
 * These are the kernel's own calls, made through the runtime's FFI. Linux only.
 *
 *   deno run -A scripts/blocking.ts   or: bun scripts/blocking.ts   or: node scripts/blocking.ts
 *   nc 127.0.0.1 9999                 in two terminals: the second is served when the first has left
 *
 * To copy it into an article: deno run -A scripts/standalone.ts blocking
 */

import { setTimeout as sleep } from "node:timers/promises";
import { isMainThread, parentPort, workerData } from "node:worker_threads";
import { cannotListen, fail, formatAddress, heartbeat, log, messages, nextNumber, onStop } from "./shim/program.ts";
import { parseOptions, ready, serverOptions, threadSettings } from "./shim/program.ts";
import { LINGER } from "./shim/socket.ts";
import * as sys from "./shim/sys.ts";
import { keepWorker } from "./shim/worker.ts";

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

/** What a thread is to do. */
interface Work {
  listener: number;
  /** Shared by all threads: whether the server stops, then the descriptor of each thread's client, or -1. */
  shared: Int32Array;
  /** Where in `shared` this thread's descriptor stands. */
  place: number;
}

/**
 * Milliseconds after which a call gives up. A runtime handles signals between calls only, so that none may block for
 * ever. In C this wouldn't be needed.
 */
const TIMEOUT = 500;
const BUFFER_SIZE = 65_536;

async function main(): Promise<void> {
  const { listener, port } = await createListener().catch(cannotListen);
  log("create", 0, "step 1: socket(2) gives descriptor", listener);
  log("bind", 0, "step 2: bind(2) gives it the address", formatAddress(options.host, port));
  // Step 3: listen. Clients may connect from now on.
  ready(options.host, port);
  heartbeat("backlog", TIMEOUT / 2000, () => {
    const waiting = sys.backlogOf(listener);
    return waiting > 0 ? [`${waiting} waiting to be accepted`] : [];
  });

  const shared = new Int32Array(new SharedArrayBuffer(4 * (2 + options.threads))).fill(-1, 1),
    clients = shared.subarray(1);
  onStop(async () => {
    Atomics.store(shared, 0, 1);
    // Closing would not wake a thread that is blocked on a socket, but this does.
    for (const fd of clients) if (fd >= 0) sys.shutdown(fd, sys.SHUT_RDWR);
    sys.shutdown(listener, sys.SHUT_RDWR);
    for (let i = 0; i < 25 && clients.some((fd) => fd >= 0); i++) await sleep(20);
    sys.close(listener);
    log("close", 0, "step 8: the listening socket");
  });

  if (options.threads === 0) return await serveAll({ listener, shared, place: 1 });
  // One after the other: a runtime may not like to load the C library in several threads at once.
  for (let i = 1; i <= options.threads; i++) {
    try {
      const work = { listener, shared, place: 1 + i };
      await keepWorker(import.meta.url, () => ({ ...threadSettings(`t-${i}`), ...work }), () => () => {
        const fd = Atomics.exchange(shared, work.place, -1);
        if (fd >= 0) sys.close(fd);
      });
    } catch (error) {
      if (i === 1) fail("cannot start a thread", error);
      return log("error", 0, `${i - 1} of ${options.threads} threads serve, there are no more:`, error);
    }
  }
}

/** Steps 1 to 3. */
async function createListener(): Promise<{ listener: number; port: number }> {
  const [address] = await sys.resolveAddresses(options);
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
  sys.must(sys.listen(listener, 4096));
  sys.must(sys.getsockname(listener, address));
  return { listener, port: sys.portOf(address) };
}

/** Serves one client after another, until the listening socket is shut down. */
async function serveAll({ listener, shared, place }: Work): Promise<void> {
  const buffer = sys.memory(BUFFER_SIZE), peer = sys.socketAddress();
  for (;;) {
    // Step 4: accept. Everything stops here until a client connects.
    const fd = await blocking("accept", 0, () => sys.accept4(listener, peer, sys.SOCK_CLOEXEC));
    // The listening socket is shut down, or even closed.
    if (fd < 0 && Atomics.load(shared, 0) === 1) return;
    if (fd < 0) {
      log("error", 0, "accept:", sys.systemError(fd));
      // Out of descriptors, for example. Clients wait in the backlog.
      await sleep(TIMEOUT);
      continue;
    }
    Atomics.store(shared, place, fd);
    const id = nextNumber();
    log("accept", id, sys.addressText(peer));
    const reason = await serve(fd, id, buffer);
    // Step 7: close.
    Atomics.store(shared, place, -1);
    sys.close(fd);
    log("close", id, Atomics.load(shared, 0) === 1 ? "the server stops" : reason);
  }
}

/** The handler. Returns why the connection ends. */
async function serve(fd: number, id: number, buffer: sys.Memory): Promise<unknown> {
  const failure = (result: number) => result === -sys.EAGAIN ? `silent for ${options.idle} s` : sys.systemError(result);
  const patience = options.idle * 1000;
  for (let count = 0; count < options.messages; count++) {
    // Step 5: recv. Everything stops here until the client says something.
    const size = await blocking("recv", id, () => sys.recv(fd, buffer, BUFFER_SIZE, 0), patience);
    if (size === 0) return "by the client";
    if (size < 0) return failure(size);
    log("recv", id, size, buffer.bytes);
    // Step 6: send. It blocks until the kernel has taken everything; but if the timeout has passed, only a part.
    for (let left = size; left > 0;) {
      const sent = await blocking("send", id, () => sys.send(fd, buffer, left, 0), patience);
      if (sent < 0) return failure(sent);
      log("send", id, sent);
      left -= sent;
      buffer.bytes.copyWithin(0, sent, sent + left);
    }
  }
  // Closed with unread bytes, a socket resets the connection: so the sending side first, and what still comes is
  // dropped.
  sys.shutdown(fd, sys.SHUT_WR);
  const end = performance.now() + LINGER;
  while (performance.now() < end && sys.recv(fd, buffer, BUFFER_SIZE, 0) > 0);
  return `after ${options.messages} messages`;
}

/** Makes a call until something comes of it: -EAGAIN if nothing has for so many milliseconds of sleep. */
async function blocking(name: string, id: number, call: () => number, patience = Infinity): Promise<number> {
  const start = performance.now();
  for (let asleep = 0;; asleep += TIMEOUT) {
    const result = call(), nothing = result === -sys.EAGAIN || result === -sys.EINTR;
    if (!nothing && asleep > 0) log("wake", id, name, "after", (performance.now() - start).toFixed(1), "ms");
    if (nothing && asleep === 0) log("sleep", id, name);
    if (nothing || sys.turnIsDue()) await sys.runtimeTurn();
    if (!nothing || asleep >= patience) return result;
  }
}

if (isMainThread) {
  await main();
} else {
  parentPort!.postMessage("ready");
  await serveAll(workerData as Work);
}
