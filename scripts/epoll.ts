// SPDX-License-Identifier: MIT
/**
 * epoll(7): the kernel keeps the list of descriptors, and hands over those that are ready.
 *
 * select.ts and poll.ts are the same server with the older calls, which are given the whole list every time. Here a
 * descriptor is registered once, and epoll_wait costs O(ready): ten thousand silent clients beside a busy one cost
 * nothing.
 *
 * Level-triggered, the default, epoll_wait reports a descriptor for as long as it is ready. With `--edge` it reports a
 * descriptor once, when that becomes ready, and the server has to remember who may have more to say until a call has
 * returned EAGAIN. The code for this is marked with `edge`. In return, a change between receiving and sending needs no
 * epoll_ctl.
 *
 * The limit: readiness is a hint, and each hint is followed by the calls that do the work, three in all for a message.
 * uring.ts asks for the work instead. One thread is still one core: see reuseport.ts.
 *
 * What is real: the kernel's own calls, made through the runtime's FFI. Linux only.
 *
 *   deno run -A scripts/epoll.ts      or: bun scripts/epoll.ts      or: node scripts/epoll.ts
 *   nc 127.0.0.1 9999                 in several terminals: one thread serves them all
 */

import { type Client, Clients, READ, WRITE } from "./shim/clients.ts";
import { logWait, messages, parseOptions, serverOptions } from "./shim/program.ts";
import * as sys from "./shim/sys.ts";

const options = parseOptions(
  "I/O multiplexing with epoll(7): the kernel keeps the list, and hands over what is ready.",
  "nc 127.0.0.1 9999, in several terminals at once",
  { ...serverOptions, ...messages, edge: [false, "edge-triggered instead of level-triggered"] },
);
sys.requireSystemCalls();

const { edge } = options;
const SIZE = 65_536, buffer = sys.memory(SIZE), TIMEOUT = 500, EVENTS = 512;
const epoll = sys.must(sys.epoll_create1(0)), found = sys.epollEvents(EVENTS);
/** With `edge`: the clients for whom no call has returned EAGAIN yet. epoll_wait will not mention them again. */
const undrained = new Set<Client>();

// create, bind, listen
const listener = await sys.openListener(options, sys.SOCK_STREAM | sys.SOCK_NONBLOCK);
const clients = new Clients(listener, { register, modify, unregister });

async function main(): Promise<void> {
  for (;;) {
    const busy = undrained.size > 0, count = sys.epoll_wait(epoll, found, EVENTS, busy ? 0 : TIMEOUT);
    if (count > 0) logWait("epoll_wait", { ready: count, registered: clients.size + 1, "entries looked at": count });
    let connecting = false;
    for (let i = 0; i < count; i++) {
      const fd = sys.descriptorOf(found, i);
      if (fd === listener) connecting = true;
      else if (edge) undrained.add(clients.at(fd));
      else handle(clients.at(fd));
    }
    for (const client of undrained) {
      handle(client);
      if (client.drained && undrained.delete(client)) logWait("drain", {}, () => `#${client.id} EAGAIN`);
    }
    // Accept last: a new client can reuse a descriptor closed in this round.
    if (connecting) clients.accept();
    await clients.turn(count, !busy);
  }
}

function register(fd: number, events: number): void {
  // With `edge` once, for both.
  if (edge) events = READ | WRITE | sys.EPOLLET;
  sys.must(sys.epoll_ctl(epoll, sys.EPOLL_CTL_ADD, fd, sys.epollEvent(events, fd)));
}

function modify(fd: number, events: number): void {
  if (edge) return;
  sys.must(sys.epoll_ctl(epoll, sys.EPOLL_CTL_MOD, fd, sys.epollEvent(events, fd)));
}

function unregister(fd: number): void {
  undrained.delete(clients.at(fd));
  sys.epoll_ctl(epoll, sys.EPOLL_CTL_DEL, fd, sys.NULL);
}

/** A client is ready, or was: readiness is a hint. nonblocking.ts shows what EAGAIN and a half-sent reply need. */
function handle(client: Client): void {
  if (client.unsent) return clients.flush(client);
  const size = sys.recv(client.fd, buffer, SIZE, 0);
  if (size > 0) clients.send(client, buffer, size);
  else clients.ended(client, size);
}

await main();
