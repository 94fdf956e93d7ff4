// SPDX-License-Identifier: MIT
/** Processes that are made beforehand, in a copy. */

import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { BlockingThread } from "./blocking.ts";
import { cFunction } from "./ffi.ts";
import * as sys from "./sys.ts";

/** Prints an event: the process, what happens, to which connection, details. */
export function log(what: string, id: number, ...details: unknown[]): void {
  const place = process.env.ECHO_CHILD, name = place ? `p-${place}` : "main";
  // The standard error of a child is the standard output of its parent.
  const print = place ? console.error : console.log;
  print([name, what, ...id > 0 ? [`#${id}`] : [], ...details].join(" "));
}

/** The descriptor of a file in memory whose position all processes share. */
const BOARD = 3;
const SEEK_CUR = 1;
const lseek = cFunction("lseek", "int", "size", "int");

/** Counts the connections of all processes, from 1: see lseek(2). */
export function nextNumber(): number {
  return lseek(BOARD, 1, SEEK_CUR);
}

export class Preforked {
  /** The program that serves, and its arguments. */
  readonly command: string[];
  readonly board = sys.must(sys.memfd_create(sys.memory(4), 0));

  /** Each child runs `script`, a module's `import.meta.url`. */
  constructor(script: string) {
    const path = fileURLToPath(script);
    this.command = [process.execPath, "run", "-A", path]; // only deno
    this.command = [process.execPath, path]; // only bun node
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
  }
}

/** In a child: when the parent has ended, so does this process. */
export function joinPreforked(_: number): BlockingThread {
  sys.must(sys.prctl(sys.PR_SET_PDEATHSIG, sys.SIGKILL));
  if (process.ppid !== Number(process.env.ECHO_PARENT)) process.exit();
  return new BlockingThread({ listener: 0 });
}
