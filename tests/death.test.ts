// SPDX-License-Identifier: MIT
/** A thread that dies costs its own client and no other, and another takes its place, which has the same time. */

import { assert, assertEquals } from "./assert.ts";
import { check, Client, hasFFI, linux, runtimes, serve, temporaryFolder } from "./harness.ts";
import { change, copy } from "./twins.ts";

/** Of a message that begins with `!` a thread dies; in offload.ts, of any that is computed. */
const mortal = {
  file: "shim/log.ts",
  from: "  const shown = details",
  to: '  if (self.name !== "main" && (event === "work" || (details[1] as Uint8Array)?.[0] === 33)) process.exit(7);\n' +
    "  const shown = details",
};

/** Once there is a client, the clock of the system is an hour ahead: for who reads it, and for threads that start then. */
const clock = {
  file: "shim/runtime.ts",
  from: "/** For a thread that the calling one starts. */",
  to: "const ahead = () => self.counters[0] > 0 ? 3_600_000 : 0, date = Date.now;\n" +
    "const timeOrigin = performance.timeOrigin + (isMainThread ? 0 : ahead());\n" +
    "Date.now = () => date() + ahead();\n" +
    'Object.defineProperty(performance, "timeOrigin", { value: timeOrigin });\n',
};

/** In reuseport.ts the first loop dies before it listens, and the fifth can't. */
const deaf = {
  file: "reuseport.ts",
  from: "() => bindReusePort(",
  to: '() => workerData.name === "loop-1" ? process.exit(7) : bindReusePort(workerData.name === "loop-5" ? ' +
    '{ host: "no-such-host.invalid", port: 0 } : ',
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
    check(
      `${runtime.name} ${script}: a thread that dies costs its own client, and is replaced by one that has the same time`,
      async () => {
        if (!folder) {
          copy(mortal, folder = temporaryFolder());
          change(clock, folder);
          change(deaf, folder);
        }
        await serve(runtime, script, args, async (server) => {
          const reuseport = script === "reuseport.ts";
          for (let id = 1; id <= 3; id++) {
            // In reuseport.ts the listening socket has died with the thread.
            const client = await Client.served(server, server.port, "light");
            client.send("!");
            assert(await client.end() !== null, `#${id} is closed`);
            await server.count(
              / error (#\d )?thread \S+( has died)?: it ended with exit code 7$/,
              reuseport ? id + 1 : id,
            );
          }
          // There the thread knew alone which clients it had.
          if (reuseport) await server.line(/ error loop-5 cannot listen: .*no-such-host/);
          else await server.allClosed();
          assertEquals(await server.stop(), 0);
          const late = server.lines(/^ *\d{7,}\.\d /);
          assertEquals(late, [], "all threads have the time since the start, whatever the system's clock says");
          assertEquals(server.errors, "");
        }, { folder });
      },
    );
  }
}
