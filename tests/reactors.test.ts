// SPDX-License-Identifier: MIT
/** reactors.ts: main and sub reactors. */

import { assert } from "./assert.ts";
import { Client } from "./harness.ts";
import { testModel } from "./contract.ts";
import { checkReuse } from "./descriptors.ts";
import { checkSums, checkWait } from "./waits.ts";

testModel("reactors.ts", (test) => {
  checkWait(test, /loop-1 epoll_wait 1 ready, 3 registered, 1 entries looked at/, undefined, ["--workers", "1"]);
  checkSums(test, "epoll_wait");
  checkReuse(test);

  test("--spread fewest: a client goes to the loop that has the fewest, and the counts are told", async (server) => {
    const served = async (id: number, loop: number) => {
      const client = await Client.connect(server.port);
      assert(await client.echo("hello"));
      await server.line(new RegExp(` main give #${id} loop-${loop}$`));
      return client;
    };
    const first = await served(1, 1), second = await served(2, 2);
    second.close();
    await server.line(/ loop-2 close #2 /);
    // In turn it would be the other one.
    const third = await served(3, 2), fourth = await served(4, 1);
    assert(await first.echo("again"));
    await server.line(/ main loop loop-1 given 2, open 2, messages 3$/, 15);
    await server.line(/ main loop loop-2 given 2, open 1, messages 2$/, 15);
    for (const client of [first, third, fourth]) client.close();
  }, ["--workers", "2", "--spread", "fewest"]);

  test("whether a message is light is its own matter, not that of the one before", async (server) => {
    const first = await Client.connect(server.port), second = await Client.connect(server.port);
    assert(await first.echo("light"));
    assert(await second.echo("l"));
    await server.line(/ work #2 /);
    for (const client of [first, second]) client.close();
  }, ["--workers", "1", "--work", "10"]);

  test("unless it is told otherwise, each loop in turn gets a client", async (server) => {
    for (const [id, loop] of [[1, 1], [2, 2], [3, 1]]) {
      const client = await Client.connect(server.port);
      await server.line(new RegExp(` main give #${id} loop-${loop}$`));
      client.close();
    }
  }, ["--workers", "2"]);
});
