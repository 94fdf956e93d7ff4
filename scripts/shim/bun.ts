// SPDX-License-Identifier: MIT
/** Sockets under Bun, which calls back when something happens: stream.ts keeps what it has said. */

import { outOfDescriptors } from "./descriptors.ts";
import { log, open } from "./program.ts";
import type { Address } from "./socket.ts";
import { Listener, Stream } from "./stream.ts";

/** Binds and listens: socket(2), bind(2) and listen(2). */
export function listen({ host, port }: Address): Promise<Server> {
  return Promise.try(() => new Server({ hostname: host, port }));
}

/** As `listen`, for several sockets that share a port. */
export function listenReusePort({ host, port }: Address): Promise<Server> {
  return Promise.try(() => new Server({ hostname: host, port, reusePort: true }));
}

/** Connects to a server: socket(2) and connect(2). */
export async function connect({ host, port }: Address): Promise<Connection> {
  const handlers = handlersFor((socket) => socket.data = new Connection(socket));
  return (await Bun.connect<Connection>({ hostname: host, port, allowHalfOpen: true, socket: handlers })).data;
}

/** Bun calls one set of functions for all sockets; each finds its connection in `socket.data`. */
function handlersFor(opened: (socket: Bun.Socket<Connection>) => void): Bun.SocketHandler<Connection> {
  return {
    open: opened,
    data: (socket, data) => socket.data.arrived(data),
    drain: (socket) => socket.data.drained(),
    end: (socket) => socket.data.finished(),
    error: (socket, error) => socket.data.abort(error),
    close: (socket, error) => socket.data.gone(error),
  };
}

/** A listening socket. */
export class Server extends Listener<Connection> {
  readonly port: number;
  #listener: Bun.TCPSocketListener<Connection>;

  /** Bun's types don't know `reusePort`. */
  constructor(where: { hostname: string; port: number; reusePort?: boolean }) {
    super();
    const handlers = handlersFor((socket) => {
      socket.data = new Connection(socket);
      if (!turnsAway(socket)) this.accepted(socket.data);
    });
    // With allowHalfOpen, the client's end of stream does not close the socket: there may be replies to be sent.
    this.#listener = Bun.listen<Connection>({ ...where, allowHalfOpen: true, socket: handlers });
    this.port = this.#listener.port;
  }

  protected stop(): void {
    this.#listener.stop();
  }
}

/** Without descriptors, Bun's accept spins. So two are kept: one may be what Bun opens when a thread prints. */
function turnsAway(socket: Bun.Socket<Connection>): boolean {
  const error = outOfDescriptors(2);
  if (!error) return false;
  log("error", 0, "accept:", error);
  open.delete(socket.data);
  socket.end();
  return true;
}

/** A connected socket. */
export class Connection extends Stream<Bun.Socket<Connection>> {
  /** The socket is closed. Bun doesn't always say why: without an end of the stream, the client has reset it. */
  gone(error?: Error): void {
    if (!error && this.ended && !this.blocked) return;
    this.abort(error ?? Object.assign(new Error("reset by the client"), { code: "ECONNRESET" }));
    this.ended = true;
  }

  /** What it doesn't take, Bun doesn't keep. If the client has reset the connection, a write may be all that tells. */
  protected write(data: Uint8Array): number {
    const sent = this.socket.write(data);
    this.blocked = sent < data.length;
    if (sent < 0) this.gone();
    return sent;
  }

  protected shutdown(): void {
    this.socket.resume();
    this.socket.shutdown();
  }

  protected destroy(): void {
    this.socket.end();
  }
}
