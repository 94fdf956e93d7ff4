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

export const NULL: ffi.Pointer = 0n;

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

/**
 * Node calls functions of up to three parameters fast, and of seven or more if all are plain integers; those between
 * take three times as long. So they get zeros behind: a C function does not look at what it hasn't declared. Each has
 * a function of its own for that, for V8 makes a call fast where it always sees the same one.
 */
export function find(name: string, kinds: ffi.Kind[], result: ffi.Result): ffi.Callable {
  const padding = kinds.length > 3 ? Array.from({ length: 7 - kinds.length }, () => "int32") : [];
  const call = new (nodeFFI().DynamicLibrary)("libc.so.6").getFunction(name, {
    arguments: [...kinds.map((kind) => types[kind]), ...padding],
    return: result === "int" ? "int32" : "int64",
  });
  if (padding.length === 0) return call;
  const values = kinds.map((_, i) => `value${i}`);
  return new Function("call", `return (${values}) => call(${[...values, ...padding.map(() => 0)]})`)(call);
}

export function toPointer(address: number): ffi.Pointer {
  return BigInt(address);
}

export function toArrayBuffer(pointer: ffi.Pointer, size: number): ArrayBuffer {
  return nodeFFI().toArrayBuffer(pointer as bigint, size, false);
}
