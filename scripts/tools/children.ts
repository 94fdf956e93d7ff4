// SPDX-License-Identifier: MIT
/** Programs that end with this process. */

import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { stripVTControlCharacters } from "node:util";
import { fail, process, runtime } from "../shim/program.ts";

/** What is running. */
export const children = new Set<ChildProcessWithoutNullStreams>();
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));
// Where this signal is ignored, as some parents leave it, the kernel forgets a child that ends, and Deno finds none.
if (process.platform !== "win32") process.on("SIGCHLD", () => {});

/**
 * Starts a program with as many descriptors as it may have, which ends with this process however that ends: a shell
 * beside it waits for the end of a pipe that is never written to. That shell passes the arguments on as they are.
 * A program that `reads` has its standard input, and sees itself when that ends.
 */
export function startChild(command: string[], reads = false): ChildProcessWithoutNullStreams {
  const watch = `exec 3<&0 </dev/null
    ( (trap "" HUP INT QUIT TERM; read -r _ <&3; kill -KILL $$) & ) >/dev/null 2>&1; `;
  const script = `ulimit -n "$(ulimit -H -n)" 2>/dev/null; ${reads ? "" : watch}exec "$@" 3<&-`;
  const [program, ...rest] = process.platform === "win32" ? command : ["/bin/sh", "-c", script, "sh", ...command];
  const child = spawn(program, rest, { stdio: "pipe" });
  children.add(child);
  child.stdin.on("error", () => {});
  child.once("exit", () => child.stdin.end());
  child.once("close", () => children.delete(child));
  return child;
}

/** Sends a signal, if the child has not ended. After `child.kill` Deno takes it for ended, and closes its pipes. */
export function signalChild(child: ChildProcessWithoutNullStreams, signal: NodeJS.Signals): void {
  try {
    if (children.has(child)) process.kill(child.pid!, signal);
  } catch {
    // It is just ending.
  }
}

/** What a program said on its way out, in one line: its own one, or else an error's, or the last. */
export function lastWords(text: string): string {
  const lines = stripVTControlCharacters(text).split("\n").filter((line) => line.trim() && !/warning/i.test(line));
  const own = lines.find((line) => /^\w+\.ts: /.test(line)) ?? lines.find((line) => /error/i.test(line)) ??
    lines.at(-1);
  return (own ?? "").replace(/^\w+\.ts: /, "").replace(/\p{C}/gu, " ").trim();
}

/** Ends the process with one line if Deno was not given the permissions that a program needs which starts others. */
export function requirePermissions(): void {
  if (runtime !== "deno") return;
  const needed = ["read", "write", "env", "net", "run", "sys"] as const;
  const missing = needed.filter((name) => Deno.permissions.querySync({ name }).state !== "granted");
  if (missing.length > 0) fail("cannot start programs", `no permission to ${missing.join(", ")}: use deno run -A`);
}
