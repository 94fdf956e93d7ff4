// SPDX-License-Identifier: MIT
/** What a socket is, whatever the runtime. Its calls wait, as those of blocking sockets do, with `await`. */

import { setTimeout } from "node:timers";
import { formatAddress, nextNumber, open } from "./program.ts";

/** Where to listen or connect: a name or number, and a port, where 0 has the system choose a free one to listen on. */
export interface Address {
  host: string;
  port: number;
}

/** For so many milliseconds what a client still sends is read and dropped, after the server has closed its side. */
export const LINGER = 1000;

/** Is called with what a connection has failed with. */
export type Failed = (error: unknown) => void;

/** A connected socket: what is the same for every runtime. */
export abstract class Socket {
  /** Counts the connections of the process, from 1. */
  readonly id = nextNumber();
  /** The other end, as `HOST:PORT`. */
  readonly peer: string;
  /** See `Closable`. */
  silence = -Infinity;
  excused?(): boolean;
  /** Whether the client has shut down its sending side, or is gone. */
  protected ended = false;
  protected closed = false;
  /** What it has failed with, or was aborted for. */
  protected failure: unknown = null;
  /** This end, as `HOST:PORT`. */
  abstract readonly local: string;

  constructor(host?: string, port?: number) {
    this.peer = formatAddress(host, port);
    open.add(this);
  }

  /**
   * Waits for bytes; an empty array is the end of the stream. What it returns is valid until the next call. Throws
   * what the connection failed with, such as ECONNRESET, or was aborted for. See recv(2).
   */
  recv(): Promise<Uint8Array> {
    return new Promise((resolve, reject) => this.recvThen(resolve, reject));
  }

  /** Sends all of `data`, however long that takes: send(2) in a loop, Python's `sendall`. Throws as `recv` does. */
  send(data: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => this.sendThen(data, resolve, reject));
  }

  /**
   * Closes the connection, losing nothing that was sent. Closed with unread bytes, a socket would reset the connection:
   * what still comes is read and dropped for a while. Closing twice does nothing. See close(2), shutdown(2).
   */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    open.delete(this);
    if (this.ended) return this.destroy();
    this.shutdown();
    setTimeout(() => this.destroy(), LINGER).unref();
  }

  /** `recv` and `send` with functions to be called, perhaps at once: callers that need no promise save one a message. */
  abstract recvThen(received: (data: Uint8Array) => void, failed: Failed): void;
  abstract sendThen(data: Uint8Array, sent: () => void, failed: Failed): void;
  /** The connection has failed, or is to end: calls that wait, for reading or for writing, fail with `why`. */
  abstract abort(why: unknown): void;
  /** Shuts down the sending side, and drops what comes. */
  protected abstract shutdown(): void;
  /** Closes both sides; closing twice does nothing. */
  protected abstract destroy(): void;
}

/** A listening socket. */
export interface Server {
  /** The port that was bound, also when 0 was asked for. */
  readonly port: number;
  /** Waits for the next connection. A failed accept is logged, and costs that one connection. See accept(2). */
  accept(): Promise<Socket>;
  /** Stops listening. Connections stay as they are; a waiting `accept` waits for ever. */
  close(): void;
}

/** What the file of a runtime exports. */
export interface Adapter {
  /** Binds and listens: socket(2), bind(2), listen(2). Throws if there is no such address (EADDRINUSE, ENOTFOUND). */
  listen(address: Address): Promise<Server>;
  /** As `listen`, for several sockets that share a port: SO_REUSEPORT in socket(7). */
  listenReusePort(address: Address): Promise<Server>;
  /** Connects to a server: socket(2) and connect(2). Throws if no server listens there (ECONNREFUSED). */
  connect(address: Address): Promise<Socket>;
}
