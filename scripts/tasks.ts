// SPDX-License-Identifier: MIT
/**
 * A task per connection: every client has its own `async` function, and all of them share one thread.
 *
 * It reads like a thread per connection, goroutine style: recv, send, in a loop. Where a thread would block, a
 * task awaits, and the runtime's event loop runs another one meanwhile. A task costs a few kilobytes, so ten
 * thousand clients are no trouble.
 *
 * The limit: one thread is one core. A task that computes (try `--work 200`) holds up all the others, since
 * nothing takes the thread from it. pool.ts and reuseport.ts use more cores.
 *
 *   deno run -A scripts/tasks.ts      or: bun scripts/tasks.ts      or: node scripts/tasks.ts
 *   nc 127.0.0.1 9999                 in two other terminals: both are served at once
 */

import { burn, closeSilent, explain, fail, log, onStop, parseOptions, ready, serverOptions } from "./program.ts";
import { type Connection, listen } from "./shim.ts";

const options = parseOptions(
  "A task per connection: an async function for every client, all on one thread.",
  "nc 127.0.0.1 9999, in several terminals at once",
  {
    ...serverOptions,
    messages: [3, "exchanges per connection; 0 = until the client leaves"],
    work: [0, "milliseconds of CPU burnt per message"],
  },
);

/** A task each. */
const open = new Set<Connection>();

// create, bind, listen
const server = await listen(options)
  .catch((error) => fail(`cannot listen on ${options.host}:${options.port}`, error));
onStop(() => {
  server.close();
  for (const connection of open) connection.close();
});
ready(options.host, server.port);
closeSilent(open, options.idle);
setInterval(() => log("tasks", 0, open.size), 5000);

for (;;) {
  const connection = await server.accept();
  // Not awaited: this starts the task, and the loop goes back to accept.
  serve(connection);
}

/** The task, which never throws: an error ends this connection and no other. */
async function serve(connection: Connection): Promise<void> {
  const { id } = connection;
  log("accept", id, connection.peer);
  open.add(connection);
  try {
    for (let count = 0; options.messages === 0 || count < options.messages; count++) {
      const data = await connection.recv();
      if (data.length === 0) break;
      connection.silence = 0;
      log("recv", id, data);
      burn(options.work);
      await connection.send(data);
      log("send", id, data.length);
    }
  } catch (error) {
    log("error", id, explain(error));
  }
  open.delete(connection);
  connection.close();
  log("close", id);
}
