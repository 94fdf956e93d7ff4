// SPDX-License-Identifier: MIT
/**
 * What standalone.ts puts in the place of what is called the same in program.ts, where a copy is for an article: as
 * much as a reader needs in order to follow what happens. No script imports it.
 *
 * The ending of a name says which scripts it is for: `AtOnce` where threads block, `OfThread` where there are threads,
 * `Shared` where threads accept, `OfChild` where there are child processes, `Heavy` where there are light messages. It
 * goes before the same name without an ending. What program.ts has and this file has not is left out, with the
 * statement that uses it.
 */

import { writeSync } from "node:fs";
import process from "node:process";
import { workerData } from "node:worker_threads";

/** Prints an event: thread, what happens, the number of the connection (0 for none), and details. */
export function logAtOnce(event: string, id: number, ...details: unknown[]) {
  const number = id > 0 ? [`#${id}`] : [];
  const line = `${[threadName, event, ...number, ...details.map(shown)].join(" ")}\n`;
  // What a thread gives to console.log before it blocks would be held back.
  for (;;) {
    try {
      return void writeSync(1, line);
    } catch (error) {
      // The reader is slow, and the pipe full.
      if ((error as { code?: string }).code !== "EAGAIN") throw error;
    }
  }
}

/** Prints an event: thread, what happens, the number of the connection (0 for none), and details. */
export function logOfThread(event: string, id: number, ...details: unknown[]) {
  const number = id > 0 ? [`#${id}`] : [];
  console.log(threadName, event, ...number, ...details.map(shown));
}

/** Prints an event: what happens, the number of the connection (0 for none), and details. */
export function logOfChild(event: string, id: number, ...details: unknown[]) {
  // The standard output of a child is its client's socket.
  const print = process.env.ECHO_CHILD ? console.error : console.log;
  print(event, ...id > 0 ? [`#${id}`] : [], ...details.map(shown));
}

/** Prints an event: what happens, the number of the connection (0 for none), and details. */
export function log(event: string, id: number, ...details: unknown[]) {
  console.log(event, ...id > 0 ? [`#${id}`] : [], ...details.map(shown));
}

/** Bytes as text, as many of them as the number before them says. */
function shown(detail: unknown, i: number, details: unknown[]): unknown {
  if (detail instanceof Error) return detail.message;
  if (!(detail instanceof Uint8Array)) return detail;
  const data = detail.subarray(0, Math.min(60, Number(details[i - 1])));
  return JSON.stringify(new TextDecoder().decode(data));
}

/** Prints what a wait has found, as figures with their meanings, and a `detail`. */
export function logWait(event: string, figures: Record<string, number>, detail = () => "") {
  const words = Object.entries(figures).map(([name, value]) => `${value} ${name}`);
  console.log(event, words.join(", "), detail());
}

/** Prints what `lines` returns, every so many seconds. */
export function heartbeat(event: string, seconds: number, lines: () => string[]) {
  setInterval(() => {
    for (const line of lines()) log(event, 0, line);
  }, seconds * 1000);
}

/** Whether a message begins with `light`. */
export function isLight(data: Uint8Array) {
  return new TextDecoder().decode(data.subarray(0, 5)) === "light";
}

/** Burns CPU for so many milliseconds, unless a message is light. */
export function burnHeavy(id: number, milliseconds: number, data: Uint8Array) {
  if (milliseconds === 0 || isLight(data)) return;
  log("work", id, milliseconds, "ms");
  for (const end = performance.now() + milliseconds; performance.now() < end;);
}

/** Ends the process with a line that says what failed, and why. */
export function fail(what: string, why: unknown): never {
  console.error(what, why);
  process.exit(1);
}

/** Counts the connections of all threads, from 1. */
export function nextNumberShared() {
  return Atomics.add(numbers, 0, 1) + 1;
}

let connections = 0;

/** Counts the connections, from 1. */
export function nextNumber() {
  return ++connections;
}

/** What a thread finds in its workerData, beside what else the script puts there. */
export interface ThreadSettings {
  name: string;
  numbers: Int32Array;
}

export function threadSettingsShared(name: string): ThreadSettings {
  return { name, numbers };
}

export function threadSettings(name: string) {
  return { name };
}

const threadName: string = workerData?.name ?? "main";
const numbers: Int32Array = workerData?.numbers ?? new Int32Array(new SharedArrayBuffer(4));
