// SPDX-License-Identifier: MIT
/**
 * I/O multiplexing by the runtime's event loop: one thread, one loop, no task
 * or thread per client.
 *
 *   deno run -A multiplex.ts
 *   nc 127.0.0.1 9999   in several terminals: one thread serves them all
 */

import { setImmediate } from "node:timers";

const HOST = "127.0.0.1";
const PORT = 9999;

// ---------------------------------------- what it stands on

/** Prints what a wait has found: figures with their meanings, and a detail. */
function logWait(call: string, figures: object, detail = () => ""): void {
  const words = Object.entries(figures).map(([name, n]) => `${n} ${name}`);
  console.log(call, words.join(", "), detail());
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
        console.log("error accept:", error);
      }
    }
  }

  #client: Connection | null = null;

  /** Resolves when `acceptNow` has a client. */
  async readable(): Promise<void> {
    this.#client ??= await this.accept();
  }

  /** The next connection, or `null`: accept(2) with O_NONBLOCK. */
  acceptNow(): Connection | null {
    const client = this.#client;
    this.#client = null;
    return client;
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
      return this.#buffer.subarray(0, size);
    } catch (error) {
      this.#reason = `${error}`;
      return new Uint8Array(0);
    }
  }

  /** Sends all of `data`: send(2) in a loop, as a call may take only a part. */
  async send(data: Uint8Array): Promise<void> {
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

  #received: Uint8Array | null = null;
  #sent = Promise.resolve();

  /** Resolves when `recvNow` has something. */
  async readable(): Promise<void> {
    this.#received ??= await this.recv();
  }

  /** The bytes that are there, or `null`: recv(2) with O_NONBLOCK. */
  recvNow(): Uint8Array | null {
    const data = this.#received;
    this.#received = null;
    if (data && data.length > 0) console.log(`recv #${this.id}`, data.length);
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
}

/** What to wait for: bytes or a client, and room for bytes. */
const READ = 1, WRITE = 4;

/** A set of sources; what is not dealt with is ready again at once. */
class Selector<D> {
  #watches = new Map<Source, { events: number; data: D }>();
  /** Not known to be ready: new, or handed over by the last `select`. */
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

  modify(source: Source, events: number): void {
    this.#watches.get(source)!.events = events;
  }

  unregister(source: Source): void {
    this.#watches.delete(source);
  }

  /** Waits until a source is ready, and returns the data of all that are. */
  async select(): Promise<D[]> {
    for (const source of this.#unknown) this.#watch(source);
    if (this.#ready.length === 0) {
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    // The runtime tells of all that its own wait for events has found.
    await new Promise((resolve) => setImmediate(resolve));
    this.#unknown = this.#ready;
    this.#ready = [];
    return this.#unknown.map((source) => this.#watches.get(source)!.data);
  }

  async #watch(source: Source): Promise<void> {
    const watch = this.#watches.get(source);
    if (!watch) return;
    await (watch.events === READ ? source.readable() : source.writable!());
    this.#ready.push(source);
    this.#wake();
  }
}

/** What can be waited for. */
interface Source {
  readable(): Promise<void>;
  writable?(): Promise<void>;
}

// ---------------------------------------- the server

/**
 * Waits for the listening socket, which is the `null` among the connections,
 * and for all of these.
 */
const selector = new Selector<Connection | null>();

async function main(): Promise<void> {
  // create, bind, listen
  const server = listen(HOST, PORT);
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
