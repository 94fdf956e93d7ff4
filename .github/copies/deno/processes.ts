// SPDX-License-Identifier: MIT
/**
 * A process per connection: every client has its own, whose standard input and
 * output are the socket.
 *
 *   deno run -A processes.ts
 *   nc 127.0.0.1 9999   in several terminals, and in one more: ps fx
 */

import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { setTimeout } from "node:timers";
import { getSystemErrorName } from "node:util";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

const HOST = "127.0.0.1";
const PORT = 9999;
const MAX_PROCESSES = 16;

// ---------------------------------------- what it stands on

type CKind = "int" | "size" | "pointer";

/** Finds a function of the C library. */
function find(name: string, kinds: CKind[], returns = "int") {
  const types = { int: "i32", size: "u32", pointer: "buffer" } as const;
  const parameters = kinds.map((kind) => types[kind]);
  const result = returns === "int" ? "i32" : "i64";
  const { symbols } = Deno.dlopen("libc.so.6", {
    call: { name, parameters, result },
  });
  return symbols.call as (...values: unknown[]) => number | bigint;
}

/** The bytes at an address. */
function bytesAt(address: number | bigint, size: number): ArrayBuffer {
  const pointer = Deno.UnsafePointer.create(BigInt(address));
  return Deno.UnsafePointerView.getArrayBuffer(pointer!, size);
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

const EAGAIN = 11;
const AF_INET = 2,
  SOCK_STREAM = 1,
  SOCK_NONBLOCK = 0o4000,
  SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1, SO_REUSEADDR = 2;
const IPPROTO_TCP = 6, TCP_NODELAY = 1;
const POLLIN = 1, POLLOUT = 4;

const syscall = cFunction("syscall", "int", "int", "int");

const SYS_pidfd_open = 434;

/**
 * Returns a descriptor for a process, which is ready to be read from once that
 * has ended. See pidfd_open(2).
 */
function pidfd_open(pid: number): number {
  return syscall(SYS_pidfd_open, pid, 0);
}

/** System calls: see section 2 of the manual. */
const sys = {
  socket: cFunction("socket", "int", "int", "int"),
  bind: cFunction("bind", "int", "address"),
  listen: cFunction("listen", "int", "int"),
  accept4: cFunction("accept4", "int", "filled", "int"),
  close: cFunction("close", "int"),
  getsockname: cFunction("getsockname", "int", "filled"),
  setsockopt: cFunction("setsockopt", "int", "int", "int", "pointer", "size"),
  poll: cFunction("poll", "pointer", "size", "int"),
  read: cFunction("read", "int", "pointer", "size"),
  write: cFunction("write", "int", "pointer", "size"),
};

/** Prints an event. The standard output of a child is its client's socket. */
function log(what: string, id: number, ...details: unknown[]): void {
  const print = process.env.ECHO_CHILD ? console.error : console.log;
  print(`${what} #${id}`, ...details);
}

/** Prints what a wait has found: figures with their meanings, and a detail. */
function logWait(call: string, figures: object, detail = () => ""): void {
  const words = Object.entries(figures).map(([name, n]) => `${n} ${name}`);
  console.log([call, words.join(", "), detail()].filter(Boolean).join(" "));
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
  type |= SOCK_CLOEXEC;
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

/**
 * Entry `index` of an array of `struct pollfd`: the descriptor (4 bytes), what
 * to wait for (2), what has come (2).
 */
function setPollfd(
  { ints }: Memory,
  index: number,
  fd: number,
  events: number,
): void {
  ints[2 * index] = fd;
  ints[2 * index + 1] = events;
}

/**
 * What has come for entry `index`: POLLIN, POLLOUT, and unasked POLLERR (8) and
 * POLLHUP (16); 0 is nothing.
 */
function pollfdReady({ ints }: Memory, index: number): number {
  return ints[2 * index + 1] >> 16;
}

/** Lets the runtime run its timers, which it can't do during a call. */
async function runtimeTurn(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 0));
}

/** The number of this process as a child, or 0. */
function joinIfChild(): number {
  return Number(process.env.ECHO_CHILD ?? 0);
}

/** Standard input and output as a connection. Its calls block. */
class StandardConnection {
  readonly id: number;
  #buffer = memory(65_536);
  #pollfd = memory(8);

  constructor(id: number) {
    this.id = id;
  }

  /** Waits for bytes; an empty array is the end of the stream. See read(2). */
  recv(): Uint8Array {
    this.#wait(0, POLLIN);
    const size = Math.max(sys.read(0, this.#buffer, 65_536), 0);
    if (size > 0) log("recv", this.id, size);
    return this.#buffer.bytes.subarray(0, size);
  }

  /** Sends all of `data`, which is in the buffer. See write(2). */
  send(data: Uint8Array): void {
    for (let left = data.length; left > 0;) {
      this.#wait(1, POLLOUT);
      const sent = sys.write(1, this.#buffer, left);
      if (sent < 0) return;
      left -= sent;
      this.#buffer.bytes.copyWithin(0, sent, sent + left);
    }
    log("send", this.id, data.length);
  }

  /** Blocks: a runtime may have made the descriptor non-blocking. */
  #wait(fd: number, events: number): void {
    setPollfd(this.#pollfd, 0, fd, events);
    sys.poll(this.#pollfd, 1, -1);
  }

  /** Ends the process; the system closes the socket. */
  close(): never {
    process.exit(0);
  }
}

/** A process that serves a client. */
interface Child {
  readonly id: number;
  /** Can be read from once the process has ended. */
  readonly pidfd: number;
  /** Resolves when the process has ended, and its zombie is gone. */
  readonly ended: Promise<void>;
}

class Children {
  /** The program that serves, and its arguments. */
  readonly command: string[];
  #children = new Map<number, Child>();
  #connections = 0;

  /** Each child runs `script`, a module's `import.meta.url`. */
  constructor(script: string) {
    const path = fileURLToPath(script);
    this.command = [process.execPath, "run", "-A", path];
  }

  get list(): Child[] {
    return [...this.#children.values()];
  }

  /** Makes an accept4(2) call. Returns the client. */
  accept(
    peer: SocketAddress,
    call: () => number,
  ): { id: number; fd: number } | null {
    const fd = call();
    if (fd === -EAGAIN) return null;
    must(fd);
    const id = ++this.#connections;
    log("accept", id, addressText(peer));
    return { id, fd };
  }

  /** Has client `id` served by the process that `spawn` starts. */
  start(id: number, spawn: (settings: object) => ChildProcess): void {
    const child = spawn({ env: { ...process.env, ECHO_CHILD: `${id}` } });
    const pid = child.pid!, pidfd = pidfd_open(pid);
    log("start", id, `process ${pid}`);
    const ended = once(child, "exit").then(([, signal]) => {
      sys.close(pidfd);
      this.#children.delete(id);
      log("close", id, signal ?? "by the client");
    });
    this.#children.set(id, { id, pidfd, ended });
  }
}

// ---------------------------------------- the server

/** Each child runs this same file. */
const told = joinIfChild();

const TIMEOUT = 500;

async function main(): Promise<void> {
  const children = new Children(import.meta.url), most = MAX_PROCESSES;
  // create, bind, listen
  const listener = openListener(HOST, PORT, SOCK_STREAM | SOCK_NONBLOCK);

  const fds = memory(8 * (most + 1)), peer = socketAddress();
  for (;;) {
    const running = children.list;
    for (const [i, { pidfd }] of running.entries()) {
      setPollfd(fds, i, pidfd, POLLIN);
    }
    let count = running.length;
    // While there can't be another process, who connects stays in the backlog.
    if (running.length < most) setPollfd(fds, count++, listener, POLLIN);

    const found = sys.poll(fds, count, TIMEOUT);
    const ended = running.filter((_, i) =>
      found > 0 && pollfdReady(fds, i) !== 0
    );
    const connecting = found > ended.length;
    if (found > 0) {
      const names = [
        ...connecting ? ["listener"] : [],
        ...ended.map(({ id }) => `process of #${id}`),
      ];
      logWait(
        "poll",
        { ready: found, "entries handed over": count },
        () => names.join(", "),
      );
    }
    // The runtime calls waitpid(2), which ends the zombie.
    for (const child of ended) await child.ended;
    const client = connecting &&
      children.accept(peer, () => sys.accept4(listener, peer, SOCK_CLOEXEC));
    if (client) start(children, client);
    await runtimeTurn();
  }
}

/**
 * Starts a program that has the client's socket as its standard input and
 * output.
 */
function start(
  children: Children,
  { id, fd }: { id: number; fd: number },
): void {
  const [program, ...args] = children.command;
  // Its standard error is the log: a child of this script writes its lines
  // there.
  const log = 1;
  children.start(
    id,
    (settings) => spawn(program, args, { stdio: [fd, fd, log], ...settings }),
  );
  // The process has its own copy of the descriptor.
  sys.close(fd);
}

/** The child: echoes from standard input to standard output. */
function serve(connection: StandardConnection): void {
  for (;;) {
    const data = connection.recv();
    if (data.length === 0) break;
    connection.send(data);
  }
  connection.close();
}

if (told) serve(new StandardConnection(told));
else await main();
