// SPDX-License-Identifier: MIT
/**
 * Signal-driven I/O: the kernel sends a signal when a socket becomes ready, and the signal says which one.
 *
 * Three calls of fcntl(2) ask for that: F_SETOWN_EX says which thread gets the signal, F_SETSIG says which signal, and
 * O_ASYNC switches it on. A real-time signal is queued, one for each event, and carries the descriptor. Usually a
 * signal interrupts a program. Here the thread blocks it, so that it waits in the queue, and takes one after the other
 * with sigtimedwait(2).
 *
 * As with `epoll.ts --edge`, a change is reported once, so the server goes on with a socket until it answers EAGAIN.
 * And a signal may be stale when it is taken: the bytes have been received already, or the socket is closed.
 *
 * The limits are why epoll(7) has won. Each event costs a signal and a call, where epoll_wait hands over hundreds. And
 * the queue has an end (`ulimit -i`): a signal that doesn't fit is lost, and a plain SIGIO comes instead. It says that
 * something has happened, but not where, so the server tries every socket. To see this in the log, set `ulimit -i 20`
 * first, and connect many clients at once.
 *
 * What is real: the kernel's own calls, made through the runtime's FFI. Linux only.
 *
 *   deno run -A scripts/signals.ts    or: bun scripts/signals.ts    or: node scripts/signals.ts
 *   nc 127.0.0.1 9999                 in several terminals: one thread serves them all
 */

import { type Client, Clients } from "./shim/clients.ts";
import { logWait, messages, parseOptions, serverOptions } from "./shim/program.ts";
import * as sys from "./shim/sys.ts";

const options = parseOptions(
  "Signal-driven I/O (F_SETSIG): the kernel sends a signal that says which socket is ready.",
  "nc 127.0.0.1 9999, in several terminals at once",
  { ...serverOptions, ...messages },
);
sys.requireSystemCalls();

const SIZE = 65_536, buffer = sys.memory(SIZE), timeout = sys.timespec(500), atOnce = sys.timespec(0);
const SIGNAL = sys.SIGRTMIN + 1, thread = sys.gettid(), info = sys.siginfo();
const signals = sys.blockSignals(SIGNAL, sys.SIGIO);
/** Descriptors for which no call has returned EAGAIN yet: there will be no other signal for what they have. */
const undrained = new Set<number>();

// create, bind, listen
const listener = await sys.openListener(options, sys.SOCK_STREAM | sys.SOCK_NONBLOCK);
const clients = new Clients(listener, { register, modify: () => {}, unregister });

async function main(): Promise<void> {
  for (;;) {
    const busy = undrained.size > 0, signal = sys.sigtimedwait(signals, info, busy ? atOnce : timeout);
    if (signal === sys.SIGIO) {
      logWait("overflow SIGIO:", { "sockets asked": clients.size + 1 });
      tryAll();
    } else if (signal > 0) {
      const { fd, code } = sys.signalled(info);
      logWait("sigtimedwait", {}, () => `1 signal, descriptor ${fd} (${nameOf(fd)}), ${code}`);
      if (fd === listener) undrained.add(fd);
      else if (clients.has(fd)) serve(clients.at(fd));
    }
    if (undrained.delete(listener)) clients.accept();
    for (const fd of undrained) if (fd !== listener) serve(clients.at(fd));
    // A runtime may take signals while it has its turn.
    if (await clients.turn(signal, !busy)) tryAll();
  }
}

function nameOf(fd: number): string {
  return fd === listener ? "listener" : clients.has(fd) ? `#${clients.at(fd).id}` : "closed";
}

function tryAll(): void {
  clients.accept();
  clients.each(serve);
}

/** Has signals sent for a descriptor, from now on and for everything. Closing it ends that. */
function register(fd: number): void {
  sys.must(sys.setOwner(fd, thread));
  sys.must(sys.fcntl(fd, sys.F_SETSIG, SIGNAL));
  sys.must(sys.fcntl(fd, sys.F_SETFL, sys.O_NONBLOCK | sys.O_ASYNC));
  // There was no signal for what came before.
  undrained.add(fd);
}

function unregister(fd: number): void {
  undrained.delete(fd);
}

/** Handles a client, and remembers whether there may be more. */
function serve(client: Client): void {
  handle(client);
  if (!client.drained) undrained.add(client.fd);
  else if (undrained.delete(client.fd)) logWait("drain", {}, () => `#${client.id} EAGAIN`);
}

/** A client is ready, or was: readiness is a hint. nonblocking.ts shows what EAGAIN and a half-sent reply need. */
function handle(client: Client): void {
  if (client.unsent) return clients.flush(client);
  const size = sys.recv(client.fd, buffer, SIZE, 0);
  if (size > 0) clients.send(client, buffer, size);
  else clients.ended(client, size);
}

await main();
