// SPDX-License-Identifier: MIT
/** Every model under clients with random behaviour, for a few seconds; and what soak.ts says of servers with faults. */

import { assertEquals, assertMatch } from "./assert.ts";
import { check, hasFFI, linux, type Runtime, runtimes, Slow } from "./harness.ts";
import { type Model, models } from "./models.ts";
import { crowdOf, nameOf, newSeed, shrink, type Soak, soak } from "./soak.ts";

for (const runtime of linux ? runtimes : []) {
  check(`${runtime.name}: what every model has to bear from clients with random behaviour`, async () => {
    const there = models.filter(({ systemCalls }) => !systemCalls || hasFFI(runtime));
    const failures = await Promise.all(there.map((model) => failureOf(runtime, model)));
    assertEquals(failures.filter(Boolean), []);
  }, 600);
}

/**
 * Lets clients come for a few seconds, side by side with those of all other models: what went wrong. If it is not seen
 * again with the same seed, that is said, and no failure: so much beside it may make a server late for anything.
 */
async function failureOf(runtime: Runtime, model: Model, seed = newSeed(), first?: string): Promise<string | null> {
  const again = `deno task soak "${nameOf(model)}" --runtime ${runtime.name} --seconds 4 --seed ${seed}`;
  console.log(again);
  try {
    await soak({ runtime, model, seconds: 4, seed, clients: crowdOf(model), patience: 60 });
  } catch (error) {
    // With so much beside it, it may take its time to stop. The contract holds it to a second.
    if (error instanceof Slow) return null;
    const failure = `${again}\n${(error as Error).message}`;
    return first ? failure : failureOf(runtime, model, seed, failure);
  }
  if (first) console.error(`not seen again: ${first}`);
  return null;
}

/** What soak.ts says of each fault of peers/broken.ts. */
const faults: Record<string, RegExp> = {
  drop: /^client \d+, its connection \d+ \(.*\): (byte 2000 is wrong|\d+ of \d+ bytes came)/,
  leak: /^left behind: descriptors \d+ to \d+/,
  deaf: /^client \d+, its connection \d+ \(.*finish\): all has come, but no end of the stream/,
  stuck: /^client \d+, its connection \d+ \(.*\): \d+ of \d+ bytes came, ended: null/,
  crash: /^(the server is gone|client \d+, its connection )[^]*, exit code [^0][^]*\bECONNRESET\b/,
  stubborn: /^exit code and standard error/,
};

function broken(runtime: Runtime, fault: string): Soak {
  const model = { ...models[0], script: "../tests/peers/broken.ts", args: [fault] };
  return { runtime, model, seconds: 3, seed: 7, clients: crowdOf(model, 8), patience: 10 };
}

for (const runtime of linux ? runtimes.slice(0, 1) : []) {
  check(`${runtime.name} soak.ts: it says what is wrong with a server`, async () => {
    await Promise.all(
      Object.entries(faults).map(async ([fault, words]) => {
        assertMatch(await soak(broken(runtime, fault)).catch((error: Error) => error.message), words);
      }),
    );
    assertMatch(
      await soak({ ...broken(runtime, "none"), patience: 60 }),
      /^\d+ connections, \d+ MiB; descriptors \d+ to \d+, threads/,
    );
  });

  check(`${runtime.name} soak.ts: it finds the fewest clients that show a failure`, async () => {
    const [one, two] = await Promise.all(
      ["drop", "together"].map((fault) => shrink({ ...broken(runtime, fault), patience: 6 })),
    );
    assertEquals([one.length, two.length], [1, 2]);
  });
}
