// SPDX-License-Identifier: MIT
/** processes.ts: a process per connection. */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import process from "node:process";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { testModel } from "./contract.ts";
import { check, Client, type Runtime, type Script, serve, sleep, temporaryFolder, until } from "./harness.ts";

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

/** The children of a server, as their states: see proc_pid_stat(5). `Z` is a zombie. */
function children(server: Script): string[] {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((pid) => {
    try {
      const [state, parent] = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
      return Number(parent) === server.pid ? [state] : [];
    } catch {
      // It has ended meanwhile.
      return [];
    }
  });
}

testModel("processes.ts", (runtime: Runtime) => {
  const title = `${runtime.name} processes.ts`;

  check(
    `${title}: the third client waits in the backlog; any program serves; no zombie`,
    () =>
      serve(runtime, "processes.ts", ["--max-processes", "2", "--exec", "cat"], async (server) => {
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
      }),
  );

  check(
    `${title}: what a process costs is told, and all end with the server`,
    () =>
      serve(runtime, "processes.ts", [], async (server) => {
        const clients = [];
        for (let i = 0; i < 3; i++) clients.push(await Client.connect(server.port));
        for (const client of clients) assert(await client.echo("hello", 30));
        await server.line(/ cost #1 [\d.]+ ms from accept to first reply; memory: [\d.]+ of [\d.]+ MB its own/);
        assertEquals(await server.stop("SIGINT"), 0);
        for (const reason of server.reasons().values()) assertEquals(reason, "the server stops");
        for (const client of clients) assert(await client.end() !== null);
      }),
  );

  check(`${title}: a second Ctrl-C leaves no child behind, whatever the program makes of the first`, () => {
    const program = path.join(temporaryFolder(), "stubborn");
    const text = '#!/bin/sh\ntrap "" TERM INT HUP\nfor i in 1 2 3 4 5 6 7 8 9 10; do sleep 1; done\n';
    writeFileSync(program, text, { mode: 0o755 });
    return serve(runtime, "processes.ts", ["--exec", program], async (server) => {
      const clients = [await Client.connect(server.port), await Client.connect(server.port)];
      await server.count(/ start #/, 2);
      assert(await until(() => running(program) === 2), `${running(program)} run`);
      process.kill(server.pid, "SIGINT");
      await server.line(/ close #2 the server stops/);
      await sleep(30);
      assert(await server.stop("SIGINT") !== null, "it goes on");
      assert(await until(() => running(program) === 0, 1), `${running(program)} are left`);
      for (const client of clients) client.close();
    });
  });
});
