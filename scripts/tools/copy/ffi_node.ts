// SPDX-License-Identifier: MIT
/** Functions of the C library in a copy for Node, which has to be 26.9 or later. */

import process from "node:process";

export type CKind = "int" | "size" | "pointer";

/** What is used of node:ffi, which is too new for the types of Node. */
interface FFI {
  dlopen(path: string, calls: object): { functions: Record<string, Call> };
  toArrayBuffer(address: bigint, size: number, copy: boolean): ArrayBuffer;
}
type Call = (...values: unknown[]) => number | bigint;

const ffi = process.getBuiltinModule("node:ffi") as FFI;

/** Finds a function of the C library. */
export function find(name: string, kinds: CKind[], returns = "int"): Call {
  const types = { int: "int32", size: "uint32", pointer: "pointer" };
  const result = returns === "int" ? "int32" : "int64";
  const call = { arguments: kinds.map((kind) => types[kind]), return: result };
  return ffi.dlopen("libc.so.6", { [name]: call }).functions[name];
}

/** The bytes at an address. */
export function bytesAt(address: number | bigint, size: number): ArrayBuffer {
  return ffi.toArrayBuffer(BigInt(address), size, false);
}
