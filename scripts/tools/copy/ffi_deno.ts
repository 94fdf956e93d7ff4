// SPDX-License-Identifier: MIT
/** Functions of the C library in a copy for Deno. */

export type CKind = "int" | "size" | "pointer";
export type Call = (...values: unknown[]) => number;

/** No address. */
export const NULL = { pointer: null as unknown };

/** Finds a function of the C library. */
export function find(name: string, kinds: CKind[], returns = "int"): Call {
  const types = { int: "i32", size: "u32", pointer: "pointer" } as const;
  const parameters = kinds.map((kind) => types[kind]);
  const result = returns === "int" ? "i32" : "i64";
  return Deno.dlopen("libc.so.6", { call: { name, parameters, result } })
    .symbols.call as Call;
}

/** An address as functions take it. */
export function toPointer(address: number): unknown {
  return Deno.UnsafePointer.create(BigInt(address));
}

/** The bytes at an address. */
export function bytesAt(address: number, size: number): ArrayBuffer {
  const pointer = Deno.UnsafePointer.create(BigInt(address));
  return Deno.UnsafePointerView.getArrayBuffer(pointer!, size);
}
