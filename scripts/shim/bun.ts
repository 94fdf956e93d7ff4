// SPDX-License-Identifier: MIT
/** Sockets under Bun, which calls back when something happens. */

import { open } from "./connections.ts";
import { outOfDescriptors } from "./descriptors.ts";
import { formatAddress, log } from "./log.ts";
import * as socket from "./socket.ts";

/** Binds and listens: socket(2), bind(2) and listen(2). */
export function bind({ host, port }: socket.Address, reusePort = false): Promise<Server> {
  return Promise.try(() => new Server({ hostname: host, port, reusePort }));
}

/** Connects to a server: socket(2) and connect(2). */
export async function connect({ host, port }: socket.Address): Promise<Connection> {
  const handlers = handlersFor((socket) => socket.data = new Connection(socket));
  return (await Bun.connect<Connection>({ hostname: host, port, allowHalfOpen: true, socket: handlers })).data;
}

/** Bun calls one set of functions for all sockets; each finds its connection in `socket.data`. */
function handlersFor(opened: (socket: Bun.Socket<Connection>) => void): Bun.SocketHandler<Connection> {
  return {
    open: opened,
    data: (socket, data) => socket.data.arrived(data),
    drain: (socket) => socket.data.flush(),
    end: (socket) => socket.data.finished(),
    error: (socket, error) => socket.data.fail(error),
    close: (socket, error) => socket.data.gone(error),
  };
}

/** A listening socket. */
class Server extends socket.Server {
  readonly port: number;
  #listener: Bun.TCPSocketListener<Connection>;

  /** Bun's types don't know `reusePort`. */
  constructor(where: { hostname: string; port: number; reusePort: boolean }) {
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
class Connection extends socket.Connection {
  #socket: Bun.Socket<Connection>;
  #unsent = new Uint8Array(0);

  constructor(socket: Bun.Socket<Connection>) {
    super(socket.remoteAddress, socket.remotePort, socket);
    this.#socket = socket;
  }

  get local(): string {
    return formatAddress(this.#socket.localAddress, this.#socket.localPort);
  }

  /** The socket is closed. Bun doesn't always say why: without an end of the stream, the client has reset it. */
  gone(error?: Error): void {
    if (!error && this.ended && !this.sending) return;
    this.fail(error ?? Object.assign(new Error("reset by the client"), { code: "ECONNRESET" }));
  }

  /** What it doesn't take, Bun doesn't keep. If the client has reset the connection, a write may be all that tells. */
  protected put(data: Uint8Array<ArrayBuffer>): boolean {
    const sent = this.#socket.write(data);
    if (sent < 0) this.gone();
    else if (sent < data.length) {
      this.sending = true;
      this.#unsent = data.subarray(sent);
    } else if (this.sending) this.drained();
    return sent >= data.length;
  }

  /** The kernel takes bytes again. */
  flush(): void {
    if (this.sending && !this.isBroken) this.put(this.#unsent);
  }

  protected shutdown(): void {
    this.#socket.shutdown();
  }

  protected destroy(): void {
    this.#socket.end();
  }
}
