// SPDX-License-Identifier: MIT
/**
 * select(2): one call that waits for many sockets, given as bitmaps.
 *
 * A set has a bit for each descriptor. The server sets the bits of the descriptors to wait for, the kernel clears those
 * that are not ready, and the server looks for the bits that are left. So both sets are copied in and out on every
 * call, and rebuilt for the next one, however little has happened.
 *
 * The limits: a set ends at descriptor 1023 (FD_SETSIZE), and clients beyond are turned away; poll.ts has no such limit.
 * And a call costs O(highest descriptor), silent clients included; epoll.ts lifts that.
 *
 * What is real: the kernel's own calls, made through the runtime's FFI. Linux only.
 *
 *   deno run -A scripts/select.ts     or: bun scripts/select.ts     or: node scripts/select.ts
 *   nc 127.0.0.1 9999                 in several terminals: one thread serves them all
 */

import { type Client, Clients, READ, WRITE } from "./shim/clients.ts";
import { logWait, messages, parseOptions, serverOptions } from "./shim/program.ts";
import * as sys from "./shim/sys.ts";

const options = parseOptions(
  "I/O multiplexing with select(2): bitmaps, copied in and out on every call.",
  "nc 127.0.0.1 9999, in several terminals at once",
  { ...serverOptions, ...messages },
);
sys.requireSystemCalls();

const SIZE = 65_536, buffer = sys.memory(SIZE), TIMEOUT = 500, timeout = sys.timeval();
/** What to wait for, and the copies in which the kernel leaves what is ready. */
const reading = sys.memory(sys.FD_SET_SIZE), readable = sys.memory(sys.FD_SET_SIZE);
const writing = sys.memory(sys.FD_SET_SIZE), writable = sys.memory(sys.FD_SET_SIZE);
let highest = 0;

// create, bind, listen
const listener = await sys.openListener(options, sys.SOCK_STREAM | sys.SOCK_NONBLOCK);
const clients = new Clients(listener, { register, modify, unregister });

async function main(): Promise<void> {
  for (;;) {
    readable.bytes.set(reading.bytes);
    writable.bytes.set(writing.bytes);
    sys.setTimeval(timeout, TIMEOUT);
    const looked = highest + 1, count = sys.select(looked, readable, writable, sys.NULL, timeout);
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
      else handle(clients.at(fd));
    }
    // Accept last: a new client can reuse a descriptor closed in this round.
    if (connecting) clients.accept();
    await clients.turn(count);
  }
}

function register(fd: number, events: number): void {
  if (fd >= sys.FD_SETSIZE) {
    throw new Error(`refused: descriptor ${fd}, and there is no bit beyond ${sys.FD_SETSIZE - 1}`);
  }
  highest = Math.max(highest, fd);
  modify(fd, events);
}

function modify(fd: number, events: number): void {
  (events & READ ? sys.FD_SET : sys.FD_CLR)(fd, reading);
  (events & WRITE ? sys.FD_SET : sys.FD_CLR)(fd, writing);
}

function unregister(fd: number): void {
  modify(fd, 0);
  while (highest > 0 && !sys.FD_ISSET(highest, reading) && !sys.FD_ISSET(highest, writing)) highest--;
}

/** A client is ready, or was: readiness is a hint. nonblocking.ts shows what EAGAIN and a half-sent reply need. */
function handle(client: Client): void {
  if (client.unsent) return clients.flush(client);
  const size = sys.recv(client.fd, buffer, SIZE, 0);
  if (size > 0) clients.send(client, buffer, size);
  else clients.ended(client, size);
}

await main();
