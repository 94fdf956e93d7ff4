// SPDX-License-Identifier: MIT
/** A descriptor's number is free again as soon as it is closed: what a batch of events still holds for it is stale. */

import process from "node:process";
import { assert, assertEquals } from "./assert.ts";
import { check, Client, pattern, type Runtime, serve, sleep } from "./harness.ts";

export function checkReuse(runtime: Runtime, script: string, args: string[]): void {
  check(
    `${[runtime.name, script, ...args].join(" ")}: a reused descriptor never gets its predecessor's bytes`,
    () =>
      serve(runtime, script, [...args, "--quiet"], async (server) => {
        for (let round = 0; round < 5; round++) {
          const old = await Promise.all(Array.from({ length: 20 }, () => Client.connect(server.port)));
          for (const client of old) assert(await client.echo("hello"));
          // What follows arrives in one batch: bytes, ends, resets, and new clients that take the free numbers.
          process.kill(server.pid, "SIGSTOP");
          for (const [i, client] of old.entries()) {
            client.send("stale");
            if (i % 3 === 0) client.close();
            if (i % 3 === 1) client.reset();
          }
          const young = await Promise.all(Array.from({ length: 20 }, () => Client.connect(server.port)));
          const messages = young.map((_, i) => pattern(100, i));
          for (const [i, client] of young.entries()) client.send(messages[i]);
          await sleep(50);
          process.kill(server.pid, "SIGCONT");
          for (const [i, client] of young.entries()) {
            assertEquals(Buffer.compare(await client.receive(100), messages[i]), 0);
            assertEquals(client.received, 0);
          }
          for (const client of [...old, ...young]) client.close();
        }
      }),
  );
}
