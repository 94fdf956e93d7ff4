// SPDX-License-Identifier: MIT
/** What a script needs beside its sockets: options, the event log, and a clean end. */

// Whole modules: a runtime that is too old may lack a name, and has to get as far as the line that says so.
import * as fs from "node:fs";
import { basename } from "node:path";
import { setInterval, setTimeout } from "node:timers";
import * as util from "node:util";
import { isMainThread, workerData } from "node:worker_threads";

/** Not imported: importing node:process makes Node switch the pipe behind its standard output to non-blocking. */
export const process: typeof globalThis.process = globalThis.process;

/** The runtime that executes this file. Deno and Bun look like Node too, so Node is what is left. */
export const runtime: "deno" | "bun" | "node" = "Deno" in globalThis ? "deno" : "Bun" in globalThis ? "bun" : "node";

// ---------------------------------------------------------------- options

/** Options by name: the default, the meaning, and for a number the least and the most that it may be. */
export type Options = Record<
  string,
  [initial: string | number | boolean, meaning: string, least?: number, most?: number]
>;

/** The value of each option, of the same type as its default. */
type Values<T extends Options> = { [K in keyof T]: T[K][0] extends boolean ? boolean : T[K][0] };

/** The options of every server. */
export const serverOptions = {
  host: ["127.0.0.1", "address to listen on"],
  port: [9999, "port to listen on; 0 = a free one", 0, 65_535],
  idle: [300, "seconds a silent connection is kept; 0 = for ever"],
  quiet: [false, "print the ready line and errors, nothing else"],
} satisfies Options;

/** How many messages are echoed. Servers whose threads are few close a connection after three, and serve the next. */
export const messages = {
  messages: [0, "exchanges per connection; 0 = until the client leaves"],
} satisfies Options;

/** For servers whose handler can compute. */
export const work = {
  work: [0, 'milliseconds of CPU burnt per message, unless it begins with "light"; try 2000'],
} satisfies Options;

/** What the command line of this process has been read as. */
let given: Record<string, unknown> = {};

/**
 * Reads the command line, which may also ask for `--help`: that shows what the script is `about`, and an `example`
 * of how to try it. `operands` describes what may stand beside the options, such as `[MESSAGE ...]`. In a thread it
 * returns what the main thread has read. Ends the process if help was asked for (0), there is a mistake (2), or the
 * runtime is too old (1). From here on the process closes silent connections, and stops on SIGINT and SIGTERM.
 */
export function parseOptions<T extends Options>(
  about: string,
  example: string,
  options: T,
  operands = "",
): Values<T> & { operands: string[] } {
  requireRuntime();
  if (!isMainThread) joinProcess();
  else {
    try {
      given = readOptions({ ...options, help: [false, "print this"] }, process.argv.slice(2), operands !== "");
    } catch (error) {
      return usageError((error as Error).message);
    }
    if (given.help) {
      print(help(about, example, { ...options, help: [false, "print this"] }, operands));
      process.exit(0);
    }
    // A child is ended by the signal itself.
    for (const signal of isChild ? [] : ["SIGINT", "SIGTERM"]) process.once(signal, () => stop(signal));
  }
  quiet = given.quiet === true;
  // Now, and not when a client waits for it.
  if (options.work === work.work && given.work) burnRate();
  // It does not keep the process from ending.
  if (options.idle === serverOptions.idle && Number.isFinite(given.idle)) {
    setInterval(() => closeSilent(given.idle as number), 1000).unref();
  }
  return given as Values<T> & { operands: string[] };
}

/** The values that arguments give to options. Throws what is wrong with them. See node:util's `parseArgs`. */
export function readOptions(options: Options, args: string[], operands: boolean): Record<string, unknown> {
  const rows = Object.entries(options);
  let parsed;
  try {
    parsed = util.parseArgs({
      args,
      options: Object.fromEntries(rows.map(([name, [initial]]) => [
        name,
        initial === false ? { type: "boolean" } : { type: "string", default: String(initial) },
      ])),
      allowPositionals: operands,
    });
  } catch (error) {
    // Node explains at length what else one may have meant; the first sentence says what is wrong.
    throw new Error((error as Error).message.split(/\. |\n/)[0]);
  }
  const values: Record<string, unknown> = { ...parsed.values, operands: parsed.positionals };
  for (const [name, [initial, meaning, least = 0, most = 1e9]] of rows) {
    if (typeof initial !== "number") continue;
    const text = String(values[name]), value = Number(text);
    if (!/^\d+$/.test(text) || value < least || value > most) {
      throw new Error(`--${name} ${text}: not a whole number from ${least} to ${most}`);
    }
    values[name] = value === 0 && /0 = (until|for ever)/.test(meaning) ? Infinity : value;
  }
  if (typeof values.host === "string") {
    values.host = values.host.replace(/^\[(.*)\]$/, "$1");
    // The runtimes differ in what they make of a zone, and one that is misread must not become "every interface".
    if (/^$|%/.test(values.host as string)) {
      throw new Error(`--host "${values.host}": not a name or an address without zone`);
    }
  }
  return values;
}

function help(about: string, example: string, options: Options, operands: string): string {
  const wrap = (text: string, indent: number) =>
    text.split("\n").map((line) =>
      (line.match(new RegExp(`(?:^ +)?\\S.{0,${78 - indent}}(?=\\s|$)`, "g")) ?? [""]).join("\n" + " ".repeat(indent))
    ).join("\n");
  const lines = Object.entries(options).map(([name, [initial, meaning]]) =>
    `  --${initial === false ? name : `${name} ${initial === "" ? "VALUE" : initial}`}`.padEnd(20) +
    ` ${wrap(meaning, 21)}\n`
  );
  const usage = `Usage: ${scriptName()} [OPTIONS] ${operands}`.trim() + "\n\nOptions, with their defaults:";
  return `${wrap(about, 0)}\n\n${usage}\n${lines.join("")}\n${wrap(`Try it: ${example}`, 8)}\n`;
}

/** Stops a runtime that is too old to be relied on, with a line that says so. */
function requireRuntime(): void {
  const version = process.versions[runtime]!, needed = { deno: "2.9", bun: "1.4", node: "22.18" }[runtime];
  if (version.localeCompare(needed, "en", { numeric: true }) >= 0) return;
  fail(`${runtime} ${version}`, `too old: ${needed} or later is needed`);
}

// ---------------------------------------------------------------- failures

function scriptName(): string {
  return basename(process.argv[1] ?? "script");
}

/** Ends the process with exit code 2 and one line: what is wrong with the command line. */
export function usageError(message: string): never {
  complain(`${message} (--help lists the options)`);
  process.exit(2);
}

/** Ends the process with exit code 1 and one line: what failed, and why. */
export function fail(what: string, why: unknown): never {
  complain(`${what}: ${explain(why)}`);
  process.exit(1);
}

/** Ends the process as `fail` does, when it can't listen where the options say. */
export function cannotListen(error: unknown): never {
  const { host, port } = given as { host: string; port: number };
  fail(`cannot listen on ${formatAddress(host, port)}`, error);
}

/** Prints a line to the standard error. */
function complain(message: string): void {
  try {
    fs.writeSync(2, `${scriptName()}: ${message}\n`);
  } catch {
    // It can't be written either, and there is no other place to say so.
  }
}

/** What an error says, in one line: the system's own words where there are some, with their name (errno(3)). */
export function explain(error: unknown): string {
  const code = errorCode(error);
  const [, words] = [...util.getSystemErrorMap?.().values() ?? []].find(([name]) => name === code) ?? [];
  return words ? `${words} (${code})` : String((error as Error)?.message ?? error).split("\n")[0];
}

/** The system's name for an error, such as `ECONNRESET`, or an empty string if it has none. */
export function errorCode(error: unknown): string {
  return String((error as { code?: string } | undefined)?.code ?? "");
}

// ---------------------------------------------------------------- the event log

let quiet = false;
let threadName = "main";
/** Milliseconds from the start of the process to that of this thread. */
let started = 0;

/** Prints the line that says the server is ready. */
export function ready(host: string, port: number): void {
  print(`listening on ${formatAddress(host, port)}\n`);
}

/** `HOST:PORT`, an IPv6 host in brackets (RFC 3986, section 3.2.2). A peer that has disconnected has no address. */
export function formatAddress(host = "gone", port = 0): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * Prints an event unless `--quiet` was given: milliseconds since the start, thread, event, the number of the
 * connection (0 for none), and details. An error is shown by what it says. Bytes are shown as quoted text, as many of
 * them as the number before them says.
 */
export function log(event: string, id: number, ...details: unknown[]): void {
  if (quiet && event !== "error") return;
  const time = (started + performance.now()).toFixed(1).padStart(8);
  const shown = details.map((detail, i) => {
    if (detail instanceof Uint8Array) return quote(detail.subarray(0, Number(details[i - 1])));
    return detail instanceof Error ? explain(detail) : detail;
  });
  print([time, threadName, event, ...id ? [`#${id}`] : [], ...shown].join(" ") + "\n");
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

/** By event: how many lines its second has had, and what has not been printed yet. */
const waits = new Map<string, { lines: number; times: number; sums: Record<string, number> }>();

/**
 * Prints what a wait has found, as figures with their meanings, and a `detail`. Beyond ten a second, one line a second
 * says how often there was such a wait, and the sums of the figures: the log must not become the work.
 */
export function logWait(event: string, figures: Record<string, number>, detail?: () => string): void {
  if (quiet) return;
  let wait = waits.get(event);
  if (!wait) {
    waits.set(event, wait = { lines: 0, times: 0, sums: {} });
    setTimeout(() => {
      waits.delete(event);
      const { times, sums } = wait!;
      if (times > 0) log(event, 0, [`${times} more times`, figureText(sums)].filter(Boolean).join(": "));
    }, 1000);
  }
  if (wait.lines++ < 10) return log(event, 0, [figureText(figures), detail?.()].filter(Boolean).join(": "));
  wait.times++;
  for (const [name, value] of Object.entries(figures)) wait.sums[name] = (wait.sums[name] ?? 0) + value;
}

function figureText(figures: Record<string, number>): string {
  return Object.entries(figures).map(([name, value]) => `${value} ${name}`).join(", ");
}

/** How many there are, and the first twenty of them. */
export function list(items: string[]): string {
  const first = items.slice(0, 20).join(", ");
  return items.length > 20 ? `${items.length}: ${first}, ...` : items.length > 0 ? `${items.length}: ${first}` : "0";
}

/** Prints what `lines` returns, every so many seconds, but nothing that it has said the last time. */
export function heartbeat(event: string, seconds: number, lines: () => string[]): void {
  let before = lines();
  setInterval(() => {
    const now = lines();
    for (const line of now) if (!before.includes(line)) log(event, 0, line);
    before = now;
  }, seconds * 1000);
}

/** How many lines are kept for a reader who is slow. */
const KEPT = 1000;
const kept: string[] = [];
/**
 * In a thread it is the main thread's: see `joinProcess`. Under Deno a descriptor belongs to a thread, which closes it.
 */
let output = isMainThread || runtime === "deno" ? openOutput(1) : 1;
let lost = 0, retry = false, unwritable = false;

/**
 * Where lines are written to. The reader of a pipe may stall, and a blocked write would keep the process from
 * stopping: so the pipe is opened anew for this process alone, as non-blocking. What can't be opened blocks.
 */
function openOutput(descriptor: number): number {
  try {
    const path = `/proc/self/fd/${descriptor}`;
    // Where that is not allowed Deno would ask at the terminal.
    if (runtime === "deno" && Deno.permissions.querySync({ name: "write", path }).state !== "granted") {
      return descriptor;
    }
    if (!fs.fstatSync(descriptor).isFIFO()) return descriptor;
    return fs.openSync(path, fs.constants.O_WRONLY | fs.constants.O_NONBLOCK);
  } catch {
    return descriptor;
  }
}

/** Writes at once, also from a thread that is about to block: console.log would hold it back. */
function print(line: string): void {
  if (unwritable) return;
  if (kept.length < KEPT) kept.push(line);
  else lost++;
  flush();
}

function flush(): void {
  try {
    // A line goes into a pipe whole or not at all: see PIPE_BUF in pipe(7).
    for (; kept.length > 0; kept.shift()) fs.writeSync(output, kept[0]);
    if (lost === 0) return;
    const count = lost;
    lost = 0;
    log("error", 0, `the log was not read: ${count} lines are lost`);
  } catch (error) {
    if (errorCode(error) !== "EAGAIN") return outputFailed(error);
    if (retry) return;
    retry = true;
    setTimeout(() => {
      retry = false;
      flush();
    }, 50);
  }
}

/** A log that can't be written: its reader is gone, as after `| head`, or the disk is full. */
function outputFailed(error: unknown): void {
  unwritable = true;
  const gone = errorCode(error) === "EPIPE";
  // The parent is to log that, and finds the same.
  if (isChild && gone) process.exit(1);
  // One thread does it for all, and the parent for its children: a second signal would be the end at once.
  if (isChild || Atomics.exchange(counters, 1, 1) !== 0) return;
  if (!gone) complain(`no log from here on: ${explain(error)}`);
  else if (isMainThread) stop("");
  else process.kill(process.pid, "SIGTERM");
}

/** Writes text or bytes to the standard output, however long that takes. Ends the process if the reader has gone. */
export async function printAll(all: string | Uint8Array): Promise<void> {
  let data = typeof all === "string" ? new TextEncoder().encode(all) : all;
  while (data.length > 0) {
    try {
      // No more than goes into a pipe whole or not at all: of more, a runtime may not say how much it has written.
      data = data.subarray(fs.writeSync(output, data.subarray(0, 4096)));
    } catch (error) {
      if (errorCode(error) === "EPIPE") process.exit(0);
      if (errorCode(error) !== "EAGAIN") fail("cannot write", error);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}

// ---------------------------------------------------------------- connections: numbers, silence, and the end

/** What is open, and can be ended for a reason. */
export interface Closable {
  /** Seconds that the server has waited for the client; -Infinity until the server first receives from the client. */
  silence: number;
  /** Whether it is the server that the client waits for, though the server would receive. */
  excused?(): boolean;
  /** Ends the connection: calls that wait on it fail with `why`. */
  abort(why: Error): void;
}

/** The connections of this thread. */
export const open = new Set<Closable>();

/** Shared by all threads: how many connections there have been, and whether one is dealing with the log's failure. */
let counters = new Int32Array(new SharedArrayBuffer(8));

/** Counts the connections of this process, from 1. */
export function nextNumber(): number {
  return Atomics.add(counters, 0, 1) + 1;
}

let lastCount = 0;

/**
 * Is called once a second. It counts seconds in which this process ran, and had time: not one that it was stopped in.
 */
function closeSilent(idle: number): void {
  const before = lastCount;
  lastCount = performance.now();
  if (lastCount - before > 1500) return;
  for (const connection of open) {
    if (connection.excused?.()) connection.silence = 0;
    else if (++connection.silence > idle) connection.abort(new Error(`silent for ${idle} s`));
  }
}

const hooks: (() => unknown)[] = [];

/** Has `hook` called before the process stops because of SIGINT or SIGTERM: see signal(7). */
export function onStop(hook: () => unknown): void {
  hooks.push(hook);
}

/** Whether this process is about to end. */
export let stopping = false;

/** Ends every connection, and then the process, with exit code 0. */
async function stop(signal: string): Promise<void> {
  if (stopping) return;
  stopping = true;
  // A thread that finds the log's reader gone has nothing to do about it any more.
  Atomics.store(counters, 1, 1);
  log("stop", 0, signal);
  await Promise.all(hooks.map((hook) => hook()));
  await closeAll();
  process.exit(0);
}

/** Ends the connections of this thread, and gives their handlers half a second to log and close them. */
export async function closeAll(): Promise<void> {
  for (const connection of open) connection.abort(new Error("the server stops"));
  for (let i = 0; i < 25 && open.size > 0; i++) await new Promise((resolve) => setTimeout(resolve, 20));
}

// ---------------------------------------------------------------- threads

/** What a thread finds in its workerData, beside what else the script puts there. */
export interface ThreadSettings {
  name: string;
  given: Record<string, unknown>;
  /** When the process started: milliseconds since 1970. */
  origin: number;
  /** See `burnRate`; 0 if nothing is burnt. */
  burnRate: number;
  counters: Int32Array<SharedArrayBuffer>;
  output: number;
}

/** For a thread that the calling one starts. */
export function threadSettings(name: string): ThreadSettings {
  return {
    name,
    given,
    origin: performance.timeOrigin - started,
    burnRate: given.work ? burnRate() : 0,
    counters,
    output,
  };
}

/** Makes the calling thread one of the process: its lines tell the same time, its connections go on counting. */
function joinProcess(): void {
  const settings = workerData as ThreadSettings;
  ({ name: threadName, given, burnRate: blocksPerMillisecond, counters } = settings);
  started = performance.timeOrigin - settings.origin;
  if (runtime !== "deno") output = settings.output;
}

/** Whether this process serves one client of another, its parent: see processes.ts. */
let isChild = false;

/**
 * Makes this process a child that serves a client: its lines tell the parent's time, and go to its standard error, for
 * its standard output is the client. To be called before `parseOptions`.
 */
export function joinParent({ name, origin }: Pick<ThreadSettings, "name" | "origin">): void {
  isChild = true;
  threadName = name;
  started = performance.timeOrigin - origin;
  output = openOutput(2);
}

// ---------------------------------------------------------------- work

/**
 * Burns CPU for a message of connection `id`, as a handler with something to compute would: `milliseconds` of an
 * otherwise idle core. It does a measured amount of work and doesn't look at the clock, so threads that share a core
 * take longer. A message that begins with `light` needs none.
 */
export function burn(id: number, milliseconds: number, data: Uint8Array): void {
  if (milliseconds === 0 || isLight(data)) return;
  log("work", id, milliseconds, "ms");
  spin(Math.round(milliseconds * burnRate()));
}

/** Whether a message begins with `light`. */
export function isLight(data: Uint8Array): boolean {
  return new TextDecoder().decode(data.subarray(0, 5)) === "light";
}

/** How much `burn` does in a millisecond, measured unless it is known: one thread tells the next. */
function burnRate(): number {
  return blocksPerMillisecond ||= measureRate();
}

let blocksPerMillisecond = 0;
const block = new Uint8Array(4096);

/** Hashes blocks. That is done in machine code, and takes the same however far the runtime has compiled this script. */
function spin(blocks: number): void {
  const { createHash } = process.getBuiltinModule("node:crypto") as typeof import("node:crypto");
  const hash = createHash("sha256");
  for (let i = 0; i < blocks; i++) hash.update(block);
}

/** The best of many short runs: others may be interrupted. */
function measureRate(): number {
  let best = 0;
  for (let run = 0; run < 50; run++) {
    const start = performance.now();
    spin(50);
    best = Math.max(best, 50 / (performance.now() - start));
  }
  return best;
}
