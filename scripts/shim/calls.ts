// SPDX-License-Identifier: MIT
/**
 * System calls under their own names, as the C library has them, and their constants: each call is a line with the
 * kinds of its parameters, described in section 2 of the manual.
 *
 * A call returns what the kernel returned if that is 0 or more, and otherwise the negative error number, as the kernel
 * itself does: `recv(...) === -EAGAIN`. An address is passed with its length (address.ts).
 *
 * Names, numbers and layouts are those of Linux on x86-64 and arm64, both little-endian.
 */

import { cFunction } from "./ffi.ts";

const int = "int", size = "size", pointer = "pointer", address = "address", filled = "filled";

/** Error numbers, see errno(3). A call that fails returns one of them negated. */
export const EINTR = 4,
  EAGAIN = 11,
  EMFILE = 24,
  ECONNABORTED = 103,
  ECANCELED = 125;

// ---------------------------------------------------------------- sockets

export const AF_UNIX = 1, AF_INET = 2, AF_INET6 = 10, SOCK_STREAM = 1, SOCK_NONBLOCK = 0o4000, SOCK_CLOEXEC = 0o2000000;
export const SOL_SOCKET = 1, SO_REUSEADDR = 2, SO_RCVTIMEO = 20, SO_SNDTIMEO = 21;
export const IPPROTO_TCP = 6, TCP_NODELAY = 1, TCP_INFO = 11;
export const SHUT_WR = 1, SHUT_RDWR = 2;
export const SCM_RIGHTS = 1, MSG_CMSG_CLOEXEC = 1 << 30;

/** `(family, type, protocol)`: creates a socket and returns its descriptor. */
export const socket = cFunction("socket", int, int, int);
/** `(fd, address)`: gives a socket its address. */
export const bind = cFunction("bind", int, address);
/** `(fd, backlog)`: lets a socket take connections; up to `backlog` of them wait in the kernel to be accepted. */
export const listen = cFunction("listen", int, int);
/** `(fd, peer, flags)`: takes a connection out of the backlog, fills in its `peer`, and returns its descriptor. */
export const accept4 = cFunction("accept4", int, filled, int);
/** `(fd, address)`: connects a socket; a non-blocking one returns -EINPROGRESS, and is writable once it is connected. */
export const connect = cFunction("connect", int, address);
/** `(fd, buffer, size, flags)`: receives up to `size` bytes and returns how many; 0 is the end of the stream. */
export const recv = cFunction("recv", int, pointer, size, int);
/** `(fd, buffer, size, flags)`: sends up to `size` bytes and returns how many the kernel took: it may be fewer. */
export const send = cFunction("send", int, pointer, size, int);
/** `(fd, how)`: ends one direction of a connection, or both. */
export const shutdown = cFunction("shutdown", int, int);
/** `(fd)`: closes a descriptor. The next one that is opened may get the same number. */
export const close = cFunction("close", int);
/** `(fd, address)`: fills in the address that a socket is bound to. */
export const getsockname = cFunction("getsockname", int, filled);
/** `(fd, address)`: fills in the address of the other end. */
export const getpeername = cFunction("getpeername", int, filled);
/** `(fd, level, option, value, length)`: fills in `value`, whose size is the first integer of `length`. */
export const getsockopt = cFunction("getsockopt", int, int, int, pointer, pointer);
/** `(fd, level, option, value, size)`: sets an option to the first `size` bytes of `value`. See socket(7), tcp(7). */
export const setsockopt = cFunction("setsockopt", int, int, int, pointer, size);
/** `(family, text, address)`: reads an address in numbers; returns 1, or 0 if it is none. See inet_pton(3). */
export const inet_pton = cFunction("inet_pton", int, pointer, pointer);

/** `(family, type, protocol, fds)`: creates two sockets that are connected, and fills in their descriptors. */
export const socketpair = cFunction("socketpair", int, int, int, pointer);
/** `(fd, message, flags)`: sends a `struct msghdr`, descriptors among it: see SCM_RIGHTS in unix(7). */
export const sendmsg = cFunction("sendmsg", int, pointer, int);
/** `(fd, message, flags)`: receives one, and fills it in; 0 is the end of the stream. */
export const recvmsg = cFunction("recvmsg", int, pointer, int);

// ---------------------------------------------------------------- select, poll, epoll

/** What to wait for, and what has come: the same numbers for poll(2) and epoll(7). */
export const POLLIN = 1, POLLOUT = 4, EPOLLIN = 1, EPOLLOUT = 4, EPOLLET = 1 << 31;
export const EPOLL_CTL_ADD = 1, EPOLL_CTL_DEL = 2, EPOLL_CTL_MOD = 3;

/**
 * `(count, read, write, except, timeout)`: waits until one of the descriptors below `count` whose bits are set is
 * ready. Clears the bits of the others, and returns how many are left. Linux leaves the rest of the time in `timeout`.
 */
export const select = cFunction("select", int, pointer, pointer, pointer, pointer);
/** `(fds, count, milliseconds)`: waits until one of the first `count` entries is ready, and returns how many are. */
export const poll = cFunction("poll", pointer, size, int);
/** `(flags)`: creates an epoll instance and returns its descriptor. */
export const epoll_create1 = cFunction("epoll_create1", int);
/** `(epoll, operation, fd, event)`: adds, changes or deletes what is waited for on a descriptor. */
export const epoll_ctl = cFunction("epoll_ctl", int, int, int, pointer);
/** `(epoll, events, most, milliseconds)`: waits until descriptors are ready, fills in `events`, returns how many. */
export const epoll_wait = cFunction("epoll_wait", int, pointer, int, int);
/** `(initial, flags)`: returns a descriptor of a counter, which is readable while the counter isn't 0. */
export const eventfd = cFunction("eventfd", int, int);

// ---------------------------------------------------------------- signals

/** Signals: the terminal is gone, the end, a child has ended, "I/O possible", and the first of the real-time signals, which queue; see signal(7). */
export const SIGHUP = 1, SIGKILL = 9, SIGCHLD = 17, SIGIO = 29, SIGRTMIN = 34;
export const SIG_BLOCK = 0;
/** What fcntl(2) is asked for, and flags of a descriptor. */
export const F_SETFL = 4, F_SETSIG = 10, F_SETOWN_EX = 15, O_NONBLOCK = 0o4000, O_ASYNC = 0o20000;

/** `(fd, command, value)`: sets something about a descriptor to a number. */
export const fcntl = cFunction("fcntl", int, int, int);
/** `(fd, command, value)`: the same, where the value is a structure. */
export const fcntlPointer = cFunction("fcntl", int, int, pointer);
/** `()`: the number by which the kernel knows this thread. */
export const gettid = cFunction("gettid");
/** `(signal, action, old)`: says what the process does on a signal. */
export const sigaction = cFunction("sigaction", int, pointer, pointer);
/** `(how, set, old)`: changes which signals this thread blocks. Returns a positive error number: pthread_sigmask(3). */
export const pthread_sigmask = cFunction("pthread_sigmask", int, pointer, pointer);
/**
 * `(set, info, timeout)`: takes the next of the signals in `set` that wait for this thread, the lowest number first, and
 * waits for one until `timeout` has passed: then it returns -EAGAIN. `info` is filled in.
 */
export const sigtimedwait = cFunction("sigtimedwait", pointer, pointer, pointer);

// ---------------------------------------------------------------- files, processes

/** `(fd, buffer, size)`: reads up to `size` bytes of whatever it is, and returns how many; 0 is the end. */
export const read = cFunction("read", int, pointer, size);
/** `(fd, buffer, size)`: writes up to `size` bytes, and returns how many were taken. */
export const write = cFunction("write", int, pointer, size);

/** `(name, flags)`: creates a file in memory, which has no path, and returns its descriptor. */
export const memfd_create = cFunction("memfd_create", pointer, size);
/** `(fd, size)`: gives a file a size; what is new of it is 0. */
export const ftruncate = cFunction("ftruncate", int, size);
export const MFD_CLOEXEC = 1, PR_SET_PDEATHSIG = 1;
/** `(operation, value)`: with PR_SET_PDEATHSIG, which signal this process gets when its parent has ended. */
export const prctl = cFunction("prctl", int, size);

export const CLOCK_MONOTONIC = 1;

/** `(clock, time)`: fills in a `struct timespec`: seconds and nanoseconds, of 64 bits each. */
export const clock_gettime = cFunction("clock_gettime", int, pointer);

const syscall = cFunction("syscall", int, int, int);
const SYS_pidfd_open = 434;

/** Returns a descriptor for a process, which is ready to be read from once that has ended. See pidfd_open(2). */
export function pidfd_open(pid: number): number {
  return syscall(SYS_pidfd_open, pid, 0);
}
