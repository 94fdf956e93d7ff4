// SPDX-License-Identifier: MIT
/** What a script needs beside its sockets: options, the event log, and a clean end. */

import { writeSync } from "node:fs";
import { basename } from "node:path";
import process from "node:process";
import { getSystemErrorMap, parseArgs } from "node:util";
import { errorCode, formatAddress, runtime } from "./shim.ts";

// ---------------------------------------------------------------- options

/** An option: its default, what it means, and for a number the smallest and the largest allowed. */
export type Option =
  | readonly [initial: number, meaning: string, least?: number, most?: number]
  | readonly [initial: string | boolean, meaning: string];

/** The value of each option: a number, a string or a boolean, as its default is. */
export type Values<T> = {
  [K in keyof T]: T[K] extends readonly [number, ...unknown[]] ? number
    : T[K] extends readonly [boolean, ...unknown[]] ? boolean
    : string;
};

/** What `parseOptions` needs to know of a script. */
export interface Usage<T> {
  /** What the script shows, for `--help`. */
  about: string;
  /** A line or more to try it with, for `--help`. */
  example: string;
  options: T;
  /** What the command line may hold beside options, such as `[MESSAGE ...]`. Nothing unless given. */
  operands?: string;
}

/** The options of every server. */
export const serverOptions = {
  host: ["127.0.0.1", "address to listen on"],
  port: [9999, "port to listen on; 0 asks the system for a free one", 0, 65_535],
  idle: [300, "seconds a silent connection is kept; 0 = for ever"],
  quiet: [false, "print the ready line and errors, nothing else"],
} as const;

/**
 * Reads the command line, which may also ask for `--help`. Ends the process if that was asked for (0), if
 * there is a mistake in it (2), or if the runtime is too old (1). See node:util's `parseArgs`.
 */
export function parseOptions<const T extends Record<string, Option>>(
  { about, example, options, operands }: Usage<T>,
): Values<T> & { operands: string[] } {
  requireRuntime();
  const types = Object.fromEntries(
    Object.entries(options).map(([name, [initial]]) => [name, {
      type: typeof initial === "boolean" ? "boolean" as const : "string" as const,
    }]),
  );
  let given: Record<string, unknown>, rest: string[];
  try {
    ({ values: given, positionals: rest } = parseArgs({
      options: { ...types, help: { type: "boolean" } },
      allowPositionals: operands !== undefined,
    }));
  } catch (error) {
    // Node explains at length what else one may have meant; the first sentence says what is wrong.
    usageError((error as Error).message.split(/\. |\n/)[0]);
  }
  if (given.help) {
    print(helpText(about, example, options, operands));
    process.exit(0);
  }
  const values = Object.entries(options).map(([name, [initial, , least = 0, most = 1_000_000_000]]) => {
    const text = given[name];
    if (text === undefined || typeof initial !== "number") return [name, text ?? initial];
    if (/^\d+$/.test(String(text)) && Number(text) >= least && Number(text) <= most) return [name, Number(text)];
    return usageError(`--${name} ${quote(String(text))}: not a whole number from ${least} to ${most}`);
  });
  quiet = given.quiet === true;
  return { ...Object.fromEntries(values), operands: rest };
}

function helpText(about: string, example: string, options: Record<string, Option>, operands = ""): string {
  const rows = Object.entries(options).map(([name, [initial, meaning]]) =>
    `  --${initial === false ? name : `${name} ${initial}`}`.padEnd(20) + ` ${meaning}\n`
  );
  return `${about}\n\nUsage: ${
    `${scriptName()} [OPTIONS] ${operands}`.trimEnd()
  }\n\nThe options, with their defaults:\n` +
    `${rows.join("")}  --help             print this\n\nTry it: ${example}\n`;
}

/** Ends the process with exit code 2 and one line: what is wrong with the command line. */
export function usageError(message: string): never {
  writeSync(2, `${scriptName()}: ${message} (--help lists the options)\n`);
  process.exit(2);
}

/** Stops a runtime that is too old to be relied on, with a line that says so. */
function requireRuntime(): void {
  const version = process.versions[runtime]!, needed = { deno: "2.9", bun: "1.4", node: "22.18" }[runtime];
  if (version.localeCompare(needed, "en", { numeric: true }) >= 0) return;
  fail(`${runtime} ${version}`, `too old: ${needed} or later is needed`);
}

function scriptName(): string {
  return basename(process.argv[1] ?? "script");
}

/** Ends the process with exit code 1 and one line: what failed, and why. */
export function fail(what: string, why: unknown): never {
  writeSync(2, `${scriptName()}: ${what}: ${explain(why)}\n`);
  process.exit(1);
}

/** What an error says, in one line: the system's own words where there are some, with their name (errno(3)). */
export function explain(error: unknown): string {
  const code = errorCode(error);
  const [, words] = [...getSystemErrorMap().values()].find(([name]) => name === code) ?? [];
  return words ? `${words} (${code})` : String((error as Error)?.message ?? error).split("\n")[0];
}

// ---------------------------------------------------------------- the event log

let quiet = false;
let threadName = "main";
let origin = performance.timeOrigin;

/** What a thread is told of the log when it starts, so that its lines fit in with those of the others. */
export interface LogSettings {
  quiet: boolean;
  /** When the process started: milliseconds since 1970. */
  origin: number;
}

/** What `joinLog` needs in another thread. */
export function logSettings(): LogSettings {
  return { quiet, origin };
}

/** Names the calling thread, and lets its lines tell the time as the main thread's do. */
export function joinLog(name: string, settings: LogSettings): void {
  threadName = name;
  ({ quiet, origin } = settings);
}

/** Prints the line that says the server is ready, always the first one. */
export function ready(host: string, port: number): void {
  print(`listening on ${formatAddress(host, port)}\n`);
}

/**
 * Prints an event unless `--quiet` was given: milliseconds since the start, thread, event, the number of the
 * connection (0 for none), and details. Bytes are shown as their count and quoted text.
 */
export function log(event: string, id: number, ...details: (string | number | Uint8Array)[]): void {
  if (quiet && event !== "error") return;
  const time = (performance.timeOrigin + performance.now() - origin).toFixed(1).padStart(8);
  const rest = details.map((detail) => typeof detail === "object" ? `${detail.length} ${quote(detail)}` : detail);
  print([time, threadName, event, ...id ? [`#${id}`] : [], ...rest].join(" ") + "\n");
}

/**
 * Quotes bytes for the log, at most 60 characters of them. All that could move the cursor, forge a line or
 * turn the direction of writing is escaped: a client decides what stands here.
 */
export function quote(data: Uint8Array | string): string {
  const text = typeof data === "string" ? data : new TextDecoder().decode(data.subarray(0, 240));
  let shown = "";
  for (const character of text) {
    const escaped = escape(character);
    if (shown.length + escaped.length > 60) return `"${shown}"...`;
    shown += escaped;
  }
  return `"${shown}"`;
}

function escape(character: string): string {
  if (/["\\\n\r\t]/.test(character)) return JSON.stringify(character).slice(1, -1);
  if (/[\p{L}\p{M}\p{N}\p{P}\p{S} ]/u.test(character) && character !== "\ufffd") return character;
  return `\\u{${character.codePointAt(0)!.toString(16)}}`;
}

/** Writes at once, also from a thread that is about to block: console.log would hold it back. */
function print(text: string): void {
  for (let data = new TextEncoder().encode(text); data.length > 0;) {
    try {
      data = data.subarray(writeSync(1, data));
    } catch (error) {
      // Nobody reads the log any more, as after `| head`, or its reader is slow.
      if (errorCode(error) !== "EAGAIN") process.exit(0);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

// ---------------------------------------------------------------- connections and the end

/** The open connections of a server: closed one by one when they are silent, all at once when it stops. */
export class Connections<C extends { readonly id: number; lastSeen?: number; close(): void }> {
  #open = new Set<C>();
  #now = performance.now();
  #idle: number;
  #interval: number;

  /** `idle` is in seconds; 0 keeps the silent ones for ever. */
  constructor(idle: number) {
    this.#idle = idle * 1000;
    this.#interval = Math.min(1000, this.#idle / 4);
    if (idle > 0) setInterval(() => this.sweep(), this.#interval);
  }

  get size(): number {
    return this.#open.size;
  }

  add(connection: C): void {
    this.seen(connection);
    this.#open.add(connection);
  }

  delete(connection: C): void {
    this.#open.delete(connection);
  }

  /** Notes that a connection has just been heard of. */
  seen(connection: C): void {
    connection.lastSeen = this.#now;
  }

  /** Closes the silent ones. A timer calls it; so does a loop that never lets a timer run. */
  sweep(): void {
    this.#now = performance.now();
    for (const connection of this.#open) {
      // What `seen` noted may be a whole interval older than the message was.
      if (this.#idle === 0 || this.#now - connection.lastSeen! < this.#idle + this.#interval) continue;
      log("idle", connection.id, `silent for ${this.#idle / 1000} s`);
      connection.close();
    }
  }

  closeAll(): void {
    for (const connection of this.#open) connection.close();
  }
}

/** Runs `close` on SIGINT or SIGTERM, and ends the process with exit code 0. See signal(7). */
export function onStop(close: () => void): void {
  for (const signal of ["SIGINT", "SIGTERM"]) {
    process.once(signal, () => {
      log("stop", 0, signal);
      close();
      process.exit(0);
    });
  }
}

// ---------------------------------------------------------------- work

/**
 * Burns CPU, as a handler with something to compute would: `milliseconds` of an otherwise idle core. It does a
 * measured number of steps and doesn't look at the clock, so threads that share a core take longer.
 */
export function burn(milliseconds: number): void {
  if (milliseconds === 0) return;
  sum = spin(Math.round(milliseconds * burnRate()));
}

/** The steps that `burn` does in a millisecond, measured unless they are known: one thread tells the next. */
export function burnRate(known = 0): number {
  return stepsPerMillisecond ||= known || measureSteps();
}

let stepsPerMillisecond = 0;
/** Keeps what `spin` returns, or a compiler would leave it out. */
export let sum = 0;

function spin(steps: number): number {
  let x = 1;
  for (let i = 0; i < steps; i++) x = Math.imul(x, 1_664_525) + 1_013_904_223 | 0;
  return x;
}

/** The best of many short runs: the first are not compiled yet, and others may be interrupted. */
function measureSteps(): number {
  let best = 0;
  for (let run = 0; run < 30; run++) {
    const start = performance.now();
    sum = spin(1_000_000);
    best = Math.max(best, 1_000_000 / (performance.now() - start));
  }
  return best;
}
