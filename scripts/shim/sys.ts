// SPDX-License-Identifier: MIT
/**
 * The system-call layer, through each runtime's FFI: the calls (calls.ts), addresses (address.ts), memory and errors
 * (ffi.ts), and here the structures that the calls are given, and the runtime's turn beside a loop that blocks.
 */

import { readFileSync } from "node:fs";
import { setImmediate, setTimeout } from "node:timers";
import * as sys from "./calls.ts";
import { type Memory, memory, must, NULL } from "./ffi.ts";
import { process, runtime } from "./program.ts";

export * from "./address.ts";
export * from "./calls.ts";
export { endReason, mapped, type Memory, memory, must, NULL, part, requireSystemCalls, systemError } from "./ffi.ts";

// ---------------------------------------------------------------- select, poll

/** An `fd_set` has a bit for each descriptor below FD_SETSIZE, and so many bytes. See select(2). */
export const FD_SETSIZE = 1024, FD_SET_SIZE = FD_SETSIZE / 8;

/** Bit `fd` of an `fd_set`. */
export function FD_ISSET(fd: number, { ints }: Memory): boolean {
  return (ints[fd >> 5] & 1 << (fd & 31)) !== 0;
}

/** Sets the bit. C would write that of a descriptor of FD_SETSIZE or more past the end. Here nothing is written. */
export function FD_SET(fd: number, { ints }: Memory): void {
  ints[fd >> 5] |= 1 << (fd & 31);
}

/** Clears the bit. */
export function FD_CLR(fd: number, { ints }: Memory): void {
  ints[fd >> 5] &= ~(1 << (fd & 31));
}

/** Memory for a `struct timeval`: seconds and microseconds, of 64 bits each. */
export const timeval = (): Memory => memory(16);

/** Sets a `struct timeval`, below 2^31 seconds. */
export function setTimeval({ ints }: Memory, milliseconds: number): void {
  ints[0] = milliseconds / 1000;
  ints[2] = milliseconds % 1000 * 1000;
}

/** Entry `index` of an array of `struct pollfd`: the descriptor (4 bytes), what to wait for (2), what has come (2). */
export function setPollfd({ ints }: Memory, index: number, fd: number, events: number): void {
  ints[2 * index] = fd;
  ints[2 * index + 1] = events;
}

/** The descriptor of entry `index`. */
export function pollfdDescriptor({ ints }: Memory, index: number): number {
  return ints[2 * index];
}

/** What entry `index` waits for. */
export function pollfdEvents({ ints }: Memory, index: number): number {
  return ints[2 * index + 1] & 0xffff;
}

/** What has come for entry `index`: POLLIN, POLLOUT, and unasked POLLERR (8) and POLLHUP (16); 0 is nothing. */
export function pollfdReady({ ints }: Memory, index: number): number {
  return ints[2 * index + 1] >> 16;
}

// ---------------------------------------------------------------- epoll

/** `struct epoll_event`, in 32-bit integers: the events, and 64 bits of data that on x86-64 follow without a gap. */
const EPOLL_EVENT_INTS = process.arch === "x64" ? 3 : 4;

/** Memory for so many of `struct epoll_event`. */
export const epollEvents = (count: number): Memory => memory(count * EPOLL_EVENT_INTS * 4);

let event: Memory | undefined;

/** What to wait for, and as data the descriptor and a `number` that is free to use. Valid until the next one. */
export function epollEvent(events: number, fd: number, number = 0): Memory {
  event ??= epollEvents(1);
  event.ints[0] = events;
  event.ints[EPOLL_EVENT_INTS - 2] = fd;
  event.ints[EPOLL_EVENT_INTS - 1] = number;
  return event;
}

/** The descriptor that entry `index` is about. */
export function descriptorOf({ ints }: Memory, index: number): number {
  return ints[(index + 1) * EPOLL_EVENT_INTS - 2];
}

/** What has come for it: EPOLLIN, EPOLLOUT, and unasked EPOLLERR and EPOLLHUP. */
export function eventsOf({ ints }: Memory, index: number): number {
  return ints[index * EPOLL_EVENT_INTS];
}

/** The number that entry `index` has beside the descriptor. */
export function numberOf({ ints }: Memory, index: number): number {
  return ints[(index + 1) * EPOLL_EVENT_INTS - 1];
}

/** What is registered with an epoll instance: each descriptor, and the number beside it. See proc_pid_fdinfo(5). */
export function registered(epoll: number): { fd: number; number: number }[] {
  const entries = readFileSync(`/proc/self/fdinfo/${epoll}`, "utf8").matchAll(/^tfd: *(\d+) .* data: *(\w+)/gm);
  return [...entries].map(([, fd, data]) => ({ fd: Number(fd), number: Number(BigInt(`0x${data}`) >> 32n) }));
}

// ---------------------------------------------------------------- sockets, signals

let tcpInfo: { value: Memory; length: Memory } | undefined;

/** A line if connections wait in the backlog of a listening socket: how many, and `why`. See `TCP_INFO` in tcp(7). */
export function backlogOf(fd: number, why = ""): string[] {
  const { value, length } = tcpInfo ??= { value: memory(256), length: memory(4) };
  length.ints[0] = 256;
  const result = sys.getsockopt(fd, sys.IPPROTO_TCP, sys.TCP_INFO, value, length);
  // The field is `tcpi_unacked`, which in a listening socket has this meaning.
  return result < 0 || value.ints[6] === 0 ? [] : [`${value.ints[6]} waiting to be accepted${why}`];
}

let message: Memory | undefined;

/** A `struct msghdr` with a number as its data, and a descriptor as its control data. Valid until the next one. */
export function descriptorMessage(number = 0, fd = -1): Memory {
  // The header has 56 bytes, and addresses of what follows: a `struct iovec` (16), which has the address of the data
  // (8), and a `struct cmsghdr` (16) with the descriptor (8). See SCM_RIGHTS in unix(7), cmsg(3).
  const IOV = 56, DATA = 72, CONTROL = 80, { address, bytes, ints } = message ??= memory(104);
  const longs = new BigUint64Array(bytes.buffer);
  const point = (at: number, to: number, length: number) => longs.set([BigInt(address + to), BigInt(length)], at / 8);
  point(16, IOV, 1);
  point(IOV, DATA, 4);
  point(32, CONTROL, 24);
  ints[DATA / 4] = number;
  // The length of the control message, of 64 bits; level and type; the descriptor.
  ints.set([20, 0, sys.SOL_SOCKET, sys.SCM_RIGHTS, fd], CONTROL / 4);
  return message;
}

/** What has come in such a message: the number, and the descriptor, which is this process's own. */
export function passed({ ints }: Memory): { number: number; fd: number } {
  return { number: ints[18], fd: ints[24] };
}

let fds: Memory | undefined;

/** Two connected sockets; throws if there are none to be had. See socketpair(2). */
export function socketPair(type: number): [number, number] {
  fds ??= memory(8);
  must(sys.socketpair(sys.AF_UNIX, type, 0, fds));
  return [fds.ints[0], fds.ints[1]];
}

/** Memory for a `siginfo_t`, 128 bytes: what is known of a signal. See sigaction(2). */
export const siginfo = (): Memory => memory(128);

/** The descriptor that a signal is about, and what it tells of it, as POLL_IN: `si_fd`, `si_code` in sigaction(2). */
export function signalled({ ints }: Memory): { fd: number; code: string } {
  const codes = ["", "POLL_IN", "POLL_OUT", "POLL_MSG", "POLL_ERR", "POLL_PRI", "POLL_HUP"];
  return { fd: ints[6], code: codes[ints[2]] ?? `code ${ints[2]}` };
}

/** Memory for a `struct timespec`, set to so many milliseconds: seconds and nanoseconds, of 64 bits each. */
export function timespec(milliseconds: number): Memory {
  const time = memory(16);
  time.ints[0] = milliseconds / 1000;
  time.ints[2] = milliseconds % 1000 * 1_000_000;
  return time;
}

/**
 * Has this thread block signals: they wait until it takes them. The process ignores them as well: a runtime may let them
 * through while it has its turn, and they would end the process. See pthread_sigmask(3), sigaction(2).
 */
export function blockSignals(...signals: number[]): Memory {
  // A `sigset_t`, 128 bytes: a bit for each signal, that of signal 1 first. `struct sigaction`, 152: first the handler.
  const SIG_IGN = 1, set = memory(128), ignore = memory(152);
  for (const signal of signals) set.ints[signal - 1 >> 5] |= 1 << (signal - 1 & 31);
  ignore.ints[0] = SIG_IGN;
  must(-sys.pthread_sigmask(sys.SIG_BLOCK, set, NULL));
  for (const signal of signals) must(sys.sigaction(signal, ignore, NULL));
  return set;
}

let owner: Memory | undefined;

/** F_SETOWN_EX: says which thread, by its number, gets a descriptor's signals. See fcntl(2). */
export function setOwner(fd: number, thread: number): number {
  // A `struct f_owner_ex`: what kind of owner (4 bytes), here a thread (0), and its number (4).
  owner ??= memory(8);
  owner.ints[1] = thread;
  return sys.fcntlPointer(fd, sys.F_SETOWN_EX, owner);
}

// ---------------------------------------------------------------- the runtime beside a blocking loop

let lastTurn = 0;

/** Whether the runtime has had no turn for 100 ms. */
export function turnIsDue(): boolean {
  return performance.now() - lastTurn > 100;
}

/**
 * Lets the runtime run timers and the handlers of signals, which takes a turn of its event loop. Says whether signals
 * that this thread blocks may have been lost, as they are in Bun.
 */
export async function runtimeTurn(): Promise<boolean> {
  await new Promise<void>((resolve) => setTimeout(() => setImmediate(resolve), 0));
  lastTurn = performance.now();
  return runtime === "bun";
}
