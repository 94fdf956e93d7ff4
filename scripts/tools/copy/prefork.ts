// SPDX-License-Identifier: MIT
/** Processes that are made beforehand, in a copy. */

import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { BlockingThread } from "./blocking.ts";
import { bytesAt, find } from "./ffi_deno.ts";
import * as sys from "./sys.ts";

/** The descriptor by which a child gets the memory that all share. */
const BOARD = 3;

const PROT_READ = 1, PROT_WRITE = 2, MAP_SHARED = 1;
const mmap = find(
  "mmap",
  ["pointer", "size", "int", "int", "int", "size"],
  "address",
);

/** How many clients all processes have accepted. */
let numbers: Int32Array = new Int32Array(1);

/** Prints an event: the process, what happens, to which connection, details. */
export function log(what: string, id: number, ...details: unknown[]): void {
  const place = process.env.ECHO_CHILD, print = place ? console.error : console.log;
  print(place ? `p-${place}` : "main", what, ...id > 0 ? [`#${id}`] : [], ...details);
}

export class Preforked {
  /** The program that serves, and its arguments. */
  readonly command: string[];
  /** The memory that all share, as a descriptor. */
  readonly board: number;

  /** Each child runs `script`, a module's `import.meta.url`. */
  constructor(script: string) {
    const path = fileURLToPath(script);
    this.command = [process.execPath, "run", "-A", path]; // only deno
    this.command = [process.execPath, path]; // only bun node
    this.board = sys.must(sys.memfd_create(sys.memory(4), 0));
    sys.must(sys.ftruncate(this.board, 4));
  }

  /** Starts the child of a place, and waits until it has ended. */
  async run(
    place: number,
    listener: number,
    spawn: (input: number, settings: object) => ChildProcess,
  ): Promise<void> {
    const told = { ECHO_CHILD: `${place}`, ECHO_PARENT: `${process.pid}` };
    const child = spawn(listener, { env: { ...process.env, ...told } });
    log("start", 0, `p-${place} process ${child.pid}`);
    const [code, signal] = await once(child, "exit");
    log("end", 0, `p-${place}: ${signal ?? `exit code ${code}`}`);
    // What fails at once would fail again.
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** In a child: when the parent has ended, so does this process. */
export function joinPreforked(_: number): BlockingThread {
  sys.must(sys.prctl(sys.PR_SET_PDEATHSIG, sys.SIGKILL));
  if (process.ppid !== Number(process.env.ECHO_PARENT)) process.exit();
  numbers = new Int32Array(bytesAt(
    mmap(null, 4, PROT_READ | PROT_WRITE, MAP_SHARED, BOARD, 0),
    4,
  ));
  return new BlockingThread({ listener: 0 });
}
