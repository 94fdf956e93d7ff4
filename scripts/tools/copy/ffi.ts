// SPDX-License-Identifier: MIT
/** The C library in a copy: its functions as a table, and memory for them. */

import { getSystemErrorName } from "node:util";
import { bytesAt, type CKind, find, NULL, toPointer } from "./ffi_deno.ts";

/** Where the C library keeps the number of this thread's last error. */
const errno = new Int32Array(bytesAt(Number(find("__errno_location", [], "address")()), 4));

/** What a function takes: numbers, memory, or an address with its length. */
export type Kind = CKind | "address" | "filled";
export type Value = number | { pointer: unknown; length?: Memory };

/**
 * A function of the C library. It returns the negative number of an error if
 * it fails, as the kernel itself does.
 */
export function cFunction(name: string, ...kinds: Kind[]) {
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
export function must(returned: number): number {
  if (returned < 0) throw systemError(returned);
  return returned;
}

/** What a call returned, as an error. */
export function systemError(returned: number): Error {
  return new Error(getSystemErrorName(returned));
}

/** Memory that no garbage collector moves. */
export interface Memory {
  readonly address: number;
  readonly pointer: unknown;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same bytes as 32-bit integers. */
  readonly ints: Int32Array<ArrayBuffer>;
}

const mmap = find("mmap", ["pointer", "size", "int", "int", "int", "size"], "address");

/** Memory of `size` bytes, a multiple of 4, all of them 0. See mmap(2). */
export function memory(size: number): Memory {
  const PROT_READ = 1, PROT_WRITE = 2, MAP_PRIVATE = 2, MAP_ANONYMOUS = 32;
  const address = mmap(NULL.pointer, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memoryAt(Number(address), size);
}

/** Memory that a descriptor stands for. See mmap(2). */
export function mapped(fd: number, offset: number, size: number): Memory {
  const PROT_READ = 1, PROT_WRITE = 2, MAP_SHARED = 1, MAP_POPULATE = 32_768;
  const address = mmap(NULL.pointer, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset);
  return memoryAt(Number(address), size);
}

/** A part of other memory. */
export function part({ address }: Memory, offset: number, size: number): Memory {
  return memoryAt(address + offset, size);
}

function memoryAt(address: number, size: number): Memory {
  const buffer = bytesAt(address, size);
  return { address, pointer: toPointer(address), bytes: new Uint8Array(buffer), ints: new Int32Array(buffer) };
}
