// SPDX-License-Identifier: MIT
/**
 * An event loop per core: each has its own listening socket on the same port,
 * and the kernel spreads the clients.
 *
 *   bun reuseport.ts
 *   nc 127.0.0.1 9999   in several terminals: the log shows which loop has
 *        got each client
 */

import { availableParallelism } from "node:os";
import {
  isMainThread,
  parentPort,
  Worker,
  workerData,
} from "node:worker_threads";
import { once } from "node:events";
import { writeSync } from "node:fs";
import { URL } from "node:url";

const HOST = "127.0.0.1";
const PORT = 9999;
const WORKERS = availableParallelism();

/** The main thread: starts the loops. It accepts nothing. */
async function main(): Promise<void> {
  // Another server could share the port with this one. A socket without the
  // option, kept until the loops are about to listen, makes sure that none
  // does.
  const probe = bind(HOST, PORT), { port } = probe;
  const loops = new Loops(import.meta.url, port);
  for (let i = 1; i <= WORKERS; i++) {
    await loops.start();
  }
  probe.close();
  await loops.listen();
  ready(HOST, port);
}

/** The thread: an event loop, with a task for each client. */
async function loop(): Promise<void> {
  // create, bind, listen
  const server = await listenAsLoop(() =>
    bindReusePort({ host: HOST, port: workerData.port })
  );
  // Not awaited: each call starts a task, and the loop goes back to accept.
  for (;;) serve(await server.accept());
}

async function serve(connection: Connection): Promise<void> {
  for (;;) {
    const data = await connection.recv();
    if (data.length === 0) break;
    await connection.send(data);
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

/** Prints that the server is ready. */
function ready(host: string, port: number): void {
  console.log(`listening on ${host}:${port}`);
}

const numbers: Int32Array = workerData?.numbers ??
  new Int32Array(new SharedArrayBuffer(4));

/** Counts the connections of all threads, from 1. */
function nextNumber(): number {
  return Atomics.add(numbers, 0, 1) + 1;
}

/** Starts a thread that runs `script`, and waits for its first message. */
async function startWorker(script: string, data: object): Promise<Worker> {
  const worker = new Worker(new URL(script), { workerData: data });
  await once(worker, "message");
  return worker;
}

/** Binds and listens, without saying so. */
function bind(hostname: string, port: number): Server {
  return new Server({ hostname, port });
}

/** Binds and listens; several sockets may share the port: see socket(7). */
function bindReusePort({ host, port }: { host: string; port: number }): Server {
  // Bun's types don't know this option.
  const address = { hostname: host, port, reusePort: true };
  return new Server(address);
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

  /** The port that was bound, also when 0 was asked for. */
  get port(): number {
    return this.listener.port;
  }

  /** Waits for the next connection. See accept(2). */
  async accept(): Promise<Connection> {
    if (!this.#queue[0]) await (this.#next = Promise.withResolvers()).promise;
    return this.#queue.shift()!;
  }

  close(): void {
    this.listener.stop();
  }
}

/** A connected socket. A failure reads as the end of the stream. */
class Connection {
  readonly id = nextNumber();
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
    if (data) log("recv", this.id, data.length);
    return data ?? new Uint8Array(0);
  }

  /** Sends all of `data`: each write takes a part, or -1 if it is closed. */
  async send(data: Uint8Array): Promise<void> {
    log("send", this.id, data.length);
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

/** The loops of a process; each runs `script`. */
class Loops {
  #script: string;
  #port: number;
  #workers: Worker[] = [];

  constructor(script: string, port: number) {
    this.#script = script;
    this.#port = port;
  }

  /** Starts one more, and waits until it runs. */
  async start(): Promise<void> {
    const name = `loop-${this.#workers.length + 1}`;
    const data = { name, numbers, port: this.#port };
    this.#workers.push(await startWorker(this.#script, data));
  }

  /** Has all of them listen, and waits until they do. */
  async listen(): Promise<void> {
    for (const worker of this.#workers) {
      worker.postMessage("listen");
      await once(worker, "message");
    }
  }
}

/** In the thread: waits until it is to listen, and says when it does. */
async function listenAsLoop(
  open: () => Server | Promise<Server>,
): Promise<Server> {
  parentPort!.postMessage("runs");
  await once(parentPort!, "message");
  const server = await open();
  parentPort!.postMessage("listens");
  return server;
}

// Each thread runs this same file.
if (isMainThread) await main();
else await loop();
