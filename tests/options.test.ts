// SPDX-License-Identifier: MIT
/** Mistakes in the command line: of a script that listens with the runtime's own API, and of one with system calls. */

import { assertMistake } from "./contract.ts";
import { check, hasFFI, PATIENCE, run, runtimes } from "./harness.ts";

const mistakes = [
  ["--port", "x"],
  ["--port=-1"],
  ["operand"],
  ["--idle"],
  ["--host", "::1%lo"],
  ["--host", "[fe80::1%eth0]"],
  ["--host", "*"],
];

for (const runtime of runtimes) {
  for (const script of ["tasks.ts", "single.ts", ...hasFFI(runtime) ? ["epoll.ts"] : []]) {
    check(`${runtime.name} ${script}: each mistake in the command line is told in one line`, async () => {
      // First all of them, so that none is left running.
      const atOnce = { seconds: PATIENCE };
      const results = await Promise.all(mistakes.map((mistake) => run(runtime, script, mistake, atOnce)));
      for (const [i, result] of results.entries()) assertMistake(script, mistakes[i], result);
    });
  }
}
