// SPDX-License-Identifier: MIT
/** What others do beside a server: the runtime posts messages to its threads, another server wants the same port. */

import { assert, assertEquals, assertMatch } from "./assert.ts";
import { check, Client, freePort, hasFFI, linux, runtimes, Script, serve, until } from "./harness.ts";

const two = ["--workers", "2"];
const servers: [script: string, args: string[], systemCalls?: boolean][] = [
  ["threads.ts", []],
  ["pool.ts", []],
  ["reuseport.ts", two],
  ["offload.ts", two],
  ["blocking.ts", ["--threads", "2"], true],
  ["reactors.ts", two, true],
];

const node = runtimes.find(({ name }) => name === "node");

for (const [script, args, systemCalls] of linux && node ? servers : []) {
  if (systemCalls && !hasFFI(node!)) continue;
  // `node --watch` sets this, and whatever is started below it inherits it: then Node posts messages of its own.
  const environment = { WATCH_REPORT_DEPENDENCIES: "1" };
  check(
    `node ${script}: under node --watch its threads know which messages are theirs`,
    () =>
      serve(node!, script, args, async (server) => {
        for (const word of ["one", "two"]) {
          const client = await Client.connect(server.port);
          assert(await client.echo(word));
          client.close();
        }
        await server.allClosed();
        assertEquals(await server.stop(), 0);
        assertEquals(server.errors, "");
      }, { environment }),
  );
}

for (const runtime of linux ? runtimes : []) {
  check(`${runtime.name} reuseport.ts: of two that start at once on one port, one listens`, async () => {
    for (let i = 0; i < 3; i++) {
      const port = await freePort(), args = ["--port", `${port}`, "--workers", "1"];
      const both = [1, 2].map(() => new Script(runtime, "reuseport.ts", args));
      try {
        let ended = 0;
        for (const { exited } of both) exited.then(() => ended++);
        const listening = () => both.filter((one) => one.lines(/^listening on /).length > 0);
        assert(await until(() => listening().length + ended >= 2, 60), "neither listens nor ends");
        assertEquals([listening().length, ended], [1, 1], "listening, ended");
        const [first] = listening(), other = both.find((one) => one !== first)!;
        assertEquals(await other.exited, 1);
        assertMatch(other.errors, /^reuseport\.ts: cannot listen on 127\.0\.0\.1:\d+: .*\(EADDRINUSE\)\n$/);
        assertEquals(await first.stop(), 0);
      } finally {
        for (const one of both) await one.kill();
      }
    }
  });
}
