// SPDX-License-Identifier: MIT
/**
 * One connection, one exchange: the eight steps of a TCP server, once each, and the process ends.
 *
 * Every other script is these steps with something around them: a loop, threads, tasks, a wait for many sockets.
 * Where the runtime takes several steps in one call, the log still names each.
 *
 * The limit: a second client is never served. It is connected all the same, and waits until the server closes. Under
 * Deno it waits in the kernel's backlog; Bun and Node accept it by themselves, and take what it sends, but this script
 * never learns of it. tasks.ts serves many clients at once, blocking.ts one after another.
 *
 *   deno run -A scripts/single.ts      or: bun scripts/single.ts      or: node scripts/single.ts
 *   nc 127.0.0.1 9999                  in another terminal: type a line
 */

import { errorCode, fail, numberSteps, parseOptions, serverOptions } from "./shim/program.ts";
import { listen } from "./shim/shim.ts";

const options = parseOptions(
  "One connection, one exchange: the eight steps of a TCP server in order, then the process ends.",
  "nc 127.0.0.1 9999, and type a line",
  serverOptions,
);
numberSteps();

// Steps 1 to 3: create, bind, listen. Clients may connect from now on.
const server = await listen(options);
// Step 4: accept.
const connection = await server.accept();
// Step 5: recv. No bytes are the end of the stream: the client has left without a message.
const data = await connection.recv();
// Step 6: send.
if (data.length > 0) await connection.send(data);
if (errorCode(connection.reason)) fail("the exchange failed", connection.reason);
// Steps 7 and 8: close the connection, and the listening socket.
connection.close("after one exchange");
server.close();
