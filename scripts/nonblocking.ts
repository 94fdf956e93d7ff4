// SPDX-License-Identifier: MIT
/**
 * Non-blocking I/O without any help: every socket is asked, over and over, whether it has something.
 *
 * A call on a non-blocking socket never waits. If there is nothing to receive it fails at once with EAGAIN, and the
 * server goes on to the next one. So one thread serves many clients, and none of them can hold up another; but it
 * never rests. Every few seconds it prints how many calls it has made and how many of them found nothing.
 *
 * The limit: a core at 100 %, also when no client says a word, and a call for every client on every round. What is
 * missing is a way to ask the kernel about all of them in one call, and to sleep until there is an answer: see
 * select.ts.
 *
 * These are the kernel's own calls, made through the runtime's FFI. Linux only.
 *
 *   deno run -A scripts/nonblocking.ts  or: bun scripts/nonblocking.ts  or: node scripts/nonblocking.ts
 *   nc 127.0.0.1 9999                   in several terminals: one thread serves them all
 *
 * To copy it into an article: deno run -A scripts/standalone.ts nonblocking
 */

import { type Client, Clients } from "./shim/clients.ts";
import { cannotListen, heartbeat, log, messages, onStop, parseOptions, ready, serverOptions } from "./shim/program.ts";
import * as sys from "./shim/sys.ts";

const options = parseOptions(
  "Non-blocking I/O: every socket is asked over and over, and answers EAGAIN when it has nothing.",
  "nc 127.0.0.1 9999, in several terminals at once",
  { ...serverOptions, ...messages },
);
sys.requireSystemCalls();

const BUFFER_SIZE = 65_536;
const buffer = sys.memory(BUFFER_SIZE), peer = sys.socketAddress();
/** Calls made since the last report, and those of them that found nothing. */
let calls = 0, empty = 0;

async function main(): Promise<void> {
  // create, bind, listen
  const { fd: listener, port } = await sys.openListener(options, sys.SOCK_STREAM | sys.SOCK_NONBLOCK)
    .catch(cannotListen);
  ready(options.host, port);
  const clients = new Clients(listener, () => {});
  heartbeat("calls", 3, report);
  onStop(() => report().forEach((line) => log("calls", 0, line)));

  for (;;) {
    // Has a client connected?
    clients.accepted(counted(sys.accept4(listener, peer, sys.SOCK_NONBLOCK | sys.SOCK_CLOEXEC)), peer);
    clients.each((client) => handle(clients, client));
    // The loop never rests, so it must give the runtime its turn for signals and timers.
    if (sys.turnIsDue()) await sys.runtimeTurn();
  }
}

function report(): string[] {
  const line = `${calls} made, ${empty} found nothing (${(100 * empty / (calls || 1)).toFixed(1)} %)`;
  calls = empty = 0;
  return [line];
}

/** Counts a call, and passes on what it has returned. */
function counted(result: number): number {
  calls++;
  if (result === -sys.EAGAIN) empty++;
  return result;
}

/** Has this client sent something, or room for what it hasn't taken yet? */
function handle(clients: Clients, client: Client): void {
  if (client.unsent.length > 0) flush(clients, client);
  else receive(clients, client);
}

function receive(clients: Clients, client: Client): void {
  const { fd, id } = client, size = counted(sys.recv(fd, buffer, BUFFER_SIZE, 0));
  if (size === -sys.EAGAIN || size > 0 && client.leaving) return;
  if (size <= 0) return clients.close(client, size);
  client.silence = 0;
  log("recv", id, size, buffer.bytes);
  const sent = counted(sys.send(fd, buffer, size, 0));
  if (sent < 0 && sent !== -sys.EAGAIN) return clients.close(client, sent);
  if (sent > 0) log("send", id, sent);
  if (sent === size) return clients.finish(client, options.messages);
  // The client is slow: nothing more is read from it until it has taken the rest.
  client.unsent = buffer.bytes.slice(Math.max(sent, 0), size);
}

function flush(clients: Clients, client: Client): void {
  const { fd, id, unsent } = client;
  buffer.bytes.set(unsent);
  const sent = counted(sys.send(fd, buffer, unsent.length, 0));
  if (sent === -sys.EAGAIN) return;
  if (sent < 0) return clients.close(client, sent);
  client.silence = 0;
  log("send", id, sent);
  client.unsent = unsent.subarray(sent);
  if (client.unsent.length === 0) clients.finish(client, options.messages);
}

await main();
