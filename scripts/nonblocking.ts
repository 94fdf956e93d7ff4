// SPDX-License-Identifier: MIT
/**
 * Non-blocking I/O without any help: every socket is asked, over and over, whether it has something.
 *
 * A call on a non-blocking socket never waits. If there is nothing to receive it fails at once with EAGAIN, and the
 * server goes on to the next one. So one thread serves many clients, and none of them can hold up another; but it
 * never rests. Every few seconds it prints how many calls it has made and how many of them found nothing.
 *
 * The limit: a core at 100 %, also when nobody says a word, and a call for every client on every round. What is missing
 * is a way to ask the kernel about all of them in one call, and to sleep until there is an answer: see select.ts.
 *
 * These are the kernel's own calls, made through the runtime's FFI. Linux only.
 *
 *   deno run -A scripts/nonblocking.ts  or: bun scripts/nonblocking.ts  or: node scripts/nonblocking.ts
 *   nc 127.0.0.1 9999                   in several terminals: one thread serves them all
 */

import { closeSilent, explain, fail, log, onStop, parseOptions, ready, serverOptions } from "./program.ts";
import * as sys from "./sys.ts";

const options = parseOptions(
  "Non-blocking I/O: every socket is asked over and over, and answers EAGAIN when it has nothing.",
  "nc 127.0.0.1 9999, in several terminals at once",
  {
    ...serverOptions,
    messages: [0, "exchanges per connection; 0 = until the client leaves"],
  },
);
sys.requireLinux();

/** What the loop must remember of a client between two rounds. */
interface Client {
  fd: number;
  id: number;
  /** Received, but not sent back yet. */
  unsent: Uint8Array;
  exchanges: number;
  silence: number;
  close(): void;
}

const BUFFER_SIZE = 65_536;
const NOTHING = new Uint8Array(0);

const clients = new Set<Client>();
const buffer = sys.memory(BUFFER_SIZE), peer = sys.socketAddress();
let accepted = 0, full = false;

// create, bind, listen
const { fd: listener, port } = await sys.openListener(options, sys.SOCK_STREAM | sys.SOCK_NONBLOCK)
  .catch((error) => fail(`cannot listen on ${options.host}:${options.port}`, error));
onStop(() => {
  sys.close(listener);
  for (const client of clients) client.close();
});
ready(options.host, port);
closeSilent(clients, options.idle);

/** Calls made since the last report, and those of them that found nothing. */
let calls = 0, vain = 0;
setInterval(() => {
  log("calls", 0, `${calls} made, ${vain} found nothing (${(100 * vain / calls).toFixed(1)} %)`);
  calls = vain = 0;
}, 3000);

for (;;) {
  accept();
  for (const client of clients) handle(client);
  // The loop never rests, so it must let the runtime see to signals and timers.
  if (sys.turnIsDue()) await sys.runtimeTurn();
}

/** Counts a call, and passes on what it has returned. */
function counted(result: number): number {
  calls++;
  if (result === -sys.EAGAIN) vain++;
  return result;
}

/** Has somebody connected? */
function accept(): void {
  const fd = counted(sys.accept4(listener, peer, sys.SOCK_NONBLOCK | sys.SOCK_CLOEXEC));
  if (fd === -sys.EAGAIN) return;
  if (fd < 0) {
    // Out of descriptors, for example. Who has connected waits in the backlog until the next round, or a later one.
    if (!full) log("error", 0, "accept:", explain(sys.systemError(fd)));
    full = fd !== -sys.ECONNABORTED;
    return;
  }
  full = false;
  const client: Client = { fd, id: ++accepted, unsent: NOTHING, exchanges: 0, silence: 0, close: () => close(client) };
  log("accept", client.id, sys.addressText(peer));
  clients.add(client);
}

/** Has this client sent something, or room for what it hasn't taken yet? */
function handle(client: Client): void {
  if (client.unsent.length > 0) flush(client);
  else receive(client);
}

function receive(client: Client): void {
  const { fd, id } = client;
  const size = counted(sys.recv(fd, buffer, BUFFER_SIZE, 0));
  if (size === -sys.EAGAIN) return;
  if (size < 0) return abort(client, size);
  if (size === 0) return close(client);
  client.silence = 0;
  if (!options.quiet) log("recv", id, buffer.bytes.subarray(0, size));
  const sent = counted(sys.send(fd, buffer, size, 0));
  if (sent === size) return finish(client);
  if (sent < 0 && sent !== -sys.EAGAIN) return abort(client, sent);
  // The client is slow: nothing more is read from it until it has taken the rest.
  client.unsent = buffer.bytes.slice(Math.max(sent, 0), size);
}

function flush(client: Client): void {
  const { fd, unsent } = client;
  buffer.bytes.set(unsent);
  const sent = counted(sys.send(fd, buffer, unsent.length, 0));
  if (sent === -sys.EAGAIN) return;
  if (sent < 0) return abort(client, sent);
  client.unsent = unsent.subarray(sent);
  if (client.unsent.length === 0) finish(client);
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
  sys.close(client.fd);
  clients.delete(client);
  log("close", client.id);
}
