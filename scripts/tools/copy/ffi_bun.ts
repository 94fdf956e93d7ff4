// SPDX-License-Identifier: MIT
/** Functions of the C library in a copy for Bun. */

import { dlopen, type Pointer, toArrayBuffer } from "bun:ffi";

export type CKind = "int" | "size" | "pointer";
export type Call = (...values: unknown[]) => number;

/** No address. */
export const NULL = { pointer: null as unknown };

/** Finds a function of the C library. */
export function find(name: string, kinds: CKind[], returns = "int"): Call {
  const types = { int: "i32", size: "u32", pointer: "ptr" } as const;
  const args = kinds.map((kind) => types[kind]);
  const result = returns === "int" ? "i32" : "i64";
  return dlopen("libc.so.6", { [name]: { args, returns: result } })
    .symbols[name] as unknown as Call;
}

/** An address as functions take it. */
export function toPointer(address: number): unknown {
  return address;
}

/** The bytes at an address. */
export function bytesAt(address: number, size: number): ArrayBuffer {
  return toArrayBuffer(address as Pointer, 0, size);
}
