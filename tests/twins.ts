// SPDX-License-Identifier: MIT
/**
 * Broken twins: each is one of the servers with one thing wrong, and the contract has to find it.
 *
 * The scripts are copied, a text in one of them is replaced, and the tests of that model run on the copy. The test that
 * is named has to fail, with the words that are named; its kin may fail, and no other.
 *
 *   deno task twins                     each with all tests of its model
 *   deno task twins silence spins       those whose names contain one of these words
 *
 * twins.test.ts runs each with the one test that is to find it.
 */

import { spawn } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import process from "node:process";
import { project, type Result, scripts } from "./harness.ts";

/** In a file below scripts/ a text, which stands there once, is replaced. */
interface Change {
  file: string;
  from: string;
  to: string;
}

/** A server with one thing wrong. */
export interface Twin extends Change {
  /** What is wrong with it. */
  name: string;
  /** The model, as in the titles of tests, and the runtime. */
  model: string;
  runtime: string;
  /** The test that finds it, and the words with which it fails. */
  caught: string;
  says: RegExp;
  /** Its kin: other tests that this may fail. */
  also?: string[];
}

// Tests that several twins fail.
const wait = "what a wait has found, with its figures",
  everyByte = "every byte comes back, in order",
  halfClose = "half-close: all replies, then the end of the stream",
  takesLeave = "--messages 3 closes after three exchanges, and loses nothing that it has sent",
  reset = "a reset at any point costs that connection alone",
  neverReads = "clients that never read cost bounded memory, and only themselves; a reset wakes who waits",
  slowReader = "32 MiB to a slow reader, who has shut down its side",
  exhausted = "out of descriptors: no spin, no exit, served again when some are free, and stopped when asked",
  churn = "clients come and go: no descriptor, thread or memory is left behind",
  beside = "an active connection beside idle ones",
  forged = "the log can't be forged, and every line of it has the same form",
  reasons = "why a connection ends: the client has left, or reset it, or was silent",
  silent = "a client that never reads is silent",
  computes = "a client is not silent while the server computes for it",
  ends = "options at their ends: a long time is not a short one, and quiet is one line",
  stranger = "a client that took leave closes no one who has got its descriptor",
  shortage = "a descriptor that becomes free is used while others keep the server busy",
  overflow = "when the queue of signals overflows, every socket is asked",
  spread = "--spread fewest: a client goes to the loop that has the fewest, and the counts are told",
  SIGINT = "SIGINT with open connections: each closed, exit 0 within a second, the port free",
  SIGTERM = "SIGTERM with open connections: each closed, exit 0 within a second, the port free",
  patience = "a client is not silent as long as it takes its reply",
  inTurn = "unless it is told otherwise, each loop in turn gets a client",
  noRoom = "a client for whose message there is no room is not read from, and served in the end",
  unserved = "who stands in line, or would have, is not served any more when the server stops",
  unwritable = "a log that can't be written is said once, and it serves on",
  readerGone = "a log whose reader has gone ends it quietly",
  stalled = "a log whose reader stalls holds nobody up",
  mistakes = "a mistake in the command line is one line and exit code 2",
  help = "--help names every option, in lines of 80 columns",
  orphans = "the children end with their parent, also when that is killed, and one has a busy client",
  hangUp = "SIGHUP replaces all, one by one, after their clients, and refuses nobody",
  taken = "a taken port or an unknown host is one line and exit code 1",
  noThread = "who stands in line when the server stops gets no thread, though one ends",
  thirty = "30 clients, 8 threads at most, all served; under a limit of 160 descriptors",
  beyond = "what a client has sent beyond its last message is not the next one's";

export const twins: Twin[] = [
  // What becomes of the bytes.
  {
    name: "ignores how much of a send was taken",
    file: "shim/deno.ts",
    from: "      if (length < data.length) return void this.put(data.subarray(length));\n",
    to: "",
    ...{ model: "tasks.ts", runtime: "deno", caught: slowReader, says: /of 33554432 bytes came/ },
    also: [silent],
  },
  {
    name: "binds every address",
    file: "shim/node.ts",
    from: "listener.listen({ host, port, reusePort }",
    to: "listener.listen({ port, reusePort }",
    ...{ model: "tasks.ts", runtime: "node", caught: everyByte, says: /the address that it was given, and no other/ },
    also: [forged, taken],
  },
  {
    name: "closes when the client has shut down its side",
    file: "shim/node.ts",
    from: "net.createServer({ allowHalfOpen: true",
    to: "net.createServer({ allowHalfOpen: false",
    ...{ model: "offload.ts", runtime: "node", caught: halfClose, says: /of 5 bytes came/ },
    also: [slowReader],
  },
  {
    name: "closes with unread input, which resets the connection",
    file: "shim/clients.ts",
    from: "sys.shutdown(client.fd, sys.SHUT_WR);",
    to: 'this.close(client, "");',
    ...{ model: "poll.ts", runtime: "deno", caught: takesLeave, says: /no reset/ },
  },
  {
    name: "closes without waiting for what was sent",
    file: "shim/socket.ts",
    from: "if (this.ended) return this.destroy();",
    to: "if (this.closed) return this.destroy();",
    ...{ model: "tasks.ts", runtime: "deno", caught: takesLeave, says: /no reset/ },
  },
  {
    name: "serves one message too many",
    file: "shim/connections.ts",
    from: "this.exchanges < this.#most",
    to: "this.exchanges <= this.#most",
    ...{ model: "tasks.ts", runtime: "bun", caught: takesLeave, says: /null/ },
  },
  {
    name: "keeps a connection until the client closes its side",
    file: "shim/socket.ts",
    from: "    setTimeout(() => this.destroy(), LINGER).unref();\n",
    to: "",
    ...{ model: "tasks.ts", runtime: "bun", caught: takesLeave, says: /the connection is kept for who stays/ },
  },
  {
    name: "has no handler for errors: a reset ends the process",
    file: "shim/node.ts",
    from: 'socket.on("error", (error) => this.fail(error));',
    to: "",
    ...{ model: "tasks.ts", runtime: "node", caught: reset, says: /ECONNREFUSED|ECONNRESET/ },
    also: [neverReads, reasons, silent, churn],
  },
  {
    name: "takes in without end what is never read",
    file: "shim/socket.ts",
    from: "if (this.#arrived.push(data) === MOST) this.#flow?.pause();",
    to: "this.#arrived.push(data);",
    ...{ model: "multiplex.ts", runtime: "node", caught: neverReads, says: /takes without end|MiB/ },
    also: [SIGTERM],
  },
  {
    name: "wakes nobody who waits to send when the client resets",
    file: "shim/socket.ts",
    from: "this.reason ??= why;\n    wakeReader(this);\n    wakeWriter(this);",
    to: "this.reason ??= why;\n    wakeReader(this);",
    ...{ model: "tasks.ts", runtime: "bun", caught: neverReads, says: /never closed/ },
    also: [reset, silent, SIGTERM],
  },
  {
    name: "edge-triggered, and does not go on until EAGAIN",
    file: "epoll.ts",
    from: "else if (edge) undrained.add(clients.at(fd));",
    to: "else if (edge) handle(clients.at(fd));",
    ...{ model: "epoll.ts --edge", runtime: "bun", caught: slowReader, says: /bytes came/ },
    also: [wait, halfClose, takesLeave],
  },
  {
    name: "goes on with a reply from a buffer that others have used",
    file: "coroutines.ts",
    from: "    data = data.slice(Math.max(sent, 0));",
    to: "    data = data.subarray(Math.max(sent, 0));",
    model: "coroutines.ts",
    runtime: "bun",
    caught: "a coroutine keeps its rest while others use the buffer",
    says: /not what it sent/,
  },
  {
    name: "resumes a coroutine for as long as it never has to wait",
    file: "coroutines.ts",
    from: "  if (client.exchanges % 16 === 15) yield null;",
    to: "  if (client.exchanges < 0) yield null;",
    model: "coroutines.ts",
    runtime: "deno",
    caught: "a client that never falls silent leaves the others their turn",
    says: /bytes came first/,
  },
  {
    name: "doesn't wait for a slow client to take the rest",
    file: "shim/clients.ts",
    from: "    this.#selector.modify(fd, WRITE);",
    to: "    client.unsent = null;\n    this.answered(client);",
    ...{ model: "select.ts", runtime: "node", caught: slowReader, says: /bytes came/ },
    also: [neverReads, SIGTERM],
  },
  {
    name: "sends replies in the order in which they are ready",
    file: "offload.ts",
    from: "await Promise.all([reply, before]);",
    to: "await Promise.all([reply]);",
    model: "offload.ts",
    runtime: "node",
    caught: "a light message is answered while every worker computes; replies stay in order",
    says: /lighthello/,
    also: [takesLeave, neverReads, slowReader, silent, reset, "what is handed over is moved, whatever its size"],
  },
  {
    name: "computes on the loop",
    file: "offload.ts",
    from: "  if (isLight(data)) {",
    to: "  burn(connection.id, options.work, data);\n  if (data) {",
    model: "offload.ts",
    runtime: "deno",
    caught: "a light message is answered while every worker computes; replies stay in order",
    says: /no line matches/,
    also: ["a client for whose message there is no room is not read from, and served in the end"],
  },
  {
    name: "counts the thread that accepts among those that serve",
    file: "pool.ts",
    from: "while (started < options.workers)",
    to: "while (started < options.workers - 1)",
    model: "pool.ts",
    runtime: "deno",
    caught: "three at once; two wait for a close, and how long is told",
    says: /0 of 5 bytes came/,
    // One thread fewer than one is none.
    also: [
      "three at once; two wait for a reset, and how long is told",
      "the heartbeat says what each thread does",
      "the same three threads for 100 clients",
      "--work on two threads at the same time, in one loop one after another",
      ...[neverReads, SIGINT, SIGTERM, beside, beyond, computes],
    ],
  },

  // Crowds.
  {
    name: "spins when it is out of descriptors",
    file: "shim/clients.ts",
    from: "      if (this.#accepts) this.#selector.unregister(this.#listener);\n      this.#accepts = false;\n",
    to: "",
    ...{ model: "epoll.ts", runtime: "deno", caught: exhausted, says: /it spins/ },
  },
  {
    name: "leaves it to Bun to run out of descriptors",
    file: "shim/bun.ts",
    from: "if (!turnsAway(socket)) this",
    to: "this",
    ...{ model: "tasks.ts", runtime: "bun", caught: exhausted, says: /it spins/ },
  },
  {
    name: "keeps the descriptor of a connection that was reset",
    file: "shim/clients.ts",
    from: "    sys.close(fd);\n",
    to: "    if (!(Number(reason) < 0)) sys.close(fd);\n",
    ...{ model: "poll.ts", runtime: "deno", caught: churn, says: /descriptors/ },
  },
  {
    name: "closes who has got the descriptor of a client that took leave",
    file: "shim/clients.ts",
    from: "    if (client.closed) return;\n",
    to: "",
    ...{ model: "epoll.ts", runtime: "node", caught: stranger, says: /0 of 5 bytes came/ },
    also: [takesLeave],
  },
  {
    name: "tries again to accept only when it is idle",
    file: "shim/clients.ts",
    from: "sys.endReason(reason) : reason);\n    this.retry();\n",
    to: "sys.endReason(reason) : reason);\n",
    ...{ model: "epoll.ts", runtime: "deno", caught: shortage, says: /while it is busy/ },
  },
  {
    name: "asks nobody when the queue of signals overflows",
    file: "signals.ts",
    from: "      tryAll();\n    } else",
    to: "    } else",
    ...{ model: "signals.ts", runtime: "node", caught: overflow, says: /bytes came/ },
  },
  {
    name: "counts the clients that a loop was given, not those that it has",
    file: "reactors.ts",
    from: "fd, sys.NULL);\n    Atomics.sub(counts, OPEN, 1);\n",
    to: "fd, sys.NULL);\n",
    ...{ model: "reactors.ts", runtime: "bun", caught: spread, says: /no line matches/ },
    also: [wait],
  },
  {
    name: "gives all clients to one loop",
    file: "reactors.ts",
    from: "loops[(id - 1) % loops.length]",
    to: "loops[0]",
    ...{ model: "reactors.ts", runtime: "bun", caught: inTurn, says: /no line matches/ },
  },
  {
    name: "counts clients that have left as registered",
    file: "shim/clients.ts",
    from: "    this.#size--;\n",
    to: "",
    ...{ model: "epoll.ts", runtime: "bun", caught: stranger, says: /no one else/ },
  },
  {
    name: "forgets at the stop who waits for a reply",
    file: "offload.ts",
    from: "  onStop(() => drop(() => true));\n",
    to: "",
    ...{ model: "offload.ts", runtime: "bun", caught: noRoom, says: /never closed/ },
  },
  {
    name: "accepts all, whom no one serves yet",
    file: "shim/socket.ts",
    from: "while (unserved >= MOST_UNSERVED)",
    to: "while (unserved >= 10 * MOST_UNSERVED)",
    ...{ model: "pool.ts", runtime: "bun", caught: unserved, says: /stand in line/ },
  },
  {
    name: "reads from one client more than there is room for",
    file: "offload.ts",
    from: "queue.slice(0, options.queue)",
    to: "queue.slice(0, options.queue + 1)",
    ...{ model: "offload.ts", runtime: "node", caught: noRoom, says: /2 wait now/ },
  },
  {
    name: "computes what a client has asked for that has left",
    file: "offload.ts",
    from: "  if (connection.isBroken) drop(isIts);\n",
    to: "",
    ...{ model: "offload.ts", runtime: "bun", caught: noRoom, says: /not computed/ },
  },
  {
    name: "keeps the thread of every eighth client that has left",
    file: "threads.ts",
    from: "else serve(accept());",
    to: "else {\n  const connection = accept();\n  serve(connection);\n" +
      "  if (connection.id % 8 === 0) setInterval(() => {}, 1000);\n}",
    ...{ model: "threads.ts", runtime: "bun", caught: churn, says: /\d+ to \d+ (threads|descriptors)/ },
  },
  {
    name: "takes longer for a message when many clients are silent",
    file: "multiplex.ts",
    from: "const found = await selector.select();",
    to: "const found = await selector.select();\n" +
      "    for (const end = performance.now() + (selector.size > 1900 ? 25 : 0); performance.now() < end;);",
    ...{ model: "multiplex.ts", runtime: "bun", caught: beside, says: /ms a message/ },
  },

  // The log.
  {
    name: "writes to the log what a client has sent",
    file: "shim/log.ts",
    from: "/[^\\p{L}\\p{M}\\p{N}\\p{P}\\p{S} ]/gu",
    to: "/\\n/g",
    ...{ model: "tasks.ts", runtime: "deno", caught: forged, says: /\u202e/ },
  },
  {
    name: "logs what it has received after it has answered",
    file: "shim/connections.ts",
    from: 'log("recv", this.id, size, data);',
    to: 'setTimeout(() => log("recv", this.id, size, data), 0);',
    ...{ model: "tasks.ts", runtime: "node", caught: forged, says: /accept/ },
  },
  {
    name: "is not quiet",
    file: "shim/log.ts",
    from: 'if (self.given.quiet && event !== "error") return;',
    to: "",
    ...{ model: "reactors.ts", runtime: "node", caught: ends, says: /quiet/ },
  },
  {
    name: "blocks where the reader of its log stalls",
    file: "shim/log.ts",
    from: "O_WRONLY | O_NONBLOCK | O_NOCTTY",
    to: "O_WRONLY | O_NOCTTY",
    ...{ model: "epoll.ts", runtime: "node", caught: stalled, says: /bytes came/ },
  },
  {
    name: "goes on when the reader of its log has gone",
    file: "shim/end.ts",
    from: 'else if (isMainThread) stop("");',
    to: "else if (isMainThread) return;",
    ...{ model: "multiplex.ts", runtime: "deno", caught: readerGone, says: /it goes on/ },
  },
  {
    name: "takes a log that can't be written for the end",
    file: "shim/end.ts",
    from: "  if (!gone) complain(",
    to: "  if (!gone) throw error;\n  if (!gone) complain(",
    ...{ model: "tasks.ts", runtime: "bun", caught: unwritable, says: /does not serve|0 of 3 bytes came/ },
    also: ["it serves, though it can't write a log, nor say so"],
  },

  // How a connection ends, and the server.
  {
    name: "closes no silent connection",
    file: "shim/connections.ts",
    from: "passed) < idle - 0.05)",
    to: "passed) < 20 * idle)",
    ...{ model: "uring.ts", runtime: "deno", caught: reasons, says: /silent for 1 s|end/ },
    also: [silent],
  },
  {
    name: "waits for ever for who never reads",
    file: "nonblocking.ts",
    from: "    clients.each(handle);",
    to: "    clients.each((client) => {\n      handle(client);\n      if (client.unsent) client.silence = 0;\n    });",
    ...{ model: "nonblocking.ts", runtime: "deno", caught: silent, says: /no line matches/ },
  },
  {
    name: "counts the time that it was stopped as the client's silence",
    file: "shim/connections.ts",
    from: "if (passed > 1.5) return;\n",
    to: "if (passed > 1.6) for (const one of open) one.silence += passed;\n",
    ...{ model: "tasks.ts", runtime: "deno", caught: reasons, says: /0 of 12 bytes came|it was not the client/ },
  },
  {
    name: "counts the time that it computes as the client's silence",
    file: "shim/thread.ts",
    from: "connection.excused = () => ![INBOX, OUTBOX].includes(box.get(ASLEEP));",
    to: "",
    ...{ model: "pool.ts", runtime: "node", caught: computes, says: /0 of 5 bytes came/ },
  },
  {
    name: "counts the time that a client takes for a reply as its silence",
    file: "shim/connections.ts",
    from: '    this.silence = 0;\n    if (this.logs) log("send"',
    to: '    if (this.logs) log("send"',
    ...{ model: "epoll.ts", runtime: "bun", caught: patience, says: /ended: end/ },
  },
  {
    name: "counts the time in line as the client's silence",
    file: "shim/socket.ts",
    from: "  override silence = -Infinity;",
    to: "  override silence = 0;",
    ...{ model: "pool.ts", runtime: "node", caught: computes, says: /0 of 5 bytes came/ },
  },
  {
    name: "forgets that a client waits for a worker",
    file: "offload.ts",
    from: "connection.excused = () => jobs(isIts).length > 0;",
    to: "",
    ...{ model: "offload.ts", runtime: "bun", caught: computes, says: /0 of 5 bytes came/ },
  },
  {
    name: "has a timer for each silence, and takes a long one for a short one",
    file: "shim/connections.ts",
    from: "setInterval(() => closeSilent(idle), 500).unref();",
    to: "setInterval(() => closeSilent(0), idle * 1000).unref();",
    ...{ model: "tasks.ts", runtime: "node", caught: ends, says: /bytes came/ },
    also: [reasons, silent],
  },
  {
    name: "doesn't stop as long as there are connections",
    file: "shim/connections.ts",
    from: 'for (const connection of open) connection.abort("the server stops");',
    to: "while (open.size > 0) await until(() => open.size === 0);",
    ...{ model: "tasks.ts", runtime: "bun", caught: SIGINT, says: /does not end it/ },
    also: [SIGTERM, readerGone, stalled, exhausted],
  },
  {
    name: "can't have its port again at once",
    file: "shim/address.ts",
    from: "    must(setOption(fd, sys.SOL_SOCKET, sys.SO_REUSEADDR, 1));\n",
    to: "",
    ...{ model: "epoll.ts", runtime: "bun", caught: SIGINT, says: /EADDRINUSE/ },
    also: [SIGTERM],
  },

  // The command line.
  {
    name: "ignores an option that it doesn't know",
    file: "shim/options.ts",
    from: "allowPositionals: operands,",
    to: "allowPositionals: operands,\n      strict: false,",
    ...{ model: "tasks.ts", runtime: "bun", caught: mistakes, says: /nonsense/ },
  },
  {
    name: "has help that is wider than a terminal",
    file: "shim/options.ts",
    from: "{0,${78 - indent}}",
    to: "{0,${98 - indent}}",
    ...{ model: "offload.ts", runtime: "deno", caught: help, says: /columns/ },
  },
  {
    name: "fails with the exit code of success",
    file: "shim/end.ts",
    from: "  process.exit(1);",
    to: "  process.exit(0);",
    ...{ model: "poll.ts", runtime: "node", caught: taken, says: /0,/ },
  },
  {
    name: "shares its port with whoever asks for it",
    file: "reuseport.ts",
    from: "await bind(options)",
    to: "await bindReusePort(options)",
    ...{ model: "reuseport.ts", runtime: "node", caught: taken, says: /null/ },
  },
  {
    name: "leaves its processes behind when it is killed",
    file: "shim/prefork.ts",
    from: "  sys.must(sys.prctl(sys.PR_SET_PDEATHSIG, sys.SIGKILL));\n",
    to: "",
    ...{ model: "prefork.ts", runtime: "node", caught: orphans, says: /of [\d,]+ there are \d/ },
  },
  {
    name: "tells the next process to leave before there is a replacement",
    file: "shim/prefork.ts",
    from: "      while (!stopping && (seat[ORDER] === LEAVE || seat[COUNT] < 0)) await pause(20);\n",
    to: "",
    ...{ model: "prefork.ts", runtime: "node", caught: hangUp, says: /replace p/ },
  },
  {
    name: "waits for room when all is sent",
    file: "shim/clients.ts",
    from: "    this.#selector.modify(fd, READ);\n",
    to: "",
    ...{ model: "epoll.ts", runtime: "deno", caught: patience, says: /it spins when all is sent/ },
  },
  {
    name: "forgets those who will have the threads that are being started",
    file: "threads.ts",
    from: "whyNoThread(most, line.length)",
    to: "whyNoThread(most)",
    ...{ model: "threads.ts", runtime: "deno", caught: thirty, says: /have waited/ },
  },
  {
    name: "starts threads while it stops",
    file: "threads.ts",
    from: "  onStop(() => line.splice(0));\n",
    to: "",
    ...{ model: "threads.ts", runtime: "bun", caught: noThread, says: /start #3/ },
  },
  {
    name: "gives the next client what the last one has sent",
    file: "shim/thread.ts",
    from: "    this.#rest = null;\n    // A client",
    to: "    // A client",
    ...{ model: "pool.ts", runtime: "bun", caught: beyond, says: /it gets its own|it ends|bytes came/ },
  },
];

/** The command of the runtime that this runs on, for the tests of a file. */
const runner = "Deno" in globalThis
  ? ["deno", "test", "-A", "--no-check"]
  : "Bun" in globalThis
  ? ["bun", "test"]
  : ["node", "--test"];

/** The title of a test of the twin's model. */
export function titleOf({ runtime, model }: Twin, what: string): string {
  return `${runtime} ${model}: ${what}`;
}

/** Copies the scripts with the change into `folder`. */
export function copy(what: Change, folder: string): void {
  cpSync(scripts, folder, { recursive: true });
  change(what, folder);
}

/** Makes the change in a copy. */
export function change({ file, from, to }: Change, folder: string): void {
  const changed = path.join(folder, file), parts = readFileSync(changed, "utf8").split(from);
  if (parts.length !== 2) throw new Error(`${file} has ${parts.length - 1} times: ${from}`);
  writeFileSync(changed, parts.join(to));
}

/** Runs the tests of the twin's model on it, or `only` one of them, and returns what became of them. */
export async function test(twin: Twin, only = ""): Promise<Result[]> {
  const { model, runtime } = twin, folder = mkdtempSync(path.join(tmpdir(), "echo-twin-"));
  try {
    copy(twin, folder);
    const results = path.join(folder, "results"), name = model.replace(".ts", "").replace(/ --(\w+).*/, "_$1");
    const environment: Record<string, string | undefined> = {
      ...{ ...process.env, RUNTIMES: runtime, SCRIPTS: folder, RESULTS: results, ONLY: only },
    };
    // With it Node would think that the tests are part of those that are running.
    delete environment.NODE_TEST_CONTEXT;
    const [command, ...args] = [...runner, path.join(project, "tests", `${name}.test.ts`)];
    const child = spawn(command, args, { cwd: project, env: environment });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => output += data);
    await new Promise((resolve) => child.on("close", resolve));
    if (!existsSync(results)) throw new Error(`no test has run: ${output}`);
    return readFileSync(results, "utf8").trimEnd().split("\n").map((line) => JSON.parse(line));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Runs the twins, three at a time, and prints what is not as their table says. */
async function main(): Promise<void> {
  const words = process.argv.slice(2), start = performance.now();
  const chosen = twins.filter(({ name }) => words.length === 0 || words.some((word) => name.includes(word)));
  const rest = chosen.values();
  await Promise.all([1, 2, 3].map(async () => {
    for (const twin of rest) await judge(twin);
  }));
  console.log(`${chosen.length} twins in ${((performance.now() - start) / 60_000).toFixed(1)} min`);
}

async function judge(twin: Twin): Promise<void> {
  const caught = titleOf(twin, twin.caught), may = [twin.caught, ...twin.also ?? []];
  const failed = (await test(twin)).filter(({ failure }) => failure !== undefined);
  // A script with other options has the same tests.
  const wrong = failed.filter(({ title }) => !may.includes(title.slice(title.indexOf(": ") + 2)))
    .map(({ title, failure }) => `fails: ${title}: ${failure}`);
  if (!failed.some(({ title, failure }) => title === caught && twin.says.test(failure!))) {
    wrong.push(`passes: ${caught}`);
  }
  if (wrong.length > 0) process.exitCode = 1;
  console.log([`${wrong.length > 0 ? "WRONG" : "ok"}: ${twin.name}`, ...wrong].join("\n  "));
}

if (import.meta.main) await main();
