// SPDX-License-Identifier: MIT
/** Functions of the C library under Node: `node:ffi`. */

import type * as ffi from "./ffi.ts";
import { process } from "./program.ts";

/** What is used of `node:ffi`. */
interface NodeFFI {
  DynamicLibrary: new (path: string) => {
    getFunction(name: string, signature: { arguments: string[]; return: string }): ffi.Callable;
  };
  toArrayBuffer(pointer: bigint, size: number, copy: boolean): ArrayBuffer;
}

/** `node:ffi`, where Node has it. That it is experimental is no news to a person who runs the script. */
function nodeFFI(): NodeFFI {
  const { emitWarning } = process;
  Object.assign(process, { emitWarning: () => {} });
  const found = process.getBuiltinModule("node:ffi") as NodeFFI | undefined;
  Object.assign(process, { emitWarning });
  if (found) return found;
  throw new Error(`a Node with node:ffi is needed (26.9 or later), this one has none: ${process.version}`);
}

// A size is declared with 32 bits: 64 would cost a BigInt per call, and nothing here is that large.
const types = { int: "int32", size: "int32", pointer: "uint64" } as const;

export function find(name: string, kinds: ffi.CKind[], result: "int" | "address"): ffi.Callable {
  return new (nodeFFI().DynamicLibrary)("libc.so.6").getFunction(name, {
    arguments: kinds.map((kind) => types[kind]),
    return: result === "int" ? "int32" : "int64",
  });
}

export function toPointer(address: number): ffi.Pointer {
  return BigInt(address);
}

export function toArrayBuffer(pointer: ffi.Pointer, size: number): ArrayBuffer {
  return nodeFFI().toArrayBuffer(pointer as bigint, size, false);
}
