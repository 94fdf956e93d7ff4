// SPDX-License-Identifier: MIT
/** Functions of the C library through each runtime's FFI, which `load` finds, and memory that they can be given. */

import * as util from "node:util";
import type { SocketAddress } from "./address.ts";
import * as bun from "./ffi_bun.ts";
import * as deno from "./ffi_deno.ts";
import * as node from "./ffi_node.ts";
import { fail, process, runtime } from "./program.ts";

/** An address in the form that the runtime's FFI takes. */
export type Pointer = unknown;
/** What C passes: an `int`; a size or an unsigned number below 2^32; an address. */
export type CKind = "int" | "size" | "pointer";
export type Callable = (...values: unknown[]) => number | bigint;

/** What the file of a runtime exports. */
interface Adapter {
  /** The function with this name. It returns an `int` (or a `ssize_t` that fits in one), or an address. */
  find(name: string, kinds: CKind[], result: "int" | "address"): Callable;
  toPointer(address: number): Pointer;
  /** The bytes at an address, without a copy. */
  toArrayBuffer(pointer: Pointer, size: number): ArrayBuffer;
}

const adapters: Record<typeof runtime, Adapter> = { deno, bun, node };
const { find, toArrayBuffer } = adapters[runtime];
export const { toPointer } = adapters[runtime];

/** No memory: an address that is 0. */
export const NULL: { readonly pointer: Pointer } = { pointer: toPointer(0) };

// ---------------------------------------------------------------- functions

/** How each kind of parameter is passed on to C. The last two are an address with its length, given and filled in. */
const kinds = {
  int: { c: ["int"], text: (name: string) => name },
  size: { c: ["size"], text: (name: string) => name },
  pointer: { c: ["pointer"], text: (name: string) => `${name}.pointer` },
  address: { c: ["pointer", "size"], text: (name: string) => `${name}.pointer, ${name}.length.ints[0]` },
  filled: { c: ["pointer", "pointer"], text: (name: string) => `${name}.pointer, ${name}.length.pointer` },
} satisfies Record<string, { c: CKind[]; text(name: string): string }>;

type Kind = keyof typeof kinds;

/** The values that a function takes whose parameters are of these kinds. */
type Values<K extends readonly Kind[]> = {
  [I in keyof K]: K[I] extends "int" | "size" ? number : K[I] extends "pointer" ? typeof NULL : SocketAddress;
};

const declared: { name: string; kinds: CKind[]; call?: Callable; errno?: Int32Array }[] = [];

/**
 * A function of the C library, for after `load`. It returns a result of 0 or more, or the negative error number.
 *
 * `errno` is read right after the call: the runtime's own system calls overwrite it, and any other JavaScript may cause
 * one, by a garbage collection for example. Each C function has JavaScript of its own, since V8 makes a call fast where
 * it always sees the same function.
 */
export function cFunction<const K extends readonly Kind[]>(name: string, ...of: K): (...values: Values<K>) => number {
  const own: typeof declared[number] = { name, kinds: of.flatMap((kind) => kinds[kind].c) };
  declared.push(own);
  const names = of.map((_, i) => `value${i}`), { length } = own.kinds;
  // Node takes three times as long for four to six parameters: a C function doesn't look at what it hasn't declared.
  const zeros = runtime === "node" && length > 3 && length < 7 ? new Array(7 - length).fill(0) : [];
  own.kinds.push(...zeros.map((): CKind => "int"));
  return new Function(
    "own",
    `return (${names}) => {
      const result = own.call(${[...of.map((kind, i) => kinds[kind].text(names[i])), ...zeros]});
      return result < 0 ? -own.errno[0] : result;
    }`,
  )(own);
}

let mmap: Callable, errno: Int32Array;

/** Finds all functions that have been declared. Throws why that can't be: the platform, a permission, no FFI. */
export function load(): void {
  const { platform, arch } = process;
  if (platform !== "linux" || arch !== "x64" && arch !== "arm64") {
    throw new Error(`Linux on x86-64 or arm64 is needed, this is ${platform} on ${arch}`);
  }
  // Where the C library keeps this thread's `errno`.
  errno = new Int32Array(toArrayBuffer(toPointer(Number(find("__errno_location", [], "address")())), 4));
  mmap = find("mmap", ["pointer", "size", "int", "int", "int", "size"], "address");
  for (const own of declared) Object.assign(own, { call: find(own.name, own.kinds, "int"), errno });
}

/** Loads the C library's functions, or ends the process with a line that says what is needed. */
export function requireSystemCalls(): void {
  try {
    load();
  } catch (error) {
    fail("cannot make system calls", error);
  }
}

/** What a call returned as an error, with its name in `code`, to be thrown or shown. */
export function systemError(returned: number): Error & { code: string } {
  const code = util.getSystemErrorName(returned);
  return Object.assign(new Error(code), { code });
}

/** Why a connection ends, when a call on its socket has returned this: 0, or an error. */
export function endReason(returned: number): unknown {
  return returned === 0 ? "by the client" : systemError(returned);
}

/** Passes on what a call returned, or throws it as an error. */
export function must(returned: number): number {
  if (returned < 0) throw systemError(returned);
  return returned;
}

// ---------------------------------------------------------------- memory

/** Memory that C code and the kernel can be given. A garbage collector never moves it. */
export interface Memory {
  /** Where it is, as a number: addresses have 47 or 48 bits. */
  readonly address: number;
  readonly pointer: Pointer;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same bytes as 32-bit integers. */
  readonly ints: Int32Array<ArrayBuffer>;
}

const PROT_READ = 1, PROT_WRITE = 2;
const MAP_SHARED = 1, MAP_PRIVATE = 2, MAP_ANONYMOUS = 32, MAP_POPULATE = 32_768;

/** Gets memory of `size` bytes, a multiple of 4, all 0, until the process ends. Throws if there is none. */
export function memory(size: number): Memory {
  return mapped(-1, 0, size, MAP_PRIVATE | MAP_ANONYMOUS);
}

/** Maps what a descriptor stands for, such as the rings of io_uring. Throws if that fails. See mmap(2). */
export function mapped(fd: number, offset: number, size: number, flags = MAP_SHARED | MAP_POPULATE): Memory {
  const address = mmap(NULL.pointer, size, PROT_READ | PROT_WRITE, flags, fd, offset);
  if (address < 0) throw systemError(-errno[0]);
  return memoryAt(Number(address), size);
}

/** Memory that is a part of other memory: `size` bytes of it, a multiple of 4. */
export function part({ address }: Memory, offset: number, size: number): Memory {
  return memoryAt(address + offset, size);
}

function memoryAt(address: number, size: number): Memory {
  const pointer = toPointer(address), buffer = toArrayBuffer(pointer, size);
  return { address, pointer, bytes: new Uint8Array(buffer), ints: new Int32Array(buffer) };
}
