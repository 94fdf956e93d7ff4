// SPDX-License-Identifier: MIT
/**
 * Non-blocking I/O by busy polling: the server tries every socket in turn, over and over.
 *
 * A call on a non-blocking socket never waits. If there is nothing to receive, it fails at once with EAGAIN, and the
 * server goes on to the next socket. So one thread serves many clients, and no client can hold up another. But the
 * thread never sleeps. Every three seconds it prints how many calls it has made, and how many of them found nothing.
 *
 * A send that can't wait may take only a part. The server keeps the rest, and receives nothing more from that client
 * until the rest is sent. In select.ts, poll.ts and epoll.ts `Clients` does that.
 *
 * The limit: a core at 100 % even when all clients are silent, and a call for every client on every round. What is
 * missing is one call that asks the kernel about all sockets, and sleeps until one is ready: see select.ts.
 *
 * What is real: the kernel's own calls, made through the runtime's FFI. Linux only.
 *
 *   deno run -A scripts/nonblocking.ts  or: bun scripts/nonblocking.ts  or: node scripts/nonblocking.ts
 *   nc 127.0.0.1 9999                   in several terminals: one thread serves them all
 */

import { type Client, Clients } from "./shim/clients.ts";
import { heartbeat, log, messages, onStop, parseOptions, serverOptions } from "./shim/program.ts";
import * as sys from "./shim/sys.ts";

const options = parseOptions(
  "Non-blocking I/O: every socket is tried over and over, and answers EAGAIN when it has nothing.",
  "nc 127.0.0.1 9999, in several terminals at once",
  { ...serverOptions, ...messages },
);
sys.requireSystemCalls();

const SIZE = 65_536, buffer = sys.memory(SIZE), peer = sys.socketAddress();
/** Calls made since the last report, and those of them that found nothing. */
let calls = 0, empty = 0;

// create, bind, listen
const listener = await sys.openListener(options, sys.SOCK_STREAM | sys.SOCK_NONBLOCK),
  clients = new Clients(listener);
heartbeat("calls", 3, report);
onStop(() => report().forEach((line) => log("calls", 0, line)));

async function main(): Promise<void> {
  for (;;) {
    // Has a client connected?
    clients.accepted(counted(sys.accept4(listener, peer, sys.SOCK_NONBLOCK | sys.SOCK_CLOEXEC)), peer);
    clients.each(handle);
    // The loop never waits, so it must give the runtime its turn for signals and timers.
    if (sys.turnIsDue()) await sys.runtimeTurn();
  }
}

/** Has this client sent something, or room for what it hasn't taken yet? */
function handle(client: Client): void {
  if (client.unsent) {
    buffer.bytes.set(client.unsent);
    return send(client, client.unsent.length);
  }
  const size = counted(sys.recv(client.fd, buffer, SIZE, 0));
  if (size === -sys.EAGAIN || size > 0 && client.leaving) return;
  if (size <= 0) return clients.close(client, size);
  client.received(buffer.bytes, size);
  send(client, size);
}

/** Sends the first `size` bytes of the buffer, and keeps what the kernel doesn't take. */
function send(client: Client, size: number): void {
  const sent = counted(sys.send(client.fd, buffer, size, 0));
  // Full: no error.
  if (sent === -sys.EAGAIN && client.unsent) return;
  if (sent < 0 && sent !== -sys.EAGAIN) return clients.close(client, sent);
  if (sent > 0) client.sent(sent);
  client.unsent = sent === size ? null : buffer.bytes.slice(Math.max(sent, 0), size);
  if (!client.unsent) clients.answered(client);
}

/** Counts a call, and passes on what it returned. */
function counted(result: number): number {
  calls++;
  if (result === -sys.EAGAIN) empty++;
  return result;
}

function report(): string[] {
  const line = `${calls} made, ${empty} found nothing (${(100 * empty / (calls || 1)).toFixed(1)} %)`;
  calls = empty = 0;
  return [line];
}

await main();
