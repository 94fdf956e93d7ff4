// SPDX-License-Identifier: MIT
/** Every model under clients with random behaviour, for a few seconds; and what soak.ts says of servers with faults. */

import { assertEquals, assertMatch } from "./assert.ts";
import { check, hasFFI, linux, type Runtime, runtimes, Slow } from "./harness.ts";
import { type Model, models } from "./models.ts";
import { crowdOf, nameOf, shrink, type Soak, soak } from "./soak.ts";

/** So many servers at a time. */
const SIDE_BY_SIDE = 8;

for (const runtime of linux ? runtimes : []) {
  check(`${runtime.name}: what every model has to bear from clients with random behaviour`, async () => {
    const waiting = models.filter(({ systemCalls }) => !systemCalls || hasFFI(runtime));
    const failures: string[] = [];
    const runAll = async () => {
      for (let model = waiting.shift(); model; model = waiting.shift()) {
        await runOne(runtime, model).catch((error: Error) => failures.push(error.message));
      }
    };
    await Promise.all(Array.from({ length: SIDE_BY_SIDE }, runAll));
    assertEquals(failures, []);
  });
}

async function runOne(runtime: Runtime, model: Model): Promise<void> {
  const seed = Math.ceil(Math.random() * 1e9), clients = Array.from({ length: crowdOf(model) }, (_, i) => i);
  const again = `deno task soak "${nameOf(model)}" --runtime ${runtime.name} --seconds 4 --seed ${seed}`;
  console.log(again);
  await soak({ runtime, model, seconds: 4, seed, clients, patience: 60 }).catch((error: Error) => {
    // With so much beside it, it may take its time to stop. The contract holds it to a second.
    if (!(error instanceof Slow)) throw new Error(`${again}\n${error.message}`);
  });
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

const crowd = Array.from({ length: 8 }, (_, i) => i);

function broken(runtime: Runtime, fault: string): Soak {
  const model = { ...models[0], script: "../tests/peers/broken.ts", args: [fault] };
  return { runtime, model, seconds: 3, seed: 7, clients: crowd, patience: 3 };
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
    assertEquals((await shrink(broken(runtime, "drop"))).length, 1);
    assertEquals((await shrink(broken(runtime, "together"))).length, 2);
  });
}
