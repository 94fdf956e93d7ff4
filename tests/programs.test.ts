// SPDX-License-Identifier: MIT
/** single.ts and client.ts, and what running a script asks of a machine. */

import { mkdtempSync, rmSync } from "node:fs";
import * as net from "node:net";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { check, Client, pattern, run, runtimes, Script, serve, until, windows } from "./harness.ts";

for (const runtime of runtimes) {
  const { name } = runtime;

  check(
    `${name} single.ts: eight steps in order, then exit 0`,
    () =>
      serve(runtime, "single.ts", [], async (server) => {
        const client = await Client.connect(server.port);
        assert(await client.echo("hello"));
        assertEquals(await client.end(), "end");
        client.close();
        assertEquals(await server.exited, 0);
        const steps = server.output.flatMap((line) => / (\w+) (?:#1 )?step (\d)/.exec(line)?.slice(1, 3).join() ?? []);
        assertEquals(steps, [
          "create,1",
          "bind,2",
          "listen,3",
          "accept,4",
          "recv,5",
          "send,6",
          "close,7",
          "close,8",
        ]);
      }),
  );

  check(`${name} single.ts: 64 MiB in one exchange's worth of reads, half-close, silence`, async () => {
    await serve(runtime, "single.ts", [], async (server) => {
      const client = await Client.connect(server.port);
      client.finish();
      assertEquals(await client.end(), "end", "a client that says nothing");
      client.close();
      assertEquals(await server.exited, 0);
    });
    await serve(runtime, "single.ts", ["--idle", "1"], async (server) => {
      const client = await Client.connect(server.port);
      assertEquals(await client.end(4), "end", "a client that stays silent");
      client.close();
      assertEquals(await server.exited, 0);
    });
  });

  check(
    `${name} single.ts: a reset is one line and exit code 1`,
    () =>
      serve(runtime, "single.ts", [], async (server) => {
        const client = await Client.connect(server.port);
        await server.line(/ accept #1/);
        client.reset();
        assertEquals(await server.exited, 1);
        assertMatch(server.errors, /^single\.ts: .*ECONNRESET.*\n$/);
      }),
  );

  for (const signal of windows ? [] : ["SIGINT", "SIGTERM"] as const) {
    check(`${name} single.ts: ${signal} ends it with exit code 0, client or not`, async () => {
      await serve(runtime, "single.ts", [], async (server) => assertEquals(await server.stop(signal, 1), 0));
      await serve(runtime, "single.ts", [], async (server) => {
        const client = await Client.connect(server.port);
        await server.line(/ accept #1/);
        assertEquals(await server.stop(signal, 1), 0);
        client.close();
      });
    });
  }

  check(
    `${name} client.ts: sends each operand and prints each reply`,
    () =>
      serve(runtime, "tasks.ts", [], async (server) => {
        const { code, output, errors } = await run(runtime, "client.ts", [
          "--port",
          `${server.port}`,
          "hello",
          "world",
        ]);
        assertEquals([code, errors], [0, ""]);
        const events = output.map((line) => line.replace(/^ *[\d.]+ main /, ""));
        assertEquals(events, [
          `connect 127.0.0.1:${server.port}`,
          'send 5 "hello"',
          'recv 5 "hello"',
          'send 5 "world"',
          'recv 5 "world"',
          "close end of input",
        ]);
      }),
  );

  check(
    `${name} client.ts: lines from the standard input, byte for byte`,
    () =>
      serve(runtime, "tasks.ts", ["--messages", "0", "--quiet"], async (server) => {
        const input = pattern(1024 * 1024);
        const child = new Script(runtime, "client.ts", ["--port", `${server.port}`, "--quiet"], { input });
        assertEquals([await child.exited, child.errors], [0, ""]);
        const output = Buffer.concat(child.bytes);
        assertEquals([output.length, Buffer.compare(output, input)], [input.length, 0]);
      }),
  );

  check(`${name} client.ts: says that nobody listens, and that the server closes`, async () => {
    const free = net.createServer().listen(0, "127.0.0.1");
    await new Promise<void>((resolve) => free.once("listening", resolve));
    const { port } = free.address() as net.AddressInfo;
    await new Promise<void>((resolve) => free.close(() => resolve()));
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

  check(
    `${name}: a log that nobody reads any more ends the server quietly`,
    () =>
      serve(runtime, "tasks.ts", [], async (server) => {
        server.closeOutput();
        const client = await Client.connect(server.port);
        client.send("hello");
        assert(await until(() => client.ended !== null));
        client.close();
        assertEquals([await server.exited, server.errors], [0, ""]);
      }),
  );
}

check("deno run downloads nothing", async () => {
  const deno = runtimes.find(({ name }) => name === "deno");
  if (!deno) return;
  const empty = mkdtempSync(path.join(tmpdir(), "deno-dir-"));
  const offline = { name: "deno", command: ["deno", "run", "--cached-only", "-A"] };
  for (const script of ["multiplex.ts", "tasks.ts", "single.ts", "client.ts"]) {
    const { code, errors } = await run(offline, script, ["--help"], { environment: { DENO_DIR: empty } });
    assertEquals([code, errors], [0, ""]);
  }
  rmSync(empty, { recursive: true });
});
