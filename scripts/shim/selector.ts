// SPDX-License-Identifier: MIT
/**
 * Waiting for many sockets at once, on top of the runtime's event loop. That tells of one socket at a time; the selector
 * hands over a list, the way select(2), poll(2) and epoll_wait(2) do: see select.ts, poll.ts and epoll.ts for those.
 */

import { setImmediate } from "node:timers";
import type { Source } from "./socket.ts";

/** What to wait for: bytes or a client, and room for bytes. */
export const READ = 1, WRITE = 4;

/** A source that is watched. */
interface Watch<D> {
  readonly source: Source;
  /** What the source was registered with: whatever the loop wants to know about it. */
  readonly data: D;
  events: number;
  /** Whether it is in the list for the next `select`, or in the one handed over last. */
  listed: boolean;
  readonly wake: () => void;
}

/** A set of sources to wait for, level-triggered: what is not dealt with is ready again at the next `select`. */
export class Selector<D> {
  #watches = new Map<Source, Watch<D>>();
  #ready: Watch<D>[] = [];
  #handedOver: Watch<D>[] = [];
  #wake: (() => void) | null = null;

  get size(): number {
    return this.#watches.size;
  }

  /** Starts to watch `source` for `events`. `data` comes back whenever it is ready. */
  register(source: Source, events: number, data: D): void {
    const watch = { source, data, events, listed: false, wake: () => this.#add(watch) };
    this.#watches.set(source, watch);
    this.#check(watch);
  }

  /** Watches `source` for other `events`. */
  modify(source: Source, events: number): void {
    const watch = this.#watches.get(source)!;
    if (watch.events === events) return;
    watch.events = events;
    source.onReadable = source.onWritable = null;
    this.#check(watch);
  }

  /** Watches `source` no longer. */
  unregister(source: Source): void {
    source.onReadable = source.onWritable = null;
    this.#watches.delete(source);
  }

  /** Waits until a source is ready, and returns the data of all that are. */
  async select(): Promise<D[]> {
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
    if (watch.listed) return;
    const { source, events } = watch;
    if (events === READ ? source.readable : source.writable) return this.#add(watch);
    if (events === READ) source.onReadable = watch.wake;
    else source.onWritable = watch.wake;
  }

  #add(watch: Watch<D>): void {
    if (watch.listed) return;
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
