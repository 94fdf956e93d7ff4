// SPDX-License-Identifier: MIT
/** Calls that block, in a copy: what is logged of them. */

import { parentPort } from "node:worker_threads";
import * as sys from "./sys.ts";
import { log, nextNumber, numbers, startWorker } from "./worker.ts";

/** What the threads of a server share. */
export class BlockingServer {
  readonly listener: number;
  #threads: number;

  constructor(listener: number, threads: number) {
    this.listener = listener;
    this.#threads = threads;
  }

  /** What a thread needs. */
  settings(i: number) {
    return { name: `t-${i}`, numbers, listener: this.listener };
  }

  /** Starts threads that run `script`, one after the other. */
  async startThreads(script: string): Promise<void> {
    for (let i = 1; i <= this.#threads; i++) await startWorker(script, this.settings(i));
  }
}

/** A thread that serves one client at a time, and logs what comes of calls. */
export class BlockingThread {
  readonly listener: number;
  #id = 0;
  #result = 0;

  constructor({ listener }: { listener: number }) {
    this.listener = listener;
    parentPort?.postMessage("ready"); // not prefork
  }

  /** Makes an accept4(2) call that fills in `peer`. Returns the descriptor. */
  accept(peer: sys.SocketAddress, call: () => number): number {
    const fd = sys.must(call());
    this.#id = nextNumber();
    log("accept", this.#id, sys.addressText(peer));
    return fd;
  }

  /** Makes a recv(2) call. Returns how many bytes came. */
  recv(_: sys.Memory, call: () => number): number {
    const size = this.#result = call();
    if (size > 0) log("recv", this.#id, size);
    return Math.max(size, 0);
  }

  /** Makes a send(2) call; again for what is left, if it took a part. */
  send(buffer: sys.Memory, size: number, call: (left: number) => number): void {
    for (let left = size; left > 0;) {
      const sent = this.#result = call(left);
      if (sent < 0) return;
      log("send", this.#id, sent);
      left -= sent;
      buffer.bytes.copyWithin(0, sent, sent + left);
    }
  }

  /** Makes a close(2) call. */
  close(_: sys.Memory, call: () => number): void {
    call();
    log("close", this.#id, this.#result === 0 ? "by the client" : sys.systemError(this.#result).message);
  }
}
