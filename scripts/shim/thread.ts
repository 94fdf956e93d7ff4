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

import { workerData } from "node:worker_threads";
import { errorCode, log, onStop, type ThreadSettings, threadSettings } from "./program.ts";
import type { Connection } from "./shim.ts";
import { startWorker } from "./worker.ts";

/** How many bytes fit into an inbox, or an outbox. */
const BOX = 65_536;
/** The words a mailbox begins with, by index. One side changes them, the other may sleep until they change. */
const STATE = 0, RUNG = 1, INBOX = 2, OUTBOX = 3, WANTED = 4, ASLEEP = 5, FAILURE = 6, ID = 7, WORDS = 8;
/** STATE: the thread is starting, waits for a connection, serves one, or wants that closed. */
const STARTING = 0, FREE = 1, BUSY = 2, CLOSING = 3;
/** INBOX, OUTBOX: how many bytes are in it (in the inbox 0 is the end of the stream), or what else is to be known. */
const EMPTY = -1, FAILED = -2;

/** What a thread is told when it starts. */
interface ThreadData extends ThreadSettings {
  memory: SharedArrayBuffer;
  bell: Int32Array;
}

/** The memory that a thread shares with the main thread. */
class Mailbox {
  readonly words: Int32Array;
  readonly inbox: Uint8Array;
  readonly outbox: Uint8Array;
  /** Why the connection is broken: FAILURE says how many bytes that is. */
  readonly failure: Uint8Array;

  constructor(memory: SharedArrayBuffer) {
    this.words = new Int32Array(memory, 0, WORDS);
    this.inbox = new Uint8Array(memory, 4 * WORDS, BOX);
    this.outbox = new Uint8Array(memory, 4 * WORDS + BOX, BOX);
    this.failure = new Uint8Array(memory, 4 * WORDS + 2 * BOX);
  }

  static allocate(): SharedArrayBuffer {
    return new SharedArrayBuffer(4 * WORDS + 2 * BOX + 1024);
  }

  get(word: number): number {
    return Atomics.load(this.words, word);
  }

  set(word: number, value: number): void {
    Atomics.store(this.words, word, value);
  }

  /** Changes a word, and wakes the thread if that is what it sleeps on. */
  wake(word: number, value: number): void {
    this.set(word, value);
    Atomics.notify(this.words, word);
  }

  /** Sleeps as long as a word has this value. A wake-up can be stale, hence the loop. */
  sleep(word: number, value: number): void {
    if (this.get(word) !== value) return;
    this.set(ASLEEP, word);
    while (this.get(word) === value) Atomics.wait(this.words, word, value);
    this.set(ASLEEP, -1);
  }
}

// ---------------------------------------------------------------- in a thread

/** The thread that this is executed in, and that `Threads` has started. */
export class CurrentThread {
  #mailbox: Mailbox;
  #bell: Int32Array;

  constructor() {
    const data = workerData as ThreadData;
    this.#mailbox = new Mailbox(data.memory);
    this.#bell = data.bell;
  }

  /** Blocks until the main thread has a connection for this thread. */
  accept(): BlockingConnection {
    if (this.#mailbox.get(STATE) === STARTING) {
      this.#mailbox.set(STATE, FREE);
      this.ring();
    }
    this.#mailbox.sleep(STATE, FREE);
    return new BlockingConnection(this.#mailbox.get(ID), this.#mailbox, this);
  }

  /** Asks the main thread to look into the mailbox. One bell serves all threads: only the first must wake it. */
  ring(): void {
    if (Atomics.exchange(this.#mailbox.words, RUNG, 1) === 1) return;
    if (Atomics.exchange(this.#bell, 0, 1) === 0) Atomics.notify(this.#bell, 0);
  }
}

/** A connection, for the thread that serves it: as `Connection`, but its calls block. */
export class BlockingConnection {
  /** Counts the connections of the process, from 1. */
  readonly id: number;
  #mailbox: Mailbox;
  #thread: CurrentThread;
  #closed = false;

  constructor(id: number, mailbox: Mailbox, thread: CurrentThread) {
    this.id = id;
    this.#mailbox = mailbox;
    this.#thread = thread;
  }

  /**
   * Blocks until there are bytes, and returns them; an empty array is the end of the stream. Throws what the
   * connection failed with, such as ECONNRESET, or was aborted for. See recv(2).
   */
  recv(): Uint8Array {
    this.#requireOpen();
    this.#mailbox.sleep(INBOX, EMPTY);
    const length = this.#mailbox.get(INBOX);
    if (length === FAILED) throw this.#failure();
    const data = this.#mailbox.inbox.slice(0, length);
    // The end of the stream stays in the inbox, for the next call.
    // Nor is a failure overwritten that has come meanwhile.
    if (length > 0) Atomics.compareExchange(this.#mailbox.words, INBOX, length, EMPTY);
    // The main thread has more, and waits for room.
    if (this.#mailbox.get(WANTED) === 1) this.#thread.ring();
    return data;
  }

  /**
   * Sends all of `data`: send(2) in a loop, Python's `sendall`. As in C it returns once the last bytes are in the
   * buffer, and blocks while that is full. Throws what the connection failed with.
   */
  send(data: Uint8Array): void {
    this.#requireOpen();
    for (let sent = 0; sent < data.length; sent += BOX) {
      if (this.#flush() === FAILED) throw this.#failure();
      const part = data.subarray(sent, sent + BOX);
      this.#mailbox.outbox.set(part);
      this.#mailbox.set(OUTBOX, part.length);
      this.#thread.ring();
    }
  }

  /** Closes both directions, after the last bytes are sent. Closing twice does nothing. See close(2). */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#flush();
    this.#mailbox.set(STATE, CLOSING);
    this.#thread.ring();
    this.#mailbox.sleep(STATE, CLOSING);
  }

  /** Blocks until the outbox is empty, or the connection broken, and says which. */
  #flush(): number {
    let length = this.#mailbox.get(OUTBOX);
    for (; length > 0; length = this.#mailbox.get(OUTBOX)) this.#mailbox.sleep(OUTBOX, length);
    return length;
  }

  #requireOpen(): void {
    // The mailbox may be another connection's by now.
    if (this.#closed) throw new Error("the connection is closed");
  }

  #failure(): Error {
    const text = new TextDecoder().decode(this.#mailbox.failure.slice(0, this.#mailbox.get(FAILURE)));
    const [code, message] = text.split("\n");
    return Object.assign(new Error(message), { code });
  }
}

// ---------------------------------------------------------------- in the main thread

/** So many clients may stand in line. The next ones wait in the backlog of the listening socket, unseen. */
const LONGEST_LINE = 100;

/** Clients that are connected and wait for a thread: first come, first served. */
export class Line {
  #waiting: { connection: Connection; since: number; waits: boolean }[] = [];
  #onLeft = () => {};

  constructor() {
    onStop(() => {
      for (const { connection } of this.#waiting.splice(0)) {
        connection.close();
        log("close", connection.id, "the server stops");
      }
    });
  }

  get length(): number {
    return this.#waiting.length;
  }

  /**
   * Puts a client in line. If there is a reason `why` it has to wait, the log says so. Waits while the line is too
   * long.
   */
  async join(connection: Connection, why: string): Promise<void> {
    this.#waiting.push({ connection, since: performance.now(), waits: why !== "" });
    if (why) log("wait", connection.id, `${why}, ${this.length} in line`);
    while (this.length >= LONGEST_LINE) await new Promise<void>((resolve) => this.#onLeft = resolve);
  }

  /** Puts a client back that was the first in line, and again is: there is nothing for it yet. */
  putBack(connection: Connection, since: number, why: string): void {
    this.#waiting.unshift({ connection, since, waits: true });
    log("wait", connection.id, `${why}, ${this.length} in line`);
  }

  /** Takes the first client out of the line; there must be one. `waited` is for the log, if it had to wait. */
  leave(): { connection: Connection; since: number; waited: string[] } {
    const { connection, since, waits } = this.#waiting.shift()!;
    this.#onLeft();
    const waited = `after ${(performance.now() - since).toFixed(1)} ms in line, ${this.length} wait now`;
    return { connection, since, waited: waits ? [waited] : [] };
  }
}

/** The threads that a script has started, all of which ring the same bell. */
export class Threads {
  #script: string;
  #threads = new Set<Thread>();
  #bell = new Int32Array(new SharedArrayBuffer(4));

  /** Each thread runs `script`, a module's `import.meta.url`. */
  constructor(script: string) {
    this.#script = script;
    this.#answer();
  }

  get size(): number {
    return this.#threads.size;
  }

  /** What each thread does, such as `r-1 asleep in recv for #1`. */
  doing(): string[] {
    return [...this.#threads].map((thread) => `${thread.name} ${thread.doing()}`);
  }

  /**
   * Starts a thread and waits until it runs, as Python's `Thread.start` does. Throws if it can't be had, such as
   * EMFILE when no descriptors are left for it (in which case a runtime may end the process, if it got that far).
   */
  async start(name: string): Promise<Thread> {
    const thread = new Thread(this.#script, { ...threadSettings(name), memory: Mailbox.allocate(), bell: this.#bell });
    this.#threads.add(thread);
    thread.ended.then(() => this.#threads.delete(thread));
    await thread.started;
    return thread;
  }

  /** Serves all that have rung, and sleeps until the bell is rung again. */
  async #answer(): Promise<void> {
    for (;;) {
      Atomics.store(this.#bell, 0, 0);
      for (const thread of this.#threads) thread.answer();
      const rung = Atomics.waitAsync(this.#bell, 0, 0);
      // Rung again already: the sockets have their turn first.
      await (rung.async ? rung.value : new Promise((resolve) => setImmediate(resolve)));
    }
  }
}

/** A thread, as the main thread sees it. */
export class Thread {
  readonly name: string;
  /** Resolves when the thread runs; rejects if it never does. */
  readonly started: Promise<void>;
  /** Resolves when the thread has ended, for whatever reason. */
  readonly ended: Promise<void>;
  #mailbox: Mailbox;
  #onStarted = () => {};
  #served: PromiseWithResolvers<void> | null = null;
  #connection: Connection | null = null;
  #sending = false;
  /** What has been received, and has no place in the inbox yet. */
  #unread: Uint8Array | null = null;

  constructor(script: string, data: ThreadData) {
    this.name = data.name;
    this.#mailbox = new Mailbox(data.memory);
    const { ended } = startWorker(script, data);
    this.ended = ended.catch((error) => this.#hangUp(error));
    this.started = Promise.race([ended, new Promise<void>((resolve) => this.#onStarted = resolve)]);
  }

  /**
   * Has the thread serve a connection. Resolves when the thread has closed it; rejects if it has died, which closes it.
   */
  serve(connection: Connection): Promise<void> {
    this.#connection = connection;
    const served = this.#served = Promise.withResolvers<void>();
    // A client is not silent while its thread computes.
    connection.excused = () => ![INBOX, OUTBOX].includes(this.#mailbox.get(ASLEEP));
    this.#mailbox.set(ID, connection.id);
    this.#mailbox.set(INBOX, EMPTY);
    this.#mailbox.set(OUTBOX, EMPTY);
    this.#mailbox.wake(STATE, BUSY);
    this.#receive(connection);
    // The thread may have closed it already.
    return served.promise;
  }

  /** What it does, in words. A thread that sleeps does so on the word that it waits for. */
  doing(): string {
    if (this.#mailbox.get(STATE) < BUSY) return this.#mailbox.get(STATE) === FREE ? "asleep in accept" : "starting";
    const call = { [INBOX]: "asleep in recv", [OUTBOX]: "asleep in send" }[this.#mailbox.get(ASLEEP)] ?? "computing";
    return `${call} for #${this.#mailbox.get(ID)}`;
  }

  /** Does what the thread has asked for since it was last called. */
  answer(): void {
    if (Atomics.exchange(this.#mailbox.words, RUNG, 0) === 0) return;
    if (!this.#connection) return this.#onStarted();
    if (this.#unread) this.#deliver(this.#connection);
    this.#send(this.#connection);
  }

  /**
   * Asks the socket for bytes. One piece is received ahead: then the inbox is full, and the rest stays in the kernel.
   */
  #receive(connection: Connection): void {
    connection.recvThen((data) => {
      if (connection !== this.#connection) return;
      this.#unread = data;
      this.#deliver(connection);
    }, (error) => this.#fail(INBOX, connection, error));
  }

  /**
   * Puts what was received into the inbox, if there is room: if not, the thread rings once it has taken what is there.
   */
  #deliver(connection: Connection): void {
    this.#mailbox.set(WANTED, 1);
    if (this.#mailbox.get(INBOX) !== EMPTY) return;
    this.#mailbox.set(WANTED, 0);
    const data = this.#unread!.subarray(0, BOX);
    this.#unread = this.#unread!.length > BOX ? this.#unread!.subarray(BOX) : null;
    this.#mailbox.inbox.set(data);
    this.#mailbox.wake(INBOX, data.length);
    if (this.#unread) this.#deliver(connection);
    else if (data.length > 0) this.#receive(connection);
  }

  /** Sends what is in the outbox, and closes the connection after that if the thread wants it closed. */
  #send(connection: Connection): void {
    if (this.#sending || connection !== this.#connection) return;
    const length = this.#mailbox.get(OUTBOX);
    if (length > 0) {
      this.#sending = true;
      // A copy: a runtime may keep what it is given for a while, and needn't take shared memory.
      connection.sendThen(this.#mailbox.outbox.slice(0, length), () => {
        this.#sending = false;
        if (connection !== this.#connection) return;
        this.#mailbox.wake(OUTBOX, EMPTY);
        this.#send(connection);
      }, (error) => {
        this.#sending = false;
        this.#fail(OUTBOX, connection, error);
      });
    } else if (this.#mailbox.get(STATE) === CLOSING) {
      this.#hangUp();
      this.#mailbox.wake(STATE, FREE);
    }
  }

  #fail(word: number, connection: Connection, error: unknown): void {
    if (connection !== this.#connection) return;
    const text = new TextEncoder().encode(`${errorCode(error)}\n${(error as Error).message}`).subarray(0, 1024);
    this.#mailbox.failure.set(text);
    this.#mailbox.set(FAILURE, text.length);
    this.#mailbox.wake(word, FAILED);
    this.#send(connection);
  }

  /** Closes the connection, because the thread wants that or because it has died, of `error`. */
  #hangUp(error?: unknown): void {
    this.#connection?.close();
    this.#connection = this.#unread = null;
    if (error) this.#served?.reject(error);
    else this.#served?.resolve();
    this.#served = null;
  }
}
