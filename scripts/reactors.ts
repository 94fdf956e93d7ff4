// SPDX-License-Identifier: MIT
/**
 * Several reactors: one thread accepts, and gives each client to one of several threads, which have an event loop each.
 *
 * A loop over epoll(7), as in epoll.ts, is called a reactor. The main reactor waits for the listening socket alone,
 * the sub reactors wait for the clients, each on its own set. Netty calls them boss and workers; memcached and muduo
 * are built this way, too. In reuseport.ts a hash decides which loop gets a client, here the thread that accepts does:
 * each loop in turn, or with `--spread fewest` the one that has the fewest clients.
 *
 * Handing a client over takes no queue and no lock. A set belongs to the process, so the main thread itself adds the
 * descriptor to the set of the loop that it has chosen, to be told when it is writable. A new socket is, so the loop
 * wakes up at once and finds a descriptor that it doesn't know, with the client's number beside it. As a sign to stop,
 * every loop is handed the listening socket.
 *
 * The limit: all connections pass through one thread, which reuseport.ts doesn't need. And a client stays with its
 * loop, however busy that is (try `--work 2000`); in pool.ts it gets the thread that is free.
 *
 * These are the kernel's own calls, made through the runtime's FFI. Linux only.
 *
 *   deno run -A scripts/reactors.ts   or: bun scripts/reactors.ts   or: node scripts/reactors.ts
 *   nc 127.0.0.1 9999                 in several terminals: the log shows who gives which client to which loop
 *
 * To copy it into an article: deno run -A scripts/standalone.ts reactors
 */

import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { isMainThread, parentPort, workerData } from "node:worker_threads";
import { type Client, Clients, READ, WRITE } from "./shim/clients.ts";
import { burn, cannotListen, fail, heartbeat, log, logWait, messages, onStop, parseOptions } from "./shim/program.ts";
import { ready, serverOptions, stopping, type ThreadSettings, threadSettings, usageError } from "./shim/program.ts";
import { work } from "./shim/program.ts";
import * as sys from "./shim/sys.ts";
import { keepWorker } from "./shim/worker.ts";

const options = parseOptions(
  "Several reactors: one thread accepts, and gives each client to one of several event loops.",
  "nc 127.0.0.1 9999, in several terminals at once",
  {
    ...serverOptions,
    ...messages,
    ...work,
    workers: [availableParallelism(), "event loops, each in a thread", 1, 1000],
    spread: ["round", "which loop gets a client: round = each in turn, fewest = the one with the fewest"],
  },
);
if (!/^(round|fewest)$/.test(options.spread)) usageError(`--spread ${options.spread}: not round or fewest`);
sys.requireSystemCalls();

/** What is counted of a loop, in memory that all threads see: these are the indices. */
const GIVEN = 0, OPEN = 1, MESSAGES = 2;

/** What a loop's thread is told when it starts. */
interface Loop extends ThreadSettings {
  /** The set of what it waits for. */
  epoll: number;
  /** Found in its set, it is the sign to stop. */
  listener: number;
  counts: Int32Array;
}

const BUFFER_SIZE = 65_536, EVENTS = 512, TIMEOUT = 500;

/** The main reactor: it accepts, and keeps no client. */
async function main(): Promise<void> {
  // create, bind, listen
  const { fd: listener, port } = await sys.openListener(options, sys.SOCK_STREAM | sys.SOCK_NONBLOCK)
    .catch(cannotListen);
  const loops: Loop[] = [];
  onStop(async () => {
    sys.shutdown(listener, sys.SHUT_RDWR);
    for (const { epoll } of loops) sys.epoll_ctl(epoll, sys.EPOLL_CTL_ADD, listener, READ);
    for (let i = 0; i < 25 && loops.some(({ counts }) => Atomics.load(counts, OPEN) > 0); i++) await sleep(20);
  });
  // One after the other: a runtime may not like to load the C library in several threads at once.
  for (let i = 1; i <= options.workers; i++) {
    const name = `loop-${i}`, epoll = sys.epoll_create1(0), counts = new Int32Array(new SharedArrayBuffer(12));
    if (epoll < 0) fail(`cannot start ${name}`, sys.systemError(epoll));
    const loop: Loop = { ...threadSettings(name), epoll, listener, counts };
    loops.push(loop);
    // Returns when the loop waits for events.
    await keepWorker(import.meta.url, () => loop, () => () => closeClients(loop))
      .catch((error) => fail(`cannot start ${name}`, error));
  }
  ready(options.host, port);
  heartbeat("loop", 5, describe);

  const epoll = sys.must(sys.epoll_create1(0)), events = sys.epollEvents(EVENTS);
  const watchListener = (fd: number, events: number) =>
    sys.must(sys.epoll_ctl(epoll, events === 0 ? sys.EPOLL_CTL_DEL : sys.EPOLL_CTL_ADD, fd, events));
  const acceptor = new Clients(listener, watchListener, Infinity, give);
  for (;;) {
    if (stopping) return;
    const count = sys.epoll_wait(epoll, events, EVENTS, TIMEOUT);
    if (count < 0 && count !== -sys.EINTR) fail("epoll_wait", sys.systemError(count));
    if (count > 0) logWait("epoll_wait", { ready: count, registered: 1, "entries looked at": count });
    if (count > 0) acceptor.accept();
    else acceptor.retry();
    // Signals and timers: when there is nothing else to do, and otherwise every now and then.
    if (count <= 0 || sys.turnIsDue()) await sys.runtimeTurn();
  }

  function describe(): string[] {
    return loops.map(({ name, counts }) =>
      `${name} given ${counts[GIVEN]}, open ${counts[OPEN]}, messages ${counts[MESSAGES]}`
    );
  }

  /** Gives a client away: from here on its descriptor is the loop's, which may close it at any time. */
  function give(fd: number, id: number): void {
    const { name, epoll, counts } = choose(loops, id);
    log("give", id, name);
    Atomics.add(counts, GIVEN, 1);
    Atomics.add(counts, OPEN, 1);
    sys.must(sys.epoll_ctl(epoll, sys.EPOLL_CTL_ADD, fd, WRITE, id));
  }
}

/** The loop that gets client number `id`. */
function choose(loops: Loop[], id: number): Loop {
  if (options.spread === "round") return loops[(id - 1) % loops.length];
  return loops.reduce((least, loop) =>
    Atomics.load(loop.counts, OPEN) < Atomics.load(least.counts, OPEN) ? loop : least
  );
}

/** Closes the clients of a thread that has died: its epoll set outlives it, and proc_pid_fdinfo(5) tells of whom. */
function closeClients({ epoll, counts }: Loop): void {
  const entries = readFileSync(`/proc/self/fdinfo/${epoll}`, "utf8").matchAll(/^tfd: *(\d+) .* data: *(\w+)/gm);
  for (const [, fd, data] of entries) {
    sys.close(Number(fd));
    Atomics.sub(counts, OPEN, 1);
    log("close", Number(BigInt(`0x${data}`) >> 32n), "its thread has died");
  }
}

/** A sub reactor: a loop over epoll without a listening socket. */
async function loop(): Promise<void> {
  const { epoll, listener, counts } = workerData as Loop;
  const buffer = sys.memory(BUFFER_SIZE), events = sys.epollEvents(EVENTS);
  const clients = new Clients(-1, watch);
  parentPort!.postMessage("waits");

  for (;;) {
    const count = sys.epoll_wait(epoll, events, EVENTS, TIMEOUT);
    if (count < 0 && count !== -sys.EINTR) fail("epoll_wait", sys.systemError(count));
    const registered = Atomics.load(counts, OPEN);
    // Without clients it is the sign to stop.
    if (count > 0 && registered > 0) logWait("epoll_wait", { ready: count, registered, "entries looked at": count });
    for (let i = 0; i < count; i++) {
      const fd = sys.descriptorOf(events, i);
      if (fd === listener) return clients.each((client) => clients.close(client, "the server stops"));
      if (clients.has(fd)) handle(clients.at(fd));
      // Not seen before: the main thread has given it to this loop.
      else clients.add(fd, sys.numberOf(events, i));
    }
    // Signals and timers: when there is nothing else to do, and otherwise every now and then.
    if (count <= 0 || sys.turnIsDue()) await sys.runtimeTurn();
  }

  /** Waits for `events` on a client's descriptor, and for nothing else. It has been in the set since it was given. */
  function watch(fd: number, events: number): void {
    const operation = events === 0 ? sys.EPOLL_CTL_DEL : sys.EPOLL_CTL_MOD;
    sys.must(sys.epoll_ctl(epoll, operation, fd, events, clients.at(fd).id));
    if (events === 0) Atomics.sub(counts, OPEN, 1);
  }

  /** A connection is ready, or was: readiness is a hint, and EAGAIN no error. */
  function handle(client: Client): void {
    if (client.unsent.length > 0) flush(client);
    else receive(client);
  }

  function receive(client: Client): void {
    const { fd, id } = client, size = sys.recv(fd, buffer, BUFFER_SIZE, 0);
    if (size === -sys.EAGAIN || size > 0 && client.leaving) return;
    if (size <= 0) return clients.close(client, size);
    client.silence = 0;
    log("recv", id, size, buffer.bytes);
    burn(id, options.work, buffer.bytes);
    const sent = sys.send(fd, buffer, size, 0);
    if (sent < 0 && sent !== -sys.EAGAIN) return clients.close(client, sent);
    if (sent > 0) log("send", id, sent);
    if (sent === size) return finish(client);
    // The client is slow: nothing more is read from it until it has taken the rest.
    client.unsent = buffer.bytes.slice(Math.max(sent, 0), size);
    clients.watch(client, WRITE);
  }

  function flush(client: Client): void {
    const { fd, id, unsent } = client;
    buffer.bytes.set(unsent);
    const sent = sys.send(fd, buffer, unsent.length, 0);
    if (sent === -sys.EAGAIN) return;
    if (sent < 0) return clients.close(client, sent);
    client.silence = 0;
    log("send", id, sent);
    client.unsent = unsent.subarray(sent);
    if (client.unsent.length === 0) finish(client);
  }

  function finish(client: Client): void {
    counts[MESSAGES]++;
    clients.finish(client, options.messages);
  }
}

// Each thread runs this same file.
if (isMainThread) await main();
else await loop();
