// SPDX-License-Identifier: MIT
/**
 * Signal-driven I/O: the kernel sends a signal when a socket has become ready, and the signal says which one.
 *
 * Three calls of fcntl(2) ask for that: F_SETOWN_EX says which thread is to be told, F_SETSIG by which signal, and
 * O_ASYNC switches it on. A real-time signal is queued, one for each event, and brings the descriptor along. Usually a
 * signal interrupts what a program does. Here the thread blocks it, so that it waits in the queue, and takes one after
 * the other with sigtimedwait(2).
 *
 * Like `epoll.ts --edge` this tells of a change once, so the server asks a socket until it answers EAGAIN. And a signal
 * may be stale when it is taken: what it tells of has been received already, or the socket is closed.
 *
 * The limits are why epoll(7) has won. Each event costs a signal and a call, where epoll_wait hands over hundreds. And
 * the queue has an end (`ulimit -i`): what does not fit is lost, and a plain SIGIO comes instead. It says that
 * something has happened, but not where, so every socket is asked. The log shows that: try `ulimit -i 20` before, and
 * many clients at once. See epoll.ts.
 *
 * These are the kernel's own calls, made through the runtime's FFI. Linux only.
 *
 *   deno run -A scripts/signals.ts    or: bun scripts/signals.ts    or: node scripts/signals.ts
 *   nc 127.0.0.1 9999                 in several terminals: one thread serves them all
 *
 * To copy it into an article: deno run -A scripts/standalone.ts signals
 */

import { type Client, Clients } from "./shim/clients.ts";
import { cannotListen, fail, log, logWait, messages, parseOptions, process, ready } from "./shim/program.ts";
import { serverOptions } from "./shim/program.ts";
import * as sys from "./shim/sys.ts";

const options = parseOptions(
  "Signal-driven I/O (F_SETSIG): the kernel sends a signal that says which socket is ready.",
  "nc 127.0.0.1 9999, in several terminals at once",
  { ...serverOptions, ...messages },
);
sys.requireSystemCalls();

const BUFFER_SIZE = 65_536, TIMEOUT = 500;
const buffer = sys.memory(BUFFER_SIZE);
const SIGNAL = sys.SIGRTMIN + 1, thread = sys.gettid();
const signals = sys.sigset(SIGNAL, sys.SIGIO), info = sys.siginfo();
/** Descriptors that may have more, as no call has returned EAGAIN yet: there will be no other signal for that. */
const undrained = new Set<number>();

async function main(): Promise<void> {
  sys.must(sys.blockSignals(signals));
  // A runtime may not keep them blocked while it has its turn, and they would end the process.
  for (const signal of [SIGNAL, sys.SIGIO]) sys.must(sys.ignoreSignal(signal));

  // create, bind, listen
  const { fd: listener, port } = await sys.openListener(options, sys.SOCK_STREAM | sys.SOCK_NONBLOCK)
    .catch(cannotListen);
  const clients = new Clients(listener, watch);
  ready(options.host, port);

  for (;;) {
    const timeout = undrained.size > 0 ? 0 : TIMEOUT, signal = sys.sigtimedwait(signals, info, timeout);
    if (signal < 0 && signal !== -sys.EAGAIN && signal !== -sys.EINTR) fail("sigtimedwait", sys.systemError(signal));
    if (signal === sys.SIGIO) {
      logWait("overflow SIGIO:", { "sockets asked": clients.size + 1 });
      askAll();
    } else if (signal > 0) {
      const { fd, code } = sys.signalled(info);
      logWait("sigtimedwait", {}, () => `1 signal, descriptor ${fd} (${nameOf(fd)}), ${code}`);
      if (fd === listener) undrained.add(listener);
      else if (clients.has(fd)) handle(clients, clients.at(fd));
    }
    if (undrained.delete(listener)) clients.accept();
    for (const fd of undrained) if (fd !== listener) handle(clients, clients.at(fd));
    const nothing = signal < 0 && timeout > 0;
    if (nothing) clients.retry();
    // Signals and timers: when there is nothing else to do, and otherwise every now and then.
    if (nothing || sys.turnIsDue()) {
      await sys.runtimeTurn();
      // In Bun the signals that came meanwhile are lost.
      if (process.versions.bun) askAll();
    }
  }

  function nameOf(fd: number): string {
    return fd === listener ? "listener" : clients.has(fd) ? `#${clients.at(fd).id}` : "closed";
  }

  function askAll(): void {
    clients.accept();
    clients.each((client) => handle(clients, client));
  }
}

/** Has signals sent for a descriptor, from now on and for everything. Closing it ends that. */
function watch(fd: number, events: number, before: number): void {
  if (events === 0) undrained.delete(fd);
  if (events === 0 || before !== 0) return;
  sys.must(sys.setOwner(fd, thread));
  sys.must(sys.fcntl(fd, sys.F_SETSIG, SIGNAL));
  sys.must(sys.fcntl(fd, sys.F_SETFL, sys.O_NONBLOCK | sys.O_ASYNC));
  // For what has come before there was no signal.
  undrained.add(fd);
}

/** A call has returned EAGAIN, so there will be a signal when there is more. */
function drained({ fd, id }: Client): void {
  if (undrained.delete(fd)) logWait("drain", {}, () => `#${id} EAGAIN`);
}

/** A connection is ready, or was: a signal is a hint, and EAGAIN no error. */
function handle(clients: Clients, client: Client): void {
  if (client.unsent.length > 0) flush(clients, client);
  else receive(clients, client);
}

function receive(clients: Clients, client: Client): void {
  const { fd, id } = client, size = sys.recv(fd, buffer, BUFFER_SIZE, 0);
  if (size === -sys.EAGAIN) return drained(client);
  if (size <= 0) return clients.close(client, size);
  undrained.add(fd);
  if (client.leaving) return;
  client.silence = 0;
  log("recv", id, size, buffer.bytes);
  const sent = sys.send(fd, buffer, size, 0);
  if (sent < 0 && sent !== -sys.EAGAIN) return clients.close(client, sent);
  if (sent > 0) log("send", id, sent);
  if (sent === size) return clients.finish(client, options.messages);
  // The client is slow: nothing more is read from it until it has taken the rest.
  client.unsent = buffer.bytes.slice(Math.max(sent, 0), size);
}

function flush(clients: Clients, client: Client): void {
  const { fd, id, unsent } = client;
  buffer.bytes.set(unsent);
  const sent = sys.send(fd, buffer, unsent.length, 0);
  if (sent === -sys.EAGAIN) return drained(client);
  if (sent < 0) return clients.close(client, sent);
  undrained.add(fd);
  client.silence = 0;
  log("send", id, sent);
  client.unsent = unsent.subarray(sent);
  if (client.unsent.length === 0) clients.finish(client, options.messages);
}

await main();
