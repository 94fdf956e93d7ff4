// SPDX-License-Identifier: MIT
/**
 * The shim: BSD socket names over each runtime's own TCP API.
 *
 * `listen` and `connect` are all that a script calls. Below them stand three
 * adapters that don't know of one another: read the one for your runtime.
 *
 * | step    | Deno                | Bun                      | Node                 |
 * | ------- | ------------------- | ------------------------ | -------------------- |
 * | listen  | `Deno.listen`       | `Bun.listen`             | `net.createServer`   |
 * | accept  | `listener.accept()` | the `open` callback      | `"connection"` event |
 * | recv    | `conn.read()`       | the `data` callback      | `"data"` event       |
 * | send    | `conn.write()`      | `socket.write()`, `drain` | `socket.write()`, `"drain"` |
 * | connect | `Deno.connect`      | `Bun.connect`            | `net.connect`        |
 */

import { closeSync, openSync } from "node:fs";
import * as net from "node:net";
import { devNull } from "node:os";

/** The runtime that executes this file. Deno and Bun look like Node too, so Node is what is left. */
export const runtime: "deno" | "bun" | "node" = "Deno" in globalThis ? "deno" : "Bun" in globalThis ? "bun" : "node";

/** Where to listen or connect. */
export interface Address {
  host: string;
  /** 0 to 65535; for `listen`, 0 asks the system for a free one. */
  port: number;
}

/** What `listen` takes beside the address. */
export interface ListenOptions extends Address {
  /** Let several sockets listen on one port (SO_REUSEPORT in socket(7)): for `listenReusePort`. */
  reusePort?: boolean;
  /** Told of a failed accept, which costs that one connection and nothing else. */
  onError?: (error: unknown) => void;
}

/** What a socket can be ready for, as bits: see poll(2). */
export const READ = 1, WRITE = 2;

/** A listening socket. */
export interface Server {
  /** The port that was bound, also when 0 was asked for. */
  readonly port: number;
  /** Waits for the next connection; `null` once the server is closed. See accept(2). */
  accept(): Promise<Connection | null>;
  /** Stops listening. Connections stay as they are; closing twice does nothing. */
  close(): void;

  /** The next connection if one is waiting, otherwise `null`: accept(2) with O_NONBLOCK. */
  acceptNow(): Connection | null;
  /** `READ` if `acceptNow` has something to give; if not, `onReadable` is called when it has. */
  ready(events: number): number;
  onReadable: () => void;
}

/** A connected socket. */
export interface Connection {
  /** Counts the connections of one server, from 1. */
  readonly id: number;
  /** The other end, as `HOST:PORT`. */
  readonly peer: string;
  /** When something was last received, in milliseconds, for whoever keeps count of that. */
  lastSeen?: number;
  /**
   * Waits for bytes; an empty array is the end of the stream. What it returns is
   * valid until the next call. Throws what the connection failed with, such as
   * ECONNRESET. See recv(2).
   */
  recv(): Promise<Uint8Array>;
  /** Sends all of `data`, however long that takes: send(2) in a loop, Python's `sendall`. */
  send(data: Uint8Array): Promise<void>;
  /** Closes both directions; a waiting `recv` ends as at the end of the stream. Closing twice does nothing. */
  close(): void;

  /** The bytes that are there already, otherwise `null`: recv(2) with MSG_DONTWAIT, `null` being EAGAIN. */
  recvNow(): Uint8Array | null;
  /** Sends what can be sent without waiting and returns how many bytes that were: 0 is send(2)'s EAGAIN. */
  sendNow(data: Uint8Array): number;
  /** Which of `events` the socket is ready for; for the others, `onReadable` or `onWritable` is called later. */
  ready(events: number): number;
  onReadable: () => void;
  onWritable: () => void;
}

/**
 * Binds and listens: socket(2), bind(2) and listen(2) in one, as every runtime offers them.
 * Throws if the address can't be had (EADDRINUSE, EACCES, ENOTFOUND).
 */
export const listen: (options: ListenOptions) => Promise<Server> = {
  deno: denoListen,
  bun: bunListen,
  node: nodeListen,
}[runtime];

/**
 * As `listen`, for sockets that share a port by `reusePort`. Under Deno it is the Node adapter, on Deno's own
 * node:net: `Deno.listen` wants the flag --unstable-net for this.
 */
export const listenReusePort: (options: ListenOptions) => Promise<Server> = {
  deno: nodeListen,
  bun: bunListen,
  node: nodeListen,
}[runtime];

/** Connects to a server: socket(2) and connect(2). Throws if nobody listens there (ECONNREFUSED). */
export const connect: (address: Address) => Promise<Connection> = {
  deno: denoConnect,
  bun: bunConnect,
  node: nodeConnect,
}[runtime];

/**
 * `HOST:PORT`, an IPv6 host in brackets (RFC 3986, section 3.2.2). A client that has reset its connection before
 * that was accepted no longer has an address.
 */
export function formatAddress(host: string | undefined, port: number | undefined): string {
  if (!host) return "gone";
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** How much is taken from the kernel ahead of `recv`, in bytes. */
const READ_AHEAD = 65_536;
const END_OF_STREAM = new Uint8Array(0);
const SENT = Promise.resolve();

function ignore() {}

// ---------------------------------------------------------------- Deno

async function denoListen({ host, port, onError = ignore }: ListenOptions): Promise<Server> {
  return new DenoServer(await Deno.listen({ hostname: host, port }), onError);
}

async function denoConnect({ host, port }: Address): Promise<Connection> {
  return new DenoConnection(await Deno.connect({ hostname: host, port }), 1);
}

class DenoServer implements Server {
  readonly port: number;
  onReadable = ignore;
  #listener: Deno.TcpListener;
  #onError: (error: unknown) => void;
  #accepted = 0;
  #closed = false;
  #pending = false;
  #next: Connection | null = null;

  constructor(listener: Deno.TcpListener, onError: (error: unknown) => void) {
    this.#listener = listener;
    this.#onError = onError;
    this.port = listener.addr.port;
  }

  async accept(): Promise<Connection | null> {
    while (!this.#closed) {
      try {
        return new DenoConnection(await this.#listener.accept(), ++this.#accepted);
      } catch (error) {
        if (this.#closed) break;
        this.#onError(error);
        // Out of descriptors, the next call fails just as fast: leave the others time to close theirs.
        if (errorCode(error) === "EMFILE") await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
    return null;
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
      this.accept().then((next) => {
        this.#pending = false;
        this.#next = next;
        this.onReadable();
      });
    }
    return 0;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#listener.close();
  }
}

class DenoConnection implements Connection {
  readonly id: number;
  readonly peer: string;
  lastSeen = 0;
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

  async recv(): Promise<Uint8Array> {
    try {
      const length = await this.#conn.read(this.#buffer);
      return this.#buffer.subarray(0, length ?? 0);
    } catch (error) {
      if (this.#closed) return END_OF_STREAM;
      throw error;
    }
  }

  async send(data: Uint8Array): Promise<void> {
    while (data.length > 0) data = data.subarray(await this.#conn.write(data));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#conn.close();
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

/** Connections that the runtime has accepted, and that nobody has asked for yet. */
abstract class CallbackServer implements Server {
  abstract readonly port: number;
  onReadable = ignore;
  protected accepted = 0;
  protected closed = false;
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

  async accept(): Promise<Connection | null> {
    while (!this.closed && !this.ready(READ)) await new Promise<void>((resolve) => this.onReadable = resolve);
    return this.closed ? null : this.acceptNow();
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.stopListening();
    for (const connection of this.#waiting) connection.close();
    this.onReadable();
  }

  protected abstract stopListening(): void;
}

/** Bytes that have arrived, and that nobody has asked for yet. */
abstract class CallbackConnection implements Connection {
  abstract readonly peer: string;
  readonly id: number;
  lastSeen = 0;
  onReadable = ignore;
  onWritable = ignore;
  protected closed = false;
  #received: Uint8Array[] = [];
  #size = 0;
  #paused = false;
  #ended = false;
  #failure: unknown;
  #receiver: { resolve(data: Uint8Array): void; reject(error: unknown): void } | null = null;

  constructor(id: number) {
    this.id = id;
  }

  /** Bytes have arrived. Too many of them stop the reading, so that the client has to wait. */
  arrived(data: Uint8Array): void {
    this.#received.push(data);
    this.#size += data.length;
    if (this.#size >= READ_AHEAD && !this.#paused) {
      this.#paused = true;
      this.pause();
    }
    this.#readable();
  }

  /** The client has shut down its side, or is gone: end of stream once all is read. */
  ended(): void {
    this.#ended = true;
    this.#readable();
  }

  /** The connection has failed, which whoever waits learns at once. */
  failed(error: unknown): void {
    this.#failure ??= error;
    this.#readable();
    this.onWritable();
  }

  #readable(): void {
    const receiver = this.#receiver;
    if (!receiver) return this.onReadable();
    this.#receiver = null;
    try {
      receiver.resolve(this.recvNow()!);
    } catch (error) {
      receiver.reject(error);
    }
  }

  recvNow(): Uint8Array | null {
    if (this.closed) return END_OF_STREAM;
    const data = this.#received.shift();
    if (data) {
      this.#size -= data.length;
      if (this.#paused && this.#size < READ_AHEAD) {
        this.#paused = false;
        this.resume();
      }
      return data;
    }
    if (this.#failure) throw this.#failure;
    return this.#ended ? END_OF_STREAM : null;
  }

  recv(): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      this.#receiver = { resolve, reject };
      if (this.ready(READ)) this.#readable();
    });
  }

  sendNow(data: Uint8Array): number {
    if (this.#failure) throw this.#failure;
    if (this.closed) throw new Error("the connection is closed");
    return this.write(data);
  }

  send(data: Uint8Array): Promise<void> {
    try {
      const sent = this.sendNow(data);
      // Not an async function: nearly always all of it goes at once, and this is cheaper.
      return this.ready(WRITE) ? SENT : this.#sendRest(data.subarray(sent));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  async #sendRest(data: Uint8Array): Promise<void> {
    do {
      await new Promise<void>((resolve) => this.onWritable = resolve);
      data = data.subarray(this.sendNow(data));
    } while (!this.ready(WRITE));
  }

  ready(events: number): number {
    if (this.#failure || this.closed) return events;
    const readable = this.#received.length > 0 || this.#ended;
    return events & ((readable ? READ : 0) | (this.writable() ? WRITE : 0));
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.destroy();
    this.#readable();
    this.onWritable();
  }

  protected abstract write(data: Uint8Array): number;
  protected abstract writable(): boolean;
  protected abstract pause(): void;
  protected abstract resume(): void;
  protected abstract destroy(): void;
}

// ---------------------------------------------------------------- Bun

function bunListen(options: ListenOptions): Promise<Server> {
  return Promise.try(() => new BunServer(options));
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

  constructor({ host, port, reusePort = false, onError = ignore }: ListenOptions) {
    super();
    const options: Bun.TCPSocketListenOptions<BunConnection> & { reusePort: boolean } = {
      hostname: host,
      port,
      reusePort,
      // Without it the client's end of stream would close the socket, and replies not yet sent were lost.
      allowHalfOpen: true,
      socket: bunHandlers((socket) => {
        socket.data = new BunConnection(socket, ++this.accepted);
        const error = outOfDescriptors();
        if (error) {
          socket.end();
          onError(error);
        } else this.arrived(socket.data);
      }),
    };
    this.#listener = Bun.listen(options);
    this.port = this.#listener.port;
  }

  protected stopListening(): void {
    this.#listener.stop();
  }
}

/**
 * Why no descriptor is left, or fewer than `count`; `undefined` while there are. Bun's accept spins once there is
 * none, so the last one is never given to a client for longer than it takes to turn it away.
 */
export function outOfDescriptors(count = 1): unknown {
  const opened: number[] = [];
  try {
    while (opened.length < count) opened.push(openSync(devNull, "r"));
  } catch (error) {
    return error;
  } finally {
    for (const descriptor of opened) closeSync(descriptor);
  }
}

class BunConnection extends CallbackConnection {
  readonly peer: string;
  #socket: Bun.Socket<BunConnection>;
  #blocked = false;

  constructor(socket: Bun.Socket<BunConnection>, id: number) {
    super(id);
    this.#socket = socket;
    this.peer = formatAddress(socket.remoteAddress, socket.remotePort);
  }

  drained(): void {
    this.#blocked = false;
    this.onWritable();
  }

  protected write(data: Uint8Array): number {
    // What it doesn't take, Bun does not keep: the rest is ours to send again once it has drained.
    const sent = Math.max(0, this.#socket.write(data));
    this.#blocked = sent < data.length;
    return sent;
  }

  protected writable(): boolean {
    return !this.#blocked;
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

function nodeListen(options: ListenOptions): Promise<Server> {
  const { host, port, reusePort, onError = ignore } = options;
  const listener = net.createServer({ allowHalfOpen: true, noDelay: true });
  return new Promise((resolve, reject) => {
    listener.once("error", reject);
    listener.listen({ host, port, reusePort }, () => {
      listener.off("error", reject);
      listener.on("error", onError);
      resolve(new NodeServer(listener, options));
    });
  });
}

function nodeConnect({ host, port }: Address): Promise<Connection> {
  const socket = net.connect({ host, port, allowHalfOpen: true, noDelay: true });
  return new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.once("connect", () => {
      socket.off("error", reject);
      resolve(new NodeConnection(socket, 1));
    });
  });
}

class NodeServer extends CallbackServer {
  readonly port: number;
  #listener: net.Server;

  constructor(listener: net.Server, options: ListenOptions) {
    super();
    this.#listener = listener;
    this.port = (listener.address() as net.AddressInfo).port;
    listener.on("connection", (socket) => this.arrived(new NodeConnection(socket, ++this.accepted)));
    if (options.reusePort) this.#watchDescriptors(options);
  }

  /**
   * Several loops in one process share its descriptors. Once one of them has found none, Node's accept spins (another
   * loop has taken the spare one that it keeps for this) and Deno's never accepts again. So the listening socket is
   * closed while they are few, and opened anew.
   */
  #watchDescriptors(options: ListenOptions): void {
    const timer = setInterval(() => {
      if (this.closed) return clearInterval(timer);
      const error = outOfDescriptors(8);
      if (error && this.#listener.listening) {
        this.#listener.emit("error", error);
        this.#listener.close();
      } else if (!error && !this.#listener.listening) this.#listener.listen({ ...options, port: this.port });
    }, 100);
  }

  protected stopListening(): void {
    this.#listener.close();
  }
}

class NodeConnection extends CallbackConnection {
  readonly peer: string;
  #socket: net.Socket;
  #blocked = false;

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
    if (this.#blocked) return 0;
    this.#socket.write(data);
    // Node takes it all and keeps what the kernel does not. An empty write behind it tells when that is gone.
    this.#blocked = this.#socket.writableLength > 0;
    if (this.#blocked) this.#socket.write("", () => this.#drained());
    return data.length;
  }

  #drained(): void {
    this.#blocked = false;
    this.onWritable();
  }

  protected writable(): boolean {
    return !this.#blocked;
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

/** The system's name for an error, such as `ECONNRESET`, or an empty string if it has none. */
export function errorCode(error: unknown): string {
  return String((error as { code?: string }).code ?? "");
}
