// SPDX-License-Identifier: MIT
/** Sockets under Node, which emits an event when something happens. */

import { once } from "node:events";
import * as net from "node:net";
import { outOfDescriptors } from "./descriptors.ts";
import { formatAddress, log } from "./log.ts";
import * as socket from "./socket.ts";

/** Binds and listens: socket(2), bind(2) and listen(2). */
export async function bind({ host, port }: socket.Address, reusePort = false): Promise<Server> {
  // With allowHalfOpen, the client's end of stream does not close the socket: there may be replies to be sent.
  const listener = net.createServer({ allowHalfOpen: true, noDelay: true });
  await once(listener.listen({ host, port, reusePort }), "listening");
  const server = new Server(listener);
  if (reusePort) server.watchDescriptors(host);
  return server;
}

/** Connects to a server: socket(2) and connect(2). */
export async function connect({ host, port }: socket.Address): Promise<Connection> {
  const socket = net.connect({ host, port, allowHalfOpen: true, noDelay: true });
  await once(socket, "connect");
  return new Connection(socket);
}

/** A listening socket. */
class Server extends socket.Server {
  readonly port: number;
  #listener: net.Server;
  #watch: ReturnType<typeof setInterval> | undefined;

  constructor(listener: net.Server) {
    super();
    this.#listener = listener;
    this.port = (listener.address() as net.AddressInfo).port;
    listener.on("error", (error) => log("error", 0, "accept:", error));
    listener.on("connection", (socket) => this.accepted(new Connection(socket)));
  }

  protected stop(): void {
    clearInterval(this.#watch);
    this.#listener.close();
  }

  /**
   * Several loops in one process share its descriptors. Once one of them has found none, Node's accept spins (another
   * loop has taken the spare one that it keeps for this) and Deno's never accepts again. So the listening socket is
   * closed while they are few, and opened anew.
   */
  watchDescriptors(host: string): void {
    this.#watch = setInterval(() => {
      const error = outOfDescriptors(8);
      if (error && this.#listener.listening) {
        log("error", 0, "accept:", error);
        this.#listener.close();
      } else if (!error && !this.#listener.listening) {
        this.#listener.listen({ host, port: this.port, reusePort: true });
      }
    }, 100);
  }
}

/** A connected socket. */
class Connection extends socket.Connection {
  #socket: net.Socket;

  constructor(socket: net.Socket) {
    super(socket.remoteAddress, socket.remotePort, socket);
    this.#socket = socket;
    socket.on("data", (data: Uint8Array) => this.arrived(data));
    socket.on("end", () => this.finished());
    socket.on("error", (error) => this.fail(error));
  }

  get local(): string {
    return formatAddress(this.#socket.localAddress, this.#socket.localPort);
  }

  /** The runtime takes it all and keeps what the kernel does not. An empty write behind it tells when that is gone. */
  protected put(data: Uint8Array): boolean {
    this.#socket.write(data);
    if (this.#socket.writableLength === 0) return true;
    this.sending = true;
    this.#socket.write("", (error) => error ? this.fail(error) : this.drained());
    return false;
  }

  protected shutdown(): void {
    this.#socket.end();
  }

  protected destroy(): void {
    this.#socket.destroy();
  }
}
