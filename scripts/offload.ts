// SPDX-License-Identifier: MIT
/**
 * An event loop for the clients, and a few threads for the computing: the loop hands each message to one of them.
 *
 * What most services do (the books call it half-sync/half-async). All sockets stay with one loop, as in tasks.ts, but
 * what takes CPU goes to a worker, and the reply comes back when that is done. So the loop is always free: while the
 * workers compute (try `--work 2000`), clients connect and are read from, and a message that begins with `light` is
 * answered by the loop itself, at once. Messages of one client may be computed in parallel; replies stay in order.
 *
 * Backpressure: `--queue` messages may wait for a worker. When the queue is full, the server stops reading from a
 * client whose message doesn't fit, until there is room. It also stops reading from a client that doesn't read its
 * replies. What they send meanwhile waits in the kernel's buffers, and when these are full, at the client.
 *
 * The limit: each message goes to another thread and back, which takes longer than echoing it. Without `--work` nothing
 * is computed, and the detour is all that is left. Where all messages are heavy, pool.ts is as good; where none is,
 * tasks.ts and multiplex.ts are better.
 *
 * What is real: the threads, and that they compute at the same time. How a message gets to them is the runtime's part
 * (`postMessage`), and so is the loop.
 *
 *   deno run -A scripts/offload.ts --work 2000   or: bun scripts/offload.ts ...   or: node scripts/offload.ts ...
 *   nc 127.0.0.1 9999                            in several terminals: say hello in some, light in another
 */

import { availableParallelism } from "node:os";
import { isMainThread } from "node:worker_threads";
import { type Bytes, computeForOthers, type Computer, startComputers } from "./shim/computer.ts";
import { burn, heartbeat, isLight, list, log, logInLine, messages, onStop, parseOptions } from "./shim/program.ts";
import { serverOptions, waited, work } from "./shim/program.ts";
import { type Connection, listen } from "./shim/shim.ts";

const options = parseOptions(
  "An event loop for the clients, and threads that compute for it; what begins with `light` the loop answers itself.",
  "nc 127.0.0.1 9999, in several terminals at once: with --work 2000 say hello in some of them, and light in another",
  {
    ...serverOptions,
    ...messages,
    ...work,
    workers: [availableParallelism(), "threads that compute", 1, 1000],
    queue: [16, "messages that may wait for a thread; a client with one more is not read from", 1, 1_000_000],
  },
);

/** A message on its way to a worker and back. */
interface Job {
  readonly connection: Connection;
  readonly data: Bytes;
  /** Resolves when it has room in the queue. */
  readonly room: PromiseWithResolvers<void>;
  /** Resolves when a worker has computed the reply: to `null` if there is none, or no one waits for it any more. */
  readonly reply: PromiseWithResolvers<Bytes | null>;
}

/** The threads, and the jobs that wait for one: first those that have room in the queue, then at most one per client. */
let computers = new Set<Computer>();
const queue: Job[] = [];
const running = new Set<Job>(), jobs = (which: (job: Job) => boolean) => [...queue, ...running].filter(which);

/** The main thread: the loop. It never computes. */
async function main(): Promise<void> {
  computers = await startComputers(import.meta.url, options.workers, handOut);
  // create, bind, listen
  const server = await listen(options);
  heartbeat("workers", 3, () => [`${list([...computers].map(({ doing }) => doing))}; ${queue.length} in line`]);
  onStop(() => drop(() => true));
  // Not awaited: each call starts a task, and the loop goes back to accept.
  for (;;) serve(await server.accept());
}

/** The task: it receives messages, and has replies sent in their order. */
async function serve(connection: Connection): Promise<void> {
  const replies = [Promise.resolve()], isIts = (job: Job) => job.connection === connection;
  // A client is not silent while it waits for a reply.
  connection.excused = () => jobs(isIts).length > 0;
  for (;;) {
    const data = await connection.recv();
    if (data.length === 0) break;
    // A copy: this one is valid until the next recv only.
    const { room, reply } = compute(connection, new Uint8Array(data));
    replies.push(send(connection, reply.promise, replies.at(-1)!));
    await room.promise;
    // It would be no use to have more of them on their way than there are threads.
    if (replies.length > options.workers) await replies.shift();
  }
  if (connection.isBroken) drop(isIts);
  await replies.at(-1);
  connection.close();
}

/** Sends a reply once it is there, and the one before is sent. */
async function send(connection: Connection, reply: Promise<Bytes | null>, before: Promise<void>): Promise<void> {
  const [data] = await Promise.all([reply, before]);
  if (data) await connection.send(data);
}

/** Has a message computed by a worker, unless it is light: then the reply is there at once. */
function compute(connection: Connection, data: Bytes): Job {
  const job: Job = { connection, data, room: Promise.withResolvers(), reply: Promise.withResolvers() };
  if (isLight(data)) {
    job.room.resolve();
    job.reply.resolve(data);
    return job;
  }
  const why = [...computers].some(({ isFree }) => isFree) ? "" : "no worker is free";
  const full = queue.length >= options.queue ? `; not read from while more than ${options.queue} are` : "";
  logInLine("queue", connection.id, why, queue.push(job), job, full);
  handOut();
  return job;
}

/** The first job in line gets a worker, as long as there are both. Then others have room in the queue. */
function handOut(): void {
  for (const computer of computers) {
    if (!computer.isFree || queue.length === 0) continue;
    const job = queue.shift()!, { connection, data, room, reply } = job;
    log("offload", connection.id, computer.name, ...waited(job, queue.length));
    room.resolve();
    running.add(job);
    computer.compute(connection.id, data).then((computed) => {
      running.delete(job);
      if (!computed) connection.abort("its worker died");
      reply.resolve(computed);
      handOut();
    });
  }
  for (const { room } of queue.slice(0, options.queue)) room.resolve();
}

/** No one waits for the replies of these jobs any more. */
function drop(which: (job: Job) => boolean): void {
  for (const job of jobs(which)) {
    waited(job, 0);
    job.room.resolve();
    job.reply.resolve(null);
  }
  for (const job of queue.splice(0)) if (!which(job)) queue.push(job);
  handOut();
}

// Each thread runs this same file.
if (isMainThread) await main();
else computeForOthers((id, data) => burn(id, options.work, data));
