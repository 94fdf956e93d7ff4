// SPDX-License-Identifier: MIT
/** Event loops in threads of their own, in a copy. */

import { URL } from "node:url";
import { Worker } from "node:worker_threads";
import { log } from "./program.ts";
import * as sys from "./sys.ts";

/** What a loop's thread finds in its workerData. */
export interface Loop {
  name: string;
  /** The epoll set that it waits for: it belongs to the process. */
  epoll: number;
  /** Counts, in memory that all threads see. */
  counts: Int32Array;
}

/** Starts so many threads that run `script`, and waits until they do. */
export async function startLoops(script: string, count: number): Promise<Loop[]> {
  const loops: Loop[] = [];
  for (let i = 1; i <= count; i++) {
    const counts = new Int32Array(new SharedArrayBuffer(12));
    const epoll = sys.must(sys.epoll_create1(0)), name = `loop-${i}`;
    const worker = new Worker(new URL(script), { workerData: { name, epoll, counts } });
    worker.on("error", (error) => log("error", 0, `thread ${name}: ${error}`));
    await new Promise((resolve) => worker.once("message", resolve));
    loops.push({ name, epoll, counts });
  }
  return loops;
}
