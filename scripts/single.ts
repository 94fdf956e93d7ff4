// SPDX-License-Identifier: MIT
/**
 * One connection, one exchange: the eight steps of a TCP server, once each, and the process ends.
 *
 * Every other script is these steps with something around them: a loop, threads, tasks, a wait for many sockets.
 * Where the runtime takes several steps in one call, the log still names each.
 *
 * The limit: a second client is never served. The kernel connects it all the same, and it waits in the backlog until
 * the server closes. tasks.ts serves many, and blocking.ts one after another.
 *
 *   deno run -A scripts/single.ts      or: bun scripts/single.ts      or: node scripts/single.ts
 *   nc 127.0.0.1 9999                  in another terminal: type a line
 *
 * To copy it into an article: deno run -A scripts/standalone.ts single
 */

import { cannotListen, errorCode, fail, formatAddress, log, parseOptions, ready } from "./shim/program.ts";
import { serverOptions } from "./shim/program.ts";
import { listen } from "./shim/shim.ts";

const options = parseOptions(
  "One connection, one exchange: the eight steps of a TCP server in order, then the process ends.",
  "nc 127.0.0.1 9999, and type a line",
  serverOptions,
);

async function main(): Promise<void> {
  const server = await listen(options).catch(cannotListen);
  log("create", 0, "step 1: a socket");
  log("bind", 0, "step 2:", formatAddress(options.host, server.port));
  // Step 3: listen. Clients may connect from now on.
  ready(options.host, server.port);

  const connection = await server.accept();
  log("accept", connection.id, "step 4:", connection.peer);

  let reason: unknown = "after one exchange";
  try {
    const data = await connection.recv();
    log("recv", connection.id, "step 5:", data.length, data);
    if (data.length > 0) {
      const sending = connection.send(data);
      log("send", connection.id, "step 6:", data.length);
      await sending;
    } else {
      // No bytes are the end of the stream: the client has left without a message.
      reason = "by the client";
    }
  } catch (error) {
    // A reset, for example. Silence, and the end of the server, have no code.
    if (errorCode(error)) fail("the exchange failed", error);
    reason = error;
  }

  connection.close();
  log("close", connection.id, "step 7:", reason);
  server.close();
  log("close", 0, "step 8: the listening socket");
}

await main();
