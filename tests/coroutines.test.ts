// SPDX-License-Identifier: MIT
/** coroutines.ts: a coroutine per connection, over epoll(7). */

import { assert, assertEquals, assertMatch } from "./assert.ts";
import { check, Client, pattern, type Runtime, serve } from "./harness.ts";
import { testModel } from "./contract.ts";
import { checkReuse, checkRoom } from "./descriptors.ts";
import { checkSums, checkWait } from "./waits.ts";

testModel("coroutines.ts", (runtime: Runtime) => {
  const title = `${runtime.name} coroutines.ts`, park = /main park #2 until descriptor \d+ is readable/;
  checkWait(runtime, "coroutines.ts", [], /main epoll_wait 1 ready, 3 parked: resume 1: #2/, park);
  checkSums(runtime, "coroutines.ts", [], "epoll_wait");
  checkReuse(runtime, "coroutines.ts", []);
  checkRoom(runtime, "coroutines.ts");

  check(
    `${title}: a coroutine parks where its call would block, and is resumed there`,
    () =>
      serve(runtime, "coroutines.ts", [], async (server) => {
        const client = await Client.connect(server.port), message = pattern(8 * 1024 * 1024);
        client.pause();
        client.send(message);
        assertMatch(await server.line(/ park #1 .* writable/), / park #1 until descriptor \d+ is writable$/);
        assertMatch(
          await server.line(/ coroutines /),
          / coroutines 2: listener until descriptor \d+ is readable, #1 until descriptor \d+ is writable$/,
        );
        client.read();
        assertEquals(Buffer.compare(await client.receive(message.length), message), 0);
        assertMatch(await server.line(/ coroutines 2: .*#1 .* readable/), /listener .*, #1 /);
        client.close();
      }),
  );

  check(
    `${title}: a client that never falls silent leaves the others their turn`,
    () =>
      serve(runtime, "coroutines.ts", ["--work", "10"], async (server) => {
        const busy = await Client.connect(server.port), other = await Client.connect(server.port);
        // Some seventy messages, of which the next is always there before the last is answered.
        const message = pattern(4 * 1024 * 1024);
        busy.send(message);
        await server.line(/ send #1 /);
        assert(await other.echo("light"));
        assert(busy.received < message.length / 2, `${busy.received} bytes came first`);
        for (const client of [busy, other]) client.close();
      }),
  );
});
