// SPDX-License-Identifier: MIT
/** Sockets under Deno, whose calls can be awaited. */

import { setTimeout } from "node:timers";
import { errorCode, formatAddress, log, nextNumber, open } from "./program.ts";
import { type Address, LINGER } from "./socket.ts";
import type * as api from "./socket.ts";

/** `Deno.listen` wants the flag --unstable-net for SO_REUSEPORT, Deno's own node:net does not. */
export { listenReusePort } from "./node.ts";

/** Binds and listens: socket(2), bind(2) and listen(2). */
export async function listen({ host, port }: Address): Promise<Server> {
  return new Server(await Deno.listen({ hostname: host, port }));
}

/** Connects to a server: socket(2) and connect(2). */
export async function connect({ host, port }: Address): Promise<Connection> {
  return new Connection(await Deno.connect({ hostname: host, port }));
}

/** A listening socket. */
export class Server implements api.Server {
  readonly port: number;
  #listener: Deno.TcpListener;

  constructor(listener: Deno.TcpListener) {
    this.#listener = listener;
    this.port = listener.addr.port;
  }

  /** Waits for the next connection. An accept that fails costs that one connection. */
  async accept(): Promise<Connection> {
    for (;;) {
      try {
        return new Connection(await this.#listener.accept());
      } catch (error) {
        log("error", 0, "accept:", error);
        // A client that has reset its connection is gone. Out of descriptors, the next call would fail just as fast.
        if (errorCode(error) !== "ENOTCONN") await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }

  close(): void {
    this.#listener.close();
  }
}

/** A connected socket. */
export class Connection implements api.Connection {
  readonly id = nextNumber();
  readonly peer: string;
  silence = -Infinity;
  #conn: Deno.TcpConn;
  #buffer = new Uint8Array(16_384);
  #failure: unknown = null;
  #ended = false;
  #closed = false;

  constructor(conn: Deno.TcpConn) {
    this.#conn = conn;
    this.peer = formatAddress(conn.remoteAddr.hostname, conn.remoteAddr.port);
    open.add(this);
    try {
      conn.setNoDelay();
    } catch {
      // The client has reset it: recv will say so.
    }
  }

  /** Waits for bytes; an empty array is the end of the stream. */
  recv(): Promise<Uint8Array> {
    return new Promise((resolve, reject) => this.recvThen(resolve, reject));
  }

  recvThen(received: (data: Uint8Array) => void, failed: (error: unknown) => void): void {
    this.silence = 0;
    this.#conn.read(this.#buffer).then((length) => {
      this.silence = 0;
      this.#ended = length === null;
      received(this.#buffer.subarray(0, length ?? 0));
    }, (error) => failed(this.abort(error)));
  }

  /** Sends all of `data`: one write may take only a part of it. */
  send(data: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => this.sendThen(data, resolve, reject));
  }

  sendThen(data: Uint8Array, sent: () => void, failed: (error: unknown) => void): void {
    this.#conn.write(data).then((length) => {
      this.silence = 0;
      if (length < data.length) this.sendThen(data.subarray(length), sent, failed);
      else sent();
    }, (error) => failed(this.abort(error)));
  }

  /** The connection has failed, or is to end: calls that wait, for reading or for writing, fail with `why`. */
  abort(why: unknown): unknown {
    this.#failure ??= why;
    // Ends a read and a write that are going on.
    this.#destroy();
    return this.#failure;
  }

  /** Closes the connection, losing nothing that was sent: what still comes is read and dropped for a while. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    open.delete(this);
    if (this.#ended || this.#failure) return this.#destroy();
    this.#conn.closeWrite().catch(() => {});
    this.#drop();
    setTimeout(() => this.#destroy(), LINGER).unref();
  }

  async #drop(): Promise<void> {
    while (await this.#conn.read(this.#buffer).catch(() => null) !== null);
    this.#destroy();
  }

  #destroy(): void {
    try {
      this.#conn.close();
    } catch {
      // It is closed already.
    }
  }
}
