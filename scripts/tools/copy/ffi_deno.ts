// SPDX-License-Identifier: MIT
/** Functions of the C library in a copy for Deno. */

export type CKind = "int" | "size" | "pointer";

/** Finds a function of the C library. */
export function find(name: string, kinds: CKind[], returns = "int") {
  const types = { int: "i32", size: "u32", pointer: "buffer" } as const;
  const parameters = kinds.map((kind) => types[kind]);
  const result = returns === "int" ? "i32" : "i64";
  const { symbols } = Deno.dlopen("libc.so.6", { call: { name, parameters, result } });
  return symbols.call as (...values: unknown[]) => number | bigint;
}

/** The bytes at an address. */
export function bytesAt(address: number | bigint, size: number): ArrayBuffer {
  const pointer = Deno.UnsafePointer.create(BigInt(address));
  return Deno.UnsafePointerView.getArrayBuffer(pointer!, size);
}
