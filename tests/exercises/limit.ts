// SPDX-License-Identifier: MIT
/** Exercise: a limit in line. `scripts/limit.ts` is to close a client that waits longer than `--patience` seconds. */

import { assert, assertEquals } from "../assert.ts";
import { check, Client, runtimes, serve, sleep } from "../harness.ts";

const options = ["--messages", "0", "--patience", "2"];

/** Clients that have a thread each, and keep it. */
async function occupy(port: number): Promise<Client[]> {
  const clients: Client[] = [];
  for (let i = 0; i < 3; i++) {
    clients.push(await Client.connect(port));
    assert(await clients[i].echo("hello"));
  }
  return clients;
}

for (const runtime of runtimes) {
  const title = `${runtime.name} limit.ts`;

  check(
    `${title}: who has waited two seconds is closed, and the log says so`,
    () =>
      serve(runtime, "limit.ts", options, async (server) => {
        const three = await occupy(server.port), start = performance.now();
        const fourth = await Client.connect(server.port);
        fourth.send("hello");
        await server.line(/ wait #4 /);
        assertEquals(await fourth.end(5), "end");
        const waited = performance.now() - start;
        assert(waited > 1800, `closed after ${waited.toFixed()} ms, and it was to be two seconds`);
        assertEquals(fourth.received, 0);
        await server.line(/ close #4 /);
        // It is out of the line for good: whose turn it is then?
        const fifth = await Client.connect(server.port);
        fifth.send("hello");
        await server.line(/ wait #5 /);
        three[0].close();
        await fifth.receive(5);
        assertEquals([server.lines(/ serve #4/), server.lines(/ close #4 /).length], [[], 1]);
      }),
  );

  check(
    `${title}: who gets a thread in time is served as always`,
    () =>
      serve(runtime, "limit.ts", options, async (server) => {
        const three = await occupy(server.port), fourth = await Client.connect(server.port);
        fourth.send("hello");
        await server.line(/ wait #4 /);
        await sleep(500);
        three[1].close();
        await fourth.receive(5);
        // Longer than the patience of one that waits: neither silence nor a long conversation counts.
        await sleep(3000);
        for (const client of [three[0], three[2], fourth]) assert(await client.echo("still here"));
      }),
  );
}
