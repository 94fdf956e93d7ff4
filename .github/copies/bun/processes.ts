// SPDX-License-Identifier: MIT
/**
 * A process per connection: every client has its own, whose standard input and
 * output are the socket.
 *
 *   bun processes.ts
 *   nc 127.0.0.1 9999   in several terminals, and in one more: ps fx
 */

import { dlopen, type Pointer, toArrayBuffer } from "bun:ffi";
import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { setTimeout } from "node:timers";
import { fileURLToPath } from "node:url";
import { getSystemErrorName } from "node:util";

const HOST = "127.0.0.1";
const PORT = 9999;
const MAX_PROCESSES = 16;

// ---------------------------------------- what it stands on

type CKind = "int" | "size" | "pointer";

type Call = (...values: unknown[]) => number;

/** No address. */
const NULL = { pointer: null as unknown };

/** Finds a function of the C library. */
function find(name: string, kinds: CKind[], returns = "int"): Call {
  const types = { int: "i32", size: "u32", pointer: "ptr" } as const;
  const args = kinds.map((kind) => types[kind]);
  const result = returns === "int" ? "i32" : "i64";
  return dlopen("libc.so.6", { [name]: { args, returns: result } })
    .symbols[name] as unknown as Call;
}

/** An address as functions take it. */
function toPointer(address: number): unknown {
  return address;
}

/** The bytes at an address. */
function bytesAt(address: number, size: number): ArrayBuffer {
  return toArrayBuffer(address as Pointer, 0, size);
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

const EAGAIN = 11, AF_INET = 2, SOCK_STREAM = 1, SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000, SOL_SOCKET = 1, SO_REUSEADDR = 2;
const IPPROTO_TCP = 6, TCP_NODELAY = 1, TCP_INFO = 11, POLLIN = 1, POLLOUT = 4;

/** System calls, with what they take: see section 2 of the manual. */
const sys = {
  read: cFunction("read", "int", "pointer", "size"),
  write: cFunction("write", "int", "pointer", "size"),
  poll: cFunction("poll", "pointer", "size", "int"),
  close: cFunction("close", "int"),
  syscall: cFunction("syscall", "int", "int", "int"),
  socket: cFunction("socket", "int", "int", "int"),
  bind: cFunction("bind", "int", "address"),
  listen: cFunction("listen", "int", "int"),
  getsockname: cFunction("getsockname", "int", "filled"),
  setsockopt: cFunction("setsockopt", "int", "int", "int", "pointer", "size"),
  getsockopt: cFunction(
    "getsockopt",
    "int",
    "int",
    "int",
    "pointer",
    "pointer",
  ),
  accept4: cFunction("accept4", "int", "filled", "int"),
};

const SYS_pidfd_open = 434;

/**
 * Returns a descriptor for a process, which is ready to be read from once that
 * has ended. See pidfd_open(2).
 */
function pidfd_open(pid: number): number {
  return sys.syscall(SYS_pidfd_open, pid, 0);
}

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

/**
 * The first three steps, for an IPv4 address: socket(2), bind(2), listen(2).
 * Returns the descriptor.
 */
function openListener(host: string, port: number, type: number): number {
  type |= SOCK_CLOEXEC;
  const fd = must(sys.socket(AF_INET, type, 0));
  const [address] = resolveAddresses(host, port);
  // The port can be had again at once; and no reply waits for another to be
  // acknowledged.
  must(setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1));
  must(setOption(fd, IPPROTO_TCP, TCP_NODELAY, 1));
  must(sys.bind(fd, address));
  must(sys.listen(fd, 4096));
  must(sys.getsockname(fd, address));
  console.log(`listening on ${addressText(address)}`);
  return fd;
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

let tcpInfo: { value: Memory; length: Memory } | undefined;

/**
 * How many connections wait in the backlog of a listening socket to be
 * accepted. See `TCP_INFO` in tcp(7).
 */
function backlogOf(fd: number): number {
  const { value, length } = tcpInfo ??= {
    value: memory(256),
    length: memory(4),
  };
  length.ints[0] = 256;
  const result = sys.getsockopt(fd, IPPROTO_TCP, TCP_INFO, value, length);
  // The field is `tcpi_unacked`, which in a listening socket has this meaning.
  return result < 0 ? result : value.ints[6];
}

/** Lets the runtime run its timers, which it can't do during a call. */
async function runtimeTurn(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 0));
}

/** The number of the client, if this process is a child that serves it. */
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
    const data = this.#buffer.bytes.subarray(0, size);
    if (size > 0) log("recv", this.id, shown(data));
    return data;
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
  readonly pid: number;
  /** Can be read from once the process has ended. */
  readonly pidfd: number;
  /** Resolves when the process has ended, and its zombie is gone. */
  readonly ended: Promise<void>;
}

class Children {
  /** The program that serves, and its arguments. */
  readonly command: string[];
  #most: number;
  #children = new Map<number, Child>();
  #connections = 0;
  #resting = 0;

  /** Each child runs `script`, a module's `import.meta.url`. */
  constructor(script: string, most: number) {
    const path = fileURLToPath(script);
    this.command = [process.execPath, path];
    this.#most = most;
  }

  get list(): Child[] {
    return [...this.#children.values()];
  }

  /** Whether there can be another process now. */
  get room(): boolean {
    return this.#children.size < this.#most &&
      performance.now() >= this.#resting;
  }

  /** Makes an accept4(2) call. Returns the client, if there is one. */
  accept(
    peer: SocketAddress,
    call: () => number,
  ): { id: number; fd: number } | null {
    const fd = call();
    if (fd === -EAGAIN) return null;
    if (fd < 0) {
      log("error", 0, `accept: ${systemError(fd)}`);
      // Perhaps there is no descriptor left.
      this.#resting = performance.now() + 500;
      return null;
    }
    const id = ++this.#connections;
    log("accept", id, addressText(peer));
    return { id, fd };
  }

  /** Has client `id` served by the process that `spawn` starts. */
  start(id: number, spawn: (settings: object) => ChildProcess): void {
    const child = spawn({ env: { ...process.env, ECHO_CHILD: `${id}` } });
    const ended = new Promise<unknown>((resolve) => {
      child.once("error", resolve);
      child.once(
        "exit",
        (code) => resolve(code ? `its process: ${code}` : "by the client"),
      );
    }).then((reason) => {
      sys.close(pidfd);
      this.#children.delete(id);
      log("close", id, reason);
    });
    const pid = child.pid!, pidfd = pidfd_open(pid);
    log("start", id, `process ${pid}`);
    this.#children.set(id, { id, pid, pidfd, ended });
  }

  /** What each is. */
  describe(): string[] {
    return this.list.map(({ id, pid }) => `#${id} process ${pid}`);
  }
}

/** Prints an event: what happens, to which connection, details. */
function log(event: string, id: number, ...details: unknown[]): void {
  // The standard output of a child is its client's socket.
  const print = process.env.ECHO_CHILD ? console.error : console.log;
  print([event, ...id > 0 ? [`#${id}`] : [], ...details].join(" "));
}

/** Bytes for the log: how many, and the first 60 of them as text. */
function shown(data: Uint8Array): string {
  const text = new TextDecoder().decode(data.subarray(0, 60));
  return `${data.length} ${JSON.stringify(text)}`;
}

/** Prints what a wait has found: figures with their meanings, and a detail. */
function logWait(
  event: string,
  figures: Record<string, number>,
  detail = () => "",
): void {
  const words = Object.entries(figures).map(([name, n]) => `${n} ${name}`);
  console.log(event, words.join(", "), detail());
}

/** Prints what `lines` returns, every so many seconds. */
function heartbeat(
  event: string,
  seconds: number,
  lines: () => string[],
): void {
  setInterval(() => {
    for (const line of lines()) console.log(event, line);
  }, seconds * 1000);
}

/** How many there are, and which. */
function list(items: string[]): string {
  return `${items.length}: ${items.join(", ")}`;
}

// ---------------------------------------- the server

/** Each child runs this same file. */
const told = joinIfChild();

const TIMEOUT = 500;

async function main(): Promise<void> {
  const children = new Children(import.meta.url, MAX_PROCESSES),
    most = MAX_PROCESSES;
  // create, bind, listen
  const listener = openListener(HOST, PORT, SOCK_STREAM | SOCK_NONBLOCK);
  heartbeat("processes", 3, () => [list(children.describe())]);
  heartbeat("backlog", 0.25, () => {
    const waiting = children.list.length < most ? 0 : backlogOf(listener);
    return waiting > 0
      ? [`${waiting} waiting to be accepted: ${most} processes are the most`]
      : [];
  });

  const fds = memory(8 * (most + 1)), peer = socketAddress();
  for (;;) {
    const running = children.list;
    for (const [i, { pidfd }] of running.entries()) {
      setPollfd(fds, i, pidfd, POLLIN);
    }
    let count = running.length;
    // While there can't be another process, who connects stays in the backlog.
    if (children.room) setPollfd(fds, count++, listener, POLLIN);

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
  // Its standard error is this one's output.
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
