// SPDX-License-Identifier: MIT
/** What running a script asks of a machine: permissions, the FFI, nothing from the network. */

import { rmSync } from "node:fs";
import { assertEquals, assertMatch } from "./assert.ts";
import { check, hasFFI, linux, run, type Runtime, runtimes, serve, temporaryFolder } from "./harness.ts";
import { models } from "./models.ts";

const systemCalls = [...new Set(models.flatMap(({ script, systemCalls }) => systemCalls ? [script] : []))];

/** Ways to start each runtime without the FFI: the command, and environment variables. */
const without: Record<string, [command: string[], environment: Record<string, string>][]> = {
  deno: [
    [["deno", "run", "--allow-net", "--no-prompt"], {}],
    // Another library than the C library.
    [["deno", "run", "--allow-net", "--no-prompt", "--allow-ffi=./nothing.so"], {}],
  ],
  bun: [[["bun"], { BUN_JSC_useJIT: "0" }]],
  node: [[["node", "--no-experimental-ffi"], {}], [["node", "--permission", "--allow-fs-read=*"], {}]],
};

for (const runtime of runtimes) {
  const { name } = runtime;
  if (!hasFFI(runtime)) continue;
  for (const [command, environment] of without[name]) {
    const how = [...Object.entries(environment).map((entry) => entry.join("=")), ...command].join(" ");
    check(`${how}: each script of system calls says in one line what it needs, and has its help`, async () => {
      for (const script of systemCalls) {
        const limited: Runtime = { name, command };
        const [started, help] = await Promise.all([
          run(limited, script, ["--port", "0"], { environment }),
          run(limited, script, ["--help"], { environment }),
        ]);
        assertEquals([script, started.code, started.output], [script, 1, []]);
        assertMatch(started.errors, new RegExp(`^${script}: .+\n$`));
        assertEquals([script, help.code, help.errors], [script, 0, ""]);
        assertMatch(help.output.join("\n"), /--port/);
      }
    });
  }
}

if (runtimes.some(({ name }) => name === "deno")) {
  check("deno run downloads nothing", async () => {
    const empty = temporaryFolder();
    const offline = { name: "deno", command: ["deno", "run", "--cached-only", "-A"] };
    for (const script of ["multiplex.ts", "tasks.ts", "single.ts", "client.ts", ...linux ? ["epoll.ts"] : []]) {
      const { code, errors } = await run(offline, script, ["--help"], { environment: { DENO_DIR: empty } });
      assertEquals([code, errors], [0, ""]);
    }
    rmSync(empty, { recursive: true });
  });

  check("deno run: the permissions that suffice", async () => {
    const least: [string, string[]][] = [
      ["multiplex.ts", ["--allow-net"]],
      ["tasks.ts", ["--allow-net"]],
      ["single.ts", ["--allow-net"]],
      ["pool.ts", ["--allow-net", "--allow-read"]],
      ["threads.ts", ["--allow-net", "--allow-read"]],
      ...linux ? [["epoll.ts", ["--allow-ffi"]] as [string, string[]]] : [],
    ];
    for (const [script, permissions] of least) {
      const limited = { name: "deno", command: ["deno", "run", "--no-prompt", ...permissions] };
      await serve(limited, script, [], async (server) => assertEquals([await server.stop(), server.errors], [0, ""]));
    }
  });
}
