// SPDX-License-Identifier: MIT
/**
 * One connection, one exchange: the eight steps of a TCP server, once each,
 * and the process ends.
 *
 *   node single.mts
 *   nc 127.0.0.1 9999   in another terminal: type a line
 */

import { once } from "node:events";
import * as net from "node:net";

const HOST = "127.0.0.1";
const PORT = 9999;

async function main(): Promise<void> {
  // Steps 1 to 3: create, bind, listen. Clients may connect from now on.
  const server = await listen(HOST, PORT);
  // Step 4: accept.
  const connection = await server.accept();
  // Step 5: recv. No bytes are the end of the stream: the client has left
  // without a message.
  const data = await connection.recv();
  // Step 6: send.
  if (data.length > 0) await connection.send(data);
  // Steps 7 and 8: close the connection, and the listening socket.
  connection.close("after one exchange");
  server.close();
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

  /** Stops listening. */
  close(): void {
    this.#listener.close();
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
    console.log(`accept #${this.id}`, `${remoteAddress}:${remotePort}`);
  }

  /** Waits for bytes; an empty array is the end of the stream. See recv(2). */
  async recv(): Promise<Uint8Array> {
    try {
      const { value, done } = await this.#chunks.next();
      if (done) this.#reason ||= "by the client";
      else console.log(`recv #${this.id}`, shown(value));
      return value ?? new Uint8Array(0);
    } catch (error) {
      this.#reason ||= `${error}`;
      return new Uint8Array(0);
    }
  }

  /** Sends all of `data`, and waits until the kernel has taken it. */
  async send(data: Uint8Array): Promise<void> {
    console.log(`send #${this.id}`, data.length);
    await new Promise((resolve) => this.#socket.write(data, resolve));
  }

  /**
   * Closes the connection, losing nothing that was sent. With bytes unread it
   * would be reset: for a second, what still comes is dropped.
   */
  async close(reason = "by the server"): Promise<void> {
    console.log(`close #${this.id}`, this.#reason || reason);
    this.#socket.end();
    setTimeout(() => this.#socket.destroy(), 1000).unref();
    try {
      while (!(await this.#chunks.next()).done);
    } catch {
      // It has failed, and is closed.
    }
  }
}

/** Bytes for the log: how many, and the first 60 of them as text. */
function shown(data: Uint8Array): string {
  const text = new TextDecoder().decode(data.subarray(0, 60));
  return `${data.length} ${JSON.stringify(text)}`;
}

await main();
