// SPDX-License-Identifier: MIT
/** client.ts: the other end. */

import { spawn, spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import * as path from "node:path";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { assertMistake } from "./contract.ts";
import {
  check,
  Client,
  freePort,
  linux,
  pattern,
  Pipe,
  project,
  run,
  runtimes,
  Script,
  serve,
  sleep,
  Slow,
  temporaryFolder,
  until,
} from "./harness.ts";

for (const runtime of runtimes) {
  const title = `${runtime.name} client.ts`;

  check(`${title}: sends each operand and prints each reply`, () =>
    serve(runtime, "tasks.ts", [], async (server) => {
      const { code, output, errors } = await run(runtime, "client.ts", [
        "--port",
        `${server.port}`,
        "hello",
        "world",
      ]);
      assertEquals([code, errors], [0, ""]);
      const events = output.map((line) => line.replace(/^ *[\d.]+ main /, ""));
      // The server calls a client by the port that the client says is its own.
      const [, own] = / accept #1 (.*)$/.exec(await server.line(/ accept #1 /))!;
      assertEquals(events, [
        `connect 127.0.0.1:${server.port} from ${own}`,
        'send 5 "hello"',
        'recv 5 "hello"',
        'send 5 "world"',
        'recv 5 "world"',
        "close end of input",
      ]);
    }));

  check(
    `${title}: lines from the standard input, byte for byte`,
    () =>
      serve(runtime, "tasks.ts", ["--quiet"], async (server) => {
        const input = pattern(1024 * 1024);
        const child = new Script(runtime, "client.ts", ["--port", `${server.port}`, "--quiet"], { input });
        assertEquals([await child.exited, child.errors], [0, ""]);
        const output = Buffer.concat(child.bytes);
        assertEquals([output.length, Buffer.compare(output, input)], [input.length, 0]);
      }),
  );

  check(`${title}: says that nobody listens, and that the server closes`, async () => {
    const port = await freePort();
    const nobody = await run(runtime, "client.ts", ["--port", `${port}`, "hello"]);
    assertEquals([nobody.code, nobody.output], [1, []]);
    assertMatch(nobody.errors, /^client\.ts: .*ECONNREFUSED.*\n$/);

    await serve(runtime, "tasks.ts", ["--messages", "1"], async (server) => {
      const left = await run(runtime, "client.ts", ["--port", `${server.port}`, "one", "two"]);
      assertEquals(left.code, 1);
      assertMatch(left.errors, /^client\.ts: .*\n$/);
    });

    await serve(runtime, "tasks.ts", ["--idle", "1"], async (server) => {
      const waiting = new Script(runtime, "client.ts", ["--port", `${server.port}`]);
      await waiting.line(/ close by the server$/);
      assertEquals(await waiting.exited, 0);
    });
  });

  check(`${title}: Ctrl-C ends it at once`, () =>
    serve(runtime, "tasks.ts", [], async (server) => {
      const client = new Script(runtime, "client.ts", ["--port", `${server.port}`]);
      await client.line(/ connect /);
      const before = performance.now();
      assertEquals(await client.stop("SIGINT"), 0);
      // A connection that nobody closes would be waited for, half a second.
      if (performance.now() - before > 450) throw new Slow(`${performance.now() - before} ms`);
      await server.line(/ close #1 by the client$/);
    }));

  check(
    `${title}: --clients are connected all at once, and each sends every message`,
    () =>
      serve(runtime, "pool.ts", [], async (server) => {
        const { code, output, errors } = await run(runtime, "client.ts", [
          "--port",
          `${server.port}`,
          "--clients",
          "5",
          "one",
          "two",
        ]);
        assertEquals([code, errors], [0, ""]);
        // Two more than there are threads: so each has to leave when it has its replies, and none before all have come.
        await server.line(/ serve #5 .* in line, 0 wait now$/);
        const own = server.lines(/ accept /).map((line) => line.replace(/.* accept /, ""));
        assertEquals(
          output.slice(0, 5).map((line) => line.replace(/.* connect /, "")),
          own.map((peer) => peer.replace(" ", ` 127.0.0.1:${server.port} from `)),
        );
        for (const number of [1, 2, 3, 4, 5]) {
          const events = output.filter((line) => line.includes(` #${number} `)).slice(1);
          assertEquals(events.map((line) => line.replace(/^ *[\d.]+ main /, "")), [
            `send #${number} 3 "one"`,
            `recv #${number} 3 "one"`,
            `send #${number} 3 "two"`,
            `recv #${number} 3 "two"`,
            `close #${number} end of input`,
          ]);
        }
      }),
  );

  check(
    `${title}: --clients that the server closes end with one line`,
    () =>
      serve(runtime, "tasks.ts", ["--messages", "1"], async (server) => {
        const args = ["--port", `${server.port}`, "--clients", "2"];
        const { code, errors } = await run(runtime, "client.ts", [...args, "one", "two"]);
        assertEquals([code, errors], [1, "client.ts: no reply: the server closed the connection\n"]);
      }),
  );

  check(`${title}: mistakes are one line and exit code 2, help has 80 columns`, async () => {
    for (
      const mistake of [["--port", "x"], ["--port", "0"], ["--nonsense"], ["--host", "::1%lo"], ["--clients", "2"]]
    ) {
      assertMistake("client.ts", mistake, await run(runtime, "client.ts", mistake));
    }
    const { code, output, errors } = await run(runtime, "client.ts", ["--help"]);
    assertEquals([code, errors], [0, ""]);
    assertEquals(output.filter((line) => line.length > 80), []);
  });

  if (linux) {
    check(
      `${title}: a slow reader of its output loses nothing of 3 MB`,
      () =>
        serve(runtime, "tasks.ts", ["--quiet"], async (server) => {
          // Lines longer than what a pipe takes at a time.
          const input = pattern(3 * 1024 * 1024).map((byte, i) =>
            i % 300_000 === 299_999 ? 10 : byte === 10 ? 11 : byte
          );
          const output = new Pipe();
          const child = new Script(runtime, "client.ts", ["--port", `${server.port}`, "--quiet"], {
            input,
            output: output.path,
          });
          const parts: Uint8Array[] = [];
          let ended = false, size = 0;
          child.exited.then(() => ended = true);
          await sleep(1000);
          for (const end = Date.now() + 60_000; Date.now() < end;) {
            const part = output.read();
            // Once it has ended there may still be a pipe full.
            if (part.length === 0 && ended) break;
            if (part.length > 0) parts.push(part);
            size += part.length;
            await sleep(part.length > 0 && size < 1024 * 1024 ? 20 : 1);
          }
          assertEquals([await child.exited, child.errors], [0, ""]);
          const received = Buffer.concat(parts);
          assertEquals([received.length, Buffer.compare(received, input)], [input.length, 0]);
          output.close();
        }),
    );

    check(
      `${title}: standard streams that are full, gone or a folder are no stack trace, and no false reason`,
      () =>
        serve(runtime, "tasks.ts", ["--quiet"], ({ port }) => {
          const shell = (script: string, ...options: string[]) => {
            const client = [...runtime.command, path.join(project, "scripts", "client.ts"), "--port", `${port}`];
            const args = ["-c", script, "sh", ...client, ...options];
            const { status, stderr } = spawnSync("sh", args, { encoding: "utf8", timeout: 30_000 });
            return [status, stderr];
          };
          assertEquals(shell('exec "$@" > /dev/full 2>&1', "--quiet", "hello"), [1, ""]);
          const gone = '{ (yes | head -c 300000; sleep 1) | "$@"; echo "exit code $?" >&2; } | head -1';
          assertEquals(shell(gone), [0, "exit code 0\n"]);
          assertMatch(String(shell('"$@" < /')[1]), /^(client\.ts: .*EISDIR.*\n)?$/);
          return Promise.resolve();
        }),
    );

    check(
      `${title}: | head -2 ends it without a stack trace`,
      () =>
        serve(runtime, "tasks.ts", ["--quiet"], async (server) => {
          const input = path.join(temporaryFolder(), "input");
          writeFileSync(input, "a line of the input\n".repeat(50_000));
          const script = path.join(project, "scripts", "client.ts");
          const client = [...runtime.command, script, "--port", `${server.port}`, "--quiet"];
          const child = spawn("sh", ["-c", `"$@" < '${input}' | head -2`, "sh", ...client]);
          let output = "", errors = "";
          child.stdout.setEncoding("utf8").on("data", (text) => output += text);
          child.stderr.setEncoding("utf8").on("data", (text) => errors += text);
          let ended = false;
          child.on("close", () => ended = true);
          assert(await until(() => ended, 30), "it goes on");
          assertEquals([output, errors], ["a line of the input\n".repeat(2), ""]);
          // And it has closed its connection.
          const next = await Client.connect(server.port);
          assert(await next.echo("next"));
          next.close();
        }),
    );
  }
}
