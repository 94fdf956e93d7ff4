// SPDX-License-Identifier: MIT
/** The event log, which shows the model at work: a line for each event, written when it happens. */

import * as fs from "node:fs";
import { setInterval, setTimeout } from "node:timers";
// The whole module: a runtime that is too old may lack a name, and has to get as far as the line that says so.
import * as util from "node:util";
import { isMainThread } from "node:worker_threads";
import { now, process, runtime, self } from "./runtime.ts";

// ---------------------------------------------------------------- lines

/** Numbers of the eight steps, in single.ts: see `numberSteps`. */
const steps: Record<string, number> = { create: 1, bind: 2, accept: 4, recv: 5, send: 6, close: 7 };
let stepsAreNumbered = false;

/** From here on the eight steps of a server bear their numbers in the log, `create` and `bind` among them. */
export function numberSteps(): void {
  stepsAreNumbered = true;
}

/** Characters of a line: it goes into a pipe whole or not at all. See PIPE_BUF in pipe(7). */
const LONGEST = 4000;

/** Logs a step that other servers take without a word. */
export function logStep(event: string, detail: string): void {
  if (stepsAreNumbered) log(event, 0, detail);
}

/**
 * Prints an event unless `--quiet` was given: milliseconds since the start, thread, event, the number of the connection
 * (0 for none), and details. Of bytes as many are shown as the number before them says.
 */
export function log(event: string, id: number, ...details: unknown[]): void {
  if (self.given.quiet && event !== "error") return;
  const shown = details.map((detail, i) => {
    if (detail instanceof Uint8Array) return quote(detail.subarray(0, Number(details[i - 1])));
    return detail instanceof Error ? explain(detail) : detail;
  });
  if (stepsAreNumbered && event in steps) shown.unshift(`step ${event === "close" && id === 0 ? 8 : steps[event]}:`);
  const line = [now().toFixed(1).padStart(8), self.name, event, ...id ? [`#${id}`] : [], ...shown].join(" ");
  print((line.length > LONGEST ? `${line.slice(0, LONGEST)} ...` : line) + "\n");
}

/** Prints the line that says the server is ready. */
export function ready(host: string, port: number): void {
  print(`listening on ${formatAddress(host, port)}\n`);
}

/** `HOST:PORT`, an IPv6 host in brackets (RFC 3986, section 3.2.2). A peer that has disconnected has no address. */
export function formatAddress(host = "gone", port = 0): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Quotes 60 characters at most. What could move the cursor, forge a line or turn the direction of writing is escaped. */
function quote(data: Uint8Array): string {
  const characters = [...new TextDecoder().decode(data.subarray(0, 256))];
  const text = JSON.stringify(characters.slice(0, 60).join("")).replace(
    /[^\p{L}\p{M}\p{N}\p{P}\p{S} ]/gu,
    (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`,
  );
  return characters.length > 60 ? `${text}...` : text;
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

/** How many there are, and the first twenty of them. */
export function list(items: string[]): string {
  const shown = items.length > 20 ? [...items.slice(0, 20), "..."] : items;
  return items.length > 0 ? `${items.length}: ${shown.join(", ")}` : "0";
}

/** Prints what `lines` returns, every so many seconds, but nothing that it has said the last time. */
export function heartbeat(event: string, seconds: number, lines: () => string[]): void {
  let before = lines();
  setInterval(() => {
    const found = lines();
    for (const line of found) if (!before.includes(line)) log(event, 0, line);
    before = found;
  }, seconds * 1000);
}

// ---------------------------------------------------------------- where they are written

/** How many lines are kept for a reader who is slow. */
const KEPT = 1000;
/** After so many milliseconds they are tried again; a thread that has nothing else to do waits for as many tries. */
const AGAIN = 50, TRIES = 20;
const kept: Uint8Array[] = [];
let lost = 0, tries = 0, retry = false, unwritable = false, onFailure = (_: unknown) => {};

/** The log as a stream of the runtime, if it is a socket: collected as garbage, it would be closed. */
const streams: unknown[] = [];

/** Opens the log, which without that may block. A thread writes where the main thread does. */
export function openLog(): void {
  // At the limit of a file's size (ulimit -f) Deno would end, where the others are told that they can't write.
  if (isMainThread && runtime === "deno") process.on("SIGXFSZ", () => {});
  if (isMainThread) self.output = openOutput(self.output);
  // Under Deno a descriptor belongs to the thread that has opened it.
  else if (runtime === "deno") self.output = openOutput(1);
}

/** Has `failed` called, once, with why the log can't be written. */
export function onLogFailure(failed: (error: unknown) => void): void {
  onFailure = failed;
}

/**
 * Where lines are written to. A write that blocks, as the reader stalls, would keep the process from stopping: so a pipe
 * or a terminal is opened anew, non-blocking, for this process alone. A socket can't be opened, but the runtime makes it
 * non-blocking when it makes a stream of it. Whatever this does not work with blocks.
 */
function openOutput(descriptor: number): number {
  try {
    const path = `/proc/self/fd/${descriptor}`;
    // Where that is not allowed Deno would ask at the terminal.
    if (runtime === "deno" && Deno.permissions.querySync({ name: "write", path }).state !== "granted") {
      return descriptor;
    }
    const file = fs.fstatSync(descriptor), { O_WRONLY, O_NONBLOCK, O_NOCTTY } = fs.constants;
    if (file.isFIFO() || file.isCharacterDevice()) return fs.openSync(path, O_WRONLY | O_NONBLOCK | O_NOCTTY);
    if (file.isSocket() && isMainThread) {
      const { Socket } = process.getBuiltinModule("node:net") as typeof import("node:net");
      if (runtime !== "bun") streams.push(new Socket({ fd: descriptor, readable: false }));
      else streams.push(descriptor === 2 ? process.stderr : process.stdout);
    }
    return descriptor;
  } catch {
    return descriptor;
  }
}

/** Writes at once, also from a thread that is about to block: console.log would hold it back. */
export function print(line: string): void {
  if (unwritable) return;
  if (kept.length < KEPT) kept.push(new TextEncoder().encode(line));
  else lost++;
  flush();
}

/** Writes what is kept, for a thread that blocks and has no timers. Says whether that is all. */
export function flushLog(): boolean {
  if (kept.length > 0) flush();
  return kept.length === 0;
}

function flush(): void {
  try {
    while (kept.length > 0) {
      // A terminal may take a part of a line. Deno doesn't say how much, and writes all of it again.
      const rest = kept[0].subarray(fs.writeSync(self.output, kept[0]));
      if (rest.length > 0) kept[0] = rest;
      else kept.shift();
    }
    tries = 0;
    if (lost === 0) return;
    const count = lost;
    lost = 0;
    log("error", 0, `the log was not read: ${count} lines are lost`);
  } catch (error) {
    if (errorCode(error) !== "EAGAIN") {
      unwritable = true;
      kept.length = 0;
      return onFailure(error);
    }
    if (retry) return;
    retry = true;
    const timer = setTimeout(() => {
      retry = false;
      flush();
    }, AGAIN);
    if (++tries > TRIES) timer.unref();
  }
}
