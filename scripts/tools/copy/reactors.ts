// SPDX-License-Identifier: MIT
/** Event loops in threads of their own, in a copy. */

import * as sys from "./sys.ts";
import { startWorker } from "./worker.ts";

/** What is counted of a loop: clients that it was given, and has. */
export const ACCEPTED = 0, OPEN = 1;

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
    const counts = new Int32Array(new SharedArrayBuffer(8));
    const loop = { name: `loop-${i}`, epoll: sys.must(sys.epoll_create1(0)), counts };
    await startWorker(script, loop);
    loops.push(loop);
  }
  return loops;
}
