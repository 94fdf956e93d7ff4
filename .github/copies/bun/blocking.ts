// SPDX-License-Identifier: MIT
/**
 * Blocking I/O: the steps of a TCP server, each of them a system call, for one
 * client after another.
 *
 *   bun blocking.ts
 *   nc 127.0.0.1 9999   in two terminals: the second is served when the
 *        first has left
 */

import {
  isMainThread,
  parentPort,
  Worker,
  workerData,
} from "node:worker_threads";
import { getSystemErrorName } from "node:util";
import { dlopen, type Pointer, toArrayBuffer } from "bun:ffi";
import { once } from "node:events";
import { writeSync } from "node:fs";
import { URL } from "node:url";

const HOST = "127.0.0.1";
const PORT = 9999;
const THREADS = 0;

const BUFFER_SIZE = 65_536;

async function main(): Promise<void> {
  const listener = createListener();
  const server = new BlockingServer(listener, THREADS);
  if (THREADS > 0) return await server.startThreads(import.meta.url);
  serveAll(new BlockingThread(server.settings(0)));
}

/** Steps 1 to 3. Returns the descriptor of the listening socket. */
function createListener(): number {
  const [address] = resolveAddresses(HOST, PORT);
  // Step 1: create.
  const listener = must(
    sys.socket(familyOf(address), SOCK_STREAM | SOCK_CLOEXEC, 0),
  );
  must(setOption(listener, SOL_SOCKET, SO_REUSEADDR, 1));
  must(setOption(listener, IPPROTO_TCP, TCP_NODELAY, 1));
  // Step 2: bind.
  must(sys.bind(listener, address));
  // Step 3: listen. From here on clients can connect.
  must(sys.listen(listener, 4096));
  must(sys.getsockname(listener, address));
  const port = portOf(address);
  log("create", 0, "step 1: socket(2) gives descriptor", listener);
  log(
    "bind",
    0,
    "step 2: bind(2) gives it the address",
    formatAddress(HOST, port),
  );
  ready(HOST, port);
  return listener;
}

/** Serves one client after another. */
function serveAll(thread: BlockingThread): void {
  const { listener } = thread,
    peer = socketAddress(),
    buffer = memory(BUFFER_SIZE);
  for (;;) {
    // Step 4: accept. The thread sleeps here until a client connects.
    const fd = thread.accept(
      peer,
      () => sys.accept4(listener, peer, SOCK_CLOEXEC),
    );
    for (;;) {
      // Step 5: recv. The thread sleeps here until the client sends something.
      const size = thread.recv(
        buffer,
        () => sys.recv(fd, buffer, BUFFER_SIZE, 0),
      );
      if (size === 0) break;
      // Step 6: send. The thread sleeps here until the kernel has taken
      // everything.
      thread.send(buffer, size, (left) => sys.send(fd, buffer, left, 0));
    }
    // Step 7: close.
    thread.close(buffer, () => sys.close(fd));
  }
}

// ---------------------------------------- what it stands on

type CKind = "int" | "size" | "pointer";

/** Finds a function of the C library. */
function find(name: string, kinds: CKind[], returns = "int") {
  const types = { int: "i32", size: "u32", pointer: "ptr" } as const;
  const args = kinds.map((kind) => types[kind]);
  const result = returns === "int" ? "i32" : "i64";
  const { symbols } = dlopen("libc.so.6", {
    [name]: { args, returns: result },
  });
  return symbols[name] as unknown as (...values: unknown[]) => number | bigint;
}

/** The bytes at an address. */
function bytesAt(address: number | bigint, size: number): ArrayBuffer {
  return toArrayBuffer(Number(address) as Pointer, 0, size);
}

/** Where the C library keeps the number of this thread's last error. */
const errno = new Int32Array(
  bytesAt(find("__errno_location", [], "address")(), 4),
);

/** Memory of `size` bytes, a multiple of 4, also as 32-bit integers. */
function memory(size: number) {
  const buffer = new ArrayBuffer(size);
  return { bytes: new Uint8Array(buffer), ints: new Int32Array(buffer) };
}

type Memory = ReturnType<typeof memory>;

/** What a function takes; an address goes with its length. */
const parameters: Record<string, CKind[]> = {
  int: ["int"],
  size: ["size"],
  pointer: ["pointer"],
  address: ["pointer", "size"],
  filled: ["pointer", "pointer"],
};

const length = new Int32Array([16]);

const lengths: Record<string, unknown[]> = { address: [16], filled: [length] };

/**
 * A function of the C library. It returns the negative number of an error if
 * it fails, as the kernel itself does.
 */
function cFunction(name: string, ...kinds: string[]) {
  const call = find(name, kinds.flatMap((kind) => parameters[kind]));
  return (...values: (number | { bytes: Uint8Array | null })[]): number => {
    const result = call(
      ...values.flatMap((value, i) =>
        typeof value === "number"
          ? value
          : [value.bytes, ...lengths[kinds[i]] ?? []]
      ),
    );
    // At once, before anything else changes it.
    return result < 0 ? -errno[0] : Number(result);
  };
}

/** Passes on what a call returned, or throws it as an error. */
function must(returned: number): number {
  if (returned < 0) throw systemError(returned);
  return returned;
}

/** What a call returned, as an error. */
function systemError(returned: number): Error {
  return new Error(getSystemErrorName(returned));
}

const AF_INET = 2, SOCK_STREAM = 1, SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1, SO_REUSEADDR = 2;
const IPPROTO_TCP = 6, TCP_NODELAY = 1;

/** System calls: see section 2 of the manual. */
const sys = {
  socket: cFunction("socket", "int", "int", "int"),
  bind: cFunction("bind", "int", "address"),
  listen: cFunction("listen", "int", "int"),
  accept4: cFunction("accept4", "int", "filled", "int"),
  recv: cFunction("recv", "int", "pointer", "size", "int"),
  send: cFunction("send", "int", "pointer", "size", "int"),
  close: cFunction("close", "int"),
  getsockname: cFunction("getsockname", "int", "filled"),
  setsockopt: cFunction("setsockopt", "int", "int", "int", "pointer", "size"),
};

/** Prints an event: the thread, what happens, to which connection, details. */
function log(what: string, id: number, ...details: unknown[]): void {
  const name = workerData?.name ?? "main";
  const words = [name, what, ...id > 0 ? [`#${id}`] : [], ...details];
  // console.log would hold back what a thread prints before it blocks.
  writeSync(1, `${words.join(" ")}\n`);
}

/** Prints that the server is ready. */
function ready(host: string, port: number): void {
  console.log(`listening on ${host}:${port}`);
}

/** `HOST:PORT`. */
function formatAddress(host: string, port: number): string {
  return `${host}:${port}`;
}

type SocketAddress = Memory;

/** An address to be filled in by a call: a `struct sockaddr_in`, see ip(7). */
function socketAddress(): Memory {
  return memory(16);
}

/** An address as `HOST:PORT`. */
function addressText({ bytes }: Memory): string {
  return `${bytes.subarray(4, 8).join(".")}:${bytes[2] << 8 | bytes[3]}`;
}

/** The address of an IPv4 host, and a port. */
function resolveAddresses(host: string, port: number): Memory[] {
  const address = socketAddress(), parts = host.split(".").map(Number);
  address.bytes.set([AF_INET, 0, port >> 8, port, ...parts]);
  return [address];
}

/** The family of an address. */
function familyOf({ bytes }: Memory): number {
  return bytes[0];
}

/** The port of an address. */
function portOf({ bytes }: Memory): number {
  return bytes[2] << 8 | bytes[3];
}

/** Sets an option that is an `int`. See setsockopt(2). */
function setOption(fd: number, level: number, option: number, n: number) {
  const int = memory(4);
  int.ints[0] = n;
  return sys.setsockopt(fd, level, option, int, 4);
}

const numbers: Int32Array = workerData?.numbers ??
  new Int32Array(new SharedArrayBuffer(4));

/** Counts the connections of all threads, from 1. */
function nextNumber(): number {
  return Atomics.add(numbers, 0, 1) + 1;
}

/** Starts a thread that runs `script`, and waits for its first message. */
async function startWorker(script: string, data: object): Promise<Worker> {
  const worker = new Worker(new URL(script), { workerData: data });
  await once(worker, "message");
  return worker;
}

/** What the threads of a server share. */
class BlockingServer {
  readonly listener: number;
  #threads: number;

  constructor(listener: number, threads: number) {
    this.listener = listener;
    this.#threads = threads;
  }

  /** What a thread needs. */
  settings(i: number) {
    return { name: `t-${i}`, numbers, listener: this.listener };
  }

  /** Starts threads that run `script`, one after the other. */
  async startThreads(script: string): Promise<void> {
    for (let i = 1; i <= this.#threads; i++) {
      await startWorker(script, this.settings(i));
    }
  }
}

/** A thread that serves one client at a time, and logs what comes of calls. */
class BlockingThread {
  readonly listener: number;
  #id = 0;
  #result = 0;

  constructor({ listener }: { listener: number }) {
    this.listener = listener;
    parentPort?.postMessage("ready");
  }

  /** Makes an accept4(2) call that fills in `peer`. Returns the descriptor. */
  accept(peer: SocketAddress, call: () => number): number {
    const fd = must(call());
    this.#id = nextNumber();
    log("accept", this.#id, addressText(peer));
    return fd;
  }

  /** Makes a recv(2) call. Returns how many bytes came. */
  recv(_: Memory, call: () => number): number {
    const size = this.#result = call();
    if (size > 0) log("recv", this.#id, size);
    return Math.max(size, 0);
  }

  /** Makes a send(2) call; again for what is left, if it took a part. */
  send(buffer: Memory, size: number, call: (left: number) => number): void {
    for (let left = size; left > 0;) {
      const sent = this.#result = call(left);
      if (sent < 0) return;
      log("send", this.#id, sent);
      left -= sent;
      buffer.bytes.copyWithin(0, sent, sent + left);
    }
  }

  /** Makes a close(2) call. */
  close(_: Memory, call: () => number): void {
    call();
    log(
      "close",
      this.#id,
      this.#result === 0 ? "by the client" : systemError(this.#result).message,
    );
  }
}

if (isMainThread) await main();
else serveAll(new BlockingThread(workerData));
