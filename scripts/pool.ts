// SPDX-License-Identifier: MIT
/**
 * A pool of threads: three threads, created once, serve one client each, and then the next.
 *
 * The same blocking code as in threads.ts, but no client waits for a thread to start, and the number of threads is
 * fixed. Exactly three clients are served at once: the main thread, which accepts, is not one of the three. The fourth
 * client waits in line, which the log shows, and gets the first thread that is free.
 *
 * The limit: a silent client still has a thread to itself, so three silent clients stop the service, until `--idle`
 * ends their connections. tasks.ts and multiplex.ts hold thousands of them.
 *
 * What is real: the threads and their blocking. But in JavaScript a socket can't leave the thread that accepted it, so
 * the main thread passes on the bytes: see shim/thread.ts. In blocking.ts, threads make the system calls themselves.
 *
 *   deno run -A scripts/pool.ts      or: bun scripts/pool.ts      or: node scripts/pool.ts
 *   nc 127.0.0.1 9999                in four terminals: the fourth gets its answer when one of the others is done
 */

import { isMainThread } from "node:worker_threads";
import {
  burn,
  fail,
  heartbeat,
  log,
  logInLine,
  onStop,
  parseOptions,
  serverOptions,
  threeMessages,
} from "./shim/program.ts";
import { waited, work } from "./shim/program.ts";
import { type Connection, listen } from "./shim/shim.ts";
import { accept, type BlockingConnection, doing, keepThread, type Thread } from "./shim/thread.ts";

const options = parseOptions(
  "A pool of threads, made once: as many clients are served at once, and the next one waits.",
  "nc 127.0.0.1 9999, in four terminals at once",
  { ...serverOptions, ...threeMessages, ...work, workers: [3, "threads in the pool", 1, 1000] },
);

/** Threads without a client, and clients without a thread: first come, first served. */
const free: Thread[] = [], line: Connection[] = [];
let started = 0;

/** The main thread: accepts, and hands each client to a thread that is free. */
async function main(): Promise<void> {
  // The threads come first: no client waits for their start, and their descriptors are secured.
  while (started < options.workers) {
    await keepThread(import.meta.url, () => `w-${++started}`, joinPool)
      .catch((error) => fail(`cannot start thread ${started} of ${options.workers}`, error));
  }
  // create, bind, listen
  const server = await listen(options);
  heartbeat("threads", 3, doing);
  // Who stands in line gets no thread any more.
  onStop(() => line.splice(0));

  for (;;) {
    const connection = await server.accept();
    const why = free.length > 0 ? "" : "no thread is free";
    logInLine("wait", connection.id, why, line.push(connection), connection);
    handOver();
  }
}

/** A thread is free. */
function joinPool(thread: Thread): void {
  free.push(thread);
  handOver();
}

/** The first client in line gets a thread, as long as there are both. */
function handOver(): void {
  while (line.length > 0 && free.length > 0) {
    const connection = line.shift()!, thread = free.shift()!;
    log("serve", connection.id, thread.name, ...waited(connection, line.length));
    // Not awaited: the thread runs by itself.
    thread.serve(connection).then(() => joinPool(thread));
  }
}

/** The thread's work. Straight-line code: every call returns when it is done, however long that takes. */
function serve(connection: BlockingConnection): void {
  for (;;) {
    const data = connection.recv();
    if (data.length === 0) break;
    burn(connection.id, options.work, data);
    connection.send(data);
  }
  connection.close();
}

// Each thread runs this same file: it blocks until there is a client, serves it, and again.
if (isMainThread) await main();
else for (;;) serve(accept());
