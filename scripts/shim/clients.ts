// SPDX-License-Identifier: MIT
/**
 * The clients of a loop over non-blocking descriptors: what nonblocking.ts, select.ts, poll.ts, epoll.ts,
 * signals.ts and reactors.ts have in common. How to wait, and what to do with a client that is ready, is their own.
 */

import { setTimeout } from "node:timers";
import { type Closable, log, nextNumber, open } from "./program.ts";
import { LINGER } from "./socket.ts";
import * as sys from "./sys.ts";

/** What to wait for: POLLIN and POLLOUT of poll(2), which are EPOLLIN and EPOLLOUT, too. */
export const READ = sys.POLLIN, WRITE = sys.POLLOUT;

/** What the loop must remember of a client between two events. */
export interface Client extends Closable {
  readonly fd: number;
  readonly id: number;
  /** What it is watched for. */
  events: number;
  /** Received, but not sent back yet. */
  unsent: Uint8Array;
  exchanges: number;
  /** The server has shut down its side. What still comes is dropped: closed with unread bytes, a socket resets. */
  leaving: boolean;
}

/** Has the loop wait for `events` on a descriptor, and for nothing else; before it was `before`. */
type Watch = (fd: number, events: number, before: number) => void;

const NOTHING = new Uint8Array(0);

/** The clients of a listening socket. */
export class Clients {
  #listener: number;
  #watch: Watch;
  #limit: number;
  #give: (fd: number, id: number) => void;
  #clients: (Client | undefined)[] = [];
  #size = 0;
  #peer = sys.socketAddress();
  /** There was no descriptor for the client that is first in the backlog. */
  #exhausted = false;

  /**
   * `limit` is the first descriptor that can't be waited for. An accepted client is kept,
   * unless `give` hands it on. A `listener` of -1 is none: clients are added.
   */
  constructor(listener: number, watch: Watch, limit = Infinity, give = (fd: number, id: number) => this.add(fd, id)) {
    this.#listener = listener;
    this.#watch = watch;
    this.#limit = limit;
    this.#give = give;
    if (listener >= 0) watch(listener, READ, 0);
  }

  get size(): number {
    return this.#size;
  }

  /** Whether a client has this descriptor. */
  has(fd: number): boolean {
    return this.#clients[fd] !== undefined;
  }

  /** The client that has this descriptor. */
  at(fd: number): Client {
    return this.#clients[fd]!;
  }

  /** Calls `visit` for each client. */
  each(visit: (client: Client) => void): void {
    for (let fd = 0; fd < this.#clients.length; fd++) if (this.#clients[fd]) visit(this.#clients[fd]!);
  }

  /** The listening socket is ready: accepts all that are waiting. */
  accept(): void {
    while (this.accepted(sys.accept4(this.#listener, this.#peer, sys.SOCK_NONBLOCK | sys.SOCK_CLOEXEC), this.#peer));
  }

  /** Takes what accept4(2) has returned. Says whether there can be another one. */
  accepted(fd: number, peer: sys.SocketAddress): boolean {
    if (fd === -sys.EAGAIN) return false;
    if (fd < 0) {
      if (!this.#exhausted) log("error", 0, "accept:", sys.systemError(fd));
      if (fd === -sys.ECONNABORTED) return true;
      // Out of descriptors. Clients wait in the backlog, and would end every wait at once.
      if (!this.#exhausted) this.#watch(this.#listener, 0, READ);
      this.#exhausted = true;
      return false;
    }
    this.retry();
    const id = nextNumber();
    log("accept", id, sys.addressText(peer));
    this.#give(fd, id);
    return true;
  }

  /** Makes a client of a connection's descriptor and number, and waits for what it sends. */
  add(fd: number, id: number): void {
    const client: Client = {
      ...{ fd, id, events: READ, unsent: NOTHING, exchanges: 0, silence: 0, leaving: false },
      abort: (why) => this.close(client, why),
    };
    this.#clients[fd] = client;
    this.#size++;
    open.add(client);
    if (fd < this.#limit) this.#watch(fd, READ, 0);
    else this.close(client, `refused: descriptor ${fd}, and there is no bit beyond ${this.#limit - 1}`);
  }

  /** Waits for clients again, if descriptors had run out. */
  retry(): void {
    if (this.#exhausted) this.#watch(this.#listener, READ, 0);
    this.#exhausted = false;
  }

  /** Waits for `events` of a client, and for nothing else. */
  watch(client: Client, events: number): void {
    if (client.events !== events) this.#watch(client.fd, events, client.events);
    client.events = events;
  }

  /** A message has been sent back whole. After `most` of them the server takes leave. */
  finish(client: Client, most: number): void {
    client.unsent = NOTHING;
    this.watch(client, READ);
    if (++client.exchanges < most) return;
    log("close", client.id, `after ${most} messages`);
    open.delete(client);
    client.leaving = true;
    sys.shutdown(client.fd, sys.SHUT_WR);
    setTimeout(() => this.close(client, ""), LINGER);
  }

  /** Closes a connection, because of the end of the stream (0), what a call has returned, or another reason. */
  close(client: Client, reason: number | string | Error): void {
    const { fd, id } = client;
    // Its descriptor may be another client's by now.
    if (this.#clients[fd] !== client) return;
    if (client.events !== 0 && fd < this.#limit) this.#watch(fd, 0, client.events);
    sys.close(fd);
    this.#clients[fd] = undefined;
    this.#size--;
    open.delete(client);
    const words = reason === 0 ? "by the client" : typeof reason === "number" ? sys.systemError(reason) : reason;
    if (!client.leaving) log("close", id, words);
    this.retry();
  }
}
