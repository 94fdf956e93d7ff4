// SPDX-License-Identifier: MIT
/**
 * A pool of threads: three of them, made once, serve one client each, and then the next.
 *
 * The same blocking code as in threads.ts, but nobody pays for a thread while a client waits, and there are never
 * more threads than the machine bears. Exactly three clients are served at once: the main thread, which accepts, is
 * not one of the three. The fourth client waits, which the log shows, and gets the first thread that is free.
 *
 * The limit: a client that is silent still has a thread to itself, so three silent clients stop the service
 * (`--messages` and `--idle` are what ends that). tasks.ts and multiplex.ts hold thousands of them.
 *
 * Where the truth lies: the threads and their blocking are real, but in JavaScript a socket can't leave the thread
 * that accepted it. thread.ts tells how the main thread passes on the bytes; blocking.ts does without that.
 *
 *   deno run -A scripts/pool.ts      or: bun scripts/pool.ts      or: node scripts/pool.ts
 *   nc 127.0.0.1 9999                in four terminals: the fourth gets its answer when one of the others is done
 */

import { isMainThread } from "node:worker_threads";
import { burn, closeSilent, explain, fail, log, onStop, parseOptions, ready } from "./program.ts";
import { serverOptions, sharedOptions } from "./program.ts";
import { type Connection, listen, READ } from "./readiness.ts";
import { type BlockingConnection, CurrentThread, type Thread, Threads } from "./thread.ts";

const options = sharedOptions(() =>
  parseOptions(
    "A pool of threads, made once: as many clients are served at once, and the next one waits.",
    "nc 127.0.0.1 9999, in four terminals at once",
    {
      ...serverOptions,
      messages: [3, "exchanges per connection; 0 = until the client leaves"],
      work: [0, "milliseconds of CPU burnt per message"],
      workers: [3, "threads in the pool", 1, 1000],
    },
  )
);

/** The main thread: accepts, and hands each client to a thread that is free. */
async function main(): Promise<void> {
  const open = new Set<Connection>();
  const threads = new Threads(import.meta.url, options);
  const free: Thread[] = [];
  let onFree = () => {};
  let started = 0;

  /** A new thread, for the pool or for one that has died. */
  async function start(): Promise<Thread> {
    const thread = await threads.start(`w-${++started}`);
    put(thread);
    return thread;
  }

  function put(thread: Thread): void {
    free.push(thread);
    onFree();
  }

  function replace(): void {
    // It may be that there is no room for it yet.
    start().then(({ name }) => log("start", 0, name), (error) => {
      log("error", 0, "a thread could not be replaced:", explain(error));
      setTimeout(replace, 1000);
    });
  }

  // Before anybody can connect, and with their descriptors secured.
  for (let i = 0; i < options.workers; i++) {
    await start().catch((error) => fail(`cannot start thread ${started} of ${options.workers}`, error));
  }

  // create, bind, listen
  const server = await listen(options)
    .catch((error) => fail(`cannot listen on ${options.host}:${options.port}`, error));
  onStop(() => {
    server.close();
    for (const connection of open) connection.close();
  });
  ready(options.host, server.port);
  closeSilent(open, options.idle);
  for (const { name } of free) log("start", 0, name);

  for (;;) {
    // Waits for a client, but doesn't accept it: that comes when there is a thread for it. (Bun and Node accept of
    // their own accord, and Deno's shim accepts the first in line, so that part of the backlog is not the kernel's.)
    while (!server.ready(READ)) await new Promise<void>((resolve) => server.onReadable = resolve);
    const since = performance.now();
    const mustWait = free.length === 0;
    if (mustWait) log("wait", 0, `a client waits until one of ${options.workers} threads is free`);
    while (free.length === 0) await new Promise<void>((resolve) => onFree = resolve);
    const connection = server.acceptNow()!;
    const waited = mustWait ? [`first in line for ${(performance.now() - since).toFixed(1)} ms`] : [];
    log("accept", connection.id, connection.peer, ...waited);

    const thread = free.shift()!;
    // Not awaited: the thread runs, and this loop goes back to waiting.
    thread.serve(connection, open).then(() => put(thread), (error) => {
      log("error", connection.id, `thread ${thread.name} has died:`, explain(error));
      replace();
    });
  }
}

/** The thread's work. Straight-line code: every call returns when it is done, however long that takes. */
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

/** A thread of the pool: blocks until there is a client, serves it, and again. */
function work(): never {
  const thread = new CurrentThread();
  for (;;) serve(thread.accept());
}

// Each thread runs this same file.
if (isMainThread) await main();
else work();
