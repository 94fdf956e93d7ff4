// SPDX-License-Identifier: MIT
/** The servers under test, and what each promises. */

/** A server, started so that it echoes until the client leaves. */
export interface Model {
  script: string;
  args: string[];
  /** Whether it calls the C library, and so needs Linux and FFI. */
  systemCalls?: boolean;
  /** Whether it needs Linux, though no FFI. */
  linux?: boolean;
  /** How many clients it serves at once. */
  clients: number;
  /** How many idle connections it holds beside an active one. */
  idle: number;
  /** How many clients come and go in the test for leaks: fewer where each costs a thread. */
  churn: number;
  /** A core at 100 % is its point. */
  spins?: boolean;
  /** Whether it has `--work`. */
  work?: boolean;
}

const systemCalls = true, work = true;

export const models: Model[] = [
  { script: "threads.ts", args: ["--messages", "0"], clients: 64, idle: 30, churn: 50, work },
  { script: "tasks.ts", args: [], clients: Infinity, idle: 2000, churn: 1000, work },
  { script: "pool.ts", args: ["--messages", "0"], clients: 3, idle: 2, churn: 1000, work },
  { script: "multiplex.ts", args: [], clients: Infinity, idle: 2000, churn: 1000, work },
  { script: "reuseport.ts", args: [], clients: Infinity, idle: 2000, churn: 1000, work, linux: true },
  { script: "blocking.ts", args: [], clients: 1, idle: 0, churn: 1000, systemCalls },
  { script: "blocking.ts", args: ["--threads", "3"], clients: 3, idle: 2, churn: 1000, systemCalls },
  { script: "nonblocking.ts", args: [], clients: Infinity, idle: 500, churn: 1000, systemCalls, spins: true },
  { script: "select.ts", args: [], clients: 900, idle: 900, churn: 1000, systemCalls },
  { script: "poll.ts", args: [], clients: Infinity, idle: 2000, churn: 1000, systemCalls },
  { script: "epoll.ts", args: [], clients: Infinity, idle: 2000, churn: 1000, systemCalls },
  { script: "epoll.ts", args: ["--edge"], clients: Infinity, idle: 2000, churn: 1000, systemCalls },
  { script: "coroutines.ts", args: [], clients: Infinity, idle: 2000, churn: 1000, systemCalls, work },
  { script: "uring.ts", args: [], clients: Infinity, idle: 2000, churn: 1000, systemCalls },
  { script: "reactors.ts", args: [], clients: Infinity, idle: 2000, churn: 1000, systemCalls, work },
  { script: "signals.ts", args: [], clients: Infinity, idle: 2000, churn: 1000, systemCalls },
  { script: "offload.ts", args: [], clients: Infinity, idle: 2000, churn: 1000, work },
  { script: "processes.ts", args: [], clients: 16, idle: 12, churn: 50, systemCalls },
  { script: "prefork.ts", args: [], clients: 3, idle: 2, churn: 1000, systemCalls, work },
  { script: "prefork.ts", args: ["--pass"], clients: 3, idle: 2, churn: 1000, systemCalls, work },
];
