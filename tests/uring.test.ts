// SPDX-License-Identifier: MIT
/** uring.ts: io_uring(7). */

import process from "node:process";
import { assert, assertEquals } from "./assert.ts";
import { Client, pattern, sleep } from "./harness.ts";
import { testModel } from "./contract.ts";
import { checkReuse } from "./descriptors.ts";
import { checkPatience, checkSums, checkWait } from "./waits.ts";

testModel("uring.ts", (test) => {
  checkWait(test, /main io_uring_enter \d+ submitted, 1 completed[:,] \d+ calls so far/);
  checkSums(test, "io_uring_enter");
  checkReuse(test);
  checkPatience(test);

  test("the total of its calls is in every line, and at the stop", async (server) => {
    const client = await Client.connect(server.port);
    for (let i = 0; i < 100; i++) assert(await client.echo("hello"));
    await server.line(/ io_uring_enter \d+ more times: /);
    assertEquals(await server.stop(), 0);
    const totals = server.lines(/ io_uring_enter /).map((line) =>
      Number(/ (\d+) calls (so far|in all)$/.exec(line)?.[1])
    );
    assert(totals.every((total, i) => total > (totals[i - 1] ?? 0)), totals.join());
    client.close();
  });

  test("more messages at once than its rings have places", async (server) => {
    const clients: Client[] = [];
    while (clients.length < 3000) {
      clients.push(...await Promise.all(Array.from({ length: 100 }, () => Client.connect(server.port))));
    }
    process.kill(server.pid, "SIGSTOP");
    for (const [i, client] of clients.entries()) client.send(pattern(200, i));
    await sleep(300);
    process.kill(server.pid, "SIGCONT");
    for (const [i, client] of clients.entries()) {
      assertEquals(Buffer.compare(await client.receive(200, 30), pattern(200, i)), 0);
    }
    await sleep(100);
    assertEquals(clients.filter(({ received }) => received > 0).length, 0, "nothing twice");
    for (const client of clients) client.close();
  }, ["--quiet"]);
});
