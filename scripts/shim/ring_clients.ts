// SPDX-License-Identifier: MIT
/** The clients of a server that uses io_uring: their numbers and buffers, and why their connections end. */

import { setTimeout } from "node:timers";
import { Account, LINGER, log, open } from "./program.ts";
import * as sys from "./sys.ts";

/** The size of a client's buffer. */
export const BUFFER_SIZE = 65_536;
const BUFFERS_PER_BLOCK = 64;

/** What the server must remember of a client between two completions. */
export class RingClient extends Account {
  readonly fd: number;
  /** Marks the requests that are made for it. */
  readonly place: number;
  /** The address of its buffer, and what is in it. */
  readonly address: number;
  readonly bytes: Uint8Array;
  /** The part of the buffer that is to be sent: where it starts, and its size. */
  start = 0;
  size = 0;
  /** The server has ended the connection: what a completion still says of it is no news. */
  leaving = false;

  constructor(fd: number, place: number, { address, bytes }: { address: number; bytes: Uint8Array }) {
    super();
    this.fd = fd;
    this.place = place;
    this.address = address;
    this.bytes = bytes;
    open.add(this);
  }

  /** The pending request completes then, which is when the descriptor can be closed. */
  abort(why: unknown): void {
    this.leave(why);
    sys.shutdown(this.fd, sys.SHUT_RDWR);
  }

  /** The connection ends. Its descriptor and its buffer are still in use. */
  leave(reason?: unknown): void {
    if (this.leaving) return;
    this.leaving = true;
    open.delete(this);
    this.end(reason);
  }
}

export class RingClients {
  /** There was no descriptor for a new client: asked again at once, the kernel would say the same. */
  full = false;
  /** Place 0 is not given out. */
  #clients: (RingClient | undefined)[] = [undefined];
  #free: number[] = [];
  /** Memory for the buffers, more of it when more clients come. What isn't written to takes no room. */
  #blocks: sys.Memory[] = [];
  #peer = sys.socketAddress();
  #told = false;

  /** The client that has this place. */
  at(place: number): RingClient | undefined {
    return this.#clients[place];
  }

  /** An accept has completed: returns the client, or `null` if it failed. */
  accepted(fd: number): RingClient | null {
    if (fd < 0) {
      if (!this.#told) log("error", 0, "accept:", sys.systemError(fd));
      // Clients wait in the backlog.
      this.#told = this.full = fd !== -sys.ECONNABORTED;
      return null;
    }
    this.#told = false;
    const place = this.#free.pop() ?? this.#clients.length;
    const client = this.#clients[place] = new RingClient(fd, place, this.#bufferOf(place));
    log("accept", client.id, sys.getpeername(fd, this.#peer) < 0 ? "gone" : sys.addressText(this.#peer));
    return client;
  }

  /** A recv has completed with a message, which is to be sent back. */
  received(client: RingClient, size: number): void {
    client.start = 0;
    client.size = size;
    client.received(client.bytes, size);
  }

  /** A send has completed: all, or a part, or with an error. After the last message the server takes its leave. */
  sent(client: RingClient, sent: number): void {
    if (sent < 0) return client.leave(sys.systemError(sent));
    if (client.leaving) return;
    client.sent(sent);
    client.start += sent;
    client.size -= sent;
    if (client.size > 0 || !client.isComplete) return;
    client.leave();
    sys.shutdown(client.fd, sys.SHUT_WR);
    // Closed with unread bytes, a socket resets the connection: what still comes is received and dropped for a while.
    setTimeout(() => this.#clients[client.place] === client && sys.shutdown(client.fd, sys.SHUT_RDWR), LINGER);
  }

  /** The last request of a client has completed: with the end of the stream (0), or an error. */
  ended(client: RingClient, result: number): void {
    client.leave(sys.endReason(result));
    sys.close(client.fd);
    this.#clients[client.place] = undefined;
    this.#free.push(client.place);
    this.full = false;
  }

  #bufferOf(place: number): Pick<RingClient, "address" | "bytes"> {
    const block = Math.floor(place / BUFFERS_PER_BLOCK), at = place % BUFFERS_PER_BLOCK * BUFFER_SIZE;
    const { address, bytes } = this.#blocks[block] ??= sys.memory(BUFFERS_PER_BLOCK * BUFFER_SIZE);
    return { address: address + at, bytes: bytes.subarray(at, at + BUFFER_SIZE) };
  }
}
