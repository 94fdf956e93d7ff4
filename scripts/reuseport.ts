// SPDX-License-Identifier: MIT
/**
 * An event loop per core: each has its own listening socket on the same port, and the kernel spreads the clients.
 *
 * The handler is that of tasks.ts, and so is each loop. What is new is SO_REUSEPORT (socket(7)): several sockets may
 * be bound to one port, and each new connection goes to one of them, chosen by a hash of its addresses. Nobody hands
 * connections around, and no loop knows of the others; the counts show how evenly they are spread.
 *
 * The limit: a client stays with the loop it was given to, even if that is busy (try `--work 200`) and others are
 * not; where pool.ts gives a client to the thread that is free. And it needs Linux: macOS has the option but sends
 * all connections to one socket, and Windows does not have it.
 *
 * Where the truth lies: the sockets, the option and the spreading are the kernel's; the loops are the runtime's.
 *
 *   deno run -A scripts/reuseport.ts      or: bun scripts/reuseport.ts      or: node scripts/reuseport.ts
 *   nc 127.0.0.1 9999                     in several terminals: the log shows which loop has got each client
 */

import { availableParallelism } from "node:os";
import process from "node:process";
import { URL } from "node:url";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { burn, closeSilent, explain, fail, joinThreads, log, onStop, parseOptions, ready } from "./program.ts";
import { serverOptions, sharedOptions, type ThreadSettings, threadSettings } from "./program.ts";
import { type Connection, listen, listenReusePort, outOfDescriptors } from "./shim.ts";

const options = sharedOptions(() =>
  parseOptions(
    "An event loop per core, each with its own listening socket on the same port (SO_REUSEPORT).",
    "nc 127.0.0.1 9999, in several terminals at once",
    {
      ...serverOptions,
      messages: [0, "exchanges per connection; 0 = until the client leaves"],
      work: [0, "milliseconds of CPU burnt per message"],
      workers: [availableParallelism(), "event loops, each in a thread", 1, 1000],
    },
  )
);

/** What a loop counts, in memory that the main thread sees too: these are the indices. */
const ACCEPTED = 0, OPEN = 1, MESSAGES = 2;

/** What a loop is told when it starts. */
interface LoopData extends ThreadSettings {
  port: number;
  counts: Int32Array;
}

/** The main thread: starts the loops and prints their counts. It has no socket. */
async function main(): Promise<void> {
  if (process.platform !== "linux") fail("SO_REUSEPORT", `it spreads connections on Linux, not on ${process.platform}`);
  const loops = new Map<string, Int32Array>();
  let { port } = options;
  let started = 0;

  /** Starts a loop, and returns when it listens. Then `serve` lets it accept. */
  async function start(): Promise<{ serve(): void }> {
    const name = `loop-${++started}`;
    // Also for what the thread itself needs: Deno ends the process if it can't have it.
    const error = outOfDescriptors(16);
    if (error) throw error;
    const counts = new Int32Array(new SharedArrayBuffer(12));
    const data: LoopData = { ...threadSettings(name, options), port, counts };
    const worker = new Worker(new URL(import.meta.url), { name, workerData: data });
    let failure: unknown;
    worker.on("error", (error: unknown) => failure = error);
    return await new Promise((resolve, reject) => {
      worker.on("message", (bound: number) => {
        // If the system chose the first one's port, the others get that too.
        port = bound;
        loops.set(name, counts);
        resolve({ serve: () => worker.postMessage("serve") });
      });
      worker.on("exit", (code: number) => {
        failure ??= new Error(`it ended with exit code ${code}`);
        if (!loops.delete(name)) return reject(failure);
        log("error", 0, `${name} has died:`, explain(failure));
        replace();
      });
    });
  }

  /** Another loop in the place of one that has died. It may be that there is no room for it yet. */
  function replace(): void {
    start().then(({ serve }) => serve(), (error) => {
      log("error", 0, `loop-${started}:`, explain(error));
      setTimeout(replace, 1000);
    });
  }

  function printCounts(): void {
    for (const [name, counts] of loops) {
      log("loop", 0, name, `accepted ${counts[ACCEPTED]}, open ${counts[OPEN]}, messages ${counts[MESSAGES]}`);
    }
  }

  const cannotListen = (error: unknown) => fail(`cannot listen on ${options.host}:${options.port}`, error);
  // Another process could share the port with this one: a socket without the option makes sure that none does.
  (await listen(options).catch(cannotListen)).close();
  const servers = [];
  for (let i = 0; i < options.workers; i++) servers.push(await start().catch(cannotListen));
  onStop(printCounts);
  ready(options.host, port);
  for (const { serve } of servers) serve();
  setInterval(printCounts, 5000);
}

/** The thread: an event loop like that of tasks.ts. */
async function loop(): Promise<void> {
  const data = workerData as LoopData;
  const { counts } = data;
  joinThreads(data);
  const open = new Set<Connection>();
  closeSilent(open, options.idle);

  // create, bind, listen
  const server = await listenReusePort({ host: options.host, port: data.port });
  parentPort!.postMessage(server.port);
  await new Promise((resolve) => parentPort!.once("message", resolve));

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
    counts[ACCEPTED]++;
    counts[OPEN] = open.size;
    try {
      for (let count = 0; options.messages === 0 || count < options.messages; count++) {
        const data = await connection.recv();
        if (data.length === 0) break;
        connection.silence = 0;
        log("recv", id, data);
        burn(options.work);
        await connection.send(data);
        log("send", id, data.length);
        counts[MESSAGES]++;
      }
    } catch (error) {
      log("error", id, explain(error));
    }
    open.delete(connection);
    counts[OPEN] = open.size;
    connection.close();
    log("close", id);
  }
}

// Each thread runs this same file.
if (isMainThread) await main();
else await loop();
