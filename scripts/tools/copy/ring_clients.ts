// SPDX-License-Identifier: MIT
/** The clients of a server that uses io_uring, in a copy. */

import { log } from "./program.ts";
import { mapped } from "./ring.ts";
import * as sys from "./sys.ts";

export const BUFFER_SIZE = 65_536;

/** What the server must remember of a client between two completions. */
export interface RingClient {
  readonly fd: number;
  readonly id: number;
  /** Marks the requests that are made for it. */
  readonly place: number;
  /** Where its buffer is. */
  readonly address: number;
  /** The part of the buffer that is to be sent. */
  start: number;
  size: number;
  /** It is over: what a completion still says of it is no news. */
  leaving: boolean;
}

export class RingClients {
  /** Place 0 is not given out. */
  #clients: (RingClient | undefined)[] = [undefined];
  #free: number[] = [];
  /** A place keeps its buffer. */
  #addresses: number[] = [];
  #connections = 0;

  at(place: number): RingClient | undefined {
    return this.#clients[place];
  }

  /** An accept has completed: returns the client. */
  accepted(fd: number): RingClient {
    sys.must(fd);
    const id = ++this.#connections, place = this.#free.pop() ?? this.#clients.length;
    const address = this.#addresses[place] ??= mapped(-1, 0, BUFFER_SIZE);
    log("accept", id);
    return this.#clients[place] = { fd, id, place, address, start: 0, size: 0, leaving: false };
  }

  /** A recv has completed with a message, which is to be sent back. */
  received(client: RingClient, size: number): void {
    client.start = 0;
    client.size = size;
    log("recv", client.id, size);
  }

  /** A send has completed: all, or a part, or with an error. */
  sent(client: RingClient, sent: number): void {
    if (sent < 0) return this.#leave(client, sent);
    log("send", client.id, sent);
    client.start += sent;
    client.size -= sent;
  }

  /** The last request of a client has completed: at the end (0), or failed. */
  ended(client: RingClient, result: number): void {
    this.#leave(client, result);
    sys.close(client.fd);
    this.#clients[client.place] = undefined;
    this.#free.push(client.place);
  }

  #leave(client: RingClient, result: number): void {
    if (client.leaving) return;
    client.leaving = true;
    log("close", client.id, result === 0 ? "by the client" : sys.systemError(result).message);
  }
}
