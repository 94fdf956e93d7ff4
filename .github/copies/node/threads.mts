// SPDX-License-Identifier: MIT
/**
 * A thread per connection: every client has its own thread, which blocks in
 * `recv` until the client sends something.
 *
 *   node threads.mts
 *   nc 127.0.0.1 9999   in several terminals: r-1, r-2, ...
 */

import { once } from "node:events";
import { writeSync } from "node:fs";
import * as net from "node:net";
import { URL } from "node:url";
import {
  isMainThread,
  parentPort,
  Worker,
  workerData,
} from "node:worker_threads";

const HOST = "127.0.0.1";
const PORT = 9999;
const MESSAGES = 3;
const MAX_THREADS = 64;

/** Clients without a thread: first come, first served. */
const line: Connection[] = [], most = MAX_THREADS;
let starting = false;

/** The main thread: accepts, and starts a thread for each client. */
async function main(): Promise<void> {
  // create, bind, listen
  const server = await listen(HOST, PORT);

  for (;;) {
    const connection = await server.accept();
    // Those in line before will have a thread each.
    const why = whyNoThread(most, line.length);
    logInLine("wait", connection.id, why, line.push(connection), connection);
    // Not awaited: threads are started, and this loop goes back to accept.
    startThreads();
  }
}

/**
 * A thread for each client in line, one after the other, as far as there can be
 * more.
 */
async function startThreads(): Promise<void> {
  if (starting) return;
  starting = true;
  while (line.length > 0 && !whyNoThread(most)) {
    const connection = line.shift()!;
    try {
      const thread = await startThread(import.meta.url, `r-${connection.id}`);
      log(
        "start",
        connection.id,
        [thread.cost, ...waited(connection, line.length)].join(", "),
      );
      // Not awaited: the thread runs by itself.
      thread.serve(connection);
      thread.ended.then(startThreads);
    } catch (error) {
      const why = `no thread to be had: ${explain(error)}`;
      // When one of those that run ends, there may be room. If none runs, there
      // is nothing to wait for.
      if (threadCount() === 0) connection.close(why);
      else {
        logInLine(
          "wait",
          connection.id,
          why,
          line.unshift(connection),
          connection,
        );
        break;
      }
    }
  }
  starting = false;
}

/**
 * The thread. Straight-line code: every call returns when it is done, however
 * long that takes.
 */
function serve(connection: BlockingConnection): void {
  for (let i = 0; i < MESSAGES; i++) {
    const data = connection.recv();
    if (data.length === 0) break;
    connection.send(data);
  }
  connection.close();
}

// ---------------------------------------- what it stands on

let connections = 0;

/** Binds and listens: socket(2), bind(2) and listen(2). */
async function listen(host: string, port: number): Promise<Server> {
  // With allowHalfOpen, a client that shuts down its side still gets replies.
  const listener = net.createServer({ allowHalfOpen: true, noDelay: true });
  const server = new Server(listener);
  await once(listener.listen({ host, port }), "listening");
  console.log(`listening on ${host}:${server.port}`);
  return server;
}

/** A listening socket. */
class Server {
  #listener: net.Server;
  #accepted: Connection[] = [];
  #wake = () => {};

  constructor(listener: net.Server) {
    this.#listener = listener;
    listener.on("connection", (socket) => {
      this.#accepted.push(new Connection(socket));
      this.#wake();
    });
    // Without a free descriptor, an accept fails.
    listener.on("error", (error) => log("error", 0, `accept: ${error}`));
  }

  /** The port that was bound, also when 0 was asked for. */
  get port(): number {
    return (this.#listener.address() as net.AddressInfo).port;
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
  #socket: net.Socket;
  #chunks: AsyncIterator<Uint8Array>;
  /** Why it ended. */
  #reason = "";

  constructor(socket: net.Socket) {
    this.#socket = socket;
    this.#chunks = socket.iterator({ destroyOnReturn: false });
    socket.on("error", (error) => this.#reason ||= `${error}`);
    const { remoteAddress, remotePort } = socket;
    log("accept", this.id, `${remoteAddress}:${remotePort}`);
  }

  /** Waits for bytes; an empty array is the end of the stream. See recv(2). */
  async recv(): Promise<Uint8Array> {
    try {
      const { value, done } = await this.#chunks.next();
      if (done) this.#reason ||= "by the client";
      return value ?? new Uint8Array(0);
    } catch (error) {
      this.#reason ||= `${error}`;
      return new Uint8Array(0);
    }
  }

  /** Sends all of `data`, and waits until the kernel has taken it. */
  async send(data: Uint8Array): Promise<void> {
    await new Promise((resolve) => this.#socket.write(data, resolve));
  }

  /**
   * Closes the connection, losing nothing that was sent. With bytes unread it
   * would be reset: for a second, what still comes is dropped.
   */
  async close(reason = "by the server"): Promise<void> {
    log("close", this.id, this.#reason || reason);
    this.#socket.end();
    setTimeout(() => this.#socket.destroy(), 1000).unref();
    try {
      while (!(await this.#chunks.next()).done);
    } catch {
      // It has failed, and is closed.
    }
  }
}

/** How many bytes can be handed over at a time. */
const BOX = 65_536;

/**
 * Memory that a thread shares with the main thread: whether there is an answer
 * and the answer, both as integers, and bytes.
 */
class Mailbox {
  readonly integers: Int32Array;
  readonly bytes: Uint8Array;

  constructor(memory: SharedArrayBuffer) {
    this.integers = new Int32Array(memory, 0, 2);
    this.bytes = new Uint8Array(memory, 8);
  }

  /** In the main thread: answers, and wakes the thread. */
  answer(answer: number): void {
    this.integers[1] = answer;
    Atomics.store(this.integers, 0, 1);
    Atomics.notify(this.integers, 0);
  }

  /** In a thread: asks for something, and sleeps until there is an answer. */
  ask(call: string, size = 0): number {
    Atomics.store(this.integers, 0, 0);
    parentPort!.postMessage({ call, size });
    // A wake-up can be stale, hence the loop.
    while (Atomics.load(this.integers, 0) === 0) {
      Atomics.wait(this.integers, 0, 0);
    }
    return this.integers[1];
  }
}

/** In a thread: blocks until there is a connection for it. */
function accept(): BlockingConnection {
  const mailbox = new Mailbox(workerData.memory);
  return new BlockingConnection(mailbox, mailbox.ask("accept"));
}

/** A connection, for the thread that serves it: its calls block. */
class BlockingConnection {
  #mailbox: Mailbox;
  readonly id: number;

  constructor(mailbox: Mailbox, id: number) {
    this.#mailbox = mailbox;
    this.id = id;
  }

  /** Blocks until there are bytes; none are the end of the stream. */
  recv(): Uint8Array {
    const size = this.#mailbox.ask("recv");
    const data = this.#mailbox.bytes.slice(0, size);
    if (size > 0) log("recv", this.id, shown(data));
    return data;
  }

  /** Sends all of `data`, and blocks until the kernel has taken it. */
  send(data: Uint8Array): void {
    log("send", this.id, data.length);
    this.#mailbox.bytes.set(data);
    this.#mailbox.ask("send", data.length);
  }

  /** Closes the connection. */
  close(): void {
    this.#mailbox.ask("close");
  }
}

/** A thread, as the main thread sees it. */
class Thread {
  readonly name: string;
  cost = "";
  /** Resolves when the thread runs. */
  readonly started: Promise<void>;
  /** Resolves when the thread has ended, for whatever reason. */
  readonly ended: Promise<void>;
  #mailbox: Mailbox;
  #connection: Connection | null = null;
  #unread = new Uint8Array(0);
  #free = () => {};

  /** The thread runs `script`, a module's `import.meta.url`. */
  constructor(script: string, name: string) {
    this.name = name;
    const memory = new SharedArrayBuffer(8 + BOX);
    this.#mailbox = new Mailbox(memory);
    const worker = new Worker(new URL(script), {
      workerData: { name, memory },
    });
    this.started = new Promise((resolve) => this.#free = resolve);
    worker.on("message", ({ call, size }) => this.#do(call, size));
    worker.on("error", (error) => log("error", 0, `thread ${name}: ${error}`));
    this.ended = new Promise((resolve) => worker.on("exit", () => resolve()));
    this.ended.then(() => this.#connection?.close());
  }

  /** Hands over a connection. Resolves when the thread waits for the next. */
  serve(connection: Connection): Promise<void> {
    this.#connection = connection;
    this.#mailbox.answer(connection.id);
    return new Promise((resolve) => this.#free = resolve);
  }

  /** Does what the thread asks for. */
  async #do(call: string, size: number): Promise<void> {
    const { bytes } = this.#mailbox, connection = this.#connection!;
    if (call === "accept") return this.#free();
    if (call === "recv") {
      if (this.#unread.length === 0) {
        this.#unread = new Uint8Array(await connection.recv());
      }
      size = Math.min(BOX, this.#unread.length);
      bytes.set(this.#unread.subarray(0, size));
      this.#unread = this.#unread.subarray(size);
    } else if (call === "send") await connection.send(bytes.slice(0, size));
    else {
      this.#connection = null;
      connection.close();
    }
    this.#mailbox.answer(size);
  }
}

/** Starts a thread, and waits until it runs. */
async function startThread(script: string, name: string): Promise<Thread> {
  const start = performance.now();
  const thread = new Thread(script, name);
  running++;
  thread.ended.then(() => running--);
  await thread.started;
  thread.cost = `${name} in ${(performance.now() - start).toFixed(1)} ms`;
  return thread;
}

let running = 0;

/** How many threads there are. */
function threadCount(): number {
  return running;
}

/** Why there can't be another thread beside those that `more` clients need. */
function whyNoThread(most: number, more = 0): string {
  return running + more < most ? "" : `${most} threads are the most`;
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
  for (;;) {
    try {
      writeSync(1, `${words.join(" ")}\n`);
      return;
    } catch (error) {
      // Node makes a pipe non-blocking for console.log: here it is full.
      if ((error as { code?: string }).code !== "EAGAIN") throw error;
    }
  }
}

/** Bytes for the log: how many, and the first 60 of them as text. */
function shown(data: Uint8Array): string {
  const text = new TextDecoder().decode(data.subarray(0, 60));
  return `${data.length} ${JSON.stringify(text)}`;
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

/** What an error says. */
function explain(error: unknown): string {
  return (error as Error).message;
}

// Each thread runs this same file, and serves one client.
if (isMainThread) await main();
else serve(accept());
