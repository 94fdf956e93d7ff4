// SPDX-License-Identifier: MIT
/**
 * The system-call layer: the C library's socket calls under their own names, through each runtime's FFI (ffi.ts).
 *
 * Every call returns what the kernel returned if that is 0 or more, and otherwise the negative error number, as
 * the kernel itself does: `recv(...) === -EAGAIN`. The C library puts that number in `errno`, where the runtime's
 * own calls soon overwrite it (a garbage collection is enough), so it is read at once, in the same function.
 *
 * A call takes its buffers as `Memory`, which comes from mmap(2) and stays where it is: the kernel needs an
 * address that holds, and a garbage collector moves things.
 *
 * Names, numbers and layouts are those of Linux on x86-64 and arm64, both little-endian.
 */

import { lookup } from "node:dns/promises";
import { setImmediate, setTimeout } from "node:timers";
import * as util from "node:util";
import { cFunction, cFunctionToAddress, errno, NULL, type Pointer, toArrayBuffer, toPointer } from "./ffi.ts";
import { cannotListen, formatAddress, process, ready } from "./program.ts";
import type { Address } from "./socket.ts";

export { requireSystemCalls } from "./ffi.ts";

// ---------------------------------------------------------------- errors

/** Error numbers, see errno(3). A call that fails returns one of them negated. */
export const EINTR = 4,
  EAGAIN = 11,
  EMFILE = 24,
  ECONNABORTED = 103,
  ECANCELED = 125;

/** What a call returned as an error, with its name in `code`, to be thrown or shown. */
export function systemError(returned: number): Error & { code: string } {
  const code = util.getSystemErrorName(returned);
  return Object.assign(new Error(`${util.getSystemErrorMessage(returned)} (${code})`), { code });
}

/** Passes on what a call returned, or throws it as an error. */
export function must(returned: number): number {
  if (returned < 0) throw systemError(returned);
  return returned;
}

// ---------------------------------------------------------------- memory

/** Memory that does not move, and that C code and the kernel can be given. */
export interface Memory {
  /** Where it is, as a number: addresses have 47 or 48 bits. */
  readonly address: number;
  readonly pointer: Pointer;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same bytes as 32-bit integers. */
  readonly ints: Int32Array<ArrayBuffer>;
}

const cMmap = cFunctionToAddress("mmap", "pointer", "size", "int", "int", "int", "size");
const PROT_READ = 1, PROT_WRITE = 2;
const MAP_SHARED = 1, MAP_PRIVATE = 2, MAP_ANONYMOUS = 32, MAP_POPULATE = 32_768;

/**
 * Gets memory of `size` bytes (a multiple of 4), all 0, that is kept until the process ends. Throws if there is none.
 */
export function memory(size: number): Memory {
  const address = cMmap.call(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address < 0) throw systemError(-errno[0]);
  return memoryAt(Number(address), size);
}

/** Maps what a descriptor stands for, such as the rings of io_uring. Throws if that fails. See mmap(2). */
export function mapped(fd: number, offset: number, size: number): Memory {
  const address = cMmap.call(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset);
  if (address < 0) throw systemError(-errno[0]);
  return memoryAt(Number(address), size);
}

/** Memory that is a part of other memory: `size` bytes of it, a multiple of 4. */
export function part({ address }: Memory, offset: number, size: number): Memory {
  return memoryAt(address + offset, size);
}

function memoryAt(address: number, size: number): Memory {
  const pointer = toPointer(address), buffer = toArrayBuffer(pointer, size);
  return { address, pointer, bytes: new Uint8Array(buffer), ints: new Int32Array(buffer) };
}

// ---------------------------------------------------------------- sockets

export const AF_INET = 2, AF_INET6 = 10, SOCK_STREAM = 1, SOCK_NONBLOCK = 0o4000, SOCK_CLOEXEC = 0o2000000;
export const SOL_SOCKET = 1, SO_REUSEADDR = 2, SO_RCVTIMEO = 20, SO_SNDTIMEO = 21;
export const IPPROTO_TCP = 6, TCP_NODELAY = 1, TCP_INFO = 11;
export const SHUT_WR = 1, SHUT_RDWR = 2;

const cSocket = cFunction("socket", "int", "int", "int");
const cBind = cFunction("bind", "int", "pointer", "size");
const cListen = cFunction("listen", "int", "int");
const cAccept4 = cFunction("accept4", "int", "pointer", "pointer", "int");
const cConnect = cFunction("connect", "int", "pointer", "size");
const cRecv = cFunction("recv", "int", "pointer", "size", "int");
const cSend = cFunction("send", "int", "pointer", "size", "int");
const cShutdown = cFunction("shutdown", "int", "int");
const cClose = cFunction("close", "int");
const cGetsockname = cFunction("getsockname", "int", "pointer", "pointer");
const cGetpeername = cFunction("getpeername", "int", "pointer", "pointer");
const cGetsockopt = cFunction("getsockopt", "int", "int", "int", "pointer", "pointer");
const cSetsockopt = cFunction("setsockopt", "int", "int", "int", "pointer", "size");

/** Creates a socket and returns its descriptor. See socket(2). */
export function socket(family: number, type: number, protocol: number): number {
  const result = cSocket.call(family, type, protocol);
  return result < 0 ? -errno[0] : result;
}

/** Gives a socket its address. See bind(2). */
export function bind(fd: number, address: SocketAddress): number {
  const result = cBind.call(fd, address.memory.pointer, address.length.ints[0]);
  return result < 0 ? -errno[0] : result;
}

/**
 * Lets a socket take connections; up to `backlog` of them wait in the kernel until they are accepted. See listen(2).
 */
export function listen(fd: number, backlog: number): number {
  const result = cListen.call(fd, backlog);
  return result < 0 ? -errno[0] : result;
}

/**
 * Takes the next connection out of the backlog and returns its descriptor; -EAGAIN if the listening socket is
 * non-blocking and there is none. `peer` is filled in. See accept4(2).
 */
export function accept4(fd: number, peer: SocketAddress, flags: number): number {
  peer.length.ints[0] = SOCKADDR_SIZE;
  const result = cAccept4.call(fd, peer.memory.pointer, peer.length.pointer, flags);
  return result < 0 ? -errno[0] : result;
}

/**
 * Connects a socket; a non-blocking one returns -EINPROGRESS, and SO_ERROR tells once it is writable. See connect(2).
 */
export function connect(fd: number, address: SocketAddress): number {
  const result = cConnect.call(fd, address.memory.pointer, address.length.ints[0]);
  return result < 0 ? -errno[0] : result;
}

/** Receives up to `size` bytes and returns how many; 0 is the end of the stream. See recv(2). */
export function recv(fd: number, buffer: Memory, size: number, flags: number): number {
  const result = cRecv.call(fd, buffer.pointer, size, flags);
  return result < 0 ? -errno[0] : result;
}

/** Sends up to `size` bytes and returns how many the kernel took: it may be fewer. See send(2). */
export function send(fd: number, buffer: Memory, size: number, flags: number): number {
  const result = cSend.call(fd, buffer.pointer, size, flags);
  return result < 0 ? -errno[0] : result;
}

/** Ends one direction of a connection, or both. See shutdown(2). */
export function shutdown(fd: number, how: number): number {
  const result = cShutdown.call(fd, how);
  return result < 0 ? -errno[0] : result;
}

/** Closes a descriptor, whose number may be given out again at once. See close(2). */
export function close(fd: number): number {
  const result = cClose.call(fd);
  return result < 0 ? -errno[0] : result;
}

/** Fills in the address that a socket is bound to. See getsockname(2). */
export function getsockname(fd: number, address: SocketAddress): number {
  address.length.ints[0] = SOCKADDR_SIZE;
  const result = cGetsockname.call(fd, address.memory.pointer, address.length.pointer);
  return result < 0 ? -errno[0] : result;
}

/** Fills in the address of the other end. See getpeername(2). */
export function getpeername(fd: number, address: SocketAddress): number {
  address.length.ints[0] = SOCKADDR_SIZE;
  const result = cGetpeername.call(fd, address.memory.pointer, address.length.pointer);
  return result < 0 ? -errno[0] : result;
}

/** Sets an option to the first `size` bytes of `value`. See setsockopt(2), socket(7), tcp(7). */
export function setsockopt(fd: number, level: number, option: number, value: Memory, size: number): number {
  const result = cSetsockopt.call(fd, level, option, value.pointer, size);
  return result < 0 ? -errno[0] : result;
}

let optionMemory: Memory | undefined;

/** Sets an option that is an `int`. */
export function setOption(fd: number, level: number, option: number, value: number): number {
  optionMemory ??= memory(8);
  optionMemory.ints[0] = value;
  return setsockopt(fd, level, option, optionMemory, 4);
}

let tcpInfo: { value: Memory; length: Memory } | undefined;

/**
 * How many connections wait in the backlog of a listening socket to be accepted. See getsockopt(2), and `TCP_INFO` in
 * tcp(7).
 */
export function backlogOf(fd: number): number {
  tcpInfo ??= { value: memory(256), length: memory(4) };
  tcpInfo.length.ints[0] = 256;
  const { value, length } = tcpInfo,
    result = cGetsockopt.call(fd, IPPROTO_TCP, TCP_INFO, value.pointer, length.pointer);
  // The field is `tcpi_unacked`, which in a listening socket has this meaning.
  return result < 0 ? -errno[0] : value.ints[6];
}

// ---------------------------------------------------------------- socket addresses

/**
 * An address as the calls take it, with its length. `struct sockaddr_in` has 16 bytes: the family (2), the port
 * (2, the high byte first), the IPv4 address (4). `struct sockaddr_in6` has 28: the family, the port, a flow label
 * (4), the IPv6 address (16), a scope (4). See ip(7), ipv6(7).
 */
export interface SocketAddress {
  readonly memory: Memory;
  /** A `socklen_t`, as accept4(2) and getsockname(2) update it. */
  readonly length: Memory;
}

const SOCKADDR_SIZE = 28;
const cInetPton = cFunction("inet_pton", "int", "pointer", "pointer");

/** An address to be filled in by a call. */
export function socketAddress(): SocketAddress {
  const all = memory(32);
  return { memory: part(all, 0, SOCKADDR_SIZE), length: part(all, SOCKADDR_SIZE, 4) };
}

/** The addresses of a host, given by name or number, with a port. Throws ENOTFOUND if there is no such host. */
export async function resolveAddresses({ host, port }: Address): Promise<SocketAddress[]> {
  const found = await lookup(host, { all: true });
  return found.map(({ address, family }) => {
    const result = socketAddress(), { bytes } = result.memory, text = memory(64), isIPv6 = family === 6;
    text.bytes.set(new TextEncoder().encode(address));
    result.length.ints[0] = isIPv6 ? SOCKADDR_SIZE : 16;
    bytes[0] = isIPv6 ? AF_INET6 : AF_INET;
    bytes[2] = port >> 8;
    bytes[3] = port;
    const numeric = part(result.memory, isIPv6 ? 8 : 4, isIPv6 ? 16 : 4);
    // What it can't read stays 0, which is every address of the machine.
    if (cInetPton.call(bytes[0], text.pointer, numeric.pointer) !== 1) throw new Error(`not an address: ${address}`);
    return result;
  });
}

/** The family of an address: AF_INET or AF_INET6. */
export function familyOf({ memory: { bytes } }: SocketAddress): number {
  return bytes[0];
}

/** The port of an address. */
export function portOf({ memory: { bytes } }: SocketAddress): number {
  return bytes[2] << 8 | bytes[3];
}

/** An address as `HOST:PORT`. */
export function addressText(address: SocketAddress): string {
  const { bytes } = address.memory;
  if (bytes[0] === AF_INET) return formatAddress(bytes.subarray(4, 8).join("."), portOf(address));
  const groups = Array.from({ length: 8 }, (_, i) => (bytes[8 + 2 * i] << 8 | bytes[9 + 2 * i]).toString(16));
  // A URL knows how to shorten the longest run of zeros (RFC 5952).
  const { hostname } = new URL(`http://[${groups.join(":")}]`);
  return formatAddress(hostname.slice(1, -1), portOf(address));
}

/**
 * The first three of the eight steps: socket(2), bind(2), listen(2). Prints the ready line, and returns the descriptor;
 * or ends the process with a line that says why the address can't be had. `type` is SOCK_STREAM, with SOCK_NONBLOCK or
 * without.
 */
export async function openListener(where: Address, type: number): Promise<number> {
  try {
    const [address] = await resolveAddresses(where);
    const fd = must(socket(familyOf(address), type | SOCK_CLOEXEC, 0));
    // The port can be had again right after the server has ended; and no reply waits for another to be acknowledged.
    must(setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1));
    must(setOption(fd, IPPROTO_TCP, TCP_NODELAY, 1));
    must(bind(fd, address));
    must(listen(fd, 4096));
    must(getsockname(fd, address));
    ready(where.host, portOf(address));
    return fd;
  } catch (error) {
    return cannotListen(error);
  }
}

// ---------------------------------------------------------------- select, poll

const cSelect = cFunction("select", "int", "pointer", "pointer", "pointer", "pointer");
const cPoll = cFunction("poll", "pointer", "size", "int");

/** The largest descriptor that a `fd_set` of the C library has a bit for is one less. See select(2). */
export const FD_SETSIZE = 1024;

/** An `fd_set` in bytes. */
export const FD_SET_SIZE = FD_SETSIZE / 8;

/** Bit `fd` of an `fd_set`: 128 bytes, a bit for each descriptor below FD_SETSIZE. See select(2). */
export function FD_ISSET(fd: number, { ints }: Memory): boolean {
  return (ints[fd >> 5] & 1 << (fd & 31)) !== 0;
}

/** Sets the bit. A descriptor of FD_SETSIZE or more would be written past the end: here nothing is written. */
export function FD_SET(fd: number, { ints }: Memory): void {
  ints[fd >> 5] |= 1 << (fd & 31);
}

/** Clears the bit. */
export function FD_CLR(fd: number, { ints }: Memory): void {
  ints[fd >> 5] &= ~(1 << (fd & 31));
}

/** Memory for a `struct timeval`: seconds and microseconds, of 64 bits each. */
export function timeval(): Memory {
  return memory(16);
}

/** Sets a `struct timeval`, below 2^31 seconds. */
export function setTimeval({ ints }: Memory, milliseconds: number): void {
  ints[0] = milliseconds / 1000;
  ints[2] = milliseconds % 1000 * 1000;
}

/**
 * Waits until one of the descriptors below `count` whose bits are set is ready, or `timeout` has passed, which is a
 * `struct timeval` that Linux leaves the rest of the time in. The bits of the others are cleared; returns how many
 * are left. See select(2).
 */
export function select(count: number, read: Memory, write: Memory, timeout: Memory): number {
  const result = cSelect.call(count, read.pointer, write.pointer, NULL, timeout.pointer);
  return result < 0 ? -errno[0] : result;
}

/** What to wait for in poll(2), and what has come. */
export const POLLIN = 1, POLLOUT = 4;

/**
 * Fills in entry `index` of an array of `struct pollfd`, 8 bytes each: the descriptor (4), what to wait for (2), and
 * what has come (2), which starts as 0.
 */
export function setPollfd({ ints }: Memory, index: number, fd: number, events: number): void {
  ints[2 * index] = fd;
  ints[2 * index + 1] = events;
}

/** The descriptor of entry `index`. */
export function pollfdDescriptor({ ints }: Memory, index: number): number {
  return ints[2 * index];
}

/** What has come for entry `index`: POLLIN, POLLOUT, and unasked POLLERR (8) and POLLHUP (16); 0 is nothing. */
export function pollfdReady({ ints }: Memory, index: number): number {
  return ints[2 * index + 1] >> 16;
}

/** What entry `index` waits for. */
export function pollfdEvents({ ints }: Memory, index: number): number {
  return ints[2 * index + 1] & 0xffff;
}

/**
 * Waits until one of the `count` descriptors in `fds` is ready, at most `timeout` milliseconds. Returns how many
 * are. See poll(2).
 */
export function poll(fds: Memory, count: number, timeout: number): number {
  const result = cPoll.call(fds.pointer, count, timeout);
  return result < 0 ? -errno[0] : result;
}

// ---------------------------------------------------------------- epoll

export const EPOLLIN = 1, EPOLLOUT = 4, EPOLLET = 1 << 31;
export const EPOLL_CTL_ADD = 1, EPOLL_CTL_DEL = 2, EPOLL_CTL_MOD = 3;

const cEpollCreate1 = cFunction("epoll_create1", "int");
const cEpollCtl = cFunction("epoll_ctl", "int", "int", "int", "pointer");
const cEpollWait = cFunction("epoll_wait", "int", "pointer", "int", "int");

/** `struct epoll_event`, in 32-bit integers: the events, and 64 bits of data that on x86-64 follow without a gap. */
const EPOLL_EVENT_INTS = process.arch === "x64" ? 3 : 4;

/** Memory for so many of `struct epoll_event`. */
export function epollEvents(count: number): Memory {
  return memory(count * EPOLL_EVENT_INTS * 4);
}

/** The descriptor that entry `index` is about: what `epoll_ctl` was given as data. */
export function descriptorOf({ ints }: Memory, index: number): number {
  return ints[(index + 1) * EPOLL_EVENT_INTS - 2];
}

/** The number that `epoll_ctl` was given beside the descriptor of entry `index`. */
export function numberOf({ ints }: Memory, index: number): number {
  return ints[(index + 1) * EPOLL_EVENT_INTS - 1];
}

/** Creates an epoll instance and returns its descriptor. See epoll_create1(2). */
export function epoll_create1(flags: number): number {
  const result = cEpollCreate1.call(flags);
  return result < 0 ? -errno[0] : result;
}

let controlEvent: Memory | undefined;

/**
 * Adds, changes or deletes what is waited for on a descriptor, which is also the data of its events, with a `number`
 * that is free to use. See epoll_ctl(2).
 */
export function epoll_ctl(epoll: number, operation: number, fd: number, events: number, number = 0): number {
  const { ints, pointer } = controlEvent ??= epollEvents(1);
  ints[0] = events;
  ints[EPOLL_EVENT_INTS - 2] = fd;
  ints[EPOLL_EVENT_INTS - 1] = number;
  const result = cEpollCtl.call(epoll, operation, fd, pointer);
  return result < 0 ? -errno[0] : result;
}

/**
 * Waits until something is ready, at most `timeout` milliseconds, and puts up to `count` events in `events`.
 * Returns how many. See epoll_wait(2).
 */
export function epoll_wait(epoll: number, events: Memory, count: number, timeout: number): number {
  const result = cEpollWait.call(epoll, events.pointer, count, timeout);
  return result < 0 ? -errno[0] : result;
}

// ---------------------------------------------------------------- signals

/** "I/O possible", and the first of the real-time signals, which queue; see signal(7). */
export const SIGIO = 29, SIGRTMIN = 34;

const cSignal = cFunctionToAddress("signal", "int", "pointer");
const cPthreadSigmask = cFunction("pthread_sigmask", "int", "pointer", "pointer");
const cSigtimedwait = cFunction("sigtimedwait", "pointer", "pointer", "pointer");
const cGettid = cFunction("gettid");
const cFcntl = cFunction("fcntl", "int", "int", "int");
const cFcntlPointer = cFunction("fcntl", "int", "int", "pointer");

/** A `sigset_t`: 128 bytes, a bit for each signal, that of signal 1 first. See sigsetops(3). */
export function sigset(...signals: number[]): Memory {
  const set = memory(128);
  for (const signal of signals) set.ints[signal - 1 >> 5] |= 1 << (signal - 1 & 31);
  return set;
}

/** Has the process ignore a signal, unless a thread blocks it: there it waits as before. See signal(2). */
export function ignoreSignal(signal: number): number {
  const SIG_IGN = 1;
  return cSignal.call(signal, toPointer(SIG_IGN)) < 0 ? -errno[0] : 0;
}

/** Has the signals of a set wait until this thread takes them, instead of interrupting it. See pthread_sigmask(3). */
export function blockSignals(set: Memory): number {
  const SIG_BLOCK = 0;
  return -cPthreadSigmask.call(SIG_BLOCK, set.pointer, NULL);
}

/** The number by which the kernel knows this thread. See gettid(2). */
export function gettid(): number {
  return cGettid.call();
}

let signalTimeout: Memory | undefined;

/**
 * Takes the next of the signals in `set` that wait for this thread, the lowest number first; waits for one at most
 * `timeout` milliseconds, and returns -EAGAIN if none has come. `info` is filled in. See sigtimedwait(2).
 */
export function sigtimedwait(set: Memory, info: Memory, timeout: number): number {
  // A `struct timespec`: seconds and nanoseconds, of 64 bits each.
  const { ints, pointer } = signalTimeout ??= memory(16);
  ints[0] = timeout / 1000;
  ints[2] = timeout % 1000 * 1_000_000;
  const result = cSigtimedwait.call(set.pointer, info.pointer, pointer);
  return result < 0 ? -errno[0] : result;
}

/** Memory for a `siginfo_t`, 128 bytes: what is known of a signal. See sigaction(2). */
export function siginfo(): Memory {
  return memory(128);
}

/** The descriptor that a signal is about, and what it tells of it, as POLL_IN: `si_fd`, `si_code` in sigaction(2). */
export function signalled({ ints }: Memory): { fd: number; code: string } {
  const codes = ["", "POLL_IN", "POLL_OUT", "POLL_MSG", "POLL_ERR", "POLL_PRI", "POLL_HUP"];
  return { fd: ints[6], code: codes[ints[2]] ?? `code ${ints[2]}` };
}

/** What fcntl(2) is asked for, and flags of a descriptor. */
export const F_SETFL = 4, F_SETSIG = 10, F_SETOWN_EX = 15, O_NONBLOCK = 0o4000, O_ASYNC = 0o20000;

/** Sets something about a descriptor to a number. See fcntl(2). */
export function fcntl(fd: number, command: number, value: number): number {
  const result = cFcntl.call(fd, command, value);
  return result < 0 ? -errno[0] : result;
}

let owner: Memory | undefined;

/** F_SETOWN_EX: says which thread, by its number, gets a descriptor's signals. See fcntl(2). */
export function setOwner(fd: number, thread: number): number {
  const F_OWNER_TID = 0;
  // A `struct f_owner_ex`: what kind of owner (4 bytes), and its number (4).
  owner ??= memory(8);
  owner.ints[0] = F_OWNER_TID;
  owner.ints[1] = thread;
  const result = cFcntlPointer.call(fd, F_SETOWN_EX, owner.pointer);
  return result < 0 ? -errno[0] : result;
}

// ---------------------------------------------------------------- processes

const cRead = cFunction("read", "int", "pointer", "size");
const cWrite = cFunction("write", "int", "pointer", "size");

/** Reads up to `size` bytes from whatever a descriptor stands for, and returns how many; 0 is the end. See read(2). */
export function read(fd: number, buffer: Memory, size: number): number {
  const result = cRead.call(fd, buffer.pointer, size);
  return result < 0 ? -errno[0] : result;
}

/** Writes up to `size` bytes and returns how many were taken. See write(2). */
export function write(fd: number, buffer: Memory, size: number): number {
  const result = cWrite.call(fd, buffer.pointer, size);
  return result < 0 ? -errno[0] : result;
}

const cClockGettime = cFunction("clock_gettime", "int", "pointer");
const cSigaction = cFunction("sigaction", "int", "pointer", "pointer");

export const CLOCK_MONOTONIC = 1, SIGHUP = 1, SIGCHLD = 17;

/** Fills in a `struct timespec`: seconds and nanoseconds, of 64 bits each. See clock_gettime(2). */
export function clock_gettime(clock: number, time: Memory): number {
  const result = cClockGettime.call(clock, time.pointer);
  return result < 0 ? -errno[0] : result;
}

/** Says what the process does on a signal, and fills in what it did before. See sigaction(2). */
export function sigaction(signal: number, action: Memory, old: Memory): number {
  const result = cSigaction.call(signal, action.pointer, old.pointer);
  return result < 0 ? -errno[0] : result;
}

const SYS_pidfd_open = 434;
const cPidfdOpen = cFunction("syscall", "int", "int", "int");

/** Returns a descriptor for a process, which is ready to be read from once that has ended. See pidfd_open(2). */
export function pidfd_open(pid: number): number {
  const result = cPidfdOpen.call(SYS_pidfd_open, pid, 0);
  return result < 0 ? -errno[0] : result;
}

// ---------------------------------------------------------------- the runtime beside a blocking loop

let lastTurn = 0;

/** Whether the runtime has had no turn for 100 ms. */
export function turnIsDue(): boolean {
  return performance.now() - lastTurn > 100;
}

/**
 * Lets the runtime do what it can't do during a system call: run timers, and the handlers of signals. It takes a
 * turn of its event loop; nothing less serves all three.
 */
export async function runtimeTurn(): Promise<void> {
  await new Promise<void>((resolve) => setTimeout(() => setImmediate(resolve), 0));
  lastTurn = performance.now();
}
