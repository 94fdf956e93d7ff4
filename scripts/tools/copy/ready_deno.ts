// SPDX-License-Identifier: MIT
/** The sockets of multiplex.ts in a copy for Deno: a call is always under way, and what has come of it is kept. */

import { changed } from "./selector.ts";

/** Binds and listens: socket(2), bind(2) and listen(2). */
export function listen(hostname: string, port: number): Server {
  const listener = Deno.listen({ hostname, port });
  console.log(`listening on ${hostname}:${listener.addr.port}`);
  return new Server(listener);
}

/** A listening socket. */
export class Server {
  #listener: Deno.TcpListener;
  #accepted: Connection | null = null;

  constructor(listener: Deno.TcpListener) {
    this.#listener = listener;
    this.#accept();
  }

  async #accept(): Promise<void> {
    try {
      this.#accepted = new Connection(await this.#listener.accept());
      changed();
    } catch (error) {
      // The client has reset it already.
      if ((error as { code?: string }).code !== "ENOTCONN") throw error;
      this.#accept();
    }
  }

  get readable(): boolean {
    return this.#accepted !== null;
  }

  /** The next connection, or `null`: accept(2) with O_NONBLOCK. */
  acceptNow(): Connection | null {
    const connection = this.#accepted;
    this.#accepted = null;
    if (connection) this.#accept();
    return connection;
  }
}

/** A connected socket. A failure reads as the end of the stream. */
export class Connection {
  static #count = 0;
  readonly id = ++Connection.#count;
  #conn: Deno.TcpConn;
  #buffer = new Uint8Array(16_384);
  #received: Uint8Array | null = null;
  #reason = "by the client";
  writable = true;

  constructor(conn: Deno.TcpConn) {
    this.#conn = conn;
    conn.setNoDelay();
    const { hostname, port } = conn.remoteAddr;
    console.log(`accept #${this.id}`, `${hostname}:${port}`);
    this.#recv();
  }

  get readable(): boolean {
    return this.#received !== null;
  }

  async #recv(): Promise<void> {
    let size = 0;
    try {
      size = await this.#conn.read(this.#buffer) ?? 0;
    } catch (error) {
      this.#reason = `${error}`;
    }
    this.#received = this.#buffer.subarray(0, size);
    changed();
  }

  async #send(data: Uint8Array): Promise<void> {
    try {
      for (let sent = 0; sent < data.length;) {
        sent += await this.#conn.write(data.subarray(sent));
      }
    } catch {
      // It is reset: recv will say so.
    }
    this.writable = true;
    // Not before: what is sent may be in the buffer.
    this.#recv();
    changed();
  }

  /** Bytes, or `null`; no bytes are the end. recv(2) with O_NONBLOCK. */
  recvNow(): Uint8Array | null {
    const data = this.#received;
    this.#received = null;
    if (data && data.length > 0) console.log(`recv #${this.id}`, data.length);
    return data;
  }

  /** Sends all of `data`; `false` if some of it may be on its way still. */
  sendNow(data: Uint8Array): boolean {
    console.log(`send #${this.id}`, data.length);
    this.writable = false;
    this.#send(data);
    return false;
  }

  /** Closes the connection. See close(2). */
  close(): void {
    console.log(`close #${this.id}`, this.#reason);
    this.#conn.close();
  }
}
