// SPDX-License-Identifier: MIT
/**
 * Several processes, made beforehand, that accept from one listening socket.
 *
 *   bun prefork.ts
 *   nc 127.0.0.1 9999   in four terminals: the fourth is served when one of
 *        the others has left
 */

import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { getSystemErrorName } from "node:util";
import { dlopen, type Pointer, toArrayBuffer } from "bun:ffi";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

const HOST = "127.0.0.1";
const PORT = 9999;
const PROCESSES = 3;

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
const SIGKILL = 9;
const PR_SET_PDEATHSIG = 1;

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
  memfd_create: cFunction("memfd_create", "pointer", "size"),
  prctl: cFunction("prctl", "int", "size"),
};

/** Prints an event: the process, what happens, to which connection, details. */
function log(what: string, id: number, ...details: unknown[]): void {
  const place = process.env.ECHO_CHILD, name = place ? `p-${place}` : "main";
  // The standard error of a child is the standard output of its parent.
  const print = place ? console.error : console.log;
  print([name, what, ...id > 0 ? [`#${id}`] : [], ...details].join(" "));
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

/** The first three steps: socket(2), bind(2), listen(2). */
function openListener(host: string, port: number, type: number): number {
  const fd = must(sys.socket(AF_INET, type, 0));
  const [address] = resolveAddresses(host, port);
  // The port can be bound again at once; and no reply waits to be sent.
  must(setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1));
  must(setOption(fd, IPPROTO_TCP, TCP_NODELAY, 1));
  must(sys.bind(fd, address));
  must(sys.listen(fd, 4096));
  must(sys.getsockname(fd, address));
  console.log(`listening on ${addressText(address)}`);
  return fd;
}

/** Sets an option that is an `int`. See setsockopt(2). */
function setOption(fd: number, level: number, option: number, n: number) {
  const int = memory(4);
  int.ints[0] = n;
  return sys.setsockopt(fd, level, option, int, 4);
}

/** Counts the connections of all processes, from 1: see lseek(2). */
function nextNumber(): number {
  return lseek(BOARD, 1, SEEK_CUR);
}

/** A thread that serves one client at a time, and logs what comes of calls. */
class BlockingThread {
  readonly listener: number;
  #id = 0;
  #result = 0;

  constructor({ listener }: { listener: number }) {
    this.listener = listener;
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

/** The number of this process as a child, or 0. */
function joinIfChild(): number {
  return Number(process.env.ECHO_CHILD ?? 0);
}

/** The descriptor of a file in memory whose position all processes share. */
const BOARD = 3;
const SEEK_CUR = 1;

const lseek = cFunction("lseek", "int", "size", "int");

class Preforked {
  /** The program that serves, and its arguments. */
  readonly command: string[];
  readonly board = must(sys.memfd_create(memory(4), 0));

  /** Each child runs `script`, a module's `import.meta.url`. */
  constructor(script: string) {
    const path = fileURLToPath(script);
    this.command = [process.execPath, path];
  }

  /** Starts the child of a place, and waits until it has ended. */
  async run(
    place: number,
    listener: number,
    spawn: (input: number, settings: object) => ChildProcess,
  ): Promise<void> {
    const told = { ECHO_CHILD: `${place}`, ECHO_PARENT: `${process.pid}` };
    const child = spawn(listener, { env: { ...process.env, ...told } });
    log("start", 0, `p-${place} process ${child.pid}`);
    const [code, signal] = await once(child, "exit");
    log("end", 0, `p-${place}: ${signal ?? `exit code ${code}`}`);
  }
}

/** In a child: when the parent has ended, so does this process. */
function joinPreforked(_: number): BlockingThread {
  must(sys.prctl(PR_SET_PDEATHSIG, SIGKILL));
  if (process.ppid !== Number(process.env.ECHO_PARENT)) process.exit();
  return new BlockingThread({ listener: 0 });
}

// ---------------------------------------- the server

/** Each child runs this same file. */
const told = joinIfChild();

const BUFFER_SIZE = 65_536;

function main(): void {
  const children = new Preforked(import.meta.url);
  const type = SOCK_STREAM;
  // create, bind, listen
  const listener = openListener(HOST, PORT, type);

  for (let place = 1; place <= PROCESSES; place++) {
    keep(children, place, listener);
  }
}

/**
 * Has a place filled by a child as long as the server runs: when one has ended,
 * there is another.
 */
async function keep(
  children: Preforked,
  place: number,
  listener: number,
): Promise<void> {
  const [program, ...args] = children.command;
  // A child's standard input is where its clients come from, its standard error
  // the log; the last is shared memory.
  const start = (input: number, settings: object) =>
    spawn(program, args, {
      stdio: [input, "ignore", 1, children.board],
      ...settings,
    });
  for (;;) await children.run(place, listener, start);
}

/** A child: serves one client after another. */
function serve(thread: BlockingThread): void {
  const { listener } = thread,
    peer = socketAddress(),
    buffer = memory(BUFFER_SIZE);
  const accept = () => sys.accept4(listener, peer, SOCK_CLOEXEC);
  for (;;) {
    const fd = thread.accept(peer, accept);
    for (;;) {
      const size = thread.recv(
        buffer,
        () => sys.recv(fd, buffer, BUFFER_SIZE, 0),
      );
      if (size === 0) break;
      thread.send(buffer, size, (left) => sys.send(fd, buffer, left, 0));
    }
    thread.close(buffer, () => sys.close(fd));
  }
}

if (told) serve(joinPreforked(told));
else main();
