// SPDX-License-Identifier: MIT
/**
 * io_uring(7): the program submits requests, and the kernel reports when they are done.
 *
 * select, poll and epoll tell a program that a call would succeed now (readiness); it then makes that call: recv, send,
 * two more system calls for a message. Here the program asks for the bytes to be put at an address, and is told when
 * they are there (completion). Requests and completions travel in two rings of shared memory. One system call a round
 * hands over all new requests and waits for completions, however many clients there are.
 *
 * Two things follow. The memory of a request belongs to the kernel until the request is done, so each client has a
 * buffer of its own, where a loop over epoll needs one for all. And no one waits for room to send: the kernel goes on
 * until all is sent. "Send this, then receive" is one chain of two requests, and while a client doesn't read, the receive
 * isn't begun.
 *
 * The limit: one thread is still one core; see reuseport.ts. Linux 6.1 or later, and many containers forbid it.
 *
 * These are the kernel's own rings and calls, reached through the runtime's FFI.
 *
 *   deno run -A scripts/uring.ts      or: bun scripts/uring.ts      or: node scripts/uring.ts
 *   nc 127.0.0.1 9999                 in several terminals: one thread serves them all
 */

import {
  closeAll,
  fail,
  log,
  logWait,
  messages,
  onStop,
  parseOptions,
  serverOptions,
  stopping,
} from "./shim/program.ts";
import { openRing } from "./shim/ring.ts";
import { BUFFER_SIZE, type RingClient, RingClients } from "./shim/ring_clients.ts";
import * as sys from "./shim/sys.ts";

const options = parseOptions(
  "Completion instead of readiness with io_uring(7): requests and results in shared memory.",
  "nc 127.0.0.1 9999, in several terminals at once",
  { ...serverOptions, ...messages },
);
sys.requireSystemCalls();

const TIMEOUT = 500;
/** What a completion is about: the client's place, doubled, and 1 for a send. Place 0 is the listening socket's. */
const ACCEPT = 0, SEND = 1;
/** Nothing is to be done, logged or timed when a message has been sent, so the kernel needn't report it. */
const silent = options.quiet && options.messages === Infinity && options.idle === Infinity;

const ring = openRing(1024, 4096), clients = new RingClients();
/** An accept request is in force. */
let accepting = false;

async function main(): Promise<void> {
  // create, bind, listen
  const listener = await sys.openListener(options, sys.SOCK_STREAM);
  onStop(async () => {
    sys.shutdown(listener, sys.SHUT_RDWR);
    await closeAll();
    // Every request completes, if only with an error, before the process ends.
    if (ring.enter(100) >= 0) complete();
    log("io_uring_enter", 0, `${ring.calls} calls in all`);
  });

  while (!stopping) {
    // One request for all connections to come. It ends when an accept has failed.
    if (!accepting && !clients.full) {
      ring.accept(listener, ACCEPT);
      accepting = true;
    }
    // The system call: hands over the new requests, and waits for completions.
    const submitted = ring.enter(TIMEOUT);
    if (submitted < 0) fail("io_uring_enter", sys.systemError(submitted));
    const count = ring.waiting();
    if (count > 0) logWait("io_uring_enter", { submitted, completed: count }, () => `${ring.calls} calls so far`, true);
    else clients.full = false;
    complete();
    // Signals and timers: when there is nothing else to do, and otherwise every now and then.
    if (count === 0 || sys.turnIsDue()) await sys.runtimeTurn();
  }
}

/** Handles all completions that have come. */
function complete(): void {
  while (ring.next()) {
    const { data, result, more } = ring, client = clients.at(data >> 1);
    if (!client) onAccepted(result, more);
    else if (data & SEND) onSent(client, result);
    else onReceived(client, result);
  }
}

/** The kernel has accepted a connection. It goes on to do so while `more` is set. */
function onAccepted(fd: number, more: boolean): void {
  if (stopping) return;
  accepting = more;
  const client = clients.accepted(fd);
  if (client) receive(client);
}

/** Bytes are in the client's buffer; or the stream has ended (0), or the receive has failed. */
function onReceived(client: RingClient, size: number): void {
  if (size > 0) {
    // The server has shut down its side already.
    if (client.leaving) return receive(client);
    clients.received(client, size);
    reply(client);
  } else if (size === -sys.ECANCELED && !client.leaving) {
    // The send before it has not sent everything, so that the receive was not begun.
    reply(client);
  } else {
    clients.ended(client, size);
  }
}

/** The message has been sent back, or a part of it. */
function onSent(client: RingClient, sent: number): void {
  clients.sent(client, sent);
  // Not everything was sent. The receive reports -ECANCELED, unless no completion was asked for.
  if (silent) onReceived(client, -sys.ECANCELED);
}

/** Asks for the next bytes. */
function receive({ fd, place, address }: RingClient): void {
  ring.recv(fd, address, BUFFER_SIZE, place << 1);
}

/** A chain of two requests: send what is in the buffer; when all of it is sent, receive the next bytes. */
function reply(client: RingClient): void {
  const { fd, place, address, start, size } = client;
  ring.sendThen(fd, address + start, size, place << 1 | SEND, silent);
  receive(client);
}

await main();
