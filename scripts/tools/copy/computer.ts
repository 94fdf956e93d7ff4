// SPDX-License-Identifier: MIT
/** Threads that compute, in a copy. */

import { once } from "node:events";
import { URL } from "node:url";
import { parentPort, Worker } from "node:worker_threads";
import { log } from "./program.ts";

export type Bytes = Uint8Array<ArrayBuffer>;

/** A thread that computes, as the one that gives it work sees it. */
export class Computer {
  readonly name: string;
  isFree = true;
  #worker: Worker;

  constructor(script: string, name: string) {
    this.name = name;
    this.#worker = new Worker(new URL(script), { workerData: { name } });
  }

  /** Has bytes of a connection computed: handed over, not copied. */
  async compute(id: number, data: Bytes): Promise<Bytes> {
    this.isFree = false;
    this.#worker.postMessage({ id, data }, [data.buffer]);
    const [reply] = await once(this.#worker, "message");
    this.isFree = true;
    return reply;
  }
}

/** Starts so many threads that run `script`, a module's `import.meta.url`. */
export function startComputers(script: string, count: number): Set<Computer> {
  const names = Array.from({ length: count }, (_, i) => `w-${i + 1}`);
  return new Set(names.map((name) => new Computer(script, name)));
}

/** In such a thread: computes what it is given, and gives it back. */
export function computeForOthers(compute: (id: number, data: Uint8Array) => void): void {
  parentPort!.on("message", ({ id, data }) => {
    compute(id, data);
    parentPort!.postMessage(data, [data.buffer]);
  });
}

/** Prints why a message has to wait, unless there is no reason to. */
export function logInLine(_what: string, id: number, why: string, n: number): void {
  if (why) log("queue", id, `${why}, ${n} in line`);
}
