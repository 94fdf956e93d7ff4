// SPDX-License-Identifier: MIT
/**
 * Several processes, made beforehand, that accept from one listening socket.
 *
 * The parent creates the socket, binds it and listens, and starts its children with that socket as their standard input.
 * Each of them blocks in accept, serves one client, and accepts the next: the parent accepts nothing. The kernel wakes
 * one child for each client, and the log shows which. No client waits for a process to start, as in processes.ts, and a
 * crash still costs one client alone. (The web server Apache began so, and named it: prefork. gunicorn does the same.)
 *
 * The parent supervises. A child that ends is replaced at once: try `kill -9` with the number of one. `kill -HUP` with
 * the parent's number replaces all, one by one, each when its client has left. The listening socket stays open, and
 * whoever connects meanwhile waits in its backlog: so a server is restarted with new code, and refuses no one. (SIGHUP
 * was made to say that a terminal is gone: when that is the one with the log, the server ends.)
 *
 * With `--pass` the parent accepts, and passes each client's descriptor to the child that has been free for longest: so
 * the parent chooses, and spreads clients evenly, which the kernel may not. A descriptor is passed over a socket between
 * the two (SCM_RIGHTS in unix(7)), by which a child also says that it is free.
 *
 * The limit: as many clients as there are processes, and a silent one holds a whole process. blocking.ts with
 * `--threads` is the same with threads, which cost less; epoll.ts serves all clients with one. Where each process runs
 * an event loop, as nginx's do, that limit is gone: see reuseport.ts.
 *
 * These are the kernel's own calls, made through the runtime's FFI; the runtime starts the processes. Linux only. When
 * the parent ends, even if it is killed (SIGKILL), the kernel ends the children: see PR_SET_PDEATHSIG in prctl(2).
 *
 *   deno run -A scripts/prefork.ts   or: bun scripts/prefork.ts   or: node scripts/prefork.ts
 *   nc 127.0.0.1 9999                in four terminals: the fourth is served when one of the others has left
 */

import { spawn } from "node:child_process";
import { type BlockingThread, TIMEOUT } from "./shim/blocking.ts";
import { joinIfChild } from "./shim/child.ts";
import { joinPreforked, Preforked } from "./shim/prefork.ts";
import {
  burn,
  fail,
  heartbeat,
  list,
  logWait,
  messages,
  onStop,
  parseOptions,
  process,
  serverOptions,
  stopping,
  work,
} from "./shim/program.ts";
import * as sys from "./shim/sys.ts";

/** Each child runs this same file. */
const told = joinIfChild();

const options = parseOptions(
  "Several processes, made beforehand, that accept from one listening socket.",
  "nc 127.0.0.1 9999, in four terminals, and kill -9 one of the processes that ps fx shows",
  {
    ...serverOptions,
    ...messages,
    ...work,
    processes: [3, "processes: as many clients at a time", 1, 1000],
    pass: [false, "the parent accepts, and passes each client to a process that is free"],
  },
);
sys.requireSystemCalls();

const BUFFER_SIZE = 65_536;

async function main(): Promise<void> {
  const children = new Preforked(import.meta.url, options);
  const type = options.pass ? sys.SOCK_STREAM | sys.SOCK_NONBLOCK : sys.SOCK_STREAM;
  // create, bind, listen
  const listener = await sys.openListener(options, type, TIMEOUT);
  heartbeat("children", 3, () => [list(children.describe())]);
  heartbeat("backlog", 0.25, () => sys.backlogOf(listener));
  onStop(() => children.stop());

  for (let place = 1; place <= options.processes; place++) keep(children, place, listener);
  process.on("SIGHUP", () => children.hungUp ? process.exit(129) : children.replaceAll());
  if (options.pass) await acceptAndPass(children, listener);
}

/** Has a place filled by a child as long as the server runs: when one has ended, there is another. */
async function keep(children: Preforked, place: number, listener: number): Promise<void> {
  const [program, ...args] = children.command;
  // A child's standard input is where its clients come from, its standard error the log; the last is shared memory.
  // With `--pass`, `input` is a socket that is connected to the parent, instead of the listening one.
  const start = (input: number, settings: object) =>
    spawn(program, args, { stdio: [input, "ignore", 1, children.board], ...settings });
  while (!stopping) await children.run(place, listener, start);
}

/** The parent, with `--pass`: accepts while a child is free, and passes the client on to it. */
async function acceptAndPass(children: Preforked, listener: number): Promise<void> {
  const fds = sys.memory(8 * (options.processes + 1)), peer = sys.socketAddress(), byte = sys.memory(4);
  while (!stopping) {
    const all = children.list;
    for (const [i, { socket }] of all.entries()) sys.setPollfd(fds, i, socket, sys.POLLIN);
    let count = all.length;
    // While no child is free, who connects stays in the backlog.
    if (children.isFree) sys.setPollfd(fds, count++, listener, sys.POLLIN);

    const found = sys.poll(fds, count, TIMEOUT);
    if (found < 0 && found !== -sys.EINTR) fail("poll", sys.systemError(found));
    const ready = all.filter((_, i) => found > 0 && sys.pollfdReady(fds, i) !== 0);
    const connecting = found > ready.length;
    if (found > 0) {
      const names = [...connecting ? ["listener"] : [], ...ready.map(({ place }) => `p-${place}`)];
      logWait("poll", { ready: found, "entries handed over": count }, () => names.join(", "));
    }
    for (const child of ready) {
      // A byte says that it is free. At the end of the stream the child has ended.
      if (sys.recv(child.socket, byte, 1, 0) > 0) children.release(child);
      else await child.ended;
    }
    const fd = connecting && children.isFree && !stopping ? sys.accept4(listener, peer, sys.SOCK_CLOEXEC) : -sys.EAGAIN;
    if (fd >= 0) children.pass(fd, peer);
    else if (fd !== -sys.EAGAIN) await children.rest(fd);
    await sys.runtimeTurn();
  }
}

/** A child: serves one client after another. */
async function serve(thread: BlockingThread): Promise<void> {
  const { listener } = thread, peer = sys.socketAddress(), buffer = sys.memory(BUFFER_SIZE);
  const accept = () => sys.accept4(listener, peer, sys.SOCK_CLOEXEC);
  for (;;) {
    const fd = options.pass ? await receive(thread) : await thread.accept(peer, accept);
    if (fd < 0) return;
    for (;;) {
      const size = await thread.recv(buffer, () => sys.recv(fd, buffer, BUFFER_SIZE, 0));
      if (size === 0) break;
      burn(thread.id, options.work, buffer.bytes.subarray(0, size));
      await thread.send(buffer, size, (left) => sys.send(fd, buffer, left, 0));
    }
    await thread.close(buffer, () => sys.close(fd));
  }
}

/** A child, with `--pass`: says that it is free, and receives the descriptor of a client. */
async function receive(thread: BlockingThread): Promise<number> {
  const message = sys.descriptorMessage();
  sys.write(thread.listener, message, 1);
  return await thread.receive(message, () => sys.recvmsg(thread.listener, message, sys.MSG_CMSG_CLOEXEC));
}

if (told) await serve(joinPreforked(told, options));
else await main();
