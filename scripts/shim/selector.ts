// SPDX-License-Identifier: MIT
/**
 * Waiting for many sockets at once, on top of the runtime's event loop.
 *
 * The runtime has its own loop around epoll, kqueue or a completion port, and tells of one socket at a time, by
 * callback or promise. The selector collects what it tells and hands it over as a list, the way select(2), poll(2)
 * and epoll_wait(2) do. The kernel's own calls are in select.ts, poll.ts and epoll.ts.
 */

import { setImmediate } from "node:timers";

/** What can be waited for. */
interface Source {
  ready(): boolean;
  onReady: () => void;
}

/** A source that is watched; `wait` returns those that are ready. */
interface Watch<D> {
  readonly source: Source;
  /** What the source was registered with: whatever the loop wants to know about it. */
  readonly data: D;
  /** Whether it is in the list for the next `wait`, or in the one handed over last; or watched no longer. */
  listed: boolean;
}

/** A set of sources to wait for, level-triggered: what is not dealt with is ready again at the next `wait`. */
export class Selector<D> {
  #watches = new Map<Source, Watch<D>>();
  #ready: Watch<D>[] = [];
  #handedOver: Watch<D>[] = [];
  #wake: (() => void) | null = null;

  get size(): number {
    return this.#watches.size;
  }

  /** Starts to watch `source`. `data` comes back whenever it is ready. */
  register(source: Source, data: D): void {
    const watch = { source, data, listed: false };
    this.#watches.set(source, watch);
    source.onReady = () => this.#check(watch);
    this.#check(watch);
  }

  /** Watches `source` no longer. */
  unregister(source: Source): void {
    source.onReady = () => {};
    this.#watches.delete(source);
  }

  /** Waits until a source is ready, and returns the data of all that are. */
  async wait(): Promise<D[]> {
    for (const watch of this.#handedOver) {
      watch.listed = false;
      if (this.#watches.has(watch.source)) this.#check(watch);
    }
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      if (this.#ready.length > 0) this.#wakeUp();
    });
    this.#handedOver = this.#ready;
    this.#ready = [];
    return this.#handedOver.map(({ data }) => data);
  }

  #check(watch: Watch<D>): void {
    // Asking may list it already: what is there is told at once.
    if (watch.listed || !watch.source.ready() || watch.listed) return;
    watch.listed = true;
    this.#ready.push(watch);
    if (this.#wake) this.#wakeUp();
  }

  /** Ends the wait, but not before the runtime has told of everything that its own wait for events had found. */
  #wakeUp(): void {
    setImmediate(this.#wake!);
    this.#wake = null;
  }
}
