// SPDX-License-Identifier: MIT
/** reactors.ts: main and sub reactors. */

import { type Runtime } from "./harness.ts";
import { testModel } from "./contract.ts";
import { checkReuse } from "./descriptors.ts";
import { checkSums, checkWait } from "./waits.ts";

testModel("reactors.ts", (runtime: Runtime) => {
  checkWait(runtime, "reactors.ts", ["--workers", "1"], /loop-1 epoll_wait 1 ready, 3 registered, 1 entries looked at/);
  checkSums(runtime, "reactors.ts", [], "epoll_wait");
  checkReuse(runtime, "reactors.ts", []);
});
