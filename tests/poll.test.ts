// SPDX-License-Identifier: MIT
/** poll.ts: poll(2). */

import { testModel } from "./contract.ts";
import { checkReuse } from "./descriptors.ts";
import { checkSums, checkWait } from "./waits.ts";

testModel("poll.ts", (test) => {
  checkWait(test, /main poll 1 ready, 4 entries handed over/);
  checkSums(test, "poll");
  checkReuse(test);
});
