// SPDX-License-Identifier: MIT
/**
 * An event loop per core: each has its own listening socket on the same port,
 * and the kernel spreads the clients.
 *
 *   node reuseport.mts
 *   nc 127.0.0.1 9999    in several terminals: the log shows which loop has got
 *                        each client
 */

import { once } from "node:events";
import { writeSync } from "node:fs";
import * as net from "node:net";
import { availableParallelism } from "node:os";
import { URL } from "node:url";
import {
  isMainThread,
  parentPort,
  Worker,
  workerData,
} from "node:worker_threads";

const HOST = "127.0.0.1";
const PORT = 9999;
const WORKERS = availableParallelism();

/**
 * The main thread: starts the loops and prints their counts. It has no socket.
 */
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
  heartbeat("loop", 5, () => loops.counts());
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

/** The loops of a process; each runs `script`. */
class Loops {
  #script: string;
  #port: number;
  #started = 0;
  #loops = new Map<Worker, { name: string; accepted: Int32Array }>();

  constructor(script: string, port: number) {
    this.#script = script;
    this.#port = port;
  }

  /** Starts one more, and waits until it runs. */
  start(): Promise<void> {
    const settings = () => {
      const name = `loop-${++this.#started}`;
      const accepted = new Int32Array(new SharedArrayBuffer(4));
      return { ...threadSettings(name), port: this.#port, accepted };
    };
    return keepWorker(this.#script, settings, (worker, data) => {
      this.#loops.set(worker, data);
      return () => this.#loops.delete(worker);
    });
  }

  /** Has all of them listen, and waits until they do. */
  async listen(): Promise<void> {
    for (const worker of this.#loops.keys()) {
      const listening = new Promise((resolve) =>
        worker.once("message", resolve)
      );
      worker.postMessage("listen");
      await listening;
    }
  }

  /** How many clients each has accepted. */
  counts(): string[] {
    return [...this.#loops.values()].map(({ name, accepted }) =>
      `${name} accepted ${accepted[0]}`
    );
  }
}

/** In the thread: waits until it is to listen, and says when it does. */
async function listenAsLoop(
  bind: () => Server | Promise<Server>,
): Promise<Server> {
  const told = new Promise((resolve) => parentPort!.once("message", resolve));
  parentPort!.postMessage("runs");
  await told;
  const server = await bind();
  parentPort!.postMessage("listens");
  return server;
}

/** Binds and listens, without saying so. */
function bind(host: string, port: number): Promise<Server> {
  return bindReusePort({ host, port, reusePort: false });
}

/** As `bind`, for several sockets that share a port: see socket(7). */
async function bindReusePort({ host, port, reusePort = true }: {
  host: string;
  port: number;
  reusePort?: boolean;
}): Promise<Server> {
  // With allowHalfOpen, a client that shuts down its side still gets replies.
  const listener = net.createServer({ allowHalfOpen: true, noDelay: true });
  const server = new Server(listener);
  await once(listener.listen({ host, port, reusePort }), "listening");
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

  /** Stops listening. */
  close(): void {
    this.#listener.close();
  }
}

/** A connected socket. A failure reads as the end of the stream. */
class Connection {
  readonly id = nextNumber();
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
      else log("recv", this.id, shown(value));
      return value ?? new Uint8Array(0);
    } catch (error) {
      this.#reason ||= `${error}`;
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

/** What a thread is told. */
interface ThreadSettings {
  readonly name: string;
  readonly numbers: Int32Array;
}

/** For a thread with this name. */
function threadSettings(name: string): ThreadSettings {
  return { name, numbers };
}

// Each thread runs this same file.
if (isMainThread) await main();
else await loop();
