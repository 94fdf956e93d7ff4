// SPDX-License-Identifier: MIT
/** The sockets of a copy for Bun, which calls back when something happens. */

import process from "node:process";
import { log } from "./program.ts";
import { nextNumber } from "./worker.ts"; // only reuseport

/** Binds and listens: socket(2), bind(2) and listen(2). */
export function listen(hostname: string, port: number): Server {
  const server = new Server({ hostname, port });
  console.log(`listening on ${hostname}:${server.listener.port}`);
  return server;
}

/** Binds and listens, without saying so. */
export function bind(hostname: string, port: number): Server {
  return new Server({ hostname, port });
}

/** Binds and listens; several sockets may share the port: see socket(7). */
export function bindReusePort({ host, port }: { host: string; port: number }): Server {
  // Bun's types don't know this option.
  const address = { hostname: host, port, reusePort: true };
  return new Server(address);
}

/** A listening socket. */
export class Server {
  #queue: Connection[] = [];
  #next = Promise.withResolvers<void>();
  readonly listener: Bun.TCPSocketListener<Connection>;

  constructor(address: { hostname: string; port: number }) {
    // The same functions serve all sockets; `data` is a socket's own.
    const socket: Bun.SocketHandler<Connection> = {
      open: (socket) => {
        this.#queue.push(socket.data = new Connection(socket));
        this.#next.resolve();
      },
      data: ({ data: connection }, data) => connection.arrived(data),
      drain: ({ data: connection }) => connection.wake(),
      end: ({ data: connection }) => connection.wake("by the client"),
      close: ({ data: connection }) => connection.wake("reset"),
    };
    // With allowHalfOpen, a client that shuts down its side still gets replies.
    this.listener = Bun.listen({ ...address, allowHalfOpen: true, socket });
  }

  /** The port that was bound, also when 0 was asked for. */
  get port(): number { // only reuseport
    return this.listener.port; // only reuseport
  } // only reuseport

  /** Waits for the next connection. See accept(2). */
  async accept(): Promise<Connection> {
    if (!this.#queue[0]) await (this.#next = Promise.withResolvers()).promise;
    return this.#queue.shift()!;
  }

  close(): void {
    this.listener.stop();
    process.exit(); // only single
  }
}

/** A connected socket. A failure reads as the end of the stream. */
export class Connection {
  static #count = 0; // not reuseport
  readonly id = ++Connection.#count; // not reuseport
  readonly id = nextNumber(); // only reuseport
  #socket: Bun.Socket<Connection>;
  #unread: Uint8Array[] = [];
  #reason = "";
  #change = Promise.withResolvers<void>();

  constructor(socket: Bun.Socket<Connection>) {
    this.#socket = socket;
    const { remoteAddress, remotePort } = socket;
    log("accept", this.id, `${remoteAddress}:${remotePort}`);
  }

  arrived(data: Uint8Array): void {
    // With eight pieces unread, the client has to wait.
    if (this.#unread.push(data) === 8) this.#socket.pause();
    this.wake();
  }

  /** Something has happened: `recv` and `send` look again. */
  wake(reason = this.#reason): void {
    this.#reason = reason;
    this.#change.resolve();
    this.#change = Promise.withResolvers();
  }

  /** Waits for bytes; an empty array is the end of the stream. See recv(2). */
  async recv(): Promise<Uint8Array> {
    while (!this.#unread[0] && !this.#reason) await this.#change.promise;
    if (this.#unread.length === 8) this.#socket.resume();
    const data = this.#unread.shift();
    if (data) log("recv", this.id, data.length); // not threads pool
    return data ?? new Uint8Array(0);
  }

  /** Sends all of `data`: each write takes a part, or -1 if it is closed. */
  async send(data: Uint8Array): Promise<void> {
    log("send", this.id, data.length); // not threads pool
    this.#reason = "after one exchange"; // only single
    for (;;) {
      const sent = this.#socket.write(data);
      if (sent < 0 || sent === data.length) return;
      data = data.subarray(sent);
      await this.#change.promise;
    }
  }

  /** Closes the connection. See close(2). */
  close(): void {
    log("close", this.id, this.#reason);
    this.#socket.end();
  }
}
