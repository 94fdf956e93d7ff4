// SPDX-License-Identifier: MIT
/**
 * epoll(7): the kernel keeps the list of descriptors, and hands over those that are ready.
 *
 * select.ts and poll.ts are the same server with the older calls, which are given the whole list every time. Here a
 * descriptor is registered once, and epoll_wait costs as much as there is to do: ten thousand silent clients beside
 * a busy one cost nothing.
 *
 * Level-triggered, as it is by default, epoll_wait reports a descriptor for as long as it is ready. With `--edge` it
 * reports it once, when it becomes ready. What that asks of a program stands wherever `edge` does below: it has to
 * remember by itself who may have more to say, until a call has returned EAGAIN. In return a change between receiving
 * and sending needs no epoll_ctl.
 *
 * The limit: readiness is a hint, and each hint is followed by the calls that do the work, three in all for a message.
 * uring.ts asks for the work instead. One thread is still one core: see reuseport.ts.
 *
 * These are the kernel's own calls, made through the runtime's FFI. Linux only.
 *
 *   deno run -A scripts/epoll.ts      or: bun scripts/epoll.ts      or: node scripts/epoll.ts
 *   nc 127.0.0.1 9999                 in several terminals: one thread serves them all
 *
 * To copy it into an article: deno run -A scripts/standalone.ts epoll
 */

import { type Client, Clients, READ, WRITE } from "./shim/clients.ts";
import { cannotListen, fail, log, logWait, messages, parseOptions, ready, serverOptions } from "./shim/program.ts";
import * as sys from "./shim/sys.ts";

const options = parseOptions(
  "I/O multiplexing with epoll(7): the kernel keeps the list, and hands over what is ready.",
  "nc 127.0.0.1 9999, in several terminals at once",
  { ...serverOptions, ...messages, edge: [false, "edge-triggered instead of level-triggered"] },
);
sys.requireSystemCalls();

const { edge } = options;
const BUFFER_SIZE = 65_536, EVENTS = 512, TIMEOUT = 500;
const buffer = sys.memory(BUFFER_SIZE);
const epoll = sys.must(sys.epoll_create1(0)), events = sys.epollEvents(EVENTS);
/** With `--edge`: those for which no call has returned EAGAIN yet. epoll_wait will not mention them again. */
const undrained = new Set<Client>();

async function main(): Promise<void> {
  // create, bind, listen
  const { fd: listener, port } = await sys.openListener(options, sys.SOCK_STREAM | sys.SOCK_NONBLOCK)
    .catch(cannotListen);
  ready(options.host, port);
  const clients = new Clients(listener, watch);

  for (;;) {
    const count = sys.epoll_wait(epoll, events, EVENTS, undrained.size > 0 ? 0 : TIMEOUT);
    if (count < 0 && count !== -sys.EINTR) fail("epoll_wait", sys.systemError(count));
    if (count > 0) logWait("epoll_wait", { ready: count, registered: clients.size + 1, "entries looked at": count });
    let connecting = false;
    for (let i = 0; i < count; i++) {
      const fd = sys.descriptorOf(events, i);
      if (fd === listener) connecting = true;
      else if (edge) undrained.add(clients.at(fd));
      else handle(clients, clients.at(fd));
    }
    for (const client of undrained) {
      if (clients.at(client.fd) === client) handle(clients, client);
      if (clients.at(client.fd) !== client) undrained.delete(client);
    }
    // Last, as a new client may be given the number of one that has just left, but must not be given its events.
    if (connecting) clients.accept();
    if (count <= 0) clients.retry();
    // Signals and timers: when there is nothing else to do, and otherwise every now and then.
    if (count <= 0 || sys.turnIsDue()) await sys.runtimeTurn();
  }
}

/** Waits for `events` on a descriptor, and for nothing else; before it was `before`. */
function watch(fd: number, events: number, before: number): void {
  const operation = before === 0 ? sys.EPOLL_CTL_ADD : events === 0 ? sys.EPOLL_CTL_DEL : sys.EPOLL_CTL_MOD;
  // Edge-triggered, it is registered once, for both.
  if (edge && operation === sys.EPOLL_CTL_MOD) return;
  sys.must(sys.epoll_ctl(epoll, operation, fd, edge ? READ | WRITE | sys.EPOLLET : events));
}

/** With `--edge`: a call has returned EAGAIN, so epoll_wait will report the client when there is more. */
function drained(client: Client): void {
  if (undrained.delete(client)) logWait("drain", {}, () => `#${client.id} EAGAIN`);
}

/** A connection is ready, or was: readiness is a hint, and EAGAIN no error. */
function handle(clients: Clients, client: Client): void {
  if (client.unsent.length > 0) flush(clients, client);
  else receive(clients, client);
}

function receive(clients: Clients, client: Client): void {
  const { fd, id } = client, size = sys.recv(fd, buffer, BUFFER_SIZE, 0);
  if (size === -sys.EAGAIN) return drained(client);
  if (size > 0 && client.leaving) return;
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
  if (sent === -sys.EAGAIN) return drained(client);
  if (sent < 0) return clients.close(client, sent);
  client.silence = 0;
  log("send", id, sent);
  client.unsent = unsent.subarray(sent);
  if (client.unsent.length === 0) clients.finish(client, options.messages);
}

await main();
