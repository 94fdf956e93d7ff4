// SPDX-License-Identifier: MIT
/** Threads that compute: they are given bytes, and give back others. */

import { parentPort, type Worker } from "node:worker_threads";
import { fail } from "./end.ts";
import { threadSettings } from "./runtime.ts";
import { keepWorker, onPost, post } from "./worker.ts";

export type Bytes = Uint8Array<ArrayBuffer>;

/** A thread, as the one that gives it work sees it. */
export class Computer {
  readonly name: string;
  #worker: Worker;
  /** The connection that it computes for; 0 if it is free. */
  #id = 0;
  #done = (_: Bytes | null) => {};

  constructor(worker: Worker, name: string) {
    this.#worker = worker;
    this.name = name;
    onPost(worker, (buffer: ArrayBuffer) => this.finish(new Uint8Array(buffer)));
  }

  get isFree(): boolean {
    return this.#id === 0;
  }

  /** What it does, such as `w-1 computing for #3`. */
  get doing(): string {
    return `${this.name} ${this.isFree ? "free" : `computing for #${this.#id}`}`;
  }

  /** Has bytes of a connection computed: they are handed over, not copied. `null` if the thread has died of it. */
  compute(id: number, data: Bytes): Promise<Bytes | null> {
    this.#id = id;
    // The buffer: of an array a runtime may look at every element.
    post(this.#worker, { id, buffer: data.buffer }, [data.buffer]);
    return new Promise((resolve) => this.#done = resolve);
  }

  /** It has computed, or died. */
  finish(result: Bytes | null): void {
    this.#id = 0;
    this.#done(result);
  }
}

/**
 * Starts so many threads that run `script` (a module's `import.meta.url`). `changed` is called when one that has died
 * has been replaced. Ends the process if there are no threads to be had.
 */
export async function startComputers(script: string, count: number, changed: () => void): Promise<Set<Computer>> {
  const computers = new Set<Computer>();
  let started = 0;
  while (started < count) {
    await keepWorker(script, () => threadSettings(`w-${++started}`), (worker, { name }) => {
      const computer = new Computer(worker, name);
      computers.add(computer);
      changed();
      return () => {
        computers.delete(computer);
        computer.finish(null);
      };
    }).catch((error) => fail(`cannot start thread ${started} of ${count}`, error));
  }
  return computers;
}

/** In such a thread: computes what it is given with `compute`, which changes the bytes or leaves them. */
export function computeForOthers(compute: (id: number, data: Bytes) => void): void {
  onPost(parentPort!, ({ id, buffer }: { id: number; buffer: ArrayBuffer }) => {
    compute(id, new Uint8Array(buffer));
    post(parentPort!, buffer, [buffer]);
  });
  post(parentPort!, "ready");
}
