// SPDX-License-Identifier: MIT
/** Workers in a copy. */

import { URL } from "node:url";
import { type MessagePort, type Transferable, Worker } from "node:worker_threads";
import { log, type ThreadSettings } from "./program.ts";

/** Posts a message to a thread, or from there. */
export function post(to: Worker | MessagePort, message: unknown, transfer: Transferable[] = []): void {
  to.postMessage(message, transfer);
}

/** Has `received` called with each message. */
export function onPost<Message>(from: Worker | MessagePort, received: (message: Message) => void): void {
  from.on("message", received);
}

/**
 * Starts a thread that runs `script`, and waits for its first message. Calls
 * `started`, and when the thread dies what that returned: then there will be
 * another thread.
 */
export async function keepWorker<Data extends ThreadSettings>(
  script: string,
  settings: () => Data,
  started: (worker: Worker, data: Data) => () => void,
): Promise<void> {
  const data = settings();
  const worker = new Worker(new URL(script), { workerData: data });
  worker.on("error", (error) => log("error", 0, `thread ${data.name}: ${error}`));
  await new Promise((resolve) => worker.once("message", resolve));
  const died = started(worker, data);
  worker.on("exit", () => {
    died();
    keepWorker(script, settings, started);
  });
}
