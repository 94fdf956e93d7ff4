// SPDX-License-Identifier: MIT
/** Copies of the scripts for articles, in .github/copies, and standalone.ts, which prints them. */

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { check, Client, hasFFI, linux, project, run, runtimes, serve, temporaryFolder } from "./harness.ts";

/** What must not be mentioned in what was made for one runtime: the names of the others and of their modules. */
const foreign: Record<string, RegExp> = {
  deno: /\bBun\b|\bbun\b|\bnode (?=\S+\.m?ts)/,
  bun: /\bDeno\b|\bdeno\b|\bNode\b|node:net|node:ffi/,
  node: /\bDeno\b|\bdeno\b|\bBun\b|\bbun\b/,
};
const copies = path.join(project, ".github", "copies");
const files = Object.keys(foreign).flatMap((runtime) =>
  readdirSync(path.join(copies, runtime)).map((file) => ({
    ...{ runtime, file, name: file.replace(/\.m?ts$/, "") },
    text: readFileSync(path.join(copies, runtime, file), "utf8"),
  }))
);

const folder = temporaryFolder();
const [first] = runtimes;
const make = (...args: string[]) => run(first, "standalone.ts", args);

if (first) {
  check("standalone.ts: a mistake in the command line is one line, exit code 2", async () => {
    const mistakes: [string[], RegExp][] = [
      [[], /unknown script ""; known are .*tasks/],
      [["nonsense"], /unknown script "nonsense"; known are /],
      [["../x"], /unknown script "\.\.\/x"; known are /],
      [["tasks", "pool"], /one script at a time, .*"pool"/],
      [["tasks", "--runtime", "nonsense"], /unknown runtime "nonsense"; known are bun, deno, node/],
      [["tasks", "--whole"], /Unknown option '--whole'/],
      [["tasks", "--", "--nonsense", "1"], /for tasks: Unknown option '--nonsense'/],
      [["tasks", "--", "--idle", "1"], /for tasks: Unknown option '--idle'; there are --host, --port/],
      [["tasks", "--", "--port", "x"], /for tasks: --port x: not a whole number/],
      [["tasks", "--", "--port", "080"], /for tasks: --port 080: not a whole number/],
      [["pool", "--", "--workers", "0"], /for pool: --workers 0: not a whole number from 1/],
      [["tasks", "--", "--port", "65536"], /for tasks: --port 65536: more than 65535/],
      [["single", "--split", "odd#.ts"], /--split odd#\.ts: an import can't name a file/],
      [["single", "--output", "same.ts", "--split", "same.ts"], /--split and --output name the same file/],
    ];
    for (const [args, complaint] of mistakes) {
      const { code, output, errors } = await make(...args);
      assertEquals([args, code, output], [args, 2, []]);
      assertMatch(errors, complaint);
      assertMatch(errors, /^standalone\.ts: .*\n$/);
    }
    assert(!existsSync("same.ts") && !existsSync("odd#.ts"));
  });

  check("standalone.ts: a file that can't be written is one line, exit code 1", async () => {
    for (const option of ["--output", "--split"]) {
      const { code, errors } = await make("single", option, path.join(folder, "no", "such", "folder.ts"));
      assertEquals(code, 1);
      assertMatch(errors, /^standalone\.ts: cannot write .*\n$/);
    }
  });

  check("standalone.ts: a copy stands alone, is about one runtime, and is as wide as a page", () => {
    for (const { runtime, file, text } of files) {
      assertMatch(text, /^\/\/ SPDX-License-Identifier: MIT\n\/\*\*/);
      assert(!/^export |from "\./m.test(text), `${file} needs other files`);
      assertEquals(foreign[runtime].exec(text)?.[0], undefined, `${runtime} ${file}`);
      const gone = /parseArgs|\bquiet\b|`--|scripts\/|shim\/|\btag:/;
      assertEquals(gone.exec(text)?.[0], undefined, `${runtime} ${file}`);
      // In comments these are words.
      const code = text.replace(/\/\*\*[^]*?\*\/|\/\/ .*/g, "");
      assertEquals(/\boptions\b|silen(t|ce)\b|\bidle\b/.exec(code)?.[0], undefined, `${runtime} ${file}`);
      assert(!/[^]\n \*\/[^]*\*\/\n\n/.test(text), `${runtime} ${file}: a comment on nothing`);
      for (const line of text.split("\n")) assert(line.length <= 80, `${runtime} ${file}: ${line}`);
    }
  });

  check("standalone.ts: it takes the name of a script or of its file, and prints its copy", async () => {
    for (const runtime of runtimes) {
      const { output } = await run(runtime, "standalone.ts", ["tasks"]);
      const own = files.find((copy) => copy.runtime === runtime.name && copy.name === "tasks")!;
      assertEquals(output.join("\n") + "\n", own.text, `for ${runtime.name}, which runs it`);
    }
    for (const script of ["tasks.ts", "scripts/tasks.ts"]) {
      const { output } = await make(script, "--runtime", "bun");
      assertMatch(output.join("\n"), /\bBun\.listen\b/);
    }
  });

  check("standalone.ts: options are constants, and a file says under which name it runs", async () => {
    const output = path.join(folder, "server.mts");
    const options = ["--port", "8080", "--workers", "7"];
    const { code, errors } = await make("pool", "--runtime", "node", "--output", output, "--", ...options);
    assertEquals([code, errors], [0, ""]);
    const text = readFileSync(output, "utf8");
    assertMatch(text, /^const PORT = 8080;$/m);
    assertMatch(text, /^const WORKERS = 7;$/m);
    assertMatch(text, /^ \* {3}node server\.mts$/m);
    assertMatch(text, /^ \* {3}nc 127\.0\.0\.1 8080 /m);
  });
}

if (runtimes.some(({ name }) => name === "deno")) {
  const deno = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync("deno", args, { cwd: folder, encoding: "utf8" });
    assertEquals(status, 0, `deno ${args.join(" ")}: ${stdout}${stderr}`);
  };

  check("standalone.ts: every copy is what `deno task copies` makes", () => {
    deno("run", "-A", path.join(project, "scripts", "tools", "copies.ts"), path.join(folder, "made"));
    for (const { runtime, file, text } of files) {
      const made = readFileSync(path.join(folder, "made", runtime, file), "utf8");
      assertEquals(text, made, `${runtime} ${file} is out of date`);
      // And what stands in two files, of which the linter and the checker learn below.
      const two = path.join(folder, "two", runtime);
      mkdirSync(two, { recursive: true });
      const rest = path.join(two, `rest_${file}`);
      const args = ["--runtime", runtime, "--output", path.join(two, file), "--split", rest];
      deno("run", "-A", path.join(project, "scripts", "standalone.ts"), file.replace(/\.m?ts$/, ""), ...args);
    }
    for (const runtime of Object.keys(foreign)) {
      assertEquals(readdirSync(path.join(folder, "made", runtime)), readdirSync(path.join(copies, runtime)));
    }
  });

  check("standalone.ts: copies are formatted, without dead code, and pass the type check", () => {
    writeFileSync(
      path.join(folder, "deno.json"),
      JSON.stringify({
        imports: { "bun-types": "npm:bun-types@1.4.5", "@types/deno": "npm:@types/deno@2.7.0" },
        compilerOptions: { types: ["bun-types"], noUnusedLocals: true, noUnusedParameters: true },
        nodeModulesDir: "none",
        lock: false,
      }),
    );
    deno("fmt", "--no-config", "--check", "made", "two");
    deno("lint", "--no-config", "made", "two");
    deno("check", "--quiet", "made", "two");
    // Deno's own needs nothing else.
    deno("check", "--quiet", "--no-config", "made/deno", "two/deno");
  });
}

for (const runtime of runtimes) {
  for (const form of ["one file", "two files"]) {
    check(`standalone.ts: copies for ${runtime.name} in ${form} run`, async () => {
      for (const { file, name, text } of files.filter((copy) => copy.runtime === runtime.name)) {
        const needsFFI = /\bcFunction\b/.test(text);
        if (!linux && (needsFFI || /reusePort/.test(text)) || needsFFI && !hasFFI(runtime)) continue;
        const own = path.join(folder, form, runtime.name, name);
        mkdirSync(own, { recursive: true });
        // What `npm init` writes: in it Node takes a file for CommonJS unless its name ends in .mts.
        writeFileSync(path.join(own, "package.json"), '{ "type": "commonjs" }');
        const split = form === "two files" ? ["--split", path.join(own, `rest_${file}`)] : [];
        const args = [name, "--output", path.join(own, file), ...split, "--", "--port", "0"];
        const { code, errors } = await run(runtime, "standalone.ts", args);
        assertEquals([name, code, errors], [name, 0, ""]);
        await serve(runtime, file, [], async (server) => {
          const client = await Client.connect(server.port);
          assert(await client.echo("hello"), file);
          client.close();
          await server.line(/\bclose #1\b/);
        }, { folder: own });
      }
    });
  }
}
