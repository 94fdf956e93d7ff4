// SPDX-License-Identifier: MIT
/** What a socket is, whatever the runtime. Its calls wait, as those of blocking sockets do, with `await`. */

import type { Closable } from "./program.ts";

/** Where to listen or connect: a name or number, and a port, where 0 has the system choose a free one to listen on. */
export interface Address {
  host: string;
  port: number;
}

/** For so many milliseconds what a client still sends is read and dropped, after the server has closed its side. */
export const LINGER = 1000;

/** A listening socket. */
export interface Server {
  /** The port that was bound, also when 0 was asked for. */
  readonly port: number;
  /** Waits for the next connection. A failed accept is logged, and costs that one connection. See accept(2). */
  accept(): Promise<Connection>;
  /** Stops listening. Connections stay as they are; a waiting `accept` waits for ever. */
  close(): void;
}

/** A connected socket. */
export interface Connection extends Closable {
  /** Counts the connections of the process, from 1. */
  readonly id: number;
  /** The other end, as `HOST:PORT`. */
  readonly peer: string;
  /**
   * Waits for bytes; an empty array is the end of the stream. What it returns is valid until the next call. Throws
   * what the connection failed with, such as ECONNRESET, or was aborted for. See recv(2).
   */
  recv(): Promise<Uint8Array>;
  /** Sends all of `data`, however long that takes: send(2) in a loop, Python's `sendall`. Throws as `recv` does. */
  send(data: Uint8Array): Promise<void>;
  /** The same two with functions to be called, perhaps at once: callers that need no promise save one a message. */
  recvThen(received: (data: Uint8Array) => void, failed: (error: unknown) => void): void;
  sendThen(data: Uint8Array, sent: () => void, failed: (error: unknown) => void): void;
  /**
   * Closes the connection, and loses nothing that was sent: closed with unread bytes, a socket would reset the
   * connection. Closing twice does nothing. See close(2), shutdown(2).
   */
  close(): void;
}

/** What the file of a runtime exports. */
export interface Adapter {
  /** Binds and listens: socket(2), bind(2), listen(2). Throws if there is no such address (EADDRINUSE, ENOTFOUND). */
  listen(address: Address): Promise<Server>;
  /** As `listen`, for several sockets that share a port: SO_REUSEPORT in socket(7). */
  listenReusePort(address: Address): Promise<Server>;
  /** Connects to a server: socket(2) and connect(2). Throws if no server listens there (ECONNREFUSED). */
  connect(address: Address): Promise<Connection>;
}
