// SPDX-License-Identifier: MIT
/**
 * A process per connection: every client has its own, whose standard input and output are the socket.
 *
 * The oldest model of all, that of inetd: the parent accepts, and starts a program that reads and writes as it would at
 * a terminal, and knows nothing of networks. Any program serves: try `--exec cat` or `--exec date`. (One that holds its
 * output back where that is no terminal, as `rev` does, replies when the client shuts down its side.) By default it is
 * this same script, as a child. The system shares the cores out among the processes, one that crashes takes no other
 * with it, and when it ends the system closes what it had open.
 *
 * The parent waits for two kinds of things at once, in one poll(2): a client that connects, and a child that ends. For
 * the latter it has a descriptor for each child (pidfd_open(2)). Then it collects how that ended (waitpid(2)):
 * until it has, the child stays in the process table as a zombie.
 *
 * The limit: a process is expensive. The log shows the milliseconds until its first reply and its memory: compare
 * threads.ts. Beyond `--max-processes`, clients are not accepted, and wait in the backlog. blocking.ts with `--threads`
 * starts all that it needs beforehand; poll.ts serves many clients with one process.
 *
 * These are the kernel's own calls, made through the runtime's FFI; the runtime starts the processes. Linux only. If
 * the server is killed (SIGKILL), its children end within a second; other programs when their clients leave or are
 * silent for `--idle` seconds, which is when reading fails for them.
 *
 *   deno run -A scripts/processes.ts   or: bun scripts/processes.ts   or: node scripts/processes.ts
 *   nc 127.0.0.1 9999                  in several terminals, and in one more: ps fx
 *
 * To copy it into an article: deno run -A scripts/standalone.ts processes
 */

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { outOfDescriptors } from "./shim/descriptors.ts";
import { cannotListen, explain, fail, heartbeat, joinParent, list, log, logWait, messages } from "./shim/program.ts";
import { nextNumber, onStop, parseOptions, process, ready, serverOptions, stopping } from "./shim/program.ts";
import { threadSettings } from "./shim/program.ts";
import { LINGER } from "./shim/socket.ts";
import * as sys from "./shim/sys.ts";

/**
 * What a child finds in its environment: the number of its client, and when that was accepted, and what log lines need.
 */
const told = JSON.parse(environment().ECHO_CHILD ?? "null");
if (told) joinParent(told);

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

/** The program that serves, and its arguments. */
const command = options.exec.split(" ").filter(Boolean);
/** Milliseconds after which a call of a child gives up, for it to see that time passes. */
const TIMEOUT = 1000;
const BUFFER_SIZE = 65_536;
/** How a child ends, beside 0 for the end of the stream, and the number of an error, such as 32 for EPIPE. */
const ENOUGH = 200, SILENT = 201;

// ---------------------------------------------------------------- the parent

/** A process that serves a client. */
interface Child {
  readonly id: number;
  readonly pid: number;
  /** Can be read from once the process has ended; -1 from then on. */
  pidfd: number;
}

const children = new Map<number, Child>(), most = options["max-processes"];
let exhausted = false;

/** A process that may not read its environment is no child: children have all permissions. */
function environment(): Record<string, string | undefined> {
  try {
    return { ...process.env };
  } catch {
    return {};
  }
}

async function main(): Promise<void> {
  sys.requireSystemCalls();
  // create, bind, listen
  const { fd: listener, port } = await sys.openListener(options, sys.SOCK_STREAM | sys.SOCK_NONBLOCK)
    .catch(cannotListen);
  limitSilence(listener);
  ready(options.host, port);
  heartbeat("processes", 3, () => [list([...children.values()].filter(isRunning).map(describe))]);
  heartbeat("backlog", 0.25, () => {
    const waiting = children.size < most ? 0 : sys.backlogOf(listener);
    return waiting > 0 ? [`${waiting} waiting to be accepted: ${most} processes are the most`] : [];
  });
  onStop(stop);
  // However this process ends, unless it is killed. The last signal says that its terminal is gone.
  process.on("exit", () => killAll("SIGKILL"));
  process.once("SIGHUP", () => process.exit(129));

  const fds = sys.memory(8 * (most + 1)), peer = sys.socketAddress();
  for (let resting = false;;) {
    const running = [...children.values()].filter(isRunning);
    for (const [i, { pidfd }] of running.entries()) sys.setPollfd(fds, i, pidfd, sys.POLLIN);
    let count = running.length;
    // Who connects when there can't be another process stays in the backlog.
    if (children.size < most && !resting) sys.setPollfd(fds, count++, listener, sys.POLLIN);

    const found = sys.poll(fds, count, running.length < children.size ? 5 : TIMEOUT / 2);
    if (found < 0 && found !== -sys.EINTR) fail("poll", sys.systemError(found));
    const ended = running.filter((_, i) => found > 0 && sys.pollfdReady(fds, i) !== 0);
    const connecting = found > ended.length;
    if (found > 0) {
      const names = [...connecting ? ["listener"] : [], ...ended.map(({ id }) => `process of #${id}`)];
      logWait("poll", { ready: found, "entries handed over": count }, () => names.join(", "));
    }
    for (const child of ended) forget(child);
    resting = connecting && !accept(listener, peer);
    // How a process ended the runtime asks; the answer may take a moment. It also has signals and timers to look after.
    await sys.runtimeTurn();
    if (stopping) return;
  }
}

/** A client has connected: gives it a process. Says whether there can be another one. */
function accept(listener: number, peer: sys.SocketAddress): boolean {
  // Starting a process takes some, too.
  const failure = outOfDescriptors(12);
  const fd = failure ? -sys.EMFILE : sys.accept4(listener, peer, sys.SOCK_CLOEXEC);
  if (fd === -sys.EAGAIN) return true;
  if (fd < 0 && !exhausted) log("error", 0, "accept:", failure ?? sys.systemError(fd));
  if (fd === -sys.ECONNABORTED) return true;
  exhausted = fd < 0;
  if (exhausted) return false;
  const id = nextNumber();
  log("accept", id, sys.addressText(peer));
  start(id, fd);
  // The process has its own copy of the descriptor.
  sys.close(fd);
  return true;
}

/** Starts a process that has the socket as its standard input and output. */
function start(id: number, fd: number): void {
  const accepted = performance.timeOrigin + performance.now(), parent = process.pid;
  const [program, ...args] = command.length > 0
    ? command
    : [process.execPath, fileURLToPath(import.meta.url), ...process.argv.slice(2)];
  const ECHO_CHILD = JSON.stringify({ ...threadSettings(`p-${id}`), id, accepted, parent });
  try {
    // What a child logs goes to its standard error, which is the log of the server. It has a process group of its own,
    // so that a signal reaches what it has started in turn, and Ctrl-C at a terminal the server alone.
    const child = command.length > 0
      ? spawn(program, args, { stdio: [fd, fd, 2], detached: true })
      : spawn(program, args, { stdio: [fd, fd, 1], detached: true, env: { ...environment(), ECHO_CHILD } });
    child.on("error", (error) => finish(id, `cannot start ${program}: ${explain(error)}`));
    child.on("exit", (code, signal) => finish(id, reasonOf(code, signal)));
    const { pid } = child;
    if (!pid) return;
    log("start", id, `process ${pid}`);
    children.set(id, { id, pid, pidfd: sys.pidfd_open(pid) });
  } catch (error) {
    finish(id, `cannot start ${program}: ${explain(error)}`);
  }
}

/** A connection ends with its process. */
function finish(id: number, reason: unknown): void {
  const child = children.get(id);
  if (child) forget(child);
  children.delete(id);
  if (!stopping) log("close", id, reason);
}

function forget(child: Child): void {
  if (child.pidfd >= 0) sys.close(child.pidfd);
  child.pidfd = -1;
}

function reasonOf(code: number | null, signal: string | null): unknown {
  if (code === null) return `its process was ended by ${signal}`;
  if (command.length > 0) return `its process ended with exit code ${code}`;
  if (code === 0) return "by the client";
  if (code === ENOUGH) return `after ${options.messages} messages`;
  if (code === SILENT) return `silent for ${options.idle} s`;
  // The runtimes have lower ones for their own ends.
  return code >= 32 && code < 128 ? sys.systemError(-code) : `its process ended with exit code ${code}`;
}

/** Has a read fail that nothing comes of, and a write: the clients inherit that from the listening socket. */
function limitSilence(listener: number): void {
  const milliseconds = command.length > 0 ? options.idle * 1000 : TIMEOUT;
  if (milliseconds === Infinity) return;
  const timeout = sys.timeval();
  sys.setTimeval(timeout, milliseconds);
  sys.must(sys.setsockopt(listener, sys.SOL_SOCKET, sys.SO_RCVTIMEO, timeout, 16));
  sys.must(sys.setsockopt(listener, sys.SOL_SOCKET, sys.SO_SNDTIMEO, timeout, 16));
}

function isRunning({ pidfd }: Child): boolean {
  return pidfd >= 0;
}

function describe({ id, pid }: Child): string {
  return `#${id} process ${pid} ${memoryOf(pid)}`;
}

/** How much of its memory a process shares with no other, and how much it has in all. See proc_pid_smaps(5). */
function memoryOf(pid: number): string {
  try {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
    const [all, clean, dirty] = ["Rss", "Private_Clean", "Private_Dirty"]
      .map((name) => Number(new RegExp(`${name}: *(\\d+)`).exec(text)![1]) / 1000);
    return `${(clean + dirty).toFixed(1)} of ${all.toFixed(1)} MB its own`;
  } catch {
    return "has ended";
  }
}

/** Ends the children, and waits for that: the next server may want their memory. */
async function stop(): Promise<void> {
  for (const id of children.keys()) log("close", id, "the server stops");
  // A second Ctrl-C leaves no child behind, either. A handler that is set at once might see the first one.
  await sleep(1);
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(130));
  // Other programs may want to do something about the first signal; the second one none survives.
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    killAll(signal);
    for (let i = 0; i < 15 && children.size > 0; i++) await sleep(20);
  }
}

/** Sends a signal to the children, and to what they have started. See kill(2). */
function killAll(signal: NodeJS.Signals): void {
  for (const { pid } of children.values()) {
    try {
      process.kill(-pid, signal);
    } catch {
      // It has just ended.
    }
  }
}

// ---------------------------------------------------------------- the child

/** Echoes, from standard input to standard output. Returns the exit code. */
function serve(): number {
  sys.requireSystemCalls();
  const { id, accepted } = told, buffer = sys.memory(BUFFER_SIZE);
  for (let count = 0; count < options.messages; count++) {
    const size = blocking(() => sys.read(0, buffer, BUFFER_SIZE));
    if (size <= 0) return Math.abs(size);
    log("recv", id, size, buffer.bytes);
    for (let left = size; left > 0;) {
      const sent = blocking(() => sys.write(1, buffer, left));
      if (sent < 0) return -sent;
      left -= sent;
      buffer.bytes.copyWithin(0, sent, sent + left);
    }
    log("send", id, size);
    if (count > 0) continue;
    const milliseconds = (performance.timeOrigin + performance.now() - accepted).toFixed(1);
    log("cost", id, `${milliseconds} ms from accept to first reply; memory: ${memoryOf(process.pid)}`);
  }
  // Closed with unread input, a socket resets the connection: so the sending side first, and what still comes is
  // dropped. That is all that a child has to know of networks.
  sys.shutdown(1, sys.SHUT_WR);
  for (const end = performance.now() + LINGER; performance.now() < end;) {
    const size = sys.read(0, buffer, BUFFER_SIZE);
    if (size <= 0 && size !== -sys.EAGAIN) break;
  }
  return ENOUGH;
}

/** Makes a call until something comes of it. */
function blocking(call: () => number): number {
  let silent = 0;
  for (;;) {
    const result = call();
    if (result !== -sys.EAGAIN && result !== -sys.EINTR) return result;
    // The server was killed.
    if (process.ppid !== told.parent) process.exit();
    // Nothing is counted while the server is stopped, as by Ctrl-Z.
    if (result === -sys.EAGAIN && !/\) T/.test(readFileSync(`/proc/${told.parent}/stat`, "utf8"))) silent++;
    if (silent >= options.idle) process.exit(SILENT);
  }
}

// Each child runs this same file.
if (told) process.exit(serve());
else await main();
