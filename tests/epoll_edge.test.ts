// SPDX-License-Identifier: MIT
/** epoll.ts --edge: epoll(7), edge-triggered. */

import { testModel } from "./contract.ts";
import { checkReuse } from "./descriptors.ts";
import { checkSums, checkWait } from "./waits.ts";

testModel("epoll.ts --edge", (test) => {
  const wait = /main epoll_wait 1 ready, 4 registered, 1 entries looked at/;
  checkWait(test, wait, /main drain #2 EAGAIN( after 1 recv)?/);
  checkSums(test, "epoll_wait");
  checkReuse(test);
});
