// SPDX-License-Identifier: MIT
/**
 * Threads that block: `recv` and `send` without `await`, in a Worker.
 *
 * What is real here: a thread of the operating system for every Worker, straight-line code in it, and a `recv` that
 * puts it to sleep (`Atomics.wait`, which is futex(2)) until there is something to return.
 *
 * What stands in for the kernel: the main thread. In every runtime a socket belongs to the thread that accepted it,
 * so the main thread moves the bytes between the sockets and a mailbox for each thread, in memory that both see. Its
 * inbox and outbox are what a socket's two buffers are in the kernel; ringing the bell is the system call.
 */

import { setImmediate } from "node:timers";
import { setTimeout as pause } from "node:timers/promises";
import { parentPort, workerData } from "node:worker_threads";
import { Account } from "./connections.ts";
import { stopping } from "./end.ts";
import { explain, flushLog, list, log } from "./log.ts";
import { process, type ThreadSettings, threadSettings } from "./runtime.ts";
import type { Connection } from "./socket.ts";
import { outOfThreads, post, replace, startWorker } from "./worker.ts";

/** How many bytes fit into an inbox, or an outbox; and into the reason why a connection has ended. */
const BOX = 65_536, REASON = 1024;
/** The words a mailbox begins with: one side changes them, the other may sleep until they change. */
const STATE = 0, INBOX = 1, OUTBOX = 2, WANTED = 3, ASLEEP = 4, FAILURE = 5, ID = 6, WORDS = 7;
/** STATE: the thread waits for a connection, serves one, or wants that closed. */
const FREE = 0, BUSY = 1, CLOSING = 2;
/** INBOX, OUTBOX: how many bytes are in it (in the inbox 0 is the end of the stream), or that there is nothing. */
const EMPTY = -1;
/** The size of a mailbox: its words, inbox, outbox and reason. */
const MAILBOX = 4 * WORDS + 2 * BOX + REASON;

interface ThreadData extends ThreadSettings {
  memory: SharedArrayBuffer;
  bell: Int32Array;
}

/** The memory that a thread shares with the main thread. */
class Mailbox {
  readonly inbox: Uint8Array;
  readonly outbox: Uint8Array;
  /** Why the connection is broken: FAILURE says how many bytes that is. */
  readonly failure: Uint8Array;
  #words: Int32Array;
  #bell: Int32Array;

  constructor({ memory, bell }: ThreadData) {
    this.#words = new Int32Array(memory, 0, WORDS);
    this.inbox = new Uint8Array(memory, 4 * WORDS, BOX);
    this.outbox = new Uint8Array(memory, 4 * WORDS + BOX, BOX);
    this.failure = new Uint8Array(memory, 4 * WORDS + 2 * BOX);
    this.#bell = bell;
  }

  get(word: number): number {
    return Atomics.load(this.#words, word);
  }

  set(word: number, value: number): void {
    Atomics.store(this.#words, word, value);
  }

  /** Changes a word, and wakes the thread if that is what it sleeps on. */
  wake(word: number, value: number): void {
    this.set(word, value);
    Atomics.notify(this.#words, word);
  }

  /** Sleeps as long as a word has this value. A wake-up can be stale, hence the loop. */
  sleep(word: number, value: number): void {
    if (this.get(word) !== value) return;
    this.set(ASLEEP, word);
    while (this.get(word) === value) Atomics.wait(this.#words, word, value, flushLog() ? undefined : 50);
    this.set(ASLEEP, -1);
  }

  /** Asks the main thread to look into all mailboxes: only the first to ring must wake it. */
  ring(): void {
    if (Atomics.exchange(this.#bell, 0, 1) === 0) Atomics.notify(this.#bell, 0);
  }
}

// ---------------------------------------------------------------- in a thread

let own: Mailbox | undefined;

/** Blocks until the main thread has a connection for this thread. */
export function accept(): BlockingConnection {
  if (!own) {
    own = new Mailbox(workerData);
    post(parentPort!, "runs");
  }
  own.sleep(STATE, FREE);
  return new BlockingConnection(own);
}

/** A connection, for the thread that serves it: as `Connection`, but its calls block. */
export class BlockingConnection extends Account {
  #mailbox: Mailbox;

  constructor(mailbox: Mailbox) {
    super(mailbox.get(ID));
    this.#mailbox = mailbox;
  }

  /** Blocks until there are bytes, and returns them; none are the end of the stream. See recv(2). */
  recv(): Uint8Array {
    if (this.isComplete) return new Uint8Array(0);
    const box = this.#mailbox;
    box.sleep(INBOX, EMPTY);
    const data = box.inbox.slice(0, box.get(INBOX));
    // The end of the stream stays in the inbox, for the next call.
    if (data.length > 0) box.set(INBOX, EMPTY);
    else if (this.#isBroken) this.reason ??= new TextDecoder().decode(box.failure.slice(0, box.get(FAILURE)));
    // The main thread has more, and waits for room.
    if (box.get(WANTED) === 1) box.ring();
    this.received(data);
    return data;
  }

  /** Sends all of `data`; blocks while the outbox is full. Does nothing if the connection is broken. See send(2). */
  send(data: Uint8Array): void {
    for (let sent = 0; sent < data.length && !this.#isBroken; sent += BOX) {
      this.#flush();
      const part = data.subarray(sent, sent + BOX);
      this.#mailbox.outbox.set(part);
      this.#mailbox.set(OUTBOX, part.length);
      this.#mailbox.ring();
    }
    if (!this.#isBroken) this.sent(data.length);
  }

  /** Closes the connection after the last bytes are sent, and logs why it has ended. See close(2). */
  close(): void {
    this.#flush();
    // Before it is closed: a server that stops ends when all are.
    this.end();
    this.#mailbox.set(STATE, CLOSING);
    this.#mailbox.ring();
    this.#mailbox.sleep(STATE, CLOSING);
  }

  get #isBroken(): boolean {
    return this.#mailbox.get(FAILURE) > 0;
  }

  /** Blocks until the outbox is empty. */
  #flush(): void {
    const box = this.#mailbox;
    for (let length = box.get(OUTBOX); length > 0; length = box.get(OUTBOX)) box.sleep(OUTBOX, length);
  }
}

// ---------------------------------------------------------------- in the main thread

const threads = new Set<Thread>();
const bell = new Int32Array(new SharedArrayBuffer(4));
let answering: Promise<never> | undefined;

/** What each thread does, such as `r-1 asleep in recv for #1`. */
export const doing = (): string[] => [list([...threads].map((thread) => `${thread.name} ${thread.doing()}`))];

/** How many threads there are. */
export const threadCount = (): number => threads.size;

/**
 * Why there can't be another thread, or nothing; `more` clients will have one each that has not been started. While none
 * runs there is always one to be tried: waiting would not help.
 */
export function whyNoThread(most: number, more = 0): string {
  if (threads.size + more >= most) return `${most} threads are the most`;
  return threads.size > 0 && outOfThreads() ? "no descriptors are left for another thread" : "";
}

/** Starts a thread that runs `script`, and waits until it runs, as Python's `Thread.start`. Throws as `startWorker`. */
export async function startThread(script: string, name: string): Promise<Thread> {
  const memory = residentMemory(), start = performance.now();
  answering ??= answer();
  const data = { ...threadSettings(name), memory: new SharedArrayBuffer(MAILBOX), bell }, thread = new Thread(data);
  threads.add(thread);
  try {
    (await startWorker(script, data)).ended.then((error) => thread.died(error));
  } catch (error) {
    thread.died(error);
    // Where none runs, threads.ts closes a connection for each that fails: what the last one gave back takes a moment.
    if (threads.size === 0) await pause(100);
    throw error;
  }
  const megabytes = ((residentMemory() - memory) / 1e6).toFixed(1);
  thread.cost = `${name} in ${(performance.now() - start).toFixed(1)} ms, process ${megabytes} MB larger`;
  return thread;
}

/** As `startThread`; when the thread has died, another one is started in its place. `name` gives each its name. */
export async function keepThread(script: string, name: () => string, started: (thread: Thread) => void): Promise<void> {
  const thread = await startThread(script, name());
  thread.ended.then(() => replace(() => keepThread(script, name, started)));
  started(thread);
}

/** The memory of this process that is in RAM, in bytes; NaN if there is no descriptor left to ask with. */
function residentMemory(): number {
  try {
    return process.memoryUsage().rss;
  } catch {
    return NaN;
  }
}

/** Answers all threads that have rung, and sleeps until the bell is rung again. */
async function answer(): Promise<never> {
  for (;;) {
    Atomics.store(bell, 0, 0);
    for (const thread of threads) thread.answer();
    const rung = Atomics.waitAsync(bell, 0, 0);
    // Rung again already: the sockets have their turn first.
    await (rung.async ? rung.value : new Promise((resolve) => setImmediate(resolve)));
  }
}

/** A thread, as the main thread sees it. */
export class Thread {
  readonly name: string;
  /** Its name, and what its start has cost: milliseconds, and memory. Empty until it runs. */
  cost = "";
  #end = Promise.withResolvers<void>();
  /** Resolves when the thread has ended, for whatever reason. */
  readonly ended = this.#end.promise;
  #mailbox: Mailbox;
  #served = () => {};
  #connection: Connection | null = null;
  /** What of a piece did not fit into the inbox. */
  #rest: Uint8Array | null = null;

  constructor(data: ThreadData) {
    this.name = data.name;
    this.#mailbox = new Mailbox(data);
  }

  /** Has the thread serve a connection. Resolves when the thread has closed it: never, if the thread dies. */
  serve(connection: Connection): Promise<void> {
    // The stop closes what nobody serves by then.
    if (stopping) return new Promise(() => {});
    const box = this.#mailbox;
    this.#connection = connection;
    this.#rest = null;
    // A client is not silent while its thread computes.
    connection.excused = () => ![INBOX, OUTBOX].includes(box.get(ASLEEP));
    box.set(ID, connection.id);
    box.set(INBOX, EMPTY);
    box.set(OUTBOX, EMPTY);
    box.set(FAILURE, 0);
    box.wake(STATE, BUSY);
    this.#deliver(connection);
    return new Promise((resolve) => this.#served = resolve);
  }

  /** What it does, in words. A thread that sleeps does so on the word that it waits for. */
  doing(): string {
    if (!this.cost) return "starting";
    if (this.#mailbox.get(STATE) === FREE) return "asleep in accept";
    const call = { [INBOX]: "asleep in recv", [OUTBOX]: "asleep in send" }[this.#mailbox.get(ASLEEP)] ?? "computing";
    return `${call} for #${this.#mailbox.get(ID)}`;
  }

  /** Does what the thread may have asked for. */
  answer(): void {
    const box = this.#mailbox, connection = this.#connection;
    if (!connection) return;
    if (box.get(WANTED) === 1 && box.get(INBOX) === EMPTY) this.#deliver(connection);
    this.#send(connection);
  }

  /** Puts what has come into the inbox, if there is room: if not, the thread rings once it has taken what is there. */
  #deliver(connection: Connection): void {
    const box = this.#mailbox;
    if (connection.isBroken) this.#rest = null;
    for (;;) {
      if (!this.#rest && !connection.readable) {
        connection.onReadable = () => this.#deliver(connection);
        return;
      }
      box.set(WANTED, 1);
      if (box.get(INBOX) !== EMPTY) return;
      box.set(WANTED, 0);
      const data = this.#rest ?? connection.read()!, part = data.subarray(0, BOX);
      this.#rest = data.length > BOX ? data.subarray(BOX) : null;
      box.inbox.set(part);
      if (data.length === 0) this.#tellFailure(connection);
      box.wake(INBOX, part.length);
      if (data.length === 0) return;
    }
  }

  /** Sends what is in the outbox, and closes the connection after that if the thread wants it closed. */
  #send(connection: Connection): void {
    const box = this.#mailbox, length = box.get(OUTBOX);
    if (connection.onWritable) return;
    if (length > 0) {
      // A copy: a runtime may keep what it is given for a while, and needn't take shared memory.
      connection.write(box.outbox.slice(0, length));
      if (connection.writable) this.#sent(connection);
      else connection.onWritable = () => this.#sent(connection);
    } else if (box.get(STATE) === CLOSING) {
      this.#hangUp(connection);
      box.wake(STATE, FREE);
      this.#served();
    }
  }

  #sent(connection: Connection): void {
    connection.silence = 0;
    this.#tellFailure(connection);
    this.#mailbox.wake(OUTBOX, EMPTY);
    this.#send(connection);
  }

  /** If the connection is broken, the thread is to know why. */
  #tellFailure({ reason }: Connection): void {
    if (reason === undefined) return;
    const text = new TextEncoder().encode(explain(reason)).subarray(0, REASON);
    this.#mailbox.failure.set(text);
    this.#mailbox.set(FAILURE, text.length);
  }

  #hangUp(connection: Connection): void {
    connection.onReadable = connection.onWritable = this.#connection = null;
    connection.release();
  }

  /** The thread has ended: that costs its own connection, and no other. */
  died(error: unknown): void {
    threads.delete(this);
    this.#end.resolve();
    const connection = this.#connection;
    if (!connection) return;
    log("error", connection.id, `thread ${this.name} has died:`, error);
    log("close", connection.id, "its thread died");
    this.#hangUp(connection);
  }
}
