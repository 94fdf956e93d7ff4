// SPDX-License-Identifier: MIT
/** coroutines.ts: a coroutine per connection, over epoll(7). */

import { assert, assertEquals, assertMatch } from "./assert.ts";
import { Client, pattern, Slow } from "./harness.ts";
import { testModel } from "./contract.ts";
import { checkReuse, checkRoom } from "./descriptors.ts";
import { checkSums, checkWait } from "./waits.ts";

testModel("coroutines.ts", (test, runtime) => {
  const park = /main park #2 until descriptor \d+ is readable/;
  checkWait(test, /main epoll_wait 1 ready, 3 parked: resume 1: #2/, park);
  // It receives again right after a reply, and a client that is fast enough is found to have sent, without a wait.
  checkSums(test, "epoll_wait", 0.5);
  checkReuse(test);
  checkRoom(test, runtime);

  test("a coroutine keeps its rest while others use the buffer", async (server) => {
    const client = await Client.connect(server.port), message = pattern(8 * 1024 * 1024);
    client.pause();
    client.send(message);
    assertMatch(await server.line(/ park #1 .* writable/), / park #1 until descriptor \d+ is writable$/);
    const other = await Client.connect(server.port);
    assert(await other.echo(pattern(65_536, 7)));
    assertMatch(
      await server.line(/ coroutines /),
      / coroutines 3: (?=.*listener until)(?=.*#2 until).*#1 until descriptor \d+ is writable/,
    );
    client.read();
    assertEquals(Buffer.compare(await client.receive(message.length), message), 0, "not what it sent");
    await server.line(/ coroutines 3: .*#1 .* readable/);
    for (const one of [client, other]) one.close();
  });

  test("a client that never falls silent leaves the others their turn", async (server) => {
    const busy = await Client.connect(server.port), other = await Client.connect(server.port);
    // Some seventy messages, of which the next is always there before the last is answered.
    const message = pattern(4 * 1024 * 1024);
    busy.send(message);
    await server.line(/ send #1 /);
    assert(await other.echo("light"));
    if (busy.received > message.length / 2) throw new Slow(`${busy.received} bytes came first`);
    for (const client of [busy, other]) client.close();
  }, ["--work", "10"]);
});
