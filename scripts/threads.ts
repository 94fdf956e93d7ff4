// SPDX-License-Identifier: MIT
/**
 * A thread per connection: every client has its own thread, and that blocks in `recv` until its client speaks.
 *
 * The way to serve several clients at once that is easiest to read: no callback, no `await`, one line after the other.
 * The system runs the threads on all cores, so one that computes (try `--work 2000`) holds up no other.
 *
 * The limit: a thread is expensive. The log shows what each one costs, in milliseconds until it runs and in memory,
 * and beyond `--max-threads` clients have to wait. pool.ts makes its threads once; tasks.ts does without them.
 *
 * What is real: the threads and their blocking. But in JavaScript a socket can't leave the thread that accepted it:
 * shim/thread.ts tells how the main thread passes on the bytes. blocking.ts does without that.
 *
 *   deno run -A scripts/threads.ts      or: bun scripts/threads.ts      or: node scripts/threads.ts
 *   nc 127.0.0.1 9999                   in several terminals: r-1, r-2, ...
 *
 * To copy it into an article: deno run -A scripts/standalone.ts threads
 */

import { isMainThread } from "node:worker_threads";
import { burn, cannotListen, explain, heartbeat, list, log, messages, parseOptions, process } from "./shim/program.ts";
import { ready, serverOptions, work } from "./shim/program.ts";
import { listen } from "./shim/shim.ts";
import { type BlockingConnection, CurrentThread, Line, Threads } from "./shim/thread.ts";
import { outOfThreads } from "./shim/worker.ts";

const options = parseOptions(
  "A thread per connection: each client has a thread of its own, which blocks in recv.",
  "nc 127.0.0.1 9999, in several terminals at once",
  {
    ...serverOptions,
    messages: [3, messages.messages[1]],
    ...work,
    "max-threads": [64, "threads at a time; further clients wait", 1],
  },
);

/** The main thread: accepts, and starts a thread for each client. */
async function main(): Promise<void> {
  const threads = new Threads(import.meta.url), most = options["max-threads"];
  const line = new Line();
  let starting = false;

  // create, bind, listen
  const server = await listen(options).catch(cannotListen);
  ready(options.host, server.port);
  heartbeat("threads", 3, () => [list(threads.doing())]);

  for (;;) {
    const connection = await server.accept();
    log("accept", connection.id, connection.peer);
    // Those in line before will have a thread each.
    await line.join(connection, noneLeft(line.length));
    // Not awaited: threads are started, and this loop goes back to accept.
    startThreads();
  }

  /** Why there can't be another thread beside those that run and `more`. Without any, waiting would not help. */
  function noneLeft(more = 0): string {
    if (threads.size + more >= most) return `${most} threads are the most`;
    return threads.size > 0 && outOfThreads() ? "no descriptors are left for another thread" : "";
  }

  /** A thread for each client in line, one after the other, as far as there can be more. */
  async function startThreads(): Promise<void> {
    if (starting) return;
    starting = true;
    while (line.length > 0 && !noneLeft()) {
      const { connection, since, waited } = line.leave(), { id } = connection;
      const memory = residentMemory(), start = performance.now();
      try {
        const thread = await threads.start(`r-${id}`);
        const milliseconds = (performance.now() - start).toFixed(1);
        const megabytes = ((residentMemory() - memory) / 1e6).toFixed(1);
        log(
          "start",
          id,
          [`${thread.name} in ${milliseconds} ms`, `process ${megabytes} MB larger`, ...waited].join(", "),
        );
        // Not awaited: the thread runs by itself.
        thread.serve(connection).catch((error) => died(id, error));
        thread.ended.then(startThreads);
      } catch (error) {
        if (threads.size > 0) {
          // When one of those that run ends, there may be room.
          line.putBack(connection, since, `no thread to be had: ${explain(error)}`);
          break;
        }
        connection.close();
        died(id, error);
      }
    }
    starting = false;
  }
}

/** The memory of this process that is in RAM, in bytes; NaN if there is no descriptor left to ask with. */
function residentMemory(): number {
  try {
    return process.memoryUsage().rss;
  } catch {
    return NaN;
  }
}

/** A thread that fails, or can't be started, costs its own connection and no other. */
function died(id: number, error: unknown): void {
  log("error", id, `thread r-${id}:`, error);
  log("close", id, "its thread died");
}

/** The thread. Straight-line code: every call returns when it is done, however long that takes. */
function serve(connection: BlockingConnection): void {
  const { id } = connection;
  let reason: unknown = `after ${options.messages} messages`;
  try {
    for (let count = 0; count < options.messages; count++) {
      const data = connection.recv();
      if (data.length === 0) {
        reason = "by the client";
        break;
      }
      log("recv", id, data.length, data);
      burn(id, options.work, data);
      connection.send(data);
      log("send", id, data.length);
    }
  } catch (error) {
    reason = error;
  }
  connection.close();
  log("close", id, reason);
}

// Each thread runs this same file, and serves one client.
if (isMainThread) await main();
else serve(new CurrentThread().accept());
