// SPDX-License-Identifier: MIT
/**
 * Non-blocking I/O by busy polling: the server tries every socket in turn,
 * over and over.
 *
 *   deno run -A nonblocking.ts
 *   nc 127.0.0.1 9999            in several terminals: one thread serves them
 *                                all
 */

import { setTimeout } from "node:timers";
import { getSystemErrorName } from "node:util";

const HOST = "127.0.0.1";
const PORT = 9999;

// ---------------------------------------- what it stands on

type CKind = "int" | "size" | "pointer";

type Call = (...values: unknown[]) => number;

/** No address. */
const NULL = { pointer: null as unknown };

/** Finds a function of the C library. */
function find(name: string, kinds: CKind[], returns = "int"): Call {
  const types = { int: "i32", size: "u32", pointer: "pointer" } as const;
  const parameters = kinds.map((kind) => types[kind]);
  const result = returns === "int" ? "i32" : "i64";
  return Deno.dlopen("libc.so.6", { call: { name, parameters, result } })
    .symbols.call as Call;
}

/** An address as functions take it. */
function toPointer(address: number): unknown {
  return Deno.UnsafePointer.create(BigInt(address));
}

/** The bytes at an address. */
function bytesAt(address: number, size: number): ArrayBuffer {
  const pointer = Deno.UnsafePointer.create(BigInt(address));
  return Deno.UnsafePointerView.getArrayBuffer(pointer!, size);
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
const IPPROTO_TCP = 6, TCP_NODELAY = 1;

/** System calls, with what they take: see section 2 of the manual. */
const sys = {
  accept4: cFunction("accept4", "int", "filled", "int"),
  send: cFunction("send", "int", "pointer", "size", "int"),
  close: cFunction("close", "int"),
  socket: cFunction("socket", "int", "int", "int"),
  bind: cFunction("bind", "int", "address"),
  listen: cFunction("listen", "int", "int"),
  getsockname: cFunction("getsockname", "int", "filled"),
  setsockopt: cFunction("setsockopt", "int", "int", "int", "pointer", "size"),
  recv: cFunction("recv", "int", "pointer", "size", "int"),
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

/**
 * The first three steps, for an IPv4 address: socket(2), bind(2), listen(2).
 * Returns the descriptor.
 */
function openListener(host: string, port: number, type: number): number {
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

let lastTurn = 0;

/** Whether the runtime has had no turn for 100 ms. */
function turnIsDue(): boolean {
  return performance.now() - lastTurn > 100;
}

/** Lets the runtime run its timers, which it can't do during a call. */
async function runtimeTurn(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 0));
  lastTurn = performance.now();
}

/** What the loop must remember of a client between two events. */
interface Client {
  readonly fd: number;
  readonly id: number;
  /** Received, but not sent back yet: nothing more is received before that. */
  unsent: Uint8Array | null;
}

/** The clients of a listening socket. */
class Clients {
  #clients = new Map<number, Client>();
  #connections = 0;

  get size(): number {
    return this.#clients.size;
  }

  /** Whether a client has this descriptor. */
  has(fd: number): boolean {
    return this.#clients.has(fd);
  }

  /** Calls `visit` for each client. */
  each(visit: (client: Client) => void): void {
    this.#clients.forEach(visit);
  }

  /** Takes what accept4(2) has returned. Whether there can be another one. */
  accepted(fd: number, peer: SocketAddress): boolean {
    if (fd === -EAGAIN) return false;
    if (fd < 0) {
      // Out of descriptors. Clients wait in the backlog, until one leaves.
      console.log("error", `accept: ${systemError(fd)}`);
      return false;
    }
    const id = ++this.#connections;
    console.log(`accept #${id}`, addressText(peer));
    this.add(fd, id);
    return true;
  }

  /** Makes a client of a descriptor and a number. */
  add(fd: number, id: number): void {
    this.#clients.set(fd, { fd, id, unsent: null });
  }

  /** Closes a connection, because of the end of the stream (0) or an error. */
  close(client: Client, result: number): void {
    const { fd, id } = client;
    this.#clients.delete(fd);
    sys.close(fd);
    console.log(
      `close #${id}`,
      result === 0 ? "by the client" : systemError(result),
    );
  }
}

/** Bytes for the log: how many, and the first 60 of them as text. */
function shown(data: Uint8Array): string {
  const text = new TextDecoder().decode(data.subarray(0, 60));
  return `${data.length} ${JSON.stringify(text)}`;
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

// ---------------------------------------- the server

const SIZE = 65_536, buffer = memory(SIZE), peer = socketAddress();
/** Calls made since the last report, and those of them that found nothing. */
let calls = 0, empty = 0;

// create, bind, listen
const listener = openListener(HOST, PORT, SOCK_STREAM | SOCK_NONBLOCK),
  clients = new Clients();
heartbeat("calls", 3, report);

async function main(): Promise<void> {
  for (;;) {
    // Has a client connected?
    clients.accepted(
      counted(sys.accept4(listener, peer, SOCK_NONBLOCK | SOCK_CLOEXEC)),
      peer,
    );
    clients.each(handle);
    // The loop never waits, so it must give the runtime its turn for signals
    // and timers.
    if (turnIsDue()) await runtimeTurn();
  }
}

/** Has this client sent something, or room for what it hasn't taken yet? */
function handle(client: Client): void {
  if (client.unsent) {
    buffer.bytes.set(client.unsent);
    return send(client, client.unsent.length);
  }
  const size = counted(sys.recv(client.fd, buffer, SIZE, 0));
  if (size === -EAGAIN) return;
  if (size <= 0) return clients.close(client, size);
  console.log(`recv #${client.id}`, shown(buffer.bytes.subarray(0, size)));
  send(client, size);
}

/**
 * Sends the first `size` bytes of the buffer, and keeps what the kernel doesn't
 * take.
 */
function send(client: Client, size: number): void {
  const sent = counted(sys.send(client.fd, buffer, size, 0));
  // Full: no error.
  if (sent === -EAGAIN && client.unsent) return;
  if (sent < 0 && sent !== -EAGAIN) return clients.close(client, sent);
  if (sent > 0) console.log(`send #${client.id}`, sent);
  client.unsent = sent === size
    ? null
    : buffer.bytes.slice(Math.max(sent, 0), size);
}

/** Counts a call, and passes on what it returned. */
function counted(result: number): number {
  calls++;
  if (result === -EAGAIN) empty++;
  return result;
}

function report(): string[] {
  const line = `${calls} made, ${empty} found nothing (${
    (100 * empty / (calls || 1)).toFixed(1)
  } %)`;
  calls = empty = 0;
  return [line];
}

await main();
