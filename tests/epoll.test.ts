// SPDX-License-Identifier: MIT
/** epoll.ts: epoll(7), level-triggered. */

import { testModel } from "./contract.ts";
import { checkReuse, checkRoom } from "./descriptors.ts";
import { checkPatience, checkSums, checkWait } from "./waits.ts";

testModel("epoll.ts", (test, runtime) => {
  checkWait(test, /main epoll_wait 1 ready, 4 registered, 1 entries looked at/);
  checkSums(test, "epoll_wait");
  checkReuse(test);
  checkPatience(test);
  checkRoom(test, runtime);
});
