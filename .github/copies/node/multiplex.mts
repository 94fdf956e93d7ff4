// SPDX-License-Identifier: MIT
/**
 * I/O multiplexing by the runtime's event loop: one thread, one loop, no task
 * or thread per client.
 *
 *   node multiplex.mts
 *   nc 127.0.0.1 9999    in several terminals: one thread serves them all
 */

import { once } from "node:events";
import * as net from "node:net";
import { setImmediate } from "node:timers";

const HOST = "127.0.0.1";
const PORT = 9999;

// ---------------------------------------- what it stands on

const READ = 1, WRITE = 4;

/** What can be waited for. */
interface Source {
  readable(): Promise<void>;
  writable?(): Promise<void>;
}

/** A set of sources; what is not dealt with is ready again at once. */
class Selector<D> {
  #watches = new Map<Source, { events: number; data: D }>();
  /** Handed over, or new: it is not known whether they are ready. */
  #unknown: Source[] = [];
  #ready: Source[] = [];
  #wake = () => {};

  get size(): number {
    return this.#watches.size;
  }

  /** Watches a source; `data` comes back whenever it is ready. */
  register(source: Source, events: number, data: D): void {
    this.#watches.set(source, { events, data });
    this.#unknown.push(source);
  }

  /** Watches a source for other events. */
  modify(source: Source, events: number): void {
    this.#watches.get(source)!.events = events;
  }

  /** Watches a source no longer. */
  unregister(source: Source): void {
    this.#watches.delete(source);
  }

  /** Waits until a source is ready, and returns the data of all that are. */
  async select(): Promise<D[]> {
    for (const source of this.#unknown) this.#ask(source);
    while (this.#ready.length === 0) {
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    // The runtime tells of all that its own wait for events has found.
    await new Promise((resolve) => setImmediate(resolve));
    this.#unknown = this.#ready;
    this.#ready = [];
    return this.#unknown.map((source) => this.#watches.get(source)!.data);
  }

  async #ask(source: Source): Promise<void> {
    const watch = this.#watches.get(source);
    if (!watch) return;
    await (watch.events === READ ? source.readable() : source.writable!());
    this.#ready.push(source);
    this.#wake();
  }
}

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
  #next: Connection | null = null;
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
    listener.on("error", (error) => console.log("error", `accept: ${error}`));
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

  /** Resolves when `acceptNow` has a client. */
  async readable(): Promise<void> {
    this.#next ??= await this.accept();
  }

  /** The next connection, or `null`: accept(2) with O_NONBLOCK. */
  acceptNow(): Connection | null {
    const next = this.#next;
    this.#next = null;
    return next;
  }
}

/** A connected socket. A failure reads as the end of the stream. */
class Connection {
  readonly id = ++connections;
  #socket: net.Socket;
  #chunks: AsyncIterator<Uint8Array>;
  /** Why it ended. */
  #reason = "";
  #received: Uint8Array | null = null;
  #sent = Promise.resolve();

  constructor(socket: net.Socket) {
    this.#socket = socket;
    this.#chunks = socket.iterator({ destroyOnReturn: false });
    socket.on("error", (error) => this.#reason ||= `${error}`);
    const { remoteAddress, remotePort } = socket;
    console.log(`accept #${this.id}`, `${remoteAddress}:${remotePort}`);
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

  /** Resolves when `recvNow` has something. */
  async readable(): Promise<void> {
    this.#received ??= await this.recv();
  }

  /** The bytes that are there, or `null`: recv(2) with O_NONBLOCK. */
  recvNow(): Uint8Array | null {
    const data = this.#received;
    this.#received = null;
    if (data && data.length > 0) console.log(`recv #${this.id}`, shown(data));
    return data;
  }

  /** Sends all of `data`; `false` if some of it may be on its way still. */
  sendNow(data: Uint8Array): boolean {
    console.log(`send #${this.id}`, data.length);
    this.#sent = this.send(data);
    return false;
  }

  /** Resolves when the kernel has taken all. */
  writable(): Promise<void> {
    return this.#sent;
  }

  /** Closes the connection. See close(2). */
  close(): void {
    console.log(`close #${this.id}`, this.#reason);
    this.#socket.end();
  }
}

/** Bytes for the log: how many, and the first 60 of them as text. */
function shown(data: Uint8Array): string {
  const text = new TextDecoder().decode(data.subarray(0, 60));
  return `${data.length} ${JSON.stringify(text)}`;
}

/** Prints what a wait has found: figures with their meanings, and a detail. */
function logWait(
  event: string,
  figures: Record<string, number>,
  detail = () => "",
): void {
  const words = Object.entries(figures).map(([name, n]) => `${n} ${name}`);
  console.log(event, words.join(", "), detail());
}

// ---------------------------------------- the server

/**
 * Waits for the listening socket, which is the `null` among the connections,
 * and for all of these.
 */
const selector = new Selector<Connection | null>();

async function main(): Promise<void> {
  // create, bind, listen
  const server = await listen(HOST, PORT);
  selector.register(server, READ, null);

  for (;;) {
    const found = await selector.select();
    logWait(
      "wait",
      { ready: found.length, watched: selector.size },
      () => found.map(name).join(", "),
    );
    for (const connection of found) {
      if (connection) handle(connection);
      else accept(server.acceptNow());
    }
  }
}

function name(connection: Connection | null): string {
  return connection ? `#${connection.id}` : "listener";
}

function accept(connection: Connection | null): void {
  if (connection) selector.register(connection, READ, connection);
}

/**
 * A connection is ready: bytes have come, or the last reply is on its way to
 * the client.
 */
function handle(connection: Connection): void {
  selector.modify(connection, READ);
  const data = connection.recvNow();
  if (!data) return;
  if (data.length === 0) {
    selector.unregister(connection);
    return connection.close();
  }
  // If the kernel has not taken the whole reply, the client is slow: nothing
  // more is read from it until that is done.
  if (!connection.sendNow(data)) selector.modify(connection, WRITE);
}

await main();
