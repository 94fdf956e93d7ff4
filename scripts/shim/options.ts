// SPDX-License-Identifier: MIT
/** The command line, read by node:util's parseArgs. */

// The whole module: a runtime that is too old may lack a name, and has to get as far as the line that says so.
import * as util from "node:util";
import { isMainThread } from "node:worker_threads";
import { limitSilence } from "./connections.ts";
import { fail, scriptName, stopOnSignals, usageError } from "./end.ts";
import { openLog, print } from "./log.ts";
import { process, runtime, self } from "./runtime.ts";
import { burnRate } from "./work.ts";

/** Options by name: the default, the meaning; for a number the least and the most, and what 0 stands for. */
export type Options = Record<
  string,
  [initial: string | number | boolean, meaning: string, least?: number, most?: number, zero?: number]
>;

/** The value of each option, of the same type as its default. */
type Values<T extends Options> = { [K in keyof T]: T[K][0] extends boolean ? boolean : T[K][0] };

const MOST = 1e9;

/** The options of every server. */
export const serverOptions = {
  host: ["127.0.0.1", "address to listen on"],
  port: [9999, "port to listen on; 0 = a free one", 0, 65_535],
  idle: [300, "seconds a silent connection is kept; 0 = for ever", 0, MOST, Infinity],
  quiet: [false, "print the ready line and errors, nothing else"],
} satisfies Options;

const limit = (initial: number) =>
  ({
    messages: [initial, "exchanges per connection; 0 = until the client leaves", 0, MOST, Infinity],
  }) satisfies Options;

/** How many messages are echoed. Servers with few threads close a connection after three, and serve the next. */
export const messages = limit(0), threeMessages = limit(3);

/** For servers whose handler can compute. */
export const work = {
  work: [0, 'milliseconds of CPU burnt per message, unless it begins with "light"; try 2000'],
} satisfies Options;

/**
 * Reads the command line; in a thread it returns what the main thread has read. `--help` shows what the script is
 * `about`, and an `example` of how to try it; `operands` is what may stand beside the options, such as `[MESSAGE ...]`.
 * Ends the process if help was asked for (0), there is a mistake (2), or the runtime is too old (1). From here on the
 * process closes silent connections, and stops on SIGINT and SIGTERM.
 */
export function parseOptions<T extends Options>(
  about: string,
  example: string,
  options: T,
  operands = "",
): Values<T> & { operands: string[] } {
  requireRuntime();
  openLog();
  if (isMainThread) {
    const all: Options = { ...options, help: [false, "print this"] };
    self.given = readOptions(all, operands !== "");
    if (self.given.help) {
      print(helpText(about, example, all, operands));
      process.exit(0);
    }
    stopOnSignals();
  }
  // Now, and not when a client waits for it.
  if (options.work === work.work && self.given.work) burnRate();
  // Other programs may mean something else by `--idle`.
  if (options.idle === serverOptions.idle) limitSilence(self.given.idle as number);
  return self.given as Values<T> & { operands: string[] };
}

/** The values that the command line gives to options; the end of the process if it has a mistake. See `parseArgs`. */
function readOptions(options: Options, operands: boolean): Record<string, unknown> {
  const rows = Object.entries(options);
  let parsed;
  try {
    parsed = util.parseArgs({
      args: process.argv.slice(2),
      options: Object.fromEntries(rows.map(([name, [initial]]) => [
        name,
        initial === false ? { type: "boolean" } : { type: "string", default: String(initial) },
      ])),
      allowPositionals: operands,
    });
  } catch (error) {
    // Node explains at length what else one may have meant; the first sentence says what is wrong.
    return usageError((error as Error).message.split(/\. |\n/)[0]);
  }
  const values: Record<string, unknown> = { ...parsed.values, operands: parsed.positionals };
  for (const [name, [initial, , least = 0, most = MOST, zero = 0]] of rows) {
    if (typeof initial !== "number") continue;
    const text = String(values[name]), value = Number(text);
    if (!/^\d+$/.test(text) || value < least || value > most) {
      usageError(`--${name} ${text}: not a whole number from ${least} to ${most}`);
    }
    values[name] = value || zero;
  }
  if (typeof values.host === "string") {
    values.host = values.host.replace(/^\[(.*)\]$/, "$1");
    // The runtimes differ in what they make of these, and what is misread must not become "every interface".
    if (/^$|[%*]/.test(values.host as string)) {
      usageError(`--host "${values.host}": not a name or an address without zone`);
    }
  }
  return values;
}

function helpText(about: string, example: string, options: Options, operands: string): string {
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
