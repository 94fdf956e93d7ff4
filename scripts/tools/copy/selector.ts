// SPDX-License-Identifier: MIT
/** Waiting for many sockets at once, in a copy; and calls that don't wait. */

import { setImmediate } from "node:timers";
import { log } from "./program.ts";
import "./shim.ts";

/** What to wait for: bytes or a client, and room for bytes. */
export const READ = 1, WRITE = 4;

class Server {
  #client: Connection | null = null;

  /** Resolves when `acceptNow` has a client. */
  async readable(): Promise<void> {
    this.#client ??= await this.accept();
  }

  /** The next connection, or `null`: accept(2) with O_NONBLOCK. */
  acceptNow(): Connection | null {
    const client = this.#client;
    this.#client = null;
    return client;
  }
}

class Connection {
  #received: Uint8Array | null = null;
  #sent = Promise.resolve();

  /** Resolves when `recvNow` has something. */
  async readable(): Promise<void> {
    this.#received ??= await this.recv();
  }

  /** The bytes that are there, or `null`: recv(2) with O_NONBLOCK. */
  recvNow(): Uint8Array | null {
    const data = this.#received;
    this.#received = null;
    if (data && data.length > 0) log("recv", this.id, data.length);
    return data;
  }

  /** Sends all of `data`; `false` if some of it may be on its way still. */
  sendNow(data: Uint8Array): boolean {
    log("send", this.id, data.length);
    this.#sent = this.send(data);
    return false;
  }

  /** Resolves when the kernel has taken all. */
  writable(): Promise<void> {
    return this.#sent;
  }
}

/** A set of sources; what is not dealt with is ready again at once. */
export class Selector<D> {
  #watches = new Map<Source, { events: number; data: D }>();
  /** Not known to be ready: new, or handed over by the last `select`. */
  #unknown: Source[] = [];
  #ready: Source[] = [];
  #wake = () => {};

  get size(): number {
    return this.#watches.size;
  }

  /** Watches a source; `data` comes back whenever it is ready. */
  register(source: Source, events: number, data: D): void {
    this.#watches.set(source, { events, data });
    this.#unknown.push(source);
  }

  modify(source: Source, events: number): void {
    this.#watches.get(source)!.events = events;
  }

  unregister(source: Source): void {
    this.#watches.delete(source);
  }

  /** Waits until a source is ready, and returns the data of all that are. */
  async select(): Promise<D[]> {
    for (const source of this.#unknown) this.#watch(source);
    if (this.#ready.length === 0) {
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    // The runtime tells of all that its own wait for events has found.
    await new Promise((resolve) => setImmediate(resolve));
    this.#unknown = this.#ready;
    this.#ready = [];
    return this.#unknown.map((source) => this.#watches.get(source)!.data);
  }

  async #watch(source: Source): Promise<void> {
    const watch = this.#watches.get(source);
    if (!watch) return;
    await (watch.events === READ ? source.readable() : source.writable!());
    this.#ready.push(source);
    this.#wake();
  }
}

/** What can be waited for. */
interface Source {
  readable(): Promise<void>;
  writable?(): Promise<void>;
}
