// SPDX-License-Identifier: MIT
/** What a copy has of program.ts. */

import { writeSync } from "node:fs";
import { workerData } from "node:worker_threads";

/** Prints an event: what happens, to which connection (0 for none), details. */
export function log(event: string, id: number, ...details: unknown[]): void {
  console.log([event, ...id > 0 ? [`#${id}`] : [], ...details].join(" "));
}

const threadName: string = workerData?.name ?? "main";

/** Prints an event: the thread, what happens, to which connection, details. */
export function logInThread(
  event: string,
  id: number,
  ...details: unknown[]
): void {
  const words = [threadName, event, ...id > 0 ? [`#${id}`] : [], ...details];
  // console.log would hold back what a thread prints before it blocks.
  writeSync(1, `${words.join(" ")}\n`);
}

/** Bytes for the log: how many, and the first 60 of them as text. */
export function shown(data: Uint8Array): string {
  const text = new TextDecoder().decode(data.subarray(0, 60));
  return `${data.length} ${JSON.stringify(text)}`;
}

/** Prints what a wait has found: figures with their meanings, and a detail. */
export function logWait(
  event: string,
  figures: Record<string, number>,
  detail = () => "",
): void {
  const words = Object.entries(figures).map(([name, n]) => `${n} ${name}`);
  console.log(event, words.join(", "), detail());
}

/** Prints what `lines` returns, every so many seconds. */
export function heartbeat(
  event: string,
  seconds: number,
  lines: () => string[],
): void {
  setInterval(() => {
    for (const line of lines()) console.log(event, line);
  }, seconds * 1000);
}

const since = new WeakMap<object, number>();

/** Prints that something has to wait. */
export function logInLine(
  event: string,
  id: number,
  why: string,
  what: object,
): void {
  since.set(what, performance.now());
  log(event, id, why);
}

/** For the log: how long it had to wait, and how many still do. */
export function waited(what: object, left: number): string[] {
  const time = performance.now() - (since.get(what) ?? NaN);
  if (Number.isNaN(time)) return [];
  return [`after ${time.toFixed(1)} ms in line, ${left} wait now`];
}

/** What an error says. */
export function explain(error: unknown): string {
  return (error as Error).message;
}
