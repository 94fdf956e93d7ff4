// SPDX-License-Identifier: MIT
/** blocking.ts --threads 3: three threads that block in one accept. */

import { assert, assertEquals } from "./assert.ts";
import { Client, sleep } from "./harness.ts";
import { testModel } from "./contract.ts";

testModel("blocking.ts --threads 3", (test) => {
  test("three at once; the fourth client waits", async (server) => {
    const three = [];
    for (let i = 0; i < 3; i++) three.push(await Client.connect(server.port));
    for (const client of three) assert(await client.echo("hello"));
    const fourth = await Client.connect(server.port);
    fourth.send("hello");
    await sleep(700);
    assertEquals(fourth.received, 0, "the fourth waits");
    three[0].close();
    await fourth.receive(5);
    const names = new Set(server.output.map((line) => / (t-\d) recv #/.exec(line)?.[1]).filter(Boolean));
    assertEquals([...names].sort(), ["t-1", "t-2", "t-3"]);
    for (const client of [...three, fourth]) client.close();
    await server.allClosed();
  });
});
