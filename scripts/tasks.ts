// SPDX-License-Identifier: MIT
/**
 * A task per connection: every client has its own `async` function, and all of them share one thread.
 *
 * It reads like a thread per connection, goroutine style: recv, send, in a loop. Where a thread would block, a
 * task awaits, and the runtime's event loop runs another one meanwhile. A task costs a few kilobytes, so ten
 * thousand clients are no trouble.
 *
 * The limit: one thread is one core. A task that computes (try `--work 2000`) holds up all the others, since
 * nothing takes the thread from it. pool.ts and reuseport.ts use more cores.
 *
 *   deno run -A scripts/tasks.ts      or: bun scripts/tasks.ts      or: node scripts/tasks.ts
 *   nc 127.0.0.1 9999                 in two other terminals: both are served at once
 *
 * To copy it into an article: deno run -A scripts/standalone.ts tasks
 */

import { burn, cannotListen, heartbeat, list, log, messages, parseOptions, ready } from "./shim/program.ts";
import { serverOptions, work } from "./shim/program.ts";
import { type Connection, listen } from "./shim/shim.ts";

const options = parseOptions(
  "A task per connection: an async function for every client, all on one thread.",
  "nc 127.0.0.1 9999, in several terminals at once",
  { ...serverOptions, ...messages, ...work },
);

/** What each task awaits. */
const tasks = new Set<{ id: number; awaits: string }>();

async function main(): Promise<void> {
  // create, bind, listen
  const server = await listen(options).catch(cannotListen);
  ready(options.host, server.port);
  heartbeat("tasks", 5, () => [list([...tasks].map(({ id, awaits }) => `#${id} awaits ${awaits}`))]);

  for (;;) {
    const connection = await server.accept();
    // Not awaited: this starts the task, and the loop goes back to accept.
    serve(connection);
  }
}

/** The task, which never throws: an error ends this connection and no other. */
async function serve(connection: Connection): Promise<void> {
  const { id } = connection, task = { id, awaits: "recv" };
  log("accept", id, connection.peer);
  tasks.add(task);
  let reason: unknown = `after ${options.messages} messages`;
  try {
    for (let count = 0; count < options.messages; count++) {
      const data = await connection.recv();
      if (data.length === 0) {
        reason = "by the client";
        break;
      }
      log("recv", id, data.length, data);
      burn(id, options.work, data);
      task.awaits = "send";
      const sending = connection.send(data);
      log("send", id, data.length);
      await sending;
      task.awaits = "recv";
    }
  } catch (error) {
    reason = error;
  }
  tasks.delete(task);
  connection.close();
  log("close", id, reason);
}

await main();
