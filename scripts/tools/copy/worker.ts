// SPDX-License-Identifier: MIT
/** What a copy has of threads. */

import { once } from "node:events";
import { writeSync } from "node:fs";
import { URL } from "node:url";
import { type MessagePort, Worker, workerData } from "node:worker_threads";
import "./program.ts";

/** Prints an event: the thread, what happens, to which connection, details. */
export function log(what: string, id: number, ...details: unknown[]): void {
  const name = workerData?.name ?? "main";
  const words = [name, what, ...id > 0 ? [`#${id}`] : [], ...details];
  // console.log would hold back what a thread prints before it blocks.
  for (;;) { // only node
    try { // only node
      writeSync(1, `${words.join(" ")}\n`);
      return; // only node
    } catch (error) { // only node
      // Node makes a pipe non-blocking for console.log: here it is full. // only node
      if ((error as { code?: string }).code !== "EAGAIN") throw error; // only node
    } // only node
  } // only node
}

/** Prints what a wait has found: figures with their meanings. */
export function logWait(call: string, figures: object): void { // only reactors
  const words = Object.entries(figures).map(([name, n]) => `${n} ${name}`); // only reactors
  log(call, 0, words.join(", ")); // only reactors
} // only reactors

export const numbers: Int32Array = workerData?.numbers ?? new Int32Array(new SharedArrayBuffer(4));

/** Counts the connections of all threads, from 1. */
export function nextNumber(): number {
  return Atomics.add(numbers, 0, 1) + 1;
}

/** Starts a thread that runs `script`, and waits for its first message. */
export async function startWorker(script: string, data: object): Promise<Worker> {
  const worker = new Worker(new URL(script), { workerData: data });
  await once(worker, "message");
  return worker;
}

export function post(to: MessagePort, what: unknown): void {
  to.postMessage(what);
}
