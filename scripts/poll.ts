// SPDX-License-Identifier: MIT
/**
 * poll(2): one call that waits for many sockets, given as a list.
 *
 * Each entry names a descriptor and what to wait for, and the kernel writes beside it what has come. Unlike the sets of
 * select.ts the list has no end, stays as it is from call to call, and is as long as there are clients, however high
 * their descriptors.
 *
 * The limit: the kernel still goes through the whole list on every call, and so does the server to find who is ready.
 * A thousand silent clients make every message of a busy one dearer; epoll.ts lifts that.
 *
 * These are the kernel's own calls, made through the runtime's FFI. Linux only.
 *
 *   deno run -A scripts/poll.ts       or: bun scripts/poll.ts       or: node scripts/poll.ts
 *   nc 127.0.0.1 9999                 in several terminals: one thread serves them all
 */

import { closeSilent, explain, fail, log, onStop, parseOptions, ready, serverOptions } from "./program.ts";
import * as sys from "./sys.ts";

const options = parseOptions(
  "I/O multiplexing with poll(2): a list of descriptors, read through on every call.",
  "nc 127.0.0.1 9999, in several terminals at once",
  {
    ...serverOptions,
    messages: [0, "exchanges per connection; 0 = until the client leaves"],
  },
);
sys.requireLinux();

/** What the loop must remember of a client between two events. */
interface Client {
  fd: number;
  id: number;
  /** Received, but not sent back yet. */
  unsent: Uint8Array;
  exchanges: number;
  silence: number;
  close(): void;
}

const READ = sys.POLLIN, WRITE = sys.POLLOUT;
const BUFFER_SIZE = 65_536, MOST_DESCRIPTORS = 1 << 20, TIMEOUT = 500;
const NOTHING = new Uint8Array(0);

/** By descriptor. */
const clients: (Client | undefined)[] = [];
const open = new Set<Client>();
const buffer = sys.memory(BUFFER_SIZE), peer = sys.socketAddress();
let accepted = 0, full = false;

// create, bind, listen
const { fd: listener, port } = await sys.openListener(options, sys.SOCK_STREAM | sys.SOCK_NONBLOCK)
  .catch((error) => fail(`cannot listen on ${options.host}:${options.port}`, error));
onStop(() => {
  sys.close(listener);
  for (const client of open) client.close();
});
ready(options.host, port);
closeSilent(open, options.idle);

/** The list, of which the first `watched` entries are in use, and where in it each descriptor stands. */
const list = sys.memory(8 * MOST_DESCRIPTORS), places: (number | undefined)[] = [];
let watched = 0;
watch(listener, READ);
for (;;) {
  const count = sys.poll(list, watched, TIMEOUT);
  if (count < 0 && count !== -sys.EINTR) fail("poll", sys.systemError(count));
  let connecting = false;
  // Backwards: when a client leaves, the last entry takes its place, and that one has had its turn by then. (The
  // listener's may lose what it had to say when it is watched again. It says it once more.)
  for (let place = watched - 1, left = count; left > 0 && place >= 0; place--) {
    if (sys.pollfdReady(list, place) === 0) continue;
    left--;
    const fd = sys.pollfdDescriptor(list, place);
    if (fd === listener) connecting = true;
    else handle(clients[fd]!);
  }
  // Last, as a new client may be given the number of one that has just left, but must not be given its events.
  if (connecting) accept();
  if (count <= 0 && full) watch(listener, READ);
  // Signals and timers: when there is nothing else to do, and otherwise every now and then.
  if (count <= 0 || sys.turnIsDue()) await sys.runtimeTurn();
}

/** Waits for `events` on a descriptor, and for nothing else. */
function watch(fd: number, events: number): void {
  if (events !== 0) return sys.setPollfd(list, places[fd] ??= watched++, fd, events);
  const place = places[fd];
  if (place === undefined) return;
  places[fd] = undefined;
  watched--;
  if (place === watched) return;
  const last = sys.pollfdDescriptor(list, watched);
  sys.setPollfd(list, place, last, sys.pollfdEvents(list, watched));
  places[last] = place;
}

/** The listening socket is ready: somebody has connected. */
function accept(): void {
  for (;;) {
    const fd = sys.accept4(listener, peer, sys.SOCK_NONBLOCK | sys.SOCK_CLOEXEC);
    if (fd === -sys.EAGAIN) return;
    if (fd < 0) {
      if (!full) log("error", 0, "accept:", explain(sys.systemError(fd)));
      if (fd === -sys.ECONNABORTED) continue;
      // Out of descriptors. Who has connected waits in the backlog, and would make poll return at once.
      full = true;
      return watch(listener, 0);
    }
    full = false;
    const client: Client = {
      fd,
      id: ++accepted,
      unsent: NOTHING,
      exchanges: 0,
      silence: 0,
      close: () => close(client),
    };
    log("accept", client.id, sys.addressText(peer));
    open.add(client);
    clients[fd] = client;
    watch(fd, READ);
  }
}

/** A connection is ready, or was: readiness is a hint, and EAGAIN no error. */
function handle(client: Client): void {
  if (client.unsent.length > 0) flush(client);
  else receive(client);
}

function receive(client: Client): void {
  const { fd, id } = client;
  const size = sys.recv(fd, buffer, BUFFER_SIZE, 0);
  if (size === -sys.EAGAIN) return;
  if (size < 0) return abort(client, size);
  if (size === 0) return close(client);
  client.silence = 0;
  if (!options.quiet) log("recv", id, buffer.bytes.subarray(0, size));
  const sent = sys.send(fd, buffer, size, 0);
  if (sent === size) return finish(client);
  if (sent < 0 && sent !== -sys.EAGAIN) return abort(client, sent);
  // The client is slow: nothing more is read from it until it has taken the rest.
  client.unsent = buffer.bytes.slice(Math.max(sent, 0), size);
  watch(fd, WRITE);
}

function flush(client: Client): void {
  const { fd, unsent } = client;
  buffer.bytes.set(unsent);
  const sent = sys.send(fd, buffer, unsent.length, 0);
  if (sent === -sys.EAGAIN) return;
  if (sent < 0) return abort(client, sent);
  client.unsent = unsent.subarray(sent);
  if (client.unsent.length > 0) return;
  watch(fd, READ);
  finish(client);
}

/** A message has been sent back whole. */
function finish(client: Client): void {
  log("send", client.id);
  if (++client.exchanges === options.messages) close(client);
}

function abort(client: Client, result: number): void {
  log("error", client.id, explain(sys.systemError(result)));
  close(client);
}

function close(client: Client): void {
  watch(client.fd, 0);
  sys.close(client.fd);
  clients[client.fd] = undefined;
  open.delete(client);
  log("close", client.id);
  if (full) watch(listener, READ);
}
