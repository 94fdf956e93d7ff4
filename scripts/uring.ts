// SPDX-License-Identifier: MIT
/**
 * io_uring(7): no question who is ready, but requests, and the kernel says when they are done.
 *
 * With select, poll and epoll a program learns that a call would succeed now (readiness), and then makes it: recv, send,
 * two more system calls for a message. Here it asks for the bytes to be put at an address, and hears of it when they are
 * there (completion). Requests and completions travel in two rings of shared memory, and one system call, made once a
 * round, hands over all the new requests and waits for results, however many clients there are.
 *
 * Two things follow. The memory of a request belongs to the kernel until it is done, so each client has a buffer of its
 * own, where a loop over epoll does with one for all. And there is no partial write, no interest to switch on and off:
 * "send this, then receive" is one chain of two requests, and a client that doesn't read keeps the second from being begun.
 *
 * The limit: one thread is still one core; see reuseport.ts. Linux 6.1 or later, and many containers forbid it.
 *
 * These are the kernel's own rings and calls, reached through the runtime's FFI.
 *
 *   deno run -A scripts/uring.ts      or: bun scripts/uring.ts      or: node scripts/uring.ts
 *   nc 127.0.0.1 9999                 in several terminals: one thread serves them all
 */

import { closeSilent, explain, fail, log, onStop, parseOptions, ready, serverOptions } from "./program.ts";
import { explainRefusal, Ring } from "./ring.ts";
import * as sys from "./sys.ts";

const options = parseOptions(
  "Completion instead of readiness with io_uring(7): requests and results in shared memory.",
  "nc 127.0.0.1 9999, in several terminals at once",
  {
    ...serverOptions,
    messages: [0, "exchanges per connection; 0 = until the client leaves"],
  },
);
sys.requireLinux();

/** What the loop must remember of a client between two completions. */
interface Client {
  fd: number;
  id: number;
  /** Its place in `clients`, and the number of its buffer. */
  place: number;
  /** The part of the buffer that is to be sent. */
  start: number;
  size: number;
  exchanges: number;
  silence: number;
  /** Whether the server has ended the connection. What the kernel still has to say of it is no news then. */
  leaving: boolean;
  close(): void;
}

const BUFFER_SIZE = 65_536, BUFFERS_PER_BLOCK = 64, TIMEOUT = 500;
/** Marks of requests: the client's place, doubled, and 1 for a send. Place 0 is the listening socket's. */
const LISTENER = 0, SEND = 1;
/** Whether nobody needs to hear of a message that has been sent, so that the kernel may keep it to itself. */
const silent = options.quiet && options.messages === 0;

const clients: (Client | undefined)[] = [undefined], free: number[] = [];
/** Memory for the buffers, more of it when more clients come. What isn't written to takes no room. */
const blocks: sys.Memory[] = [];
const open = new Set<Client>();
const peer = sys.socketAddress();
let accepted = 0, asking = false, full = false, stopping = false;

const ring = openRing();
// create, bind, listen
const { fd: listener, port } = await sys.openListener(options, sys.SOCK_STREAM)
  .catch((error) => fail(`cannot listen on ${options.host}:${options.port}`, error));
onStop(() => {
  stopping = true;
  sys.shutdown(listener, sys.SHUT_RDWR);
  for (const client of open) client.close();
  // Every request comes to its end, with what it had or as an error, before the process does.
  if (ring.enter(100) >= 0) complete();
});

ready(options.host, port);
closeSilent(open, options.idle);

ask();
for (;;) {
  const result = ring.enter(TIMEOUT);
  if (result < 0) fail("io_uring_enter", sys.systemError(result));
  const count = complete();
  if (count === 0 && full) ask();
  // Signals and timers: when there is nothing else to do, and otherwise every now and then.
  if (count === 0 || sys.turnIsDue()) await sys.runtimeTurn();
}

/** Deals with all completions that have come, and returns how many there were. */
function complete(): number {
  let count = 0;
  for (; ring.next(); count++) {
    const { data, result, more } = ring;
    const client = clients[data >> 1];
    if (!client) onAccepted(result, more);
    else if (data & SEND) onSent(client, result);
    else onReceived(client, result);
  }
  return count;
}

function openRing(): Ring {
  try {
    return new Ring(1024, 4096);
  } catch (error) {
    return fail("cannot use io_uring", explainRefusal(error as Error));
  }
}

/** Asks for connections, unless that has been asked and still holds. */
function ask(): void {
  if (!asking) ring.accept(listener, LISTENER);
  asking = true;
}

/** The kernel has accepted a connection, as it will go on to do while `more` is set. */
function onAccepted(fd: number, more: boolean): void {
  if (stopping) return;
  if (fd < 0) {
    if (!full) log("error", 0, "accept:", explain(sys.systemError(fd)));
    // Out of descriptors. Who has connected waits in the backlog, and asking again now would fail as fast.
    full = fd !== -sys.ECONNABORTED;
  } else {
    full = false;
    const place = free.pop() ?? clients.length;
    const client: Client = {
      fd,
      id: ++accepted,
      place,
      start: 0,
      size: 0,
      exchanges: 0,
      silence: 0,
      leaving: false,
      close() {
        // The pending request then ends by itself, and that is when the descriptor can be closed.
        client.leaving = true;
        sys.shutdown(fd, sys.SHUT_RDWR);
      },
    };
    if (!options.quiet) log("accept", client.id, sys.getpeername(fd, peer) < 0 ? "?" : sys.addressText(peer));
    clients[place] = client;
    if (place >> 6 === blocks.length) blocks.push(sys.memory(BUFFERS_PER_BLOCK * BUFFER_SIZE));
    open.add(client);
    receive(client);
  }
  asking = more;
  if (!full) ask();
}

/** Asks for bytes. */
function receive({ fd, place }: Client): void {
  ring.recv(fd, bufferOf(place), BUFFER_SIZE, place << 1);
}

/** Asks for what is in the buffer to be sent, and then for the next bytes. */
function reply(client: Client): void {
  const { fd, place, start, size, exchanges } = client;
  const address = bufferOf(place) + start, mark = place << 1 | SEND;
  if (exchanges === options.messages) return ring.send(fd, address, size, mark);
  ring.sendThen(fd, address, size, mark, silent);
  receive(client);
}

/** The address of a buffer. */
function bufferOf(place: number): number {
  return blocks[place >> 6].address + (place & 63) * BUFFER_SIZE;
}

/** Bytes have come, or the end of the stream, or an error; -ECANCELED if the send before it did not succeed. */
function onReceived(client: Client, size: number): void {
  if (client.leaving || size === 0) return close(client);
  if (size === -sys.ECANCELED) return reply(client);
  if (size < 0) return abort(client, size);
  client.silence = 0;
  if (!options.quiet) {
    const at = (client.place & 63) * BUFFER_SIZE;
    log("recv", client.id, blocks[client.place >> 6].bytes.subarray(at, at + size));
  }
  client.start = 0;
  client.size = size;
  client.exchanges++;
  reply(client);
}

/** A message has been sent back. If not, or not all of it, the receive that was to follow is not begun. */
function onSent(client: Client, sent: number): void {
  if (sent === client.size) {
    log("send", client.id);
    if (client.exchanges === options.messages) close(client);
    return;
  }
  if (sent >= 0) {
    client.start += sent;
    client.size -= sent;
  } else {
    if (!client.leaving) log("error", client.id, explain(sys.systemError(sent)));
    client.leaving = true;
  }
  // The kernel will say so of the receive, too, unless there is none, or it was told to keep the chain to itself.
  if (silent || client.exchanges === options.messages) onReceived(client, -sys.ECANCELED);
}

function abort(client: Client, result: number): void {
  log("error", client.id, explain(sys.systemError(result)));
  close(client);
}

/** To be called when no request of the client is pending. */
function close(client: Client): void {
  sys.close(client.fd);
  clients[client.place] = undefined;
  free.push(client.place);
  open.delete(client);
  log("close", client.id);
  if (full) ask();
}
