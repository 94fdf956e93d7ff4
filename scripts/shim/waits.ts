// SPDX-License-Identifier: MIT
/** Log lines about waiting: what a loop's wait has found, and how long a client stood in line. */

import { setTimeout } from "node:timers";
import { log } from "./log.ts";
import { self } from "./runtime.ts";

/** By event: how many lines its second has had, and what has not been printed yet. */
const waits = new Map<string, { lines: number; times: number; sums: Record<string, number> }>();

/**
 * Prints what a wait has found, as figures with their meanings, and a `detail`. At most ten lines a second for each
 * event; the rest are summed in one line: how often there was such a wait, the sums of the figures, and the detail if
 * it is a `total` already.
 */
export function logWait(event: string, figures: Record<string, number>, detail?: () => string, total = false): void {
  if (self.given.quiet) return;
  let wait = waits.get(event);
  if (!wait) {
    waits.set(event, wait = { lines: 0, times: 0, sums: {} });
    setTimeout(() => {
      waits.delete(event);
      const { times, sums } = wait!;
      const parts = [`${times} more times`, figureText(sums), total && detail?.()];
      if (times > 0) log(event, 0, parts.filter(Boolean).join(": "));
    }, 1000);
  }
  if (wait.lines++ < 10) return log(event, 0, [figureText(figures), detail?.()].filter(Boolean).join(": "));
  wait.times++;
  for (const [name, value] of Object.entries(figures)) wait.sums[name] = (wait.sums[name] ?? 0) + value;
}

function figureText(figures: Record<string, number>): string {
  return Object.entries(figures).map(([name, value]) => `${value} ${name}`).join(", ");
}

/** Since when a client, or what else stands in a line, has been there. */
const since = new WeakMap<object, number>();

/** Logs that a client has to wait as the last of `length` in line, unless there is no reason `why`. */
export function logInLine(event: string, id: number, why: string, length: number, what: object, more = ""): void {
  if (!why) return;
  if (!since.has(what)) since.set(what, performance.now());
  log(event, id, `${why}, ${length} in line${more}`);
}

/** For the line that says the wait is over: how long it was, and how many wait still. Nothing if there was none. */
export function waited(what: object, left: number): string[] {
  const start = since.get(what);
  since.delete(what);
  return start === undefined ? [] : [`after ${(performance.now() - start).toFixed(1)} ms in line, ${left} wait now`];
}
