// SPDX-License-Identifier: MIT
/**
 * An event loop for the clients, and a few threads for the computing: the loop
 * hands each message to one of them.
 *
 *   deno run -A offload.ts
 *   nc 127.0.0.1 9999   in several terminals: say hello in some, light in
 *        another
 */

import { availableParallelism } from "node:os";
import { isMainThread, parentPort, Worker } from "node:worker_threads";
import { once } from "node:events";
import { URL } from "node:url";

const HOST = "127.0.0.1";
const PORT = 9999;
const WORK = 0;
const WORKERS = availableParallelism();
const QUEUE = 16;

/** A message on its way to a worker and back. */
interface Job {
  readonly connection: Connection;
  readonly data: Bytes;
  /** Resolves when it has room in the queue. */
  readonly room: PromiseWithResolvers<void>;
  /**
   * Resolves when a worker has computed the reply: to `null` if there is none,
   * or no one waits for it any more.
   */
  readonly reply: PromiseWithResolvers<Bytes | null>;
}

/**
 * The threads, and the jobs that wait for one: first those that have room in
 * the queue, then at most one per client.
 */
let computers = new Set<Computer>();
const queue: Job[] = [];

/** The main thread: the loop. It never computes. */
async function main(): Promise<void> {
  computers = startComputers(import.meta.url, WORKERS);
  // create, bind, listen
  const server = listen(HOST, PORT);
  // Not awaited: each call starts a task, and the loop goes back to accept.
  for (;;) serve(await server.accept());
}

/** The task: it receives messages, and has replies sent in their order. */
async function serve(connection: Connection): Promise<void> {
  const replies = [Promise.resolve()];
  for (;;) {
    const data = await connection.recv();
    if (data.length === 0) break;
    // A copy: this one is valid until the next recv only.
    const { room, reply } = compute(connection, new Uint8Array(data));
    replies.push(send(connection, reply.promise, replies.at(-1)!));
    await room.promise;
    // It would be no use to have more of them on their way than there are
    // threads.
    if (replies.length > WORKERS) await replies.shift();
  }
  await replies.at(-1);
  connection.close();
}

/** Sends a reply once it is there, and the one before is sent. */
async function send(
  connection: Connection,
  reply: Promise<Bytes | null>,
  before: Promise<void>,
): Promise<void> {
  const [data] = await Promise.all([reply, before]);
  if (data) await connection.send(data);
}

/**
 * Has a message computed by a worker, unless it is light: then the reply is
 * there at once.
 */
function compute(connection: Connection, data: Bytes): Job {
  const job: Job = {
    connection,
    data,
    room: Promise.withResolvers(),
    reply: Promise.withResolvers(),
  };
  if (isLight(data)) {
    job.room.resolve();
    job.reply.resolve(data);
    return job;
  }
  const why = [...computers].some(({ isFree }) => isFree)
    ? ""
    : "no worker is free";
  logInLine("queue", connection.id, why, queue.push(job));
  handOut();
  return job;
}

/**
 * The first job in line gets a worker, as long as there are both. Then others
 * have room in the queue.
 */
function handOut(): void {
  for (const computer of computers) {
    if (!computer.isFree || queue.length === 0) continue;
    const job = queue.shift()!, { connection, data, room, reply } = job;
    console.log(`offload #${connection.id}`, computer.name);
    room.resolve();
    computer.compute(connection.id, data).then((computed) => {
      reply.resolve(computed);
      handOut();
    });
  }
  for (const { room } of queue.slice(0, QUEUE)) room.resolve();
}

// ---------------------------------------- what it stands on

/** Whether a message begins with `light`. */
function isLight(data: Uint8Array): boolean {
  return new TextDecoder().decode(data.subarray(0, 5)) === "light";
}

/** Computes for so many milliseconds. */
function burn(_id: number, milliseconds: number, _: Uint8Array): void {
  for (const end = performance.now() + milliseconds; performance.now() < end;);
}

type Bytes = Uint8Array<ArrayBuffer>;

/** A thread that computes, as the one that gives it work sees it. */
class Computer {
  readonly name: string;
  isFree = true;
  #worker: Worker;

  constructor(script: string, name: string) {
    this.name = name;
    this.#worker = new Worker(new URL(script), { workerData: { name } });
  }

  /** Has bytes of a connection computed: handed over, not copied. */
  async compute(id: number, data: Bytes): Promise<Bytes> {
    this.isFree = false;
    this.#worker.postMessage({ id, data }, [data.buffer]);
    const [reply] = await once(this.#worker, "message");
    this.isFree = true;
    return reply;
  }
}

/** Starts so many threads that run `script`, a module's `import.meta.url`. */
function startComputers(script: string, count: number): Set<Computer> {
  const names = Array.from({ length: count }, (_, i) => `w-${i + 1}`);
  return new Set(names.map((name) => new Computer(script, name)));
}

/** In such a thread: computes what it is given, and gives it back. */
function computeForOthers(
  compute: (id: number, data: Uint8Array) => void,
): void {
  parentPort!.on("message", ({ id, data }) => {
    compute(id, data);
    parentPort!.postMessage(data, [data.buffer]);
  });
}

/** Prints why a message has to wait, unless there is no reason to. */
function logInLine(_what: string, id: number, why: string, n: number): void {
  if (why) console.log(`queue #${id}`, `${why}, ${n} in line`);
}

/** Binds and listens: socket(2), bind(2) and listen(2). */
function listen(hostname: string, port: number): Server {
  const listener = Deno.listen({ hostname, port });
  console.log(`listening on ${hostname}:${listener.addr.port}`);
  return new Server(listener);
}

/** A listening socket. */
class Server {
  #listener: Deno.TcpListener;

  constructor(listener: Deno.TcpListener) {
    this.#listener = listener;
  }

  /** Waits for the next connection. See accept(2). */
  async accept(): Promise<Connection> {
    for (;;) {
      try {
        return new Connection(await this.#listener.accept());
      } catch (error) {
        // The client has reset it already.
        if ((error as { code?: string }).code !== "ENOTCONN") throw error;
      }
    }
  }
}

/** A connected socket. A failure reads as the end of the stream. */
class Connection {
  static #count = 0;
  readonly id = ++Connection.#count;
  #conn: Deno.TcpConn;
  #buffer = new Uint8Array(16_384);
  #reason = "by the client";

  constructor(conn: Deno.TcpConn) {
    this.#conn = conn;
    conn.setNoDelay();
    const { hostname, port } = conn.remoteAddr;
    console.log(`accept #${this.id}`, `${hostname}:${port}`);
  }

  /** Waits for bytes; an empty array is the end of the stream. See recv(2). */
  async recv(): Promise<Uint8Array> {
    try {
      const size = await this.#conn.read(this.#buffer) ?? 0;
      if (size > 0) console.log(`recv #${this.id}`, size);
      return this.#buffer.subarray(0, size);
    } catch (error) {
      this.#reason = `${error}`;
      return new Uint8Array(0);
    }
  }

  /** Sends all of `data`: send(2) in a loop, as a call may take only a part. */
  async send(data: Uint8Array): Promise<void> {
    console.log(`send #${this.id}`, data.length);
    try {
      for (let sent = 0; sent < data.length;) {
        sent += await this.#conn.write(data.subarray(sent));
      }
    } catch (error) {
      this.#reason = `${error}`;
    }
  }

  /** Closes the connection. See close(2). */
  close(): void {
    console.log(`close #${this.id}`, this.#reason);
    this.#conn.close();
  }
}

// Each thread runs this same file.
if (isMainThread) await main();
else computeForOthers((id, data) => burn(id, WORK, data));
