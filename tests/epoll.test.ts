// SPDX-License-Identifier: MIT
/** epoll.ts: epoll(7), level-triggered. */

import { type Runtime } from "./harness.ts";
import { testModel } from "./contract.ts";
import { checkReuse, checkRoom } from "./descriptors.ts";
import { checkPatience, checkSums, checkWait } from "./waits.ts";

testModel("epoll.ts", (runtime: Runtime) => {
  checkWait(runtime, "epoll.ts", [], /main epoll_wait 1 ready, 4 registered, 1 entries looked at/);
  checkSums(runtime, "epoll.ts", [], "epoll_wait");
  checkReuse(runtime, "epoll.ts", []);
  checkPatience(runtime, "epoll.ts", []);
  checkRoom(runtime, "epoll.ts");
});
