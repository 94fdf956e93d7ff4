// SPDX-License-Identifier: MIT
/** What Bun and Node call back about is kept here until it is asked for: what is the same for both. */

import { formatAddress } from "./program.ts";
import { type Failed, Socket } from "./socket.ts";

/** A listening socket of a runtime that accepts by itself, and calls `accepted`. */
export abstract class Listener<C extends Socket> {
  #waiting: C[] = [];
  #taker: ((connection: C) => void) | null = null;

  protected accepted(connection: C): void {
    if (!this.#taker) return void this.#waiting.push(connection);
    this.#taker(connection);
    this.#taker = null;
  }

  /** Waits for the next connection. */
  accept(): Promise<C> {
    return new Promise((resolve) => this.#waiting.length > 0 ? resolve(this.#waiting.shift()!) : this.#taker = resolve);
  }

  close(): void {
    this.stop();
    for (const connection of this.#waiting.splice(0)) connection.close();
  }

  /** Stops listening. */
  protected abstract stop(): void;
}

/** So many pieces may wait for `recv`. With more, the socket is not read from, and the client has to wait. */
const MOST = 8;
const END = new Uint8Array(0), SENT = Promise.resolve();

/** What both call a socket. */
interface Raw {
  remoteAddress?: string;
  remotePort?: number;
  localAddress?: string;
  localPort?: number;
  pause(): void;
  resume(): void;
}

/** A connected socket. The runtime calls `arrived`, `finished`, `drained` and `abort`. */
export abstract class Stream<S extends Raw> extends Socket {
  protected readonly socket: S;
  /** Whether the kernel takes no more bytes. */
  protected blocked = false;
  #arrived: Uint8Array[] = [];
  /** The call that waits for bytes, and the one that waits until the kernel takes bytes again. */
  #receiver: { received(data: Uint8Array): void; failed: Failed } | null = null;
  #sender: { sent(): void; failed: Failed } | null = null;

  constructor(socket: S) {
    super(socket.remoteAddress, socket.remotePort);
    this.socket = socket;
  }

  get local(): string {
    return formatAddress(this.socket.localAddress, this.socket.localPort);
  }

  arrived(data: Uint8Array): void {
    if (this.closed) return;
    if (this.silence > 0) this.silence = 0;
    const receiver = this.#receiver;
    this.#receiver = null;
    if (receiver) receiver.received(data);
    else if (this.#arrived.push(data) === MOST) this.socket.pause();
  }

  finished(): void {
    this.ended = true;
    this.#receiver?.received(END);
    this.#receiver = null;
  }

  drained(): void {
    if (this.silence > 0) this.silence = 0;
    this.blocked = false;
    const sender = this.#sender;
    this.#sender = null;
    sender?.sent();
  }

  abort(why: unknown): void {
    this.failure ??= why;
    for (const waiting of [this.#receiver, this.#sender]) waiting?.failed(why);
    this.#receiver = this.#sender = null;
  }

  recvThen(received: (data: Uint8Array) => void, failed: Failed): void {
    this.silence = 0;
    if (this.#arrived.length === MOST) this.socket.resume();
    const data = this.#arrived.shift();
    if (data) received(data);
    else if (this.failure) failed(this.failure);
    else if (this.ended) received(END);
    else this.#receiver = { received, failed };
  }

  /** Nearly always the kernel takes it all, and there is nothing to wait for. */
  override send(data: Uint8Array): Promise<void> {
    const length = this.failure ? 0 : this.write(data);
    return this.failure || this.blocked ? super.send(data.subarray(length)) : SENT;
  }

  sendThen(data: Uint8Array, sent: () => void, failed: Failed): void {
    const length = this.failure || this.blocked ? 0 : this.write(data);
    if (this.failure) return failed(this.failure);
    if (!this.blocked) return sent();
    this.#sender = { sent: () => this.sendThen(data.subarray(length), sent, failed), failed };
  }

  /** Writes, sets `blocked` if the kernel hasn't taken all, and returns how many bytes need not be written again. */
  protected abstract write(data: Uint8Array): number;
}
