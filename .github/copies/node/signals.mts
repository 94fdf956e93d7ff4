// SPDX-License-Identifier: MIT
/**
 * Signal-driven I/O: the kernel sends a signal when a socket becomes ready, and
 * the signal says which one.
 *
 *   node signals.mts
 *   nc 127.0.0.1 9999   in several terminals: one thread serves them all
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

type CKind = "int" | "size" | "pointer";

/** What is used of node:ffi, which is too new for the types of Node. */
interface FFI {
  dlopen(path: string, calls: object): { functions: Record<string, Call> };
  toArrayBuffer(address: bigint, size: number, copy: boolean): ArrayBuffer;
}

type Call = (...values: unknown[]) => number | bigint;

const ffi = process.getBuiltinModule("node:ffi") as FFI;

/** Finds a function of the C library. */
function find(name: string, kinds: CKind[], returns = "int"): Call {
  const types = { int: "int32", size: "uint32", pointer: "pointer" };
  const result = returns === "int" ? "int32" : "int64";
  const call = { arguments: kinds.map((kind) => types[kind]), return: result };
  return ffi.dlopen("libc.so.6", { [name]: call }).functions[name];
}

/** The bytes at an address. */
function bytesAt(address: number | bigint, size: number): ArrayBuffer {
  return ffi.toArrayBuffer(BigInt(address), size, false);
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
const SIGIO = 29, SIGRTMIN = 34;
const SIG_BLOCK = 0;

/** What fcntl(2) is asked for, and flags of a descriptor. */
const F_SETFL = 4,
  F_SETSIG = 10,
  F_SETOWN_EX = 15,
  O_NONBLOCK = 0o4000,
  O_ASYNC = 0o20000;

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
  fcntl: cFunction("fcntl", "int", "int", "int"),
  fcntlPointer: cFunction("fcntl", "int", "int", "pointer"),
  gettid: cFunction("gettid"),
  pthread_sigmask: cFunction("pthread_sigmask", "int", "pointer", "pointer"),
  sigtimedwait: cFunction("sigtimedwait", "pointer", "pointer", "pointer"),
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

/**
 * Memory for a `siginfo_t`, 128 bytes: what is known of a signal. See
 * sigaction(2).
 */
const siginfo = (): Memory => memory(128);

/** The descriptor that a signal is about, and what it tells of it. */
function signalled({ ints }: Memory): { fd: number; code: string } {
  const codes: Record<number, string> = { 1: "POLL_IN", 2: "POLL_OUT" };
  return { fd: ints[6], code: codes[ints[2]] ?? `code ${ints[2]}` };
}

/** A `struct timespec`: seconds and nanoseconds, of 64 bits each. */
function timespec(milliseconds: number): Memory {
  const time = memory(16);
  time.ints[0] = milliseconds / 1000;
  time.ints[2] = milliseconds % 1000 * 1_000_000;
  return time;
}

/** Has this thread block signals: they wait until it takes them. */
function blockSignals(...signals: number[]): Memory {
  // A `sigset_t`: a bit for each signal, that of signal 1 first.
  const set = memory(128);
  for (const signal of signals) {
    set.ints[signal - 1 >> 5] |= 1 << (signal - 1 & 31);
  }
  must(-sys.pthread_sigmask(SIG_BLOCK, set, NULL));
  return set;
}

/** Says which thread gets a descriptor's signals: F_SETOWN_EX in fcntl(2). */
function setOwner(fd: number, thread: number): number {
  // A `struct f_owner_ex`: the kind of owner, here a thread (0); its number.
  const given = memory(8);
  given.ints[1] = thread;
  return sys.fcntlPointer(fd, F_SETOWN_EX, given);
}

const READ = 1, WRITE = 4;

/** What the loop must remember of a client between two events. */
class Client {
  readonly fd: number;
  readonly id: number;
  /** Received, but not sent back yet: nothing more is received before that. */
  unsent: Uint8Array | null = null;
  // Whether there is nothing more to be had at present.
  drained = false;

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
    selector.register(listener, READ);
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

  each(visit: (client: Client) => void): void {
    this.#clients.forEach(visit);
  }

  /** The listening socket is ready: accepts all that are waiting. */
  accept(): void {
    for (;;) {
      const fd = sys.accept4(this.#listener, this.#peer, SOCK_NONBLOCK);
      if (fd === -EAGAIN) return;
      must(fd);
      const id = ++this.#connections;
      console.log(`accept #${id}`, addressText(this.#peer));
      this.add(fd, id);
    }
  }

  /** Makes a client of a descriptor and a number. */
  add(fd: number, id: number): void {
    this.#clients.set(fd, new Client(fd, id));
    this.#selector.register(fd, READ);
  }

  /** Sends back what was received. What the kernel doesn't take is kept. */
  send(client: Client, buffer: Memory, size: number): void {
    console.log(`recv #${client.id}`, size);
    const sent = sys.send(client.fd, buffer, size, 0);
    client.drained = false;
    if (sent < 0 && sent !== -EAGAIN) return this.ended(client, sent);
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
    const why = result === 0 ? "by the client" : systemError(result).message;
    console.log(`close #${id}`, why);
  }
}

// ---------------------------------------- the server

const SIZE = 65_536,
  buffer = memory(SIZE),
  timeout = timespec(500),
  atOnce = timespec(0);
const SIGNAL = SIGRTMIN + 1, thread = sys.gettid(), info = siginfo();
const signals = blockSignals(SIGNAL, SIGIO);
/**
 * Descriptors for which no call has returned EAGAIN yet: there will be no other
 * signal for what they have.
 */
const undrained = new Set<number>();

// create, bind, listen
const listener = openListener(HOST, PORT, SOCK_STREAM | SOCK_NONBLOCK);
const clients = new Clients(listener, {
  register,
  modify: () => {},
  unregister,
});

function main(): void {
  for (;;) {
    const busy = undrained.size > 0,
      signal = sys.sigtimedwait(signals, info, busy ? atOnce : timeout);
    if (signal === SIGIO) {
      logWait("overflow SIGIO:", { "sockets asked": clients.size + 1 });
      tryAll();
    } else if (signal > 0) {
      const { fd, code } = signalled(info);
      logWait(
        "sigtimedwait",
        {},
        () => `1 signal, descriptor ${fd} (${nameOf(fd)}), ${code}`,
      );
      if (fd === listener) undrained.add(fd);
      else if (clients.has(fd)) serve(clients.at(fd));
    }
    if (undrained.delete(listener)) clients.accept();
    for (const fd of undrained) if (fd !== listener) serve(clients.at(fd));
  }
}

function nameOf(fd: number): string {
  return fd === listener
    ? "listener"
    : clients.has(fd)
    ? `#${clients.at(fd).id}`
    : "closed";
}

function tryAll(): void {
  clients.accept();
  clients.each(serve);
}

/**
 * Has signals sent for a descriptor, from now on and for everything. Closing it
 * ends that.
 */
function register(fd: number): void {
  must(setOwner(fd, thread));
  must(sys.fcntl(fd, F_SETSIG, SIGNAL));
  must(sys.fcntl(fd, F_SETFL, O_NONBLOCK | O_ASYNC));
  // There was no signal for what came before.
  undrained.add(fd);
}

function unregister(fd: number): void {
  undrained.delete(fd);
}

/** Handles a client, and remembers whether there may be more. */
function serve(client: Client): void {
  handle(client);
  if (!client.drained) undrained.add(client.fd);
  else if (undrained.delete(client.fd)) {
    logWait("drain", {}, () => `#${client.id} EAGAIN`);
  }
}

/** A client is ready, or was: readiness is a hint. */
function handle(client: Client): void {
  if (client.unsent) return clients.flush(client);
  const size = sys.recv(client.fd, buffer, SIZE, 0);
  if (size > 0) clients.send(client, buffer, size);
  else clients.ended(client, size);
}

main();
