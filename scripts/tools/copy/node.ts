// SPDX-License-Identifier: MIT
/** The sockets of a copy for Node. */

import { once } from "node:events";
import * as net from "node:net";
import { log, shown } from "./program.ts";

let connections = 0;

/** Binds and listens: socket(2), bind(2) and listen(2). */
export async function listen(host: string, port: number): Promise<Server> {
  // With allowHalfOpen, a client that shuts down its side still gets replies.
  const listener = net.createServer({ allowHalfOpen: true, noDelay: true });
  const server = new Server(listener);
  await once(listener.listen({ host, port }), "listening");
  console.log(`listening on ${host}:${server.port}`);
  return server;
}

/** Binds and listens, without saying so. */
export function bind(host: string, port: number): Promise<Server> {
  return bindReusePort({ host, port, reusePort: false });
}

/** As `bind`, for several sockets that share a port: see socket(7). */
export async function bindReusePort({ host, port, reusePort = true }: {
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
export class Server {
  #next: Connection | null = null; // tag: selector
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

  /** Stops listening. */
  close(): void {
    this.#listener.close();
  }
}

/** A connected socket. A failure reads as the end of the stream. */
export class Connection {
  readonly id = ++connections;
  #socket: net.Socket;
  #chunks: AsyncIterator<Uint8Array>;
  /** Why it ended. */
  #reason = "";
  #received: Uint8Array | null = null; // tag: selector
  #sent = Promise.resolve(); // tag: selector

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
      else log("recv", this.id, shown(value)); // tag: logs
      return value ?? new Uint8Array(0);
    } catch (error) {
      this.#reason ||= `${error}`;
      return new Uint8Array(0);
    }
  }

  /** Sends all of `data`, and waits until the kernel has taken it. */
  async send(data: Uint8Array): Promise<void> {
    log("send", this.id, data.length); // tag: logs
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
    if (data && data.length > 0) log("recv", this.id, shown(data));
    return data;
  }

  /** Sends all of `data`; `false` if some of it may be on its way still. */
  sendNow(data: Uint8Array): boolean {
    log("send", this.id, data.length);
    this.#sent = this.send(data);
    return false;
  }

  /** Resolves when the kernel has taken all. */
  writable(): Promise<void> {
    return this.#sent;
  }

  /** Whether it has failed. */
  get isBroken(): boolean {
    return this.#reason !== "" && this.#reason !== "by the client";
  }

  /** Closes the connection. See close(2). */
  close(): void {
    log("close", this.id, this.#reason);
    this.#socket.end();
  }

  /**
   * Closes the connection, losing nothing that was sent. With bytes unread it
   * would be reset: for a second, what still comes is dropped.
   */
  async closeFirst(reason = "by the server"): Promise<void> {
    log("close", this.id, this.#reason || reason);
    this.#socket.end();
    setTimeout(() => this.#socket.destroy(), 1000).unref();
    try {
      while (!(await this.#chunks.next()).done);
    } catch {
      // It has failed, and is closed.
    }
  }
}
