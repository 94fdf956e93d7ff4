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
 */

import { closeSilent, explain, fail, log, onStop, parseOptions, ready, serverOptions } from "./program.ts";
import * as sys from "./sys.ts";

const options = parseOptions(
  "I/O multiplexing with epoll(7): the kernel keeps the list, and hands over what is ready.",
  "nc 127.0.0.1 9999, in several terminals at once",
  {
    ...serverOptions,
    messages: [0, "exchanges per connection; 0 = until the client leaves"],
    edge: [false, "edge-triggered instead of level-triggered"],
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

const READ = sys.EPOLLIN, WRITE = sys.EPOLLOUT, EDGE = sys.EPOLLIN | sys.EPOLLOUT | sys.EPOLLET;
const BUFFER_SIZE = 65_536, EVENTS = 512, TIMEOUT = 500;
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

const { edge } = options;
/** With `--edge`: those for which no call has returned EAGAIN yet. epoll_wait will not mention them again. */
const unexhausted = new Set<Client>();
const epoll = sys.must(sys.epoll_create1(0)), events = sys.epollEvents(EVENTS);
sys.must(sys.epoll_ctl(epoll, sys.EPOLL_CTL_ADD, listener, READ));
for (;;) {
  const count = sys.epoll_wait(epoll, events, EVENTS, unexhausted.size > 0 ? 0 : TIMEOUT);
  if (count < 0 && count !== -sys.EINTR) fail("epoll_wait", sys.systemError(count));
  let connecting = false;
  for (let i = 0; i < count; i++) {
    const fd = sys.descriptorOf(events, i);
    if (fd === listener) connecting = true;
    else if (edge) unexhausted.add(clients[fd]!);
    else handle(clients[fd]!);
  }
  if (edge) {
    for (const client of unexhausted) handle(client);
  }
  // Last, as a new client may be given the number of one that has just left, but must not be given its events.
  if (connecting) accept();
  if (count <= 0 && full) watch(listener, READ);
  // Signals and timers: when there is nothing else to do, and otherwise every now and then.
  if (count <= 0 || sys.turnIsDue()) await sys.runtimeTurn();
}

/** Waits for `events` on a registered descriptor, and for nothing else. */
function watch(fd: number, events: number): void {
  sys.must(sys.epoll_ctl(epoll, sys.EPOLL_CTL_MOD, fd, events));
}

/** The listening socket is ready: somebody has connected. */
function accept(): void {
  for (;;) {
    const fd = sys.accept4(listener, peer, sys.SOCK_NONBLOCK | sys.SOCK_CLOEXEC);
    if (fd === -sys.EAGAIN) return;
    if (fd < 0) {
      if (!full) log("error", 0, "accept:", explain(sys.systemError(fd)));
      if (fd === -sys.ECONNABORTED) continue;
      // Out of descriptors. Who has connected waits in the backlog, and would make epoll_wait return at once.
      full = true;
      return watch(listener, 0);
    }
    full = false;
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
    sys.must(sys.epoll_ctl(epoll, sys.EPOLL_CTL_ADD, fd, edge ? EDGE : READ));
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
  if (size === -sys.EAGAIN) return void unexhausted.delete(client);
  if (size < 0) return abort(client, size);
  if (size === 0) return close(client);
  client.silence = 0;
  if (!options.quiet) log("recv", id, buffer.bytes.subarray(0, size));
  const sent = sys.send(fd, buffer, size, 0);
  if (sent === size) return finish(client);
  if (sent < 0 && sent !== -sys.EAGAIN) return abort(client, sent);
  // The client is slow: nothing more is read from it until it has taken the rest.
  client.unsent = buffer.bytes.slice(Math.max(sent, 0), size);
  if (!edge) watch(fd, WRITE);
}

function flush(client: Client): void {
  const { fd, unsent } = client;
  buffer.bytes.set(unsent);
  const sent = sys.send(fd, buffer, unsent.length, 0);
  if (sent === -sys.EAGAIN) return void unexhausted.delete(client);
  if (sent < 0) return abort(client, sent);
  client.unsent = unsent.subarray(sent);
  if (client.unsent.length > 0) return;
  if (!edge) watch(fd, READ);
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
  // This takes it out of the epoll set, too.
  sys.close(client.fd);
  clients[client.fd] = undefined;
  unexhausted.delete(client);
  open.delete(client);
  log("close", client.id);
  if (full) watch(listener, READ);
}
