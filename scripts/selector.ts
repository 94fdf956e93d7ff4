// SPDX-License-Identifier: MIT
/**
 * Waiting for many sockets at once, on top of the runtime's event loop.
 *
 * The runtime has its own loop around epoll, kqueue or a completion port, and tells of one socket at a time, by
 * callback or promise. The selector collects what it tells and hands it over as a list, the way select(2), poll(2)
 * and epoll_wait(2) do. The kernel's own calls are in select.ts, poll.ts and epoll.ts.
 */

import { setImmediate } from "node:timers";
import type { Connection, Server } from "./readiness.ts";

/** A source that is watched; `wait` returns those that are ready. */
export interface Watch<S, D> {
  readonly source: S;
  /** What the source was registered with: whatever the loop wants to know about it. */
  readonly data: D;
  /** What it is ready for: `READ`, `WRITE` or both. */
  events: number;
  /** What it is watched for. */
  interest: number;
  /** Whether it is in the list for the next `wait`, or in the one handed over last. */
  listed: boolean;
}

/** A set of sources to wait for, level-triggered: what is not dealt with is ready again at the next `wait`. */
export class Selector<S extends Server | Connection, D> {
  #watches = new Map<S, Watch<S, D>>();
  #ready: Watch<S, D>[] = [];
  #handedOver: Watch<S, D>[] = [];
  #wake: (() => void) | null = null;

  /** Starts to watch `source` for `events`: `READ`, `WRITE` or both. `data` comes back with every event. */
  register(source: S, events: number, data: D): void {
    const watch = { source, data, events: 0, interest: events, listed: false };
    this.#watches.set(source, watch);
    source.onReadable = () => this.#check(watch);
    if ("onWritable" in source) source.onWritable = source.onReadable;
    this.#check(watch);
  }

  /** Watches a registered source for other events than before. */
  modify(source: S, events: number): void {
    const watch = this.#watches.get(source)!;
    watch.interest = events;
    this.#check(watch);
  }

  /** Watches `source` no longer. */
  unregister(source: S): void {
    const watch = this.#watches.get(source);
    if (watch) watch.interest = 0;
    this.#watches.delete(source);
  }

  /** Waits until a source is ready, and returns all that are. */
  async wait(): Promise<Watch<S, D>[]> {
    for (const watch of this.#handedOver) {
      watch.listed = false;
      this.#check(watch);
    }
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      if (this.#ready.length > 0) this.#wakeUp();
    });
    this.#handedOver = this.#ready;
    this.#ready = [];
    return this.#handedOver;
  }

  #check(watch: Watch<S, D>): void {
    if (watch.listed) return;
    watch.events = watch.source.ready(watch.interest);
    if (watch.events === 0) return;
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
