// SPDX-License-Identifier: MIT
/** What a script needs beside its sockets: options, the event log, and a clean end. */

import { writeSync } from "node:fs";
import { basename } from "node:path";
import process from "node:process";
import { getSystemErrorMap, parseArgs } from "node:util";
import { isMainThread, workerData } from "node:worker_threads";

/** The runtime that executes this file. Deno and Bun look like Node too, so Node is what is left. */
export const runtime: "deno" | "bun" | "node" = "Deno" in globalThis ? "deno" : "Bun" in globalThis ? "bun" : "node";

// ---------------------------------------------------------------- options

/** Options by name: the default, the meaning, and for a number the least and the most that it may be. */
type Options = Record<string, [initial: string | number | boolean, meaning: string, least?: number, most?: number]>;

/** The value of each option, of the same type as its default. */
type Values<T extends Options> = { [K in keyof T]: T[K][0] extends boolean ? boolean : T[K][0] };

/** The options of every server. */
export const serverOptions = {
  host: ["127.0.0.1", "address to listen on"],
  port: [9999, "port to listen on; 0 = a free one", 0, 65_535],
  idle: [300, "seconds a silent connection is kept; 0 = for ever"],
  quiet: [false, "print the ready line and errors, nothing else"],
} satisfies Options;

/**
 * Reads the command line, which may also ask for `--help`: that shows what the script is `about`, and an `example`
 * of how to try it. `operands` describes what may stand beside the options, such as `[MESSAGE ...]`. Ends the process
 * if help was asked for (0), there is a mistake (2), or the runtime is too old (1). See node:util's `parseArgs`.
 */
export function parseOptions<T extends Options>(
  about: string,
  example: string,
  options: T,
  operands = "",
): Values<T> & { operands: string[] } {
  requireRuntime();
  const rows = Object.entries<Options[string]>({ ...options, help: [false, "print this"] });
  try {
    const { values, positionals } = parseArgs({
      options: Object.fromEntries(rows.map(([name, [initial]]) => [
        name,
        initial === false ? { type: "boolean" } : { type: "string", default: String(initial) },
      ])),
      allowPositionals: operands !== "",
    });
    if (values.help) {
      const lines = rows.map(([name, [initial, meaning]]) =>
        `  --${initial === false ? name : `${name} ${initial}`}`.padEnd(20) + ` ${meaning}\n`
      );
      print(`${about}\n\nUsage: ${scriptName()} [OPTIONS] ${operands}\n\n${lines.join("")}\nTry it: ${example}\n`);
      process.exit(0);
    }
    quiet = values.quiet === true;
    const numbers = rows.filter(([, [initial]]) => typeof initial === "number")
      .map(([name, [, , least = 0, most = 1e9]]) => {
        const text = String(values[name]), value = Number(text);
        if (/^\d+$/.test(text) && value >= least && value <= most) return [name, value];
        throw new Error(`--${name} ${text}: not a whole number from ${least} to ${most}`);
      });
    return { ...values, ...Object.fromEntries(numbers), operands: positionals };
  } catch (error) {
    // Node explains at length what else one may have meant; the first sentence says what is wrong.
    return usageError((error as Error).message.split(/\. |\n/)[0]);
  }
}

/** What `read` returns. Only the main thread has a command line: the others find in workerData what it has read. */
export function sharedOptions<T>(read: () => T): T {
  return isMainThread ? read() : (workerData as ThreadSettings).options as T;
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

/** The system's name for an error, such as `ECONNRESET`, or an empty string if it has none. */
export function errorCode(error: unknown): string {
  return String((error as { code?: string } | undefined)?.code ?? "");
}

// ---------------------------------------------------------------- the event log

let quiet = false;
export let threadName = "main";
/** Milliseconds from the start of the process to that of this thread. */
let started = 0;

/** Prints the line that says the server is ready, always the first one. */
export function ready(host: string, port: number): void {
  print(`listening on ${formatAddress(host, port)}\n`);
}

/** `HOST:PORT`, an IPv6 host in brackets (RFC 3986, section 3.2.2). Who is gone already no longer has an address. */
export function formatAddress(host = "gone", port = 0): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * Prints an event unless `--quiet` was given: milliseconds since the start, thread, event, the number of the
 * connection (0 for none), and details. Bytes are shown as their count and quoted text.
 */
export function log(event: string, id: number, ...details: (string | number | Uint8Array)[]): void {
  if (quiet && event !== "error") return;
  const time = (started + performance.now()).toFixed(1).padStart(8);
  const rest = details.map((detail) => typeof detail === "object" ? `${detail.length} ${quote(detail)}` : detail);
  print([time, threadName, event, ...id ? [`#${id}`] : [], ...rest].join(" ") + "\n");
}

/**
 * Quotes bytes for the log, 60 characters of them at most. All that could move the cursor, forge a line or turn the
 * direction of writing is escaped: a client decides what stands here.
 */
function quote(data: Uint8Array): string {
  const characters = [...new TextDecoder().decode(data.subarray(0, 256))];
  const text = JSON.stringify(characters.slice(0, 60).join("")).replace(
    /[^\p{L}\p{M}\p{N}\p{P}\p{S} ]/gu,
    (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`,
  );
  return characters.length > 60 ? `${text}...` : text;
}

/** Writes at once, also from a thread that is about to block: console.log would hold it back. */
function print(text: string): void {
  for (;;) {
    try {
      return void writeSync(1, text);
    } catch (error) {
      // Nobody reads the log any more, as after `| head`; or its reader is slow, and has to be waited for.
      if (errorCode(error) !== "EAGAIN") process.exit(0);
    }
  }
}

// ---------------------------------------------------------------- threads

/** What a thread finds in its workerData, beside what else the script puts there. */
export interface ThreadSettings {
  name: string;
  /** See `sharedOptions`. */
  options: unknown;
  quiet: boolean;
  /** When the process started: milliseconds since 1970. */
  origin: number;
  /** See `burnRate`; 0 if nothing is burnt. */
  burnRate: number;
}

/** For a thread that the calling one starts. */
export function threadSettings(name: string, options: Record<string, unknown>): ThreadSettings {
  return { name, options, quiet, origin: performance.timeOrigin - started, burnRate: options.work ? burnRate() : 0 };
}

/** Names the calling thread, and lets its lines tell the time as the main thread's do. */
export function joinThreads(settings: ThreadSettings): void {
  threadName = settings.name;
  quiet = settings.quiet;
  started = performance.timeOrigin - settings.origin;
  thousandsPerMillisecond = settings.burnRate;
}

// ---------------------------------------------------------------- silence, and the end

/** Closes what is `open` and has not been heard of for `idle` seconds (0 = never): `silence` counts them. */
export function closeSilent(open: Iterable<{ id: number; silence: number; close(): void }>, idle: number): void {
  if (idle === 0) return;
  setInterval(() => {
    for (const connection of open) {
      if (connection.silence++ < idle) continue;
      log("idle", connection.id, `silent for ${idle} s`);
      connection.close();
    }
  }, 1000);
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
 * measured amount of work and doesn't look at the clock, so threads that share a core take longer.
 */
export function burn(milliseconds: number): void {
  if (milliseconds === 0) return;
  spin(Math.round(milliseconds * burnRate()));
}

/** How often `burn` does a thousand steps in a millisecond, measured unless it is known: one thread tells the next. */
function burnRate(): number {
  return thousandsPerMillisecond ||= measureRate();
}

let thousandsPerMillisecond = 0;
/** Keeps what is computed, or a compiler would leave it out. */
export let sum = 0;

/** In short loops: V8 compiles one that takes a whole millisecond anew once it has run often, to slower code. */
function spin(thousands: number): void {
  for (let i = 0; i < thousands; i++) sum = thousandSteps(sum);
}

function thousandSteps(x: number): number {
  for (let i = 0; i < 1000; i++) x = Math.imul(x, 1_664_525) + 1_013_904_223 | 0;
  return x;
}

/** The best of many short runs: the first are not compiled yet, and others may be interrupted. */
function measureRate(): number {
  let best = 0;
  for (let run = 0; run < 30; run++) {
    const start = performance.now();
    spin(1000);
    best = Math.max(best, 1000 / (performance.now() - start));
  }
  return best;
}
