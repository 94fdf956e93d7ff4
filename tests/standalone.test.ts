// SPDX-License-Identifier: MIT
/** Scripts in one piece: what standalone.ts prints runs by itself, from an empty folder. */

import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import process from "node:process";
import { after } from "node:test";
import { fileURLToPath } from "node:url";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { check, Client, hasFFI, run, type Runtime, runtimes, serve } from "./harness.ts";
import { type Model, models } from "./models.ts";

/** What must not be mentioned in what was made for one runtime: the names of the others and of their modules. */
const foreign: Record<string, RegExp> = {
  deno: /\bBun\b|\bbun\b/,
  bun: /\bDeno\b|\bdeno\b|\bNode\b|node:net|node:ffi/,
  node: /\bDeno\b|\bdeno\b|\bBun\b|\bbun\b/,
};
const project = path.join(path.dirname(fileURLToPath(import.meta.url)), "..");
const servers: Pick<Model, "script" | "args" | "systemCalls">[] = [
  ...models,
  { script: "single.ts", args: [] },
  { script: "blocking.ts", args: [], systemCalls: true },
  { script: "nonblocking.ts", args: [], systemCalls: true },
  { script: "uring.ts", args: [], systemCalls: true },
].filter(({ script }, i, all) => i < models.length || all.findIndex((other) => other.script === script) === i);

// The tool needs Deno, which fetches the compiler and formats. The scripts made by it run on any runtime.
const deno = runtimes.find(({ name }) => name === "deno");
if (deno) standalone(deno);

function standalone(deno: Runtime): void {
  const folder = mkdtempSync(path.join(os.tmpdir(), "standalone-"));
  const forms = ["all", "deno", "bun", "node"];
  const make = (...args: string[]) => run(deno, "standalone.ts", args);
  after(() => rmSync(folder, { recursive: true, force: true }));

  check("standalone.ts: an unknown script or runtime is one line with those that are known, exit code 2", async () => {
    for (const args of [["nonsense"], [], ["../x"]]) {
      const { code, errors } = await make(...args);
      assertEquals(code, 2);
      assertMatch(errors, /^standalone\.ts: unknown script ".*"; known are .*client, .*tasks, .*\n$/);
    }
    const { code, errors } = await make("tasks", "--runtime", "nonsense");
    assertEquals(code, 2);
    assertMatch(errors, /^standalone\.ts: unknown runtime "nonsense"; known are deno, bun, node.*\n$/);
  });

  check("standalone.ts: a file that can't be written is one line, exit code 1", async () => {
    const { code, errors } = await make("single", "--output", path.join(folder, "no", "such", "folder.ts"));
    assertEquals(code, 1);
    assertMatch(errors, /^standalone\.ts: cannot write .*\n$/);
  });

  for (const script of [...new Set(servers.map(({ script }) => script)), "client.ts"]) {
    check(`standalone.ts: ${script} in each form`, async () => {
      await Promise.all(forms.map(async (form) => {
        const output = path.join(folder, form, script);
        mkdirSync(path.dirname(output), { recursive: true });
        const kept = form === "all" ? [] : ["--runtime", form];
        const result = await make(script.replace(".ts", ""), ...kept, "--output", output);
        assertEquals({ form, code: result.code, errors: result.errors }, { form, code: 0, errors: "" });
        const lines = readFileSync(output, "utf8").split("\n");
        assertMatch(lines[0], /^\/\/ SPDX-License-Identifier: MIT$/);
        assertMatch(lines[1], /^\/\*\*/);
        for (const line of lines) {
          assert(!/from "\.|"\.\/\w+\.ts"|^export /.test(line), `${form}: ${line}`);
          assert(!foreign[form]?.test(line), `${form}: ${line}`);
        }
      }));
    });
  }

  check("standalone.ts: prints what it would write", async () => {
    const { output } = await make("tasks", "--runtime", "bun");
    assertEquals(output.join("\n") + "\n", readFileSync(path.join(folder, "bun", "tasks.ts"), "utf8"));
  });

  check("standalone.ts: what it makes is formatted, and passes the type check", () => {
    const formatted = spawnSync("deno", ["fmt", "--check"], { cwd: folder, encoding: "utf8" });
    assertEquals(formatted.status, 0, formatted.stderr);
    const files = forms.flatMap((form) => readdirSync(path.join(folder, form)).map((name) => path.join(form, name)));
    // Deno's own form needs nothing else; the others need to know Bun's types.
    const config = ["--config", path.join(project, "deno.json"), "--node-modules-dir=auto"];
    const groups = [
      files.filter((name) => name.startsWith("deno")),
      [...config, ...files.filter((name) => !name.startsWith("deno"))],
    ];
    for (const args of groups) {
      const { status, stderr } = spawnSync("deno", ["check", "--quiet", ...args], { cwd: folder, encoding: "utf8" });
      assertEquals(status, 0, stderr);
    }
    return Promise.resolve();
  });

  for (const runtime of runtimes) {
    for (const { script, args, systemCalls } of servers) {
      if (systemCalls && !hasFFI(runtime)) continue;
      for (const form of ["all", runtime.name]) {
        check(`standalone.ts: ${script}, ${form === "all" ? "for all" : "its own"}, on ${runtime.name}`, async () => {
          await serve(runtime, script, args, async (server) => {
            const client = await Client.connect(server.port);
            assert(await client.echo("one"), "the reply");
            await server.line(/ recv #1 .*"one"/);
            client.finish();
            assertEquals(await client.end(), "end");
            client.close();
            if (script !== "single.ts") {
              const next = await Client.connect(server.port);
              assert(await next.echo("two"), "the next client's");
              process.kill(server.pid, "SIGINT");
            }
            assertEquals(await server.exited, 0);
            assertEquals(server.errors, "");
          }, { folder: path.join(folder, form) });
        });
      }
    }
    check(`standalone.ts: client.ts on ${runtime.name}`, () =>
      serve(runtime, "tasks.ts", [], async (server) => {
        for (const form of ["all", runtime.name]) {
          const args = ["--port", String(server.port), "hello", "world"];
          const { code, output, errors } = await run(runtime, "client.ts", args, { folder: path.join(folder, form) });
          assertEquals({ code, errors }, { code: 0, errors: "" });
          assert(output.some((line) => / recv .*"world"/.test(line)), output.join("\n"));
        }
      }));
  }
}
