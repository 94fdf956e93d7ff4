// SPDX-License-Identifier: MIT
/** Exercise: what is wrong with it? Starts a server that is broken on purpose, or tests one of its behaviours. */

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import process from "node:process";
import { copy, test, titleOf, type Twin, twins } from "../twins.ts";

/** Faults that a log and a client show, by their names in twins.ts. */
const names = [
  "counts the thread that accepts among those that serve",
  "serves one message too many",
  "computes on the loop",
  "closes no silent connection",
];
export const faults: Twin[] = names.map((name) => {
  const twin = twins.find((twin) => twin.name === name);
  if (!twin) throw new Error(`twins.ts has no "${name}"`);
  return twin;
});

/** Starts the broken server, as its runtime is started, until it ends or is stopped. */
function start({ file, from, to, model, runtime }: Twin, options: string[]): void {
  const folder = mkdtempSync(path.join(tmpdir(), "echo-fault-"));
  copy({ file, from, to }, folder);
  const [script, ...args] = model.split(" ");
  const child = spawn(runtime, [
    ...runtime === "deno" ? ["run", "-A"] : [],
    path.join(folder, script),
    ...args,
    ...options,
  ], {
    stdio: "inherit",
  });
  // Ctrl-C reaches both, and the server is to say its last words.
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => child.kill(signal));
  child.on("close", (code) => {
    rmSync(folder, { recursive: true, force: true });
    process.exit(code ?? 1);
  });
}

/** Tests the broken server for the behaviours whose names have this word, and says whether the fault is among them. */
async function suspect(twin: Twin, word: string): Promise<void> {
  const suspected = [...new Set(twins.map(({ caught }) => caught))].filter((name) => name.includes(word));
  if (suspected.length === 0) console.log(`no behaviour here has "${word}" in its name`);
  for (const name of suspected) {
    const [result] = await test(twin, titleOf(twin, name)).catch(() => []);
    if (!result) console.log(`says nothing of this server: ${name}`);
    else if (!result.failure) console.log(`not this: ${name}`);
    else console.log(`found! It fails: ${name}\n  ${result.failure.split("\n")[0]}\nWhat is wrong: it ${twin.name}.`);
  }
}

if (import.meta.main) {
  const [number, ...rest] = process.argv.slice(2), twin = faults[Number(number) - 1];
  if (!twin) console.log(`Usage: fault.ts 1 to ${faults.length}, and options of the server, or a word`);
  else if (rest.length === 0 || rest[0].startsWith("-")) start(twin, rest);
  else await suspect(twin, rest.join(" "));
}
