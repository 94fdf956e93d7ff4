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

/** Binds and listens, without saying so. */
export function bind(hostname: string, port: number): Server {
  return new Server({ hostname, port });
}

/** As `bind`, for several sockets that share a port: see socket(7). */
export function bindReusePort({ host, port }: { host: string; port: number }): Server {
  // Bun's types don't know this option.
  const shared = { hostname: host, port, reusePort: true };
  return new Server(shared);
}

/** A listening socket. */
export class Server {
  #next: Connection | null = null; // tag: selector
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
  #change = Promise.withResolvers<void>();
  #received: Uint8Array | null = null; // tag: selector
  #sent = Promise.resolve(); // tag: selector

  constructor(socket: Bun.Socket<Connection>) {
    this.#socket = socket;
    const { remoteAddress, remotePort } = socket;
    log("accept", this.id, `${remoteAddress}:${remotePort}`);
  }

  /** Has `recv` and `send` look again. */
  wake(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers();
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
    while (this.#unread.length === 0 && !this.#reason) await this.#change.promise;
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
      await this.#change.promise;
    }
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
  closeFirst(reason = "by the server"): void {
    log("close", this.id, this.#reason || reason);
    this.arrived = () => {};
    this.#socket.resume();
    this.#socket.shutdown();
    setTimeout(() => this.#socket.end(), 1000).unref();
  }
}
