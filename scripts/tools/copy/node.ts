// SPDX-License-Identifier: MIT
/** The sockets of a copy for Node. */

import { on, once } from "node:events";
import * as net from "node:net";
import process from "node:process";
import { log } from "./program.ts";
import { nextNumber } from "./worker.ts"; // only reuseport

/** Binds and listens: socket(2), bind(2) and listen(2). */
export async function listen(host: string, port: number): Promise<Server> {
  const server = new Server();
  await once(server.listener.listen({ host, port }), "listening");
  console.log(`listening on ${host}:${server.port}`);
  return server;
}

/** Binds and listens, without saying so. */
export function bind(host: string, port: number): Promise<Server> {
  return bindReusePort({ host, port, reusePort: false });
}

/** Binds and listens; several sockets may share the port: see socket(7). */
export async function bindReusePort(address: { host: string; port: number; reusePort?: boolean }): Promise<Server> {
  const server = new Server();
  const shared = { reusePort: true, ...address };
  await once(server.listener.listen(shared), "listening");
  return server;
}

/** A listening socket. */
export class Server {
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
    process.exit(); // only single
  }
}

/** A connected socket. A failure reads as the end of the stream. */
export class Connection {
  static #count = 0; // not reuseport
  readonly id = ++Connection.#count; // not reuseport
  readonly id = nextNumber(); // only reuseport
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
      if (value) log("recv", this.id, value.length); // not threads pool
      return value ?? new Uint8Array(0);
    } catch {
      return new Uint8Array(0);
    }
  }

  /** Sends all of `data`, and waits until the kernel has taken it. */
  async send(data: Uint8Array): Promise<void> {
    log("send", this.id, data.length); // not threads pool
    this.#reason = "after one exchange"; // only single
    await new Promise((resolve) => this.#socket.write(data, resolve));
  }

  /** Closes the connection. See close(2). */
  close(): void {
    log("close", this.id, this.#reason);
    this.#socket.end();
  }
}
