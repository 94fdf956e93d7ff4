// SPDX-License-Identifier: MIT
/** What a process and its children have taken, from /proc: see proc(5). There is none but on Linux. */

import { readdirSync, readFileSync } from "node:fs";

export interface Usage {
  /** Seconds of CPU of all threads that there are, counted in nanoseconds. */
  cpu: number;
  /** Seconds that these threads could have run but had no core, all together. */
  waited: number;
  /** Megabytes: now, and at most. */
  memory: number;
  peak: number;
  threads: number;
}

/** A process and its children. */
export function family(pid: number): number[] {
  const all = (read(() => readdirSync("/proc")) ?? []).filter((name) => /^\d+$/.test(name)).map(Number);
  return [pid, ...all.filter((one) => parentOf(one) === pid)];
}

/** The name before it, in brackets, may hold anything. */
function parentOf(pid: number): number {
  return Number(textOf(`${pid}/stat`).replace(/^.*\) /s, "").split(" ")[1] ?? 0);
}

/** What there is to be read, unless the process or thread has ended, or there is no /proc. */
function read<What>(what: () => What): What | null {
  try {
    return what();
  } catch {
    return null;
  }
}

/** A file in /proc, empty if it can't be read. */
function textOf(name: string): string {
  return read(() => readFileSync(`/proc/${name}`, "utf8")) ?? "";
}

/** What these processes have taken so far, as far as they and their threads are still there; `null` if none is. */
export function usage(pids: number[]): Usage | null {
  const total: Usage = { cpu: 0, waited: 0, memory: 0, peak: 0, threads: 0 };
  for (const pid of pids) {
    for (const thread of read(() => readdirSync(`/proc/${pid}/task`)) ?? []) {
      const [ran, waited] = textOf(`${pid}/task/${thread}/schedstat`).split(" ");
      if (!waited) continue;
      total.cpu += Number(ran) / 1e9;
      total.waited += Number(waited) / 1e9;
      total.threads++;
    }
    const status = textOf(`${pid}/status`);
    const megabytes = (name: string) =>
      Number(new RegExp(`^${name}:\\s*(\\d+)`, "m").exec(status)?.[1] ?? 0) * 1024 / 1e6;
    total.memory += megabytes("VmRSS");
    total.peak += megabytes("VmHWM");
  }
  return total.threads > 0 ? total : null;
}

/** CPU seconds that all programs have used so far, with what another virtual machine took from this one. */
export function usedByAll(): number | null {
  const [first] = textOf("stat").split("\n");
  const [, user, nice, system, , , , , steal] = first.split(/ +/).map(Number);
  return first ? (user + nice + system + steal) / 100 : null;
}
