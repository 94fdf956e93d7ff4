// SPDX-License-Identifier: MIT
/** Addresses in a copy: a `struct sockaddr_in`, see ip(7). */

import * as sys from "./calls.ts";
import { type Memory, memory, must } from "./ffi.ts";

export type SocketAddress = Memory;

/** An address to be filled in by a call: a `struct sockaddr_in`, see ip(7). */
export function socketAddress(): Memory {
  return memory(16);
}

/** An address as `HOST:PORT`. */
export function addressText({ bytes }: Memory): string {
  return `${bytes.subarray(4, 8).join(".")}:${bytes[2] << 8 | bytes[3]}`;
}

/** The address of an IPv4 host, and a port. */
export function resolveAddresses(host: string, port: number): Memory[] {
  const address = socketAddress(), parts = host.split(".").map(Number);
  address.bytes.set([sys.AF_INET, 0, port >> 8, port, ...parts]);
  return [address];
}

/** The family of an address. */
export function familyOf({ bytes }: Memory): number {
  return bytes[0];
}

/** The port of an address. */
export function portOf({ bytes }: Memory): number {
  return bytes[2] << 8 | bytes[3];
}

/** The first three steps: socket(2), bind(2), listen(2). */
export function openListener(host: string, port: number, type: number): number {
  type |= sys.SOCK_CLOEXEC; // only processes
  const fd = must(sys.socket(sys.AF_INET, type, 0));
  const [address] = resolveAddresses(host, port);
  // The port can be bound again at once; and no reply waits to be sent.
  must(setOption(fd, sys.SOL_SOCKET, sys.SO_REUSEADDR, 1));
  must(setOption(fd, sys.IPPROTO_TCP, sys.TCP_NODELAY, 1));
  must(sys.bind(fd, address));
  must(sys.listen(fd, 4096));
  must(sys.getsockname(fd, address));
  console.log(`listening on ${addressText(address)}`);
  return fd;
}

/** Sets an option that is an `int`. See setsockopt(2). */
export function setOption(fd: number, level: number, option: number, n: number) {
  const int = memory(4);
  int.ints[0] = n;
  return sys.setsockopt(fd, level, option, int, 4);
}
