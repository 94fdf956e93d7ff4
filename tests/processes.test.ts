// SPDX-License-Identifier: MIT
/** processes.ts: a process per connection. */

import { copyFileSync, readdirSync, readFileSync, readlinkSync, renameSync, rmdirSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import process from "node:process";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { children } from "./children.ts";
import { testModel } from "./contract.ts";
import { check, Client, type Runtime, type Script, serve, sleep, Slow, temporaryFolder, until } from "./harness.ts";
import { copy } from "./twins.ts";
import { interrupt } from "./waits.ts";

/** How many processes have been started as `program`. */
function running(program: string): number {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")[1] === program;
    } catch {
      return false;
    }
  }).length;
}

/** A program that no signal ends but SIGKILL. */
function stubborn(): string {
  const program = path.join(temporaryFolder(), "stubborn");
  const text = '#!/bin/sh\ntrap "" TERM INT HUP\nfor i in 1 2 3 4 5 6 7 8 9 10; do sleep 1; done\n';
  writeFileSync(program, text, { mode: 0o755 });
  return program;
}

/** The runtime, started by another command. */
function startedBy(prefix: string[], { name, command }: Runtime): Runtime {
  return { name, command: [...prefix, ...command] };
}

/** Has clients come and go, all of which must be served. */
async function visit(server: Script, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const client = await Client.connect(server.port);
    assert(await client.echo("hello", 30), "it is served");
    client.finish();
    assertEquals(await client.end(), "end");
    client.close();
  }
}

testModel("processes.ts", (test, runtime) => {
  const title = `${runtime.name} processes.ts`;

  test("the third client waits in the backlog; any program serves; no zombie", async (server) => {
    const two = [await Client.connect(server.port), await Client.connect(server.port)];
    for (const client of two) assert(await client.echo("hello", 30));
    assertEquals(children(server).length, 2);
    const third = await Client.connect(server.port);
    third.send("hello");
    await server.line(/ backlog 1 waiting to be accepted: 2 processes are the most/);
    assertEquals(third.received, 0);
    two[0].finish();
    await third.receive(5, 30);
    assertMatch(await server.line(/ close #1 /), / close #1 its process ended with exit code 0$/);
    third.finish();
    two[1].finish();
    await server.allClosed();
    assert(await until(() => children(server).length === 0), `left: ${children(server)}`);
  }, ["--max-processes", "2", "--exec", "cat"]);

  test(
    "without the descriptors for one more process it says so once, rests, and serves again later",
    async (server) => {
      const crowd = Array.from({ length: 40 }, () => new Client(server.port));
      await server.line(/ error accept: .*EMFILE/);
      assert(await server.rests(), "it spins");
      assertEquals(server.lines(/ error /).length, 1);
      const few = server.lines(/ start #/).length;
      assert(few > 0 && few < crowd.length, `${few} are served`);
      for (const client of crowd) client.close();
      await visit(server, 1);
    },
    ["--max-processes", "100", "--exec", "cat"],
    48,
  );

  test("what a process costs is told, and all end with the server", async (server) => {
    const clients = [];
    for (let i = 0; i < 3; i++) clients.push(await Client.connect(server.port));
    for (const client of clients) assert(await client.echo("hello", 30));
    await server.line(/ cost #1 [\d.]+ ms from accept to first reply; memory: [\d.]+ of [\d.]+ MB its own/);
    assertEquals(await server.stop("SIGINT"), 0);
    for (const reason of server.reasons().values()) assertEquals(reason, "the server stops");
    for (const client of clients) assert(await client.end() !== null);
  });

  check(`${title}: a second Ctrl-C leaves no child behind, whatever the program makes of the first`, () => {
    const program = stubborn();
    return serve(runtime, "processes.ts", ["--exec", program], async (server) => {
      const clients = [await Client.connect(server.port), await Client.connect(server.port)];
      await server.count(/ start #/, 2);
      assert(await until(() => running(program) === 2), `${running(program)} run`);
      process.kill(server.pid, "SIGINT");
      await server.line(/ close #2 the server stops/);
      await sleep(30);
      // It may have ended by then, or not listen yet for a second one.
      const code = await server.stop("SIGINT").catch(() => 0);
      if (code !== 130) throw new Slow(`exit code ${code}`);
      assert(await until(() => running(program) === 0, 1), `${running(program)} are left`);
      for (const client of clients) client.close();
    });
  });

  check(`${title}: a program that ignores SIGTERM is killed at the stop`, () => {
    const program = stubborn();
    return serve(runtime, "processes.ts", ["--exec", program], async (server) => {
      const client = await Client.connect(server.port);
      assert(await until(() => running(program) === 1), `${running(program)} run`);
      assertEquals(await server.stopAtOnce(), 0);
      assert(await until(() => running(program) === 0, 1), `${running(program)} are left`);
      client.close();
    });
  });

  check(`${title}: started with SIGHUP ignored, as by nohup, it goes on when that comes`, () => {
    if (runtime.name !== "bun") return `${runtime.name} doesn't keep a signal ignored`;
    return serve(startedBy(["env", "--ignore-signal=HUP"], runtime), "processes.ts", [], async (server) => {
      process.kill(server.pid, "SIGHUP");
      await sleep(300);
      await visit(server, 1);
    });
  });

  check(
    `${title}: started with SIGCHLD ignored, it still knows how a child has ended`,
    () =>
      serve(startedBy(["env", "--ignore-signal=CHLD"], runtime), "processes.ts", [], async (server) => {
        await visit(server, 3);
        assertEquals([...await server.allClosed()].map(([, reason]) => reason), Array(3).fill("by the client"));
        assertEquals([await server.stop(), server.errors], [0, ""]);
      }),
  );

  check(`${title}: goes on when the runtime is replaced, and the folder that it was started in removed`, async () => {
    const folder = temporaryFolder(), program = path.join(folder, runtime.name), start = path.join(folder, "start");
    await serve(runtime, "processes.ts", [], (server) => {
      copyFileSync(readlinkSync(`/proc/${server.pid}/exe`), program);
      return Promise.resolve();
    });
    const copied = { name: runtime.name, command: [program, ...runtime.command.slice(1)] };
    await serve(
      startedBy(["sh", "-c", 'mkdir "$0"; cd "$0"; exec "$@"', start], copied),
      "processes.ts",
      [],
      async (server) => {
        copyFileSync(program, `${program}-new`);
        renameSync(`${program}-new`, program);
        rmdirSync(start);
        await visit(server, 2);
        assertEquals(server.errors, "");
      },
    );
  });

  test("the time that a client took to send something is none of the cost", async (server) => {
    const client = await Client.connect(server.port);
    await sleep(2500);
    assert(await client.echo("hello", 30));
    const times = [await server.line(/ accept #1 /), await server.line(/ cost #1 /)].map((line) => parseFloat(line));
    const cost = Number(/ cost #1 ([\d.]+) ms/.exec(await server.line(/ cost #1 /))![1]);
    // The child may have taken most of the time to start.
    if (times[1] - times[0] - cost < 1000) throw new Slow(`${cost} of ${times[1] - times[0]} ms are the cost`);
    client.close();
  });

  check(`${title}: the times of a child are right when the system's time is set`, async () => {
    const folder = temporaryFolder(), from = "  const started = monotonic()";
    const set = 'Object.defineProperty(performance, "timeOrigin", { value: performance.timeOrigin + 3_600_000 });';
    copy({ file: "shim/child.ts", from, to: `  ${set}\n${from}` }, folder);
    await serve(runtime, "processes.ts", [], async (server) => {
      await visit(server, 1);
      await server.line(/ cost #1 /);
      const [accept, recv, cost] = [/ accept #1 /, / recv #1 /, / cost #1 ([\d.]+) ms/].map((pattern) =>
        pattern.exec(server.lines(pattern)[0])
      );
      const times = [accept, recv].map((found) => parseFloat(found!.input));
      assert(times[0] <= times[1] && times[1] < 600_000, `accepted at ${times[0]} ms, received at ${times[1]} ms`);
      assert(Number(cost![1]) < 600_000, cost![1]);
    }, { folder });
  });

  test("a read that a signal interrupts is not half a second of silence", async (server) => {
    const client = await Client.connect(server.port);
    assert(await client.echo("hello", 30));
    const [, pid] = / process (\d+)/.exec(await server.line(/ start #1 /))!;
    await interrupt(Number(pid), 25);
    assert(await client.echo("again"));
    client.close();
  }, ["--idle", "10"]);
});
