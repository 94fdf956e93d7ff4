// SPDX-License-Identifier: MIT
/**
 * A process per connection: every client has its own, whose standard input and output are the socket.
 *
 * The oldest model of all, that of inetd: the parent accepts, and starts a program that reads and writes as it would at
 * a terminal, and knows nothing of networks. Any program serves: try `--exec cat` or `--exec date`. (A program that
 * holds its output back unless it writes to a terminal, as `rev` does, replies when the client shuts down its side.) By
 * default it is this same script, as a child. The system shares the cores among the processes. One that crashes takes no
 * other with it, and when it ends the system closes what it had open.
 *
 * The parent waits for two kinds of events at once, in one poll(2): a client that connects, and a child that ends. For
 * the latter it has a descriptor for each child (pidfd_open(2)). Then it collects how the child has ended (waitpid(2)):
 * until then, the child stays in the process table as a zombie.
 *
 * The limit: a process is expensive. The log shows the milliseconds until its first reply, without those that the client
 * took to send something, and its memory: compare threads.ts. Beyond `--max-processes`, clients are not accepted, and
 * wait in the backlog. blocking.ts with `--threads` starts all threads beforehand; poll.ts serves many clients with one
 * process.
 *
 * These are the kernel's own calls, made through the runtime's FFI; the runtime starts the processes. Linux only. If
 * the server is killed (SIGKILL), each child ends when its client has left, or has sent nothing for half a second; other
 * programs end when their clients leave or are silent for `--idle` seconds, because reading fails then.
 *
 *   deno run -A scripts/processes.ts   or: bun scripts/processes.ts   or: node scripts/processes.ts
 *   nc 127.0.0.1 9999                  in several terminals, and in one more: ps fx
 */

import { spawn } from "node:child_process";
import { joinIfChild, StandardConnection } from "./shim/child.ts";
import { Children } from "./shim/children.ts";
import {
  fail,
  heartbeat,
  list,
  logWait,
  messages,
  onStop,
  parseOptions,
  serverOptions,
  stopping,
} from "./shim/program.ts";
import * as sys from "./shim/sys.ts";

/** Each child runs this same file. */
const told = joinIfChild();

const options = parseOptions(
  "A process per connection: each client has one of its own, whose standard input and output are the socket.",
  "nc 127.0.0.1 9999, in several terminals at once, and ps fx in one more",
  {
    ...serverOptions,
    ...messages,
    "max-processes": [16, "processes at a time; further clients wait", 1, 10_000],
    exec: ["", "program that serves instead of this script, with arguments, split at spaces"],
  },
);
sys.requireSystemCalls();

const TIMEOUT = 500;

async function main(): Promise<void> {
  const children = new Children(import.meta.url, options), most = options["max-processes"];
  // create, bind, listen
  const listener = await sys.openListener(options, sys.SOCK_STREAM | sys.SOCK_NONBLOCK, children.timeLimit);
  heartbeat("processes", 3, () => [list(children.describe())]);
  heartbeat(
    "backlog",
    0.25,
    () => children.list.length < most ? [] : sys.backlogOf(listener, `: ${most} processes are the most`),
  );
  onStop(() => {
    sys.close(listener);
    return children.stop();
  });

  const fds = sys.memory(8 * (most + 1)), peer = sys.socketAddress();
  while (!stopping) {
    const running = children.list;
    for (const [i, { pidfd }] of running.entries()) sys.setPollfd(fds, i, pidfd, sys.POLLIN);
    let count = running.length;
    // While there can't be another process, who connects stays in the backlog.
    if (running.length < most && !children.resting) sys.setPollfd(fds, count++, listener, sys.POLLIN);

    const found = sys.poll(fds, count, TIMEOUT);
    if (found < 0 && found !== -sys.EINTR) fail("poll", sys.systemError(found));
    const ended = running.filter((_, i) => found > 0 && sys.pollfdReady(fds, i) !== 0);
    const connecting = found > ended.length;
    if (found > 0) {
      const names = [...connecting ? ["listener"] : [], ...ended.map(({ id }) => `process of #${id}`)];
      logWait("poll", { ready: found, "entries handed over": count }, () => names.join(", "));
    }
    // The runtime calls waitpid(2), which ends the zombie.
    for (const child of ended) await child.ended;
    const client = connecting && !stopping &&
      children.accept(peer, () => sys.accept4(listener, peer, sys.SOCK_CLOEXEC));
    if (client) start(children, client);
    await sys.runtimeTurn();
  }
}

/** Starts a program that has the client's socket as its standard input and output. */
function start(children: Children, { id, fd }: { id: number; fd: number }): void {
  const [program, ...args] = children.command;
  // Its standard error is the log: a child of this script writes its lines there.
  const log = options.exec ? 2 : 1;
  children.start(id, (settings) => spawn(program, args, { stdio: [fd, fd, log], ...settings }));
  // The process has its own copy of the descriptor.
  sys.close(fd);
}

/** The child: echoes from standard input to standard output. */
function serve(connection: StandardConnection): void {
  for (;;) {
    const data = connection.recv();
    if (data.length === 0) break;
    connection.send(data);
  }
  connection.close();
}

if (told) serve(new StandardConnection(told));
else await main();
