// SPDX-License-Identifier: MIT
/**
 * A pool of threads: three of them, made once, serve one client each, and then the next.
 *
 * The same blocking code as in threads.ts, but no client pays for the start of a thread, and there are never more
 * threads than the machine bears. Exactly three clients are served at once: the main thread, which accepts, is not
 * one of the three. The fourth client waits in line, which the log shows, and gets the first thread that is free.
 *
 * The limit: a client that is silent still has a thread to itself, so three silent clients stop the service
 * (`--messages` and `--idle` are what ends that). tasks.ts and multiplex.ts hold thousands of them.
 *
 * What is real: the threads and their blocking. But in JavaScript a socket can't leave the thread that accepted it:
 * shim/thread.ts tells how the main thread passes on the bytes. blocking.ts does without that.
 *
 *   deno run -A scripts/pool.ts      or: bun scripts/pool.ts      or: node scripts/pool.ts
 *   nc 127.0.0.1 9999                in four terminals: the fourth gets its answer when one of the others is done
 *
 * To copy it into an article: deno run -A scripts/standalone.ts pool
 */

import { isMainThread } from "node:worker_threads";
import { burn, cannotListen, fail, heartbeat, list, log, messages, parseOptions, ready } from "./shim/program.ts";
import { serverOptions, work } from "./shim/program.ts";
import { listen } from "./shim/shim.ts";
import { type BlockingConnection, CurrentThread, Line, type Thread, Threads } from "./shim/thread.ts";

const options = parseOptions(
  "A pool of threads, made once: as many clients are served at once, and the next one waits.",
  "nc 127.0.0.1 9999, in four terminals at once",
  {
    ...serverOptions,
    messages: [3, messages.messages[1]],
    ...work,
    workers: [3, "threads in the pool", 1, 1000],
  },
);

/** The main thread: accepts, and hands each client to a thread that is free. */
async function main(): Promise<void> {
  const threads = new Threads(import.meta.url);
  const free: Thread[] = [];
  const line = new Line();
  let started = 0;

  // The threads come first: no client waits for their start, and their descriptors are secured.
  for (let i = 0; i < options.workers; i++) {
    await start().catch((error) => fail(`cannot start thread ${started} of ${options.workers}`, error));
  }

  // create, bind, listen
  const server = await listen(options).catch(cannotListen);
  ready(options.host, server.port);
  heartbeat("threads", 3, () => [list(threads.doing())]);

  for (;;) {
    const connection = await server.accept();
    log("accept", connection.id, connection.peer);
    await line.join(connection, free.length === 0 ? "no thread is free" : "");
    handOver();
  }

  /** A new thread, for the pool or for one that has died. */
  async function start(): Promise<void> {
    free.push(await threads.start(`w-${++started}`));
  }

  /** The first client in line gets a thread, as long as there are both. */
  function handOver(): void {
    while (line.length > 0 && free.length > 0) {
      const { connection, waited } = line.leave(), thread = free.shift()!;
      log("serve", connection.id, thread.name, ...waited);
      // Not awaited: the thread runs by itself.
      thread.serve(connection).then(() => {
        free.push(thread);
        handOver();
      }, (error) => {
        log("error", connection.id, `thread ${thread.name} has died:`, error);
        log("close", connection.id, "its thread died");
        replace();
      });
    }
  }

  function replace(): void {
    // It may be that there is no room for it yet.
    start().then(handOver, (error) => {
      log("error", 0, "a thread could not be replaced:", error);
      setTimeout(replace, 1000);
    });
  }
}

/** The thread's work. Straight-line code: every call returns when it is done, however long that takes. */
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

/** A thread of the pool: blocks until there is a client, serves it, and again. */
function serveAll(): never {
  const thread = new CurrentThread();
  for (;;) serve(thread.accept());
}

// Each thread runs this same file.
if (isMainThread) await main();
else serveAll();
