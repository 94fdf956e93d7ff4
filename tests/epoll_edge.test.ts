// SPDX-License-Identifier: MIT
/** epoll.ts --edge: epoll(7), edge-triggered. */

import { type Runtime } from "./harness.ts";
import { testModel } from "./contract.ts";
import { checkReuse } from "./descriptors.ts";
import { checkSums, checkWait } from "./waits.ts";

testModel("epoll.ts --edge", (runtime: Runtime) => {
  const wait = /main epoll_wait 1 ready, 4 registered, 1 entries looked at/;
  checkWait(runtime, "epoll.ts", ["--edge"], wait, /main drain #2 EAGAIN( after 1 recv)?/);
  checkSums(runtime, "epoll.ts", ["--edge"], "epoll_wait");
  checkReuse(runtime, "epoll.ts", ["--edge"]);
});
