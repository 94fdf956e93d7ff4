// SPDX-License-Identifier: MIT
/**
 * A task per connection: every client has its own `async` function, and all of them share one thread.
 *
 * It reads like a thread per connection, goroutine style: recv, send, in a loop. Where a thread would block, a
 * task awaits, and the runtime's event loop runs another one meanwhile: coroutines.ts does that by hand. A task costs
 * a few kilobytes, so ten thousand clients are no trouble.
 *
 * The limit: one thread is one core. A task that computes (try `--work 2000`) holds up all the others, because
 * nothing interrupts it. pool.ts and reuseport.ts use more cores.
 *
 *   deno run -A scripts/tasks.ts      or: bun scripts/tasks.ts      or: node scripts/tasks.ts
 *   nc 127.0.0.1 9999                 in two other terminals: both are served at once
 */

import { burn, heartbeat, messages, parseOptions, serverOptions, work } from "./shim/program.ts";
import { type Connection, listen, waiting } from "./shim/shim.ts";

const options = parseOptions(
  "A task per connection: an async function for every client, all on one thread.",
  "nc 127.0.0.1 9999, in several terminals at once",
  { ...serverOptions, ...messages, ...work },
);

async function main(): Promise<void> {
  // create, bind, listen
  const server = await listen(options);
  heartbeat("tasks", 5, waiting);
  // Not awaited: each call starts a task, and the loop goes back to accept.
  for (;;) serve(await server.accept());
}

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
