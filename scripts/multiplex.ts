// SPDX-License-Identifier: MIT
/**
 * I/O multiplexing by the runtime's event loop: one thread, one loop, no task or thread per client.
 *
 * The loop registers sockets, waits, and deals with those that are ready: the listening socket when a client has
 * connected, a connection when bytes have come. In tasks.ts each client's progress is a line in a function. Here it is
 * what the loop waits for next: to receive from the client, or to send it the rest of a reply. This is how the event
 * loop below `async` works.
 *
 * The limit: one thread is one core. While a handler computes (try `--work 2000`), all clients wait. pool.ts and
 * reuseport.ts use more cores.
 *
 * What is real: the loop here, and its one wait for all sockets. But the system call is made by the runtime, whose own
 * loop is below this one; epoll.ts makes it itself.
 *
 *   deno run -A scripts/multiplex.ts      or: bun scripts/multiplex.ts      or: node scripts/multiplex.ts
 *   nc 127.0.0.1 9999                     in several terminals: one thread serves them all
 */

import { burn, logWait, messages, parseOptions, serverOptions, work } from "./shim/program.ts";
import { READ, Selector, WRITE } from "./shim/selector.ts";
import { type Connection, listen } from "./shim/shim.ts";

const options = parseOptions(
  "I/O multiplexing: one loop waits for all sockets at once and deals with those that are ready.",
  "nc 127.0.0.1 9999, in several terminals at once",
  { ...serverOptions, ...messages, ...work },
);

/** Waits for the listening socket, which is the `null` among the connections, and for all of these. */
const selector = new Selector<Connection | null>();

async function main(): Promise<void> {
  // create, bind, listen
  const server = await listen(options);
  selector.register(server, READ, null);

  for (;;) {
    const found = await selector.select();
    logWait("wait", { ready: found.length, watched: selector.size }, () => found.map(name).join(", "));
    for (const connection of found) {
      if (connection) handle(connection);
      else accept(server.acceptNow());
    }
  }
}

function name(connection: Connection | null): string {
  return connection ? `#${connection.id}` : "listener";
}

function accept(connection: Connection | null): void {
  if (connection) selector.register(connection, READ, connection);
}

/** A connection is ready: bytes have come, or the last reply is on its way to the client. */
function handle(connection: Connection): void {
  selector.modify(connection, READ);
  const data = connection.recvNow();
  if (!data) return;
  if (data.length === 0) {
    selector.unregister(connection);
    return connection.close();
  }
  burn(connection.id, options.work, data);
  // If the kernel has not taken the whole reply, the client is slow: nothing more is read from it until that is done.
  if (!connection.sendNow(data)) selector.modify(connection, WRITE);
}

await main();
