// SPDX-License-Identifier: MIT
/** select.ts: select(2). */

import { assert } from "./assert.ts";
import { Client, sleep, until } from "./harness.ts";
import { testModel } from "./contract.ts";
import { checkReuse } from "./descriptors.ts";
import { checkSums, checkWait } from "./waits.ts";

testModel("select.ts", (test) => {
  const bits = /\d+ bits looked at \(highest descriptor \+ 1\)/.source,
    copied = /\d+ bytes of sets copied in and out/.source;
  checkWait(test, new RegExp(`main select 1 ready, 4 watched, ${bits}, ${copied}`));
  checkSums(test, "select");

  test("it looks at as many bits as the highest descriptor wants", async (server) => {
    const clients = [];
    for (let i = 0; i < 30; i++) clients.push(await Client.connect(server.port));
    // After ten waits in a second the log has sums only.
    const own = / select 1 ready, 31 watched/;
    for (let i = 0; i < 30 && server.lines(own).length === 0; i++) {
      assert(await clients[29].echo("hello"));
      await sleep(300);
    }
    const line = (await server.count(own, 1)).at(-1)!;
    const [, bits, bytes] = /, (\d+) bits looked at .*, (\d+) bytes/.exec(line)!;
    // 31 descriptors in use beside those of the runtime; and no set is longer than 1024 bits.
    assert(+bits >= 34 && +bits <= 1024 && +bits < server.descriptors + 30, line);
    assert(+bytes >= +bits / 8 && +bytes <= 6 * 128, line);
    for (const client of clients) client.close();
  });

  checkReuse(test);

  test("1 100 clients; those beyond the set are turned away, the others served", async (server) => {
    const clients: Client[] = [];
    while (clients.length < 1100) {
      clients.push(...await Promise.all(Array.from({ length: 50 }, () => Client.connect(server.port))));
    }
    const replies = await Promise.all(clients.map((client) => client.echo("hello", 20).catch(() => false)));
    const served = replies.filter(Boolean).length;
    assert(served > 900 && served < 1024, `${served} served`);
    // Each is told why.
    await server.count(/ (error|close #\d+) .*(102[34]|FD_SETSIZE)/, 1);
    for (const client of clients) client.close();
    let next = false;
    assert(
      await until(() => {
        Client.connect(server.port).then((client) => client.echo("next")).then((good) => next ||= good, () => {});
        return next;
      }),
      "served again",
    );
  });
});
