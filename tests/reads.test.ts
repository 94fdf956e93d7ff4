// SPDX-License-Identifier: MIT
/** The picture of how a message is received: what must be in it of each kind of I/O. */

import { assert, assertEquals } from "./assert.ts";
import { check, hasFFI, linux, runtimes, Slow } from "./harness.ts";
import { type Read, record } from "./reads.ts";

/**
 * The calls before the message was sent, and after it, by name. When a server has not slept for a while it gives the
 * runtime a turn first, and in Bun signals.ts then asks all its clients: that is over when half of the time has passed.
 */
function names({ begin, sent, calls }: Read): [waiting: string[], copying: string[]] {
  const half = (begin + sent) / 2;
  const names = (calls: Read["calls"]) => [...new Set(calls.map(({ name }) => name))].sort();
  return [
    names(calls.filter(({ begin, end }) => begin < sent && end > half)),
    names(calls.filter(({ end }) => end > sent)),
  ];
}

/** How long it slept in its longest call before the message was sent, as a part of all that time. */
function asleep({ begin, sent, calls }: Read): number {
  return Math.max(...calls.map((call) => Math.min(call.end, sent) - Math.max(call.begin, begin))) / (sent - begin);
}

/** What each kind must be like: the calls, and whether it sleeps. The program that looks needs FFI, too. */
const expected: Record<string, { waiting: string[]; copying: string[]; sleeps: boolean }> = {
  blocking: { waiting: ["recv"], copying: ["recv"], sleeps: true },
  nonblocking: { waiting: ["accept4", "recv"], copying: ["accept4", "recv"], sleeps: false },
  poll: { waiting: ["poll"], copying: ["poll", "recv"], sleeps: true },
  signals: { waiting: ["sigtimedwait"], copying: ["recv", "sigtimedwait"], sleeps: true },
  uring: { waiting: ["io_uring_enter"], copying: ["io_uring_enter"], sleeps: true },
};

for (const runtime of linux ? runtimes.filter(hasFFI) : []) {
  for (const [script, { waiting, copying, sleeps }] of Object.entries(expected)) {
    check(`${runtime.name} ${script}.ts: the calls by which it receives a message`, async () => {
      const read = await record(runtime, script), found = names(read);
      assert(read.begin < read.sent && read.sent < read.end);
      // On a busy machine it may still be at the message before this one.
      if (sleeps && found[0].join() !== waiting.join()) throw new Slow(`it waits in ${found[0]}`);
      // Which call the message finds is chance.
      for (const name of sleeps ? [] : found.flat()) assert(waiting.includes(name), name);
      if (sleeps) assertEquals(found[1], copying);
      if (asleep(read) > 0.9 !== sleeps) throw new Slow(`it slept ${asleep(read)} of the time`);
      if (!sleeps) assert(read.calls.length > 100, `${read.calls.length} calls`);
    });
  }
}
