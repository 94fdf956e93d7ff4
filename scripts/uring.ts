// SPDX-License-Identifier: MIT
/**
 * io_uring(7): the program submits requests, and the kernel reports when they are done.
 *
 * With select, poll and epoll a program learns that a call would succeed now (readiness), and then makes it: recv,
 * send, two more system calls for a message. Here it asks for the bytes to be put at an address, and hears of it when
 * they are there (completion). Requests and completions travel in two rings of shared memory, and one system call, made
 * once a round, hands over all the new requests and waits for results, however many clients there are.
 *
 * Two things follow. The memory of a request belongs to the kernel until it is done, so each client has a buffer of its
 * own, where a loop over epoll does with one for all. And there is no partial write, no interest to switch on and off:
 * "send this, then receive" is one chain of two requests, and a client that doesn't read keeps the second from being
 * begun.
 *
 * The limit: one thread is still one core; see reuseport.ts. Linux 6.1 or later, and many containers forbid it.
 *
 * These are the kernel's own rings and calls, reached through the runtime's FFI.
 *
 *   deno run -A scripts/uring.ts      or: bun scripts/uring.ts      or: node scripts/uring.ts
 *   nc 127.0.0.1 9999                 in several terminals: one thread serves them all
 *
 * To copy it into an article: deno run -A scripts/standalone.ts uring
 */

import { cannotListen, type Closable, closeAll, fail, log, logWait, messages, nextNumber } from "./shim/program.ts";
import { onStop, open, parseOptions, ready, serverOptions, stopping } from "./shim/program.ts";
import { explainRefusal, Ring } from "./shim/ring.ts";
import { LINGER } from "./shim/socket.ts";
import * as sys from "./shim/sys.ts";

const options = parseOptions(
  "Completion instead of readiness with io_uring(7): requests and results in shared memory.",
  "nc 127.0.0.1 9999, in several terminals at once",
  { ...serverOptions, ...messages },
);
sys.requireSystemCalls();

/** What the loop must remember of a client between two completions. */
interface Client extends Closable {
  fd: number;
  id: number;
  /** Its place in `clients`, and the number of its buffer. */
  place: number;
  /** The part of the buffer that is to be sent. */
  start: number;
  size: number;
  exchanges: number;
  /** Whether the server has ended the connection. What the kernel still has to say of it is no news then. */
  leaving: boolean;
}

const BUFFER_SIZE = 65_536, BUFFERS_PER_BLOCK = 64, TIMEOUT = 500;
/** Marks of requests: the client's place, doubled, and 1 for a send. Place 0 is the listening socket's. */
const LISTENER = 0, SEND = 1;
/** Whether no one needs to hear of a message that has been sent, so that the kernel may keep it to itself. */
const silent = options.quiet && options.messages === Infinity;

const clients: (Client | undefined)[] = [undefined], free: number[] = [];
/** Memory for the buffers, more of it when more clients come. What isn't written to takes no room. */
const blocks: sys.Memory[] = [];
const peer = sys.socketAddress();
const ring = openRing();
let listener = -1, asking = false, exhausted = false;

async function main(): Promise<void> {
  // create, bind, listen
  const opened = await sys.openListener(options, sys.SOCK_STREAM).catch(cannotListen);
  listener = opened.fd;
  onStop(async () => {
    sys.shutdown(listener, sys.SHUT_RDWR);
    await closeAll();
    // Every request comes to its end, with what it had or as an error, before the process does.
    if (ring.enter(100) >= 0) complete();
  });
  ready(options.host, opened.port);

  ask();
  for (;;) {
    const submitted = ring.enter(TIMEOUT);
    if (submitted < 0) fail("io_uring_enter", sys.systemError(submitted));
    const count = ring.waiting();
    if (count > 0) logWait("io_uring_enter", { submitted, completed: count }, () => `${ring.calls} calls so far`);
    complete();
    if (count === 0 && exhausted) ask();
    // Signals and timers: when there is nothing else to do, and otherwise every now and then.
    if (count === 0 || sys.turnIsDue()) await sys.runtimeTurn();
  }
}

/** Deals with all completions that have come. */
function complete(): void {
  while (ring.next()) {
    const { data, result, more } = ring, client = clients[data >> 1];
    if (!client) onAccepted(result, more);
    else if (data & SEND) onSent(client, result);
    else onReceived(client, result);
  }
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
    if (!exhausted) log("error", 0, "accept:", sys.systemError(fd));
    // Out of descriptors. Clients wait in the backlog, and asking again now would fail as fast.
    exhausted = fd !== -sys.ECONNABORTED;
  } else {
    exhausted = false;
    const place = free.pop() ?? clients.length, id = nextNumber();
    const client: Client = {
      ...{ fd, id, place, start: 0, size: 0, exchanges: 0, silence: 0, leaving: false },
      abort(why) {
        leave(client, why);
        // The pending request then ends by itself, and that is when the descriptor can be closed.
        sys.shutdown(fd, sys.SHUT_RDWR);
      },
    };
    log("accept", id, sys.getpeername(fd, peer) < 0 ? "gone" : sys.addressText(peer));
    clients[place] = client;
    if (place >> 6 === blocks.length) blocks.push(sys.memory(BUFFERS_PER_BLOCK * BUFFER_SIZE));
    open.add(client);
    receive(client);
  }
  asking = more;
  if (!exhausted) ask();
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
  // What still comes after the server has shut down its side is dropped: closed with unread bytes, a socket resets.
  if (client.leaving) return size > 0 ? receive(client) : release(client);
  if (size === -sys.ECANCELED) return reply(client);
  if (size <= 0) {
    leave(client, size === 0 ? "by the client" : sys.systemError(size));
    return release(client);
  }
  client.silence = 0;
  log("recv", client.id, size, blocks[client.place >> 6].bytes.subarray((client.place & 63) * BUFFER_SIZE));
  client.start = 0;
  client.size = size;
  client.exchanges++;
  reply(client);
}

/** A message has been sent back. If not, or not all of it, the receive that was to follow is not begun. */
function onSent(client: Client, sent: number): void {
  const last = client.exchanges === options.messages;
  if (sent > 0) log("send", client.id, sent);
  if (sent === client.size) {
    if (!last) return;
    leave(client, `after ${options.messages} messages`);
    sys.shutdown(client.fd, sys.SHUT_WR);
    setTimeout(() => clients[client.place] === client && sys.shutdown(client.fd, sys.SHUT_RDWR), LINGER);
    return receive(client);
  }
  if (sent >= 0) {
    client.start += sent;
    client.size -= sent;
  } else {
    leave(client, sys.systemError(sent));
  }
  // The kernel will say so of the receive, too, unless there is none, or it was told to keep the chain to itself.
  if (silent || last) onReceived(client, -sys.ECANCELED);
}

/** The connection ends. Its descriptor and its buffer are still in use. */
function leave(client: Client, reason: unknown): void {
  if (client.leaving) return;
  client.leaving = true;
  open.delete(client);
  log("close", client.id, reason);
}

/** To be called when no request of the client is pending. */
function release(client: Client): void {
  sys.close(client.fd);
  clients[client.place] = undefined;
  free.push(client.place);
  if (exhausted) ask();
}

await main();
