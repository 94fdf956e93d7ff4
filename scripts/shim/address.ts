// SPDX-License-Identifier: MIT
/** Addresses of sockets as the system calls take them, and a listening socket that has one. */

import { lookup } from "node:dns/promises";
import * as sys from "./calls.ts";
import { type Memory, memory, must, part } from "./ffi.ts";
import { cannotListen, formatAddress, ready } from "./program.ts";
import type { Address } from "./socket.ts";

/**
 * An address, with its length. `struct sockaddr_in` has 16 bytes: the family (2), the port (2, the high byte first),
 * the IPv4 address (4). `struct sockaddr_in6` has 28: the family, the port, a flow label (4), the IPv6 address (16), a
 * scope (4). See ip(7), ipv6(7).
 */
export interface SocketAddress extends Memory {
  /** A `socklen_t`, as accept4(2) and getsockname(2) update it. */
  readonly length: Memory;
}

const SOCKADDR_SIZE = 28;

/** An address to be filled in by a call. */
export function socketAddress(): SocketAddress {
  const all = memory(32), length = part(all, SOCKADDR_SIZE, 4);
  length.ints[0] = SOCKADDR_SIZE;
  return { ...part(all, 0, SOCKADDR_SIZE), length };
}

/** The addresses of a host, given by name or number, with a port. Throws ENOTFOUND if there is no such host. */
export async function resolveAddresses({ host, port }: Address): Promise<SocketAddress[]> {
  const found = await lookup(host, { all: true });
  return found.map(({ address, family }) => {
    const result = socketAddress(), { bytes } = result, text = memory(64), isIPv6 = family === 6;
    text.bytes.set(new TextEncoder().encode(address));
    result.length.ints[0] = isIPv6 ? SOCKADDR_SIZE : 16;
    bytes[0] = isIPv6 ? sys.AF_INET6 : sys.AF_INET;
    bytes[2] = port >> 8;
    bytes[3] = port;
    const numeric = part(result, isIPv6 ? 8 : 4, isIPv6 ? 16 : 4);
    // What it can't read stays 0, which is every address of the machine.
    if (sys.inet_pton(bytes[0], text, numeric) !== 1) throw new Error(`not an address: ${address}`);
    return result;
  });
}

/** The family of an address, AF_INET or AF_INET6; and the port. */
export const familyOf = ({ bytes }: SocketAddress): number => bytes[0];
export const portOf = ({ bytes }: SocketAddress): number => bytes[2] << 8 | bytes[3];

/** An address as `HOST:PORT`. */
export function addressText(address: SocketAddress): string {
  const { bytes } = address;
  if (bytes[0] === sys.AF_INET) return formatAddress(bytes.subarray(4, 8).join("."), portOf(address));
  const groups = Array.from({ length: 8 }, (_, i) => (bytes[8 + 2 * i] << 8 | bytes[9 + 2 * i]).toString(16));
  // A URL knows how to shorten the longest run of zeros (RFC 5952).
  const { hostname } = new URL(`http://[${groups.join(":")}]`);
  return formatAddress(hostname.slice(1, -1), portOf(address));
}

/**
 * The first three of the eight steps: socket(2), bind(2), listen(2). `type` is SOCK_STREAM with SOCK_NONBLOCK or
 * without; for `timeLimit` see `limitCalls`. Prints the ready line and returns the descriptor, or ends the process with
 * a line that says why the address can't be had (EADDRINUSE, EACCES, ENOTFOUND).
 */
export async function openListener(where: Address, type: number, timeLimit = Infinity): Promise<number> {
  try {
    const [address] = await resolveAddresses(where);
    const fd = must(sys.socket(familyOf(address), type | sys.SOCK_CLOEXEC, 0));
    // The port can be had again right after the server has ended; and no reply waits for another to be acknowledged.
    must(setOption(fd, sys.SOL_SOCKET, sys.SO_REUSEADDR, 1));
    must(setOption(fd, sys.IPPROTO_TCP, sys.TCP_NODELAY, 1));
    // Before a client can connect: connections inherit it.
    if (timeLimit < Infinity) limitCalls(fd, timeLimit);
    must(sys.bind(fd, address));
    must(sys.listen(fd, 4096));
    must(sys.getsockname(fd, address));
    ready(where.host, portOf(address));
    return fd;
  } catch (error) {
    return cannotListen(error);
  }
}

let int: Memory | undefined;

/** Sets an option that is an `int`. See setsockopt(2). */
export function setOption(fd: number, level: number, option: number, value: number): number {
  int ??= memory(4);
  int.ints[0] = value;
  return sys.setsockopt(fd, level, option, int, 4);
}

/**
 * Gives calls on a socket a time limit: then they return -EAGAIN, or how much was sent by then. The connections that a
 * listening socket accepts inherit it. See SO_RCVTIMEO in socket(7).
 */
export function limitCalls(fd: number, milliseconds: number): void {
  const timeout = memory(16);
  // A `struct timeval`: seconds and microseconds, of 64 bits each.
  timeout.ints[0] = milliseconds / 1000;
  timeout.ints[2] = milliseconds % 1000 * 1000;
  for (const option of [sys.SO_RCVTIMEO, sys.SO_SNDTIMEO]) {
    must(sys.setsockopt(fd, sys.SOL_SOCKET, option, timeout, 16));
  }
}
