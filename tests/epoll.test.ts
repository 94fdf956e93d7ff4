// SPDX-License-Identifier: MIT
/** epoll.ts: epoll(7), level-triggered. */

import { assert } from "./assert.ts";
import { testModel } from "./contract.ts";
import { checkReuse, checkRoom } from "./descriptors.ts";
import { Client, sleep, Slow } from "./harness.ts";
import { checkPatience, checkSums, checkWait } from "./waits.ts";

testModel("epoll.ts", (test, runtime) => {
  checkWait(test, /main epoll_wait 1 ready, 4 registered, 1 entries looked at/);
  checkSums(test, "epoll_wait");
  checkReuse(test);
  checkPatience(test);
  checkRoom(test, runtime);

  test("silence is told by the clock, not by how often the server wakes up", async (server) => {
    const silent = await Client.connect(server.port), busy = await Client.connect(server.port);
    assert(await silent.echo("hello"));
    const start = performance.now();
    while (performance.now() - start < 14_000 && server.lines(/ close #1 /).length === 0) {
      assert(await busy.echo("hello"));
      await sleep(950);
    }
    const seconds = (performance.now() - start) / 1000;
    assert(seconds > 7.8, `after ${seconds} s`);
    if (seconds > 11) throw new Slow(`after ${seconds} s`);
    busy.close();
  }, ["--idle", "8"]);
});
