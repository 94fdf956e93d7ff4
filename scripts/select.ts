// SPDX-License-Identifier: MIT
/**
 * select(2): one call that waits for many sockets, given as bits.
 *
 * A set has a bit for each descriptor. The server sets the bits of those it wants to hear of, the kernel clears the
 * bits of those that are not ready, and the server looks through them all for the ones that are left. So the sets are
 * copied in and out on every call, and made anew for the next, however little has happened.
 *
 * The limits: a set ends at descriptor 1023 (FD_SETSIZE), and clients beyond are turned away; poll.ts has no such end.
 * And a call costs as much as the highest descriptor is high, silent clients included; epoll.ts lifts that.
 *
 * These are the kernel's own calls, made through the runtime's FFI. Linux only.
 *
 *   deno run -A scripts/select.ts     or: bun scripts/select.ts     or: node scripts/select.ts
 *   nc 127.0.0.1 9999                 in several terminals: one thread serves them all
 */

import { closeSilent, explain, fail, log, onStop, parseOptions, ready, serverOptions } from "./program.ts";
import * as sys from "./sys.ts";

const options = parseOptions(
  "I/O multiplexing with select(2): sets of bits, copied in and out on every call.",
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

const READ = 1, WRITE = 2;
const BUFFER_SIZE = 65_536, TIMEOUT = 500;
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

/** What to wait for, and the copies in which the kernel leaves what is ready. */
const reading = sys.memory(sys.FD_SET_SIZE), readable = sys.memory(sys.FD_SET_SIZE);
const writing = sys.memory(sys.FD_SET_SIZE), writable = sys.memory(sys.FD_SET_SIZE);
const timeout = sys.timeval();
let highest = 0;
watch(listener, READ);
for (;;) {
  readable.bytes.set(reading.bytes);
  writable.bytes.set(writing.bytes);
  sys.setTimeval(timeout, TIMEOUT);
  const count = sys.select(highest + 1, readable, writable, timeout);
  if (count < 0 && count !== -sys.EINTR) fail("select", sys.systemError(count));
  let connecting = false;
  for (let fd = 0, left = count; left > 0; fd++) {
    if (!sys.FD_ISSET(fd, readable) && !sys.FD_ISSET(fd, writable)) continue;
    left--;
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
  if (events === READ) sys.FD_SET(fd, reading);
  else sys.FD_CLR(fd, reading);
  if (events === WRITE) sys.FD_SET(fd, writing);
  else sys.FD_CLR(fd, writing);
  if (events !== 0) highest = Math.max(highest, fd);
  else while (highest > 0 && !sys.FD_ISSET(highest, reading) && !sys.FD_ISSET(highest, writing)) highest--;
}

/** The listening socket is ready: somebody has connected. */
function accept(): void {
  for (;;) {
    const fd = sys.accept4(listener, peer, sys.SOCK_NONBLOCK | sys.SOCK_CLOEXEC);
    if (fd === -sys.EAGAIN) return;
    if (fd < 0) {
      if (!full) log("error", 0, "accept:", explain(sys.systemError(fd)));
      if (fd === -sys.ECONNABORTED) continue;
      // Out of descriptors. Who has connected waits in the backlog, and would make select return at once.
      full = true;
      return watch(listener, 0);
    }
    full = false;
    if (fd >= sys.FD_SETSIZE) {
      log("error", ++accepted, `refused: descriptor ${fd}, and select(2) has no bit beyond ${sys.FD_SETSIZE - 1}`);
      sys.close(fd);
      continue;
    }
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
