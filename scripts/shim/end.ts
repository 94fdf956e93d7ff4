// SPDX-License-Identifier: MIT
/** How a process ends: because of a mistake, a failure, a signal, or a log that nobody reads. */

import * as fs from "node:fs";
import { basename } from "node:path";
import { isMainThread } from "node:worker_threads";
import { closeAll, until } from "./connections.ts";
import { errorCode, explain, flushLog, formatAddress, log, onLogFailure } from "./log.ts";
import { process, self, type ThreadSettings } from "./runtime.ts";

export const scriptName = (): string => basename(process.argv[1] ?? "script");

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
  const { host, port } = self.given as { host: string; port: number };
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

const hooks: (() => unknown)[] = [];

/** Has `hook` called before the process stops because of SIGINT or SIGTERM: see signal(7). */
export function onStop(hook: () => unknown): void {
  hooks.push(hook);
}

/** Whether this process is about to end. */
export let stopping = false;

/** Has the process stop on SIGINT and SIGTERM. A child is ended by the signal itself. */
export function stopOnSignals(): void {
  for (const signal of isChild ? [] : ["SIGINT", "SIGTERM"]) process.once(signal, () => stop(signal));
}

/** What is kept of the log is written, if its reader takes it at once. */
export const flushed = (): Promise<void> => until(flushLog, 200);

/** Ends every connection, and then the process, with exit code 0. */
async function stop(signal: string): Promise<void> {
  if (stopping) return;
  stopping = true;
  // A thread that finds the log's reader gone has nothing to do about it any more.
  Atomics.store(self.counters, 1, 1);
  log("stop", 0, signal);
  await Promise.all(hooks.map((hook) => hook()));
  await closeAll();
  await flushed();
  process.exit(0);
}

/** Whether this process serves for another, its parent: see processes.ts and prefork.ts. */
let isChild = false;

/** Before `parseOptions`: makes this process a child, whose lines tell the parent's time on its standard error. */
export function joinParent({ name, origin }: Pick<ThreadSettings, "name" | "origin">): void {
  isChild = true;
  Object.assign(self, { name, origin, output: 2 });
}

/** The reader is gone, as after `| head`, which ends the server; or the disk is full, which is said. */
onLogFailure((error) => {
  const gone = errorCode(error) === "EPIPE";
  // The parent is to log that, and finds the same.
  if (isChild && gone) process.exit(1);
  // One thread does it for all, and the parent for its children: a second signal would be the end at once.
  if (isChild || Atomics.exchange(self.counters, 1, 1) !== 0) return;
  if (!gone) complain(`no log from here on: ${explain(error)}`);
  else if (isMainThread) stop("");
  else process.kill(process.pid, "SIGTERM");
});
