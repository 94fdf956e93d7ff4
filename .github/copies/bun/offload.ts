// SPDX-License-Identifier: MIT
/**
 * An event loop for the clients, and a few threads for the computing: the loop
 * hands each message to one of them.
 *
 *   bun offload.ts --work 2000
 *   nc 127.0.0.1 9999            in several terminals: say hello in some, light
 *                                in another
 */

import { writeSync } from "node:fs";
import { availableParallelism } from "node:os";
import { URL } from "node:url";
import {
  isMainThread,
  type MessagePort,
  parentPort,
  type Transferable,
  Worker,
  workerData,
} from "node:worker_threads";

const HOST = "127.0.0.1";
const PORT = 9999;
const WORK = 0;
const WORKERS = availableParallelism();
const QUEUE = 16;

// ---------------------------------------- what it stands on

type Bytes = Uint8Array<ArrayBuffer>;

/** A thread, as the one that gives it work sees it. */
class Computer {
  readonly name: string;
  #worker: Worker;
  /** The connection that it computes for; 0 if it is free. */
  #id = 0;
  #done = (_: Bytes | null) => {};

  constructor(worker: Worker, name: string) {
    this.#worker = worker;
    this.name = name;
    onPost(
      worker,
      (buffer: ArrayBuffer) => this.finish(new Uint8Array(buffer)),
    );
  }

  get isFree(): boolean {
    return this.#id === 0;
  }

  /** What it does, such as `w-1 computing for #3`. */
  get doing(): string {
    return `${this.name} ${
      this.isFree ? "free" : `computing for #${this.#id}`
    }`;
  }

  /**
   * Has bytes of a connection computed: they are handed over, not copied.
   * `null` if the thread has died of it.
   */
  compute(id: number, data: Bytes): Promise<Bytes | null> {
    this.#id = id;
    // The buffer: of an array a runtime may look at every element.
    post(this.#worker, { id, buffer: data.buffer }, [data.buffer]);
    return new Promise((resolve) => this.#done = resolve);
  }

  /** It has computed, or died. */
  finish(result: Bytes | null): void {
    this.#id = 0;
    this.#done(result);
  }
}

/**
 * Starts so many threads that run `script` (a module's `import.meta.url`).
 * `changed` is called when one that has died has been replaced. Ends the
 * process if there are no threads to be had.
 */
async function startComputers(
  script: string,
  count: number,
  changed: () => void,
): Promise<Set<Computer>> {
  const computers = new Set<Computer>();
  let started = 0;
  while (started < count) {
    await keepWorker(
      script,
      () => threadSettings(`w-${++started}`),
      (worker, { name }) => {
        const computer = new Computer(worker, name);
        computers.add(computer);
        changed();
        return () => {
          computers.delete(computer);
          computer.finish(null);
        };
      },
    );
  }
  return computers;
}

/**
 * In such a thread: computes what it is given with `compute`, which changes the
 * bytes or leaves them.
 */
function computeForOthers(compute: (id: number, data: Bytes) => void): void {
  onPost(parentPort!, ({ id, buffer }: { id: number; buffer: ArrayBuffer }) => {
    compute(id, new Uint8Array(buffer));
    post(parentPort!, buffer, [buffer]);
  });
  post(parentPort!, "ready");
}

let connections = 0;

/** Binds and listens: socket(2), bind(2) and listen(2). */
function listen(hostname: string, port: number): Server {
  const server = new Server({ hostname, port });
  console.log(`listening on ${hostname}:${server.listener.port}`);
  return server;
}

/** A listening socket. */
class Server {
  #accepted: Connection[] = [];
  #wake = () => {};
  readonly listener: Bun.TCPSocketListener<Connection>;

  constructor(address: { hostname: string; port: number }) {
    // The same functions serve all sockets; `data` is a socket's own.
    const socket: Bun.SocketHandler<Connection> = {
      open: (socket) => {
        this.#accepted.push(socket.data = new Connection(socket));
        this.#wake();
      },
      data: (socket, data) => socket.data.arrived(data),
      drain: (socket) => socket.data.wake(),
      end: (socket) => socket.data.ended("by the client"),
      error: (socket, error) => socket.data.ended(`${error}`),
      close: (socket) => socket.data.ended("reset by the client"),
    };
    // With allowHalfOpen, a client that shuts down its side still gets replies.
    this.listener = Bun.listen({ ...address, allowHalfOpen: true, socket });
  }

  /** Waits for the next connection. See accept(2). */
  async accept(): Promise<Connection> {
    while (this.#accepted.length === 0) {
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    return this.#accepted.shift()!;
  }
}

/** A connected socket. A failure reads as the end of the stream. */
class Connection {
  readonly id = ++connections;
  #socket: Bun.Socket<Connection>;
  #unread: Uint8Array[] = [];
  /** Why it ended. */
  #reason = "";
  #change = Promise.withResolvers<void>();

  constructor(socket: Bun.Socket<Connection>) {
    this.#socket = socket;
    const { remoteAddress, remotePort } = socket;
    log("accept", this.id, `${remoteAddress}:${remotePort}`);
  }

  /** Has `recv` and `send` look again. */
  wake(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers();
  }

  arrived(data: Uint8Array): void {
    // With eight pieces unread, the client has to wait.
    if (this.#unread.push(data) === 8) this.#socket.pause();
    this.wake();
  }

  ended(reason: string): void {
    this.#reason ||= reason;
    this.wake();
  }

  /** Waits for bytes; an empty array is the end of the stream. See recv(2). */
  async recv(): Promise<Uint8Array> {
    while (this.#unread.length === 0 && !this.#reason) {
      await this.#change.promise;
    }
    if (this.#unread.length === 8) this.#socket.resume();
    const data = this.#unread.shift() ?? new Uint8Array(0);
    if (data.length > 0) log("recv", this.id, shown(data));
    return data;
  }

  /** Sends all of `data`: send(2) in a loop. */
  async send(data: Uint8Array): Promise<void> {
    log("send", this.id, data.length);
    for (;;) {
      // As much as the kernel takes; -1 if the socket is closed.
      const sent = this.#socket.write(data);
      if (sent < 0 || sent === data.length) return;
      data = data.subarray(sent);
      await this.#change.promise;
    }
  }

  /** Whether it has failed. */
  get isBroken(): boolean {
    return this.#reason !== "" && this.#reason !== "by the client";
  }

  /** Closes the connection. See close(2). */
  close(): void {
    log("close", this.id, this.#reason);
    this.#socket.end();
  }
}

/** Posts a message to a thread, or from there. */
function post(
  to: Worker | MessagePort,
  message: unknown,
  transfer: Transferable[] = [],
): void {
  to.postMessage(message, transfer);
}

/** Has `received` called with each message. */
function onPost<Message>(
  from: Worker | MessagePort,
  received: (message: Message) => void,
): void {
  from.on("message", received);
}

/**
 * Starts a thread that runs `script`, and waits for its first message. Calls
 * `started`, and when the thread dies what that returned: then there will be
 * another thread.
 */
async function keepWorker<Data extends ThreadSettings>(
  script: string,
  settings: () => Data,
  started: (worker: Worker, data: Data) => () => void,
): Promise<void> {
  const data = settings();
  const worker = new Worker(new URL(script), { workerData: data });
  worker.on(
    "error",
    (error) => log("error", 0, `thread ${data.name}: ${error}`),
  );
  await new Promise((resolve) => worker.once("message", resolve));
  const died = started(worker, data);
  worker.on("exit", () => {
    died();
    keepWorker(script, settings, started);
  });
}

const threadName: string = workerData?.name ?? "main";

/** Prints an event: the thread, what happens, to which connection, details. */
function log(
  event: string,
  id: number,
  ...details: unknown[]
): void {
  const words = [threadName, event, ...id > 0 ? [`#${id}`] : [], ...details];
  // console.log would hold back what a thread prints before it blocks.
  writeSync(1, `${words.join(" ")}\n`);
}

/** Bytes for the log: how many, and the first 60 of them as text. */
function shown(data: Uint8Array): string {
  const text = new TextDecoder().decode(data.subarray(0, 60));
  return `${data.length} ${JSON.stringify(text)}`;
}

/** Prints what `lines` returns, every so many seconds. */
function heartbeat(
  event: string,
  seconds: number,
  lines: () => string[],
): void {
  setInterval(() => {
    for (const line of lines()) console.log(event, line);
  }, seconds * 1000);
}

const since = new WeakMap<object, number>();

/** Prints why something has to wait, unless there is no reason to. */
function logInLine(
  event: string,
  id: number,
  why: string,
  length: number,
  what: object,
  more = "",
): void {
  if (!why) return;
  since.set(what, performance.now());
  log(event, id, `${why}, ${length} in line${more}`);
}

/** For the log: how long it had to wait, and how many still do. */
function waited(what: object, left: number): string[] {
  const time = performance.now() - (since.get(what) ?? NaN);
  if (Number.isNaN(time)) return [];
  return [`after ${time.toFixed(1)} ms in line, ${left} wait now`];
}

const numbers: Int32Array = workerData?.numbers ??
  new Int32Array(new SharedArrayBuffer(4));

/** Whether a message begins with `light`. */
function isLight(data: Uint8Array): boolean {
  return new TextDecoder().decode(data.subarray(0, 5)) === "light";
}

/** Computes for so many milliseconds, unless the message is light. */
function burn(id: number, milliseconds: number, data: Uint8Array): void {
  if (milliseconds === 0 || isLight(data)) return;
  log("work", id, milliseconds, "ms");
  for (const end = performance.now() + milliseconds; performance.now() < end;);
}

/** How many there are, and which. */
function list(items: string[]): string {
  return `${items.length}: ${items.join(", ")}`;
}

/** What a thread is told. */
interface ThreadSettings {
  readonly name: string;
  readonly numbers: Int32Array;
}

/** For a thread with this name. */
function threadSettings(name: string): ThreadSettings {
  return { name, numbers };
}

// ---------------------------------------- the server

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
let computers = new Set<Computer>(), queue: Job[] = [];
const running = new Set<Job>(),
  jobs = (which: (job: Job) => boolean) => [...queue, ...running].filter(which);

/** The main thread: the loop. It never computes. */
async function main(): Promise<void> {
  computers = await startComputers(import.meta.url, WORKERS, handOut);
  // create, bind, listen
  const server = listen(HOST, PORT);
  heartbeat(
    "workers",
    3,
    () => [
      `${
        list([...computers].map(({ doing }) => doing))
      }; ${queue.length} in line`,
    ],
  );
  // Not awaited: each call starts a task, and the loop goes back to accept.
  for (;;) serve(await server.accept());
}

/** The task: it receives messages, and has replies sent in their order. */
async function serve(connection: Connection): Promise<void> {
  const replies = [Promise.resolve()],
    isIts = (job: Job) => job.connection === connection;
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
  if (connection.isBroken) drop(isIts);
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
  const full = queue.length >= QUEUE
    ? `; not read from while more than ${QUEUE} are`
    : "";
  logInLine("queue", connection.id, why, queue.push(job), job, full);
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
    log("offload", connection.id, computer.name, ...waited(job, queue.length));
    room.resolve();
    running.add(job);
    computer.compute(connection.id, data).then((computed) => {
      running.delete(job);
      reply.resolve(computed);
      handOut();
    });
  }
  for (const { room } of queue.slice(0, QUEUE)) room.resolve();
}

/** No one waits for the replies of these jobs any more. */
function drop(which: (job: Job) => boolean): void {
  for (const { room, reply } of jobs(which)) {
    room.resolve();
    reply.resolve(null);
  }
  queue = queue.filter((job) => !which(job));
  handOut();
}

// Each thread runs this same file.
if (isMainThread) await main();
else computeForOthers((id, data) => burn(id, WORK, data));
