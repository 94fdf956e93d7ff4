// SPDX-License-Identifier: MIT
/**
 * A coroutine per connection, by hand: what `await` and a goroutine do, with
 * generators and a scheduler over epoll(7).
 *
 *   deno run -A coroutines.ts
 *   nc 127.0.0.1 9999   in two other terminals: both are served at once
 */

import process from "node:process";
import { getSystemErrorName } from "node:util";

const HOST = "127.0.0.1";
const PORT = 9999;

// ---------------------------------------- what it stands on

/** Prints what a wait has found: figures with their meanings, and a detail. */
function logWait(call: string, figures: object, detail = () => ""): void {
  const words = Object.entries(figures).map(([name, n]) => `${n} ${name}`);
  console.log([call, words.join(", "), detail()].filter(Boolean).join(" "));
}

/** How many there are, and which. */
function list(items: string[]): string {
  return `${items.length}: ${items.join(", ")}`;
}

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

/** No address. */
const NULL = { bytes: null };

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
const EPOLLET = 1 << 31;
const EPOLL_CTL_ADD = 1, EPOLL_CTL_DEL = 2;

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
  epoll_create1: cFunction("epoll_create1", "int"),
  epoll_ctl: cFunction("epoll_ctl", "int", "int", "int", "pointer"),
  epoll_wait: cFunction("epoll_wait", "int", "pointer", "int", "int"),
};

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

/**
 * What has come for it: EPOLLIN, EPOLLOUT, and unasked EPOLLERR and EPOLLHUP.
 */
function eventsOf({ ints }: Memory, index: number): number {
  return ints[index * EPOLL_EVENT_INTS];
}

const READ = 1, WRITE = 4;

/** What the loop must remember of a client between two events. */
class Client {
  readonly fd: number;
  readonly id: number;
  exchanges = 0;
  closed = false;

  constructor(fd: number, id: number) {
    this.fd = fd;
    this.id = id;
  }

  sent(size: number): void {
    console.log(`send #${this.id}`, size);
    this.exchanges++;
  }
}

/** What the loop waits with. */
interface Selector {
  register(fd: number, events: number): void;
  modify(fd: number, events: number): void;
  unregister(fd: number): void;
}

/** The clients of a listening socket. */
class Clients {
  #selector: Selector;
  #clients = new Map<number, Client>();
  #connections = 0;

  constructor(listener: number, selector: Selector) {
    this.#selector = selector;
    selector.register(listener, READ);
  }

  has(fd: number): boolean {
    return this.#clients.has(fd);
  }

  at(fd: number): Client {
    return this.#clients.get(fd)!;
  }

  /** Takes what accept4(2) has returned. Whether there can be another one. */
  accepted(fd: number, peer: SocketAddress): boolean {
    if (fd === -EAGAIN) return false;
    must(fd);
    const id = ++this.#connections;
    console.log(`accept #${id}`, addressText(peer));
    this.add(fd, id);
    return true;
  }

  /** Makes a client of a descriptor and a number. */
  add(fd: number, id: number): void {
    this.#clients.set(fd, new Client(fd, id));
    this.#selector.register(fd, READ);
  }

  /** A message has come. */
  received(client: Client, _: Memory, size: number): boolean {
    console.log(`recv #${client.id}`, size);
    return true;
  }

  /** Closes a connection, because of the end of the stream (0) or an error. */
  close(client: Client, result: number): void {
    const { fd, id } = client;
    if (client.closed) return;
    client.closed = true;
    this.#selector.unregister(fd);
    this.#clients.delete(fd);
    sys.close(fd);
    const why = result === 0 ? "by the client" : systemError(result).message;
    console.log(`close #${id}`, why);
  }
}

// ---------------------------------------- the server

/**
 * What runs in a coroutine: yields what it waits for, or `null` to let others
 * run, and returns a `T`.
 */
type Code<T = void> = Generator<{ fd: number; events: number } | null, T, void>;
type Coroutine = { name: string; code: Code; fd?: number; events?: number };

const SIZE = 65_536,
  buffer = memory(SIZE),
  peer = socketAddress(),
  TIMEOUT = 500,
  EVENTS = 512;
const epoll = must(sys.epoll_create1(0)), found = epollEvents(EVENTS);
const runnable: Coroutine[] = [], parked = new Map<number, Coroutine>();
const show = ({ name, fd, events }: Coroutine) =>
  `${name} until descriptor ${fd} is ${
    events === READ ? "readable" : "writable"
  }`;
// create, bind, listen
const listener = openListener(HOST, PORT, SOCK_STREAM | SOCK_NONBLOCK);
const clients = new Clients(listener, {
  register,
  modify: () => {},
  unregister,
});

function* main(): Code {
  for (;;) {
    const client = yield* accept();
    run({ name: `#${client.id}`, code: serve(client) });
  }
}

function* serve(client: Client): Code {
  for (;;) {
    const data = yield* recv(client);
    if (data.length === 0) break;
    yield* send(client, data);
  }
  clients.close(client, 0);
}

function* accept(): Code<Client> {
  for (;;) {
    const fd = sys.accept4(listener, peer, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (!clients.accepted(fd, peer)) yield { fd: listener, events: READ };
    else if (clients.has(fd)) return clients.at(fd);
  }
}

/**
 * Returns bytes that are valid until the next `yield`. No bytes are the end of
 * the stream, also of a broken one.
 */
function* recv(client: Client): Code<Uint8Array> {
  // A client that never falls silent would never park.
  if (client.exchanges % 16 === 15) yield null;
  while (!client.closed) {
    const size = sys.recv(client.fd, buffer, SIZE, 0);
    if (size === -EAGAIN) yield { fd: client.fd, events: READ };
    else if (size < 0) clients.close(client, size);
    else if (size === 0 || clients.received(client, buffer, size)) {
      return buffer.bytes.subarray(0, size);
    } else yield null;
  }
  return new Uint8Array(0);
}

function* send(client: Client, data: Uint8Array): Code {
  while (!client.closed) {
    buffer.bytes.set(data);
    const sent = sys.send(client.fd, buffer, data.length, 0);
    if (sent > 0) client.sent(sent);
    if (sent === data.length) return;
    if (sent < 0 && sent !== -EAGAIN) return clients.close(client, sent);
    // All coroutines share the buffer, so each keeps its rest while it is
    // parked.
    data = data.slice(Math.max(sent, 0));
    yield { fd: client.fd, events: WRITE };
  }
}

/** Runs a coroutine until its next `yield`, or its end. */
function run(coroutine: Coroutine): void {
  const { value } = coroutine.code.next();
  if (value === null) runnable.push(coroutine);
  else if (value) parked.set(value.fd, Object.assign(coroutine, value));
  if (value) logWait("park", {}, () => show(coroutine));
}

function resume(fd: number, events: number): void {
  const coroutine = parked.get(fd);
  if (coroutine && coroutine.events! & events && parked.delete(fd)) {
    runnable.push(coroutine);
  }
}

function schedule(): void {
  const names = () => `resume ${list(runnable.map(({ name }) => name))}`;
  for (;;) {
    const busy = runnable.length > 0,
      count = sys.epoll_wait(epoll, found, EVENTS, busy ? 0 : TIMEOUT);
    for (let i = 0; i < count; i++) {
      resume(descriptorOf(found, i), eventsOf(found, i));
    }
    if (runnable.length > 0) {
      logWait("epoll_wait", { ready: count, parked: parked.size }, names);
    }
    for (const coroutine of runnable.splice(0)) run(coroutine);
  }
}

/**
 * Once, for both, and edge-triggered: what comes while a coroutine is not
 * parked, its next call finds.
 */
function register(fd: number): void {
  must(
    sys.epoll_ctl(
      epoll,
      EPOLL_CTL_ADD,
      fd,
      epollEvent(READ | WRITE | EPOLLET, fd),
    ),
  );
}

function unregister(fd: number): void {
  sys.epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
}

run({ name: "listener", code: main() });
schedule();
