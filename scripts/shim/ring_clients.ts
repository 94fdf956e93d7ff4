// SPDX-License-Identifier: MIT
/** The clients of a server that uses io_uring: their numbers and buffers, and why their connections end. */

import { setTimeout } from "node:timers";
import { type Closable, LINGER, log, nextNumber, open } from "./program.ts";
import * as sys from "./sys.ts";

/** The size of a client's buffer. */
export const BUFFER_SIZE = 65_536;
const BUFFERS_PER_BLOCK = 64;

/** What the server must remember of a client between two completions. */
export interface RingClient extends Closable {
  readonly fd: number;
  readonly id: number;
  /** Marks the requests that are made for it. */
  readonly place: number;
  /** The address of its buffer, and what is in it. */
  readonly address: number;
  readonly bytes: Uint8Array;
  /** The part of the buffer that is to be sent: where it starts, and its size. */
  start: number;
  size: number;
  /** How many messages have been received. */
  messages: number;
  /** The server has ended the connection: what a completion still says of it is no news. */
  leaving: boolean;
}

export class RingClients {
  /** There was no descriptor for a new client: asked again at once, the kernel would say the same. */
  full = false;
  #messages: number;
  /** Place 0 is not given out. */
  #clients: (RingClient | undefined)[] = [undefined];
  #free: number[] = [];
  /** Memory for the buffers, more of it when more clients come. What isn't written to takes no room. */
  #blocks: sys.Memory[] = [];
  #peer = sys.socketAddress();
  #told = false;

  /** After so many messages the server closes a connection. */
  constructor({ messages }: { messages: number }) {
    this.#messages = messages;
  }

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
    const id = nextNumber(), place = this.#free.pop() ?? this.#clients.length;
    const client: RingClient = {
      ...{ fd, id, place, ...this.#bufferOf(place), start: 0, size: 0, messages: 0, silence: 0, leaving: false },
      abort: (why) => {
        this.#leave(client, why);
        // The pending request then completes, which is when the descriptor can be closed.
        sys.shutdown(fd, sys.SHUT_RDWR);
      },
    };
    this.#clients[place] = client;
    open.add(client);
    log("accept", id, sys.getpeername(fd, this.#peer) < 0 ? "gone" : sys.addressText(this.#peer));
    return client;
  }

  /** A recv has completed with a message, which is to be sent back. */
  received(client: RingClient, size: number): void {
    client.silence = 0;
    client.start = 0;
    client.size = size;
    client.messages++;
    log("recv", client.id, size, client.bytes);
  }

  /** A send has completed: all, or a part, or with an error. After the last message the server takes its leave. */
  sent(client: RingClient, sent: number): void {
    if (sent < 0) return this.#leave(client, sys.systemError(sent));
    client.silence = 0;
    log("send", client.id, sent);
    client.start += sent;
    client.size -= sent;
    if (client.size > 0 || client.messages < this.#messages || client.leaving) return;
    this.#leave(client, `after ${this.#messages} messages`);
    sys.shutdown(client.fd, sys.SHUT_WR);
    // Closed with unread bytes, a socket resets the connection: what still comes is received and dropped for a while.
    setTimeout(() => this.#clients[client.place] === client && sys.shutdown(client.fd, sys.SHUT_RDWR), LINGER);
  }

  /** The last request of a client has completed: with the end of the stream (0), or an error. */
  ended(client: RingClient, result: number): void {
    this.#leave(client, result === 0 ? "by the client" : sys.systemError(result));
    sys.close(client.fd);
    this.#clients[client.place] = undefined;
    this.#free.push(client.place);
    this.full = false;
  }

  /** The connection ends. Its descriptor and its buffer are still in use. */
  #leave(client: RingClient, reason: unknown): void {
    if (client.leaving) return;
    client.leaving = true;
    open.delete(client);
    log("close", client.id, reason);
  }

  #bufferOf(place: number): Pick<RingClient, "address" | "bytes"> {
    const block = Math.floor(place / BUFFERS_PER_BLOCK), at = place % BUFFERS_PER_BLOCK * BUFFER_SIZE;
    const { address, bytes } = this.#blocks[block] ??= sys.memory(BUFFERS_PER_BLOCK * BUFFER_SIZE);
    return { address: address + at, bytes: bytes.subarray(at, at + BUFFER_SIZE) };
  }
}
