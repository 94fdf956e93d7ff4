// SPDX-License-Identifier: MIT
/** What is simpler in a copy than in shim/sys.ts. */

import process from "node:process";

/** `struct epoll_event` in 32-bit integers: events, and 64 bits of data. */
export const EPOLL_EVENT_INTS = process.arch === "x64" ? 3 : 4;

let lastTurn = 0;

/** Lets the runtime run its timers, which it can't do during a call. */
export async function runtimeTurn(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 0));
  lastTurn = performance.now(); // tag: due
}
