// SPDX-License-Identifier: MIT
/**
 * Several reactors: one thread accepts, and gives each client to one of several
 * threads with an event loop each.
 *
 *   deno run -A reactors.ts
 *   nc 127.0.0.1 9999   in several terminals: the log shows which loop gets
 *        which client
 */

import { availableParallelism } from "node:os";
import {
  isMainThread,
  type MessagePort,
  parentPort,
  Worker,
  workerData,
} from "node:worker_threads";
import process from "node:process";
import { getSystemErrorName } from "node:util";
import { once } from "node:events";
import { writeSync } from "node:fs";
import { URL } from "node:url";

const HOST = "127.0.0.1";
const PORT = 9999;
const WORKERS = availableParallelism();
const SPREAD = "round";

// ---------------------------------------- what it stands on

/** Prints an event: the thread, what happens, to which connection, details. */
function log(what: string, id: number, ...details: unknown[]): void {
  const name = workerData?.name ?? "main";
  const words = [name, what, ...id > 0 ? [`#${id}`] : [], ...details];
  // console.log would hold back what a thread prints before it blocks.
  writeSync(1, `${words.join(" ")}\n`);
}

/** Prints what a wait has found: figures with their meanings. */
function logWait(call: string, figures: object): void {
  const words = Object.entries(figures).map(([name, n]) => `${n} ${name}`);
  log(call, 0, words.join(", "));
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
const AF_INET = 2, SOCK_STREAM = 1, SOCK_NONBLOCK = 0o4000;
const SOL_SOCKET = 1, SO_REUSEADDR = 2;
const IPPROTO_TCP = 6, TCP_NODELAY = 1;
const EPOLL_CTL_ADD = 1, EPOLL_CTL_DEL = 2, EPOLL_CTL_MOD = 3;

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

/** The number that entry `index` has beside the descriptor. */
function numberOf({ ints }: Memory, index: number): number {
  return ints[(index + 1) * EPOLL_EVENT_INTS - 1];
}

const READ = 1, WRITE = 4;

/** What the loop must remember of a client between two events. */
class Client {
  readonly fd: number;
  readonly id: number;
  /** Received, but not sent back yet: nothing more is received before that. */
  unsent: Uint8Array | null = null;

  constructor(fd: number, id: number) {
    this.fd = fd;
    this.id = id;
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
  #listener: number;
  #selector: Selector;
  #clients = new Map<number, Client>();
  #peer = socketAddress();
  #buffer = memory(65_536);
  #connections = 0;

  constructor(listener: number, selector: Selector) {
    this.#listener = listener;
    this.#selector = selector;
    if (listener >= 0) selector.register(listener, READ);
  }

  get size(): number {
    return this.#clients.size;
  }

  has(fd: number): boolean {
    return this.#clients.has(fd);
  }

  at(fd: number): Client {
    return this.#clients.get(fd)!;
  }

  /** The listening socket is ready: accepts all that are waiting. */
  accept(
    take: (fd: number, id: number) => void,
  ): void {
    for (;;) {
      const fd = sys.accept4(this.#listener, this.#peer, SOCK_NONBLOCK);
      if (fd === -EAGAIN) return;
      must(fd);
      const id = ++this.#connections;
      log("accept", id, addressText(this.#peer));
      take(fd, id);
    }
  }

  /** Makes a client of a descriptor and a number. */
  add(fd: number, id: number): void {
    this.#clients.set(fd, new Client(fd, id));
    this.#selector.register(fd, READ);
  }

  /** Sends back what was received. What the kernel doesn't take is kept. */
  send(client: Client, buffer: Memory, size: number): void {
    log("recv", client.id, size);
    const sent = sys.send(client.fd, buffer, size, 0);
    if (sent < 0 && sent !== -EAGAIN) return this.ended(client, sent);
    if (sent > 0) log("send", client.id, sent);
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
    log("send", client.id, sent);
    client.unsent = sent < unsent.length ? unsent.subarray(sent) : null;
    if (!client.unsent) this.#selector.modify(client.fd, READ);
  }

  /** A call returned no bytes: EAGAIN is no error, as readiness is a hint. */
  ended(client: Client, result: number): void {
    if (result !== -EAGAIN) this.close(client, result);
  }

  /** Closes a connection, because of the end of the stream (0) or an error. */
  close(client: Client, result: number): void {
    const { fd, id } = client;
    this.#selector.unregister(fd);
    this.#clients.delete(fd);
    sys.close(fd);
    const why = result === 0 ? "by the client" : systemError(result).message;
    log("close", id, why);
  }
}

/** Starts a thread that runs `script`, and waits for its first message. */
async function startWorker(script: string, data: object): Promise<Worker> {
  const worker = new Worker(new URL(script), { workerData: data });
  await once(worker, "message");
  return worker;
}

function post(to: MessagePort, what: unknown): void {
  to.postMessage(what);
}

/** What is counted of a loop: clients that it was given, and has. */
const ACCEPTED = 0, OPEN = 1;

/** What a loop's thread finds in its workerData. */
interface Loop {
  name: string;
  /** The epoll set that it waits for: it belongs to the process. */
  epoll: number;
  /** Counts, in memory that all threads see. */
  counts: Int32Array;
}

/** Starts so many threads that run `script`, and waits until they do. */
async function startLoops(script: string, count: number): Promise<Loop[]> {
  const loops: Loop[] = [];
  for (let i = 1; i <= count; i++) {
    const counts = new Int32Array(new SharedArrayBuffer(8));
    const loop = {
      name: `loop-${i}`,
      epoll: must(sys.epoll_create1(0)),
      counts,
    };
    await startWorker(script, loop);
    loops.push(loop);
  }
  return loops;
}

// ---------------------------------------- the server

const SIZE = 65_536, TIMEOUT = 500, EVENTS = 512, found = epollEvents(EVENTS);

/** The main reactor: it accepts, and keeps no client. */
async function main(): Promise<void> {
  const loops = await startLoops(import.meta.url, WORKERS),
    epoll = must(sys.epoll_create1(0));
  // create, bind, listen
  const listener = openListener(HOST, PORT, SOCK_STREAM | SOCK_NONBLOCK);
  const acceptor = new Clients(listener, {
    register: (fd, events) =>
      must(sys.epoll_ctl(epoll, EPOLL_CTL_ADD, fd, epollEvent(events, fd))),
    modify: () => {},
    unregister: (fd) => sys.epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL),
  });

  for (;;) {
    const count = sys.epoll_wait(epoll, found, EVENTS, TIMEOUT);
    if (count > 0) {
      logWait("epoll_wait", {
        ready: count,
        registered: 1,
        "entries looked at": count,
      });
    }
    if (count > 0) acceptor.accept((fd, id) => give(choose(loops, id), fd, id));
  }
}

/** The loop that gets client number `id`. */
function choose(loops: Loop[], id: number): Loop {
  if (SPREAD === "round") return loops[(id - 1) % loops.length];
  const open = ({ counts }: Loop) => Atomics.load(counts, OPEN);
  return loops.reduce((fewest, loop) =>
    open(loop) < open(fewest) ? loop : fewest
  );
}

/**
 * Gives a client away: from here on its descriptor is the loop's, which may
 * close it at any time.
 */
function give({ name, epoll, counts }: Loop, fd: number, id: number): void {
  log("give", id, name);
  Atomics.add(counts, ACCEPTED, 1);
  Atomics.add(counts, OPEN, 1);
  must(sys.epoll_ctl(epoll, EPOLL_CTL_ADD, fd, epollEvent(WRITE, fd, id)));
}

/** A sub reactor: a loop over epoll without a listening socket. */
function loop(): void {
  const { epoll, counts } = workerData as Loop, buffer = memory(SIZE);
  const clients = new Clients(-1, { register: modify, modify, unregister });
  post(parentPort!, "waits");

  for (;;) {
    const count = sys.epoll_wait(epoll, found, EVENTS, TIMEOUT),
      registered = Atomics.load(counts, OPEN);
    if (count > 0 && registered > 0) {
      logWait("epoll_wait", {
        ready: count,
        registered,
        "entries looked at": count,
      });
    }
    for (let i = 0; i < count; i++) {
      const fd = descriptorOf(found, i);
      if (clients.has(fd)) handle(clients.at(fd));
      // Not seen before: the main thread has given it to this loop.
      else clients.add(fd, numberOf(found, i));
    }
  }

  /**
   * Waits for `events` alone. A client's descriptor has been in the set since
   * it was given.
   */
  function modify(fd: number, events: number): void {
    must(
      sys.epoll_ctl(
        epoll,
        EPOLL_CTL_MOD,
        fd,
        epollEvent(events, fd, clients.at(fd).id),
      ),
    );
  }

  function unregister(fd: number): void {
    sys.epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
    Atomics.sub(counts, OPEN, 1);
  }

  /** A client is ready, or was: readiness is a hint. */
  function handle(client: Client): void {
    if (client.unsent) return clients.flush(client);
    const size = sys.recv(client.fd, buffer, SIZE, 0);
    if (size > 0) clients.send(client, buffer, size);
    else clients.ended(client, size);
  }
}

// Each thread runs this same file.
if (isMainThread) await main();
else loop();
