// SPDX-License-Identifier: MIT
/**
 * Sockets, whatever the runtime: its own file (deno.ts, bun.ts, node.ts) tells them what has happened. That is kept until
 * it is asked for. The calls that wait are those that don't, with a wait for `onReadable` or `onWritable` around them.
 */

import { setTimeout } from "node:timers";
import { Account, type Closable, closing, LINGER, open } from "./connections.ts";
import { formatAddress, log, logStep } from "./log.ts";
import { ACCEPTED, count, MESSAGES, OPEN } from "./runtime.ts";

/** Where to listen or connect: a name or number, and a port, where 0 has the system choose a free one to listen on. */
export interface Address {
  host: string;
  port: number;
}

/** What the file of a runtime exports: calls that throw what the system says, such as EADDRINUSE or ECONNREFUSED. */
export interface Adapter {
  bind(address: Address, reusePort?: boolean): Promise<Server>;
  connect(address: Address): Promise<Connection>;
}

/** What can be waited for. */
export interface Source {
  /** Called once when `readable` has become true, or `writable`. */
  onReadable: (() => void) | null;
  onWritable: (() => void) | null;
  /** Whether there is something to accept or to receive. Asking for it has the runtime look for it. */
  readonly readable: boolean;
  readonly writable: boolean;
}

function wakeReader(source: Source): void {
  const wake = source.onReadable;
  source.onReadable = null;
  wake?.();
}

function wakeWriter(source: Source): void {
  const wake = source.onWritable;
  source.onWritable = null;
  wake?.();
}

/** So many may be accepted that no one serves yet. The next ones wait unseen: Bun and Node accept them all the same. */
const MOST_UNSERVED = 100;
let unserved = 0, onServed = () => {};

/** A listening socket. */
export abstract class Server implements Source {
  onReadable: (() => void) | null = null;
  onWritable = null;
  /** The port that was bound, also when 0 was asked for. */
  abstract readonly port: number;
  readonly writable = false;
  #waiting: Connection[] = [];

  get readable(): boolean {
    if (closing) return false;
    if (this.#waiting.length === 0) this.look();
    return this.#waiting.length > 0;
  }

  /** The next connection if one is waiting, otherwise `null`: accept(2) with O_NONBLOCK. */
  acceptNow(): Connection | null {
    const connection = this.readable ? this.#waiting.shift()! : null;
    if (!connection) return null;
    connection.unserved = true;
    unserved++;
    count(ACCEPTED);
    count(OPEN);
    log("accept", connection.id, connection.peer);
    return connection;
  }

  /** Waits for the next connection. A failed accept is logged, and costs that one connection. See accept(2). */
  async accept(): Promise<Connection> {
    for (;;) {
      while (unserved >= MOST_UNSERVED) await new Promise<void>((resolve) => onServed = resolve);
      if (!this.readable) await new Promise<void>((resolve) => this.onReadable = resolve);
      // There is none any more if the server stops in between.
      const connection = this.acceptNow();
      if (connection) return connection;
    }
  }

  /** Stops listening. Connections stay as they are; a waiting `accept` waits for ever. */
  close(): void {
    this.stop();
    logStep("close", "the listening socket");
    for (const connection of this.#waiting.splice(0)) connection.release();
  }

  /** The runtime has accepted a connection. */
  protected accepted(connection: Connection): void {
    if (closing) return connection.release();
    this.#waiting.push(connection);
    wakeReader(this);
  }

  /** Asks the runtime for the next connection, where it wants to be asked. */
  protected look(): void {}
  protected abstract stop(): void;
}

/** So many pieces may wait for `recv`. With more, the socket is not read from, and the client has to wait. */
const MOST = 8;
const END = new Uint8Array(0), DONE = Promise.resolve();

/** A socket of the runtime that hands over what it has received, unless it is paused. */
interface Flow {
  pause(): void;
  resume(): void;
}

/** A connected socket. */
export abstract class Connection extends Account implements Source, Closable {
  onReadable: (() => void) | null = null;
  onWritable: (() => void) | null = null;
  /** The other end, as `HOST:PORT`. */
  readonly peer: string;
  /** This end. */
  abstract readonly local: string;
  override silence = -Infinity;
  excused?(): boolean;
  /** Whether it has been accepted, and nothing asked of it yet. */
  unserved = false;
  /** Whether bytes are on their way that the kernel has not taken yet. */
  protected sending = false;
  /** Whether the client has shut down its sending side, or is gone. */
  protected ended = false;
  /** Whether it is over for both directions: reset, or ended by the server. No reply can be sent any more. */
  isBroken = false;
  protected closed = false;
  #arrived: Uint8Array[] = [];
  #flow: Flow | undefined;

  /** The address of the other end; and what has to be told when it is not to be read from. */
  constructor(host?: string, port?: number, flow?: Flow) {
    super();
    this.peer = formatAddress(host, port);
    this.#flow = flow;
    open.add(this);
  }

  // ------------------------------------------------------------ calls that return at once

  /** recv(2) with O_NONBLOCK: `null` is EAGAIN, no bytes are the end of the stream. Valid until the next call. */
  recvNow(): Uint8Array | null {
    const data = this.isComplete ? END : this.read();
    if (data) this.received(data);
    return data;
  }

  /**
   * Sends all of `data`. `false` if the kernel has not taken all of it yet: the next call, of this or of `recvNow`, has to
   * wait until the connection is writable. Does nothing if it is broken.
   */
  sendNow(data: Uint8Array): boolean {
    const all = this.write(data);
    if (this.isBroken) return all;
    this.sent(data.length);
    count(MESSAGES);
    return all;
  }

  get readable(): boolean {
    this.#ask();
    if (this.#arrived.length === 0) this.look();
    return this.#arrived.length > 0 || this.ended || this.isBroken || this.isComplete;
  }

  get writable(): boolean {
    return !this.sending || this.isBroken;
  }

  // ------------------------------------------------------------ calls that wait

  /** As `recvNow`, but waits for bytes. See recv(2). */
  recv(): Promise<Uint8Array> {
    const data = this.recvNow();
    return data ? Promise.resolve(data) : new Promise((resolve) => this.onReadable = () => resolve(this.recvNow()!));
  }

  /** Sends all of `data`, however long that takes: send(2) in a loop, Python's `sendall`. */
  send(data: Uint8Array): Promise<void> {
    this.sendNow(data);
    return this.writable ? DONE : new Promise((resolve) => this.onWritable = resolve);
  }

  // ------------------------------------------------------------ the end

  /** Closes the connection, losing nothing that was sent, and logs why. Closing twice does nothing. See close(2). */
  close(reason = "by the server"): void {
    if (this.closed) return;
    this.release();
    this.end(reason);
  }

  abort(why: unknown): void {
    // It could not be answered any more.
    this.#arrived.length = 0;
    this.#break(why);
    // No one serves it yet, who would close it; or no one has even accepted it.
    if (this.unserved) this.close();
    else if (this.silence < 0) this.release();
  }

  /** From here on it is the client that is waited for. */
  #ask(): void {
    this.silence = 0;
    this.#serve();
  }

  #serve(): void {
    if (!this.unserved) return;
    this.unserved = false;
    unserved--;
    onServed();
  }

  #break(why: unknown): void {
    this.isBroken = true;
    this.reason ??= why;
    wakeReader(this);
    wakeWriter(this);
  }

  // ------------------------------------------------------------ for thread.ts, whose threads write the log

  /** As `recvNow`. */
  read(): Uint8Array | null {
    this.#ask();
    const data = this.#arrived.shift();
    if (data) {
      if (this.#arrived.length === MOST - 1) this.#flow?.resume();
      return data;
    }
    if (this.ended || this.isBroken) return END;
    this.look();
    return null;
  }

  /** As `sendNow`. */
  write(data: Uint8Array): boolean {
    return this.isBroken || this.put(data);
  }

  /** Closed with unread bytes, a socket would reset the connection: what still comes is dropped for a while. */
  release(): void {
    if (this.closed) return;
    this.closed = true;
    this.#serve();
    open.delete(this);
    count(OPEN, -1);
    if (this.ended) return this.destroy();
    this.#flow?.resume();
    this.shutdown();
    setTimeout(() => this.destroy(), LINGER).unref();
  }

  // ------------------------------------------------------------ what a runtime's file tells

  /** Bytes have come. */
  arrived(data: Uint8Array): void {
    if (this.closed) return;
    if (this.silence > 0) this.silence = 0;
    if (this.#arrived.push(data) === MOST) this.#flow?.pause();
    wakeReader(this);
  }

  /** The client has shut down its sending side. */
  finished(): void {
    this.ended = true;
    wakeReader(this);
  }

  /** The kernel has taken all that was sent. */
  drained(): void {
    if (this.silence > 0) this.silence = 0;
    this.sending = false;
    wakeWriter(this);
  }

  /** The connection is broken. */
  fail(why: unknown): void {
    this.ended = true;
    this.#break(why);
  }

  // ------------------------------------------------------------ what a runtime's file is asked for

  /** Asks for bytes, where a runtime wants to be asked. */
  protected look(): void {}
  /** Sends, sets `sending` until the kernel has taken all, and returns whether the caller may go on meanwhile. */
  protected abstract put(data: Uint8Array): boolean;
  /** Shuts down the sending side once all is sent, and drops what comes. */
  protected abstract shutdown(): void;
  /** Closes both sides; closing twice does nothing. */
  protected abstract destroy(): void;
}
