// SPDX-License-Identifier: MIT
/**
 * An event loop per core: each has its own listening socket on the same port, and the kernel spreads the clients.
 *
 * The handler is that of tasks.ts, and so is each loop. What is new is SO_REUSEPORT (socket(7)): several sockets may
 * be bound to one port, and each new connection goes to one of them, chosen by a hash of its addresses. No thread hands
 * connections around, and no loop knows of the others; the counts show how evenly they are spread.
 *
 * The limit: a client stays with the loop it was given to, even if that is busy (try `--work 2000`) and others are
 * not; where pool.ts gives a client to the thread that is free. And it needs Linux: macOS has the option but sends
 * all connections to one socket, and Windows does not have it.
 *
 * What is real: the sockets, the option and the spreading are the kernel's; the loops are the runtime's.
 *
 *   deno run -A scripts/reuseport.ts      or: bun scripts/reuseport.ts      or: node scripts/reuseport.ts
 *   nc 127.0.0.1 9999                     in several terminals: the log shows which loop has got each client
 *
 * To copy it into an article: deno run -A scripts/standalone.ts reuseport
 */

import { availableParallelism } from "node:os";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { burn, cannotListen, closeAll, fail, heartbeat, log, messages, onStop, parseOptions } from "./shim/program.ts";
import { process, ready, serverOptions, type ThreadSettings, threadSettings, work } from "./shim/program.ts";
import { type Connection, listen, listenReusePort } from "./shim/shim.ts";
import { keepWorker } from "./shim/worker.ts";

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
  const loops = new Map<Worker, LoopData>();
  let { port } = options;
  let started = 0, serving = false;

  // Another process could share the port with this one: a socket without the option makes sure that none does.
  const probe = await listen(options).catch(cannotListen);
  probe.close();
  for (let i = 0; i < options.workers; i++) {
    await start().catch((error) => fail(`cannot start loop-${started}`, error));
  }
  ready(options.host, port);
  serving = true;
  for (const worker of loops.keys()) worker.postMessage("serve");
  heartbeat("loop", 5, describe);
  onStop(async () => {
    for (const worker of loops.keys()) worker.postMessage("stop");
    for (let i = 0; i < 30 && loops.size > 0; i++) await new Promise((resolve) => setTimeout(resolve, 20));
  });

  /** Starts a loop, and returns when it listens. It accepts when it is told to serve. */
  function start(): Promise<void> {
    const settings = (): LoopData => {
      return { ...threadSettings(`loop-${++started}`), port, counts: new Int32Array(new SharedArrayBuffer(12)) };
    };
    return keepWorker(import.meta.url, settings, (worker, data, bound) => {
      // If the system chose the first one's port, the others get that too.
      port = bound as number;
      loops.set(worker, data);
      if (serving) worker.postMessage("serve");
      worker.on("message", () => loops.delete(worker));
      return () => loops.delete(worker);
    });
  }

  function describe(): string[] {
    return [...loops.values()].map(({ name, counts }) =>
      `${name} accepted ${counts[ACCEPTED]}, open ${counts[OPEN]}, messages ${counts[MESSAGES]}`
    );
  }
}

/** The thread: an event loop, with a task for each client. */
async function loop(): Promise<void> {
  const { port, counts } = workerData as LoopData;

  // create, bind, listen
  const server = await listenReusePort({ host: options.host, port });
  parentPort!.postMessage(server.port);
  await new Promise((resolve) => parentPort!.once("message", resolve));
  parentPort!.once("message", () => closeAll().then(() => parentPort!.postMessage("stopped")));

  for (;;) {
    const connection = await server.accept();
    // Not awaited: this starts the task, and the loop goes back to accept.
    serve(connection, counts);
  }
}

/** The task, which never throws: an error ends this connection and no other. */
async function serve(connection: Connection, counts: Int32Array): Promise<void> {
  const { id } = connection;
  log("accept", id, connection.peer);
  counts[ACCEPTED]++;
  counts[OPEN]++;
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
      const sending = connection.send(data);
      log("send", id, data.length);
      await sending;
      counts[MESSAGES]++;
    }
  } catch (error) {
    reason = error;
  }
  counts[OPEN]--;
  connection.close();
  log("close", id, reason);
}

// Each thread runs this same file.
if (isMainThread) await main();
else await loop();
