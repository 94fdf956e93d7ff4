// SPDX-License-Identifier: MIT
/** Workers that run the same script, and are replaced when they die. */

import { setTimeout } from "node:timers";
import { URL } from "node:url";
import { type MessagePort, SHARE_ENV, type Transferable, Worker } from "node:worker_threads";
import { outOfDescriptors } from "./descriptors.ts";
import { stopping } from "./end.ts";
import { log } from "./log.ts";
import type { ThreadSettings } from "./runtime.ts";

/** The descriptors to be had before a thread is started: it needs up to 7, and some more while it loads its code. */
const DESCRIPTORS = 16;

/** Why another thread could not be started now, or `undefined` if it could. */
export const outOfThreads = (): unknown => outOfDescriptors(DESCRIPTORS);

/** Posts a message to a thread, or from there. It bears a mark: a runtime may post messages of its own. */
export function post(to: Worker | MessagePort, message: unknown, transfer: Transferable[] = []): void {
  to.postMessage({ fromScript: message }, transfer);
}

/** Has `received` called with each message that was sent with `post`. */
export function onPost<Message>(from: Worker | MessagePort, received: (message: Message) => void): void {
  from.on("message", (data) => {
    if (data && typeof data === "object" && "fromScript" in data) received(data.fromScript);
  });
}

/**
 * Starts a thread, which runs `script` (a module's `import.meta.url`) with `data` as its workerData, and waits for its
 * first message. `ended` resolves with the reason when it ends. Throws if it can't be had, such as EMFILE: a runtime may
 * end the process if it got that far.
 */
export async function startWorker(
  script: string,
  data: ThreadSettings,
): Promise<{ worker: Worker; ended: Promise<unknown> }> {
  const error = outOfThreads();
  if (error) throw error;
  // Shared: a runtime may want a permission for copying the environment.
  const worker = new Worker(new URL(script), { name: data.name, workerData: data, env: SHARE_ENV });
  let failure: unknown;
  worker.on("error", (error: unknown) => failure = error);
  const ended = new Promise<unknown>((resolve) =>
    worker.on("exit", (code: number) => resolve(failure ?? new Error(`it ended with exit code ${code}`)))
  );
  await new Promise((resolve, reject) => {
    onPost(worker, resolve);
    ended.then(reject);
  });
  return { worker, ended };
}

/**
 * Starts a thread and calls `started`. When it dies, what that has returned is called, and another thread started in its
 * place, with new settings. Throws if the first one can't be had.
 */
export async function keepWorker<Data extends ThreadSettings>(
  script: string,
  settings: () => Data,
  started: (worker: Worker, data: Data) => () => void,
): Promise<void> {
  const data = settings(), { worker, ended } = await startWorker(script, data), died = started(worker, data);
  ended.then((error) => {
    if (stopping) return;
    log("error", 0, `thread ${data.name} has died:`, error);
    died();
    replace(() => keepWorker(script, settings, started));
  });
}

/** Calls `start`, which starts a thread in the place of one that has died, until that can be had. */
export function replace(start: () => Promise<void>): void {
  start().catch((error) => {
    log("error", 0, "a thread could not be replaced:", error);
    setTimeout(() => replace(start), 1000);
  });
}
