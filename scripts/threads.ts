// SPDX-License-Identifier: MIT
/**
 * A thread per connection: every client has its own thread, and that blocks in `recv` until its client speaks.
 *
 * The oldest way to serve several clients at once, and the easiest to read: no callback, no `await`, one line after
 * the other. The system runs the threads on all cores, so one that computes (try `--work 200`) holds up no other.
 *
 * The limit: a thread is dear. The log shows what each one costs, in milliseconds until it runs and in memory, and
 * beyond `--max-threads` clients have to wait. pool.ts makes its threads once; tasks.ts does without them.
 *
 * Where the truth lies: the threads and their blocking are real, but in JavaScript a socket can't leave the thread
 * that accepted it. thread.ts tells how the main thread passes on the bytes; blocking.ts does without that.
 *
 *   deno run -A scripts/threads.ts      or: bun scripts/threads.ts      or: node scripts/threads.ts
 *   nc 127.0.0.1 9999                   in several terminals: r-1, r-2, ...
 */

import { isMainThread } from "node:worker_threads";
import { burn, closeSilent, explain, fail, log, onStop, parseOptions, ready } from "./program.ts";
import { serverOptions, sharedOptions } from "./program.ts";
import { type Connection, listen, READ } from "./readiness.ts";
import { type BlockingConnection, CurrentThread, residentMemory, Threads } from "./thread.ts";

const options = sharedOptions(() =>
  parseOptions(
    "A thread per connection: each client has a thread of its own, which blocks in recv.",
    "nc 127.0.0.1 9999, in several terminals at once",
    {
      ...serverOptions,
      messages: [3, "exchanges per connection; 0 = until the client leaves"],
      work: [0, "milliseconds of CPU burnt per message"],
      "max-threads": [64, "threads at a time; further clients wait", 1],
    },
  )
);

/** The main thread: accepts, and starts a thread for each client. */
async function main(): Promise<void> {
  const open = new Set<Connection>();
  const threads = new Threads(import.meta.url, options);

  // create, bind, listen
  const server = await listen(options)
    .catch((error) => fail(`cannot listen on ${options.host}:${options.port}`, error));
  onStop(() => {
    server.close();
    for (const connection of open) connection.close();
  });
  ready(options.host, server.port);
  closeSilent(open, options.idle);
  setInterval(() => log("threads", 0, threads.size, ...threads.names), 3000);

  /** No further thread now. Without any, waiting would not help. */
  const full = () => threads.size >= options["max-threads"] || threads.size > 0 && threads.outOfDescriptors();

  for (;;) {
    // Waits for a client, but doesn't accept it: that comes when there can be a thread for it. (Bun and Node accept
    // of their own accord, and Deno's shim accepts the first in line, so that part of the backlog is not the kernel's.)
    while (!server.ready(READ)) await new Promise<void>((resolve) => server.onReadable = resolve);
    const since = performance.now();
    const mustWait = full();
    if (mustWait) log("wait", 0, `a client waits until one of ${threads.size} threads ends`);
    while (full()) await threads.oneEnds();
    const connection = server.acceptNow()!;
    const waited = mustWait ? [`first in line for ${(performance.now() - since).toFixed(1)} ms`] : [];
    log("accept", connection.id, connection.peer, ...waited);

    const memory = residentMemory(), start = performance.now();
    try {
      const thread = await threads.start(`r-${connection.id}`);
      const milliseconds = (performance.now() - start).toFixed(1);
      const megabytes = ((residentMemory() - memory) / 1e6).toFixed(1);
      log("start", connection.id, thread.name, `in ${milliseconds} ms, process ${megabytes} MB larger`);
      // Not awaited: the thread runs, and this loop goes back to waiting.
      thread.serve(connection, open).catch((error) => died(connection, error));
    } catch (error) {
      died(connection, error);
      connection.close();
    }
  }
}

/** A thread that fails, or can't be started, costs its own connection and no other. */
function died({ id }: Connection, error: unknown): void {
  log("error", id, `thread r-${id}:`, explain(error));
}

/** The thread. Straight-line code: every call returns when it is done, however long that takes. */
function serve(connection: BlockingConnection): void {
  const { id } = connection;
  try {
    for (let count = 0; options.messages === 0 || count < options.messages; count++) {
      const data = connection.recv();
      if (data.length === 0) {
        log("bye", id);
        break;
      }
      log("recv", id, data);
      burn(options.work);
      connection.send(data);
      log("send", id, data.length);
    }
  } catch (error) {
    log("error", id, explain(error));
  }
  connection.close();
  log("close", id);
}

// Each thread runs this same file, and serves one client.
if (isMainThread) await main();
else serve(new CurrentThread().accept());
