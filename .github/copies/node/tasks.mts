// SPDX-License-Identifier: MIT
/**
 * A task per connection: every client has its own `async` function, and all of
 * them share one thread.
 *
 *   node tasks.mts
 *   nc 127.0.0.1 9999   in two other terminals: both are served at once
 */

import { on, once } from "node:events";
import * as net from "node:net";

const HOST = "127.0.0.1";
const PORT = 9999;

async function main(): Promise<void> {
  // create, bind, listen
  const server = await listen(HOST, PORT);
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
    console.log(`accept #${this.id}`, `${remoteAddress}:${remotePort}`);
  }

  /** Waits for bytes; an empty array is the end of the stream. See recv(2). */
  async recv(): Promise<Uint8Array> {
    try {
      const { value } = await this.#chunks.next();
      if (value) console.log(`recv #${this.id}`, value.length);
      return value ?? new Uint8Array(0);
    } catch {
      return new Uint8Array(0);
    }
  }

  /** Sends all of `data`, and waits until the kernel has taken it. */
  async send(data: Uint8Array): Promise<void> {
    console.log(`send #${this.id}`, data.length);
    await new Promise((resolve) => this.#socket.write(data, resolve));
  }

  /** Closes the connection. See close(2). */
  close(): void {
    console.log(`close #${this.id}`, this.#reason);
    this.#socket.end();
  }
}

await main();
