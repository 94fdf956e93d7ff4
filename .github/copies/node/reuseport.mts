// SPDX-License-Identifier: MIT
/**
 * An event loop per core: each has its own listening socket on the same port,
 * and the kernel spreads the clients.
 *
 *   node reuseport.mts
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
import { on, once } from "node:events";
import * as net from "node:net";
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
  const probe = await bind(HOST, PORT), { port } = probe;
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
function bind(host: string, port: number): Promise<Server> {
  return bindReusePort({ host, port, reusePort: false });
}

/** Binds and listens; several sockets may share the port: see socket(7). */
async function bindReusePort(
  address: { host: string; port: number; reusePort?: boolean },
): Promise<Server> {
  const server = new Server();
  const shared = { reusePort: true, ...address };
  await once(server.listener.listen(shared), "listening");
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

  close(): void {
    this.listener.close();
  }
}

/** A connected socket. A failure reads as the end of the stream. */
class Connection {
  readonly id = nextNumber();
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
      if (value) log("recv", this.id, value.length);
      return value ?? new Uint8Array(0);
    } catch {
      return new Uint8Array(0);
    }
  }

  /** Sends all of `data`, and waits until the kernel has taken it. */
  async send(data: Uint8Array): Promise<void> {
    log("send", this.id, data.length);
    await new Promise((resolve) => this.#socket.write(data, resolve));
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
