// SPDX-License-Identifier: MIT
/** Scripts in one piece: what standalone.ts prints runs by itself, from an empty folder. */

import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { after } from "node:test";
import { fileURLToPath } from "node:url";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { check, Client, hasFFI, pattern, run, type Runtime, runtimes, serve } from "./harness.ts";
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

  // The copies for all runtimes, and those for one, are run by the whole suite: FORM in harness.ts. These are not, as
  // they have no options.
  for (const runtime of runtimes) {
    for (const { script, args, systemCalls } of servers) {
      if (systemCalls && !hasFFI(runtime)) continue;
      check(`standalone.ts: ${[script, ...args].join(" ")}, plain, on ${runtime.name}`, async () => {
        const output = path.join(folder, "plain", runtime.name, `${args.join("")}-${script}`);
        mkdirSync(path.dirname(output), { recursive: true });
        const options = ["--runtime", runtime.name, "--plain", "--output", output];
        const made = await make(script.replace(".ts", ""), ...options, "--", "--port", "0", ...args);
        assertEquals([made.code, made.errors], [0, ""]);
        await serve(runtime, path.basename(output), [], async (server) => {
          const client = await Client.connect(server.port);
          assert(await client.echo("one"), "the reply");
          await server.line(/^[\w-]+ recv #1 .*one/);
          if (script === "single.ts") return assertEquals(await server.exited, 0);
          assert(await client.echo(pattern(1 << 20)), "a megabyte");
          client.finish();
          assertEquals(await client.end(), "end");
          client.close();
          const next = await Client.connect(server.port);
          assert(await next.echo("two"), "the next client's");
          next.close();
          assertEquals(server.errors, "");
        }, { folder: path.dirname(output) });
      });
    }
  }

  check("standalone.ts: client.ts, plain", async () => {
    const output = path.join(folder, "plain", "deno", "client.ts");
    mkdirSync(path.dirname(output), { recursive: true });
    await serve(deno, "tasks.ts", [], async (server) => {
      await make("client", "--runtime", "deno", "--plain", "--output", output, "--", "--port", `${server.port}`);
      const { code, output: lines } = await run(deno, "client.ts", ["hello", "world"], {
        folder: path.dirname(output),
      });
      assertEquals(code, 0);
      assertEquals(lines.filter((line) => / recv /.test(line)), ["main recv 'hello'", "main recv 'world'"]);
    });
  });

  check("standalone.ts: a plain tasks.ts is short, and the options that it is given are constants in it", async () => {
    for (const name of ["deno", "bun", "node"]) {
      const { output } = await make("tasks", "--runtime", name, "--plain", "--", "--port", "8080", "--messages", "7");
      const text = output.join("\n"), code = output.filter((line) => !/^\s*(\/\/|\/?\*|$)/.test(line));
      assertMatch(text, /const options = \{ host: "127\.0\.0\.1", port: 8080, messages: 7 \};/);
      assert(!/parseArgs|silen|burn/.test(text), text);
      assert(code.length < { deno: 135, bun: 195, node: 165 }[name]!, `${name}: ${code.length} lines`);
    }
    for (
      const [args, complaint] of [
        [["tasks", "--plain"], /--plain needs --runtime/],
        [["tasks", "--", "--port", "1"], /options for the script need --plain/],
        [["tasks", "--plain", "--runtime", "bun", "--", "--nonsense", "1"], /tasks has no option "--nonsense"/],
        [["tasks", "--plain", "--runtime", "bun", "--", "--port", "x"], /--port x: not a whole number/],
      ] as const
    ) {
      const { code, output, errors } = await make(...args);
      assertEquals([code, output], [2, []]);
      assertMatch(errors, complaint);
      assertEquals(errors.trim().split("\n").length, 1);
    }
  });

  check("standalone.ts: what it has made is formatted, and passes the type check", () => {
    const formatted = spawnSync("deno", ["fmt", "--check"], { cwd: folder, encoding: "utf8" });
    assertEquals(formatted.status, 0, formatted.stderr);
    const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
    // Deno's own form needs nothing else; the others need to know Bun's types.
    const config = ["--config", path.join(project, "deno.json"), "--node-modules-dir=auto"];
    const isDenos = (name: string) => /^(plain.)?deno/.test(name);
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
