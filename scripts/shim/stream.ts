// SPDX-License-Identifier: MIT
/** What Bun and Node call back about is kept here until it is asked for: what is the same for both. */

import { setTimeout } from "node:timers";
import { formatAddress, nextNumber, open } from "./program.ts";
import { LINGER } from "./socket.ts";

/** A listening socket of a runtime that accepts by itself, and calls `accepted`. */
export abstract class Listener<C extends Stream> {
  #waiting: C[] = [];
  #taker: ((connection: C) => void) | null = null;

  accepted(connection: C): void {
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
const END = new Uint8Array(0);
/** What nearly every `send` returns: the kernel has room, and there is nothing to wait for. */
const SENT = Promise.resolve();

type Failed = (error: unknown) => void;

/** A connected socket. The runtime calls `arrived`, `finished`, `drained` and `abort`. */
export abstract class Stream {
  readonly id = nextNumber();
  readonly peer: string;
  silence = -Infinity;
  protected ended = false;
  /** Whether the kernel takes no more bytes. */
  protected blocked = false;
  #socket: { pause(): void; resume(): void };
  #arrived: Uint8Array[] = [];
  /** The call that waits for bytes, and the one that waits until the kernel takes bytes again. */
  #receiver: { received(data: Uint8Array): void; failed: Failed } | null = null;
  #sender: { sent(): void; failed: Failed } | null = null;
  #failure: unknown = null;
  #closed = false;

  constructor(socket: { pause(): void; resume(): void }, host?: string, port?: number) {
    this.#socket = socket;
    this.peer = formatAddress(host, port);
    open.add(this);
  }

  arrived(data: Uint8Array): void {
    if (this.#closed) return;
    if (this.silence > 0) this.silence = 0;
    const receiver = this.#receiver;
    this.#receiver = null;
    if (receiver) receiver.received(data);
    else if (this.#arrived.push(data) === MOST) this.#socket.pause();
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

  /** The connection has failed, or is to end: calls that wait, for reading or for writing, fail with `why`. */
  abort(why: unknown): void {
    this.#failure ??= why;
    for (const waiting of [this.#receiver, this.#sender]) waiting?.failed(why);
    this.#receiver = this.#sender = null;
  }

  /** Waits for bytes; an empty array is the end of the stream. */
  recv(): Promise<Uint8Array> {
    return new Promise((resolve, reject) => this.recvThen(resolve, reject));
  }

  recvThen(received: (data: Uint8Array) => void, failed: Failed): void {
    this.silence = 0;
    if (this.#arrived.length === MOST) this.#socket.resume();
    const data = this.#arrived.shift();
    if (data) received(data);
    else if (this.#failure) failed(this.#failure);
    else if (this.ended) received(END);
    else this.#receiver = { received, failed };
  }

  /** Sends all of `data`, however long that takes. */
  send(data: Uint8Array): Promise<void> {
    const rest = this.#send(data);
    return rest ? new Promise((resolve, reject) => this.#sendLater(rest, resolve, reject)) : SENT;
  }

  sendThen(data: Uint8Array, sent: () => void, failed: Failed): void {
    const rest = this.#send(data);
    if (rest) this.#sendLater(rest, sent, failed);
    else sent();
  }

  /** Sends what the kernel takes now. Returns the rest, or `null` if that was all. */
  #send(data: Uint8Array): Uint8Array | null {
    const length = this.#failure ? 0 : this.write(data);
    return this.#failure || this.blocked ? data.subarray(length) : null;
  }

  #sendLater(data: Uint8Array, sent: () => void, failed: Failed): void {
    if (this.#failure) failed(this.#failure);
    else this.#sender = { sent: () => this.sendThen(data, sent, failed), failed };
  }

  /** Closes the connection, losing nothing that was sent: what still comes is read and dropped for a while. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    open.delete(this);
    if (this.ended) return this.destroy();
    this.shutdown();
    this.#socket.resume();
    setTimeout(() => this.destroy(), LINGER).unref();
  }

  /** Writes, sets `blocked` if the kernel hasn't taken all, and returns how many bytes need not be written again. */
  protected abstract write(data: Uint8Array): number;
  /** Shuts down the sending side; closes both. */
  protected abstract shutdown(): void;
  protected abstract destroy(): void;
}
