// SPDX-License-Identifier: MIT
/**
 * What a script says on a runtime that is too old for it. Not a part of the suite, as it needs the network: npx fetches
 * the old runtimes when it first runs, and after that it takes a few seconds.
 *
 *   deno task test:old
 */

import { spawnSync } from "node:child_process";
import process from "node:process";
import { assertEquals } from "./assert.ts";
import { check, run } from "./harness.ts";

/** The oldest that get as far as that line, and the first that are new enough. */
const old = [
  { name: "deno", version: "2.0.6", arguments: ["run", "-A"], needed: "2.9" },
  { name: "bun", version: "1.0.36", arguments: [], needed: "1.4" },
  { name: "bun", version: "1.3.0", arguments: [], needed: "1.4" },
  { name: "node", version: "22.6.0", arguments: ["--experimental-strip-types", "--no-warnings"], needed: "22.18" },
];

for (const { name, version, arguments: args, needed } of old) {
  check(`${name} ${version}: one line says what is needed, exit code 1`, async () => {
    // Where it is, for npx itself takes a second.
    const found = spawnSync("npx", ["-y", "-p", `${name}@${version}`, "-c", `command -v ${name}`], {
      encoding: "utf8",
      env: process.env,
    });
    assertEquals([found.status, found.status && found.stderr], [0, 0]);
    const command = [found.stdout.trim(), ...args];
    const scripts = ["tasks", "pool", "epoll", "client", "blocking", "processes", "uring", "offload", "reuseport"];
    for (const script of scripts.map((name) => `${name}.ts`)) {
      const { code, output, errors } = await run({ name, command }, script, ["--port", "0"]);
      const line = `${script}: ${name} ${version}: too old: ${needed} or later is needed\n`;
      assertEquals([code, output, errors], [1, [], line]);
    }
  });
}
