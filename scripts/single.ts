// SPDX-License-Identifier: MIT
/**
 * One connection, one exchange: the eight steps of a TCP server, once each, and the process ends.
 *
 * Every other script is these steps with something around them: a loop, threads, tasks, a wait for many sockets.
 * Where the runtime takes several steps in one call, the log still names each.
 *
 * The limit: a second client is never served. Its connection is made all the same, by the kernel, and waits in
 * the backlog until the server closes. tasks.ts serves many, and blocking.ts one after another.
 *
 *   deno run -A scripts/single.ts      or: bun scripts/single.ts      or: node scripts/single.ts
 *   nc 127.0.0.1 9999                  in another terminal: type a line
 */

import process from "node:process";
import { fail, log, onStop, parseOptions, ready, serverOptions } from "./program.ts";
import { listen } from "./shim.ts";

const options = parseOptions(
  "One connection, one exchange: the eight steps of a TCP server in order, then the process ends.",
  "nc 127.0.0.1 9999, and type a line",
  serverOptions,
);

const server = await listen(options)
  .catch((error) => fail(`cannot listen on ${options.host}:${options.port}`, error));
onStop(() => server.close());
ready(options.host, server.port);
log("create", 0, "step 1: a socket");
log("bind", 0, "step 2: gets an address");
log("listen", 0, "step 3: clients may connect from now on");

const connection = await server.accept();
log("accept", connection.id, `step 4: ${connection.peer}`);
if (options.idle > 0) setTimeout(() => connection.close(), options.idle * 1000);

try {
  const data = await connection.recv();
  log("recv", connection.id, "step 5:", data);
  // No bytes are the end of the stream: the client has left without a message, or was silent for too long.
  if (data.length > 0) {
    await connection.send(data);
    log("send", connection.id, "step 6:", data.length);
  }
} catch (error) {
  fail("the exchange failed", error);
}

connection.close();
log("close", connection.id, "step 7: the connection");
server.close();
log("close", 0, "step 8: the listening socket");
process.exit(0);
