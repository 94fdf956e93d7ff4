// SPDX-License-Identifier: MIT
/** threads.ts: a thread per connection. */

import { assert, assertEquals, assertMatch } from "./assert.ts";
import { Client, linux, sleep } from "./harness.ts";
import { checkThree, testModel } from "./contract.ts";
import { beatWhile } from "./waits.ts";

testModel("threads.ts", (test) => {
  const unlimited = ["--messages", "0"];

  checkThree(test);

  test("--max-threads 2, and the third client waits, which is told whole", async (server) => {
    const two = [await Client.connect(server.port), await Client.connect(server.port)];
    for (const client of two) assert(await client.echo("hello"));
    const third = await Client.connect(server.port);
    third.send("hello");
    assertMatch(await server.line(/ wait #3/), / wait #3 2 threads are the most, 1 in line$/);
    await sleep(700);
    assertEquals([third.received, server.lines(/ start #/).length], [0, 2], "the third waits");
    two[0].close();
    await third.receive(5);
    for (const line of server.lines(/ start #[12] /)) {
      assertMatch(line, / start #(\d) r-\1 in [\d.]+ ms, process -?[\d.]+ MB larger$/);
    }
    const start = await server.line(/ start #3 /);
    assertMatch(start, / r-3 in [\d.]+ ms, process -?[\d.]+ MB larger, after [\d.]+ ms in line, 0 wait now$/);
    const waited = Number(/after ([\d.]+) ms/.exec(start)![1]);
    assert(waited >= 650, start);
    for (const client of [...two, third]) client.close();
  }, [...unlimited, "--max-threads", "2"]);

  if (linux) {
    test(
      "of a crowd for which there are no descriptors not all are turned away",
      async (server) => {
        const served = await Promise.all(Array.from({ length: 70 }, async () => {
          const client = await Client.connect(server.port);
          return await client.echo("hello", 60).catch(() => false).finally(() => client.close());
        }));
        assert(served.filter(Boolean).length >= 20, `${served.filter(Boolean).length} of 70 are served`);
      },
      unlimited,
      96,
    );
  }

  test("who stands in line when the server stops gets no thread, though one ends", async (server) => {
    const busy = await Client.connect(server.port), other = await Client.connect(server.port);
    assert(await other.echo("light"));
    // The stop waits for who computes as long as it waits at all.
    busy.send("hello");
    const third = await Client.connect(server.port);
    await server.line(/ wait #3 /);
    assertEquals(await server.stop(), 0);
    assertEquals([server.lines(/ start #3 /), server.lines(/ close #3 /).length], [[], 1]);
    for (const client of [busy, other, third]) client.close();
  }, [...unlimited, "--max-threads", "2", "--work", "3000"]);

  test("a client whose thread is being started when the server stops is closed once", async (server) => {
    const busy = await Client.connect(server.port);
    busy.send("hello");
    await server.line(/ recv #1 /);
    const next = await Client.connect(server.port);
    await server.line(/ accept #2 /);
    assertEquals(await server.stop(), 0);
    assertEquals(server.lines(/ close #2 /).length, 1);
    for (const client of [busy, next]) client.close();
  }, [...unlimited, "--work", "3000"]);

  test("a blocked thread's lines appear when they happen", async (server) => {
    const client = await Client.connect(server.port);
    for (const word of ["one", "two"]) {
      assert(await client.echo(word));
      // The thread blocks in the next recv by now.
      await server.line(new RegExp(` r-1 recv #1 3 "${word}"`), 5);
    }
    client.finish();
    await server.line(/ r-1 close #1 by the client$/);
    client.close();
  }, unlimited);

  test("the heartbeat says what each thread does", async (server) => {
    const silent = await Client.connect(server.port), busy = await Client.connect(server.port);
    await server.line(/ start #2 /);
    const beat = await beatWhile(server, busy, / main threads 2: .*computing/);
    assertMatch(beat, / threads 2: r-1 asleep in recv for #1, r-2 computing for #2$/);
    await server.line(/ main threads 2: r-1 asleep in recv for #1, r-2 asleep in recv for #2$/);
    silent.close();
  }, [...unlimited, "--work", "500"]);

  test(
    "30 clients, 8 threads at most, all served; under a limit of 160 descriptors",
    async (server) => {
      const clients = await Promise.all(Array.from({ length: 30 }, () => Client.connect(server.port)));
      assertEquals(await Promise.all(clients.map((client) => client.echo("hello", 100))), clients.map(() => true));
      await server.count(/ close #/, 30);
      // Who will have a thread that is being started counts, too.
      const waits = server.lines(/ wait #/).length;
      assert(waits >= 17, `${waits} have waited`);
      let live = 0, most = 0;
      for (const line of server.output) {
        if (/ start #/.test(line)) most = Math.max(most, ++live);
        if (/ close #/.test(line)) live--;
      }
      assert(most <= 8, `${most} threads at a time`);
      for (const client of clients) client.close();
    },
    ["--max-threads", "8", "--messages", "1"],
    linux ? 160 : undefined,
  );
});
