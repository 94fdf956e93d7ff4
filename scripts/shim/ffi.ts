// SPDX-License-Identifier: MIT
/** Functions of the C library through each runtime's FFI. Nothing of it is loaded before `load` is called. */

import * as bun from "./ffi_bun.ts";
import * as deno from "./ffi_deno.ts";
import * as node from "./ffi_node.ts";
import { fail, process, runtime } from "./program.ts";

/** An address in the form that the runtime's FFI takes. */
export type Pointer = unknown;
/** An `int`; a size or an unsigned number below 2^32; an address. */
export type Kind = "int" | "size" | "pointer";
/** An `int`, or a `ssize_t` that fits in one; or an address. */
export type Result = "int" | "address";
export type Callable = (...values: unknown[]) => number | bigint;

/** What the file of a runtime exports. */
interface Adapter {
  readonly NULL: Pointer;
  find(name: string, kinds: Kind[], result: Result): Callable;
  toPointer(address: number): Pointer;
  /** The bytes at an address, without a copy. */
  toArrayBuffer(pointer: Pointer, size: number): ArrayBuffer;
}

const adapters: Record<typeof runtime, Adapter> = { deno, bun, node };
const { find } = adapters[runtime];
export const { NULL, toPointer, toArrayBuffer } = adapters[runtime];

/** A function of the C library. */
interface CFunction<T> {
  call: (...values: unknown[]) => T;
}

const declared: { name: string; kinds: Kind[]; result: Result; found: CFunction<number | bigint> }[] = [];

/** Declares a function that returns an `int`. It can be called once `load` has found it. */
export function cFunction(name: string, ...kinds: Kind[]): CFunction<number> {
  const found = { call: () => 0 };
  declared.push({ name, kinds, result: "int", found });
  return found;
}

/** Declares a function that returns an address. */
export function cFunctionToAddress(name: string, ...kinds: Kind[]): CFunction<bigint> {
  const found = { call: () => 0n };
  declared.push({ name, kinds, result: "address", found });
  return found;
}

const cErrnoLocation = cFunctionToAddress("__errno_location");

/**
 * `errno` of this thread, at the address where the C library keeps it. Between a call and reading it there may be
 * nothing, not even a call of one of our own functions: that is where a runtime collects garbage or compiles.
 */
export let errno = new Int32Array(1);

/** Finds all functions that have been declared. Throws why that can't be: the platform, a permission, no FFI. */
export function load(): void {
  const { platform, arch } = process;
  if (platform !== "linux" || arch !== "x64" && arch !== "arm64") {
    throw new Error(`Linux on x86-64 or arm64 is needed, this is ${platform} on ${arch}`);
  }
  for (const { name, kinds, result, found } of declared) found.call = find(name, kinds, result);
  errno = new Int32Array(toArrayBuffer(toPointer(Number(cErrnoLocation.call())), 4));
}

/** Loads the C library's functions, or ends the process with a line that says what is needed. */
export function requireSystemCalls(): void {
  try {
    load();
  } catch (error) {
    fail("cannot make system calls", error);
  }
}
