// SPDX-License-Identifier: MIT
/** The clients of a loop over non-blocking descriptors, in a copy. */

import { workerData } from "node:worker_threads";
import { log, MESSAGES, shown } from "./program.ts";
import * as sys from "./sys.ts";

export const READ = 1, WRITE = 4; // tag: waits

/** What the loop must remember of a client between two events. */
export interface Client {
  readonly fd: number;
  readonly id: number;
  /** Received, but not sent back yet: nothing more is received before that. */
  unsent: Uint8Array | null;
  drained?: boolean; // tag: drained
  exchanges: number; // tag: exchanges
  closed?: boolean; // tag: closed
}

/** What the loop waits with. */
export interface Selector {
  register(fd: number, events: number): void;
  modify(fd: number, events: number): void;
  unregister(fd: number): void;
}

/** The clients of a listening socket. */
export class Clients {
  #listener: number; // tag: waits
  #selector: Selector; // tag: waits
  #clients = new Map<number, Client>();
  #peer = sys.socketAddress(); // tag: accepts
  #buffer = sys.memory(65_536); // tag: flushes
  #accepts = true; // tag: waits
  #connections = 0;

  constructor(listener: number, selector: Selector) { // tag: waits
    this.#listener = listener; // tag: waits
    this.#selector = selector; // tag: waits
    selector.register(listener, READ); // tag: own
    if (listener >= 0) selector.register(listener, READ); // tag: added
  } // tag: waits

  get size(): number {
    return this.#clients.size;
  }

  /** Whether a client has this descriptor. */
  has(fd: number): boolean {
    return this.#clients.has(fd);
  }

  /** The client that has this descriptor. */
  at(fd: number): Client {
    return this.#clients.get(fd)!;
  }

  /** Calls `visit` for each client. */
  each(visit: (client: Client) => void): void {
    this.#clients.forEach(visit);
  }

  /** The listening socket is ready: accepts all that are waiting. */
  accept(): void {
    const flags = sys.SOCK_NONBLOCK;
    while (this.accepted(sys.accept4(this.#listener, this.#peer, flags), this.#peer));
  }

  /** The listening socket is ready: accepts all that are waiting for `take`. */
  acceptGiving(take: (fd: number, id: number) => void): void {
    for (;;) {
      const fd = sys.accept4(this.#listener, this.#peer, sys.SOCK_NONBLOCK);
      if (fd < 0) return;
      const id = ++this.#connections;
      log("accept", id, sys.addressText(this.#peer));
      take(fd, id);
    }
  }

  /** Takes what accept4(2) has returned. Whether there can be another one. */
  accepted(fd: number, peer: sys.SocketAddress): boolean {
    if (fd === -sys.EAGAIN) return false;
    if (fd < 0) {
      // Out of descriptors. Clients wait in the backlog, until one leaves.
      log("error", 0, `accept: ${sys.systemError(fd)}`);
      if (this.#accepts) this.#selector.unregister(this.#listener); // tag: waits
      this.#accepts = false; // tag: waits
      return false;
    }
    const id = ++this.#connections;
    log("accept", id, sys.addressText(peer));
    this.add(fd, id);
    return true;
  }

  /** Makes a client of a descriptor and a number. */
  add(fd: number, id: number): void {
    this.#clients.set(fd, { fd, id, unsent: null, exchanges: 0 });
    this.#selector.register(fd, READ); // tag: waits
  }

  /** Sends back what was received. What the kernel doesn't take is kept. */
  send(client: Client, buffer: sys.Memory, size: number): void {
    log("recv", client.id, shown(buffer.bytes.subarray(0, size)));
    const sent = sys.send(client.fd, buffer, size, 0);
    client.drained = false; // tag: drained
    if (sent < 0 && sent !== -sys.EAGAIN) return this.close(client, sent);
    if (sent > 0) log("send", client.id, sent);
    if (sent === size) Atomics.add(workerData.counts, MESSAGES, 1); // tag: counted
    if (sent === size) return;
    client.unsent = buffer.bytes.slice(Math.max(sent, 0), size);
    this.#selector.modify(client.fd, WRITE);
  }

  /** The client may have room for what is unsent. */
  flush(client: Client): void {
    const unsent = client.unsent!;
    this.#buffer.bytes.set(unsent);
    const sent = sys.send(client.fd, this.#buffer, unsent.length, 0);
    if (sent < 0) return this.ended(client, sent);
    client.drained = false; // tag: drained
    log("send", client.id, sent);
    client.unsent = sent < unsent.length ? unsent.subarray(sent) : null;
    if (!client.unsent) Atomics.add(workerData.counts, MESSAGES, 1); // tag: counted
    if (!client.unsent) this.#selector.modify(client.fd, READ);
  }

  /** A message has come. */
  received(client: Client, buffer: sys.Memory, size: number): boolean {
    log("recv", client.id, shown(buffer.bytes.subarray(0, size)));
    return true;
  }

  /** A message has been sent back, or a part of it. */
  sent(client: Client, sent: number): void {
    log("send", client.id, sent);
    client.exchanges++; // tag: exchanges
  }

  /** A call returned no bytes: EAGAIN is no error, as readiness is a hint. */
  ended(client: Client, result: number): void {
    client.drained = true; // tag: drained
    if (result !== -sys.EAGAIN) this.close(client, result);
  }

  /** Closes a connection, because of the end of the stream (0) or an error. */
  close(client: Client, result: number): void {
    const { fd, id } = client;
    if (client.closed) return; // tag: closed
    client.closed = true; // tag: closed
    this.#selector.unregister(fd); // tag: waits
    this.#clients.delete(fd);
    sys.close(fd);
    log("close", id, result === 0 ? "by the client" : sys.systemError(result));
    // Now there is a descriptor for another client. // tag: waits
    if (!this.#accepts) this.#selector.register(this.#listener, READ); // tag: waits
    this.#accepts = true; // tag: waits
  }
}
