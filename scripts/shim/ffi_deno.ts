// SPDX-License-Identifier: MIT
/** Functions of the C library under Deno: `Deno.dlopen`. */

import type * as ffi from "./ffi.ts";

// A size is declared with 32 bits: 64 would cost a BigInt per call, and nothing here is that large.
const types = { int: "i32", size: "u32", pointer: "pointer" } as const;

export function find(name: string, kinds: ffi.CKind[], result: "int" | "address"): ffi.Callable {
  const parameters = kinds.map((kind) => types[kind]);
  return Deno.dlopen("libc.so.6", { call: { name, parameters, result: result === "int" ? "i32" : "i64" } })
    .symbols.call as ffi.Callable;
}

export function toPointer(address: number): ffi.Pointer {
  // Of no memory there is a pointer without the permission, too.
  return address === 0 ? null : Deno.UnsafePointer.create(BigInt(address));
}

export function toArrayBuffer(pointer: ffi.Pointer, size: number): ArrayBuffer {
  return Deno.UnsafePointerView.getArrayBuffer(pointer as Deno.PointerObject, size);
}
