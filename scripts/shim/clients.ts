// SPDX-License-Identifier: MIT
/**
 * The clients of a loop over non-blocking descriptors: what nonblocking.ts, select.ts, poll.ts, epoll.ts, signals.ts,
 * reactors.ts and coroutines.ts have in common. How to wait, and what to do with a client that is ready, is their own.
 */

import { setTimeout } from "node:timers";
import { Account, burn, count, fail, LINGER, log, MESSAGES, nextNumber, onStop, open, stopping } from "./program.ts";
import { self } from "./runtime.ts";
import * as sys from "./sys.ts";

/** What to wait for: POLLIN and POLLOUT of poll(2), which are EPOLLIN and EPOLLOUT, too. */
export const READ = sys.POLLIN, WRITE = sys.POLLOUT;

/** What the loop must remember of a client between two events. */
export class Client extends Account {
  readonly fd: number;
  /** Received, but not sent back yet: the client is slow, and nothing more is received from it until it has that. */
  unsent: Uint8Array | null = null;
  /** The server has shut down its side. What still comes is dropped: closed with unread bytes, a socket resets. */
  leaving = false;
  /** Whether there is nothing more to be had at present: the last call returned EAGAIN, or the connection is closed. */
  drained = false;
  /** Whether it is closed. Its descriptor may be another client's by now. */
  closed = false;
  readonly abort: (why: unknown) => void;

  constructor(fd: number, id: number, abort: (client: Client, why: unknown) => void) {
    super(id);
    this.fd = fd;
    this.abort = (why) => abort(this, why);
  }
}

/** What the loop waits with. To register a descriptor may throw; after `modify` it is waited for `events` alone. */
export interface Selector {
  register(fd: number, events: number): void;
  modify(fd: number, events: number): void;
  unregister(fd: number): void;
}

/** Waits for nothing: for a loop that asks every client in turn. */
const noSelector: Selector = { register: () => {}, modify: () => {}, unregister: () => {} };

/** The clients of a listening socket. */
export class Clients {
  #selector: Selector;
  #listener: number;
  #clients: (Client | undefined)[] = [];
  #size = 0;
  #peer = sys.socketAddress();
  /** What the last reply that the kernel did not take whole was sent from. */
  #buffer: sys.Memory | undefined;
  /** Whether the listening socket is registered. It isn't while there are no descriptors for more clients. */
  #accepts = false;

  /** A `listener` of -1 is none: clients are added. Otherwise it is closed when the server stops. */
  constructor(listener: number, selector = noSelector) {
    this.#selector = selector;
    this.#listener = listener;
    if (listener < 0) return;
    this.retry();
    onStop(() => {
      if (this.#accepts) selector.unregister(listener);
      sys.close(listener);
    });
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

  /** The listening socket is ready: accepts all that are waiting, and adds them, unless `take` does something else. */
  accept(take = (fd: number, id: number): void => this.add(fd, id)): void {
    const flags = sys.SOCK_NONBLOCK | sys.SOCK_CLOEXEC;
    while (!stopping && this.accepted(sys.accept4(this.#listener, this.#peer, flags), this.#peer, take));
  }

  /** Takes what accept4(2) has returned. Says whether there can be another one. */
  accepted(fd: number, peer: sys.SocketAddress, take = (fd: number, id: number): void => this.add(fd, id)): boolean {
    if (fd === -sys.EAGAIN || stopping) return false;
    if (fd < 0) {
      if (this.#accepts) log("error", 0, "accept:", sys.systemError(fd));
      if (fd === -sys.ECONNABORTED) return true;
      // Out of descriptors. Clients wait in the backlog, and would end every wait at once.
      if (this.#accepts) this.#selector.unregister(this.#listener);
      this.#accepts = false;
      return false;
    }
    this.retry();
    const id = nextNumber();
    log("accept", id, sys.addressText(peer));
    take(fd, id);
    return true;
  }

  /** Waits for clients again, if descriptors had run out. */
  retry(): void {
    if (this.#accepts || this.#listener < 0 || stopping) return;
    this.#accepts = true;
    this.#selector.register(this.#listener, READ);
  }

  /** Makes a client of a connection's descriptor and number, and waits for what it sends. */
  add(fd: number, id: number): void {
    const client = new Client(fd, id, (client, why) => this.close(client, why));
    this.#clients[fd] = client;
    this.#size++;
    open.add(client);
    try {
      this.#selector.register(fd, READ);
    } catch (error) {
      this.close(client, error);
    }
  }

  /** Sends back what was received: the first `size` bytes of `buffer`. What the kernel doesn't take is kept. */
  send(client: Client, buffer: sys.Memory, size: number): void {
    const { fd } = client;
    client.drained = false;
    if (!this.received(client, buffer, size)) return;
    if (self.given.work) burn(client.id, Number(self.given.work), buffer.bytes.subarray(0, size));
    const sent = sys.send(fd, buffer, size, 0);
    if (sent < 0 && sent !== -sys.EAGAIN) return this.close(client, sent);
    if (sent > 0) client.sent(sent);
    if (sent === size) return this.answered(client);
    this.#buffer = buffer;
    client.unsent = buffer.bytes.slice(Math.max(sent, 0), size);
    this.#selector.modify(fd, WRITE);
  }

  /** The client may have room for what is unsent. */
  flush(client: Client): void {
    const { fd } = client, unsent = client.unsent!, buffer = this.#buffer!;
    buffer.bytes.set(unsent);
    const sent = sys.send(fd, buffer, unsent.length, 0);
    if (sent < 0) return this.ended(client, sent);
    client.drained = false;
    client.sent(sent);
    client.unsent = unsent.subarray(sent);
    if (client.unsent.length > 0) return;
    client.unsent = null;
    this.#selector.modify(fd, READ);
    this.answered(client);
  }

  /** A call has received. Says whether that is to be answered: when the server has shut down its side, it is dropped. */
  received(client: Client, buffer: sys.Memory, size: number): boolean {
    if (!client.leaving) client.received(buffer.bytes, size);
    return !client.leaving;
  }

  /** A message has been sent back whole. After `--messages` of them the server takes leave. */
  answered(client: Client): void {
    count(MESSAGES);
    if (!client.isComplete) return;
    client.end();
    open.delete(client);
    client.leaving = true;
    sys.shutdown(client.fd, sys.SHUT_WR);
    setTimeout(() => this.close(client, ""), LINGER);
  }

  /** A call returned no bytes: EAGAIN is no error, as readiness is a hint. Otherwise the connection has ended. */
  ended(client: Client, result: number): void {
    if (result === -sys.EAGAIN) client.drained = true;
    else this.close(client, result);
  }

  /** Closes a connection, because of the end of the stream (0), what a call has returned, or another reason. */
  close(client: Client, reason: unknown): void {
    const { fd } = client;
    if (client.closed) return;
    client.closed = client.drained = true;
    this.#selector.unregister(fd);
    sys.close(fd);
    this.#clients[fd] = undefined;
    this.#size--;
    open.delete(client);
    if (!client.leaving) client.end(typeof reason === "number" ? sys.endReason(reason) : reason);
    this.retry();
  }

  /**
   * Ends a round of the loop, whose wait returned `found`. The runtime gets its turn for signals and timers: when the
   * server has `waited` in vain, and otherwise every now and then. Says whether signals may have been lost meanwhile.
   */
  turn(found: number, waited = true): Promise<boolean> | false {
    if (found < 0 && found !== -sys.EINTR && found !== -sys.EAGAIN) fail("cannot wait", sys.systemError(found));
    const idle = found <= 0 && waited;
    if (idle) this.retry();
    return (idle || sys.turnIsDue()) && sys.runtimeTurn();
  }
}
