// SPDX-License-Identifier: MIT
/** nonblocking.ts: ask again and again. */

import { assert } from "./assert.ts";
import { Client, until } from "./harness.ts";
import { testModel } from "./contract.ts";

testModel("nonblocking.ts", (test) => {
  test("a core at 100 %, and nearly every call in vain", async (server) => {
    const clients = [];
    for (let i = 0; i < 3; i++) clients.push(await Client.connect(server.port));
    assert(await clients[1].echo("hello"));
    const line = await server.line(/ calls \d/, 15);
    const [, made, vain, percent] = / calls (\d+) made, (\d+) found nothing \(([\d.]+) %\)$/.exec(line)!;
    assert(+made > 1000 && +vain > 0.9 * +made && +vain < +made, line);
    assert(Math.abs(+percent - 100 * +vain / +made) < 0.06, line);
    // Of a machine that is busy it gets less than a core, and what sleeps would take a minute for this.
    const used = server.cpu;
    assert(await until(() => server.cpu - used > 0.5), `${server.cpu - used} s of CPU in ten seconds`);
    for (const client of clients) client.close();
  });
});
