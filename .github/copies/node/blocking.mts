// SPDX-License-Identifier: MIT
/**
 * Blocking I/O: the eight steps of a TCP server, each of them a system call,
 * for one client after another.
 *
 *   node blocking.mts
 *   nc 127.0.0.1 9999   in two terminals: the second is served when the first
 *                       has left
 */

import { writeSync } from "node:fs";
import process from "node:process";
import { URL } from "node:url";
import { getSystemErrorName } from "node:util";
import {
  isMainThread,
  parentPort,
  Worker,
  workerData,
} from "node:worker_threads";

const HOST = "127.0.0.1";
const PORT = 9999;
const THREADS = 0;

const BUFFER_SIZE = 65_536;

async function main(): Promise<void> {
  const listener = createListener();
  const server = new BlockingServer(listener);
  if (THREADS > 0) return await server.startThreads(import.meta.url, THREADS);
  serveAll(new BlockingThread(server.settings()));
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

type Call = (...values: unknown[]) => number;

/** What is used of node:ffi, which is too new for the types of Node. */
interface FFI {
  DynamicLibrary: new (path: string) => {
    getFunction(
      name: string,
      signature: { arguments: string[]; return: string },
    ): Call;
  };
  toArrayBuffer(pointer: bigint, size: number, copy: boolean): ArrayBuffer;
}

const ffi = process.getBuiltinModule("node:ffi") as FFI;

/** No address. */
const NULL = { pointer: 0n as unknown };

/** Finds a function of the C library. */
function find(name: string, kinds: CKind[], returns = "int"): Call {
  const types = { int: "int32", size: "uint32", pointer: "uint64" };
  return new ffi.DynamicLibrary("libc.so.6").getFunction(name, {
    arguments: kinds.map((kind) => types[kind]),
    return: returns === "int" ? "int32" : "int64",
  });
}

/** An address as functions take it. */
function toPointer(address: number): unknown {
  return BigInt(address);
}

/** The bytes at an address. */
function bytesAt(address: number, size: number): ArrayBuffer {
  return ffi.toArrayBuffer(BigInt(address), size, false);
}

/** Where the C library keeps the number of this thread's last error. */
const errno = new Int32Array(
  bytesAt(Number(find("__errno_location", [], "address")()), 4),
);

/** What a function takes: numbers, memory, or an address with its length. */
type Kind = CKind | "address" | "filled";

type Value = number | { pointer: unknown; length?: Memory };

/**
 * A function of the C library. It returns the negative number of an error if
 * it fails, as the kernel itself does.
 */
function cFunction(name: string, ...kinds: Kind[]) {
  const parameters: Record<Kind, CKind[]> = {
    int: ["int"],
    size: ["size"],
    pointer: ["pointer"],
    address: ["pointer", "size"],
    filled: ["pointer", "pointer"],
  };
  const call = find(name, kinds.flatMap((kind) => parameters[kind]));
  const passed = (value: Value, i: number) => {
    if (typeof value === "number") return [value];
    if (kinds[i] === "pointer") return [value.pointer];
    const { ints, pointer } = value.length!;
    return [value.pointer, kinds[i] === "filled" ? pointer : ints[0]];
  };
  return (...values: Value[]): number => {
    const result = call(...values.flatMap(passed));
    // At once, before anything else changes it.
    return result < 0 ? -errno[0] : result;
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

/** Memory that no garbage collector moves. */
interface Memory {
  readonly address: number;
  readonly pointer: unknown;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same bytes as 32-bit integers. */
  readonly ints: Int32Array<ArrayBuffer>;
}

const mmap = find(
  "mmap",
  ["pointer", "size", "int", "int", "int", "size"],
  "address",
);

/** Memory of `size` bytes, a multiple of 4, all of them 0. See mmap(2). */
function memory(size: number): Memory {
  const PROT_READ = 1, PROT_WRITE = 2, MAP_PRIVATE = 2, MAP_ANONYMOUS = 32;
  const address = mmap(
    NULL.pointer,
    size,
    PROT_READ | PROT_WRITE,
    MAP_PRIVATE | MAP_ANONYMOUS,
    -1,
    0,
  );
  return memoryAt(Number(address), size);
}

function memoryAt(address: number, size: number): Memory {
  const buffer = bytesAt(address, size);
  return {
    address,
    pointer: toPointer(address),
    bytes: new Uint8Array(buffer),
    ints: new Int32Array(buffer),
  };
}

const AF_INET = 2, SOCK_STREAM = 1, SOCK_CLOEXEC = 0o2000000, SOL_SOCKET = 1;
const SO_REUSEADDR = 2, IPPROTO_TCP = 6, TCP_NODELAY = 1;

/** System calls, with what they take: see section 2 of the manual. */
const sys = {
  socket: cFunction("socket", "int", "int", "int"),
  setsockopt: cFunction("setsockopt", "int", "int", "int", "pointer", "size"),
  bind: cFunction("bind", "int", "address"),
  listen: cFunction("listen", "int", "int"),
  getsockname: cFunction("getsockname", "int", "filled"),
  accept4: cFunction("accept4", "int", "filled", "int"),
  recv: cFunction("recv", "int", "pointer", "size", "int"),
  send: cFunction("send", "int", "pointer", "size", "int"),
  close: cFunction("close", "int"),
};

/** A `struct sockaddr_in`, with its length. See ip(7). */
interface SocketAddress extends Memory {
  readonly length: Memory;
}

/** An address to be filled in by a call. */
function socketAddress(): SocketAddress {
  const length = memory(4);
  length.ints[0] = 16;
  return { ...memory(16), length };
}

/** An address as `HOST:PORT`. */
function addressText({ bytes }: SocketAddress): string {
  return `${bytes.subarray(4, 8).join(".")}:${bytes[2] << 8 | bytes[3]}`;
}

/** The address of an IPv4 host, and a port. */
function resolveAddresses(host: string, port: number): SocketAddress[] {
  const address = socketAddress();
  address.bytes.set([
    AF_INET,
    0,
    port >> 8,
    port,
    ...host.split(".").map(Number),
  ]);
  return [address];
}

/** The family of an address. */
function familyOf({ bytes }: SocketAddress): number {
  return bytes[0];
}

/** The port of an address. */
function portOf({ bytes }: SocketAddress): number {
  return bytes[2] << 8 | bytes[3];
}

/** Sets an option that is an `int`. See setsockopt(2). */
function setOption(
  fd: number,
  level: number,
  option: number,
  value: number,
): number {
  const int = memory(4);
  int.ints[0] = value;
  return sys.setsockopt(fd, level, option, int, 4);
}

/** What a thread needs to know. */
interface Settings {
  listener: number;
}

/** What the threads of a server share. */
class BlockingServer {
  readonly listener: number;

  constructor(listener: number) {
    this.listener = listener;
  }

  /** What a thread needs. */
  settings(): Settings {
    return { listener: this.listener };
  }

  /** Starts threads that run `script`, one after the other. */
  async startThreads(script: string, count: number): Promise<void> {
    for (let i = 1; i <= count; i++) {
      const settings = () => ({
        ...threadSettings(`t-${i}`),
        ...this.settings(),
      });
      await keepWorker(script, settings, () => () => {});
    }
  }
}

/** A thread that serves one client at a time, and logs what comes of calls. */
class BlockingThread {
  readonly listener: number;
  #id = 0;
  #result = 0;

  constructor({ listener }: Settings) {
    this.listener = listener;
    parentPort?.postMessage("ready");
  }

  /** Makes an accept4(2) call that fills in `peer`. Returns the descriptor. */
  accept(peer: SocketAddress, call: () => number): number {
    for (;;) {
      const fd = call();
      if (fd < 0) {
        log("error", 0, `accept: ${systemError(fd)}`);
        // Perhaps there is no descriptor left.
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
        continue;
      }
      this.#id = nextNumber();
      log("accept", this.#id, addressText(peer));
      return fd;
    }
  }

  /** Makes a recv(2) call that fills `buffer`. Returns how many bytes came. */
  recv(buffer: Memory, call: () => number): number {
    const size = this.#result = call();
    if (size > 0) log("recv", this.#id, shown(buffer.bytes.subarray(0, size)));
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
      this.#result === 0 ? "by the client" : systemError(this.#result),
    );
  }
}

/**
 * Starts a thread that runs `script`, and waits for its first message. Calls
 * `started`, and when the thread dies what that returned: then there will be
 * another thread.
 */
async function keepWorker<Data extends ThreadSettings>(
  script: string,
  settings: () => Data,
  started: (worker: Worker, data: Data) => () => void,
): Promise<void> {
  const data = settings();
  const worker = new Worker(new URL(script), { workerData: data });
  worker.on(
    "error",
    (error) => log("error", 0, `thread ${data.name}: ${error}`),
  );
  await new Promise((resolve) => worker.once("message", resolve));
  const died = started(worker, data);
  worker.on("exit", () => {
    died();
    keepWorker(script, settings, started);
  });
}

const threadName: string = workerData?.name ?? "main";

/** Prints an event: the thread, what happens, to which connection, details. */
function log(
  event: string,
  id: number,
  ...details: unknown[]
): void {
  const words = [threadName, event, ...id > 0 ? [`#${id}`] : [], ...details];
  // console.log would hold back what a thread prints before it blocks.
  for (;;) {
    try {
      writeSync(1, `${words.join(" ")}\n`);
      return;
    } catch (error) {
      // Node makes a pipe non-blocking for console.log: here it is full.
      if ((error as { code?: string }).code !== "EAGAIN") throw error;
    }
  }
}

/** `HOST:PORT`. */
function formatAddress(host: string, port: number): string {
  return `${host}:${port}`;
}

/** Bytes for the log: how many, and the first 60 of them as text. */
function shown(data: Uint8Array): string {
  const text = new TextDecoder().decode(data.subarray(0, 60));
  return `${data.length} ${JSON.stringify(text)}`;
}

/** Prints that the server is ready. */
function ready(host: string, port: number): void {
  console.log(`listening on ${host}:${port}`);
}

const numbers: Int32Array = workerData?.numbers ??
  new Int32Array(new SharedArrayBuffer(4));

/** Counts the connections of all threads, from 1. */
function nextNumber(): number {
  return Atomics.add(numbers, 0, 1) + 1;
}

/** What a thread is told. */
interface ThreadSettings {
  readonly name: string;
  readonly numbers: Int32Array;
}

/** For a thread with this name. */
function threadSettings(name: string): ThreadSettings {
  return { name, numbers };
}

if (isMainThread) await main();
else serveAll(new BlockingThread(workerData));
