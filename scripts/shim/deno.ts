// SPDX-License-Identifier: MIT
/** Sockets under Deno, whose calls can be awaited. */

import { setTimeout } from "node:timers";
import { errorCode, formatAddress, log } from "./program.ts";
import { type Address, type Failed, Socket } from "./socket.ts";

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
export class Server {
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
export class Connection extends Socket {
  #conn: Deno.TcpConn;
  #buffer = new Uint8Array(16_384);

  constructor(conn: Deno.TcpConn) {
    super(conn.remoteAddr.hostname, conn.remoteAddr.port);
    this.#conn = conn;
    try {
      conn.setNoDelay();
    } catch {
      // The client has reset it: recv will say so.
    }
  }

  get local(): string {
    return formatAddress(this.#conn.localAddr.hostname, this.#conn.localAddr.port);
  }

  recvThen(received: (data: Uint8Array) => void, failed: Failed): void {
    this.silence = 0;
    this.#conn.read(this.#buffer).then((length) => {
      this.silence = 0;
      this.ended = length === null;
      received(this.#buffer.subarray(0, length ?? 0));
    }, (error) => failed(this.abort(error)));
  }

  /** One write may take only a part of it. */
  sendThen(data: Uint8Array, sent: () => void, failed: Failed): void {
    this.#conn.write(data).then((length) => {
      this.silence = 0;
      if (length < data.length) this.sendThen(data.subarray(length), sent, failed);
      else sent();
    }, (error) => failed(this.abort(error)));
  }

  abort(why: unknown): unknown {
    // Ends a read and a write that are going on.
    this.destroy();
    return this.failure ??= why;
  }

  protected async shutdown(): Promise<void> {
    this.#conn.closeWrite().catch(() => {});
    while (await this.#conn.read(this.#buffer).catch(() => null) !== null);
    this.destroy();
  }

  protected destroy(): void {
    try {
      this.#conn.close();
    } catch {
      // It is closed already.
    }
  }
}
