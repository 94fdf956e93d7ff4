// SPDX-License-Identifier: MIT
/** A process that serves on behalf of another one: one client, its standard input and output, or see prefork.ts. */

import { readFileSync } from "node:fs";
import { isNothing, isStopped, TIMEOUT } from "./blocking.ts";
import { Account, flushLog, joinParent, LINGER, log, process } from "./program.ts";
import { self } from "./runtime.ts";
import * as sys from "./sys.ts";

/** What a child finds in its environment. Times are milliseconds on the clock of `monotonic`. */
export interface Told {
  /** The number of its client, and when that was accepted; or its place among the children, and when it was started. */
  id: number;
  since: number;
  /** When the parent started, and its number. */
  origin: number;
  parent: number;
}

/** How a child ends, beside 0 for the end of the stream, and the number of an error, such as 32 for EPIPE. */
export const ENOUGH = 200, SILENT = 201;

const BUFFER_SIZE = 65_536;
let timespec: sys.Memory | undefined;

/** Milliseconds on a clock that all processes share, and that setting the system's time doesn't move. */
export function monotonic(): number {
  timespec ??= sys.memory(16);
  sys.clock_gettime(sys.CLOCK_MONOTONIC, timespec);
  return timespec.ints[0] * 1e3 + timespec.ints[2] / 1e6;
}

/** A process that may not read its environment is no child: children have all permissions. */
export function environment(): Record<string, string | undefined> {
  try {
    return { ...process.env };
  } catch {
    return {};
  }
}

/** Makes the process a child if it is one; to be called before `parseOptions`. Returns what the parent has told it. */
export function joinIfChild(): Told | null {
  const told: Told | null = JSON.parse(environment().ECHO_CHILD ?? "null");
  if (!told) return null;
  sys.requireSystemCalls();
  const started = monotonic() - performance.now() - told.origin;
  joinParent({ name: `p-${told.id}`, origin: performance.timeOrigin - started });
  return told;
}

/**
 * How much of its memory a process shares with no other, and how much it has in all; nothing if it has ended. See
 * proc_pid_smaps(5).
 */
export function memoryOf(pid: number): string {
  try {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
    const [all, clean, dirty] = ["Rss", "Private_Clean", "Private_Dirty"]
      .map((name) => Number(new RegExp(`${name}: *(\\d+)`).exec(text)![1]) * 1024 / 1e6);
    return `${(clean + dirty).toFixed(1)} of ${all.toFixed(1)} MB its own`;
  } catch {
    return "";
  }
}

/** Standard input and output as a connection. Its calls block. */
export class StandardConnection extends Account {
  #told: Told;
  #buffer = sys.memory(BUFFER_SIZE);
  /** Milliseconds for which the client has let the first recv wait. */
  #waited = 0;
  /** The exit code, once the connection is to end. */
  #code: number | undefined;

  constructor(told: Told) {
    super(told.id);
    this.#told = told;
  }

  /**
   * Waits for bytes, which are valid until the next call. An empty array is the end: of the stream, of the connection, of
   * the client's patience, or of the messages that it may send. See read(2).
   */
  recv(): Uint8Array {
    if (this.isComplete) this.#code ??= ENOUGH;
    if (this.#code !== undefined) return this.#buffer.bytes.subarray(0, 0);
    const before = performance.now(), size = this.#blocking(() => sys.read(0, this.#buffer, BUFFER_SIZE));
    if (this.exchanges === 0) this.#waited = performance.now() - before;
    if (size <= 0) this.#code ??= -size;
    else this.received(this.#buffer.bytes, size);
    return this.#buffer.bytes.subarray(0, Math.max(size, 0));
  }

  /** Sends all of `data`, at most 64 KiB. See write(2). */
  send(data: Uint8Array): void {
    this.#buffer.bytes.set(data);
    for (let left = data.length; left > 0;) {
      const sent = this.#blocking(() => sys.write(1, this.#buffer, left));
      if (sent < 0) return void (this.#code ??= -sent);
      left -= sent;
      this.#buffer.bytes.copyWithin(0, sent, sent + left);
    }
    this.sent(data.length);
    if (this.exchanges > 1) return;
    const cost = (monotonic() - this.#told.since - this.#waited).toFixed(1);
    log("cost", this.id, `${cost} ms from accept to first reply; memory: ${memoryOf(process.pid)}`);
  }

  /** Ends the process, with an exit code that tells the parent why. The system closes the socket. */
  close(): never {
    // Closed with unread input, a socket resets the connection: so the sending side first, and what still comes is
    // dropped. That is all that a child has to know of networks.
    if (this.#code === ENOUGH) {
      sys.shutdown(1, sys.SHUT_WR);
      for (const end = performance.now() + LINGER; performance.now() < end;) {
        const size = sys.read(0, this.#buffer, BUFFER_SIZE);
        if (size <= 0 && !isNothing(size)) break;
      }
    }
    flushLog();
    process.exit(this.#code);
  }

  /** Makes a call until something comes of it, or the client has been silent for too long. */
  #blocking(call: () => number): number {
    for (let silence = 0;;) {
      const before = performance.now(), result = call();
      if (!isNothing(result)) return result;
      flushLog();
      // The server was killed.
      if (process.ppid !== this.#told.parent) process.exit();
      // A call that took longer than its limit did so because this process was stopped; nor is a client silent while
      // the server is stopped, as by Ctrl-Z.
      if (!isStopped(this.#told.parent)) silence += Math.min(performance.now() - before, TIMEOUT);
      if (silence < Number(self.given.idle) * 1000) continue;
      this.#code = SILENT;
      return -sys.EAGAIN;
    }
  }
}
