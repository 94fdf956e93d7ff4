// SPDX-License-Identifier: MIT
/** Functions of the C library in a copy for Node, which has to be 26.9 or later. */

import process from "node:process";

export type CKind = "int" | "size" | "pointer";
export type Call = (...values: unknown[]) => number;

/** What is used of node:ffi, which is too new for the types of Node. */
interface FFI {
  DynamicLibrary: new (path: string) => {
    getFunction(
      name: string,
      signature: { arguments: string[]; return: string },
    ): Call;
  };
  toArrayBuffer(pointer: bigint, size: number, copy: boolean): ArrayBuffer;
}

const ffi = process.getBuiltinModule("node:ffi") as FFI;

/** No address. */
export const NULL = { pointer: 0n as unknown };

/** Finds a function of the C library. */
export function find(name: string, kinds: CKind[], returns = "int"): Call {
  const types = { int: "int32", size: "uint32", pointer: "uint64" };
  return new ffi.DynamicLibrary("libc.so.6").getFunction(name, {
    arguments: kinds.map((kind) => types[kind]),
    return: returns === "int" ? "int32" : "int64",
  });
}

/** An address as functions take it. */
export function toPointer(address: number): unknown {
  return BigInt(address);
}

/** The bytes at an address. */
export function bytesAt(address: number, size: number): ArrayBuffer {
  return ffi.toArrayBuffer(BigInt(address), size, false);
}
