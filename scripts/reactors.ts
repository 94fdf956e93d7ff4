// SPDX-License-Identifier: MIT
/**
 * Several reactors: one thread accepts, and gives each client to one of several threads with an event loop each.
 *
 * A loop over epoll(7), as in epoll.ts, is called a reactor. The main reactor waits for the listening socket alone, the
 * sub reactors wait for the clients, each on its own epoll set. Netty calls them boss and workers; memcached and muduo
 * are built this way, too. In reuseport.ts a hash decides which loop gets a client. Here the accepting thread decides:
 * each loop in turn, or with `--spread fewest` the loop with the fewest clients.
 *
 * Handing a client over takes no queue and no lock. An epoll set belongs to the process, so the main thread itself adds
 * the descriptor to the set of the chosen loop, and waits for it to be writable. A new socket is, so the loop wakes up
 * at once and finds a descriptor that it doesn't know, with the client's number beside it. To stop the loops, the main
 * thread hands each of them a descriptor that all of them know.
 *
 * The limit: all connections pass through one thread, which reuseport.ts doesn't need. And a client stays with its
 * loop, however busy that is (try `--work 2000`); in pool.ts it gets the thread that is free.
 *
 * What is real: the kernel's own calls, made through the runtime's FFI. Linux only.
 *
 *   deno run -A scripts/reactors.ts   or: bun scripts/reactors.ts   or: node scripts/reactors.ts
 *   nc 127.0.0.1 9999                 in several terminals: the log shows which loop gets which client
 */

import { availableParallelism } from "node:os";
import { isMainThread, parentPort, workerData } from "node:worker_threads";
import { type Client, Clients, WRITE } from "./shim/clients.ts";
import {
  ACCEPTED,
  heartbeat,
  log,
  logWait,
  MESSAGES,
  messages,
  OPEN,
  parseOptions,
  serverOptions,
  stopping,
  usageError,
  work,
} from "./shim/program.ts";
import { type Loop, startLoops } from "./shim/reactors.ts";
import * as sys from "./shim/sys.ts";
import { post } from "./shim/worker.ts";

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

const SIZE = 65_536, TIMEOUT = 500, EVENTS = 512, found = sys.epollEvents(EVENTS);

/** The main reactor: it accepts, and keeps no client. */
async function main(): Promise<void> {
  const loops = await startLoops(import.meta.url, options.workers), epoll = sys.must(sys.epoll_create1(0));
  // create, bind, listen
  const listener = await sys.openListener(options, sys.SOCK_STREAM | sys.SOCK_NONBLOCK);
  const acceptor = new Clients(listener, {
    register: (fd, events) => sys.must(sys.epoll_ctl(epoll, sys.EPOLL_CTL_ADD, fd, sys.epollEvent(events, fd))),
    modify: () => {},
    unregister: (fd) => sys.epoll_ctl(epoll, sys.EPOLL_CTL_DEL, fd, sys.NULL),
  });
  heartbeat("loop", 5, () => loops.map(describe));

  while (!stopping) {
    const count = sys.epoll_wait(epoll, found, EVENTS, TIMEOUT);
    if (count > 0) logWait("epoll_wait", { ready: count, registered: 1, "entries looked at": count });
    if (count > 0) acceptor.accept((fd, id) => give(choose(loops, id), fd, id));
    await acceptor.turn(count);
  }
}

function describe({ name, counts }: Loop): string {
  return `${name} given ${counts[ACCEPTED]}, open ${counts[OPEN]}, messages ${counts[MESSAGES]}`;
}

/** The loop that gets client number `id`. */
function choose(loops: Loop[], id: number): Loop {
  if (options.spread === "round") return loops[(id - 1) % loops.length];
  const open = ({ counts }: Loop) => Atomics.load(counts, OPEN);
  return loops.reduce((fewest, loop) => open(loop) < open(fewest) ? loop : fewest);
}

/** Gives a client away: from here on its descriptor is the loop's, which may close it at any time. */
function give({ name, epoll, counts }: Loop, fd: number, id: number): void {
  log("give", id, name);
  Atomics.add(counts, ACCEPTED, 1);
  Atomics.add(counts, OPEN, 1);
  try {
    sys.must(sys.epoll_ctl(epoll, sys.EPOLL_CTL_ADD, fd, sys.epollEvent(WRITE, fd, id)));
  } catch (error) {
    Atomics.sub(counts, OPEN, 1);
    sys.close(fd);
    log("close", id, error);
  }
}

/** A sub reactor: a loop over epoll without a listening socket. */
async function loop(): Promise<void> {
  const { epoll, stop, counts } = workerData as Loop, buffer = sys.memory(SIZE);
  const clients = new Clients(-1, { register: modify, modify, unregister });
  post(parentPort!, "waits");

  for (;;) {
    const count = sys.epoll_wait(epoll, found, EVENTS, TIMEOUT), registered = Atomics.load(counts, OPEN);
    // Without clients it is `stop`.
    if (count > 0 && registered > 0) logWait("epoll_wait", { ready: count, registered, "entries looked at": count });
    for (let i = 0; i < count; i++) {
      const fd = sys.descriptorOf(found, i);
      if (fd === stop) return clients.each((client) => clients.close(client, "the server stops"));
      if (clients.has(fd)) handle(clients.at(fd));
      // Not seen before: the main thread has given it to this loop.
      else clients.add(fd, sys.numberOf(found, i));
    }
    await clients.turn(count);
  }

  /** Waits for `events` alone. A client's descriptor has been in the set since it was given. */
  function modify(fd: number, events: number): void {
    sys.must(sys.epoll_ctl(epoll, sys.EPOLL_CTL_MOD, fd, sys.epollEvent(events, fd, clients.at(fd).id)));
  }

  function unregister(fd: number): void {
    sys.epoll_ctl(epoll, sys.EPOLL_CTL_DEL, fd, sys.NULL);
    Atomics.sub(counts, OPEN, 1);
  }

  /** A client is ready, or was: readiness is a hint. nonblocking.ts shows what EAGAIN and a half-sent reply need. */
  function handle(client: Client): void {
    if (client.unsent) return clients.flush(client);
    const size = sys.recv(client.fd, buffer, SIZE, 0);
    if (size > 0) clients.send(client, buffer, size);
    else clients.ended(client, size);
  }
}

// Each thread runs this same file.
if (isMainThread) await main();
else await loop();
