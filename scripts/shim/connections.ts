// SPDX-License-Identifier: MIT
/** What a server knows of its connections: their log, why each of them ends, and how long it has been silent. */

import { setTimeout } from "node:timers";
import { log } from "./log.ts";
import { nextNumber, self } from "./runtime.ts";

/** After the server has closed its side, what a client still sends is read and dropped for so many milliseconds. */
export const LINGER = 1000;

/** A connection's account: it logs what happens, and knows why it ends. How bytes are moved is for others to say. */
export class Account {
  /** Counts the connections of the process, from 1. */
  readonly id: number;
  /** Seconds that the server has waited for the client; -Infinity until the server first receives from the client. */
  silence = 0;
  /** Why it ends: words, or an error. `undefined` while it goes on. */
  reason: unknown;
  /** Whether it logs what happens: a client writes its own log. */
  logs = !self.given.quiet;
  /** How many messages have come. */
  exchanges = 0;
  /** As many as `--messages` allows. */
  #most = Number(self.given.messages ?? Infinity);

  constructor(id: number = nextNumber()) {
    this.id = id;
  }

  /** Whether there have been as many messages as `--messages` allows, which ends it. */
  get isComplete(): boolean {
    if (this.exchanges < this.#most) return false;
    this.reason ??= `after ${this.#most} messages`;
    return true;
  }

  /** So many bytes have come; none are the end of the stream. */
  received(data: Uint8Array, size = data.length): void {
    this.silence = 0;
    if (size === 0) return void (this.reason ??= "by the client");
    this.exchanges++;
    if (this.logs) log("recv", this.id, size, data);
  }

  /** So many bytes are on their way to the client. */
  sent(size: number): void {
    this.silence = 0;
    if (this.logs) log("send", this.id, size);
  }

  /** It has ended for this reason, unless there was one before. */
  end(reason?: unknown): void {
    this.reason ??= reason;
    if (this.logs) log("close", this.id, this.reason);
  }
}

/** What is open, and can be ended for a reason. */
export interface Closable extends Account {
  /** True while the client waits for the server, and not the server for the client: no silence then. */
  excused?(): boolean;
  /** Ends the connection: calls that wait on it return, as at the end of the stream. */
  abort(why: unknown): void;
}

/** The connections of this thread. */
export const open = new Set<Closable>();

/**
 * Is called every half a second, or within a second where a loop waits in a system call. After more than that this
 * process has not run, as it was stopped or busy: that time doesn't count.
 */
function closeSilent(idle: number): void {
  const now = performance.now(), passed = (now - lastCount) / 1000;
  lastCount = now;
  if (passed > 1.5) return;
  for (const connection of open) {
    // When the last event was before the first call is not known: that time doesn't count. A timer may be a bit early.
    if (connection.silence === 0) connection.silence = Number.MIN_VALUE;
    else if ((connection.silence += passed) < idle - 0.05) continue;
    else if (connection.excused?.()) connection.silence = 0;
    else connection.abort(`silent for ${idle} s`);
  }
}

let lastCount = 0;

/** From here on connections that are silent for `idle` seconds are ended. That does not keep the process running. */
export function limitSilence(idle: number): void {
  if (Number.isFinite(idle)) setInterval(() => closeSilent(idle), 500).unref();
}

/** Whether the connections of this thread are ended: no further one is accepted. */
export let closing = false;

/** Ends the connections of this thread, and gives their handlers time to log and close them. */
export async function closeAll(): Promise<void> {
  closing = true;
  for (const connection of open) connection.abort("the server stops");
  await until(() => open.size === 0);
}

/** Waits until something is so, but no longer than so many milliseconds. */
export async function until(isSo: () => boolean, most = 500): Promise<void> {
  for (const end = performance.now() + most; performance.now() < end && !isSo();) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
