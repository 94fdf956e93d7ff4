// SPDX-License-Identifier: MIT
/**
 * Sockets that are asked instead of waited for: what non-blocking ones are to blocking ones, on the runtime's own API.
 *
 * `acceptNow`, `recvNow` and `sendNow` return at once, with nothing where there is nothing; `ready` tells whether there
 * is, and has `onReadable` or `onWritable` called when there will be. With these, one loop can serve many sockets
 * (selector.ts), and a thread can be served by another one (thread.ts). As in shim.ts, there are three adapters that
 * don't know of one another.
 */

import * as net from "node:net";
import { formatAddress, runtime } from "./program.ts";
import { acceptFailed, type Address, bunTurnsAway, denoAccept, END_OF_STREAM } from "./shim.ts";

/** What a socket can be ready for, as bits: see poll(2). */
export const READ = 1, WRITE = 2;

/** A listening socket. */
export interface Server {
  /** The port that was bound, also when 0 was asked for. */
  readonly port: number;
  /** The next connection if one is waiting, otherwise `null`: accept(2) with O_NONBLOCK. */
  acceptNow(): Connection | null;
  /** `READ` if `acceptNow` has something to give; if not, `onReadable` is called when it has. */
  ready(events: number): number;
  onReadable: () => void;
  /** Stops listening. Connections stay as they are. */
  close(): void;
}

/** A connected socket. */
export interface Connection {
  /** Counts the connections of one server, from 1. */
  readonly id: number;
  /** The other end, as `HOST:PORT`. */
  readonly peer: string;
  /** Seconds since something was last received, for whoever keeps count of that. */
  silence: number;
  /**
   * The bytes that are there already, otherwise `null`: recv(2) with MSG_DONTWAIT, `null` being EAGAIN. An empty array
   * is the end of the stream, also after `close`. They are valid until the next call. Throws what the connection failed
   * with, such as ECONNRESET.
   */
  recvNow(): Uint8Array | null;
  /** Sends what can be sent without waiting and returns how many bytes that were: 0 is send(2)'s EAGAIN. */
  sendNow(data: Uint8Array): number;
  /** Which of `events` the socket is ready for; for the others, `onReadable` or `onWritable` is called later. */
  ready(events: number): number;
  onReadable: () => void;
  onWritable: () => void;
  /** Closes both directions. Closing twice does nothing. */
  close(): void;
}

/** Binds and listens, and throws if the address can't be had, as `listen` in shim.ts does. */
export const listen: (address: Address) => Promise<Server> = {
  deno: denoListen,
  bun: bunListen,
  node: nodeListen,
}[runtime];

/** Connects to a server. Throws if nobody listens there (ECONNREFUSED). */
export const connect: (address: Address) => Promise<Connection> = {
  deno: denoConnect,
  bun: bunConnect,
  node: nodeConnect,
}[runtime];

/** How much is taken from the kernel ahead of `recvNow`, in bytes. */
const READ_AHEAD = 65_536;

function ignore() {}

// ---------------------------------------------------------------- Deno

async function denoListen({ host, port }: Address): Promise<Server> {
  return new DenoServer(await Deno.listen({ hostname: host, port }));
}

async function denoConnect({ host, port }: Address): Promise<Connection> {
  return new DenoConnection(await Deno.connect({ hostname: host, port }), 1);
}

class DenoServer implements Server {
  readonly port: number;
  onReadable = ignore;
  #listener: Deno.TcpListener;
  #accepted = 0;
  #pending = false;
  #next: Connection | null = null;

  constructor(listener: Deno.TcpListener) {
    this.#listener = listener;
    this.port = listener.addr.port;
  }

  close(): void {
    this.#listener.close();
  }

  acceptNow(): Connection | null {
    const next = this.#next;
    this.#next = null;
    return next;
  }

  ready(events: number): number {
    if (this.#next) return events & READ;
    if (!this.#pending) {
      this.#pending = true;
      denoAccept(this.#listener).then((conn) => {
        this.#pending = false;
        this.#next = new DenoConnection(conn, ++this.#accepted);
        this.onReadable();
      });
    }
    return 0;
  }
}

class DenoConnection implements Connection {
  readonly id: number;
  readonly peer: string;
  silence = 0;
  onReadable = ignore;
  onWritable = ignore;
  #conn: Deno.TcpConn;
  #buffer = new Uint8Array(16_384);
  #closed = false;
  #reading = false;
  #writing = false;
  #arrived: Uint8Array | null = null;
  #failure: unknown;

  constructor(conn: Deno.TcpConn, id: number) {
    this.#conn = conn;
    this.id = id;
    this.peer = formatAddress(conn.remoteAddr.hostname, conn.remoteAddr.port);
  }

  close(): void {
    if (!this.#closed) this.#conn.close();
    this.#closed = true;
  }

  recvNow(): Uint8Array | null {
    if (this.#closed) return END_OF_STREAM;
    if (this.#failure) throw this.#failure;
    const arrived = this.#arrived;
    this.#arrived = null;
    return arrived;
  }

  sendNow(data: Uint8Array): number {
    if (this.#failure) throw this.#failure;
    if (this.#writing) return 0;
    this.#writing = true;
    this.#write(data);
    return data.length;
  }

  ready(events: number): number {
    if (this.#failure) return events;
    // Nothing is read during a write: it may still be taking its bytes from the one buffer.
    if (events & READ && !this.#arrived && !this.#reading && !this.#writing) {
      this.#reading = true;
      this.#conn.read(this.#buffer).then(this.#onRead, this.#onFailure);
    }
    return events & ((this.#arrived ? READ : 0) | (this.#writing ? 0 : WRITE));
  }

  #write(data: Uint8Array): void {
    this.#conn.write(data).then((length) => {
      if (length < data.length) return this.#write(data.subarray(length));
      this.#writing = false;
      this.onWritable();
    }, this.#onFailure);
  }

  #onRead = (length: number | null) => {
    this.#reading = false;
    this.#arrived = this.#buffer.subarray(0, length ?? 0);
    this.onReadable();
  };

  #onFailure = (error: unknown) => {
    this.#failure = error;
    this.onReadable();
  };
}

// ---------------------------------------------------------------- Bun and Node: what their callbacks leave behind

/** Connections that the runtime has accepted by itself, and that nobody has asked for yet. */
abstract class CallbackServer implements Server {
  abstract readonly port: number;
  onReadable = ignore;
  protected accepted = 0;
  #waiting: Connection[] = [];

  protected arrived(connection: Connection): void {
    this.#waiting.push(connection);
    this.onReadable();
  }

  acceptNow(): Connection | null {
    return this.#waiting.shift() ?? null;
  }

  ready(events: number): number {
    return this.#waiting.length > 0 ? events & READ : 0;
  }

  abstract close(): void;
}

/** Bytes that have arrived, and that nobody has asked for yet. */
abstract class CallbackConnection implements Connection {
  abstract readonly peer: string;
  readonly id: number;
  silence = 0;
  onReadable = ignore;
  onWritable = ignore;
  protected closed = false;
  /** Whether the last write was more than could be sent at once. */
  protected blocked = false;
  #received: Uint8Array[] = [];
  #size = 0;
  #ended = false;
  #failure: unknown;

  constructor(id: number) {
    this.id = id;
  }

  /** Bytes have arrived. Too many of them stop the reading, so that the client has to wait. */
  arrived(data: Uint8Array): void {
    this.#received.push(data);
    this.#size += data.length;
    if (this.#size >= READ_AHEAD) this.pause();
    this.onReadable();
  }

  /** The client has shut down its side, or is gone: end of stream once all is read. */
  ended(): void {
    this.#ended = true;
    this.onReadable();
  }

  /** The connection has failed, which whoever waits learns at once. */
  failed(error: unknown): void {
    this.#failure ??= error;
    this.onReadable();
    this.onWritable();
  }

  /** What a write has left behind has been sent. */
  drained(): void {
    this.blocked = false;
    this.onWritable();
  }

  recvNow(): Uint8Array | null {
    if (this.closed) return END_OF_STREAM;
    const data = this.#received.shift();
    if (data) {
      if (this.#size >= READ_AHEAD && this.#size - data.length < READ_AHEAD) this.resume();
      this.#size -= data.length;
      return data;
    }
    if (this.#failure) throw this.#failure;
    return this.#ended ? END_OF_STREAM : null;
  }

  sendNow(data: Uint8Array): number {
    if (this.#failure) throw this.#failure;
    if (this.closed) throw new Error("the connection is closed");
    return this.write(data);
  }

  ready(events: number): number {
    if (this.#failure || this.closed) return events;
    const readable = this.#received.length > 0 || this.#ended;
    return events & ((readable ? READ : 0) | (this.blocked ? 0 : WRITE));
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.destroy();
    this.onReadable();
    this.onWritable();
  }

  /** Sends what can be sent now, and sets `blocked` if that was not all. */
  protected abstract write(data: Uint8Array): number;
  protected abstract pause(): void;
  protected abstract resume(): void;
  protected abstract destroy(): void;
}

// ---------------------------------------------------------------- Bun

function bunListen(address: Address): Promise<Server> {
  return Promise.try(() => new BunServer(address));
}

async function bunConnect({ host, port }: Address): Promise<Connection> {
  const socket = await Bun.connect<BunConnection>({
    hostname: host,
    port,
    allowHalfOpen: true,
    socket: bunHandlers((socket) => socket.data = new BunConnection(socket, 1)),
  });
  return socket.data;
}

/** Bun calls one set of functions for all sockets; each finds its connection in `socket.data`. */
function bunHandlers(open: (socket: Bun.Socket<BunConnection>) => void): Bun.SocketHandler<BunConnection> {
  return {
    open,
    data: (socket, data) => socket.data.arrived(data),
    drain: (socket) => socket.data.drained(),
    end: (socket) => socket.data.ended(),
    error: (socket, error) => socket.data.failed(error),
    close: (socket, error) => error ? socket.data.failed(error) : socket.data.ended(),
  };
}

class BunServer extends CallbackServer {
  readonly port: number;
  #listener: Bun.TCPSocketListener<BunConnection>;

  constructor({ host, port }: Address) {
    super();
    this.#listener = Bun.listen<BunConnection>({
      hostname: host,
      port,
      // Without it the client's end of stream would close the socket, and replies not yet sent were lost.
      allowHalfOpen: true,
      socket: bunHandlers((socket) => {
        socket.data = new BunConnection(socket, ++this.accepted);
        if (!bunTurnsAway(socket)) this.arrived(socket.data);
      }),
    });
    this.port = this.#listener.port;
  }

  close(): void {
    this.#listener.stop();
  }
}

class BunConnection extends CallbackConnection {
  readonly peer: string;
  #socket: Bun.Socket<BunConnection>;

  constructor(socket: Bun.Socket<BunConnection>, id: number) {
    super(id);
    this.#socket = socket;
    this.peer = formatAddress(socket.remoteAddress, socket.remotePort);
  }

  protected write(data: Uint8Array): number {
    // What it doesn't take, Bun does not keep: the rest is ours to send again once it has drained.
    const sent = Math.max(0, this.#socket.write(data));
    this.blocked = sent < data.length;
    return sent;
  }

  protected pause(): void {
    this.#socket.pause();
  }

  protected resume(): void {
    this.#socket.resume();
  }

  protected destroy(): void {
    this.#socket.end();
  }
}

// ---------------------------------------------------------------- Node

function nodeListen(address: Address): Promise<Server> {
  const listener = net.createServer({ allowHalfOpen: true, noDelay: true });
  return new Promise((resolve, reject) => {
    listener.once("error", reject);
    listener.listen(address, () => resolve(new NodeServer(listener)));
  });
}

function nodeConnect({ host, port }: Address): Promise<Connection> {
  const socket = net.connect({ host, port, allowHalfOpen: true, noDelay: true });
  return new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.once("connect", () => resolve(new NodeConnection(socket, 1)));
  });
}

class NodeServer extends CallbackServer {
  readonly port: number;
  #listener: net.Server;

  constructor(listener: net.Server) {
    super();
    this.#listener = listener;
    this.port = (listener.address() as net.AddressInfo).port;
    listener.on("connection", (socket) => this.arrived(new NodeConnection(socket, ++this.accepted)));
    listener.on("error", acceptFailed);
  }

  close(): void {
    this.#listener.close();
  }
}

class NodeConnection extends CallbackConnection {
  readonly peer: string;
  #socket: net.Socket;

  constructor(socket: net.Socket, id: number) {
    super(id);
    this.#socket = socket;
    this.peer = formatAddress(socket.remoteAddress, socket.remotePort);
    socket.on("data", (data) => this.arrived(data as Uint8Array));
    socket.on("end", () => this.ended());
    socket.on("error", (error) => this.failed(error));
    socket.on("close", () => this.ended());
  }

  protected write(data: Uint8Array): number {
    if (this.blocked) return 0;
    this.#socket.write(data);
    // Node takes it all and keeps what the kernel does not. An empty write behind it tells when that is gone.
    this.blocked = this.#socket.writableLength > 0;
    if (this.blocked) this.#socket.write("", () => this.drained());
    return data.length;
  }

  protected pause(): void {
    this.#socket.pause();
  }

  protected resume(): void {
    this.#socket.resume();
  }

  protected destroy(): void {
    this.#socket.destroy();
  }
}
