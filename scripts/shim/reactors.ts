// SPDX-License-Identifier: MIT
/** Event loops in threads of their own, as reactors.ts has them: what is told to each, and how they start and stop. */

import { fail, log, onStop, OPEN, type ThreadSettings, threadSettings, until } from "./program.ts";
import * as sys from "./sys.ts";
import { keepWorker } from "./worker.ts";

/** What a loop's thread finds in its workerData. */
export interface Loop extends ThreadSettings {
  /** The epoll set that it waits for. It belongs to the process, and outlives the thread. */
  epoll: number;
  /** Found in the set, this descriptor is the sign to stop. */
  stop: number;
  counts: Int32Array;
}

/**
 * Starts so many threads that run `script` (a module's `import.meta.url`), named loop-1 and so on. Each has to post a
 * message when it waits for events. A thread that dies is replaced, and its clients are closed. When the server stops,
 * the loops get the sign, and the time to close their clients. Ends the process if there are no threads to be had.
 */
export async function startLoops(script: string, count: number): Promise<Loop[]> {
  // A counter that is 1 is always readable.
  const loops: Loop[] = [], stop = sys.must(sys.eventfd(1, 0));
  // One after the other: a runtime may not like to load the C library in several threads at once.
  for (let i = 1; i <= count; i++) {
    const name = `loop-${i}`, counts = new Int32Array(new SharedArrayBuffer(12));
    try {
      const loop = { ...threadSettings(name), epoll: sys.must(sys.epoll_create1(0)), stop, counts };
      // Settings of its own for each thread: the clock may have been set since.
      await keepWorker(script, () => ({ ...loop, ...threadSettings(name) }), () => () => closeClients(loop));
      loops.push(loop);
    } catch (error) {
      fail(`cannot start ${name}`, error);
    }
  }
  onStop(async () => {
    for (const { epoll } of loops) sys.epoll_ctl(epoll, sys.EPOLL_CTL_ADD, stop, sys.epollEvent(sys.EPOLLIN, stop));
    await until(() => loops.every(({ counts }) => Atomics.load(counts, OPEN) === 0));
  });
  return loops;
}

/** Closes the clients of a thread that has died. Its epoll set says which these are. */
function closeClients({ epoll, counts }: Loop): void {
  for (const { fd, number } of sys.registered(epoll)) {
    sys.close(fd);
    Atomics.sub(counts, OPEN, 1);
    log("close", number, "its thread has died");
  }
}
