// SPDX-License-Identifier: MIT
/**
 * What calls that block need in a runtime, which handles signals and timers only between two calls: none may block for
 * ever, so each gives up after half a second, and is made again. A program in C needs nothing of this.
 */

import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { parentPort } from "node:worker_threads";
import { Account, fail, LINGER, log, nextNumber, threadSettings, until } from "./program.ts";
import { self } from "./runtime.ts";
import * as sys from "./sys.ts";
import { keepWorker, post } from "./worker.ts";

/** Milliseconds after which a call gives up. */
export const TIMEOUT = 500;

/** Whether a call has come back without a result: its time was over, or a signal has interrupted it. */
export function isNothing(result: number): boolean {
  return result === -sys.EAGAIN || result === -sys.EINTR;
}

/**
 * What a thread that serves one client at a time, or a process that does, shares with the one that has started it, by
 * index: whether it is to go on; the descriptor of its client, or -1; the client's number, or 0; and how many clients it
 * has had, -1 until it is ready for the first.
 */
export type Seat = Int32Array<ArrayBufferLike>;
export const ORDER = 0, DESCRIPTOR = 1, CLIENT = 2, COUNT = 3, SEAT_SIZE = 16;
/** Orders: serve no further client; the server stops. */
export const LEAVE = 1, STOP = 2;

/** What the threads of a server share. */
export class BlockingServer {
  readonly listener: number;
  /** Of the main thread, and each further one. */
  #seats: Seat[];

  constructor(listener: number, threads: number) {
    this.listener = listener;
    this.#seats = Array.from({ length: 1 + threads }, () => new Int32Array(new SharedArrayBuffer(SEAT_SIZE)));
    for (const seat of this.#seats) seat[DESCRIPTOR] = -1;
  }

  /** What thread `i` (0 is the main thread) needs to take part. */
  settings(i: number): Settings {
    return { listener: this.listener, seat: this.#seats[i] };
  }

  /**
   * Starts threads that run `script`, one after the other: a runtime may not like to load the C library in several at
   * once. One that dies is replaced, and its client's connection closed.
   */
  async startThreads(script: string): Promise<void> {
    const count = this.#seats.length - 1;
    for (let i = 1; i <= count; i++) {
      try {
        await keepWorker(script, () => ({ ...threadSettings(`t-${i}`), ...this.settings(i) }), () => () => {
          const fd = Atomics.exchange(this.#seats[i], DESCRIPTOR, -1), id = Atomics.exchange(this.#seats[i], CLIENT, 0);
          if (fd >= 0) sys.close(fd);
          if (id > 0) log("close", id, "its thread has died");
        });
      } catch (error) {
        if (i === 1) fail("cannot start a thread", error);
        return log("error", 0, `${i - 1} of ${count} threads serve, there are no more:`, error);
      }
    }
  }

  /** Wakes all threads, and waits until they have closed their connections. Closing a socket would wake none. */
  async stop(): Promise<void> {
    for (const seat of this.#seats) {
      Atomics.store(seat, ORDER, STOP);
      if (seat[DESCRIPTOR] >= 0) sys.shutdown(seat[DESCRIPTOR], sys.SHUT_RDWR);
    }
    sys.shutdown(this.listener, sys.SHUT_RDWR);
    await until(() => this.#seats.every((seat) => seat[CLIENT] === 0));
  }
}

interface Settings {
  listener: number;
  seat: Seat;
  /** In a process: the one that has started it. While that is stopped, as by Ctrl-Z, no client is silent. */
  parent?: number;
}

/** A thread that serves one client at a time: makes its calls until something comes of them, and logs what that is. */
export class BlockingThread {
  readonly listener: number;
  #seat: Seat;
  #parent: number | undefined;
  /** Number 0 is none. */
  #client = new Account(0);

  constructor({ listener, seat, parent }: Settings) {
    this.listener = listener;
    this.#seat = seat;
    this.#parent = parent;
    Atomics.store(seat, COUNT, 0);
    if (parentPort) post(parentPort, "ready");
  }

  /** The number of its client. */
  get id(): number {
    return this.#client.id;
  }

  get #order(): number {
    return Atomics.load(this.#seat, ORDER);
  }

  /**
   * Makes an accept4(2) call that fills in `peer`. Returns the descriptor, or -1 when the thread is to leave, or the
   * server stops. When there are no descriptors left, clients wait in the backlog.
   */
  async accept(peer: sys.SocketAddress, call: () => number): Promise<number> {
    for (; this.#order === 0; await pause(TIMEOUT)) {
      const fd = await this.#blocking("accept", call, Infinity);
      if (fd >= 0) {
        this.#take(fd, nextNumber());
        log("accept", this.#client.id, sys.addressText(peer));
        return fd;
      }
      if (this.#order > 0) break;
      log("error", 0, "accept:", sys.systemError(fd));
    }
    return -1;
  }

  /**
   * Makes a recvmsg(2) call that fills in `message`. Returns the descriptor that has come with it, or -1 when the thread
   * is to leave: then the stream ends, behind what was passed before.
   */
  async receive(message: sys.Memory, call: () => number): Promise<number> {
    let size;
    do size = await this.#blocking("recvmsg", call, Infinity); while (isNothing(size));
    if (size <= 0) return -1;
    const { fd, number } = sys.passed(message);
    this.#take(fd, number);
    log("receive", number, "descriptor", fd);
    return fd;
  }

  #take(fd: number, id: number): void {
    Atomics.store(this.#seat, DESCRIPTOR, fd);
    Atomics.store(this.#seat, CLIENT, id);
    Atomics.add(this.#seat, COUNT, 1);
    this.#client = new Account(id);
  }

  /**
   * Makes a recv(2) call that fills `buffer`. Returns how many bytes have come; 0 is the end: of the stream, of the
   * client's patience, of the messages that it may send, or of the server.
   */
  async recv(buffer: sys.Memory, call: () => number): Promise<number> {
    const client = this.#client, size = client.isComplete || client.reason ? 0 : await this.#blocking("recv", call);
    if (size >= 0) client.received(buffer.bytes, size);
    return Math.max(size, 0);
  }

  /**
   * Makes a send(2) call, and when the time limit or a signal has cut it short, again for what is `left` of `size` bytes
   * in `buffer`.
   */
  async send(buffer: sys.Memory, size: number, call: (left: number) => number): Promise<void> {
    for (let left = size; left > 0;) {
      const sent = await this.#blocking("send", () => call(left));
      if (sent < 0) return;
      this.#client.sent(sent);
      left -= sent;
      buffer.bytes.copyWithin(0, sent, sent + left);
    }
  }

  /**
   * Makes a close(2) call. A socket that is closed with unread bytes resets the connection, so that after the last
   * message the sending side is shut down first, and what still comes is dropped for a while.
   */
  async close(buffer: sys.Memory, call: () => number): Promise<void> {
    const fd = this.#seat[DESCRIPTOR], client = this.#client;
    if (client.isComplete && this.#order !== STOP) {
      sys.shutdown(fd, sys.SHUT_WR);
      for (const end = performance.now() + LINGER; performance.now() < end;) {
        const size = sys.recv(fd, buffer, buffer.bytes.length, 0);
        if (size <= 0 && !isNothing(size)) break;
        if (size <= 0 || sys.turnIsDue()) await sys.runtimeTurn();
      }
    }
    this.#client = new Account(0);
    Atomics.store(this.#seat, DESCRIPTOR, -1);
    call();
    // If there is none any more, the process that has started this one has said why its connection ends.
    if (this.#order === STOP) client.reason = "the server stops";
    if (Atomics.exchange(this.#seat, CLIENT, 0) > 0) client.end();
  }

  /**
   * Makes a call until something comes of it, or the client has been silent for too long, or there is none and this
   * thread is to leave: then it is -EAGAIN.
   */
  async #blocking(name: string, call: () => number, patience = Number(self.given.idle) * 1000): Promise<number> {
    const client = this.#client, start = performance.now();
    for (let silence = 0, before = start, asleep = false;; before = performance.now()) {
      const result = call(), nothing = isNothing(result);
      if (nothing) {
        const now = performance.now();
        // A call that took longer than its limit did so because the process was stopped.
        if (!isStopped(this.#parent)) silence += Math.min(now - before, TIMEOUT);
        if (!asleep && now - start > 0.9 * TIMEOUT) {
          asleep = true;
          log("sleep", client.id, name, "for", (now - start).toFixed(1), "ms so far");
        }
      } else if (asleep) log("wake", client.id, name, "after", (performance.now() - start).toFixed(1), "ms");
      if (nothing || sys.turnIsDue()) await sys.runtimeTurn();
      if (nothing && silence < patience && (client.id > 0 || this.#order === 0)) continue;
      if (result < 0) client.reason = nothing ? `silent for ${self.given.idle} s` : sys.systemError(result);
      return result;
    }
  }
}

/** Whether a process is stopped, as by Ctrl-Z; none is not. See proc_pid_stat(5). */
export function isStopped(pid?: number): boolean {
  return pid !== undefined && /\) T/.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
}
