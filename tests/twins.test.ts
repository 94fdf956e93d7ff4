// SPDX-License-Identifier: MIT
/** Servers with one thing wrong: the test that is there for it finds each. See twins.ts. */

import { assertEquals, assertMatch } from "./assert.ts";
import { check, hasFFI, linux, type Result, runtimes, whole } from "./harness.ts";
import { models } from "./models.ts";
import { test, titleOf, twins } from "./twins.ts";

const chosen = (linux && whole ? twins : []).filter(({ model, runtime }) => {
  const found = runtimes.find(({ name }) => name === runtime);
  const { systemCalls } = models.find(({ script }) => script === model.split(" ")[0])!;
  return found && (!systemCalls || hasFFI(found));
});

/** Most of the time they wait, so the next ones begin beside the one that is looked at. */
const begun: Promise<Result[]>[] = [];
const BESIDE = 4;

for (const [i, twin] of chosen.entries()) {
  check(`twin of ${twin.runtime} ${twin.model}: ${twin.name}`, async () => {
    for (let next = i; next < Math.min(i + BESIDE, chosen.length); next++) {
      begun[next] ??= test(chosen[next], titleOf(chosen[next], chosen[next].caught));
      begun[next].catch(() => {});
    }
    const title = titleOf(twin, twin.caught);
    let [result] = await begun[i];
    // On a busy machine a test may come to another end first.
    for (let again = 0; again < 2 && !twin.says.test(result.failure ?? ""); again++) [result] = await test(twin, title);
    assertEquals(result.title, title);
    assertMatch(result.failure ?? "the test has passed", twin.says);
  });
}
