// SPDX-License-Identifier: MIT
/**
 * What `standalone.ts --plain` puts in the place of the functions of program.ts that are called the same: as much as a
 * reader needs in order to follow what happens. No script imports it.
 */

import { writeSync } from "node:fs";
import process from "node:process";
import { inspect } from "node:util";
import { formatAddress, threadName } from "./program.ts";

/** Says that the server is ready. */
export function ready(host: string, port: number): void {
  writeSync(1, `listening on ${formatAddress(host, port)}\n`);
}

/** Prints an event: thread, what happens, the number of the connection, and details. */
export function log(event: string, id: number, ...details: (string | number | Uint8Array)[]): void {
  const shown = details.map((detail) =>
    typeof detail === "object" ? inspect(new TextDecoder().decode(detail.subarray(0, 60))) : detail
  );
  // At once: what a thread gives to console.log before it blocks would be held back.
  writeSync(1, [threadName, event, ...id ? [`#${id}`] : [], ...shown].join(" ") + "\n");
}

/** Ends the process with a line that says what failed, and why. */
export function fail(what: string, why: unknown): never {
  console.error(`${what}: ${explain(why)}`);
  process.exit(1);
}

/** What an error says. */
export function explain(error: unknown): string {
  return (error as Error).message;
}

/** Nothing: the system ends the process, and closes what is open. */
export function onStop(_close: () => void): void {}
