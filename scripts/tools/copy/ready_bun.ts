// SPDX-License-Identifier: MIT
/** The sockets of multiplex.ts in a copy for Bun, which calls back when something happens. */

import { changed } from "./selector.ts";

/** Binds and listens: socket(2), bind(2) and listen(2). */
export function listen(hostname: string, port: number): Server {
  const server = new Server(hostname, port);
  console.log(`listening on ${hostname}:${server.port}`);
  return server;
}

/** A listening socket. */
export class Server {
  readonly port: number;
  #accepted: Connection[] = [];

  constructor(hostname: string, port: number) {
    // The same functions serve all sockets; `data` is a socket's own.
    const socket: Bun.SocketHandler<Connection> = {
      open: (socket) => {
        this.#accepted.push(socket.data = new Connection(socket));
        changed();
      },
      data: ({ data: connection }, data) => connection.arrived(data),
      drain: ({ data: connection }) => connection.flush(),
      end: ({ data: connection }) => connection.ended("by the client"),
      close: ({ data: connection }) => connection.ended("reset"),
    };
    // With allowHalfOpen, a client that shuts down its side still gets replies.
    this.port = Bun.listen({ hostname, port, allowHalfOpen: true, socket }).port;
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
  #socket: Bun.Socket<Connection>;
  #unread: Uint8Array[] = [];
  #unsent: Uint8Array = new Uint8Array(0);
  #reason = "";

  constructor(socket: Bun.Socket<Connection>) {
    this.#socket = socket;
    const { remoteAddress, remotePort } = socket;
    console.log(`accept #${this.id}`, `${remoteAddress}:${remotePort}`);
  }

  get readable(): boolean {
    return this.#unread.length > 0 || this.#reason !== "";
  }

  get writable(): boolean {
    return this.#unsent.length === 0 || this.#reason === "reset";
  }

  arrived(data: Uint8Array): void {
    // With eight pieces unread, the client has to wait.
    if (this.#unread.push(data) === 8) this.#socket.pause();
    changed();
  }

  ended(reason: string): void {
    this.#reason = reason;
    changed();
  }

  /** Bytes, or `null`; no bytes are the end. recv(2) with O_NONBLOCK. */
  recvNow(): Uint8Array | null {
    if (this.#unread.length === 8) this.#socket.resume();
    const data = this.#unread.shift();
    if (data) console.log(`recv #${this.id}`, data.length);
    return data ?? (this.#reason ? new Uint8Array(0) : null);
  }

  /** Sends all of `data`; `false` if some of it has to wait for the client. */
  sendNow(data: Uint8Array): boolean {
    console.log(`send #${this.id}`, data.length);
    this.#unsent = data;
    this.flush();
    return this.writable;
  }

  /** Sends what is left. What it does not take, Bun does not keep. */
  flush(): void {
    const sent = this.#socket.write(this.#unsent);
    this.#unsent = this.#unsent.subarray(Math.max(sent, 0));
    changed();
  }

  /** Closes the connection. See close(2). */
  close(): void {
    console.log(`close #${this.id}`, this.#reason);
    this.#socket.end();
  }
}
