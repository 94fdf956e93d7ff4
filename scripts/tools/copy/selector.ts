// SPDX-License-Identifier: MIT
/** Waiting for many sockets at once, in a copy. */

import { setImmediate } from "node:timers";

/** What to wait for: bytes or a client, and room for bytes. */
export const READ = 1, WRITE = 4;

/** What can be waited for. */
interface Source {
  readable(): Promise<void>;
  writable?(): Promise<void>;
}

/** A set of sources; what is not dealt with is ready again at once. */
export class Selector<D> {
  #watches = new Map<Source, { events: number; data: D }>();
  /** Handed over, or new: it is not known whether they are ready. */
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

  /** Watches a source for other events. */
  modify(source: Source, events: number): void {
    this.#watches.get(source)!.events = events;
  }

  /** Watches a source no longer. */
  unregister(source: Source): void {
    this.#watches.delete(source);
  }

  /** Waits until a source is ready, and returns the data of all that are. */
  async select(): Promise<D[]> {
    for (const source of this.#unknown) this.#ask(source);
    while (this.#ready.length === 0) {
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    // The runtime tells of all that its own wait for events has found.
    await new Promise((resolve) => setImmediate(resolve));
    this.#unknown = this.#ready;
    this.#ready = [];
    return this.#unknown.map((source) => this.#watches.get(source)!.data);
  }

  async #ask(source: Source): Promise<void> {
    const watch = this.#watches.get(source);
    if (!watch) return;
    await (watch.events === READ ? source.readable() : source.writable!());
    this.#ready.push(source);
    this.#wake();
  }
}
