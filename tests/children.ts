// SPDX-License-Identifier: MIT
/** What the system knows of the processes that a server has started: see proc_pid_stat(5). */

import { readdirSync, readFileSync } from "node:fs";
import type { Script } from "./harness.ts";

/** The state of a process, `Z` if it is a zombie, and its parent; nothing if it has ended. */
function statusOf(pid: string | number): { state: string; parent: number } | null {
  try {
    const [state, parent] = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
    return { state, parent: Number(parent) };
  } catch {
    return null;
  }
}

/** The children of a server, as their states. */
export function children(server: Script): string[] {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((pid) => {
    const status = statusOf(pid);
    return status?.parent === server.pid ? [status.state] : [];
  });
}

/** The first process that `pid` has started. */
export function childOf(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ")[0]);
}

/** Whether a process has not ended. A zombie that nobody has collected yet has. */
export function isRunning(pid: number | string): boolean {
  const status = statusOf(pid);
  return status !== null && status.state !== "Z";
}
