// SPDX-License-Identifier: MIT
/**
 * poll(2): one call that waits for many sockets, given as a list.
 *
 * Each entry names a descriptor and what to wait for, and the kernel writes beside it what it found. Unlike the sets of
 * select.ts the list has no fixed end and is kept from call to call, and its length is the number of clients, however
 * high their descriptors are.
 *
 * The limit: the kernel still goes through the whole list on every call, and the server does so again to find who is
 * ready. A thousand silent clients make every message of a busy one more expensive; epoll.ts lifts that.
 *
 * What is real: the kernel's own calls, made through the runtime's FFI. Linux only.
 *
 *   deno run -A scripts/poll.ts       or: bun scripts/poll.ts       or: node scripts/poll.ts
 *   nc 127.0.0.1 9999                 in several terminals: one thread serves them all
 */

import { type Client, Clients } from "./shim/clients.ts";
import { logWait, messages, parseOptions, serverOptions } from "./shim/program.ts";
import * as sys from "./shim/sys.ts";

const options = parseOptions(
  "I/O multiplexing with poll(2): a list of descriptors, read through on every call.",
  "nc 127.0.0.1 9999, in several terminals at once",
  { ...serverOptions, ...messages },
);
sys.requireSystemCalls();

const SIZE = 65_536, buffer = sys.memory(SIZE), TIMEOUT = 500, MOST = 1 << 20;
/** The list, of which the first `watched` entries are in use, and the place of each descriptor in it. */
const list = sys.memory(8 * MOST), places: number[] = [];
let watched = 0;

// create, bind, listen
const listener = await sys.openListener(options, sys.SOCK_STREAM | sys.SOCK_NONBLOCK);
const clients = new Clients(listener, { register, modify, unregister });

async function main(): Promise<void> {
  for (;;) {
    const count = sys.poll(list, watched, TIMEOUT);
    if (count > 0) logWait("poll", { ready: count, "entries handed over": watched });
    let connecting = false;
    // Backwards: when a client leaves, the last entry takes its place, and that one has had its turn by then.
    for (let place = watched - 1, left = count; left > 0 && place >= 0; place--) {
      if (sys.pollfdReady(list, place) === 0) continue;
      left--;
      const fd = sys.pollfdDescriptor(list, place);
      if (fd === listener) connecting = true;
      else handle(clients.at(fd));
    }
    // Accept last: a new client can reuse a descriptor closed in this round.
    if (connecting) clients.accept();
    await clients.turn(count);
  }
}

function register(fd: number, events: number): void {
  places[fd] = watched++;
  modify(fd, events);
}

function modify(fd: number, events: number): void {
  sys.setPollfd(list, places[fd], fd, events);
}

function unregister(fd: number): void {
  // The last entry fills the gap.
  const last = sys.pollfdDescriptor(list, --watched), events = sys.pollfdEvents(list, watched);
  places[last] = places[fd];
  modify(last, events);
}

/** A client is ready, or was: readiness is a hint. nonblocking.ts shows what EAGAIN and a half-sent reply need. */
function handle(client: Client): void {
  if (client.unsent) return clients.flush(client);
  const size = sys.recv(client.fd, buffer, SIZE, 0);
  if (size > 0) clients.send(client, buffer, size);
  else clients.ended(client, size);
}

await main();
