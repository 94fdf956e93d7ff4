// SPDX-License-Identifier: MIT
/** What a copy has of program.ts. */

import { writeSync } from "node:fs";
import process from "node:process";
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
  for (;;) { // tag: node
    try { // tag: node
      writeSync(1, `${words.join(" ")}\n`);
      return; // tag: node
    } catch (error) { // tag: node
      // Node makes a pipe non-blocking for console.log: here it is full. // tag: node
      if ((error as { code?: string }).code !== "EAGAIN") throw error; // tag: node
    } // tag: node
  } // tag: node
}

/** Prints an event: what happens, to which connection, details. */
export function logInChild(event: string, id: number, ...details: unknown[]): void {
  // The standard output of a child is its client's socket.
  const print = process.env.ECHO_CHILD ? console.error : console.log;
  print([event, ...id > 0 ? [`#${id}`] : [], ...details].join(" "));
}

/** `HOST:PORT`. */
export function formatAddress(host: string, port: number): string {
  return `${host}:${port}`;
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

/** Prints why something has to wait, unless there is no reason to. */
export function logInLine(
  event: string,
  id: number,
  why: string,
  length: number,
  what: object,
  more = "",
): void {
  if (!why) return;
  since.set(what, performance.now());
  log(event, id, `${why}, ${length} in line${more}`);
}

/** For the log: how long it had to wait, and how many still do. */
export function waited(what: object, left: number): string[] {
  const time = performance.now() - (since.get(what) ?? NaN);
  if (Number.isNaN(time)) return [];
  return [`after ${time.toFixed(1)} ms in line, ${left} wait now`];
}

/** Prints that the server is ready. */
export function ready(host: string, port: number): void {
  console.log(`listening on ${host}:${port}`);
}

const numbers: Int32Array = workerData?.numbers ?? new Int32Array(new SharedArrayBuffer(4));

/** Counts the connections of all threads, from 1. */
export function nextNumber(): number {
  return Atomics.add(numbers, 0, 1) + 1;
}

/** What is counted of a loop: clients that it was given, and has; messages. */
export const ACCEPTED = 0, OPEN = 1, MESSAGES = 2;

/** Whether a message begins with `light`. */
export function isLight(data: Uint8Array): boolean {
  return new TextDecoder().decode(data.subarray(0, 5)) === "light";
}

/** Computes for so many milliseconds, unless the message is light. */
export function burn(id: number, milliseconds: number, data: Uint8Array): void {
  if (milliseconds === 0 || isLight(data)) return;
  log("work", id, milliseconds, "ms");
  for (const end = performance.now() + milliseconds; performance.now() < end;);
}

/** How many there are, and which. */
export function list(items: string[]): string {
  return `${items.length}: ${items.join(", ")}`;
}

/** What a thread is told. */
export interface ThreadSettings {
  readonly name: string;
  readonly numbers: Int32Array;
}

/** For a thread with this name. */
export function threadSettings(name: string): ThreadSettings {
  return { name, numbers };
}

/** What an error says. */
export function explain(error: unknown): string {
  return (error as Error).message;
}
