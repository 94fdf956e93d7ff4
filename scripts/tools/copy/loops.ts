// SPDX-License-Identifier: MIT
/** Threads with an event loop each, in a copy. */

import { once } from "node:events";
import { parentPort, type Worker } from "node:worker_threads";
import type { Server } from "./shim.ts";
import { numbers, startWorker } from "./worker.ts";

/** The loops of a process; each runs `script`. */
export class Loops {
  #script: string;
  #port: number;
  #workers: Worker[] = [];

  constructor(script: string, port: number) {
    this.#script = script;
    this.#port = port;
  }

  /** Starts one more, and waits until it runs. */
  async start(): Promise<void> {
    const name = `loop-${this.#workers.length + 1}`;
    const data = { name, numbers, port: this.#port };
    this.#workers.push(await startWorker(this.#script, data));
  }

  /** Has all of them listen, and waits until they do. */
  async listen(): Promise<void> {
    for (const worker of this.#workers) {
      worker.postMessage("listen");
      await once(worker, "message");
    }
  }
}

/** In the thread: waits until it is to listen, and says when it does. */
export async function listenAsLoop(open: () => Server | Promise<Server>): Promise<Server> {
  parentPort!.postMessage("runs");
  await once(parentPort!, "message");
  const server = await open();
  parentPort!.postMessage("listens");
  return server;
}
