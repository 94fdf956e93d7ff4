// SPDX-License-Identifier: MIT
/** single.ts: one connection, one exchange. */

import { assert, assertEquals, assertMatch } from "./assert.ts";
import { assertMistake } from "./contract.ts";
import { check, Client, freePort, linux, Pipe, run, runtimes, serve, sleep, Slow, until, windows } from "./harness.ts";

for (const runtime of runtimes) {
  const title = `${runtime.name} single.ts`;

  check(`${title}: eight steps in order, then exit 0`, () =>
    serve(runtime, "single.ts", [], async (server) => {
      const client = await Client.connect(server.port);
      assert(await client.echo("hello"));
      assertEquals(await client.end(), "end");
      client.close();
      assertEquals(await server.exited, 0);
      const steps = server.output.map((line) =>
        /^listening/.exec(line)?.[0] ?? /^ *[\d.]+ main (\w+ (?:#1 )?step \d)/.exec(line)?.[1]
      );
      assertEquals(steps, [
        "create step 1",
        "bind step 2",
        "listening",
        "accept #1 step 4",
        "recv #1 step 5",
        "send #1 step 6",
        "close #1 step 7",
        "close step 8",
      ]);
      assertMatch(server.output.at(-1)!, / close step 8: the listening socket$/);
    }));

  check(`${title}: a client that says nothing, or stays silent`, async () => {
    await serve(runtime, "single.ts", [], async (server) => {
      const client = await Client.connect(server.port);
      client.finish();
      assertEquals(await client.end(), "end", "a client that says nothing");
      client.close();
      assertEquals(await server.exited, 0);
      assertMatch(await server.line(/ close #1/), / close #1 step 7: by the client$/);
    });
    await serve(runtime, "single.ts", ["--idle", "1"], async (server) => {
      const client = await Client.connect(server.port);
      assertEquals(await client.end(10), "end", "a client that stays silent");
      client.close();
      assertEquals(await server.exited, 0);
      assertMatch(await server.line(/ close #1/), / close #1 step 7: silent for 1 s$/);
    });
  });

  check(
    `${title}: a message of 60 KB, and more behind it, comes back as far as it says`,
    () =>
      serve(runtime, "single.ts", [], async (server) => {
        const client = await Client.connect(server.port);
        client.pause();
        client.send(new Uint8Array(4 * 1024 * 1024));
        await sleep(300);
        client.read();
        assertEquals(await client.end(20), "end", "no reset");
        assertEquals(await server.exited, 0);
        assertEquals(client.received, Number(/ send #1 step 6: (\d+)/.exec(await server.line(/ send #1 /))![1]));
        client.close();
      }),
  );

  check(`${title}: a reset is one line and exit code 1`, () =>
    serve(runtime, "single.ts", [], async (server) => {
      const client = await Client.connect(server.port);
      await server.line(/ accept #1/);
      client.reset();
      assertEquals(await server.exited, 1);
      assertMatch(server.errors, /^single\.ts: .*ECONNRESET.*\n$/);
    }));

  for (const signal of windows ? [] : ["SIGINT", "SIGTERM"] as const) {
    check(`${title}: ${signal} ends it with exit code 0, client or not`, async () => {
      await serve(runtime, "single.ts", [], async (server) => assertEquals(await server.stopAtOnce(signal), 0));
      await serve(runtime, "single.ts", [], async (server) => {
        const client = await Client.connect(server.port);
        await server.line(/ accept #1/);
        assertEquals(await server.stopAtOnce(signal), 0);
        assertMatch(await server.line(/ close #1/), / close #1 (step 7: )?the server stops$/);
        client.close();
      });
    });
  }

  check(`${title}: --messages is a mistake, help has 80 columns`, async () => {
    const mistake = ["--messages", "3"];
    assertMistake("single.ts", mistake, await run(runtime, "single.ts", mistake));
    const { code, output, errors } = await run(runtime, "single.ts", ["--help"]);
    assertEquals([code, errors], [0, ""]);
    for (const option of ["host", "port", "idle", "quiet", "help"]) {
      assertMatch(output.join("\n"), new RegExp(`--${option}\\b`));
    }
    assertEquals(output.filter((line) => line.length > 80 || /--messages/.test(line)), []);
  });

  if (linux) {
    check(`${title}: a log that can't be written is one line; one that nobody reads ends it`, async () => {
      const free = await freePort();
      await serve(runtime, "single.ts", ["--port", `${free}`], async (server) => {
        assert(await until(() => server.errors !== ""), "it says nothing");
        const client = await Client.connect(free);
        assert(await client.echo("hello"));
        client.close();
        assertEquals(await server.exited, 0);
        assertMatch(server.errors, /^single\.ts: .*ENOSPC.*\n$/);
      }, { output: "/dev/full" });
      const log = new Pipe();
      await serve(runtime, "single.ts", [], async (server) => {
        const [, port] = await log.line(/^listening on .*:(\d+)$/);
        log.close();
        const client = new Client(Number(port));
        // Between fork and exec, a process that another test starts has the log open, too.
        if (await Promise.race([server.exited, sleep(10_000)]) === undefined) throw new Slow("it goes on");
        assertEquals([await server.exited, server.errors], [0, ""]);
        client.close();
      }, { output: log.path });
    });
  }
}
