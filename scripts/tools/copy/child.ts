// SPDX-License-Identifier: MIT
/** A process that serves one client, in a copy. */

import process from "node:process";
import * as sys from "./sys.ts";

/** The number of this process as a child, or 0. */
export function joinIfChild(): number {
  return Number(process.env.ECHO_CHILD ?? 0);
}

/** Prints an event. The standard output of a child is its client's socket. */
export function log(what: string, id: number, ...details: unknown[]): void {
  const print = process.env.ECHO_CHILD ? console.error : console.log;
  print(`${what} #${id}`, ...details);
}

/** Standard input and output as a connection. Its calls block. */
export class StandardConnection {
  readonly id: number;
  #buffer = sys.memory(65_536);
  #pollfd = sys.memory(8);

  constructor(id: number) {
    this.id = id;
  }

  /** Waits for bytes; an empty array is the end of the stream. See read(2). */
  recv(): Uint8Array {
    this.#wait(0, sys.POLLIN);
    const size = Math.max(sys.read(0, this.#buffer, 65_536), 0);
    if (size > 0) log("recv", this.id, size);
    return this.#buffer.bytes.subarray(0, size);
  }

  /** Sends all of `data`, which is in the buffer. See write(2). */
  send(data: Uint8Array): void {
    for (let left = data.length; left > 0;) {
      this.#wait(1, sys.POLLOUT);
      const sent = sys.write(1, this.#buffer, left);
      if (sent < 0) return;
      left -= sent;
      this.#buffer.bytes.copyWithin(0, sent, sent + left);
    }
    log("send", this.id, data.length);
  }

  /** Blocks: a runtime may have made the descriptor non-blocking. */
  #wait(fd: number, events: number): void {
    sys.setPollfd(this.#pollfd, 0, fd, events);
    sys.poll(this.#pollfd, 1, -1);
  }

  /** Ends the process; the system closes the socket. */
  close(): never {
    process.exit(0);
  }
}
