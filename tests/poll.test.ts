// SPDX-License-Identifier: MIT
/** poll.ts: poll(2). */

import { type Runtime } from "./harness.ts";
import { testModel } from "./contract.ts";
import { checkReuse } from "./descriptors.ts";
import { checkSums, checkWait } from "./waits.ts";

testModel("poll.ts", (runtime: Runtime) => {
  checkWait(runtime, "poll.ts", [], /main poll 1 ready, 4 entries handed over/);
  checkSums(runtime, "poll.ts", [], "poll");
  checkReuse(runtime, "poll.ts", []);
});
