// SPDX-License-Identifier: MIT
/** The sockets of a copy for Deno, whose calls can be awaited. */

import { log, shown } from "./program.ts";

let connections = 0;

/** Binds and listens: socket(2), bind(2) and listen(2). */
export function listen(hostname: string, port: number): Server {
  const listener = Deno.listen({ hostname, port });
  console.log(`listening on ${hostname}:${listener.addr.port}`);
  return new Server(listener);
}

/** A listening socket. */
export class Server {
  #next: Connection | null = null; // tag: selector
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
        // The client has reset it already, or no descriptor is left.
        log("error", 0, `accept: ${error}`);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
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
  #conn: Deno.TcpConn;
  #buffer = new Uint8Array(16_384);
  /** Why it ended. */
  #reason = "";
  #received: Uint8Array | null = null; // tag: selector
  #sent = Promise.resolve(); // tag: selector

  constructor(conn: Deno.TcpConn) {
    this.#conn = conn;
    const { hostname, port } = conn.remoteAddr;
    log("accept", this.id, `${hostname}:${port}`);
    try {
      conn.setNoDelay();
    } catch {
      // The client has reset it, as recv will find.
    }
  }

  /** Waits for bytes; an empty array is the end of the stream. See recv(2). */
  async recv(): Promise<Uint8Array> {
    try {
      const size = await this.#conn.read(this.#buffer) ?? 0;
      const data = this.#buffer.subarray(0, size);
      if (size === 0) this.#reason ||= "by the client";
      else log("recv", this.id, shown(data)); // tag: logs
      return data;
    } catch (error) {
      this.#reason ||= `${error}`;
      return new Uint8Array(0);
    }
  }

  /** Sends all of `data`: send(2) in a loop. */
  async send(data: Uint8Array): Promise<void> {
    log("send", this.id, data.length); // tag: logs
    try {
      // One write may take only a part of it.
      for (let sent = 0; sent < data.length;) {
        sent += await this.#conn.write(data.subarray(sent));
      }
    } catch (error) {
      this.#reason ||= `${error}`;
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
    this.#conn.close();
  }

  /**
   * Closes the connection, losing nothing that was sent. With bytes unread it
   * would be reset: for a second, what still comes is dropped.
   */
  async closeFirst(reason = "by the server"): Promise<void> {
    log("close", this.id, this.#reason || reason);
    const timer = setTimeout(() => this.#conn.close(), 1000);
    try {
      await this.#conn.closeWrite();
      while (await this.#conn.read(this.#buffer) !== null);
      clearTimeout(timer);
      this.#conn.close();
    } catch {
      // It is closed, or has failed: then the timer closes it.
    }
  }
}
