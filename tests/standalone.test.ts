// SPDX-License-Identifier: MIT
/** Scripts in one piece: what standalone.ts prints. That it works is what the whole suite shows: FORM in harness.ts. */

import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { check, Client, hasFFI, linux, run, type Runtime, runtimes, serve, temporaryFolder } from "./harness.ts";

/** What must not be mentioned in what was made for one runtime: the names of the others and of their modules. */
const foreign: Record<string, RegExp> = {
  deno: /\bBun\b|\bbun\b|\bnode (?=\S+\.m?ts)/,
  bun: /\bDeno\b|\bdeno\b|\bNode\b|node:net|node:ffi/,
  node: /\bDeno\b|\bdeno\b|\bBun\b|\bbun\b/,
};
const names = Object.keys(foreign);
/** Lines of a lesson: what is longer is to become shorter. */
const lines: Record<string, number> = { single: 80, tasks: 80, client: 80 };

/** Scripts whose two files are made, and run, for all runtimes. */
const pairs = ["tasks", "pool", "select"];

// The tool needs Deno, which fetches the parser and formats.
const deno = runtimes.find(({ name }) => name === "deno");
if (deno) standalone(deno);

function standalone(deno: Runtime): void {
  const folder = temporaryFolder();
  const make = (...args: string[]) => run(deno, "standalone.ts", args);
  const fileOf = (script: string, runtime: string) => `${script}.${runtime === "node" ? "mts" : "ts"}`;
  const pathOf = (form: string, script: string, runtime: string) =>
    path.join(folder, form, runtime, fileOf(script, runtime));
  /** Runs Deno's own tools in the folder. */
  const tool = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync("deno", args, { cwd: folder, encoding: "utf8" });
    assertEquals(status, 0, `deno ${args.join(" ")}: ${stdout}${stderr}`);
  };
  let scripts: string[] = [];

  check("standalone.ts: a mistake in the command line is one line, exit code 2", async () => {
    const mistakes: [string[], RegExp][] = [
      [[], /unknown script ""; known are .*client, .*tasks, /],
      [["nonsense"], /unknown script "nonsense"; known are /],
      [["../x"], /unknown script "\.\.\/x"; known are /],
      [["tasks", "pool"], /one script at a time, .*"pool"/],
      [["tasks", "--runtime", "nonsense"], /unknown runtime "nonsense"; known are deno, bun, node/],
      [["tasks", "--whole"], /Unknown option '--whole'/],
      [["tasks", "--", "--nonsense", "1"], /for tasks: Unknown option '--nonsense'/],
      [["tasks", "--", "--idle", "1"], /for tasks: Unknown option '--idle'/],
      [["tasks", "--", "--port", "x"], /for tasks: --port x: not a whole number/],
    ];
    for (const [args, complaint] of mistakes) {
      const { code, output, errors } = await make(...args);
      assertEquals([args, code, output], [args, 2, []]);
      assertMatch(errors, complaint);
      assertMatch(errors, /^standalone\.ts: .*\n$/);
      scripts = /unknown script .*known are (.*) \(/.exec(errors)?.[1].split(", ") ?? scripts;
    }
  });

  check("standalone.ts: a file that can't be written is one line, exit code 1", async () => {
    for (const option of ["--output", "--split"]) {
      const { code, errors } = await make("single", option, path.join(folder, "no", "such", "folder.ts"));
      assertEquals(code, 1);
      assertMatch(errors, /^standalone\.ts: cannot write .*\n$/);
    }
  });

  check("standalone.ts: files that can't be imported are one line, exit code 2", async () => {
    const same = path.join(folder, "same.ts"), odd = path.join(folder, "odd#.ts");
    for (const options of [["--output", same, "--split", same], ["--split", odd]]) {
      const { code, errors } = await make("single", ...options);
      assertEquals(code, 2);
      assertMatch(errors, /^standalone\.ts: --split .*\n$/);
    }
    assert(!existsSync(same) && !existsSync(odd));
  });

  check("standalone.ts: every script for every runtime, in one file and in two", async () => {
    const jobs: [form: string, script: string, runtime: string][] = [];
    for (const script of scripts) {
      for (const runtime of names) {
        jobs.push(["one", script, runtime]);
        // What is in two files hardly depends on the runtime.
        if (runtime === "deno" || pairs.includes(script)) jobs.push(["two", script, runtime]);
      }
    }
    assert(jobs.length > 50, `${jobs.length} copies`);
    for (const form of ["one", "two"]) {
      for (const runtime of names) mkdirSync(path.join(folder, form, runtime), { recursive: true });
    }
    const work = async () => {
      for (let job = jobs.pop(); job; job = jobs.pop()) {
        const output = pathOf(...job), [form, script, runtime] = job;
        const split = form === "two" ? ["--split", pathOf("two", `${script}_rest`, runtime)] : [];
        const { code, errors } = await make(script, "--runtime", runtime, "--output", output, ...split);
        assertEquals([job, code, errors], [job, 0, ""]);
      }
    };
    await Promise.all([work(), work(), work()]);
  });

  check("standalone.ts: a copy stands alone, and is about one runtime", () => {
    for (const file of readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => /ts$/.test(name))) {
      const [form, runtime] = file.split(path.sep), text = readFileSync(path.join(folder, file), "utf8");
      assertMatch(text, /^\/\/ SPDX-License-Identifier: MIT\n\/\*\*/);
      if (form === "one") assert(!/^export |from "\./m.test(text), `${file} needs other files`);
      assertEquals(foreign[runtime].exec(text)?.[0], undefined, file);
      const gone = /parseOptions|parseArgs|silen(t|ce)\b|\bidle\b|\bquiet\b|`--|scripts\/|shim\//;
      assertEquals(gone.exec(text)?.[0], undefined, file);
    }
  });

  check("standalone.ts: the script alone is short", () => {
    for (const script of Object.keys(lines)) {
      const { length } = readFileSync(pathOf("two", script, "deno"), "utf8").trimEnd().split("\n");
      assert(length <= lines[script], `${script}: ${length} lines`);
    }
  });

  check("standalone.ts: what it has made is formatted, without dead code, and passes the type check", () => {
    writeFileSync(
      path.join(folder, "deno.json"),
      JSON.stringify({
        imports: { "bun-types": "npm:bun-types@1.4.5", "@types/deno": "npm:@types/deno@2.7.0" },
        compilerOptions: { types: ["bun-types"], noUnusedLocals: true, noUnusedParameters: true },
        nodeModulesDir: "none",
        lock: false,
      }),
    );
    tool("fmt", "--no-config", "--check", "one", "two");
    tool("lint", "--no-config", "one", "two");
    tool("check", "--quiet", "one", "two");
    // Deno's own needs nothing else.
    tool("check", "--quiet", "--no-config", "one/deno", "two/deno");
  });

  check("standalone.ts: it takes the name of a script or of its file, and prints what it would write", async () => {
    for (const script of ["tasks", "tasks.ts", "scripts/tasks.ts"]) {
      const { output } = await make(script, "--runtime", "bun");
      assertEquals(output.join("\n") + "\n", readFileSync(pathOf("one", "tasks", "bun"), "utf8"));
    }
    const { output } = await make("tasks");
    assertMatch(output.join("\n"), /\bDeno\.listen\b/, "for the runtime that it is run by");
  });

  check("standalone.ts: options are constants", async () => {
    const { output } = await make("tasks", "--runtime", "node", "--", "--port", "8080", "--messages", "7");
    assert(output.includes('const options = { host: "127.0.0.1", port: 8080, messages: 7 };'), output.join("\n"));
    assert(output.includes(" *   node tasks.mts"), "how to run it");
    assertMatch(output.join("\n"), /^ \* {3}nc 127\.0\.0\.1 8080 /m);
  });

  for (const runtime of runtimes) {
    for (const form of ["one", "two"]) {
      check(`standalone.ts: copies for ${runtime.name} in ${form} run`, async () => {
        for (const script of scripts.filter((name) => form === "one" || pairs.includes(name))) {
          const text = readFileSync(pathOf(form, script, runtime.name), "utf8");
          const needsFFI = /CFunction/.test(text) || script === "select";
          if (script === "client" || !linux && (needsFFI || script === "reuseport") || needsFFI && !hasFFI(runtime)) {
            continue;
          }
          const run = path.join(folder, form, runtime.name, "run"), file = fileOf(script, runtime.name);
          mkdirSync(run, { recursive: true });
          // What `npm init` writes: in it Node takes a file for CommonJS unless its name ends in .mts.
          writeFileSync(path.join(run, "package.json"), '{ "type": "commonjs" }');
          writeFileSync(path.join(run, file), text.replace("port: 9999", "port: 0"));
          if (form === "two") {
            const rest = fileOf(`${script}_rest`, runtime.name);
            copyFileSync(path.join(folder, form, runtime.name, rest), path.join(run, rest));
          }
          await serve(runtime, file, [], async (server) => {
            const client = await Client.connect(server.port);
            assert(await client.echo("hello"), script);
            client.close();
            await server.line(/\bclose #1 /);
          }, { folder: run });
        }
      });
    }

    check(`standalone.ts: client.ts for ${runtime.name} talks to tasks.ts`, async () => {
      const run1 = path.join(folder, "one", runtime.name, "run");
      await serve(runtime, fileOf("tasks", runtime.name), [], async (server) => {
        const text = readFileSync(pathOf("one", "client", runtime.name), "utf8");
        const file = fileOf("client", runtime.name);
        writeFileSync(path.join(run1, file), text.replace("port: 9999", `port: ${server.port}`));
        const { code, output } = await run(runtime, file, ["hello", "world"], { folder: run1 });
        assertEquals(code, 0);
        assertEquals(output.filter((line) => /^recv /.test(line)), ['recv 5 "hello"', 'recv 5 "world"']);
      }, { folder: run1 });
    });
  }
}
