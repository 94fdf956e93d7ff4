// SPDX-License-Identifier: MIT
/**
 * Sockets that are asked instead of waited for: what O_NONBLOCK makes of a socket, on top of the calls that wait.
 *
 * `acceptNow`, `recvNow` and `sendNow` return at once. `ready` tells whether there is something to accept or to
 * receive, and has `onReady` called when there is. With these one loop can serve many sockets: see selector.ts.
 */

import type { Connection, Server } from "./shim.ts";

/** A listening socket. */
export class NonblockingServer {
  onReady = () => {};
  #server: Server;
  #accepting: Promise<void> | null = null;
  #next: NonblockingConnection | null = null;

  constructor(server: Server) {
    this.#server = server;
  }

  /** Whether a connection is waiting. */
  ready(): boolean {
    this.#accepting ??= this.#server.accept().then((connection) => {
      this.#next = new NonblockingConnection(connection);
      this.onReady();
    });
    return this.#next !== null;
  }

  /** The next connection if one is waiting, otherwise `null`: accept(2) with O_NONBLOCK. */
  acceptNow(): NonblockingConnection | null {
    const next = this.#next;
    if (next) this.#next = this.#accepting = null;
    return next;
  }
}

/** A connected socket. */
export class NonblockingConnection {
  readonly id: number;
  readonly peer: string;
  onReady = () => {};
  #connection: Connection;
  #arrived: Uint8Array | null = null;
  #failure: unknown = null;
  #receiving = false;
  #sending = false;
  #closing = false;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.id = connection.id;
    this.peer = connection.peer;
  }

  /** Whether `recvNow` has something to return, or to throw. Not before the last bytes are sent: the client is slow. */
  ready(): boolean {
    if (!this.#arrived && !this.#failure && !this.#receiving && !this.#sending) {
      this.#receiving = true;
      this.#connection.recvThen(this.#received, this.#failed);
    }
    return this.#arrived !== null || this.#failure !== null;
  }

  /** The bytes that are there already, otherwise `null`: recv(2) with O_NONBLOCK, `null` being EAGAIN. */
  recvNow(): Uint8Array | null {
    const arrived = this.#arrived;
    if (!arrived && this.#failure) throw this.#failure;
    this.#arrived = null;
    return arrived;
  }

  /** Sends bytes. What the kernel doesn't take now is kept, and sent when it does. */
  sendNow(data: Uint8Array): void {
    this.#sending = true;
    this.#connection.sendThen(data, this.#sent, this.#failed);
  }

  /** Closes the connection once all is sent. Closing twice does nothing. */
  close(): void {
    if (this.#sending && !this.#failure) this.#closing = true;
    else this.#connection.close();
  }

  #received = (data: Uint8Array): void => {
    this.#receiving = false;
    this.#arrived = data;
    this.onReady();
  };

  #sent = (): void => {
    this.#sending = false;
    if (this.#closing) this.close();
    else this.onReady();
  };

  #failed = (error: unknown): void => {
    this.#failure = error;
    this.#sent();
  };
}
