// SPDX-License-Identifier: MIT
/** The sockets of a copy for Deno, whose calls can be awaited. */

import { log } from "./program.ts";

/** Binds and listens: socket(2), bind(2) and listen(2). */
export function listen(hostname: string, port: number): Server {
  const listener = Deno.listen({ hostname, port });
  console.log(`listening on ${hostname}:${listener.addr.port}`);
  return new Server(listener);
}

/** A listening socket. */
export class Server {
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
        // The client has reset it already.
        if ((error as { code?: string }).code !== "ENOTCONN") throw error;
      }
    }
  }

  close(): void {
    this.#listener.close();
  }
}

/** A connected socket. A failure reads as the end of the stream. */
export class Connection {
  static #count = 0;
  readonly id = ++Connection.#count;
  #conn: Deno.TcpConn;
  #buffer = new Uint8Array(16_384);
  #reason = "by the client";

  constructor(conn: Deno.TcpConn) {
    this.#conn = conn;
    conn.setNoDelay();
    const { hostname, port } = conn.remoteAddr;
    log("accept", this.id, `${hostname}:${port}`);
  }

  /** Waits for bytes; an empty array is the end of the stream. See recv(2). */
  async recv(): Promise<Uint8Array> {
    try {
      const size = await this.#conn.read(this.#buffer) ?? 0;
      if (size > 0) log("recv", this.id, size); // not threads pool
      return this.#buffer.subarray(0, size);
    } catch (error) {
      this.#reason = `${error}`;
      return new Uint8Array(0);
    }
  }

  /** Sends all of `data`: send(2) in a loop, as a call may take only a part. */
  async send(data: Uint8Array): Promise<void> {
    log("send", this.id, data.length); // not threads pool
    this.#reason = "after one exchange"; // only single
    try {
      for (let sent = 0; sent < data.length;) {
        sent += await this.#conn.write(data.subarray(sent));
      }
    } catch (error) {
      this.#reason = `${error}`;
    }
  }

  /** Closes the connection. See close(2). */
  close(): void {
    log("close", this.id, this.#reason);
    this.#conn.close();
  }
}
