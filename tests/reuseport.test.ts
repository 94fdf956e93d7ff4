// SPDX-License-Identifier: MIT
/** reuseport.ts: an event loop per core, and the kernel spreads the connections. */

import { assert, assertEquals } from "./assert.ts";
import { Client, until } from "./harness.ts";
import { testModel } from "./contract.ts";

testModel("reuseport.ts", (test) => {
  test("400 connections over four loops, 15 to 35 % each", async (server) => {
    for (let i = 0; i < 400; i++) {
      const client = await Client.connect(server.port);
      assert(await client.echo("hello"));
      client.close();
    }
    // Every 5 s: how many each has had, unless that is told already.
    const total = () => {
      const last = new Map<string, number[]>();
      for (const line of server.output) {
        const [, loop, ...figures] = / loop (loop-\d) accepted (\d+), open (\d+), messages (\d+)$/.exec(line) ?? [];
        if (loop) last.set(loop, figures.map(Number));
      }
      return [...last.values()];
    };
    const sum = (place: number) => total().reduce((sum, figures) => sum + figures[place], 0);
    await server.count(/ close #/, 400);
    await until(() => total().length === 4 && sum(2) === 400, 12);
    assertEquals([total().length, sum(0), sum(2)], [4, 400, 400]);
    for (const [accepted] of total()) assert(accepted >= 60 && accepted <= 140, total().join());
    const threads = new Set(server.lines(/ accept #/).map((line) => / (\S+) accept/.exec(line)![1]));
    assertEquals([...threads].sort(), ["loop-1", "loop-2", "loop-3", "loop-4"]);
    assertEquals(await server.stop(), 0);
    assertEquals(server.reasons().size, 400);
  }, ["--workers", "4"]);
});
