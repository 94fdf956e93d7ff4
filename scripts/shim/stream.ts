// SPDX-License-Identifier: MIT
/** What Bun and Node call back about is kept here until it is asked for: what is the same for both. */

import { setTimeout } from "node:timers";
import { formatAddress, nextNumber, open } from "./program.ts";
import { LINGER } from "./socket.ts";

/** A queue that can be waited for. */
export class Queue<T extends object> {
  #items: T[] = [];
  #failure: unknown = null;
  #taker: ((item: T) => void) | null = null;
  #failed: ((error: unknown) => void) | null = null;

  get length(): number {
    return this.#items.length;
  }

  push(item: T): void {
    const taker = this.#taker;
    this.#taker = null;
    if (taker) taker(item);
    else this.#items.push(item);
  }

  /** Takes out what nobody has asked for. */
  clear(): T[] {
    return this.#items.splice(0);
  }

  /** Nothing more will come, because of `error`. */
  fail(error: unknown): void {
    this.#failure ??= error;
    if (this.#taker) this.#failed!(error);
    this.#taker = null;
  }

  /** Has the next item handed to `taker`, at once if there is one. */
  take(taker: (item: T) => void, failed: (error: unknown) => void): void {
    const item = this.#items.shift();
    if (item) return taker(item);
    if (this.#failure) return failed(this.#failure);
    this.#taker = taker;
    this.#failed = failed;
  }
}

/** So many pieces may wait for `recv`. With more, the socket is not read from, and the client has to wait. */
const QUEUE_LENGTH = 8;

/** A connected socket. The runtime calls `arrived`, `finished`, `drained` and `abort`. */
export abstract class Stream {
  readonly id = nextNumber();
  /** The other end, as `HOST:PORT`. */
  readonly peer: string;
  silence = -Infinity;
  protected ended = false;
  /** Whether the kernel takes no more bytes. */
  protected blocked = false;
  #socket: { pause(): void; resume(): void };
  #received = new Queue<Uint8Array>();
  /** Who waits until the kernel takes bytes again. */
  #sender: { sent(): void; failed(error: unknown): void } | null = null;
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
    this.#received.push(data);
    if (this.#received.length === QUEUE_LENGTH) this.#socket.pause();
  }

  finished(): void {
    this.ended = true;
    this.#received.push(new Uint8Array(0));
  }

  drained(): void {
    if (this.silence > 0) this.silence = 0;
    this.blocked = false;
    const sender = this.#sender;
    this.#sender = null;
    sender?.sent();
  }

  /** The connection has failed, or is to end: whoever waits, for reading or for writing, learns `why`. */
  abort(why: Error): void {
    this.#failure ??= why;
    this.#received.fail(why);
    this.#sender?.failed(why);
    this.#sender = null;
  }

  /** Waits for bytes; an empty array is the end of the stream. */
  recv(): Promise<Uint8Array> {
    return new Promise((resolve, reject) => this.recvThen(resolve, reject));
  }

  recvThen(received: (data: Uint8Array) => void, failed: (error: unknown) => void): void {
    this.silence = 0;
    if (this.#received.length === QUEUE_LENGTH) this.#socket.resume();
    this.#received.take(received, failed);
  }

  /** Sends all of `data`, however long that takes. */
  send(data: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => this.sendThen(data, resolve, reject));
  }

  sendThen(data: Uint8Array, sent: () => void, failed: (error: unknown) => void): void {
    if (this.#failure) return failed(this.#failure);
    const length = this.write(data);
    if (this.#failure) return failed(this.#failure);
    if (!this.blocked) return sent();
    this.#sender = { sent: () => this.sendThen(data.subarray(length), sent, failed), failed };
  }

  /** Closes the connection. What the client still sends is read and dropped for a while: nothing is lost that was sent. */
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
