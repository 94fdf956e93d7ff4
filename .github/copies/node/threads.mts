// SPDX-License-Identifier: MIT
/**
 * A thread per connection: every client has its own thread, which blocks in
 * `recv` until the client sends something.
 *
 *   node threads.mts
 *   nc 127.0.0.1 9999   in several terminals: r-1, r-2, ...
 */

import {
  isMainThread,
  MessageChannel,
  parentPort,
  receiveMessageOnPort,
  Worker,
  workerData,
} from "node:worker_threads";
import { on, once } from "node:events";
import * as net from "node:net";
import { URL } from "node:url";
import { writeSync } from "node:fs";

const HOST = "127.0.0.1";
const PORT = 9999;
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
    logInLine("wait", connection.id, why, line.push(connection));
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
    const thread = await startThread(import.meta.url, `r-${connection.id}`);
    log("start", connection.id, thread.cost);
    // Not awaited: the thread runs by itself.
    thread.serve(connection);
    thread.ended.then(startThreads);
  }
  starting = false;
}

/**
 * The thread. Straight-line code: every call returns when it is done, however
 * long that takes.
 */
function serve(connection: BlockingConnection): void {
  for (;;) {
    const data = connection.recv();
    if (data.length === 0) break;
    connection.send(data);
  }
  connection.close();
}

// ---------------------------------------- what it stands on

/** Prints an event: the thread, what happens, to which connection, details. */
function log(what: string, id: number, ...details: unknown[]): void {
  const name = workerData?.name ?? "main";
  const words = [name, what, ...id > 0 ? [`#${id}`] : [], ...details];
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

/** Binds and listens: socket(2), bind(2) and listen(2). */
async function listen(host: string, port: number): Promise<Server> {
  const server = new Server();
  await once(server.listener.listen({ host, port }), "listening");
  console.log(`listening on ${host}:${server.port}`);
  return server;
}

/** A listening socket. */
class Server {
  // With allowHalfOpen, a client that shuts down its side still gets replies.
  listener = net.createServer({ allowHalfOpen: true, noDelay: true });
  #accepted = on(this.listener, "connection");

  /** The port that was bound, also when 0 was asked for. */
  get port(): number {
    return (this.listener.address() as net.AddressInfo).port;
  }

  /** Waits for the next connection. See accept(2). */
  async accept(): Promise<Connection> {
    const [socket] = (await this.#accepted.next()).value!;
    return new Connection(socket);
  }
}

/** A connected socket. A failure reads as the end of the stream. */
class Connection {
  static #count = 0;
  readonly id = ++Connection.#count;
  #socket: net.Socket;
  #chunks: AsyncIterator<Uint8Array>;
  #reason = "by the client";

  constructor(socket: net.Socket) {
    this.#socket = socket;
    this.#chunks = socket.iterator({ destroyOnReturn: false });
    // Without a listener, an error would end the process.
    socket.on("error", (error) => this.#reason = `${error}`);
    const { remoteAddress, remotePort } = socket;
    log("accept", this.id, `${remoteAddress}:${remotePort}`);
  }

  /** Waits for bytes; an empty array is the end of the stream. See recv(2). */
  async recv(): Promise<Uint8Array> {
    try {
      const { value } = await this.#chunks.next();
      return value ?? new Uint8Array(0);
    } catch {
      return new Uint8Array(0);
    }
  }

  /** Sends all of `data`, and waits until the kernel has taken it. */
  async send(data: Uint8Array): Promise<void> {
    await new Promise((resolve) => this.#socket.write(data, resolve));
  }

  /** Closes the connection. See close(2). */
  close(): void {
    log("close", this.id, this.#reason);
    this.#socket.end();
  }
}

/** In a thread: asks the main thread for something, and sleeps until then. */
function ask(call: string, data?: Uint8Array) {
  const { port, answers } = workerData;
  parentPort!.postMessage({ call, data });
  // Blocks while there are 0 answers.
  Atomics.wait(answers, 0, 0);
  Atomics.store(answers, 0, 0);
  return receiveMessageOnPort(port)!.message;
}

/** In a thread: blocks until there is a connection for it, as its calls do. */
function accept() {
  const id: number = ask("accept");
  return {
    id,
    /** Returns bytes; none are the end of the stream. */
    recv(): Uint8Array {
      const data = ask("recv");
      if (data.length > 0) log("recv", id, data.length);
      return data;
    },
    /** Returns when the kernel has taken all of `data`. */
    send(data: Uint8Array): void {
      log("send", id, data.length);
      ask("send", data);
    },
    close: (): void => ask("close"),
  };
}

type BlockingConnection = ReturnType<typeof accept>;

/** A thread, as the main thread sees it. */
class Thread {
  readonly name: string;
  /** Resolves when the thread waits for its first connection. */
  readonly started: Promise<void>;
  readonly ended: Promise<unknown>;
  cost = "";
  #answers = new Int32Array(new SharedArrayBuffer(4));
  #channel = new MessageChannel();
  #connection!: Connection;
  #free = () => {};

  /** The thread runs `script`, a module's `import.meta.url`. */
  constructor(script: string, name: string) {
    this.name = name;
    const { port2: port } = this.#channel, answers = this.#answers;
    const worker = new Worker(new URL(script), {
      workerData: { name, port, answers },
      transferList: [port],
    });
    worker.on("message", async ({ call, data }) => {
      const calls = this.#connection;
      if (call === "accept") this.#free();
      else this.#answer(await calls[call as "recv" | "send" | "close"](data));
    });
    this.started = new Promise((resolve) => this.#free = resolve);
    this.ended = once(worker, "exit");
  }

  /** Hands over a connection. Resolves when the thread waits for the next. */
  serve(connection: Connection): Promise<void> {
    this.#connection = connection;
    this.#answer(connection.id);
    return new Promise((resolve) => this.#free = resolve);
  }

  #answer(answer: unknown): void {
    this.#channel.port1.postMessage(answer);
    Atomics.store(this.#answers, 0, 1);
    Atomics.notify(this.#answers, 0);
  }
}

/** Starts a thread, and waits until it runs. */
async function startThread(script: string, name: string): Promise<Thread> {
  const start = performance.now();
  const thread = new Thread(script, name);
  running++;
  thread.ended.then(() => running--);
  await thread.started;
  thread.cost = `${name} in ${(performance.now() - start).toFixed()} ms`;
  return thread;
}

let running = 0;

/** Why there can't be another thread beside those that `more` clients need. */
function whyNoThread(most: number, more = 0): string {
  return running + more < most ? "" : `${most} threads are the most`;
}

/** Prints why a client has to wait, unless there is no reason to. */
function logInLine(what: string, id: number, why: string, n: number): void {
  if (why) log(what, id, `${why}, ${n} in line`);
}

// Each thread runs this same file, and serves one client.
if (isMainThread) await main();
else serve(accept());
