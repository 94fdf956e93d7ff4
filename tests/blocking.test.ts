// SPDX-License-Identifier: MIT
/** blocking.ts: one client after another. */

import { assert, assertEquals, assertMatch } from "./assert.ts";
import { Client, sleep, Slow } from "./harness.ts";
import { testModel } from "./contract.ts";
import { interrupt } from "./waits.ts";

testModel("blocking.ts", (test) => {
  test("the steps in order, and when it sleeps in which call", async (server) => {
    await server.line(/ sleep accept for [\d.]+ ms so far$/);
    const client = await Client.connect(server.port);
    await server.line(/ sleep #1 recv for [\d.]+ ms so far$/);
    // Longer than the call's own time limit: that is one sleep all the same.
    await sleep(1300);
    assert(await client.echo("hello"));
    await server.count(/ sleep #1 recv for [\d.]+ ms so far$/, 2);
    client.finish();
    await server.line(/ close #1/);
    client.close();
    await server.count(/ sleep accept for [\d.]+ ms so far$/, 2);
    assertEquals(await server.stop(), 0);
    const told = server.output.filter((line) => !/ (wake|backlog) /.test(line)).map((line) =>
      /^listening/.exec(line)?.[0] ??
        /^ *[\d.]+ \S+ ((?:create|bind|listen|close) step \d|sleep(?: #1)? \w+|\w+(?: #1)?)/.exec(line)![1]
    );
    assertEquals(told, [
      "create step 1",
      "bind step 2",
      "listening",
      "sleep accept",
      "accept #1",
      "sleep #1 recv",
      "recv #1",
      "send #1",
      "sleep #1 recv",
      "close #1",
      "sleep accept",
      "stop",
      "close step 8",
    ]);
    assertMatch(server.output.at(-1)!, / close step 8: the listening socket$/);
  });

  test("a call that a signal interrupts is not half a second of silence", async (server) => {
    const client = await Client.connect(server.port);
    assert(await client.echo("hello"));
    await interrupt(server.pid, 25);
    assert(await client.echo("again"));
    client.close();
  }, ["--idle", "10"]);

  test("what still comes after the last message is dropped, also when a signal interrupts that", async (server) => {
    const client = await Client.connect(server.port), start = performance.now();
    assert(await client.echo("hello"));
    assertEquals(await client.end(), "end");
    await interrupt(server.pid, 3);
    assertEquals(server.lines(/ close #1/), [], "the connection is open");
    if (performance.now() - start > 900) throw new Slow("the test took too long");
    client.close();
    await server.line(/ close #1 after 1 messages$/);
  }, ["--messages", "1"]);
});
