// SPDX-License-Identifier: MIT
/** Threads with an event loop each: how they are started, told to listen, counted and stopped. */

import { parentPort, type Worker } from "node:worker_threads";
import { closeAll, until } from "./connections.ts";
import { flushed, onStop } from "./end.ts";
import { errorCode, log } from "./log.ts";
import { ACCEPTED, MESSAGES, OPEN, type ThreadSettings, threadSettings } from "./runtime.ts";
import type { Server } from "./socket.ts";
import { keepWorker, onPost, post } from "./worker.ts";

/** What a loop's thread is told when it starts. */
interface LoopSettings extends ThreadSettings {
  port: number;
  counts: Int32Array;
}

/** What a loop says: it listens, or why it can't. */
type Answer = { code: string; message: string } | null;

/** The loops of a process. Each runs `script`, a module's `import.meta.url`; those that die are replaced. */
export class Loops {
  #script: string;
  #port: number;
  #loops = new Map<Worker, LoopSettings & { answer: Promise<Answer> }>();
  #started = 0;
  #listening = false;

  constructor(script: string, port: number) {
    this.#script = script;
    this.#port = port;
    onStop(() => this.#stop());
  }

  /** Starts one more, and waits until it runs. Throws if it can't be had. */
  start(): Promise<void> {
    const settings = () => {
      const counts = new Int32Array(new SharedArrayBuffer(12));
      return { ...threadSettings(`loop-${++this.#started}`), port: this.#port, counts };
    };
    return keepWorker(this.#script, settings, (worker, data) => {
      const { promise, resolve } = Promise.withResolvers<Answer>();
      this.#loops.set(worker, { ...data, answer: promise });
      onPost(worker, (said: Answer | "stopped") => said === "stopped" ? this.#loops.delete(worker) : resolve(said));
      if (this.#listening) this.#listen(worker).catch((error) => log("error", 0, `${data.name} cannot listen:`, error));
      return () => {
        this.#loops.delete(worker);
        // The one in its place listens.
        resolve(null);
      };
    });
  }

  /** Has all of them listen, and waits until they do. Throws why one can't. */
  async listen(): Promise<void> {
    this.#listening = true;
    await Promise.all([...this.#loops.keys()].map((worker) => this.#listen(worker)));
  }

  async #listen(worker: Worker): Promise<void> {
    post(worker, "listen");
    const failure = await this.#loops.get(worker)!.answer;
    if (failure) throw Object.assign(new Error(), failure);
  }

  /** What each has counted. */
  counts(): string[] {
    return [...this.#loops.values()].map(({ name, counts }) =>
      `${name} accepted ${counts[ACCEPTED]}, open ${counts[OPEN]}, messages ${counts[MESSAGES]}`
    );
  }

  async #stop(): Promise<void> {
    for (const worker of this.#loops.keys()) post(worker, "stop");
    await until(() => this.#loops.size === 0, 600);
  }
}

/** In the thread: waits until it is to listen, and says how that went. */
export async function listenAsLoop(bind: () => Promise<Server>): Promise<Server> {
  const told = new Promise<void>((resolve) => {
    onPost(parentPort!, (what) => {
      if (what === "stop") closeAll().then(flushed).then(() => post(parentPort!, "stopped"));
      else resolve();
    });
  });
  post(parentPort!, "ready");
  await told;
  try {
    const server = await bind();
    post(parentPort!, null);
    return server;
  } catch (error) {
    post(parentPort!, { code: errorCode(error), message: (error as Error).message });
    // The main thread ends the process.
    return new Promise(() => {});
  }
}
