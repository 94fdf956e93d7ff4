// SPDX-License-Identifier: MIT
/** The sockets of multiplex.ts in a copy for Node, which emits an event when something happens. */

import { once } from "node:events";
import * as net from "node:net";
import { changed } from "./selector.ts";

/** Binds and listens: socket(2), bind(2) and listen(2). */
export async function listen(host: string, port: number): Promise<Server> {
  // With allowHalfOpen, a client that shuts down its side still gets replies.
  const listener = net.createServer({ allowHalfOpen: true, noDelay: true });
  const server = new Server(listener);
  await once(listener.listen({ host, port }), "listening");
  console.log(`listening on ${host}:${(listener.address() as net.AddressInfo).port}`);
  return server;
}

/** A listening socket. */
export class Server {
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
export class Connection {
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
