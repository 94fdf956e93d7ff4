// SPDX-License-Identifier: MIT
/** Which runtimes there are. It imports nothing of the project, so that tests can use it, too. */

import { spawnSync } from "node:child_process";

/** A runtime that has said itself what it is. */
export interface Found {
  /** The program: what the PATH has may be a script that starts it. */
  program: string;
  version: string;
}

const question = `const name = "Deno" in globalThis ? "deno" : "Bun" in globalThis ? "bun" : "node";
  console.log([name, process.versions[name], process.execPath].join("\\n"))`;

/**
 * Asks the program that `name` (deno, bun, node) starts which runtime it is. Returns why it can't be used if it is
 * missing or another one: where there is no node, Deno and `bun --bun` start themselves under that name.
 */
export function findRuntime(name: string): Found | string {
  const { stdout, error } = spawnSync(name, [name === "deno" ? "eval" : "-e", question]);
  const [own, version, program] = String(stdout ?? "").trim().split("\n");
  if (own === name && version && program) return { program, version };
  if (error) return `${name} is not on the PATH`;
  return /^(deno|bun|node)$/.test(own) ? `what starts as ${name} here is ${own}` : `${name} does not run here`;
}
