// SPDX-License-Identifier: MIT
/** Threads with an event loop each, in a copy. */

import { parentPort, type Worker } from "node:worker_threads";
import { threadSettings } from "./program.ts";
import type { Server } from "./shim.ts";
import { keepWorker } from "./worker.ts";

/** The loops of a process; each runs `script`. */
export class Loops {
  #script: string;
  #port: number;
  #started = 0;
  #loops = new Map<Worker, { name: string; accepted: Int32Array }>();

  constructor(script: string, port: number) {
    this.#script = script;
    this.#port = port;
  }

  /** Starts one more, and waits until it runs. */
  start(): Promise<void> {
    const settings = () => {
      const name = `loop-${++this.#started}`;
      const accepted = new Int32Array(new SharedArrayBuffer(4));
      return { ...threadSettings(name), port: this.#port, accepted };
    };
    return keepWorker(this.#script, settings, (worker, data) => {
      this.#loops.set(worker, data);
      return () => this.#loops.delete(worker);
    });
  }

  /** Has all of them listen, and waits until they do. */
  async listen(): Promise<void> {
    for (const worker of this.#loops.keys()) {
      const listening = new Promise((resolve) => worker.once("message", resolve));
      worker.postMessage("listen");
      await listening;
    }
  }

  /** How many clients each has accepted. */
  counts(): string[] {
    return [...this.#loops.values()].map(({ name, accepted }) => `${name} accepted ${accepted[0]}`);
  }
}

/** In the thread: waits until it is to listen, and says when it does. */
export async function listenAsLoop(bind: () => Server | Promise<Server>): Promise<Server> {
  const told = new Promise((resolve) => parentPort!.once("message", resolve));
  parentPort!.postMessage("runs");
  await told;
  const server = await bind();
  parentPort!.postMessage("listens");
  return server;
}
