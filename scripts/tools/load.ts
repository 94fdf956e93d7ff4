// SPDX-License-Identifier: MIT
/**
 * The load generator of bench.ts: many clients in one process, which check every byte that comes back.
 *
 * What it takes care of, since a benchmark that doesn't can show whatever one likes:
 *
 * - It is a process of its own, and has to be cheaper than the server, which is to be the bottleneck. So on Linux it
 *   makes its system calls itself, and by io_uring few of them: one or two for all that has to be sent and received in
 *   a round. (Where that is forbidden it is epoll, edge-triggered, which costs as much as the fastest server.) Its CPU
 *   time is in the result, so that one can see who was the limit.
 * - A round that finds one reply costs nearly as much as one that finds ten, and wakes this process as often as there
 *   are messages. So it waits for several replies where they come fast: never for more than a quarter of the
 *   connections, so that the server has the others to serve, and never for longer than 0.1 ms. A loop that serves many
 *   clients at once gains from that; with `--hold 0` each reply is answered at once.
 * - Each connection sends random bytes from a place of its own in a long table, so a byte that is lost, changed or out
 *   of order is noticed. It ends the run: a wrong echo has no speed.
 * - How fast and how late are two questions. By default every reply is answered with the next message, which finds the
 *   rate. With `--rate` messages are sent on a timetable, whether or not there were replies; and latency counts from the
 *   timetable. Otherwise a server that stalls for a second would keep the client from sending, and delay one message
 *   instead of the thousands that should have been on their way (this is called coordinated omission). How late this
 *   process was itself is in the result, too.
 * - It measures in slices, so that several of it can take turns: with `--orders` it is told when on standard input.
 *
 * The result is a line of JSON for each slice: see `Slice` in results.ts.
 *
 *   deno run -A scripts/tools/load.ts --connections 100      or: bun …, node …
 *   while one of the servers is running with --quiet --messages 0
 */

import { Buffer } from "node:buffer";
import { readSync } from "node:fs";
import { explain, fail, parseOptions, process, usageError } from "../shim/program.ts";
import { load } from "../shim/ffi.ts";
import { explainRefusal, Ring } from "../shim/ring.ts";
import type { Slice } from "./results.ts";
import { connect } from "../shim/shim.ts";
import * as sys from "../shim/sys.ts";

const options = parseOptions(
  "Many clients at once: how fast a server echoes, how late, and whether every byte is right.",
  "deno run -A scripts/epoll.ts --quiet in another terminal, then this",
  {
    host: ["127.0.0.1", "address to connect to"],
    port: [9999, "port to connect to", 1, 65_535],
    connections: [50, "connections that send", 1],
    together: [0, "connections that are opened at once; 0 = one after the other, or 64 if they are more than 100"],
    idle: [0, "connections beside them that are silent"],
    size: [64, "bytes in a message", 1, 1 << 20],
    inflight: [1, "messages on their way per connection", 1, 1000],
    hold: [100, "microseconds that a reply may wait for others, to be answered together with them", 0, 1000],
    milliseconds: [1000, "duration of the measurement", 1],
    rate: [0, "messages a second, on a timetable, to measure latency; 0 = as many as there are replies"],
    light: [0, "percent of messages that begin with light: they need no --work; latency is theirs", 0, 100],
    patience: [5000, "milliseconds without any reply until a client counts as not served"],
    orders: [false, "measure once for each line on standard input, MILLISECONDS RATE; 0 closes the connections"],
    sockets: ["auto", "uring, epoll or runtime: what they are made with; auto is the first that works"],
  },
);

// The handlers of a server would have no turn while the sockets always have something to tell.
for (const signal of ["SIGINT", "SIGTERM"]) process.removeAllListeners(signal);

// ---------------------------------------------------------------- what is sent

/** The most that is received at once. */
const BUFFER = 65_536;
const { size } = options;

/** The table holds so many messages, after which it starts again. Odd, as hardly a number in a program is. */
const messagesInTable = Math.max(7, Math.min(1021, Math.floor((4 << 20) / size) | 1));
const period = messagesInTable * size;
/** The most that is sent at once. So much of the table's start follows its end, so that no piece has a gap. */
const chunk = Math.max(BUFFER, size * options.inflight);

/** Random bytes, the same in every run (xorshift). */
function fillTable(table: Uint8Array): void {
  let x = 0x9e3779b9;
  for (let i = 0; i < table.length; i++) {
    x ^= x << 13, x ^= x >>> 17, x ^= x << 5;
    table[i] = i < period ? x >>> 24 : table[i - period];
    const message = Math.floor(i % period / size);
    if (isLight(message) && i % period % size < 5) table[i] = "light".charCodeAt(i % period % size);
  }
}

/** Whether a message of the table is a light one: they are spread evenly. */
function isLight(message: number): boolean {
  return message * options.light % 100 + options.light > 99;
}

/** Bytes, which some of the sockets can show as integers of 32 bits too. */
interface Bytes {
  readonly bytes: Uint8Array;
  readonly ints?: Int32Array;
}

/** Whether `length` bytes of `data` from `at` on are those of `table` from `position` on. */
function matches(data: Bytes, at: number, table: Bytes, position: number, length: number): boolean {
  // For a few bytes a loop is faster than the call.
  if (length > 2048) {
    return Buffer.compare(data.bytes.subarray(at, at + length), table.bytes.subarray(position, position + length)) ===
      0;
  }
  let i = 0;
  if (data.ints && table.ints && ((at | position) & 3) === 0) {
    const { ints } = data, right = table.ints, from = at >> 2, to = position >> 2;
    for (const words = length >> 2; i < words; i++) if (ints[from + i] !== right[to + i]) return false;
    i <<= 2;
  }
  const { bytes } = data, right = table.bytes;
  for (; i < length; i++) if (bytes[at + i] !== right[position + i]) return false;
  return true;
}

// ---------------------------------------------------------------- sockets

/** A connected socket, as the clients need it. */
interface Link {
  /** The client that it belongs to. */
  client: Client;
  /** Sends bytes from the table and returns how many could be sent now, or will be without being asked again. */
  send(position: number, length: number): number;
  /**
   * Takes what has arrived, and returns how many bytes that are: 0 at the end of the stream, -1 if there is nothing.
   */
  recv(): number;
  /** Whether these bytes, the first `length` of them, are what the table holds from `position` on. */
  matches(position: number, length: number): boolean;
  /** Whether there can be more right after a `recv`. */
  more: boolean;
  /** Has it reported from now on when it is ready. */
  watch(): void;
  close(): void;
}

/** A way to open sockets and to wait for them. */
interface Sockets {
  readonly name: string;
  open(client: Client): Promise<Link> | Link;
  /**
   * Those that are ready, after at most so many milliseconds: rather `together` of them, if they come within `HOLD`
   * milliseconds. Only io_uring can wait for several.
   */
  wait(milliseconds: number, together?: number): Promise<Link[]> | Link[];
}

/** Milliseconds before anything counts. */
const WARM = 400;
const MSG_DONTWAIT = 0x40, HOLD = options.hold / 1000;

/** What the sockets that are made by system calls have in common. */
async function systemCalls() {
  const addresses = await sys.resolveAddresses(options);
  const table = sys.memory((period + chunk + 3) & ~3);
  fillTable(table.bytes);
  // Of a piece its address is needed, and no more.
  const pieces = Array.from({ length: messagesInTable }, (_, i) => sys.part(table, i * size, 4));
  const timeout = sys.timeval();
  sys.setTimeval(timeout, 5000);

  return {
    table,
    /** Opens a connected socket. */
    connect(): number {
      let result = 0;
      // A name may have two, of which one is not listened on.
      for (const address of addresses) {
        const fd = sys.must(sys.socket(sys.familyOf(address), sys.SOCK_STREAM | sys.SOCK_CLOEXEC, 0));
        sys.must(sys.setsockopt(fd, sys.SOL_SOCKET, sys.SO_SNDTIMEO, timeout, 16));
        sys.must(sys.setOption(fd, sys.IPPROTO_TCP, sys.TCP_NODELAY, 1));
        result = sys.connect(fd, address);
        if (result >= 0) return fd;
        sys.close(fd);
      }
      return sys.must(result);
    },
    send(fd: number, position: number, length: number): number {
      const piece = pieces[position / size] ?? sys.part(table, position, 4);
      const sent = sys.send(fd, piece, length, MSG_DONTWAIT);
      return sent === -sys.EAGAIN ? 0 : sys.must(sent);
    },
  };
}

/** Sockets through epoll. */
async function epollSockets(): Promise<Sockets> {
  const { table, connect, send } = await systemCalls();
  const epoll = sys.must(sys.epoll_create1(0));
  const events = sys.epollEvents(1024), buffer = sys.memory(BUFFER);
  const links: Link[] = [];

  return {
    name: "epoll",
    open(client) {
      const fd = connect();
      return links[fd] = {
        client,
        more: false,
        watch() {
          // Edge-triggered: nothing has to be changed when there is something left to be sent.
          const event = sys.epollEvent(sys.EPOLLIN | sys.EPOLLOUT | sys.EPOLLET, fd);
          sys.must(sys.epoll_ctl(epoll, sys.EPOLL_CTL_ADD, fd, event));
        },
        send: (position, length) => send(fd, position, length),
        recv() {
          const length = sys.recv(fd, buffer, BUFFER, MSG_DONTWAIT);
          this.more = length === BUFFER;
          return length === -sys.EAGAIN ? -1 : sys.must(length);
        },
        matches: (position, length) => matches(buffer, 0, table, position, length),
        close: () => void sys.close(fd),
      };
    },
    wait(milliseconds) {
      const count = sys.epoll_wait(epoll, events, 1024, Math.floor(milliseconds));
      const ready: Link[] = [];
      for (let i = 0; i < count; i++) ready.push(links[sys.descriptorOf(events, i)]);
      return ready;
    },
  };
}

/** Sockets through io_uring. Throws if the kernel doesn't let this process use it. */
async function uringSockets(): Promise<Sockets> {
  const ring = new Ring(4096, 16_384);
  const { table, connect, send } = await systemCalls();
  /** Each connection has a buffer: what it can be sent at once fits in, and little memory is touched. */
  const room = Math.min(BUFFER, (size * options.inflight + 4095) & ~4095);
  const perBlock = Math.floor((4 << 20) / room);
  const blocks: sys.Memory[] = [], links: UringLink[] = [];
  let ready: Link[] = [];

  /** A socket whose bytes have been asked for, so that they are there when it is reported. */
  class UringLink implements Link {
    readonly more = false;
    /** What has come: a number of bytes, a negative error number, or that there is nothing. */
    arrived: number | null = null;
    watched = false;
    closed = false;
    /** A send that isn't done yet, and whether there was to be another: it might overtake the first. */
    sending = false;
    refused = false;
    readonly client: Client;
    readonly fd = connect();
    readonly place = links.length;
    readonly #block: sys.Memory;
    readonly #at = this.place % perBlock * room;

    constructor(client: Client) {
      this.client = client;
      if (this.#at === 0) blocks.push(sys.memory(perBlock * room));
      this.#block = blocks[blocks.length - 1];
    }

    watch(): void {
      this.watched = true;
      this.ask();
    }

    /** Asks for bytes. Between two turns of the ring this changes nothing in the buffer. */
    ask(): void {
      ring.recv(this.fd, this.#block.address + this.#at, room, this.place << 1);
    }

    send(position: number, length: number): number {
      // No event would say that there is room again.
      if (!this.watched) return send(this.fd, position, length);
      this.refused = this.sending;
      if (this.refused) return 0;
      this.sending = true;
      ring.send(this.fd, table.address + position, length, this.place << 1 | 1);
      return length;
    }

    recv(): number {
      const { arrived } = this;
      if (arrived === null) return -1;
      this.arrived = null;
      if (arrived > 0) this.ask();
      return sys.must(arrived);
    }

    matches(position: number, length: number): boolean {
      return matches(this.#block, this.#at, table, position, length);
    }

    /** The receive that was asked for ends by it; it has to be with the kernel before the descriptor is used again. */
    close(): void {
      this.closed = true;
      sys.must(ring.enter(0, 0));
      sys.shutdown(this.fd, sys.SHUT_RDWR);
      sys.close(this.fd);
    }
  }

  /** Hands over all requests, waits for so many results, and lists the sockets that are ready by then. */
  function turn(milliseconds: number, least: number): void {
    sys.must(ring.enter(milliseconds, least));
    while (ring.next()) {
      const { data, result } = ring, link = links[data >> 1];
      if (link.closed) continue;
      if ((data & 1) === 0) link.arrived = result;
      else {
        link.sending = false;
        if (result < 0 && link.arrived === null) link.arrived = result;
        else if (!link.refused) continue;
        link.refused = false;
      }
      ready.push(link);
    }
  }

  return {
    name: "uring",
    open(client) {
      const link = new UringLink(client);
      links.push(link);
      return link;
    },
    wait(milliseconds, together = 1) {
      ready = [];
      // That something has been sent is a result, too, and nearly always there at once. It is not what is waited for.
      turn(0, 0);
      if (together > 1 && ready.length < together) turn(Math.min(HOLD, milliseconds), together - ready.length);
      if (ready.length === 0) turn(milliseconds, 1);
      return ready;
    },
  };
}

/** Sockets of the runtime, where there are no system calls. They are slower: so is what they measure. */
function portableSockets(): Sockets {
  const table: Uint8Array = new Uint8Array(period + chunk);
  fillTable(table);
  let ready = new Set<Link>(), wake = () => {};

  return {
    name: "runtime",
    async open(client) {
      const connection = await connect(options);
      let current = table, watched = false;
      const mark = () => {
        ready.add(link);
        wake();
      };
      const link: Link = {
        client,
        more: true,
        watch() {
          watched = true;
          if (connection.readable) mark();
          else connection.onReadable = mark;
        },
        send(position, length) {
          if (!connection.writable) return 0;
          connection.write(table.subarray(position, position + length));
          if (!connection.writable) connection.onWritable = mark;
          return length;
        },
        recv() {
          if (!watched) return -1;
          const data = connection.read();
          if (!data) {
            connection.onReadable = mark;
            return -1;
          }
          if (data.length === 0 && connection.isBroken) throw connection.reason;
          current = data;
          return data.length;
        },
        matches: (position, length) => matches({ bytes: current }, 0, { bytes: table }, position, length),
        close() {
          connection.close();
          connection.onReadable = connection.onWritable = null;
          ready.delete(link);
        },
      };
      return link;
    },
    async wait(milliseconds) {
      if (ready.size === 0) {
        const woken = new Promise<void>((resolve) => wake = resolve);
        const timer = setTimeout(() => wake(), milliseconds);
        await woken;
        clearTimeout(timer);
      } else {
        await new Promise<void>((resolve) => setImmediate(resolve));
      }
      const found = [...ready];
      ready = new Set();
      return found;
    },
  };
}

/** The sockets that were asked for, or the cheapest that can be had. */
async function findSockets(): Promise<Sockets> {
  switch (options.sockets) {
    case "uring":
      sys.requireSystemCalls();
      return await uringSockets().catch((error) => fail("cannot use io_uring", explainRefusal(error)));
    case "epoll":
      sys.requireSystemCalls();
      return await epollSockets();
    case "runtime":
      return portableSockets();
    case "auto":
      try {
        load();
      } catch {
        return portableSockets();
      }
      return await uringSockets().catch(epollSockets);
  }
  return usageError(`--sockets ${options.sockets}: there are auto, uring, epoll and runtime`);
}

// ---------------------------------------------------------------- clients

/** A client, and how far it has come: all in bytes since the connection was opened. */
interface Client {
  readonly index: number;
  link: Link;
  /** Where in the table it starts. */
  start: number;
  /** What should have been sent by now, what has been, and what has come back. */
  due: number;
  sent: number;
  received: number;
}

/** Sends what is due, as far as the socket takes it. */
function flush(client: Client): void {
  while (client.sent < client.due) {
    const position = (client.start + client.sent) % period;
    const sent = client.link.send(position, Math.min(client.due - client.sent, chunk));
    if (sent === 0) return;
    client.sent += sent;
  }
}

/** A byte has come back that was not the one that was due. */
class WrongEcho extends Error {}

/** Takes what has arrived, checks it, and returns how many messages have come back whole. */
function receive(client: Client): number {
  const { link } = client, before = Math.floor(client.received / size);
  do {
    const length = link.recv();
    if (length < 0) break;
    if (length === 0) throw new Error(`connection ${client.index} was closed by the server`);
    if (
      client.received + length > client.sent || !link.matches((client.start + client.received) % period, length)
    ) {
      throw new WrongEcho(`connection ${client.index}: not what was sent, somewhere in the ${length} bytes that came \
after ${client.received} correct ones`);
    }
    client.received += length;
  } while (link.more);
  return Math.floor(client.received / size) - before;
}

/** How many connections have been opened, of all kinds. */
let attempts = 0;

/**
 * Opens connections, `together` at a time, and has each exchange one message, so that it is known to be served.
 * Returns those that are, with the microseconds that it took each from its connect.
 */
async function openClients(count: number, together: number): Promise<{ clients: Client[]; times: number[] }> {
  const clients: Client[] = [], times: number[] = [];
  for (let index = 0; index < count;) {
    const last = Math.min(count, index + together), opening: Promise<[Client, number]>[] = [];
    for (; index < last; index++) {
      const since = performance.now();
      opening.push(openClient(index).then((client) => [client, since]));
    }
    const waiting = new Map(await Promise.all(opening));
    for (const client of waiting.keys()) {
      client.link.watch();
      client.due = size;
      flush(client);
    }
    for (let heard = performance.now(); waiting.size > 0 && performance.now() - heard < options.patience;) {
      for (const { client } of await sockets.wait(100)) {
        flush(client);
        try {
          receive(client);
        } catch (error) {
          // A server may turn away a client that it has no room for. What it sends must be right.
          if (client.received > 0 || error instanceof WrongEcho) throw error;
          waiting.delete(client);
          client.link.close();
        }
        const since = waiting.get(client);
        if (client.received < size || since === undefined) continue;
        waiting.delete(client);
        clients.push(client);
        times.push((performance.now() - since) * 1000);
        heard = performance.now();
      }
    }
    // If one has to wait, so will the next: it is enough to wait for all of them once.
    if (waiting.size > 0) together = count;
    for (const client of waiting.keys()) client.link.close();
  }
  return { clients, times };
}

async function openClient(index: number): Promise<Client> {
  const client = { index, start: index * 17 % messagesInTable * size, due: 0, sent: 0, received: 0 } as Client;
  attempts++;
  try {
    client.link = await sockets.open(client);
  } catch (error) {
    throw new Error(`connection ${attempts} can't be opened: ${explain(error)}`);
  }
  return client;
}

// ---------------------------------------------------------------- the measurement

/** Answers every reply with the next message, for so many milliseconds. Returns messages per second. */
async function race(clients: Client[], milliseconds: number): Promise<number> {
  let messages = 0, found = 0, now = performance.now();
  const start = now, end = now + milliseconds;
  for (const client of clients) {
    client.due += size * options.inflight;
    flush(client);
  }
  for (; now < end; now = performance.now()) {
    // As many as come in the time that one may be held up, at the rate so far.
    const together = Math.min(clients.length / 4, HOLD * found / (now - start));
    const waiting = sockets.wait(Math.min(50, end - now + 1), Math.floor(together));
    // Not awaited where it needn't be: that would be a detour for each message if there is one connection.
    const ready = Array.isArray(waiting) ? waiting : await waiting;
    found += ready.length;
    for (const { client } of ready) {
      const count = receive(client);
      messages += count;
      client.due += count * size;
      flush(client);
    }
  }
  return messages / (now - start) * 1000;
}

/**
 * Sends messages on a timetable, `perSecond` of them, to the clients in turn; each sends as many at once as it has in
 * flight otherwise. Returns the latency of the messages, of the light ones if there are such; `null` if there was no
 * time for any, or the replies took a quarter longer than the timetable: that is a queue, which only grows.
 */
async function pace(clients: Client[], perSecond: number, milliseconds: number): Promise<Slice["latencyUs"]> {
  const { inflight } = options, interval = 1000 / perSecond * inflight, turns = Math.ceil(milliseconds / interval);
  const total = turns * inflight, start = performance.now();
  const first = new Map(clients.map((client) => [client, Math.floor(client.received / size)]));
  const order = new Map(clients.map((client, i) => [client, i]));
  const latencies = new Float64Array(total), lags = new Float64Array(turns);
  let turn = 0, replies = 0, noted = 0;

  /** Notes the replies to the latest messages of a client. When they were to be sent follows from their number. */
  function note(client: Client, count: number): void {
    const now = performance.now() - start;
    const last = Math.floor(client.received / size) - first.get(client)!;
    for (let nth = last - count; nth < last; nth++) {
      const slot = Math.floor(nth / inflight) * clients.length + order.get(client)!;
      replies++;
      const message = (client.start / size + first.get(client)! + nth) % messagesInTable;
      if (options.light === 0 || isLight(message)) latencies[noted++] = (now - slot * interval) * 1000;
    }
  }

  for (let last = start; replies < total;) {
    const now = performance.now();
    for (; turn < turns && turn * interval <= now - start; turn++) {
      const client = clients[turn % clients.length];
      lags[turn] = (performance.now() - start - turn * interval) * 1000;
      client.due += size * inflight;
      flush(client);
    }
    // A wait is a matter of whole milliseconds; the last one before a message is due is spent asking.
    const pause = turn < turns ? turn * interval - (performance.now() - start) - 1 : 50;
    for (const { client } of await sockets.wait(Math.max(0, Math.min(50, pause)))) {
      flush(client);
      const count = receive(client);
      note(client, count);
      if (count > 0) last = now;
    }
    if (turn === turns && now - last > options.patience) {
      throw new Error(`${total - replies} messages were never answered`);
    }
  }
  const sorted = latencies.subarray(0, noted).sort(), lag = quantile(lags.sort(), 0.99, 1)!;
  const late = performance.now() - start > Math.max(1.25 * turns * interval, turns * interval + 50);
  if (noted === 0 || late) return null;
  const [p90, p99, p999] = [0.9, 0.99, 0.999].map((share) => quantile(sorted, share));
  return { rate: perSecond, p50: quantile(sorted, 0.5, 1)!, p90, p99, p999, lag };
}

/** What `share` (0 to 1) of all are below; `null` if fewer than ten are above it. */
function quantile(sorted: ArrayLike<number>, share: number, least = Math.round(10 / (1 - share))): number | null {
  return sorted.length < least ? null : sorted[Math.floor(sorted.length * share)];
}

/** Waits for the replies that are still to come. */
async function settle(clients: Client[]): Promise<void> {
  const missing = () => clients.filter(({ received, due }) => received < due).length;
  for (let last = performance.now(); missing() > 0;) {
    for (const { client } of await sockets.wait(50)) {
      flush(client);
      if (receive(client) > 0) last = performance.now();
    }
    if (performance.now() - last > options.patience) {
      throw new Error(`${missing()} connections never got all of their bytes back`);
    }
  }
}

/**
 * Has each client go on in the table a message behind the one before it. Without that, a server that answers light
 * messages first would have every client just behind a heavy one after a while, and light ones alone in a slice.
 */
function spreadOut(clients: Client[]): void {
  for (const [i, client] of clients.entries()) client.start = (i * size - client.received % period + period) % period;
}

/** Opens the connections that send. Returns those that are served, and the microseconds to the first reply. */
async function openAll(): Promise<{ clients: Client[]; firstReplyUs: number | null }> {
  const { connections } = options;
  const { clients, times } = await openClients(connections, options.together || (connections > 100 ? 64 : 1));
  return { clients, firstReplyUs: quantile(times.sort((a, b) => a - b), 0.5, 1) };
}

/** One measurement, which ends when all replies have come. */
async function slice(milliseconds: number, rate: number): Promise<Slice> {
  const { clients, firstReplyUs } = opened!;
  const received = () => clients.reduce((sum, client) => sum + client.received, 0) / size;
  const before = received(), own = process.cpuUsage(), start = performance.now();
  let latencyUs: Slice["latencyUs"] = null, messagesPerSecond = 0;
  if (options.light > 0) spreadOut(clients);
  if (rate > 0) latencyUs = await pace(clients, rate, milliseconds);
  else messagesPerSecond = await race(clients, milliseconds);
  await settle(clients);
  const messages = received() - before, seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(own), generatorCores = (user + system) / 1e6 / seconds;
  if (rate > 0) messagesPerSecond = messages / seconds;
  const served = clients.length, made = sockets.name;
  return { served, messages, seconds, messagesPerSecond, firstReplyUs, latencyUs, sockets: made, generatorCores };
}

/** The next line on standard input; `null` at its end: what has started this is gone. It blocks, and costs nothing. */
function nextOrder(): number[] | null {
  const byte = new Uint8Array(1);
  let line = "";
  for (; readSync(0, byte) > 0; line += String.fromCharCode(byte[0])) {
    if (byte[0] === 10) return line.split(" ").map(Number);
  }
  return null;
}

/** The connections that send; they are opened when they are needed. */
let opened: Awaited<ReturnType<typeof openAll>> | null = null;

async function main(): Promise<void> {
  const idle = await openClients(options.idle, 64);
  if (idle.clients.length < options.idle) {
    throw new Error(`only ${idle.clients.length} of ${options.idle} idle connections are served`);
  }
  opened = await openAll();
  if (opened.clients.length === 0) {
    throw new Error(`none of the ${options.connections} connections got a reply`);
  }
  const print = (result: unknown) => console.log(JSON.stringify(result));
  // The runtimes compile what runs often, so the first messages are slower.
  const warm = await slice(WARM, 0);
  if (!options.orders) return print(await slice(options.milliseconds, options.rate));
  print(warm);
  for (let order = nextOrder(); order; order = nextOrder()) {
    const [milliseconds, rate = 0] = order;
    if (milliseconds > 0) {
      opened ??= await openAll();
      print(await slice(milliseconds, rate));
    } else {
      opened?.clients.forEach(({ link }) => link.close());
      opened = null;
      print({});
    }
  }
}

const sockets = await findSockets().catch((error) => fail(`cannot connect to ${options.host}`, error));
try {
  await main();
  process.exit(0);
} catch (error) {
  fail("the run failed", error);
}
