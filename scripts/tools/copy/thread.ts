// SPDX-License-Identifier: MIT
/** Threads that block, in a copy: a thread asks the main thread, which has the sockets, and sleeps meanwhile. */

import { URL } from "node:url";
import { parentPort, Worker, workerData } from "node:worker_threads";
import { log, shown } from "./program.ts";
import type { Connection } from "./shim.ts";

/** How many bytes can be handed over at a time. */
const BOX = 65_536;

/**
 * Memory that a thread shares with the main thread: whether there is an answer
 * and the answer, both as integers, and bytes.
 */
export class Mailbox {
  readonly integers: Int32Array;
  readonly bytes: Uint8Array;

  constructor(memory: SharedArrayBuffer) {
    this.integers = new Int32Array(memory, 0, 2);
    this.bytes = new Uint8Array(memory, 8);
  }

  /** In the main thread: answers, and wakes the thread. */
  answer(answer: number): void {
    this.integers[1] = answer;
    Atomics.store(this.integers, 0, 1);
    Atomics.notify(this.integers, 0);
  }

  /** In a thread: asks for something, and sleeps until there is an answer. */
  ask(call: string, size = 0): number {
    Atomics.store(this.integers, 0, 0);
    parentPort!.postMessage({ call, size });
    // A wake-up can be stale, hence the loop.
    while (Atomics.load(this.integers, 0) === 0) {
      Atomics.wait(this.integers, 0, 0);
    }
    return this.integers[1];
  }
}

/** In a thread: blocks until there is a connection for it. */
export function accept(): BlockingConnection {
  const mailbox = new Mailbox(workerData.memory);
  return new BlockingConnection(mailbox, mailbox.ask("accept"));
}

/** A connection, for the thread that serves it: its calls block. */
export class BlockingConnection {
  #mailbox: Mailbox;
  readonly id: number;

  constructor(mailbox: Mailbox, id: number) {
    this.#mailbox = mailbox;
    this.id = id;
  }

  /** Blocks until there are bytes; none are the end of the stream. */
  recv(): Uint8Array {
    const size = this.#mailbox.ask("recv");
    const data = this.#mailbox.bytes.slice(0, size);
    if (size > 0) log("recv", this.id, shown(data));
    return data;
  }

  /** Sends all of `data`, and blocks until the kernel has taken it. */
  send(data: Uint8Array): void {
    log("send", this.id, data.length);
    this.#mailbox.bytes.set(data);
    this.#mailbox.ask("send", data.length);
  }

  /** Closes the connection. */
  close(): void {
    this.#mailbox.ask("close");
  }
}

/** A thread, as the main thread sees it. */
export class Thread {
  readonly name: string;
  cost = ""; // tag: cost
  /** Resolves when the thread runs. */
  readonly started: Promise<void>;
  /** Resolves when the thread has ended, for whatever reason. */
  readonly ended: Promise<void>;
  #mailbox: Mailbox;
  #connection: Connection | null = null;
  #unread = new Uint8Array(0);
  #free = () => {};

  /** The thread runs `script`, a module's `import.meta.url`. */
  constructor(script: string, name: string) {
    this.name = name;
    const memory = new SharedArrayBuffer(8 + BOX);
    this.#mailbox = new Mailbox(memory);
    const worker = new Worker(new URL(script), { workerData: { name, memory } });
    this.started = new Promise((resolve) => this.#free = resolve);
    worker.on("message", ({ call, size }) => this.#do(call, size));
    worker.on("error", (error) => log("error", 0, `thread ${name}: ${error}`));
    this.ended = new Promise((resolve) => worker.on("exit", () => resolve()));
    this.ended.then(() => this.#connection?.close());
  }

  /** Hands over a connection. Resolves when the thread waits for the next. */
  serve(connection: Connection): Promise<void> {
    this.#connection = connection;
    this.#mailbox.answer(connection.id);
    return new Promise((resolve) => this.#free = resolve);
  }

  /** Does what the thread asks for. */
  async #do(call: string, size: number): Promise<void> {
    const { bytes } = this.#mailbox, connection = this.#connection!;
    if (call === "accept") return this.#free();
    if (call === "recv") {
      if (this.#unread.length === 0) {
        this.#unread = new Uint8Array(await connection.recv());
      }
      size = Math.min(BOX, this.#unread.length);
      bytes.set(this.#unread.subarray(0, size));
      this.#unread = this.#unread.subarray(size);
    } else if (call === "send") await connection.send(bytes.slice(0, size));
    else {
      this.#connection = null;
      connection.close();
    }
    this.#mailbox.answer(size);
  }
}

/** Starts a thread, and waits until it runs. */
export async function startThread(script: string, name: string): Promise<Thread> {
  const start = performance.now(); // tag: cost
  const thread = new Thread(script, name);
  running++; // tag: cost
  thread.ended.then(() => running--); // tag: cost
  await thread.started;
  thread.cost = `${name} in ${(performance.now() - start).toFixed(1)} ms`; // tag: cost
  return thread;
}

/** As `startThread`; when the thread dies, another one takes its place. */
export async function keepThread(script: string, name: () => string, started: (thread: Thread) => void): Promise<void> {
  const thread = await startThread(script, name());
  thread.ended.then(() => keepThread(script, name, started));
  started(thread);
}

let running = 0;

/** How many threads there are. */
export function threadCount(): number {
  return running;
}

/** Why there can't be another thread beside those that `more` clients need. */
export function whyNoThread(most: number, more = 0): string {
  return running + more < most ? "" : `${most} threads are the most`;
}
