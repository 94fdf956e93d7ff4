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
}

const unlimited = ["--messages", "0"];

export const models: Model[] = [
  { script: "threads.ts", args: unlimited, clients: 64, idle: 40, churn: 300 },
  { script: "tasks.ts", args: unlimited, clients: Infinity, idle: 10_000, churn: 10_000 },
  { script: "pool.ts", args: unlimited, clients: 3, idle: 2, churn: 10_000 },
  { script: "multiplex.ts", args: [], clients: Infinity, idle: 10_000, churn: 10_000 },
  { script: "reuseport.ts", args: unlimited, clients: Infinity, idle: 2_000, churn: 10_000, linux: true },
  { script: "blocking.ts", args: [], clients: 1, idle: 0, churn: 10_000, systemCalls: true },
  { script: "blocking.ts", args: ["--threads", "3"], clients: 3, idle: 2, churn: 10_000, systemCalls: true },
  { script: "nonblocking.ts", args: [], clients: Infinity, idle: 500, churn: 10_000, systemCalls: true, spins: true },
  { script: "select.ts", args: [], clients: 900, idle: 900, churn: 10_000, systemCalls: true },
  { script: "poll.ts", args: [], clients: Infinity, idle: 10_000, churn: 10_000, systemCalls: true },
  { script: "epoll.ts", args: [], clients: Infinity, idle: 10_000, churn: 10_000, systemCalls: true },
  { script: "epoll.ts", args: ["--edge"], clients: Infinity, idle: 10_000, churn: 10_000, systemCalls: true },
  { script: "uring.ts", args: [], clients: Infinity, idle: 10_000, churn: 10_000, systemCalls: true },
];
