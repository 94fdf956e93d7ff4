// SPDX-License-Identifier: MIT
/**
 * The shim: BSD socket names over each runtime's own TCP API.
 *
 * `listen` and `connect` are all that a script calls. Below them stand three
 * adapters that don't know of one another: read the one for your runtime.
 *
 * | step    | Deno                | Bun                       | Node                 |
 * | ------- | ------------------- | ------------------------- | -------------------- |
 * | listen  | `Deno.listen`       | `Bun.listen`              | `net.createServer`   |
 * | accept  | `listener.accept()` | the `open` callback       | `"connection"` event |
 * | recv    | `conn.read()`       | the `data` callback       | `"data"` event       |
 * | send    | `conn.write()`      | `socket.write()`, `drain` | `socket.write()`     |
 * | connect | `Deno.connect`      | `Bun.connect`             | `net.connect`        |
 *
 * Its calls wait, as those of blocking sockets do, with `await`. Those that don't are in readiness.ts.
 */

import { closeSync, openSync } from "node:fs";
import * as net from "node:net";
import { devNull } from "node:os";
import { errorCode, explain, formatAddress, log, runtime } from "./program.ts";

/** Where to listen or connect: a name or number, and a port, where 0 has the system choose a free one to listen on. */
export interface Address {
  host: string;
  port: number;
}

interface ListenOptions extends Address {
  reusePort?: boolean;
}

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
export interface Connection {
  /** Counts the connections of one server, from 1. */
  readonly id: number;
  /** The other end, as `HOST:PORT`. */
  readonly peer: string;
  /** Seconds since something was last received, for whoever keeps count of that. */
  silence: number;
  /**
   * Waits for bytes; an empty array is the end of the stream. What it returns is valid until the next call. Throws
   * what the connection failed with, such as ECONNRESET. See recv(2).
   */
  recv(): Promise<Uint8Array>;
  /** Sends all of `data`, however long that takes: send(2) in a loop, Python's `sendall`. */
  send(data: Uint8Array): Promise<void>;
  /** Closes both directions; a waiting `recv` ends as at the end of the stream. Closing twice does nothing. */
  close(): void;
}

/**
 * Binds and listens: socket(2), bind(2) and listen(2) in one, as every runtime offers them.
 * Throws if the address can't be had (EADDRINUSE, EACCES, ENOTFOUND).
 */
export const listen: (address: Address) => Promise<Server> = {
  deno: denoListen,
  bun: bunListen,
  node: nodeListen,
}[runtime];

/**
 * As `listen`, for several sockets that share a port: SO_REUSEPORT in socket(7). Under Deno it is the Node adapter, on
 * Deno's own node:net: `Deno.listen` wants the flag --unstable-net for this.
 */
export const listenReusePort: (address: Address) => Promise<Server> = {
  deno: nodeListenReusePort,
  bun: bunListenReusePort,
  node: nodeListenReusePort,
}[runtime];

/** Connects to a server: socket(2) and connect(2). Throws if nobody listens there (ECONNREFUSED). */
export const connect: (address: Address) => Promise<Connection> = {
  deno: denoConnect,
  bun: bunConnect,
  node: nodeConnect,
}[runtime];

/** What `recv` returns when the other end has nothing more to send. */
export const END_OF_STREAM = new Uint8Array(0);

/** Says in the log why an accept has failed, which costs that one connection and nothing else. */
export function acceptFailed(error: unknown): void {
  log("error", 0, "accept:", explain(error));
}

// ---------------------------------------------------------------- Deno

async function denoListen({ host, port }: Address): Promise<Server> {
  return new DenoServer(await Deno.listen({ hostname: host, port }));
}

async function denoConnect({ host, port }: Address): Promise<Connection> {
  return new DenoConnection(await Deno.connect({ hostname: host, port }), 1);
}

class DenoServer implements Server {
  readonly port: number;
  #listener: Deno.TcpListener;
  #accepted = 0;

  constructor(listener: Deno.TcpListener) {
    this.#listener = listener;
    this.port = listener.addr.port;
  }

  async accept(): Promise<Connection> {
    return new DenoConnection(await denoAccept(this.#listener), ++this.#accepted);
  }

  close(): void {
    this.#listener.close();
  }
}

/** Accepts, and does so again if that has failed. */
export async function denoAccept(listener: Deno.TcpListener): Promise<Deno.TcpConn> {
  for (;;) {
    try {
      return await listener.accept();
    } catch (error) {
      acceptFailed(error);
      // A client that has reset its connection is gone. Out of descriptors, the next call would fail just as fast.
      if (errorCode(error) !== "ENOTCONN") await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

class DenoConnection implements Connection {
  readonly id: number;
  readonly peer: string;
  silence = 0;
  #conn: Deno.TcpConn;
  #buffer = new Uint8Array(16_384);
  #closed = false;

  constructor(conn: Deno.TcpConn, id: number) {
    this.#conn = conn;
    this.id = id;
    this.peer = formatAddress(conn.remoteAddr.hostname, conn.remoteAddr.port);
  }

  async recv(): Promise<Uint8Array> {
    try {
      const length = await this.#conn.read(this.#buffer);
      return this.#buffer.subarray(0, length ?? 0);
    } catch (error) {
      if (this.#closed) return this.#buffer.subarray(0, 0);
      throw error;
    }
  }

  async send(data: Uint8Array): Promise<void> {
    while (data.length > 0) data = data.subarray(await this.#conn.write(data));
  }

  close(): void {
    if (!this.#closed) this.#conn.close();
    this.#closed = true;
  }
}

// ---------------------------------------------------------------- Bun and Node: what their callbacks leave behind

/** What has come, and nobody has asked for yet. */
class Queue<T extends object> {
  #items: T[] = [];
  #failure: unknown;
  #taker: PromiseWithResolvers<T> | null = null;

  get length(): number {
    return this.#items.length;
  }

  push(item: T): void {
    if (this.#taker) this.#taker.resolve(item);
    else this.#items.push(item);
    this.#taker = null;
  }

  /** Nothing more will come, because of `error`. */
  fail(error: unknown): void {
    this.#failure ??= error;
    this.#taker?.reject(error);
  }

  /** Waits for an item. */
  take(): Promise<T> {
    const item = this.#items.shift();
    if (item) return Promise.resolve(item);
    if (this.#failure) return Promise.reject(this.#failure);
    this.#taker = Promise.withResolvers();
    return this.#taker.promise;
  }
}

/** So many pieces may wait for `recv`. With more, the socket is not read from, and the client has to wait. */
const QUEUE_LENGTH = 8;

// ---------------------------------------------------------------- Bun

function bunListen(options: ListenOptions): Promise<Server> {
  return Promise.try(() => new BunServer(options));
}

function bunListenReusePort(address: Address): Promise<Server> {
  return bunListen({ ...address, reusePort: true });
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
    drain: (socket) => socket.data.onDrained(),
    end: (socket) => socket.data.ended(),
    error: (socket, error) => socket.data.ended(error),
    close: (socket, error) => socket.data.ended(error),
  };
}

class BunServer implements Server {
  readonly port: number;
  #listener: Bun.TCPSocketListener<BunConnection>;
  #clients = new Queue<Connection>();
  #accepted = 0;

  constructor({ host, port, reusePort }: ListenOptions) {
    const listener = Bun.listen<BunConnection>({
      hostname: host,
      port,
      // Bun's types don't know this one.
      ...{ reusePort },
      // Without it the client's end of stream would close the socket, and replies not yet sent were lost.
      allowHalfOpen: true,
      socket: bunHandlers((socket) => {
        socket.data = new BunConnection(socket, ++this.#accepted);
        if (!bunTurnsAway(socket)) this.#clients.push(socket.data);
      }),
    });
    this.#listener = listener;
    this.port = listener.port;
  }

  accept(): Promise<Connection> {
    return this.#clients.take();
  }

  close(): void {
    this.#listener.stop();
  }
}

/**
 * Turns a client away if it has got the last descriptor, and says so. Bun's accept spins once there is none, so that
 * one is never given away for longer than this takes.
 */
export function bunTurnsAway(socket: { end(): void }): boolean {
  try {
    closeSync(openSync(devNull, "r"));
    return false;
  } catch (error) {
    acceptFailed(error);
    socket.end();
    return true;
  }
}

class BunConnection implements Connection {
  readonly id: number;
  readonly peer: string;
  silence = 0;
  onDrained = () => {};
  #socket: Bun.Socket<BunConnection>;
  #received = new Queue<Uint8Array>();

  constructor(socket: Bun.Socket<BunConnection>, id: number) {
    this.#socket = socket;
    this.id = id;
    this.peer = formatAddress(socket.remoteAddress, socket.remotePort);
  }

  arrived(data: Uint8Array): void {
    this.#received.push(data);
    if (this.#received.length === QUEUE_LENGTH) this.#socket.pause();
  }

  ended(error?: unknown): void {
    if (error) this.#received.fail(error);
    else this.#received.push(END_OF_STREAM);
    this.onDrained();
  }

  recv(): Promise<Uint8Array> {
    if (this.#received.length === QUEUE_LENGTH) this.#socket.resume();
    return this.#received.take();
  }

  send(data: Uint8Array): Promise<void> {
    const sent = this.#socket.write(data);
    // Not an async function: nearly always all of it goes at once, and this is cheaper.
    if (sent === data.length) return Promise.resolve();
    if (sent < 0) return Promise.reject(new Error("the connection is closed"));
    // What it doesn't take, Bun does not keep: the rest is ours to send again once it has drained.
    return new Promise<void>((resolve) => this.onDrained = resolve).then(() => this.send(data.subarray(sent)));
  }

  close(): void {
    this.#socket.end();
    // The client may not close its side, and nobody waits for that.
    this.ended();
  }
}

// ---------------------------------------------------------------- Node

function nodeListen(options: ListenOptions): Promise<NodeServer> {
  const listener = net.createServer({ allowHalfOpen: true, noDelay: true });
  return new Promise((resolve, reject) => {
    listener.once("error", reject);
    listener.listen(options, () => resolve(new NodeServer(listener)));
  });
}

async function nodeListenReusePort({ host, port }: Address): Promise<Server> {
  const server = await nodeListen({ host, port, reusePort: true });
  server.watchDescriptors(host);
  return server;
}

function nodeConnect({ host, port }: Address): Promise<Connection> {
  const socket = net.connect({ host, port, allowHalfOpen: true, noDelay: true });
  return new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.once("connect", () => resolve(new NodeConnection(socket, 1)));
  });
}

class NodeServer implements Server {
  readonly port: number;
  #listener: net.Server;
  #clients = new Queue<Connection>();
  #accepted = 0;

  constructor(listener: net.Server) {
    this.#listener = listener;
    this.port = (listener.address() as net.AddressInfo).port;
    listener.on("connection", (socket) => this.#clients.push(new NodeConnection(socket, ++this.#accepted)));
    listener.on("error", acceptFailed);
  }

  /**
   * Several loops in one process share its descriptors. Once one of them has found none, Node's accept spins (another
   * loop has taken the spare one that it keeps for this) and Deno's never accepts again. So the listening socket is
   * closed while they are few, and opened anew.
   */
  watchDescriptors(host: string): void {
    setInterval(() => {
      const error = outOfDescriptors(8);
      if (error && this.#listener.listening) {
        acceptFailed(error);
        this.#listener.close();
      } else if (!error && !this.#listener.listening) {
        this.#listener.listen({ host, port: this.port, reusePort: true });
      }
    }, 100);
  }

  accept(): Promise<Connection> {
    return this.#clients.take();
  }

  close(): void {
    this.#listener.close();
  }
}

class NodeConnection implements Connection {
  readonly id: number;
  readonly peer: string;
  silence = 0;
  #socket: net.Socket;
  #received = new Queue<Uint8Array>();

  constructor(socket: net.Socket, id: number) {
    this.#socket = socket;
    this.id = id;
    this.peer = formatAddress(socket.remoteAddress, socket.remotePort);
    socket.on("data", (data: Uint8Array) => {
      this.#received.push(data);
      if (this.#received.length === QUEUE_LENGTH) socket.pause();
    });
    socket.on("error", (error) => this.#received.fail(error));
    for (const event of ["end", "close"]) socket.on(event, () => this.#received.push(END_OF_STREAM));
  }

  recv(): Promise<Uint8Array> {
    if (this.#received.length === QUEUE_LENGTH) this.#socket.resume();
    return this.#received.take();
  }

  send(data: Uint8Array): Promise<void> {
    this.#socket.write(data);
    if (this.#socket.writableLength === 0) return Promise.resolve();
    // Node takes it all and keeps what the kernel does not. An empty write behind it tells when that is gone.
    return new Promise((resolve, reject) => this.#socket.write("", (error) => error ? reject(error) : resolve()));
  }

  close(): void {
    this.#socket.destroy();
  }
}

// ---------------------------------------------------------------- descriptors

/** Why there are not so many descriptors left; `undefined` while there are. */
export function outOfDescriptors(count: number): unknown {
  const opened: number[] = [];
  try {
    while (opened.length < count) opened.push(openSync(devNull, "r"));
  } catch (error) {
    return error;
  } finally {
    for (const descriptor of opened) closeSync(descriptor);
  }
}
