// SPDX-License-Identifier: MIT
/**
 * io_uring(7): the program submits requests, and the kernel reports when they
 * are done.
 *
 *   bun uring.ts
 *   nc 127.0.0.1 9999   in several terminals: one thread serves them all
 */

import { dlopen, type Pointer, toArrayBuffer } from "bun:ffi";
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

/** Memory that a descriptor stands for. See mmap(2). */
function mapped(fd: number, offset: number, size: number): Memory {
  const PROT_READ = 1, PROT_WRITE = 2, MAP_SHARED = 1, MAP_POPULATE = 32_768;
  const address = mmap(
    NULL.pointer,
    size,
    PROT_READ | PROT_WRITE,
    MAP_SHARED | MAP_POPULATE,
    fd,
    offset,
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

const EINTR = 4, ECANCELED = 125, AF_INET = 2, SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000, SOL_SOCKET = 1, SO_REUSEADDR = 2;
const IPPROTO_TCP = 6, TCP_NODELAY = 1;

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

const IORING_OP_ACCEPT = 13, IORING_OP_SEND = 26, IORING_OP_RECV = 27;
const IOSQE_IO_LINK = 1 << 2, IORING_ACCEPT_MULTISHOT = 1;
const IORING_RECVSEND_POLL_FIRST = 1, MSG_WAITALL = 0x100;
const MSG_NOSIGNAL = 0x4000;

/** Flag of a completion: the request stays, and there will be more. */
const IORING_CQE_F_MORE = 1 << 1, IORING_SETUP_CQSIZE = 1 << 3;
const IORING_SETUP_CLAMP = 1 << 4, IORING_SETUP_SUBMIT_ALL = 1 << 7;
const IORING_SETUP_SINGLE_ISSUER = 1 << 12;
const IORING_SETUP_DEFER_TASKRUN = 1 << 13, IORING_OFF_SQES = 0x10000000;
const IORING_ENTER_GETEVENTS = 1, IORING_ENTER_EXT_ARG = 8, EBUSY = 16;
const ETIME = 62;

const SYS_io_uring_setup = 425, SYS_io_uring_enter = 426;

const cSetup = cFunction("syscall", "int", "int", "pointer");

const cEnter = cFunction(
  "syscall",
  "int",
  "int",
  "int",
  "int",
  "int",
  "pointer",
  "pointer",
);

const SQE_INTS = 16, CQE_INTS = 4;

/** A submission queue and a completion queue. */
class Ring {
  /** What `next` has found: the `data` that the request was made with, */
  data = 0;
  /** what the call returned, or a negative error number, */
  result = 0;
  /** and whether the request stays in force. */
  more = false;

  /** System calls made so far. */
  calls = 0;

  #fd: number;
  #rings: Int32Array<ArrayBuffer>;
  #requests: Int32Array<ArrayBuffer>;
  /**
   * Places in `#rings`: the ends of the queues that this side moves, and the
   * one that it watches.
   */
  #requestTail: number;
  #completionHead: number;
  #completionTail: number;
  #completions: number;
  #requestMask: number;
  #completionMask: number;
  /**
   * Requests made, and how many of them the kernel has taken; completions there
   * are, and how many we have taken.
   */
  #made = 0;
  #submitted = 0;
  #completed = 0;
  #taken = 0;
  #timeout: Memory;
  #wait: Memory;
  /**
   * The size of `struct io_uring_getevents_arg`: as an address, since the
   * seventh parameter has to have 64 bits.
   */
  #waitSize = { pointer: toPointer(24) };

  /**
   * Room for so many requests at once, and so many completions (powers of two);
   * the kernel keeps what is more. Throws what io_uring_setup(2) fails with.
   */
  constructor(requests: number, completions: number) {
    // struct io_uring_params: at 4 and 8 bytes the completions and the flags,
    // and from 40 and 80 on what the kernel fills in: the offsets of head,
    // tail, mask (12 apart from the next), array and completions.
    const given = memory(120), params = given.ints;
    params[1] = completions;
    params[2] = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP |
      IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
      IORING_SETUP_DEFER_TASKRUN;
    this.#fd = must(cSetup(SYS_io_uring_setup, requests, given));
    const count = params[0], array = params[16] / 4, completionsAt = params[25];
    this.#rings = mapped(
      this.#fd,
      0,
      Math.max(params[16] + 4 * count, completionsAt + 16 * params[1]),
    ).ints;
    this.#requests = mapped(this.#fd, IORING_OFF_SQES, 64 * count).ints;
    this.#requestTail = params[11] / 4;
    this.#requestMask = this.#rings[params[12] / 4];
    this.#completionHead = params[20] / 4;
    this.#completionTail = params[21] / 4;
    this.#completionMask = this.#rings[params[22] / 4];
    this.#completions = completionsAt / 4;
    // The queue holds the places of requests, which here are always in order.
    for (let i = 0; i < count; i++) this.#rings[array + i] = i;
    // struct io_uring_getevents_arg, whose last member is the address of a
    // struct __kernel_timespec.
    this.#timeout = memory(16);
    this.#wait = memory(24);
    putAddress(this.#wait.ints, 4, this.#timeout.address);
  }

  /**
   * Asks for every connection that comes to the listening socket, as long as
   * `more` is set. See accept(2).
   */
  accept(fd: number, data: number): void {
    this.#request(
      IORING_OP_ACCEPT | IORING_ACCEPT_MULTISHOT << 16,
      fd,
      0,
      0,
      SOCK_CLOEXEC,
      data,
    );
  }

  /**
   * Asks for up to `size` bytes, when there are any, to be put at an address.
   * See recv(2).
   */
  recv(fd: number, address: number, size: number, data: number): void {
    this.#request(
      IORING_OP_RECV | IORING_RECVSEND_POLL_FIRST << 16,
      fd,
      address,
      size,
      0,
      data,
    );
  }

  /**
   * The same, and the request made next is not begun before all is sent; if
   * that fails, its result is -ECANCELED.
   */
  sendThen(fd: number, address: number, size: number, data: number): void {
    // Both have to be handed over together.
    this.#makeRoom(2);
    this.#request(
      IORING_OP_SEND | IOSQE_IO_LINK << 8,
      fd,
      address,
      size,
      MSG_WAITALL | MSG_NOSIGNAL,
      data,
    );
  }

  /**
   * Fills in a `struct io_uring_sqe`: the members that are used. The others
   * stay 0.
   */
  #request(
    operation: number,
    fd: number,
    address: number,
    size: number,
    flags: number,
    data: number,
  ): void {
    this.#makeRoom(1);
    const at = (this.#made & this.#requestMask) * SQE_INTS,
      entries = this.#requests;
    entries[at] = operation;
    entries[at + 1] = fd;
    putAddress(entries, at + 4, address);
    entries[at + 6] = size;
    entries[at + 7] = flags;
    entries[at + 8] = data;
    // The counters run on past 2^31, as the kernel's do.
    this.#made = this.#made + 1 | 0;
  }

  #makeRoom(count: number): void {
    if (this.#requestMask + 1 - (this.#made - this.#submitted | 0) < count) {
      must(this.#enter(0, 0));
    }
  }

  /**
   * Hands over all requests, and waits until `least` completions have come, or
   * so many milliseconds have passed, which need not be whole. Returns 0 or
   * more, also when a signal has come. See io_uring_enter(2).
   */
  enter(milliseconds: number, least = 1): number {
    this.#timeout.ints[0] = milliseconds / 1000;
    this.#timeout.ints[2] = milliseconds % 1000 * 1_000_000;
    return this.#enter(least, IORING_ENTER_GETEVENTS);
  }

  #enter(least: number, flags: number): number {
    const count = this.#made - this.#submitted | 0;
    Atomics.store(this.#rings, this.#requestTail, this.#made);
    Atomics.store(this.#rings, this.#completionHead, this.#taken);
    this.calls++;
    flags |= IORING_ENTER_EXT_ARG;
    const result = cEnter(
      SYS_io_uring_enter,
      this.#fd,
      count,
      least,
      flags,
      this.#wait,
      this.#waitSize,
    );
    if (result < 0) {
      return result === -ETIME || result === -EINTR || result === -EBUSY
        ? 0
        : result;
    }
    this.#submitted = this.#submitted + result | 0;
    return result;
  }

  /** How many completions have come that have not been taken. */
  waiting(): number {
    return Atomics.load(this.#rings, this.#completionTail) - this.#taken | 0;
  }

  /**
   * Takes the next completion, if there is one, and shows it in `data`,
   * `result` and `more`.
   */
  next(): boolean {
    if (this.#taken === this.#completed) {
      this.#completed = Atomics.load(this.#rings, this.#completionTail);
      if (this.#taken === this.#completed) return false;
    }
    const at = this.#completions +
      (this.#taken & this.#completionMask) * CQE_INTS;
    this.data = this.#rings[at];
    this.result = this.#rings[at + 2];
    this.more = (this.#rings[at + 3] & IORING_CQE_F_MORE) !== 0;
    this.#taken = this.#taken + 1 | 0;
    return true;
  }
}

/** Writes an address of 64 bits as two integers, the lower half first. */
function putAddress(
  ints: Int32Array<ArrayBuffer>,
  at: number,
  address: number,
): void {
  ints[at] = address;
  ints[at + 1] = address / 0x1_0000_0000;
}

/** A ring for so many requests at once, and so many completions. */
function openRing(requests: number, completions: number): Ring {
  return new Ring(requests, completions);
}

/** The size of a client's buffer. */
const BUFFER_SIZE = 65_536;

/** System calls, with what they take: see section 2 of the manual. */
const sys = {
  close: cFunction("close", "int"),
  socket: cFunction("socket", "int", "int", "int"),
  bind: cFunction("bind", "int", "address"),
  listen: cFunction("listen", "int", "int"),
  getsockname: cFunction("getsockname", "int", "filled"),
  setsockopt: cFunction("setsockopt", "int", "int", "int", "pointer", "size"),
};

/** What the server must remember of a client between two completions. */
interface RingClient {
  readonly fd: number;
  readonly id: number;
  /** Marks the requests that are made for it. */
  readonly place: number;
  /** Its buffer: where it is, and the bytes. */
  readonly address: number;
  readonly bytes: Uint8Array;
  /** The part of the buffer that is to be sent. */
  start: number;
  size: number;
  /** It is over: what a completion still says of it is no news. */
  leaving: boolean;
}

class RingClients {
  /** There was no descriptor for a new client. */
  full = false;
  /** Place 0 is not given out. */
  #clients: (RingClient | undefined)[] = [undefined];
  #free: number[] = [];
  /** A place keeps its buffer. */
  #buffers: Memory[] = [];
  #connections = 0;

  /** The client that has this place. */
  at(place: number): RingClient | undefined {
    return this.#clients[place];
  }

  /** An accept has completed: returns the client, or `null` if it failed. */
  accepted(fd: number): RingClient | null {
    if (fd < 0) {
      console.log("error", `accept: ${systemError(fd)}`);
      // Clients wait in the backlog, until one leaves.
      this.full = true;
      return null;
    }
    const id = ++this.#connections,
      place = this.#free.pop() ?? this.#clients.length;
    const { address, bytes } = this.#buffers[place] ??= memory(BUFFER_SIZE);
    console.log(`accept #${id}`);
    return this.#clients[place] = {
      fd,
      id,
      place,
      address,
      bytes,
      start: 0,
      size: 0,
      leaving: false,
    };
  }

  /** A recv has completed with a message, which is to be sent back. */
  received(client: RingClient, size: number): void {
    client.start = 0;
    client.size = size;
    console.log(`recv #${client.id}`, shown(client.bytes.subarray(0, size)));
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
    this.full = false;
  }

  #leave(client: RingClient, result: number): void {
    if (client.leaving) return;
    client.leaving = true;
    console.log(
      `close #${client.id}`,
      result === 0 ? "by the client" : systemError(result),
    );
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

const TIMEOUT = 500;
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
    if (!accepting && !clients.full) ring.accept(listener, ACCEPT);
    accepting ||= !clients.full;
    // The system call: hands over the new requests, and waits for completions.
    const submitted = ring.enter(TIMEOUT);
    const count = ring.waiting();
    if (count > 0) {
      logWait(
        "io_uring_enter",
        { submitted, completed: count },
        () => `${ring.calls} calls so far`,
      );
    } else clients.full = false;
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
