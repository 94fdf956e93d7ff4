// SPDX-License-Identifier: MIT
/** load.ts and bench.ts: a broken server is reported, and has no figures. What the figures are is not tested. */

import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { check, hasFFI, linux, run, type Runtime, runtimes, Script, until, windows } from "./harness.ts";

const tests = path.dirname(fileURLToPath(import.meta.url)), peers = path.join(tests, "peers");
const briefly = ["--seconds", "0.1"];

/** What load.ts says of each fault of peers/broken.ts. */
const faults: Record<string, RegExp> = {
  drop: /never got all|not what was sent/,
  corrupt: /not what was sent/,
  duplicate: /not what was sent/,
  swap: /not what was sent/,
  silent: /never got all/,
  mute: /none of the 3 connections/,
  close: /closed by the server|ECONNRESET/,
};

interface Results {
  seconds: number;
  experiments: {
    name: string;
    rows: {
      model: string;
      on: string;
      failure?: string;
      runs: number;
      rate: { median: number; count: number } | null;
    }[];
    comparisons: { model: string; on: string; ratio: { median: number; low: number; high: number; count: number } }[];
    verdict: string;
  }[];
}

/** Where a program is that can be called by its name. */
function find(program: string): string {
  return (process.env.PATH ?? "").split(path.delimiter).map((folder) => path.join(folder, program)).find(existsSync)!;
}

/** A folder that holds a program with this text; it is removed after use. */
async function withProgram(name: string, text: string, use: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(path.join(tmpdir(), "bench-test-")), program = path.join(folder, name);
  writeFileSync(program, `#!/bin/sh\n${text}\n`);
  chmodSync(program, 0o755);
  try {
    await use(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Drives peers/broken.ts with load.ts. */
async function load(runtime: Runtime, fault: string, ...args: (string | number)[]) {
  const server = new Script(runtime, "broken.ts", [fault], { folder: peers });
  try {
    await server.line(/^listening on/);
    const brief = ["--milliseconds", 100, "--patience", 500, "--connections", 3, "--port", server.port];
    return await run(runtime, "load.ts", [...brief, ...args].map(String));
  } finally {
    await server.kill();
  }
}

for (const runtime of runtimes) {
  const { name } = runtime;

  check(`${name} load.ts: a server without a fault gets its figures`, async () => {
    for (const args of [[], ["--inflight", "3", "--size", "1001"]]) {
      const { code, output, errors } = await load(runtime, "none", ...args);
      assertEquals([code, errors, output.length], [0, "", 1]);
      const { served, rate, latency } = JSON.parse(output[0]);
      assert(served === 3 && rate > 0 && latency.length === 3 && latency[0] > 0, output[0]);
    }
  });

  for (const [fault, message] of Object.entries(faults)) {
    check(`${name} load.ts: one line and no figures if the server has the fault "${fault}"`, async () => {
      const { code, output, errors } = await load(runtime, fault);
      assertEquals([code, output], [1, []]);
      assertMatch(errors, /^load\.ts: the run failed: [^\n]+\n$/);
      assertMatch(errors, message);
    });
  }

  check(`${name} load.ts: notices a wrong byte however its sockets are made`, async () => {
    for (const sockets of ["runtime", ...hasFFI(runtime) ? ["epoll", "uring"] : []]) {
      // Compared word by word, byte by byte, and many at once.
      for (const size of [64, 61, 5000]) {
        const { code, output, errors } = await load(runtime, "corrupt", "--sockets", sockets, "--size", size);
        assertEquals([sockets, size, code, output], [sockets, size, 1, []]);
        assertMatch(errors, /^load\.ts: .*not what was sent.*\n$/);
      }
    }
  });

  check(`${name} load.ts: mistakes in the command line, a host that there isn't`, async () => {
    const nowhere = await run(runtime, "load.ts", ["--host", "nowhere.invalid"]);
    assertEquals([nowhere.code, nowhere.output], [1, []]);
    assertMatch(nowhere.errors, /^load\.ts: [^\n]*\n$/);
    const { code, output, errors } = await run(runtime, "load.ts", ["--sockets", "x"]);
    assertEquals([code, output], [2, []]);
    assertMatch(errors, /^load\.ts: .*auto, uring, epoll.*\n$/);
  });

  check(`${name} bench.ts: JSON with rates, and as many pairs as rounds`, async () => {
    const args = ["--models", "tasks,multiplex", "--connections", "2", "--rounds", "2", ...briefly, "--json"];
    const { code, output } = await run(runtime, "bench.ts", args);
    assertEquals(code, 0);
    const { seconds, experiments: [{ name: experiment, rows, comparisons, verdict }] }: Results = JSON.parse(
      output.join("\n"),
    );
    assertEquals([seconds, experiment], [0.1, "models"]);
    assertEquals(rows.map(({ model, on, runs }) => [model, on, runs]), [["tasks", name, 2], ["multiplex", name, 2]]);
    for (const { rate } of rows) assert(rate !== null && rate.median > 0 && rate.count === 2);
    assertEquals(comparisons.map(({ ratio }) => ratio.count), [2]);
    for (const { ratio: { median, low, high } } of comparisons) assert(low > 0 && low <= median && median <= high);
    assertMatch(verdict, /at 2 connections (tasks|multiplex) was the fastest/);
  });

  check(`${name} bench.ts: with a client that never reads, a verdict on the others`, async () => {
    const args = ["slow", "--models", "tasks", "--connections", "2", "--rounds", "1", ...briefly];
    const { code, output } = await run(runtime, "bench.ts", args);
    assertEquals(code, 0);
    assertMatch(output.join("\n"), /beside a client that never reads.*tasks.* of their rate/);
  });

  if (!windows) {
    check(`${name} bench.ts: a server that sends back a wrong byte is left out, the others are not`, async () => {
      // It goes by the name of another runtime, and whatever it is to run, it runs the broken server.
      const fake = name === "bun" ? "node" : "bun", [program, ...rest] = runtime.command;
      const broken = [find(program), ...rest, path.join(peers, "broken.ts"), "corrupt"];
      const text = `[ "$1" = --version ] && exec echo 99.0.0\nexec ${broken.map((part) => `'${part}'`).join(" ")}`;
      await withProgram(fake, text, async (folder) => {
        const environment = { PATH: `${folder}${path.delimiter}${process.env.PATH}` };
        const args = ["--models", "tasks", "--runtimes", `${name},${fake}`, "--connections", "2", "--rounds", "2"];
        const { code, output, errors } = await run(runtime, "bench.ts", [...args, ...briefly], { environment });
        assertEquals(code, 0);
        assertMatch(errors, new RegExp(`tasks ${fake}, 2 connections: left out: .*not what was sent`));
        const lines = output.filter((line) => line.startsWith("tasks "));
        assertMatch(lines.find((line) => line.startsWith(`tasks ${name}`)) ?? "", /2 connections +\d+/);
        const about = lines.filter((line) => line.startsWith(`tasks ${fake}`));
        assertEquals(about.length, 1);
        assertMatch(about[0], /2 connections: connection \d+: not what was sent/);
        // Nothing is said of its speed.
        assertEquals(output.join("\n").includes(`On ${{ bun: "Bun", node: "Node" }[fake]}`), false);
      });
    });

    check(`${name} bench.ts: SIGINT ends it with what there is so far`, async () => {
      const args = ["--models", "tasks", "--connections", "2", "--rounds", "1000", ...briefly];
      const bench = new Script(runtime, "bench.ts", args, { input: "" });
      try {
        assert(await until(() => /round 2 of 1000/.test(bench.errors), 30), bench.errors);
        assertEquals(await bench.stop("SIGINT"), 0);
        assertMatch(bench.errors, /stopped: this is what there is so far\n/);
        // Its row of the table alone: that the generator was the limit may be said below it.
        const rows = bench.output.filter((line) => /^tasks \w+ +2 connections +\d/.test(line));
        assertEquals(rows.length, 1, bench.output.join("\n"));
      } finally {
        await bench.kill();
      }
    });
  }

  if (linux) {
    check(`${name} bench.ts: without a C compiler, the comparison with C is left out by name`, async () => {
      const [program, ...rest] = runtime.command, real = find(program);
      await withProgram(program, `exec '${real}' "$@"`, async (folder) => {
        const only = { name, command: [real, ...rest] };
        const { code, output, errors } = await run(only, "bench.ts", ["generator"], { environment: { PATH: folder } });
        assertEquals(code, 0);
        assertMatch(errors, /^generator is left out: cc is not on the PATH$/m);
        assertEquals(errors.includes("compiled"), false, errors);
        assertMatch(output.join("\n"), /Left out/);
      });
    });
  }

  check(`${name} bench.ts: what it doesn't know is one line, with what it knows, and exit code 2`, async () => {
    const cases: [args: string[], known: RegExp][] = [
      [["nonsense"], /"nonsense".*models, .*idle, /],
      [["--models", "tasks,nonsense"], /"nonsense".*tasks, multiplex/],
      [["--runtimes", "nonsense"], /"nonsense".*deno, bun, node/],
      [["--connections", "0"], /"0".*from 1/],
      [["--inflight", "x"], /"x".*from 1/],
      [["--seconds", "x"], /seconds/],
      [["--rounds", "0"], /rounds/],
    ];
    for (const [args, known] of cases) {
      const { code, output, errors } = await run(runtime, "bench.ts", args);
      assertEquals([args, code, output], [args, 2, []]);
      assertMatch(errors, /^bench\.ts: [^\n]+\n$/);
      assertMatch(errors, known);
    }
  });

  check(`${name} bench.ts, load.ts: --help`, async () => {
    const bench = await run(runtime, "bench.ts", ["--help"]), load = await run(runtime, "load.ts", ["--help"]);
    assertEquals([bench.code, bench.errors, load.code, load.errors], [0, "", 0, ""]);
    for (const name of ["models", "threads", "idle", "work", "slow", "shim", "peers", "generator", "--rounds 5"]) {
      assert(bench.output.some((line) => line.trim().startsWith(name)), name);
    }
    assert(load.output.some((line) => line.includes("--inflight 1")));
  });
}
