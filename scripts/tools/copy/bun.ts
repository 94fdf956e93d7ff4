// SPDX-License-Identifier: MIT
/** The sockets of a copy for Bun, which calls back when something happens. */

import { log, shown } from "./program.ts";

let connections = 0;

/** Binds and listens: socket(2), bind(2) and listen(2). */
export function listen(hostname: string, port: number): Server {
  const server = new Server({ hostname, port });
  console.log(`listening on ${hostname}:${server.listener.port}`);
  return server;
}

/** As `listen`, for several sockets that share a port: see socket(7). */
export function listenReusePort(hostname: string, port: number): Server {
  // Bun's types don't know this option.
  const shared = { hostname, port, reusePort: true };
  return new Server(shared);
}

/** A listening socket. */
export class Server {
  #accepted: Connection[] = [];
  #wake = () => {};
  readonly listener: Bun.TCPSocketListener<Connection>;

  constructor(address: { hostname: string; port: number }) {
    // The same functions serve all sockets; `data` is a socket's own.
    const socket: Bun.SocketHandler<Connection> = {
      open: (socket) => {
        this.#accepted.push(socket.data = new Connection(socket));
        this.#wake();
      },
      data: (socket, data) => socket.data.arrived(data),
      drain: (socket) => socket.data.wake(),
      end: (socket) => socket.data.ended("by the client"),
      error: (socket, error) => socket.data.ended(`${error}`),
      close: (socket) => socket.data.ended("reset by the client"),
    };
    // With allowHalfOpen, a client that shuts down its side still gets replies.
    this.listener = Bun.listen({ ...address, allowHalfOpen: true, socket });
  }

  /** The port that was bound, also when 0 was asked for. */
  get port(): number {
    return this.listener.port;
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
    this.listener.stop();
  }
}

/** A connected socket. A failure reads as the end of the stream. */
export class Connection {
  readonly id = ++connections;
  #socket: Bun.Socket<Connection>;
  #unread: Uint8Array[] = [];
  /** Why it ended. */
  #reason = "";
  /** Has `recv` or `send` look again. */
  wake = () => {};

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

  ended(reason: string): void {
    this.#reason ||= reason;
    this.wake();
  }

  /** Waits for bytes; an empty array is the end of the stream. See recv(2). */
  async recv(): Promise<Uint8Array> {
    while (this.#unread.length === 0 && !this.#reason) await this.#change();
    if (this.#unread.length === 8) this.#socket.resume();
    const data = this.#unread.shift() ?? new Uint8Array(0);
    if (data.length > 0) log("recv", this.id, shown(data)); // tag: logs
    return data;
  }

  /** Sends all of `data`: send(2) in a loop. */
  async send(data: Uint8Array): Promise<void> {
    log("send", this.id, data.length); // tag: logs
    for (;;) {
      // As much as the kernel takes; -1 if the socket is closed.
      const sent = this.#socket.write(data);
      if (sent < 0 || sent === data.length) return;
      data = data.subarray(sent);
      await this.#change();
    }
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.wake = resolve);
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
  closeFirst(): void {
    log("close", this.id, this.#reason || "by the server");
    this.arrived = () => {};
    this.#socket.resume();
    this.#socket.shutdown();
    setTimeout(() => this.#socket.end(), 1000).unref();
  }
}
