// SPDX-License-Identifier: MIT
/** Functions of the C library in a copy for Bun. */

import { dlopen, type Pointer, toArrayBuffer } from "bun:ffi";

export type CKind = "int" | "size" | "pointer";

/** Finds a function of the C library. */
export function find(name: string, kinds: CKind[], returns = "int") {
  const types = { int: "i32", size: "u32", pointer: "ptr" } as const;
  const args = kinds.map((kind) => types[kind]);
  const result = returns === "int" ? "i32" : "i64";
  const { symbols } = dlopen("libc.so.6", { [name]: { args, returns: result } });
  return symbols[name] as unknown as (...values: unknown[]) => number | bigint;
}

/** The bytes at an address. */
export function bytesAt(address: number | bigint, size: number): ArrayBuffer {
  return toArrayBuffer(Number(address) as Pointer, 0, size);
}
