// SPDX-License-Identifier: MIT
/**
 * A log that is no pipe: a terminal, or the unix socket that a program under Node or Bun gives its children, or a file
 * that may not grow.
 */

import { truncateSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import process from "node:process";
import { findRuntime } from "../scripts/tools/runtimes.ts";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { childOf, isRunning } from "./children.ts";
import { check, Client, freePort, hasFFI, linux, Pipe, runtimes, Script, serve } from "./harness.ts";
import { sleep, Slow, temporaryFolder, until } from "./harness.ts";

/** Start a program with such a log, and copy that to their own output until this takes no more, or what comes first. */
const parents = {
  terminal: ["sh", "-c", 'exec script -qfec "exec $*" /dev/null', "sh"],
  "unix socket": [
    "node",
    "-e",
    `const [program, ...args] = process.argv.slice(1);
    const { stdout } = require("child_process").spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
    stdout.once("data", (data) => process.stdout.write(data) && stdout.pause());`,
  ],
};

const scripts: [script: string, systemCalls?: boolean][] = [["tasks.ts"], ["pool.ts"], ["epoll.ts", true], [
  "processes.ts",
  true,
]];

for (const runtime of linux ? runtimes : []) {
  for (const [script, systemCalls] of scripts) {
    if (systemCalls && !hasFFI(runtime)) continue;
    for (const [kind, parent] of Object.entries(parents)) {
      check(`${runtime.name} ${script}: a log whose reader stalls holds nobody up, if it is a ${kind}`, async () => {
        if (kind !== "terminal" && typeof findRuntime("node") === "string") return "no node here";
        if (kind !== "terminal" && script === "processes.ts" && runtime.name === "node") {
          return "its children share the socket's flags, and one that starts or ends may make it block again";
        }
        const log = new Pipe(), started = { ...runtime, command: [...parent, ...runtime.command] };
        await serve(started, script, ["--messages", "0"], async (server) => {
          const [, port] = await log.line(/^listening on .*:(\d+)\r?$/), pid = childOf(server.pid);
          try {
            const client = await Client.connect(Number(port));
            // More than pipe and log hold. Each message is two lines.
            for (let i = 0; i < 1300; i++) assert(await client.echo("x".repeat(60)), "it is served");
            process.kill(pid, "SIGTERM");
            assert(await until(() => !isRunning(pid), 5), "SIGTERM ends it");
            assertEquals(server.errors, "");
            // Deno doesn't say how much of a line a terminal has taken.
            if (script === "tasks.ts" && (kind !== "terminal" || runtime.name !== "deno")) {
              while (log.read().length > 0) await sleep(20);
              const whole = /^ *[\d.]+ main (accept #1 \S+|recv #1 60 "x+"|send #1 60|(close|stop|error) .*)\r?$/;
              for (const line of log.text.split("\n").slice(1, -1)) assertMatch(line, whole);
            }
          } finally {
            // It would outlive its parent, and keep what the test reads open.
            if (isRunning(pid)) process.kill(pid, "SIGKILL");
          }
        }, { output: log.path });
        log.close();
      });
    }
  }

  /** Runs a server whose log nobody reads until it is more than a pipe holds, and less than is kept beyond that. */
  const stalled = (script: string, args: string[], use: (log: Pipe, port: number, pid: number) => Promise<void>) => {
    const log = new Pipe();
    return serve(runtime, script, ["--messages", "0", ...args], async (server) => {
      const [, port] = await log.line(/^listening on .*:(\d+)$/);
      const client = await Client.connect(Number(port));
      for (let i = 0; i < 800; i++) assert(await client.echo("x".repeat(60)));
      client.close();
      await use(log, Number(port), server.pid);
      assertEquals(server.errors, "");
    }, { output: log.path }).finally(() => log.close());
  };

  check(`${runtime.name} threads.ts: a thread that is done ends, though the log's reader stalls`, async () => {
    await stalled("threads.ts", ["--max-threads", "2"], async (_, port) => {
      for (let i = 0; i < 4; i++) {
        const client = await Client.connect(port);
        assert(await client.echo("hello", 20), `client ${i} is served`);
        client.close();
      }
    });
  });

  check(`${runtime.name} tasks.ts: what is kept of the log is written at the stop`, async () => {
    await stalled("tasks.ts", [], async (log, port, pid) => {
      const client = await Client.connect(port);
      assert(await client.echo("hello"));
      process.kill(pid, "SIGTERM");
      await client.end();
      // It tries for 200 ms.
      await sleep(60);
      await log.line(/ close #2 the server stops$/).catch((error) => {
        throw new Slow(error.message);
      });
      client.close();
    });
  });

  check(`${runtime.name} client.ts: is no faster than its output is read`, async () => {
    await serve(runtime, "tasks.ts", ["--quiet"], async ({ port }) => {
      const log = new Pipe(), words = Array.from({ length: 2500 }, (_, i) => `${i}`.padStart(40, "x"));
      const client = new Script(runtime, "client.ts", ["--port", `${port}`, ...words], { output: log.path });
      await sleep(2000);
      await log.line(/ close end of input$/);
      assertEquals(log.text.match(/ recv 40 /g)?.length, words.length);
      assertEquals(await client.exited, 0);
      log.close();
    });
  });

  check(`${runtime.name} tasks.ts: a log that may not grow is said once, and it serves on`, async () => {
    // Larger than what a runtime itself writes, its cache for example.
    const log = path.join(temporaryFolder(), "log"), megabytes = 256, port = await freePort();
    writeFileSync(log, "");
    truncateSync(log, megabytes << 20);
    const limit = ["bash", "-c", `ulimit -f ${megabytes << 10}; exec "$@" >> '${log}'`, "bash"];
    await serve(
      { ...runtime, command: [...limit, ...runtime.command] },
      "tasks.ts",
      ["--port", `${port}`],
      async (server) => {
        const client = await Client.served(server, port, "one");
        assert(await client.echo("two"));
        client.close();
        assertEquals(await server.stopAtOnce(), 0);
        assertMatch(server.errors, /^tasks\.ts: no log from here on: .*file too large.*\n$/i);
      },
      { output: "/dev/null" },
    );
  });
}
