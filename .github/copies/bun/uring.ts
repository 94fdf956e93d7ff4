// SPDX-License-Identifier: MIT
/**
 * io_uring(7): the program submits requests, and the kernel reports when they
 * are done.
 *
 *   bun uring.ts
 *   nc 127.0.0.1 9999   in several terminals: one thread serves them all
 */

import { getSystemErrorName } from "node:util";
import { dlopen, type Pointer, toArrayBuffer } from "bun:ffi";

const HOST = "127.0.0.1";
const PORT = 9999;

// ---------------------------------------- what it stands on

/** Prints what a wait has found: figures with their meanings, and a detail. */
function logWait(call: string, figures: object, detail = () => ""): void {
  const words = Object.entries(figures).map(([name, n]) => `${n} ${name}`);
  console.log([call, words.join(", "), detail()].filter(Boolean).join(" "));
}

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

const EINTR = 4, ECANCELED = 125;
const AF_INET = 2, SOCK_STREAM = 1;
const SOL_SOCKET = 1, SO_REUSEADDR = 2;
const IPPROTO_TCP = 6, TCP_NODELAY = 1;

/** System calls: see section 2 of the manual. */
const sys = {
  socket: cFunction("socket", "int", "int", "int"),
  bind: cFunction("bind", "int", "address"),
  listen: cFunction("listen", "int", "int"),
  close: cFunction("close", "int"),
  getsockname: cFunction("getsockname", "int", "filled"),
  setsockopt: cFunction("setsockopt", "int", "int", "int", "pointer", "size"),
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

const IORING_OP_ACCEPT = 13, IORING_OP_SEND = 26, IORING_OP_RECV = 27;
const IORING_ACCEPT_MULTISHOT = 1 << 16, IOSQE_IO_LINK = 1 << 10;
const IORING_SETUP_CQSIZE = 8, IORING_OFF_SQES = 0x10000000;
const IORING_CQE_F_MORE = 2, IORING_ENTER_GETEVENTS = 1;
const MSG_WAITALL = 0x100;
const SYS_io_uring_setup = 425, SYS_io_uring_enter = 426;

const ints: CKind[] = ["int", "int", "int"];

const cSetup = cFunction("syscall", "int", "int", "pointer");

const cEnter = cFunction("syscall", "int", "int", ...ints, "pointer");

const mmap = find("mmap", ["pointer", "size", ...ints, "size"], "address");

/** Memory of `fd`, or new memory (-1): where it is. See mmap(2). */
function mapped(fd: number, offset: number, size: number) {
  const PROT_READ = 1, PROT_WRITE = 2, MAP_SHARED = 1, MAP_ANONYMOUS = 32;
  const flags = fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED;
  return Number(mmap(null, size, PROT_READ | PROT_WRITE, flags, fd, offset));
}

/** A submission queue and a completion queue. */
class Ring {
  /** What `next` has found: of which request, what the call returned, */
  data = 0;
  result = 0;
  /** and whether the request stays in force. */
  more = false;
  /** System calls made so far. */
  calls = 0;

  #fd: number;
  /** Sizes and offsets, in a `struct io_uring_params`. */
  #params = memory(120);
  #rings: Int32Array;
  #requests: Int32Array;
  /** Requests made, and handed over; completions taken. */
  #made = 0;
  #submitted = 0;
  #taken = 0;

  constructor(requests: number, completions: number) {
    const params = this.#params.ints;
    params.set([completions, IORING_SETUP_CQSIZE], 1);
    this.#fd = must(cSetup(SYS_io_uring_setup, requests, this.#params));
    const [sq, cq] = params, array = params[16];
    const size = Math.max(array + 4 * sq, params[25] + 16 * cq);
    const rings = mapped(this.#fd, 0, size);
    const requestsAt = mapped(this.#fd, IORING_OFF_SQES, 64 * sq);
    this.#rings = new Int32Array(bytesAt(rings, size));
    this.#requests = new Int32Array(bytesAt(requestsAt, 64 * sq));
    // The queue holds the places of requests, which are always in order here.
    for (let i = 0; i < sq; i++) this.#rings[array / 4 + i] = i;
  }

  /** Asks for every connection that comes, as long as `more` is set. */
  accept(fd: number, data: number): void {
    const operation = IORING_OP_ACCEPT | IORING_ACCEPT_MULTISHOT;
    this.#request(operation, fd, 0, 0, 0, data);
  }

  /** Asks for up to `size` bytes to be put at an address. See recv(2). */
  recv(fd: number, address: number, size: number, data: number): void {
    this.#request(IORING_OP_RECV, fd, address, size, 0, data);
  }

  /** Asks for `size` bytes to be sent, before the next request is begun. */
  sendThen(fd: number, address: number, size: number, data: number): void {
    // Both have to be handed over together.
    if (this.#room() < 2) this.enter(0);
    const operation = IORING_OP_SEND | IOSQE_IO_LINK;
    this.#request(operation, fd, address, size, MSG_WAITALL, data);
  }

  /** Fills in a `struct io_uring_sqe`: the members that are used. */
  #request(...[operation, fd, address, size, flags, data]: number[]): void {
    if (this.#room() < 1) this.enter(0);
    const at = this.#made % this.#params.ints[0] * 16;
    this.#requests.set([operation, fd], at);
    // An address has 64 bits.
    const high = Math.floor(address / 2 ** 32);
    this.#requests.set([address, high, size, flags, data], at + 4);
    this.#made++;
  }

  #room(): number {
    return this.#params.ints[0] - (this.#made - this.#submitted);
  }

  /** Hands over all requests, and waits for a completion. Returns how many. */
  enter(least = 1): number {
    const params = this.#params.ints, count = this.#made - this.#submitted;
    Atomics.store(this.#rings, params[11] / 4, this.#made);
    Atomics.store(this.#rings, params[20] / 4, this.#taken);
    this.calls++;
    const flags = IORING_ENTER_GETEVENTS;
    const submitted = cEnter(
      SYS_io_uring_enter,
      this.#fd,
      count,
      least,
      flags,
      NULL,
    );
    // A signal may have come.
    if (submitted === -EINTR) return 0;
    this.#submitted += must(submitted);
    return submitted;
  }

  /** How many completions have come that have not been taken. */
  waiting(): number {
    const tail = Atomics.load(this.#rings, this.#params.ints[21] / 4);
    return tail - this.#taken | 0;
  }

  /** Takes the next completion, a `struct io_uring_cqe`, if there is one. */
  next(): boolean {
    if (this.waiting() === 0) return false;
    const params = this.#params.ints;
    const at = params[25] / 4 + this.#taken % params[1] * 4;
    this.data = this.#rings[at];
    this.result = this.#rings[at + 2];
    this.more = (this.#rings[at + 3] & IORING_CQE_F_MORE) !== 0;
    this.#taken++;
    return true;
  }
}

/** A ring for so many requests at once, and so many completions. */
function openRing(requests: number, completions: number): Ring {
  return new Ring(requests, completions);
}

const BUFFER_SIZE = 65_536;

/** What the server must remember of a client between two completions. */
interface RingClient {
  readonly fd: number;
  readonly id: number;
  /** Marks the requests that are made for it. */
  readonly place: number;
  /** Where its buffer is. */
  readonly address: number;
  /** The part of the buffer that is to be sent. */
  start: number;
  size: number;
  /** It is over: what a completion still says of it is no news. */
  leaving: boolean;
}

class RingClients {
  /** Place 0 is not given out. */
  #clients: (RingClient | undefined)[] = [undefined];
  #free: number[] = [];
  /** A place keeps its buffer. */
  #addresses: number[] = [];
  #connections = 0;

  at(place: number): RingClient | undefined {
    return this.#clients[place];
  }

  /** An accept has completed: returns the client. */
  accepted(fd: number): RingClient {
    must(fd);
    const id = ++this.#connections,
      place = this.#free.pop() ?? this.#clients.length;
    const address = this.#addresses[place] ??= mapped(-1, 0, BUFFER_SIZE);
    console.log(`accept #${id}`);
    return this.#clients[place] = {
      fd,
      id,
      place,
      address,
      start: 0,
      size: 0,
      leaving: false,
    };
  }

  /** A recv has completed with a message, which is to be sent back. */
  received(client: RingClient, size: number): void {
    client.start = 0;
    client.size = size;
    console.log(`recv #${client.id}`, size);
  }

  /** A send has completed: all, or a part, or with an error. */
  sent(client: RingClient, sent: number): void {
    if (sent < 0) return this.#leave(client, sent);
    console.log(`send #${client.id}`, sent);
    client.start += sent;
    client.size -= sent;
  }

  /** The last request of a client has completed: at the end (0), or failed. */
  ended(client: RingClient, result: number): void {
    this.#leave(client, result);
    sys.close(client.fd);
    this.#clients[client.place] = undefined;
    this.#free.push(client.place);
  }

  #leave(client: RingClient, result: number): void {
    if (client.leaving) return;
    client.leaving = true;
    console.log(
      `close #${client.id}`,
      result === 0 ? "by the client" : systemError(result).message,
    );
  }
}

// ---------------------------------------- the server

/**
 * What a completion is about: the client's place, doubled, and 1 for a send.
 * Place 0 is the listening socket's.
 */
const ACCEPT = 0, SEND = 1;

const ring = openRing(1024, 4096), clients = new RingClients();
/** An accept request is in force. */
let accepting = false;

function main(): void {
  // create, bind, listen
  const listener = openListener(HOST, PORT, SOCK_STREAM);

  for (;;) {
    // One request for all connections to come. It ends when an accept has
    // failed.
    if (!accepting) {
      ring.accept(listener, ACCEPT);
      accepting = true;
    }
    // The system call: hands over the new requests, and waits for completions.
    const submitted = ring.enter();
    const count = ring.waiting();
    if (count > 0) {
      logWait(
        "io_uring_enter",
        { submitted, completed: count },
        () => `${ring.calls} calls so far`,
      );
    }
    complete();
  }
}

/** Handles all completions that have come. */
function complete(): void {
  while (ring.next()) {
    const { data, result, more } = ring, client = clients.at(data >> 1);
    if (!client) onAccepted(result, more);
    else if (data & SEND) onSent(client, result);
    else onReceived(client, result);
  }
}

/**
 * The kernel has accepted a connection. It goes on to do so while `more` is
 * set.
 */
function onAccepted(fd: number, more: boolean): void {
  accepting = more;
  const client = clients.accepted(fd);
  if (client) receive(client);
}

/**
 * Bytes are in the client's buffer; or the stream has ended (0), or the receive
 * has failed.
 */
function onReceived(client: RingClient, size: number): void {
  if (size > 0) {
    clients.received(client, size);
    reply(client);
  } else if (size === -ECANCELED && !client.leaving) {
    // The send before it has not sent everything, so that the receive was not
    // begun.
    reply(client);
  } else {
    clients.ended(client, size);
  }
}

/** The message has been sent back, or a part of it. */
function onSent(client: RingClient, sent: number): void {
  clients.sent(client, sent);
}

/** Asks for the next bytes. */
function receive({ fd, place, address }: RingClient): void {
  ring.recv(fd, address, BUFFER_SIZE, place << 1);
}

/**
 * A chain of two requests: send what is in the buffer; when all of it is sent,
 * receive the next bytes.
 */
function reply(client: RingClient): void {
  const { fd, place, address, start, size } = client;
  ring.sendThen(fd, address + start, size, place << 1 | SEND);
  receive(client);
}

main();
