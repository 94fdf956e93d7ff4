// SPDX-License-Identifier: MIT
/** `deno run --watch`: a script that was changed starts again in the same process, and finds its port free. */

import { appendFileSync, cpSync } from "node:fs";
import * as path from "node:path";
import { assert } from "./assert.ts";
import { check, Client, freePort, hasFFI, linux, runtimes, scripts, serve, temporaryFolder, until } from "./harness.ts";

const deno = runtimes.find(({ name }) => name === "deno");

if (linux && deno && hasFFI(deno)) {
  for (const script of ["epoll", "select", "poll", "nonblocking", "signals", "reactors", "processes"]) {
    check(`deno run --watch ${script}.ts: after a change it listens again`, async () => {
      const folder = temporaryFolder(), port = await freePort();
      cpSync(scripts, folder, { recursive: true });
      const watching = { ...deno, command: ["deno", "run", "-A", "--watch"] };
      await serve(watching, `${script}.ts`, ["--port", `${port}`], async (server) => {
        const client = await Client.connect(port);
        assert(await client.echo("hello"));
        // It may not watch yet.
        for (let i = 0; i < 5 && server.lines(/^listening on /).length < 2; i++) {
          appendFileSync(path.join(folder, `${script}.ts`), "\n// A change.\n");
          await until(() => server.lines(/^listening on /).length > 1, 4);
        }
        await server.count(/^listening on /, 2);
        const next = await Client.connect(port);
        assert(await next.echo("hello"));
        for (const each of [client, next]) each.close();
      }, { folder });
    });
  }
}
