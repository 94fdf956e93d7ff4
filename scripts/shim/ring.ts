// SPDX-License-Identifier: MIT
/**
 * The two rings of io_uring(7), in memory that this process shares with the kernel.
 *
 * A request is written into the submission queue, its result read from the completion queue. Neither takes a system
 * call. The one that there is, `enter`, hands over all requests made since the last time, and waits for results.
 *
 * The C library has no functions for io_uring, hence syscall(2). Structures and numbers are those of linux/io_uring.h,
 * on x86-64 and arm64 alike.
 */

import { existsSync, readFileSync } from "node:fs";
import { release } from "node:os";
import { cFunction, toPointer } from "./ffi.ts";
import { fail } from "./program.ts";
import { EINTR, mapped, type Memory, memory, must, SOCK_CLOEXEC } from "./sys.ts";

/** What is asked of the kernel, with flags: the next request waits for this one; it is reported only if it fails. */
const IORING_OP_ACCEPT = 13, IORING_OP_SEND = 26, IORING_OP_RECV = 27;
const IOSQE_IO_LINK = 1 << 2, IOSQE_CQE_SKIP_SUCCESS = 1 << 6;
const IORING_ACCEPT_MULTISHOT = 1, IORING_RECVSEND_POLL_FIRST = 1;
const MSG_WAITALL = 0x100, MSG_NOSIGNAL = 0x4000;
/** Flag of a completion: the request stays, and there will be more. */
const IORING_CQE_F_MORE = 1 << 1;

const IORING_SETUP_CQSIZE = 1 << 3, IORING_SETUP_CLAMP = 1 << 4, IORING_SETUP_SUBMIT_ALL = 1 << 7;
/** One thread uses the ring, and the kernel does what is left to do when that thread asks, not in between. */
const IORING_SETUP_SINGLE_ISSUER = 1 << 12, IORING_SETUP_DEFER_TASKRUN = 1 << 13;
const IORING_OFF_SQES = 0x10000000;
const IORING_ENTER_GETEVENTS = 1, IORING_ENTER_EXT_ARG = 8;
const EBUSY = 16, ETIME = 62;

const SYS_io_uring_setup = 425, SYS_io_uring_enter = 426;
const cSetup = cFunction("syscall", "int", "int", "pointer");
const cEnter = cFunction("syscall", "int", "int", "int", "int", "int", "pointer", "pointer");

/** The size of an entry in 32-bit integers: `struct io_uring_sqe` has 64 bytes, `struct io_uring_cqe` 16. */
const SQE_INTS = 16, CQE_INTS = 4;

/** A submission queue and a completion queue. */
export class Ring {
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
  /** Places in `#rings`: the ends of the queues that this side moves, and the one that it watches. */
  #requestTail: number;
  #completionHead: number;
  #completionTail: number;
  #completions: number;
  #requestMask: number;
  #completionMask: number;
  /** Requests made, and how many of them the kernel has taken; completions there are, and how many we have taken. */
  #made = 0;
  #submitted = 0;
  #completed = 0;
  #taken = 0;
  #timeout: Memory;
  #wait: Memory;
  /** The size of `struct io_uring_getevents_arg`: as an address, since the seventh parameter has to have 64 bits. */
  #waitSize = { pointer: toPointer(24) };

  /**
   * Room for so many requests at once, and so many completions (powers of two); the kernel keeps what is more. Throws
   * what io_uring_setup(2) fails with.
   */
  constructor(requests: number, completions: number) {
    // struct io_uring_params: at 4 and 8 bytes the completions and the flags, and from 40 and 80 on what the
    // kernel fills in: the offsets of head, tail, mask (12 apart from the next), array and completions.
    const given = memory(120), params = given.ints;
    params[1] = completions;
    params[2] = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
      IORING_SETUP_DEFER_TASKRUN;
    this.#fd = must(cSetup(SYS_io_uring_setup, requests, given));
    const count = params[0], array = params[16] / 4, completionsAt = params[25];
    this.#rings = mapped(this.#fd, 0, Math.max(params[16] + 4 * count, completionsAt + 16 * params[1])).ints;
    this.#requests = mapped(this.#fd, IORING_OFF_SQES, 64 * count).ints;
    this.#requestTail = params[11] / 4;
    this.#requestMask = this.#rings[params[12] / 4];
    this.#completionHead = params[20] / 4;
    this.#completionTail = params[21] / 4;
    this.#completionMask = this.#rings[params[22] / 4];
    this.#completions = completionsAt / 4;
    // The queue holds the places of requests, which here are always in order.
    for (let i = 0; i < count; i++) this.#rings[array + i] = i;
    // struct io_uring_getevents_arg, whose last member is the address of a struct __kernel_timespec.
    this.#timeout = memory(16);
    this.#wait = memory(24);
    putAddress(this.#wait.ints, 4, this.#timeout.address);
  }

  /** Asks for every connection that comes to the listening socket, as long as `more` is set. See accept(2). */
  accept(fd: number, data: number): void {
    this.#request(IORING_OP_ACCEPT | IORING_ACCEPT_MULTISHOT << 16, fd, 0, 0, SOCK_CLOEXEC, data);
  }

  /** Asks for up to `size` bytes, when there are any, to be put at an address. See recv(2). */
  recv(fd: number, address: number, size: number, data: number): void {
    this.#request(IORING_OP_RECV | IORING_RECVSEND_POLL_FIRST << 16, fd, address, size, 0, data);
  }

  /** Asks for `size` bytes to be sent, all of them. See send(2). */
  send(fd: number, address: number, size: number, data: number): void {
    this.#request(IORING_OP_SEND, fd, address, size, MSG_WAITALL | MSG_NOSIGNAL, data);
  }

  /**
   * The same, and the request made next is not begun before all is sent; if that fails, its result is -ECANCELED.
   * With `silent`, success is not reported, and of a failure only that of the send.
   */
  sendThen(fd: number, address: number, size: number, data: number, silent: boolean): void {
    // Both have to be handed over together.
    this.#makeRoom(2);
    const flags = silent ? IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS : IOSQE_IO_LINK;
    this.#request(IORING_OP_SEND | flags << 8, fd, address, size, MSG_WAITALL | MSG_NOSIGNAL, data);
  }

  /** Fills in a `struct io_uring_sqe`: the members that are used. The others stay 0. */
  #request(operation: number, fd: number, address: number, size: number, flags: number, data: number): void {
    this.#makeRoom(1);
    const at = (this.#made & this.#requestMask) * SQE_INTS, entries = this.#requests;
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
    if (this.#requestMask + 1 - (this.#made - this.#submitted | 0) < count) must(this.#enter(0, 0));
  }

  /**
   * Hands over all requests, and waits until `least` completions have come, or so many milliseconds have passed, which
   * need not be whole. Returns 0 or more, also when a signal has come. See io_uring_enter(2).
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
    const result = cEnter(SYS_io_uring_enter, this.#fd, count, least, flags, this.#wait, this.#waitSize);
    if (result < 0) return result === -ETIME || result === -EINTR || result === -EBUSY ? 0 : result;
    this.#submitted = this.#submitted + result | 0;
    return result;
  }

  /** How many completions have come that have not been taken. */
  waiting(): number {
    return Atomics.load(this.#rings, this.#completionTail) - this.#taken | 0;
  }

  /** Takes the next completion, if there is one, and shows it in `data`, `result` and `more`. */
  next(): boolean {
    if (this.#taken === this.#completed) {
      this.#completed = Atomics.load(this.#rings, this.#completionTail);
      if (this.#taken === this.#completed) return false;
    }
    const at = this.#completions + (this.#taken & this.#completionMask) * CQE_INTS;
    this.data = this.#rings[at];
    this.result = this.#rings[at + 2];
    this.more = (this.#rings[at + 3] & IORING_CQE_F_MORE) !== 0;
    this.#taken = this.#taken + 1 | 0;
    return true;
  }
}

/** Writes an address of 64 bits as two integers, the lower half first. */
function putAddress(ints: Int32Array<ArrayBuffer>, at: number, address: number): void {
  ints[at] = address;
  ints[at + 1] = address / 0x1_0000_0000;
}

/** A ring, or the end of the process with a line that says why the kernel allows none. */
export function openRing(requests: number, completions: number): Ring {
  try {
    return new Ring(requests, completions);
  } catch (error) {
    return fail("cannot use io_uring", explainRefusal(error as Error));
  }
}

/** Why the kernel does not let this process use io_uring, given what `new Ring` has thrown. */
export function explainRefusal(error: Error & { code?: string }): unknown {
  const kernel = release();
  if (error.code === "ENOSYS") {
    return `this kernel (${kernel}) has been built without it, is older than 5.1, or a seccomp profile hides it`;
  }
  if (error.code === "EINVAL") return `Linux 6.1 or later is needed, this is ${kernel}`;
  if (error.code !== "EPERM") return error;
  // Before Linux 6.6 there was no such setting.
  const path = "/proc/sys/kernel/io_uring_disabled",
    setting = existsSync(path) ? readFileSync(path, "utf8").trim() : "0";
  return setting === "0"
    ? "not permitted here, as in many containers: a seccomp profile forbids it"
    : `switched off by the setting kernel.io_uring_disabled = ${setting}`;
}
