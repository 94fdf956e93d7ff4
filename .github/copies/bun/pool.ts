// SPDX-License-Identifier: MIT
/**
 * A pool of threads: three threads, created once, serve one client each, and
 * then the next.
 *
 *   bun pool.ts
 *   nc 127.0.0.1 9999   in four terminals: the fourth gets its answer when
 *        one of the others is done
 */

import {
  isMainThread,
  MessageChannel,
  parentPort,
  receiveMessageOnPort,
  Worker,
  workerData,
} from "node:worker_threads";
import { URL } from "node:url";
import { writeSync } from "node:fs";

const HOST = "127.0.0.1";
const PORT = 9999;
const WORKERS = 3;

/**
 * Threads without a client, and clients without a thread: first come, first
 * served.
 */
const free: Thread[] = [], line: Connection[] = [];
let started = 0;

/** The main thread: accepts, and hands each client to a thread that is free. */
async function main(): Promise<void> {
  // The threads come first: no client waits for their start, and their
  // descriptors are secured.
  while (started < WORKERS) {
    await keepThread(import.meta.url, () => `w-${++started}`, joinPool);
  }
  // create, bind, listen
  const server = listen(HOST, PORT);

  for (;;) {
    const connection = await server.accept();
    const why = free.length > 0 ? "" : "no thread is free";
    logInLine("wait", connection.id, why, line.push(connection));
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
    log("serve", connection.id, thread.name);
    // Not awaited: the thread runs by itself.
    thread.serve(connection).then(() => joinPool(thread));
  }
}

/**
 * The thread's work. Straight-line code: every call returns when it is done,
 * however long that takes.
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
  writeSync(1, `${words.join(" ")}\n`);
}

/** Binds and listens: socket(2), bind(2) and listen(2). */
function listen(hostname: string, port: number): Server {
  const server = new Server({ hostname, port });
  console.log(`listening on ${hostname}:${server.listener.port}`);
  return server;
}

/** A listening socket. */
class Server {
  #queue: Connection[] = [];
  #next = Promise.withResolvers<void>();
  readonly listener: Bun.TCPSocketListener<Connection>;

  constructor(address: { hostname: string; port: number }) {
    // The same functions serve all sockets; `data` is a socket's own.
    const socket: Bun.SocketHandler<Connection> = {
      open: (socket) => {
        this.#queue.push(socket.data = new Connection(socket));
        this.#next.resolve();
      },
      data: ({ data: connection }, data) => connection.arrived(data),
      drain: ({ data: connection }) => connection.wake(),
      end: ({ data: connection }) => connection.wake("by the client"),
      close: ({ data: connection }) => connection.wake("reset"),
    };
    // With allowHalfOpen, a client that shuts down its side still gets replies.
    this.listener = Bun.listen({ ...address, allowHalfOpen: true, socket });
  }

  /** Waits for the next connection. See accept(2). */
  async accept(): Promise<Connection> {
    if (!this.#queue[0]) await (this.#next = Promise.withResolvers()).promise;
    return this.#queue.shift()!;
  }
}

/** A connected socket. A failure reads as the end of the stream. */
class Connection {
  static #count = 0;
  readonly id = ++Connection.#count;
  #socket: Bun.Socket<Connection>;
  #unread: Uint8Array[] = [];
  #reason = "";
  #change = Promise.withResolvers<void>();

  constructor(socket: Bun.Socket<Connection>) {
    this.#socket = socket;
    const { remoteAddress, remotePort } = socket;
    log("accept", this.id, `${remoteAddress}:${remotePort}`);
  }

  arrived(data: Uint8Array): void {
    // With eight pieces unread, the client has to wait.
    if (this.#unread.push(data) === 8) this.#socket.pause();
    this.wake();
  }

  /** Something has happened: `recv` and `send` look again. */
  wake(reason = this.#reason): void {
    this.#reason = reason;
    this.#change.resolve();
    this.#change = Promise.withResolvers();
  }

  /** Waits for bytes; an empty array is the end of the stream. See recv(2). */
  async recv(): Promise<Uint8Array> {
    while (!this.#unread[0] && !this.#reason) await this.#change.promise;
    if (this.#unread.length === 8) this.#socket.resume();
    const data = this.#unread.shift();
    return data ?? new Uint8Array(0);
  }

  /** Sends all of `data`: each write takes a part, or -1 if it is closed. */
  async send(data: Uint8Array): Promise<void> {
    for (;;) {
      const sent = this.#socket.write(data);
      if (sent < 0 || sent === data.length) return;
      data = data.subarray(sent);
      await this.#change.promise;
    }
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

/** Starts a thread, waits until it runs, and passes it on. */
async function keepThread(
  script: string,
  name: () => string,
  started: (thread: Thread) => void,
): Promise<void> {
  const thread = new Thread(script, name());
  await thread.started;
  started(thread);
}

/** Prints why a client has to wait, unless there is no reason to. */
function logInLine(what: string, id: number, why: string, n: number): void {
  if (why) log(what, id, `${why}, ${n} in line`);
}

// Each thread runs this same file: it blocks until there is a client, serves
// it, and again.
if (isMainThread) await main();
else for (;;) serve(accept());
