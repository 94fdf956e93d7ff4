// SPDX-License-Identifier: MIT
/**
 * A coroutine per connection, by hand: what `await` and a goroutine do, with generators and a scheduler over epoll(7).
 *
 * `serve` reads as in tasks.ts, with `yield*` where that has `await`. A call that would block returns EAGAIN, and its
 * coroutine parks on the descriptor: `yield { fd, events }`. The scheduler resumes it when epoll_wait reports that. The
 * same happens below `async` in a runtime's event loop, and below a goroutine in Go's netpoller; asyncio began as this.
 *
 * The limit: one thread is one core, and a coroutine that computes (try `--work 2000`) holds up all others: nothing
 * preempts it, where Go does; reuseport.ts has a loop per core. Each wait costs a call that returns EAGAIN.
 *
 * What is real: the kernel's own calls, made through the runtime's FFI. Linux only. Generators are the language's own.
 *
 *   deno run -A scripts/coroutines.ts   or: bun scripts/coroutines.ts   or: node scripts/coroutines.ts
 *   nc 127.0.0.1 9999                   in two other terminals: both are served at once
 */

import { type Client, Clients, READ, WRITE } from "./shim/clients.ts";
import { burn, heartbeat, list, logWait, messages, parseOptions, serverOptions, work } from "./shim/program.ts";
import * as sys from "./shim/sys.ts";

const options = parseOptions(
  "A coroutine per connection: generators, and a scheduler that resumes those that can go on.",
  "nc 127.0.0.1 9999, in several terminals at once",
  { ...serverOptions, ...messages, ...work },
);
sys.requireSystemCalls();

/** What runs in a coroutine: yields what it waits for, or `null` to let others run, and returns a `T`. */
type Code<T = void> = Generator<{ fd: number; events: number } | null, T, void>;
type Coroutine = { name: string; code: Code; fd?: number; events?: number };

const SIZE = 65_536, buffer = sys.memory(SIZE), peer = sys.socketAddress(), TIMEOUT = 500, EVENTS = 512;
const epoll = sys.must(sys.epoll_create1(0)), found = sys.epollEvents(EVENTS);
const runnable: Coroutine[] = [], parked = new Map<number, Coroutine>();
const show = ({ name, fd, events }: Coroutine) =>
  `${name} until descriptor ${fd} is ${events === READ ? "readable" : "writable"}`;
// create, bind, listen
const listener = await sys.openListener(options, sys.SOCK_STREAM | sys.SOCK_NONBLOCK);
const clients = new Clients(listener, { register, modify: () => {}, unregister });

function* main(): Code {
  for (;;) {
    const client = yield* accept();
    run({ name: `#${client.id}`, code: serve(client) });
  }
}

function* serve(client: Client): Code {
  for (;;) {
    const data = yield* recv(client);
    if (data.length === 0) break;
    burn(client.id, options.work, data);
    yield* send(client, data);
  }
  clients.close(client, 0);
}

function* accept(): Code<Client> {
  for (;;) {
    const fd = sys.accept4(listener, peer, sys.SOCK_NONBLOCK | sys.SOCK_CLOEXEC);
    if (!clients.accepted(fd, peer)) yield { fd: listener, events: READ };
    else if (clients.has(fd)) return clients.at(fd);
  }
}

/** Returns bytes that are valid until the next `yield`. No bytes are the end of the stream, also of a broken one. */
function* recv(client: Client): Code<Uint8Array> {
  if (client.exchanges % 16 === 15) yield null; // A client that never falls silent would never park.
  while (!client.closed) {
    const size = sys.recv(client.fd, buffer, SIZE, 0);
    if (size === -sys.EAGAIN) yield { fd: client.fd, events: READ };
    else if (size < 0) clients.close(client, size);
    else if (size === 0 || clients.received(client, buffer, size)) return buffer.bytes.subarray(0, size);
    else yield null;
  }
  return new Uint8Array(0);
}

function* send(client: Client, data: Uint8Array): Code {
  while (!client.closed) {
    buffer.bytes.set(data);
    const sent = sys.send(client.fd, buffer, data.length, 0);
    if (sent > 0) client.sent(sent);
    if (sent === data.length) return clients.answered(client);
    if (sent < 0 && sent !== -sys.EAGAIN) return clients.close(client, sent);
    // All coroutines share the buffer, so each keeps its rest while it is parked.
    data = data.slice(Math.max(sent, 0));
    yield { fd: client.fd, events: WRITE };
  }
}

/** Runs a coroutine until its next `yield`, or its end. */
function run(coroutine: Coroutine): void {
  const { value } = coroutine.code.next();
  if (value === null) runnable.push(coroutine);
  else if (value) parked.set(value.fd, Object.assign(coroutine, value));
  if (value) logWait("park", {}, () => show(coroutine));
}

function resume(fd: number, events: number): void {
  const coroutine = parked.get(fd);
  if (coroutine && coroutine.events! & events && parked.delete(fd)) runnable.push(coroutine);
}

async function schedule(): Promise<void> {
  const names = () => `resume ${list(runnable.map(({ name }) => name))}`;
  for (;;) {
    const busy = runnable.length > 0, count = sys.epoll_wait(epoll, found, EVENTS, busy ? 0 : TIMEOUT);
    for (let i = 0; i < count; i++) resume(sys.descriptorOf(found, i), sys.eventsOf(found, i));
    if (runnable.length > 0) logWait("epoll_wait", { ready: count, parked: parked.size }, names);
    for (const coroutine of runnable.splice(0)) run(coroutine);
    await clients.turn(count, !busy);
  }
}

/** Once, for both, and edge-triggered: what comes while a coroutine is not parked, its next call finds. */
function register(fd: number): void {
  sys.must(sys.epoll_ctl(epoll, sys.EPOLL_CTL_ADD, fd, sys.epollEvent(READ | WRITE | sys.EPOLLET, fd)));
}

function unregister(fd: number): void {
  sys.epoll_ctl(epoll, sys.EPOLL_CTL_DEL, fd, sys.NULL);
  // The coroutine of a client goes on, and finds that it is closed.
  if (fd !== listener) resume(fd, READ | WRITE);
}

heartbeat("coroutines", 5, () => [list([...parked.values()].map(show))]);
run({ name: "listener", code: main() });
await schedule();
