// SPDX-License-Identifier: MIT
/**
 * What standalone.ts puts in the place of what is called the same in program.ts, where a copy is for a text: as much
 * as a reader needs in order to follow what happens. A `const` is put in the place of its calls. No script imports it.
 */

import { writeSync } from "node:fs";
import process from "node:process";
import { inspect } from "node:util";

export let threadName = "main";

/** Prints an event: thread, what happens, the number of the connection, and details. */
export function log(event: string, id: number, ...details: unknown[]): void {
  const shown = details.map((detail) =>
    detail instanceof Uint8Array ? inspect(new TextDecoder().decode(detail.subarray(0, 60))) : detail
  );
  const words = [threadName, event, ...(id ? [`#${id}`] : []), ...shown];
  // At once: what a thread gives to console.log before it blocks would be held back.
  writeSync(1, words.join(" ") + "\n");
}

/** Ends the process with a line that says what failed, and why. */
export function fail(what: string, why: unknown): never {
  console.error(`${what}: ${explain(why)}`);
  process.exit(1);
}

/** What a thread finds in its workerData, beside what else the script puts there. */
export interface ThreadSettings {
  name: string;
}

export const threadSettings = (name: string, _options: unknown) => ({ name });

/** Names the calling thread. */
export function joinThreads(settings: ThreadSettings): void {
  threadName = settings.name;
}

export const ready = (host: string, port: number) => console.log(`listening on ${host}:${port}`);
export const formatAddress = (host: string | undefined, port: number | undefined) => `${host}:${port}`;
export const explain = (error: unknown) => (error as Error).message;
export const errorCode = (error: unknown) => (error as { code?: string }).code;

/** Nothing: the system ends the process, and closes what is open. */
export function onStop(_close: () => void): void {}
