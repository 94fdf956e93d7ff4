// SPDX-License-Identifier: MIT
/**
 * I/O multiplexing by the runtime's event loop: one thread, one loop, no task or thread per client.
 *
 * The loop registers what it wants to hear of, waits, and deals with what is ready: the listening socket when a client
 * has connected, a connection when bytes have come. How far a client has come is no longer a line in a function, as in
 * tasks.ts, but data that the loop keeps beside the connection. This is how the event loop below `async` works.
 *
 * The limit: one thread, one core, and whatever a handler computes (try `--work 2000`) all clients wait for.
 * pool.ts and reuseport.ts use more cores.
 *
 * What is real: the loop here, and its one wait for all sockets. But the system call is made by the runtime, whose own
 * loop is below this one; epoll.ts makes it itself.
 *
 *   deno run -A scripts/multiplex.ts      or: bun scripts/multiplex.ts      or: node scripts/multiplex.ts
 *   nc 127.0.0.1 9999                     in several terminals: one thread serves them all
 *
 * To copy it into an article: deno run -A scripts/standalone.ts multiplex
 */

import { burn, cannotListen, log, logWait, messages, parseOptions, ready, serverOptions } from "./shim/program.ts";
import { work } from "./shim/program.ts";
import { type NonblockingConnection, NonblockingServer } from "./shim/readiness.ts";
import { Selector } from "./shim/selector.ts";
import { listen } from "./shim/shim.ts";

const options = parseOptions(
  "I/O multiplexing: one loop waits for all sockets at once and deals with those that are ready.",
  "nc 127.0.0.1 9999, in several terminals at once",
  { ...serverOptions, ...messages, ...work },
);

/** What the loop must remember of a client between two events. */
interface Client {
  connection: NonblockingConnection;
  exchanges: number;
}

/** Waits for the listening socket, which is none of the clients, and for all of these. */
const selector = new Selector<Client | null>();

async function main(): Promise<void> {
  // create, bind, listen
  const listener = await listen(options).catch(cannotListen);
  ready(options.host, listener.port);
  const server = new NonblockingServer(listener);
  selector.register(server, null);

  for (;;) {
    const found = await selector.wait();
    logWait("wait", { ready: found.length, watched: selector.size }, () => found.map(name).join(", "));
    for (const client of found) {
      if (client) handle(client);
      else accept(server);
    }
  }
}

function name(client: Client | null): string {
  return client ? `#${client.connection.id}` : "listener";
}

/** The listening socket is ready: a client has connected. */
function accept(server: NonblockingServer): void {
  const connection = server.acceptNow();
  if (!connection) return;
  log("accept", connection.id, connection.peer);
  selector.register(connection, { connection, exchanges: 0 });
}

/** A connection is ready. This never throws: an error ends that connection and no other. */
function handle(client: Client): void {
  const { connection } = client, { id } = connection;
  try {
    const data = connection.recvNow();
    if (!data) return;
    if (data.length === 0) return close(client, "by the client");
    log("recv", id, data.length, data);
    burn(id, options.work, data);
    // If the client is slow, the runtime keeps what it hasn't taken. Until that is gone the connection is not ready.
    connection.sendNow(data);
    log("send", id, data.length);
    if (++client.exchanges === options.messages) close(client, `after ${options.messages} messages`);
  } catch (error) {
    close(client, error);
  }
}

function close({ connection }: Client, reason: unknown): void {
  selector.unregister(connection);
  connection.close();
  log("close", connection.id, reason);
}

await main();
