// SPDX-License-Identifier: MIT
/** The servers under test, and what each promises. */

/** A server, started so that it echoes until the client leaves. */
export interface Model {
  script: string;
  args: string[];
  /** Whether it calls the C library, and so needs Linux and FFI. */
  systemCalls?: boolean;
  /** How many clients it serves at once. */
  clients: number;
  /** How many idle connections it holds beside an active one. */
  idle: number;
  /** How many clients come and go in the test for leaks: fewer where each costs a thread. */
  churn: number;
  /** A core at 100 % is its point. */
  spins?: boolean;
}

export const models: Model[] = [
  { script: "tasks.ts", args: ["--messages", "0"], clients: Infinity, idle: 10_000, churn: 10_000 },
  { script: "multiplex.ts", args: [], clients: Infinity, idle: 10_000, churn: 10_000 },
];
