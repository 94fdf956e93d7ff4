// SPDX-License-Identifier: MIT
/** A descriptor's number is free again as soon as it is closed: what a batch of events still holds for it is stale. */

import process from "node:process";
import { assert, assertEquals } from "./assert.ts";
import type { Test } from "./contract.ts";
import { Client, pattern, type Runtime, sleep, until } from "./harness.ts";

export function checkReuse(test: Test): void {
  test("a reused descriptor never gets its predecessor's bytes", async (server) => {
    for (let round = 0; round < 5; round++) {
      const old = await Promise.all(Array.from({ length: 20 }, () => Client.connect(server.port)));
      for (const client of old) assert(await client.echo("hello"));
      // What follows arrives in one batch: bytes, ends, resets, and new clients that take the free numbers.
      process.kill(server.pid, "SIGSTOP");
      for (const [i, client] of old.entries()) {
        client.send("stale");
        if (i % 3 === 0) client.close();
        if (i % 3 === 1) client.reset();
      }
      const young = await Promise.all(Array.from({ length: 20 }, () => Client.connect(server.port)));
      const messages = young.map((_, i) => pattern(100, i));
      for (const [i, client] of young.entries()) client.send(messages[i]);
      await sleep(50);
      process.kill(server.pid, "SIGCONT");
      for (const [i, client] of young.entries()) {
        assertEquals(Buffer.compare(await client.receive(100), messages[i]), 0);
        assertEquals(client.received, 0);
      }
      for (const client of [...old, ...young]) client.close();
    }
  }, ["--quiet"]);
}

/** A descriptor that is used again is not closed, and one that becomes free is used. */
export function checkRoom(test: Test, runtime: Runtime): void {
  test("a client that took leave closes no one who has got its descriptor", async (server) => {
    const first = await Client.connect(server.port);
    assert(await first.echo("hello"));
    first.close();
    await server.line(/ close #1 /);
    await sleep(100);
    const second = await Client.connect(server.port);
    // For a second it drops what the first one sends.
    await sleep(1500);
    const before = server.output.length;
    assert(await second.echo("hello"));
    // The listening socket and, unless it has been found ready in this very wait, the client.
    const told = () => server.output.slice(before).some((line) => / (2 registered,|1 parked:)/.test(line));
    assert(await until(told), "it and the listening socket are waited for, and no one else");
    second.close();
  }, ["--messages", "1"]);

  test(
    "a descriptor that becomes free is used while others keep the server busy",
    async (server) => {
      if (runtime.name === "deno") assert(await until(() => server.handles(10)), "Deno has not set up its signals");
      const busy = await Client.connect(server.port);
      assert(await busy.echo("hello"));
      const crowd = Array.from({ length: 120 }, () => new Client(server.port));
      for (const client of crowd) client.read();
      await server.line(/ error accept: .*EMFILE/);
      let done = false;
      const talk = (async () => {
        for (; !done; await sleep(20)) assert(await busy.echo("tick"));
      })();
      const accepted = () => server.lines(/ accept #/).length, before = accepted();
      for (const client of crowd.slice(0, 5)) client.close();
      const used = await until(() => accepted() >= before + 5, 5);
      done = true;
      await talk;
      assert(used, `${accepted() - before} of 5 are accepted while it is busy`);
      for (const client of [busy, ...crowd]) client.close();
    },
    [],
    96,
  );
}
