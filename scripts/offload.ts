// SPDX-License-Identifier: MIT
/**
 * An event loop for the clients, and a few threads for the computing: the loop hands each message to one of them.
 *
 * What most services do (the books call it half-sync/half-async). All sockets stay with one loop, as in tasks.ts, but
 * what takes CPU goes to a worker, and the reply comes back when that is done. So the loop is always free: while the
 * workers compute (try `--work 2000`), clients connect and are read from, and a message that begins with `light` is
 * answered by the loop itself, at once. Several messages of one client may be computed at the same time; their replies
 * are sent in order, however the workers finish, a light one behind a heavy one, too.
 *
 * Backpressure: `--queue` messages may wait for a worker. The server stops reading from a client with one more until
 * there is room, and from one that leaves its replies unread. The excess waits in the kernel, and then at the client.
 *
 * The limit: each message crosses two threads, which takes longer than echoing it. Without `--work` that is all one
 * sees: every message takes the way through a worker, and nothing is computed. Where all messages are heavy pool.ts is
 * as good; where none is, tasks.ts and multiplex.ts are better.
 *
 * What is real: the threads, and that they compute at the same time. How a message gets to them is the runtime's part
 * (`postMessage`), and so is the loop.
 *
 *   deno run -A scripts/offload.ts --work 2000   or: bun scripts/offload.ts ...   or: node scripts/offload.ts ...
 *   nc 127.0.0.1 9999                            in several terminals: say hello in some, light in another
 *
 * To copy it into an article: deno run -A scripts/standalone.ts offload
 */

import { availableParallelism } from "node:os";
import { isMainThread, parentPort, Worker } from "node:worker_threads";
import { burn, cannotListen, fail, heartbeat, isLight, list, log, messages, onStop } from "./shim/program.ts";
import { parseOptions, ready, serverOptions, threadSettings, work } from "./shim/program.ts";
import { type Connection, listen } from "./shim/shim.ts";
import { keepWorker } from "./shim/worker.ts";

const options = parseOptions(
  "An event loop for the clients, and threads that compute for it. Each message goes to a thread, but one that begins \
with `light`, which the loop answers at once.",
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
  readonly data: Uint8Array<ArrayBuffer>;
  readonly since: number;
  readonly waits: boolean;
  /** Resolves when it is in the queue, or at a worker: until then there was no room. */
  readonly place: PromiseWithResolvers<void>;
  /** Resolves when a worker has computed the reply; rejects if that one has died. */
  readonly reply: PromiseWithResolvers<Uint8Array>;
}

/** A thread, as the loop sees it. */
interface Computer {
  readonly name: string;
  readonly worker: Worker;
  /** What it computes; `null` if it is free. */
  job: Job | null;
}

const computers = new Set<Computer>();
/** The jobs that no worker has taken yet. Those that have no room in the queue stand behind it, one for a client. */
let queue: Job[] = [];
let started = 0;

/** The main thread: the loop. It never computes. */
async function main(): Promise<void> {
  for (let i = 0; i < options.workers; i++) {
    await start().catch((error) => fail(`cannot start thread ${started} of ${options.workers}`, error));
  }

  // create, bind, listen
  const server = await listen(options).catch(cannotListen);
  ready(options.host, server.port);
  heartbeat("workers", 3, () => [`${list([...computers].map(doing))}; ${queue.length} in line`]);
  setInterval(excuse, 1000);
  onStop(() => jobs().forEach((job) => drop(job, new Error("the server stops"))));

  for (;;) {
    const connection = await server.accept();
    // Not awaited: this starts the task, and the loop goes back to accept.
    serve(connection);
  }
}

/** The task, which never throws: an error ends this connection and no other. */
async function serve(connection: Connection): Promise<void> {
  const { id } = connection;
  log("accept", id, connection.peer);
  /** The latest replies, which may be waiting for each other. */
  const replies: Promise<void>[] = [];
  let reason: unknown = `after ${options.messages} messages`;
  try {
    for (let count = 0; count < options.messages; count++) {
      const data = await connection.recv();
      if (data.length === 0) {
        reason = "by the client";
        break;
      }
      log("recv", id, data.length, data);
      // A copy: this one is valid until the next recv only.
      const { place, reply } = compute(connection, new Uint8Array(data));
      const sent = send(connection, reply.promise, replies.at(-1));
      // Whatever is wrong with it, recv will say.
      sent.catch((error) => connection.abort(error));
      replies.push(sent);
      await place.promise;
      // It would be no use to have more of them on their way than there are threads.
      if (replies.length > options.workers) await replies.shift();
    }
    await replies.at(-1);
  } catch (error) {
    reason = error;
  }
  // No one waits for these any more.
  for (const job of jobs()) if (job.connection === connection) drop(job, new Error("the connection is closed"));
  queue = queue.filter((job) => job.connection !== connection);
  handOut();
  connection.close();
  log("close", id, reason);
}

/** Sends a reply once it is there, and the one before is sent. */
async function send(connection: Connection, reply: Promise<Uint8Array>, before?: Promise<void>): Promise<void> {
  const [data] = await Promise.all([reply, before]);
  const sending = connection.send(data);
  log("send", connection.id, data.length);
  await sending;
}

// ---------------------------------------------------------------- the queue towards the workers

/** Has a message computed by a worker, unless it is light: then the reply is there at once. */
function compute(connection: Connection, data: Uint8Array<ArrayBuffer>): Job {
  const waits = ![...computers].some(({ job }) => job === null), since = performance.now();
  const job = {
    connection,
    data,
    since,
    waits,
    place: Promise.withResolvers<void>(),
    reply: Promise.withResolvers<Uint8Array>(),
  };
  if (isLight(data)) {
    job.place.resolve();
    job.reply.resolve(data);
    return job;
  }
  queue.push(job);
  const room = queue.length > options.queue ? `; not read from while more than ${options.queue} are` : "";
  if (waits) log("queue", connection.id, `no worker is free, ${queue.length} in line${room}`);
  handOut();
  return job;
}

/** Whichever job is first in line gets a worker, as long as there are both. Then others have room in the queue. */
function handOut(): void {
  for (const computer of computers) {
    if (computer.job || queue.length === 0) continue;
    const job = computer.job = queue.shift()!, { connection: { id }, data, since, waits, place } = job;
    const waited = `after ${(performance.now() - since).toFixed(1)} ms in line, ${queue.length} wait now`;
    log("offload", id, computer.name, ...waits ? [waited] : []);
    // The buffer, which is moved: of an array a runtime may look at every element.
    computer.worker.postMessage({ id, buffer: data.buffer }, [data.buffer]);
    place.resolve();
  }
  for (const job of queue.slice(0, options.queue)) job.place.resolve();
}

/** All that have no reply yet. */
function jobs(): Job[] {
  return [...[...computers].flatMap(({ job }) => job ?? []), ...queue];
}

function drop({ place, reply }: Job, why: Error): void {
  place.reject(why);
  reply.reject(why);
}

/** A client is not silent while it waits for a reply. */
function excuse(): void {
  for (const { connection } of jobs()) connection.silence = 0;
}

// ---------------------------------------------------------------- the workers

/** Starts a worker, and waits until it runs. When it dies there will be another in its place. */
function start(): Promise<void> {
  return keepWorker(import.meta.url, () => threadSettings(`w-${++started}`), (worker, { name }) => {
    const computer: Computer = { name, worker, job: null };
    computers.add(computer);
    worker.on("message", (buffer: ArrayBuffer) => {
      computer.job!.reply.resolve(new Uint8Array(buffer));
      computer.job = null;
      handOut();
    });
    handOut();
    return () => {
      computers.delete(computer);
      if (computer.job) drop(computer.job, new Error("its worker died"));
    };
  });
}

function doing({ name, job }: Computer): string {
  return job ? `${name} computing for #${job.connection.id}` : `${name} free`;
}

/** The thread: computes one message after the other. */
function worker(): void {
  parentPort!.on("message", ({ id, buffer }: { id: number; buffer: ArrayBuffer }) => {
    burn(id, options.work, new Uint8Array(buffer));
    parentPort!.postMessage(buffer, [buffer]);
  });
  parentPort!.postMessage("ready");
}

// Each thread runs this same file.
if (isMainThread) await main();
else worker();
