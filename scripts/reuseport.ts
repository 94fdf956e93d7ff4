// SPDX-License-Identifier: MIT
/**
 * An event loop per core: each has its own listening socket on the same port, and the kernel spreads the clients.
 *
 * Handler and loop are those of tasks.ts. What is new is SO_REUSEPORT (socket(7)): several sockets may
 * be bound to one port, and each new connection goes to one of them, chosen by a hash of its addresses. No thread hands
 * connections around, and no loop knows of the others; the counts show how evenly they are spread.
 *
 * The limit: a client stays with its loop, even if that loop is busy (try `--work 2000`) and others are not; pool.ts
 * gives each client to a thread that is free. And it needs Linux: macOS has the option but sends all connections to one
 * socket, and Windows does not have it.
 *
 * What is real: the sockets, the option and the spreading are the kernel's; the loops are the runtime's.
 *
 *   deno run -A scripts/reuseport.ts      or: bun scripts/reuseport.ts      or: node scripts/reuseport.ts
 *   nc 127.0.0.1 9999                     in several terminals: the log shows which loop has got each client
 */

import { availableParallelism } from "node:os";
import { isMainThread, workerData } from "node:worker_threads";
import { listenAsLoop, Loops } from "./shim/loops.ts";
import { burn, cannotListen, fail, heartbeat, messages, parseOptions, process, ready } from "./shim/program.ts";
import { serverOptions, work } from "./shim/program.ts";
import { bind, bindReusePort, type Connection } from "./shim/shim.ts";

const options = parseOptions(
  "An event loop per core, each with its own listening socket on the same port (SO_REUSEPORT).",
  "nc 127.0.0.1 9999, in several terminals at once",
  {
    ...serverOptions,
    ...messages,
    ...work,
    workers: [availableParallelism(), "event loops, each in a thread", 1, 1000],
  },
);

/** The main thread: starts the loops. It accepts nothing. */
async function main(): Promise<void> {
  if (process.platform !== "linux") fail("SO_REUSEPORT", `it spreads connections on Linux, not on ${process.platform}`);
  // Another server could share the port with this one. A socket without the option, kept until the loops are about to
  // listen, makes sure that none does.
  const probe = await bind(options).catch(cannotListen), { port } = probe;
  const loops = new Loops(import.meta.url, port);
  for (let i = 1; i <= options.workers; i++) {
    await loops.start().catch((error) => fail(`cannot start loop-${i}`, error));
  }
  probe.close();
  await loops.listen().catch(cannotListen);
  ready(options.host, port);
  heartbeat("loop", 5, () => loops.counts());
}

/** The thread: an event loop, with a task for each client. */
async function loop(): Promise<void> {
  // create, bind, listen
  const server = await listenAsLoop(() => bindReusePort({ host: options.host, port: workerData.port }));
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

// Each thread runs this same file.
if (isMainThread) await main();
else await loop();
