// SPDX-License-Identifier: MIT
/**
 * A thread per connection: every client has its own thread, which blocks in `recv` until the client sends something.
 *
 * No other server for several clients is as easy to read: no callback, no `await`, one line after the other. The system
 * runs the threads on all cores, so one that computes (try `--work 2000`) holds up no other.
 *
 * The limit: a thread is expensive. The log shows what each one costs, in milliseconds until it runs and in memory,
 * and beyond `--max-threads` clients have to wait. pool.ts creates its threads once; tasks.ts needs none.
 *
 * What is real: the threads and their blocking. But in JavaScript a socket can't leave the thread that accepted it, so
 * the main thread passes on the bytes: see shim/thread.ts. In blocking.ts, threads make the system calls themselves.
 *
 *   deno run -A scripts/threads.ts      or: bun scripts/threads.ts      or: node scripts/threads.ts
 *   nc 127.0.0.1 9999                   in several terminals: r-1, r-2, ...
 */

import { isMainThread } from "node:worker_threads";
import { burn, explain, heartbeat, log, logInLine, onStop, parseOptions, serverOptions } from "./shim/program.ts";
import { threeMessages, waited, work } from "./shim/program.ts";
import { type Connection, listen } from "./shim/shim.ts";
import { accept, type BlockingConnection, doing, startThread, threadCount, whyNoThread } from "./shim/thread.ts";

const options = parseOptions(
  "A thread per connection: each client has a thread of its own, which blocks in recv.",
  "nc 127.0.0.1 9999, in several terminals at once",
  { ...serverOptions, ...threeMessages, ...work, "max-threads": [64, "threads at a time; further clients wait", 1] },
);

/** Clients without a thread: first come, first served. */
const line: Connection[] = [], most = options["max-threads"];
let starting = false;

/** The main thread: accepts, and starts a thread for each client. */
async function main(): Promise<void> {
  // create, bind, listen
  const server = await listen(options);
  heartbeat("threads", 3, doing);
  // Who stands in line gets no thread any more.
  onStop(() => line.splice(0));

  for (;;) {
    const connection = await server.accept();
    // Those in line before will have a thread each.
    const why = whyNoThread(most, line.length);
    logInLine("wait", connection.id, why, line.push(connection), connection);
    // Not awaited: threads are started, and this loop goes back to accept.
    startThreads();
  }
}

/** A thread for each client in line, one after the other, as far as there can be more. */
async function startThreads(): Promise<void> {
  if (starting) return;
  starting = true;
  while (line.length > 0 && !whyNoThread(most)) {
    const connection = line.shift()!;
    try {
      const thread = await startThread(import.meta.url, `r-${connection.id}`);
      log("start", connection.id, [thread.cost, ...waited(connection, line.length)].join(", "));
      // Not awaited: the thread runs by itself.
      thread.serve(connection);
      thread.ended.then(startThreads);
    } catch (error) {
      const why = `no thread to be had: ${explain(error)}`;
      // When one of those that run ends, there may be room. If none runs, closing this one makes some.
      if (threadCount() === 0) connection.close(why);
      else {
        logInLine("wait", connection.id, why, line.unshift(connection), connection);
        break;
      }
    }
  }
  starting = false;
}

/** The thread. Straight-line code: every call returns when it is done, however long that takes. */
function serve(connection: BlockingConnection): void {
  for (;;) {
    const data = connection.recv();
    if (data.length === 0) break;
    burn(connection.id, options.work, data);
    connection.send(data);
  }
  connection.close();
}

// Each thread runs this same file, and serves one client.
if (isMainThread) await main();
else serve(accept());
