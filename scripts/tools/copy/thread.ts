// SPDX-License-Identifier: MIT
/** Threads that block, in a copy: a thread asks the main thread, which has the sockets, and sleeps meanwhile. */

import { once } from "node:events";
import { URL } from "node:url";
import { MessageChannel, parentPort, receiveMessageOnPort, Worker, workerData } from "node:worker_threads";
import { log } from "./worker.ts";
import type { Connection } from "./shim.ts";

/** In a thread: asks the main thread for something, and sleeps until then. */
function ask(call: string, data?: Uint8Array) {
  const { port, answers } = workerData;
  parentPort!.postMessage({ call, data });
  // Blocks while there are 0 answers.
  Atomics.wait(answers, 0, 0);
  Atomics.store(answers, 0, 0);
  return receiveMessageOnPort(port)!.message;
}

/** In a thread: blocks until there is a connection for it, as its calls do. */
export function accept() {
  const id: number = ask("accept");
  return {
    id,
    /** Returns bytes; none are the end of the stream. */
    recv(): Uint8Array {
      const data = ask("recv");
      if (data.length > 0) log("recv", id, data.length);
      return data;
    },
    /** Returns when the kernel has taken all of `data`. */
    send(data: Uint8Array): void {
      log("send", id, data.length);
      ask("send", data);
    },
    close: (): void => ask("close"),
  };
}

export type BlockingConnection = ReturnType<typeof accept>;

/** A thread, as the main thread sees it. */
export class Thread {
  readonly name: string;
  /** Resolves when the thread waits for its first connection. */
  readonly started: Promise<void>;
  readonly ended: Promise<unknown>; // only threads
  cost = ""; // only threads
  #answers = new Int32Array(new SharedArrayBuffer(4));
  #channel = new MessageChannel();
  #connection!: Connection;
  #free = () => {};

  /** The thread runs `script`, a module's `import.meta.url`. */
  constructor(script: string, name: string) {
    this.name = name;
    const { port2: port } = this.#channel, answers = this.#answers;
    const worker = new Worker(new URL(script), {
      workerData: { name, port, answers },
      transferList: [port],
    });
    worker.on("message", async ({ call, data }) => {
      const calls = this.#connection;
      if (call === "accept") this.#free();
      else this.#answer(await calls[call as "recv" | "send" | "close"](data));
    });
    this.started = new Promise((resolve) => this.#free = resolve);
    this.ended = once(worker, "exit"); // only threads
  }

  /** Hands over a connection. Resolves when the thread waits for the next. */
  serve(connection: Connection): Promise<void> {
    this.#connection = connection;
    this.#answer(connection.id);
    return new Promise((resolve) => this.#free = resolve);
  }

  #answer(answer: unknown): void {
    this.#channel.port1.postMessage(answer);
    Atomics.store(this.#answers, 0, 1);
    Atomics.notify(this.#answers, 0);
  }
}

/** Starts a thread, and waits until it runs. */
export async function startThread(script: string, name: string): Promise<Thread> {
  const start = performance.now(); // only threads
  const thread = new Thread(script, name);
  running++; // only threads
  thread.ended.then(() => running--); // only threads
  await thread.started;
  thread.cost = `${name} in ${(performance.now() - start).toFixed()} ms`; // only threads
  return thread;
}

/** Starts a thread, waits until it runs, and passes it on. */
export async function keepThread(script: string, name: () => string, started: (thread: Thread) => void): Promise<void> {
  const thread = new Thread(script, name());
  await thread.started;
  started(thread);
}

let running = 0;

/** Why there can't be another thread beside those that `more` clients need. */
export function whyNoThread(most: number, more = 0): string {
  return running + more < most ? "" : `${most} threads are the most`;
}

/** Prints why a client has to wait, unless there is no reason to. */
export function logInLine(what: string, id: number, why: string, n: number): void {
  if (why) log(what, id, `${why}, ${n} in line`);
}
