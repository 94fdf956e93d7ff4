// SPDX-License-Identifier: MIT
/** The two rings of io_uring(7), in memory that is shared with the kernel: in a copy. See linux/io_uring.h. */

import { bytesAt, cFunction, type CKind, find, memory, must, NULL } from "./ffi.ts";
import { EINTR } from "./sys.ts";

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
export function mapped(fd: number, offset: number, size: number) {
  const PROT_READ = 1, PROT_WRITE = 2, MAP_SHARED = 1, MAP_ANONYMOUS = 32;
  const flags = fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED;
  return Number(mmap(null, size, PROT_READ | PROT_WRITE, flags, fd, offset));
}

/** A submission queue and a completion queue. */
export class Ring {
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
    const submitted = cEnter(SYS_io_uring_enter, this.#fd, count, least, flags, NULL);
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
export function openRing(requests: number, completions: number): Ring {
  return new Ring(requests, completions);
}
