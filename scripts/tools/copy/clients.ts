// SPDX-License-Identifier: MIT
/** The clients of a loop over non-blocking descriptors, in a copy. */

import { log } from "./program.ts";
import * as sys from "./sys.ts";

export const READ = 1, WRITE = 4;

/** What the loop must remember of a client between two events. */
export class Client {
  readonly fd: number;
  readonly id: number;
  /** Received, but not sent back yet: nothing more is received before that. */
  unsent: Uint8Array | null = null;
  // Whether there is nothing more to be had at present. // only signals
  drained = false; // only signals
  exchanges = 0; // only coroutines
  closed = false; // only coroutines

  constructor(fd: number, id: number) {
    this.fd = fd;
    this.id = id;
  }

  received(_: Uint8Array, size: number): void { // not coroutines
    log("recv", this.id, size); // not coroutines
  } // not coroutines

  sent(size: number): void {
    log("send", this.id, size);
    this.exchanges++; // only coroutines
  }
}

/** What the loop waits with. */
export interface Selector {
  register(fd: number, events: number): void;
  modify(fd: number, events: number): void;
  unregister(fd: number): void;
}

/** The clients of a listening socket. */
export class Clients {
  #listener: number; // not nonblocking coroutines
  #selector: Selector; // not nonblocking
  #clients = new Map<number, Client>();
  #peer = sys.socketAddress();
  #buffer = sys.memory(65_536);
  #connections = 0;

  constructor(listener: number, selector: Selector) { // not nonblocking
    this.#listener = listener; // not nonblocking coroutines
    this.#selector = selector; // not nonblocking
    selector.register(listener, READ); // not nonblocking reactors
    if (listener >= 0) selector.register(listener, READ); // only reactors
  } // not nonblocking

  get size(): number {
    return this.#clients.size;
  }

  has(fd: number): boolean {
    return this.#clients.has(fd);
  }

  at(fd: number): Client {
    return this.#clients.get(fd)!;
  }

  each(visit: (client: Client) => void): void {
    this.#clients.forEach(visit);
  }

  /** The listening socket is ready: accepts all that are waiting. */
  accept(
    take: (fd: number, id: number) => void, // only reactors
  ): void {
    for (;;) {
      const fd = sys.accept4(this.#listener, this.#peer, sys.SOCK_NONBLOCK);
      if (fd === -sys.EAGAIN) return;
      sys.must(fd);
      const id = ++this.#connections;
      log("accept", id, sys.addressText(this.#peer));
      this.add(fd, id); // not reactors
      take(fd, id); // only reactors
    }
  }

  /** Takes what accept4(2) has returned. Whether there can be another one. */
  accepted(fd: number, peer: sys.SocketAddress): boolean {
    if (fd === -sys.EAGAIN) return false;
    sys.must(fd);
    const id = ++this.#connections;
    log("accept", id, sys.addressText(peer));
    this.add(fd, id);
    return true;
  }

  /** Makes a client of a descriptor and a number. */
  add(fd: number, id: number): void {
    this.#clients.set(fd, new Client(fd, id));
    this.#selector.register(fd, READ); // not nonblocking
  }

  /** Sends back what was received. What the kernel doesn't take is kept. */
  send(client: Client, buffer: sys.Memory, size: number): void {
    log("recv", client.id, size);
    const sent = sys.send(client.fd, buffer, size, 0);
    client.drained = false; // only signals
    if (sent < 0 && sent !== -sys.EAGAIN) return this.ended(client, sent);
    if (sent > 0) log("send", client.id, sent);
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
    client.drained = false; // only signals
    log("send", client.id, sent);
    client.unsent = sent < unsent.length ? unsent.subarray(sent) : null;
    if (!client.unsent) this.#selector.modify(client.fd, READ);
  }

  /** A message has come. */
  received(client: Client, _: sys.Memory, size: number): boolean {
    log("recv", client.id, size);
    return true;
  }

  /** A call returned no bytes: EAGAIN is no error, as readiness is a hint. */
  ended(client: Client, result: number): void {
    client.drained = true; // only signals
    if (result !== -sys.EAGAIN) this.close(client, result);
  }

  /** Closes a connection, because of the end of the stream (0) or an error. */
  close(client: Client, result: number): void {
    const { fd, id } = client;
    if (client.closed) return; // only coroutines
    client.closed = true; // only coroutines
    this.#selector.unregister(fd); // not nonblocking
    this.#clients.delete(fd);
    sys.close(fd);
    const why = result === 0 ? "by the client" : sys.systemError(result).message;
    log("close", id, why);
  }
}
