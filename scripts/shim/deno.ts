// SPDX-License-Identifier: MIT
/** Sockets under Deno, whose calls can be awaited. */

import { setTimeout } from "node:timers";
import { errorCode, formatAddress, log } from "./log.ts";
import * as node from "./node.ts";
import * as socket from "./socket.ts";

/** Binds and listens: socket(2), bind(2) and listen(2). */
export async function bind({ host, port }: socket.Address, reusePort = false): Promise<socket.Server> {
  // `Deno.listen` wants the flag --unstable-net for SO_REUSEPORT, Deno's own node:net does not.
  if (reusePort) return await node.bind({ host, port }, true);
  return new Server(await Deno.listen({ hostname: host, port }));
}

/** Connects to a server: socket(2) and connect(2). */
export async function connect({ host, port }: socket.Address): Promise<Connection> {
  return new Connection(await Deno.connect({ hostname: host, port }));
}

/** A listening socket. */
class Server extends socket.Server {
  readonly port: number;
  #listener: Deno.TcpListener;
  #looking = false;

  constructor(listener: Deno.TcpListener) {
    super();
    this.#listener = listener;
    this.port = listener.addr.port;
  }

  protected override async look(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    while (this.#looking) {
      try {
        const conn = await this.#listener.accept();
        this.#looking = false;
        this.accepted(new Connection(conn));
      } catch (error) {
        if (!this.#looking) return;
        log("error", 0, "accept:", error);
        // A client that has reset its connection is gone. Out of descriptors, the next call would fail just as fast.
        if (errorCode(error) !== "ENOTCONN") await new Promise((resolve) => setTimeout(resolve, 500));
      }
    }
  }

  protected stop(): void {
    this.#looking = false;
    this.#listener.close();
  }
}

/** A connected socket. */
class Connection extends socket.Connection {
  #conn: Deno.TcpConn;
  #buffer = new Uint8Array(16_384);
  #receiving = false;

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

  /** Not while a message is on its way: it may be in the buffer. */
  protected override look(): void {
    if (this.#receiving || this.sending || this.ended) return;
    this.#receiving = true;
    this.#conn.read(this.#buffer).then((length) => {
      this.#receiving = false;
      if (length === null) this.finished();
      else this.arrived(this.#buffer.subarray(0, length));
    }, (error) => this.fail(error));
  }

  /** One write may take only a part of it. The caller may go on, unless it is to close: nothing is received meanwhile. */
  protected put(data: Uint8Array): boolean {
    this.sending = true;
    this.#conn.write(data).then((length) => {
      if (length < data.length) return void this.put(data.subarray(length));
      this.drained();
      if (this.onReadable) this.look();
    }, (error) => this.fail(error));
    return !this.isComplete;
  }

  protected async shutdown(): Promise<void> {
    this.#conn.closeWrite().catch(() => {});
    // Not into the buffer: what is in there may be on its way still.
    const dropped = new Uint8Array(16_384);
    while (await this.#conn.read(dropped).catch(() => null) !== null);
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
