// SPDX-License-Identifier: MIT
/** What is simpler in a copy than in shim/sys.ts. */

import process from "node:process";
import * as sys from "./calls.ts";
import { type Memory, memory, must, NULL } from "./ffi.ts";

/** `struct epoll_event` in 32-bit integers: events, and 64 bits of data. */
export const EPOLL_EVENT_INTS = process.arch === "x64" ? 3 : 4;

let lastTurn = 0;

/** Lets the runtime run its timers, which it can't do during a call. */
export async function runtimeTurn(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 0));
  lastTurn = performance.now(); // only nonblocking
}

/** A `struct timespec`: seconds and nanoseconds, of 64 bits each. */
export function timespec(milliseconds: number): Memory {
  const time = memory(16);
  time.ints[0] = milliseconds / 1000;
  time.ints[2] = milliseconds % 1000 * 1_000_000;
  return time;
}

/** Has this thread block signals: they wait until it takes them. */
export function blockSignals(...signals: number[]): Memory {
  // A `sigset_t`: a bit for each signal, that of signal 1 first.
  const set = memory(128);
  for (const signal of signals) set.ints[signal - 1 >> 5] |= 1 << (signal - 1 & 31);
  must(-sys.pthread_sigmask(sys.SIG_BLOCK, set, NULL));
  return set;
}

/** The descriptor that a signal is about, and what it tells of it. */
export function signalled({ ints }: Memory): { fd: number; code: string } {
  const codes: Record<number, string> = { 1: "POLL_IN", 2: "POLL_OUT" };
  return { fd: ints[6], code: codes[ints[2]] ?? `code ${ints[2]}` };
}

/** Says which thread gets a descriptor's signals: F_SETOWN_EX in fcntl(2). */
export function setOwner(fd: number, thread: number): number {
  // A `struct f_owner_ex`: the kind of owner, here a thread (0); its number.
  const given = memory(8);
  given.ints[1] = thread;
  return sys.fcntlPointer(fd, sys.F_SETOWN_EX, given);
}
