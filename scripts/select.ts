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
 *
 * To copy it into an article: deno run -A scripts/standalone.ts select
 */

import { type Client, Clients, READ, WRITE } from "./shim/clients.ts";
import { cannotListen, fail, log, logWait, messages, parseOptions, ready, serverOptions } from "./shim/program.ts";
import * as sys from "./shim/sys.ts";

const options = parseOptions(
  "I/O multiplexing with select(2): sets of bits, copied in and out on every call.",
  "nc 127.0.0.1 9999, in several terminals at once",
  { ...serverOptions, ...messages },
);
sys.requireSystemCalls();

const BUFFER_SIZE = 65_536, TIMEOUT = 500;
const buffer = sys.memory(BUFFER_SIZE);
/** What to wait for, and the copies in which the kernel leaves what is ready. */
const reading = sys.memory(sys.FD_SET_SIZE), readable = sys.memory(sys.FD_SET_SIZE);
const writing = sys.memory(sys.FD_SET_SIZE), writable = sys.memory(sys.FD_SET_SIZE);
const timeout = sys.timeval();
let highest = 0;

async function main(): Promise<void> {
  // create, bind, listen
  const { fd: listener, port } = await sys.openListener(options, sys.SOCK_STREAM | sys.SOCK_NONBLOCK)
    .catch(cannotListen);
  ready(options.host, port);
  const clients = new Clients(listener, watch, sys.FD_SETSIZE);

  for (;;) {
    readable.bytes.set(reading.bytes);
    writable.bytes.set(writing.bytes);
    sys.setTimeval(timeout, TIMEOUT);
    const looked = highest + 1, count = sys.select(looked, readable, writable, timeout);
    if (count < 0 && count !== -sys.EINTR) fail("select", sys.systemError(count));
    if (count > 0) {
      logWait("select", {
        ready: count,
        watched: clients.size + 1,
        "bits looked at (highest descriptor + 1)": looked,
        // Of each set as many longs as hold these bits, both ways.
        "bytes of sets copied in and out": 2 * 2 * 8 * Math.ceil(looked / 64),
      });
    }
    let connecting = false;
    for (let fd = 0, left = count; left > 0; fd++) {
      if (!sys.FD_ISSET(fd, readable) && !sys.FD_ISSET(fd, writable)) continue;
      left--;
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
  if (events === READ) sys.FD_SET(fd, reading);
  else sys.FD_CLR(fd, reading);
  if (events === WRITE) sys.FD_SET(fd, writing);
  else sys.FD_CLR(fd, writing);
  if (events !== 0) highest = Math.max(highest, fd);
  else while (highest > 0 && !sys.FD_ISSET(highest, reading) && !sys.FD_ISSET(highest, writing)) highest--;
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
