// SPDX-License-Identifier: MIT
/** pool.ts: a pool of threads, made once. */

import { assert, assertEquals, assertMatch } from "./assert.ts";
import { check, Client, linux, pattern, serve, sleep, Slow } from "./harness.ts";
import { checkThree, testModel } from "./contract.ts";
import { beatWhile, checkPatience } from "./waits.ts";

testModel("pool.ts", (test, runtime) => {
  const title = `${runtime.name} pool.ts`, unlimited = ["--messages", "0"];
  checkPatience(test, unlimited);

  checkThree(test, async (server) => assertMatch(await server.line(/ serve #1/), / serve #1 w-\d$/));

  for (const leave of ["close", "reset"] as const) {
    test(`three at once; two wait for a ${leave}, and how long is told`, async (server) => {
      const three = [];
      for (let i = 0; i < 3; i++) three.push(await Client.connect(server.port));
      for (const client of three) assert(await client.echo("hello"));
      const fourth = await Client.connect(server.port);
      fourth.send("hello");
      assertMatch(await server.line(/ wait #4/), / wait #4 no thread is free, 1 in line$/);
      const fifth = await Client.connect(server.port);
      fifth.send("hello");
      const wait5 = await server.line(/ wait #5/);
      assertMatch(wait5, / wait #5 no thread is free, 2 in line$/);
      await sleep(700);
      assertEquals([fourth.received, fifth.received], [0, 0], "they wait");
      three[1][leave]();
      await fourth.receive(5);
      const second = / (w-\d) recv #2 /.exec(await server.line(/ recv #2 /))![1];
      const serve4 = await server.line(/ serve #4 /);
      assertMatch(serve4, new RegExp(` serve #4 ${second} after [\\d.]+ ms in line, 1 wait now$`));
      assertMatch(await server.line(/ recv #4 /), new RegExp(` ${second} `));
      await sleep(400);
      three[0][leave]();
      await fifth.receive(5);
      const serve5 = await server.line(/ serve #5 /),
        [, waited] = / after ([\d.]+) ms in line, 0 wait now$/.exec(serve5)!;
      // It has waited since it connected, not since it was the first in line.
      const time = parseFloat(serve5) - parseFloat(wait5);
      if (Math.abs(Number(waited) - time) > 300) throw new Slow(`${waited} ms, and it was ${time}`);
      assertEquals(server.lines(/ wait #/).length, 2);
      for (const client of [...three, fourth, fifth]) client.close();
      await server.allClosed();
    }, unlimited);
  }

  test("the heartbeat says what each thread does", async (server) => {
    const silent = await Client.connect(server.port), busy = await Client.connect(server.port);
    const [, first] = / serve #1 (w-\d)/.exec(await server.line(/ serve #1 /))!;
    const [, second] = / serve #2 (w-\d)/.exec(await server.line(/ serve #2 /))!;
    const beat = await beatWhile(server, busy, / main threads 3: .*computing/);
    assertMatch(beat, new RegExp(`\\b${first} asleep in recv for #1\\b`));
    assertMatch(beat, new RegExp(`\\b${second} computing for #2\\b`));
    await server.line(new RegExp(` main threads 3: .*\\b${second} asleep in recv for #2\\b`));
    silent.close();
  }, [...unlimited, "--work", "500"]);

  test("who stands in line, or would have, is not served any more when the server stops", async (server) => {
    // More than may stand in line: the others have connected, and are not accepted.
    const clients = [];
    while (clients.length < 110) clients.push(await Client.connect(server.port));
    await server.count(/ main wait #/, 100);
    assertEquals(await server.stop(), 0);
    assertEquals(server.lines(/ main wait #/).length, 100, "stand in line");
    const stop = server.output.findIndex((line) => / main stop /.test(line));
    assertEquals(server.output.slice(stop).filter((line) => / (accept|serve) #/.test(line)), []);
    for (const client of clients) client.close();
  }, unlimited);

  test("what a client has sent beyond its last message is not the next one's", async (server) => {
    // What comes at once must be more than a thread takes at once: from the first messages on, the kernel keeps more.
    for (let round = 0; round < 5; round++) {
      const eager = await Client.connect(server.port);
      eager.send(pattern(4 * 1024 * 1024));
      assertEquals(await eager.end(), "end");
      eager.close();
      const next = await Client.connect(server.port);
      assert(await next.echo("mine"), "it gets its own");
      next.close();
    }
  }, ["--workers", "1", "--messages", "9"]);

  test("the same three threads for 100 clients", async (server) => {
    for (let i = 0; i < 100; i++) {
      const client = await Client.connect(server.port);
      assert(await client.echo("hello"));
      if (i % 2 === 0) client.close();
      else client.reset();
    }
    await server.count(/ close #/, 100);
    const names = new Set(server.output.map((line) => / (\S+) recv #/.exec(line)?.[1]).filter(Boolean));
    assertEquals([...names].sort(), ["w-1", "w-2", "w-3"]);
  });

  check(`${title}: --work on two threads at the same time, in one loop one after another`, async () => {
    // Not the time that it takes: that says more about what else the machine is doing.
    const mostAtOnce = async (script: string, args: string[]) => {
      let now = 0, most = 0;
      await serve(runtime, script, [...args, "--work", "20", "--messages", "0"], async (server) => {
        const clients = await Promise.all([1, 2].map(() => Client.connect(server.port)));
        const used = linux ? server.cpu : 0;
        await Promise.all(clients.map(async (client) => {
          for (let i = 0; i < 10; i++) assert(await client.echo("hello"));
        }));
        // How much work that is was measured when it started, perhaps beside others.
        if (linux && server.cpu - used < 0.2) throw new Slow(`20 messages of 20 ms: ${server.cpu - used} s of CPU`);
        for (const client of clients) client.close();
        await server.count(/ send #/, 20);
        assertEquals(await server.stop(), 0);
        for (const line of server.output) {
          if (/ work #\d 20 ms$/.test(line)) most = Math.max(most, ++now);
          if (/ send #/.test(line)) now--;
        }
      });
      return most;
    };
    assertEquals(await mostAtOnce("pool.ts", ["--workers", "2"]), 2);
    assertEquals(await mostAtOnce("multiplex.ts", []), 1);
  });
});
