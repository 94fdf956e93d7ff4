// SPDX-License-Identifier: MIT
/** Waiting for many sockets at once, in a copy. */

import { setImmediate } from "node:timers";
import "./ready_deno.ts";

/** What to wait for: bytes or a client, and room for bytes. */
export const READ = 1, WRITE = 4;

/** What can be waited for. */
interface Source {
  readonly readable: boolean;
  readonly writable?: boolean;
}

let change = Promise.withResolvers<void>();

/** Something has happened: the selector looks again. */
export function changed(): void {
  change.resolve();
  change = Promise.withResolvers();
}

/** A set of sources; what is not dealt with is ready again at once. */
export class Selector<D> {
  #watches = new Map<Source, { events: number; data: D }>();

  get size(): number {
    return this.#watches.size;
  }

  /** Watches a source; `data` comes back whenever it is ready. */
  register(source: Source, events: number, data: D): void {
    this.#watches.set(source, { events, data });
  }

  modify(source: Source, events: number): void {
    this.#watches.get(source)!.events = events;
  }

  unregister(source: Source): void {
    this.#watches.delete(source);
  }

  /** Waits until a source is ready, and returns the data of all that are. */
  async select(): Promise<D[]> {
    for (;;) {
      // The runtime tells of all that its own wait for events has found.
      await new Promise((resolve) => setImmediate(resolve));
      const found = [...this.#watches].filter(([source, { events }]) =>
        events === READ ? source.readable : source.writable
      );
      if (found.length > 0) return found.map(([, { data }]) => data);
      await change.promise;
    }
  }
}
