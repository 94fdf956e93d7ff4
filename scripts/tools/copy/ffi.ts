// SPDX-License-Identifier: MIT
/** The C library in a copy: its functions as a table, and memory for them. */

import { getSystemErrorName } from "node:util";
import { bytesAt, type CKind, find } from "./ffi_deno.ts";

/** Where the C library keeps the number of this thread's last error. */
const errno = new Int32Array(bytesAt(find("__errno_location", [], "address")(), 4));

/** Memory of `size` bytes, a multiple of 4, also as 32-bit integers. */
export function memory(size: number) {
  const buffer = new ArrayBuffer(size);
  return { bytes: new Uint8Array(buffer), ints: new Int32Array(buffer) };
}

export type Memory = ReturnType<typeof memory>;

/** No address. */
export const NULL = { bytes: null };

/** What a function takes; an address goes with its length. */
const parameters: Record<string, CKind[]> = {
  int: ["int"],
  size: ["size"],
  pointer: ["pointer"],
  address: ["pointer", "size"],
  filled: ["pointer", "pointer"],
};
const length = new Int32Array([16]);
const lengths: Record<string, unknown[]> = { address: [16], filled: [length] };

/**
 * A function of the C library. It returns the negative number of an error if
 * it fails, as the kernel itself does.
 */
export function cFunction(name: string, ...kinds: string[]) {
  const call = find(name, kinds.flatMap((kind) => parameters[kind]));
  return (...values: (number | { bytes: Uint8Array | null })[]): number => {
    const result = call(
      ...values.flatMap((value, i) => typeof value === "number" ? value : [value.bytes, ...lengths[kinds[i]] ?? []]),
    );
    // At once, before anything else changes it.
    return result < 0 ? -errno[0] : Number(result);
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
