// SPDX-License-Identifier: MIT
/** Functions of the C library under Bun: `bun:ffi`. */

import type * as ffi from "./ffi.ts";
import { process } from "./program.ts";

/** `bun:ffi`, which only Bun can import: the other runtimes refuse a file that names it in an import. */
function bunFFI(): typeof import("bun:ffi") {
  return process.getBuiltinModule("bun:ffi") as unknown as typeof import("bun:ffi");
}

// A size is declared with 32 bits: 64 would cost a BigInt per call, and nothing here is that large.
const types = { int: "i32", size: "u32", pointer: "ptr" } as const;

export function find(name: string, kinds: ffi.CKind[], result: "int" | "address"): ffi.Callable {
  const signature = { args: kinds.map((kind) => types[kind]), returns: result === "int" ? "i32" : "i64" } as const;
  return bunFFI().dlopen("libc.so.6", { [name]: signature }).symbols[name] as ffi.Callable;
}

export function toPointer(address: number): ffi.Pointer {
  return address;
}

export function toArrayBuffer(pointer: ffi.Pointer, size: number): ArrayBuffer {
  return bunFFI().toArrayBuffer(pointer as number, 0, size);
}
