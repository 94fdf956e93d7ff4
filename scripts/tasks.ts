// SPDX-License-Identifier: MIT
/**
 * A task per connection: every client has its own `async` function, and all of them share one thread.
 *
 * It reads like a thread per connection, goroutine style: recv, send, in a loop.
 *
 *   deno run -A scripts/tasks.ts      or: bun scripts/tasks.ts      or: node scripts/tasks.ts
 *   nc 127.0.0.1 9999                 in two other terminals: both are served at once
 */

import { burn, heartbeat, messages, parseOptions, serverOptions, waiting, work } from "./shim/program.ts";
import { type Connection, listen } from "./shim/shim.ts";

const options = parseOptions(
  "A task per connection: an async function for every client, all on one thread.",
  "nc 127.0.0.1 9999, in several terminals at once",
  { ...serverOptions, ...messages, ...work },
);

async function main(): Promise<void> {
  const server = await listen(options);
  heartbeat("tasks", 5, waiting);
  // Not awaited: each call starts a task, and the loop goes back to accept.
  for (;;) serve(await server.accept());
}

/** The task, which never throws: an error ends this connection and no other. */
async function serve(connection: Connection): Promise<void> {
  for (;;) {
    const data = await connection.recv();
    if (data.length === 0) break;
    burn(connection.id, options.work, data);
    await connection.send(data);
  }
  connection.close();
}

await main();
