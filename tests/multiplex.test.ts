// SPDX-License-Identifier: MIT
/** multiplex.ts: one loop that waits for many sources. */

import { type Runtime } from "./harness.ts";
import { testModel } from "./contract.ts";
import { checkSums, checkWait } from "./waits.ts";

testModel("multiplex.ts", (runtime: Runtime) => {
  checkWait(runtime, "multiplex.ts", [], /main wait 1 ready, 4 watched: #2/);
  checkSums(runtime, "multiplex.ts", [], "wait");
});
