// SPDX-License-Identifier: MIT
/**
 * I/O multiplexing by the runtime's event loop: one thread, one loop, no task or thread per client.
 *
 * The loop registers what it wants to hear of, waits, and deals with what is ready: the listening socket when
 * somebody has connected, a connection when bytes have come or when it takes bytes again. What a client has been
 * sent so far is no longer a line in a function, as in tasks.ts, but data: the unsent tail, kept beside the
 * connection. This is how the event loop below `async` works.
 *
 * The limit: one thread, one core, and whatever a handler computes (try `--work 200`) all clients wait for.
 * pool.ts and reuseport.ts use more cores. The truth lies in the runtime, whose own loop makes the system call;
 * epoll.ts makes it itself.
 *
 *   deno run -A scripts/multiplex.ts      or: bun scripts/multiplex.ts      or: node scripts/multiplex.ts
 *   nc 127.0.0.1 9999                     in several terminals: one thread serves them all
 */

import { burn, closeSilent, explain, fail, log, onStop, parseOptions, ready, serverOptions } from "./program.ts";
import { type Connection, listen, READ, type Server, WRITE } from "./readiness.ts";
import { Selector } from "./selector.ts";

const options = parseOptions(
  "I/O multiplexing: one loop waits for all sockets at once and deals with those that are ready.",
  "nc 127.0.0.1 9999, in several terminals at once",
  {
    ...serverOptions,
    messages: [0, "exchanges per connection; 0 = until the client leaves"],
    work: [0, "milliseconds of CPU burnt per message"],
  },
);

/** What the loop must remember of a connection between two events. */
interface Client {
  connection: Connection;
  /** Received, but not sent back yet. */
  unsent: Uint8Array;
  exchanges: number;
}

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

const selector = new Selector<Server | Connection, Client | null>();
selector.register(server, READ, null);
for (;;) {
  for (const { data: client, events } of await selector.wait()) {
    if (client) handle(client, events);
    else accept();
  }
}

/** The listening socket is ready: somebody has connected. */
function accept(): void {
  const connection = server.acceptNow();
  if (!connection) return;
  log("accept", connection.id, connection.peer);
  open.add(connection);
  selector.register(connection, READ, { connection, unsent: new Uint8Array(0), exchanges: 0 });
}

/** A connection is ready. This never throws: an error ends that connection and no other. */
function handle(client: Client, events: number): void {
  try {
    if (events & WRITE) flush(client);
    else receive(client);
  } catch (error) {
    log("error", client.connection.id, explain(error));
    close(client);
  }
}

function receive(client: Client): void {
  const { connection } = client;
  const data = connection.recvNow();
  if (!data) return;
  if (data.length === 0) return close(client);
  log("recv", connection.id, data);
  connection.silence = 0;
  burn(options.work);
  const sent = connection.sendNow(data);
  if (sent === data.length) return finish(client);
  // The client is slow: nothing more is read from it until it has taken the rest.
  client.unsent = data.subarray(sent);
  selector.modify(connection, WRITE);
}

function flush(client: Client): void {
  const { connection } = client;
  client.unsent = client.unsent.subarray(connection.sendNow(client.unsent));
  if (client.unsent.length > 0) return;
  selector.modify(connection, READ);
  finish(client);
}

/** A message has been sent back whole. */
function finish(client: Client): void {
  log("send", client.connection.id);
  if (++client.exchanges === options.messages) close(client);
}

function close({ connection }: Client): void {
  selector.unregister(connection);
  open.delete(connection);
  connection.close();
  log("close", connection.id);
}
