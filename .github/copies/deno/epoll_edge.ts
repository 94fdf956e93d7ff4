// SPDX-License-Identifier: MIT
/**
 * epoll(7): the kernel keeps the list of descriptors, and hands over those
 * that are ready.
 *
 *   deno run -A epoll_edge.ts
 *   nc 127.0.0.1 9999           in several terminals: one thread serves them
 *                               all
 */

import process from "node:process";
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
const SOL_SOCKET = 1, SO_REUSEADDR = 2, IPPROTO_TCP = 6, TCP_NODELAY = 1;
const EPOLLET = 1 << 31, EPOLL_CTL_ADD = 1, EPOLL_CTL_DEL = 2;

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

/** `struct epoll_event` in 32-bit integers: events, and 64 bits of data. */
const EPOLL_EVENT_INTS = process.arch === "x64" ? 3 : 4;

/** Memory for so many of `struct epoll_event`. */
const epollEvents = (count: number): Memory =>
  memory(count * EPOLL_EVENT_INTS * 4);

let event: Memory | undefined;

/**
 * What to wait for, and as data the descriptor and a `number` that is free to
 * use. Valid until the next one.
 */
function epollEvent(events: number, fd: number, number = 0): Memory {
  event ??= epollEvents(1);
  event.ints[0] = events;
  event.ints[EPOLL_EVENT_INTS - 2] = fd;
  event.ints[EPOLL_EVENT_INTS - 1] = number;
  return event;
}

/** The descriptor that entry `index` is about. */
function descriptorOf({ ints }: Memory, index: number): number {
  return ints[(index + 1) * EPOLL_EVENT_INTS - 2];
}

const READ = 1, WRITE = 4;

/** System calls, with what they take: see section 2 of the manual. */
const sys = {
  accept4: cFunction("accept4", "int", "filled", "int"),
  send: cFunction("send", "int", "pointer", "size", "int"),
  close: cFunction("close", "int"),
  epoll_create1: cFunction("epoll_create1", "int"),
  socket: cFunction("socket", "int", "int", "int"),
  bind: cFunction("bind", "int", "address"),
  listen: cFunction("listen", "int", "int"),
  getsockname: cFunction("getsockname", "int", "filled"),
  setsockopt: cFunction("setsockopt", "int", "int", "int", "pointer", "size"),
  epoll_wait: cFunction("epoll_wait", "int", "pointer", "int", "int"),
  epoll_ctl: cFunction("epoll_ctl", "int", "int", "int", "pointer"),
  recv: cFunction("recv", "int", "pointer", "size", "int"),
};

/** What the loop must remember of a client between two events. */
interface Client {
  readonly fd: number;
  readonly id: number;
  /** Received, but not sent back yet: nothing more is received before that. */
  unsent: Uint8Array | null;
  drained?: boolean;
}

/** What the loop waits with. */
interface Selector {
  register(fd: number, events: number): void;
  modify(fd: number, events: number): void;
  unregister(fd: number): void;
}

/** The clients of a listening socket. */
class Clients {
  #listener: number;
  #selector: Selector;
  #clients = new Map<number, Client>();
  #peer = socketAddress();
  #buffer = memory(65_536);
  #accepts = true;
  #connections = 0;

  constructor(listener: number, selector: Selector) {
    this.#listener = listener;
    this.#selector = selector;
    selector.register(listener, READ);
  }

  get size(): number {
    return this.#clients.size;
  }

  /** Whether a client has this descriptor. */
  has(fd: number): boolean {
    return this.#clients.has(fd);
  }

  /** The client that has this descriptor. */
  at(fd: number): Client {
    return this.#clients.get(fd)!;
  }

  /** The listening socket is ready: accepts all that are waiting. */
  accept(): void {
    const flags = SOCK_NONBLOCK;
    while (
      this.accepted(sys.accept4(this.#listener, this.#peer, flags), this.#peer)
    );
  }

  /** Takes what accept4(2) has returned. Whether there can be another one. */
  accepted(fd: number, peer: SocketAddress): boolean {
    if (fd === -EAGAIN) return false;
    if (fd < 0) {
      // Out of descriptors. Clients wait in the backlog, until one leaves.
      console.log("error", `accept: ${systemError(fd)}`);
      if (this.#accepts) this.#selector.unregister(this.#listener);
      this.#accepts = false;
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
    this.#selector.register(fd, READ);
  }

  /** Sends back what was received. What the kernel doesn't take is kept. */
  send(client: Client, buffer: Memory, size: number): void {
    console.log(`recv #${client.id}`, shown(buffer.bytes.subarray(0, size)));
    const sent = sys.send(client.fd, buffer, size, 0);
    client.drained = false;
    if (sent < 0 && sent !== -EAGAIN) return this.close(client, sent);
    if (sent > 0) console.log(`send #${client.id}`, sent);
    if (sent === size) return;
    client.unsent = buffer.bytes.slice(Math.max(sent, 0), size);
    this.#selector.modify(client.fd, WRITE);
  }

  /** The client may have room for what is unsent. */
  flush(client: Client): void {
    const unsent = client.unsent!;
    this.#buffer.bytes.set(unsent);
    const sent = sys.send(client.fd, this.#buffer, unsent.length, 0);
    if (sent < 0) return this.ended(client, sent);
    client.drained = false;
    console.log(`send #${client.id}`, sent);
    client.unsent = sent < unsent.length ? unsent.subarray(sent) : null;
    if (!client.unsent) this.#selector.modify(client.fd, READ);
  }

  /** A call returned no bytes: EAGAIN is no error, as readiness is a hint. */
  ended(client: Client, result: number): void {
    client.drained = true;
    if (result !== -EAGAIN) this.close(client, result);
  }

  /** Closes a connection, because of the end of the stream (0) or an error. */
  close(client: Client, result: number): void {
    const { fd, id } = client;
    this.#selector.unregister(fd);
    this.#clients.delete(fd);
    sys.close(fd);
    console.log(
      `close #${id}`,
      result === 0 ? "by the client" : systemError(result),
    );
    // Now there is a descriptor for another client.
    if (!this.#accepts) this.#selector.register(this.#listener, READ);
    this.#accepts = true;
  }
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

// ---------------------------------------- the server

const SIZE = 65_536, buffer = memory(SIZE), TIMEOUT = 500, EVENTS = 512;
const epoll = must(sys.epoll_create1(0)), found = epollEvents(EVENTS);
/**
 * The clients for whom no call has returned EAGAIN yet. epoll_wait will not
 * mention them again.
 */
const undrained = new Set<Client>();

// create, bind, listen
const listener = openListener(HOST, PORT, SOCK_STREAM | SOCK_NONBLOCK);
const clients = new Clients(listener, { register, modify, unregister });

function main(): void {
  for (;;) {
    const busy = undrained.size > 0,
      count = sys.epoll_wait(epoll, found, EVENTS, busy ? 0 : TIMEOUT);
    if (count > 0) {
      logWait("epoll_wait", {
        ready: count,
        registered: clients.size + 1,
        "entries looked at": count,
      });
    }
    let connecting = false;
    for (let i = 0; i < count; i++) {
      const fd = descriptorOf(found, i);
      if (fd === listener) connecting = true;
      else undrained.add(clients.at(fd));
    }
    for (const client of undrained) {
      handle(client);
      if (client.drained && undrained.delete(client)) {
        logWait("drain", {}, () => `#${client.id} EAGAIN`);
      }
    }
    // Accept last: a new client can reuse a descriptor closed in this round.
    if (connecting) clients.accept();
  }
}

function register(fd: number): void {
  // Once, for both.
  const event = epollEvent(READ | WRITE | EPOLLET, fd);
  must(sys.epoll_ctl(epoll, EPOLL_CTL_ADD, fd, event));
}

function modify(): void {}

function unregister(fd: number): void {
  undrained.delete(clients.at(fd));
  sys.epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
}

/** A client is ready, or was: readiness is a hint. */
function handle(client: Client): void {
  if (client.unsent) return clients.flush(client);
  const size = sys.recv(client.fd, buffer, SIZE, 0);
  if (size > 0) clients.send(client, buffer, size);
  else clients.ended(client, size);
}

main();
