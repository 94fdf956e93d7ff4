// SPDX-License-Identifier: MIT
/** The exercises: the broken servers are there, and naming the right behaviour finds what is wrong. */

import { assert, assertEquals, assertMatch } from "./assert.ts";
import { check, run, runtimes, whole } from "./harness.ts";
import { faults } from "./exercises/fault.ts";

const deno = runtimes.find(({ name }) => name === "deno"), fault = "../tests/exercises/fault.ts";

check("exercises: there are as many faults as their page says, each in a model of its own", () => {
  assertEquals(new Set(faults.map(({ model }) => model)).size, 4);
});

if (deno && whole) {
  check("exercises: a fault is found by the behaviour that it breaks, and by no other", async () => {
    const number = `${1 + faults.findIndex(({ model }) => model === "tasks.ts")}`;
    const wrong = await run(deno, fault, [number, "half-close"]),
      right = await run(deno, fault, [number, "--messages 3"]);
    assertEquals([wrong.code, wrong.errors], [0, ""]);
    assert(wrong.output.every((line) => line.startsWith("not this: ")), wrong.output.join("\n"));
    // Options begin with a dash, too: a server is started then, with a mistake in its command line.
    assertEquals(right.code, 2);
    const found = await run(deno, fault, [number, "closes after three exchanges"]);
    assertMatch(found.output.join("\n"), /^found! It fails: --messages 3 closes/);
  });
}
