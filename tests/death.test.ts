// SPDX-License-Identifier: MIT
/** A thread that dies costs its own client and no other, and another takes its place. */

import { assert, assertEquals } from "./assert.ts";
import { check, Client, hasFFI, linux, runtimes, serve, temporaryFolder } from "./harness.ts";
import { copy } from "./twins.ts";

/** Of a message that begins with `!` a thread dies; in offload.ts, of any that is computed. */
const mortal = {
  file: "shim/log.ts",
  from: "  const shown = ",
  to: '  if (self.name !== "main" && (event === "work" || (details[1] as Uint8Array)?.[0] === 33)) process.exit(7);\n' +
    "  const shown = ",
};

const one = ["--workers", "1"];
const servers: [script: string, args: string[], systemCalls?: boolean][] = [
  ["threads.ts", []],
  ["pool.ts", one],
  ["reuseport.ts", one],
  ["offload.ts", [...one, "--work", "1"]],
  ["blocking.ts", ["--threads", "1"], true],
  ["reactors.ts", one, true],
];
let folder = "";

for (const runtime of runtimes) {
  for (const [script, args, systemCalls] of servers) {
    if (!linux || systemCalls && !hasFFI(runtime)) continue;
    check(`${runtime.name} ${script}: a thread that dies costs its own client, and is replaced`, async () => {
      if (!folder) copy(mortal, folder = temporaryFolder());
      await serve(runtime, script, args, async (server) => {
        for (let id = 1; id <= 3; id++) {
          // In reuseport.ts the listening socket has died with the thread.
          const client = await Client.served(server, server.port, "light");
          client.send("!");
          assert(await client.end() !== null, `#${id} is closed`);
          await server.count(/ error (#\d )?thread \S+( has died)?: it ended with exit code 7$/, id);
        }
        assertEquals(await server.stop(), 0);
        assertEquals(server.errors, "");
      }, { folder });
    });
  }
}
