// SPDX-License-Identifier: MIT
/**
 * Non-blocking I/O by busy polling: the server tries every socket in turn, over
 * and over.
 *
 *   deno run -A nonblocking.ts
 *   nc 127.0.0.1 9999   in several terminals: one thread serves them all
 */

import { setTimeout } from "node:timers";
import { getSystemErrorName } from "node:util";

const HOST = "127.0.0.1";
const PORT = 9999;

// ---------------------------------------- what it stands on

/** Prints what `lines` returns, every so many seconds. */
function heartbeat(what: string, seconds: number, lines: () => string[]): void {
  setInterval(() => console.log(what, ...lines()), seconds * 1000);
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
class Client {
  readonly fd: number;
  readonly id: number;
  /** Received, but not sent back yet: nothing more is received before that. */
  unsent: Uint8Array | null = null;

  constructor(fd: number, id: number) {
    this.fd = fd;
    this.id = id;
  }

  received(_: Uint8Array, size: number): void {
    console.log(`recv #${this.id}`, size);
  }

  sent(size: number): void {
    console.log(`send #${this.id}`, size);
  }
}

/** The clients of a listening socket. */
class Clients {
  #clients = new Map<number, Client>();
  #connections = 0;

  get size(): number {
    return this.#clients.size;
  }

  each(visit: (client: Client) => void): void {
    this.#clients.forEach(visit);
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
  }

  /** Closes a connection, because of the end of the stream (0) or an error. */
  close(client: Client, result: number): void {
    const { fd, id } = client;
    this.#clients.delete(fd);
    sys.close(fd);
    const why = result === 0 ? "by the client" : systemError(result).message;
    console.log(`close #${id}`, why);
  }
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
  client.received(buffer.bytes, size);
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
  if (sent > 0) client.sent(sent);
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
