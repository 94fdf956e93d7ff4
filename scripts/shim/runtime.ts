// SPDX-License-Identifier: MIT
/** The runtime that executes a script, and what the threads of a process have in common. */

import { isMainThread, workerData } from "node:worker_threads";

/** Not imported: importing node:process makes Node switch the pipe behind its standard output to non-blocking. */
export const process: typeof globalThis.process = globalThis.process;

/** The runtime that executes this file. Deno and Bun look like Node too, so Node is what is left. */
export const runtime: "deno" | "bun" | "node" = "Deno" in globalThis ? "deno" : "Bun" in globalThis ? "bun" : "node";

/** What a thread knows of its process: it finds this in its workerData, beside what else its script puts there. */
export interface ThreadSettings {
  name: string;
  /** What the command line has been read as. */
  given: Record<string, unknown>;
  /** When the process started: milliseconds since 1970. */
  origin: number;
  /** See work.ts; 0 if nothing is burnt. */
  burnRate: number;
  /** Shared by all, prefork.ts's processes too: how many connections there were; whether one deals with the log's end. */
  counters: Int32Array<ArrayBufferLike>;
  /** The descriptor of the log. */
  output: number;
  /** What is counted of a loop, in memory that all threads see: see ACCEPTED, OPEN and MESSAGES. */
  counts?: Int32Array;
}

/** What this thread knows. */
export const self: ThreadSettings = isMainThread
  ? {
    name: "main",
    given: {},
    origin: performance.timeOrigin,
    burnRate: 0,
    counters: new Int32Array(new SharedArrayBuffer(8)),
    output: 1,
  }
  : { ...workerData };

/** For a thread that the calling one starts. */
export function threadSettings(name: string): ThreadSettings {
  // Whoever starts later reads a clock that may have been set since.
  const step = Date.now() - performance.now() - performance.timeOrigin;
  return { ...self, name, origin: self.origin + (Math.abs(step) > 2 ? step : 0) };
}

/** Milliseconds since the process started, by a clock that setting the system's time does not move. */
export function now(): number {
  return performance.timeOrigin - self.origin + performance.now();
}

/** Counts the connections of this process, from 1. */
export function nextNumber(): number {
  return Atomics.add(self.counters, 0, 1) + 1;
}

/** What is counted of a loop: clients that it was given, and has at present; messages that it has sent back. */
export const ACCEPTED = 0, OPEN = 1, MESSAGES = 2;

/** Counts something, if this thread is a loop that is counted. */
export function count(what: number, by = 1): void {
  if (self.counts) Atomics.add(self.counts, what, by);
}
