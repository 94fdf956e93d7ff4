// SPDX-License-Identifier: MIT
/** Scripts in one piece: what standalone.ts prints. That it works is what the whole suite shows: FORM in harness.ts. */

import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { after } from "node:test";
import { fileURLToPath } from "node:url";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { check, run, type Runtime, runtimes, serve } from "./harness.ts";
import { models } from "./models.ts";

/** What must not be mentioned in what was made for one runtime: the names of the others and of their modules. */
const foreign: Record<string, RegExp> = {
  deno: /\bBun\b|\bbun\b/,
  bun: /\bDeno\b|\bdeno\b|\bNode\b|node:net|node:ffi/,
  node: /\bDeno\b|\bdeno\b|\bBun\b|\bbun\b/,
};
const project = path.join(path.dirname(fileURLToPath(import.meta.url)), "..");
const scripts = [...new Set(models.map(({ script }) => script)), "single.ts", "client.ts"];

// The tool needs Deno, which fetches the compiler and formats.
const deno = runtimes.find(({ name }) => name === "deno");
if (deno) standalone(deno);

function standalone(deno: Runtime): void {
  const folder = mkdtempSync(path.join(os.tmpdir(), "standalone-"));
  const forms: Record<string, string[]> = { all: [] };
  for (const name of ["deno", "bun", "node"]) {
    forms[name] = ["--runtime", name];
    forms[`${name}-whole`] = ["--runtime", name, "--whole"];
  }
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

  for (const script of scripts) {
    check(`standalone.ts: ${script} in each form`, async () => {
      await Promise.all(
        Object.entries(forms).map(async ([form, options]) => {
          const output = path.join(folder, form, script);
          mkdirSync(path.dirname(output), { recursive: true });
          const result = await make(script.replace(".ts", ""), ...options, "--output", output);
          assertEquals({ form, code: result.code, errors: result.errors }, { form, code: 0, errors: "" });
          const lines = readFileSync(output, "utf8").split("\n");
          assertMatch(lines[0], /^\/\/ SPDX-License-Identifier: MIT$/);
          assertMatch(lines[1], /^\/\*\*/);
          for (const line of lines) {
            assert(!/from "\.|"\.\/\w+\.ts"|^export /.test(line), `${form}: ${line}`);
            assert(!foreign[form.replace("-whole", "")]?.test(line), `${form}: ${line}`);
          }
        }),
      );
    });
  }

  check("standalone.ts: prints what it would write", async () => {
    const { output } = await make("tasks", "--runtime", "bun");
    assertEquals(output.join("\n") + "\n", readFileSync(path.join(folder, "bun", "tasks.ts"), "utf8"));
  });

  for (const runtime of runtimes) {
    check(`standalone.ts: single.ts and client.ts for a text on ${runtime.name}`, async () => {
      const options = { folder: path.join(folder, runtime.name, "constants") };
      mkdirSync(options.folder, { recursive: true });
      const makeWith = async (script: string, port: number) => {
        const output = ["--output", path.join(options.folder, `${script}.ts`)];
        const { code, errors } = await make(script, "--runtime", runtime.name, ...output, "--", "--port", `${port}`);
        assertEquals([code, errors], [0, ""]);
      };
      await makeWith("single", 0);
      await serve(runtime, "single.ts", [], async (server) => {
        await makeWith("client", server.port);
        const { code, output } = await run(runtime, "client.ts", ["hello"], options);
        assertEquals(code, 0);
        assertEquals(output.filter((line) => / recv /.test(line)), ["main recv 'hello'"]);
        await server.line(/^main recv #1 step 5: 'hello'$/);
        assertEquals(await server.exited, 0);
      }, options);
      await serve(runtime, "tasks.ts", [], async (server) => {
        await makeWith("client", server.port);
        const { code, output } = await run(runtime, "client.ts", ["hello", "world"], options);
        assertEquals(code, 0);
        assertEquals(output.filter((line) => / recv /.test(line)), ["main recv 'hello'", "main recv 'world'"]);
      });
    });
  }

  check(
    "standalone.ts: tasks.ts for a text is short, and the options that it is given are constants in it",
    async () => {
      for (const name of ["deno", "bun", "node"]) {
        const { output } = await make("tasks", "--runtime", name, "--", "--port", "8080", "--messages", "7");
        const text = output.join("\n"), code = output.filter((line) => !/^\s*(\/\/|\/?\*|$)/.test(line));
        assertMatch(text, /const options = \{ host: "127\.0\.0\.1", port: 8080, messages: 7 \};/);
        assert(!/parseArgs|silen|burn/.test(text), text);
        assert(code.length <= { deno: 105, bun: 160, node: 135 }[name]!, `${name}: ${code.length} lines`);
      }
      for (
        const [args, complaint] of [
          [["tasks", "--whole"], /--whole needs --runtime/],
          [["tasks", "--", "--port", "1"], /options for the script need --runtime/],
          [["tasks", "--whole", "--runtime", "bun", "--", "--port", "1"], /options for the script need --runtime/],
          [["tasks", "--runtime", "bun", "--", "--nonsense", "1"], /tasks has no option "--nonsense"/],
          [["tasks", "--runtime", "bun", "--", "--port", "x"], /--port x: not a whole number/],
        ] as const
      ) {
        const { code, output, errors } = await make(...args);
        assertEquals([code, output], [2, []]);
        assertMatch(errors, complaint);
        assertEquals(errors.trim().split("\n").length, 1);
      }
    },
  );

  check("standalone.ts: in a copy for a text nothing is left of threads and options that nobody uses", () => {
    const text = (script: string) => readFileSync(path.join(folder, "deno", script), "utf8");
    assert(!/isMainThread|Worker|parentPort|\bidle\b/.test(text("blocking.ts")));
    assert(!/\bidle\b|quiet|burn|messages:/.test(text("reuseport.ts")));
    for (const script of ["blocking.ts", "pool.ts", "reuseport.ts"]) {
      assertMatch(text(script), /^const options = \{/m, "what the script declares is not inside a function");
    }
    return Promise.resolve();
  });

  check("standalone.ts: what it has made is formatted, and passes the type check", () => {
    const formatted = spawnSync("deno", ["fmt", "--check"], { cwd: folder, encoding: "utf8" });
    assertEquals(formatted.status, 0, formatted.stderr);
    const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
    // Deno's own form needs nothing else; the others need to know Bun's types.
    const config = ["--config", path.join(project, "deno.json"), "--node-modules-dir=auto"];
    const isDenos = (name: string) => name.startsWith("deno");
    const groups = [
      files.filter(isDenos),
      [...config, ...files.filter((name) => !isDenos(name))],
    ];
    for (const args of groups) {
      const { status, stderr } = spawnSync("deno", ["check", "--quiet", ...args], { cwd: folder, encoding: "utf8" });
      assertEquals(status, 0, stderr);
    }
    return Promise.resolve();
  });
}
