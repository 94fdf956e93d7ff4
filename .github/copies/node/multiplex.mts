// SPDX-License-Identifier: MIT
/**
 * I/O multiplexing by the runtime's event loop: one thread, one loop, no task
 * or thread per client.
 *
 *   node multiplex.mts
 *   nc 127.0.0.1 9999   in several terminals: one thread serves them all
 */

import { setImmediate } from "node:timers";
import { once } from "node:events";
import * as net from "node:net";

const HOST = "127.0.0.1";
const PORT = 9999;

// ---------------------------------------- what it stands on

/** Prints what a wait has found: figures with their meanings, and a detail. */
function logWait(call: string, figures: object, detail = () => ""): void {
  const words = Object.entries(figures).map(([name, n]) => `${n} ${name}`);
  console.log([call, words.join(", "), detail()].filter(Boolean).join(" "));
}

/** Binds and listens: socket(2), bind(2) and listen(2). */
async function listen(host: string, port: number): Promise<Server> {
  // With allowHalfOpen, a client that shuts down its side still gets replies.
  const listener = net.createServer({ allowHalfOpen: true, noDelay: true });
  const server = new Server(listener);
  await once(listener.listen({ host, port }), "listening");
  console.log(
    `listening on ${host}:${(listener.address() as net.AddressInfo).port}`,
  );
  return server;
}

/** A listening socket. */
class Server {
  #accepted: Connection[] = [];

  constructor(listener: net.Server) {
    listener.on("connection", (socket) => {
      this.#accepted.push(new Connection(socket));
      changed();
    });
  }

  get readable(): boolean {
    return this.#accepted.length > 0;
  }

  /** The next connection, or `null`: accept(2) with O_NONBLOCK. */
  acceptNow(): Connection | null {
    return this.#accepted.shift() ?? null;
  }
}

/** A connected socket. A failure reads as the end of the stream. */
class Connection {
  static #count = 0;
  readonly id = ++Connection.#count;
  #socket: net.Socket;
  #received: Uint8Array | null = null;
  #reason = "";

  constructor(socket: net.Socket) {
    this.#socket = socket;
    socket.on("readable", () => this.#look());
    socket.on("drain", changed);
    socket.on("end", () => this.#ended("by the client"));
    socket.on("error", (error) => this.#ended(`${error}`));
    const { remoteAddress, remotePort } = socket;
    console.log(`accept #${this.id}`, `${remoteAddress}:${remotePort}`);
  }

  get readable(): boolean {
    return this.#received !== null || this.#reason !== "";
  }

  get writable(): boolean {
    return !this.#socket.writableNeedDrain;
  }

  /** Takes what has come, unless there is something already. */
  #look(): void {
    this.#received ??= this.#socket.read();
    changed();
  }

  #ended(reason: string): void {
    this.#reason = reason;
    changed();
  }

  /** Bytes, or `null`; no bytes are the end. recv(2) with O_NONBLOCK. */
  recvNow(): Uint8Array | null {
    const data = this.#received;
    this.#received = null;
    this.#look();
    if (data) console.log(`recv #${this.id}`, data.length);
    return data ?? (this.#reason ? new Uint8Array(0) : null);
  }

  /** Sends all of `data`; `false` if some of it has to wait for the client. */
  sendNow(data: Uint8Array): boolean {
    console.log(`send #${this.id}`, data.length);
    return this.#socket.write(data);
  }

  /** Closes the connection. See close(2). */
  close(): void {
    console.log(`close #${this.id}`, this.#reason);
    this.#socket.end();
  }
}

/** What to wait for: bytes or a client, and room for bytes. */
const READ = 1, WRITE = 4;

/** What can be waited for. */
interface Source {
  readonly readable: boolean;
  readonly writable?: boolean;
}

let change = Promise.withResolvers<void>();

/** Something has happened: the selector looks again. */
function changed(): void {
  change.resolve();
  change = Promise.withResolvers();
}

/** A set of sources; what is not dealt with is ready again at once. */
class Selector<D> {
  #watches = new Map<Source, { events: number; data: D }>();

  get size(): number {
    return this.#watches.size;
  }

  /** Watches a source; `data` comes back whenever it is ready. */
  register(source: Source, events: number, data: D): void {
    this.#watches.set(source, { events, data });
  }

  modify(source: Source, events: number): void {
    this.#watches.get(source)!.events = events;
  }

  unregister(source: Source): void {
    this.#watches.delete(source);
  }

  /** Waits until a source is ready, and returns the data of all that are. */
  async select(): Promise<D[]> {
    for (;;) {
      // The runtime tells of all that its own wait for events has found.
      await new Promise((resolve) => setImmediate(resolve));
      const found = [...this.#watches].filter(([source, { events }]) =>
        events === READ ? source.readable : source.writable
      );
      if (found.length > 0) return found.map(([, { data }]) => data);
      await change.promise;
    }
  }
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
