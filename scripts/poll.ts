// SPDX-License-Identifier: MIT
/**
 * poll(2): one call that waits for many sockets, given as a list.
 *
 * Each entry names a descriptor and what to wait for, and the kernel writes beside it what has come. Unlike the sets of
 * select.ts the list has no end, stays as it is from call to call, and is as long as there are clients, however high
 * their descriptors.
 *
 * The limit: the kernel still goes through the whole list on every call, and so does the server to find who is ready.
 * A thousand silent clients make every message of a busy one more expensive; epoll.ts lifts that.
 *
 * These are the kernel's own calls, made through the runtime's FFI. Linux only.
 *
 *   deno run -A scripts/poll.ts       or: bun scripts/poll.ts       or: node scripts/poll.ts
 *   nc 127.0.0.1 9999                 in several terminals: one thread serves them all
 *
 * To copy it into an article: deno run -A scripts/standalone.ts poll
 */

import { type Client, Clients, WRITE } from "./shim/clients.ts";
import { cannotListen, fail, log, logWait, messages, parseOptions, ready, serverOptions } from "./shim/program.ts";
import * as sys from "./shim/sys.ts";

const options = parseOptions(
  "I/O multiplexing with poll(2): a list of descriptors, read through on every call.",
  "nc 127.0.0.1 9999, in several terminals at once",
  { ...serverOptions, ...messages },
);
sys.requireSystemCalls();

const BUFFER_SIZE = 65_536, MOST_DESCRIPTORS = 1 << 20, TIMEOUT = 500;
const buffer = sys.memory(BUFFER_SIZE);
/** The list, of which the first `watched` entries are in use, and where in it each descriptor stands. */
const list = sys.memory(8 * MOST_DESCRIPTORS), places: (number | undefined)[] = [];
let watched = 0;

async function main(): Promise<void> {
  // create, bind, listen
  const { fd: listener, port } = await sys.openListener(options, sys.SOCK_STREAM | sys.SOCK_NONBLOCK)
    .catch(cannotListen);
  ready(options.host, port);
  const clients = new Clients(listener, watch);

  for (;;) {
    const count = sys.poll(list, watched, TIMEOUT);
    if (count < 0 && count !== -sys.EINTR) fail("poll", sys.systemError(count));
    if (count > 0) logWait("poll", { ready: count, "entries handed over": watched });
    let connecting = false;
    // Backwards: when a client leaves, the last entry takes its place, and that one has had its turn by then. (The
    // listener's may lose what it had to say when it is watched again. It says it once more.)
    for (let place = watched - 1, left = count; left > 0 && place >= 0; place--) {
      if (sys.pollfdReady(list, place) === 0) continue;
      left--;
      const fd = sys.pollfdDescriptor(list, place);
      if (fd === listener) connecting = true;
      else handle(clients, clients.at(fd));
    }
    // Last, as a new client may be given the number of one that has just left, but must not be given its events.
    if (connecting) clients.accept();
    if (count <= 0) clients.retry();
    // Signals and timers: when there is nothing else to do, and otherwise every now and then.
    if (count <= 0 || sys.turnIsDue()) await sys.runtimeTurn();
  }
}

/** Waits for `events` on a descriptor, and for nothing else. */
function watch(fd: number, events: number): void {
  if (events !== 0) return sys.setPollfd(list, places[fd] ??= watched++, fd, events);
  const place = places[fd]!;
  places[fd] = undefined;
  watched--;
  if (place === watched) return;
  // The last entry fills the gap.
  const last = sys.pollfdDescriptor(list, watched);
  sys.setPollfd(list, place, last, sys.pollfdEvents(list, watched));
  places[last] = place;
}

/** A connection is ready, or was: readiness is a hint, and EAGAIN no error. */
function handle(clients: Clients, client: Client): void {
  if (client.unsent.length > 0) flush(clients, client);
  else receive(clients, client);
}

function receive(clients: Clients, client: Client): void {
  const { fd, id } = client, size = sys.recv(fd, buffer, BUFFER_SIZE, 0);
  if (size === -sys.EAGAIN || size > 0 && client.leaving) return;
  if (size <= 0) return clients.close(client, size);
  client.silence = 0;
  log("recv", id, size, buffer.bytes);
  const sent = sys.send(fd, buffer, size, 0);
  if (sent < 0 && sent !== -sys.EAGAIN) return clients.close(client, sent);
  if (sent > 0) log("send", id, sent);
  if (sent === size) return clients.finish(client, options.messages);
  // The client is slow: nothing more is read from it until it has taken the rest.
  client.unsent = buffer.bytes.slice(Math.max(sent, 0), size);
  clients.watch(client, WRITE);
}

function flush(clients: Clients, client: Client): void {
  const { fd, id, unsent } = client;
  buffer.bytes.set(unsent);
  const sent = sys.send(fd, buffer, unsent.length, 0);
  if (sent === -sys.EAGAIN) return;
  if (sent < 0) return clients.close(client, sent);
  client.silence = 0;
  log("send", id, sent);
  client.unsent = unsent.subarray(sent);
  if (client.unsent.length === 0) clients.finish(client, options.messages);
}

await main();
