// SPDX-License-Identifier: MIT
/** tasks.ts: a task per connection. */

import process from "node:process";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { check, Client, freePort, linux, serve, sleep, Slow, windows } from "./harness.ts";
import { testModel } from "./contract.ts";

testModel("tasks.ts", (test, runtime) => {
  const title = `${runtime.name} tasks.ts`;

  if (linux) {
    check(`${title}: it serves, though it can't write a log, nor say so`, async () => {
      const port = await freePort();
      await serve(runtime, "tasks.ts", ["--port", `${port}`], async (server) => {
        const client = await Client.served(server, port, "one");
        assert(await client.echo("two"));
        client.close();
        assertEquals(await server.stop(), 0);
      }, { output: "/dev/full", mixed: true });
    });
  }

  if (!windows) {
    test("each of four replies is sent before the next is computed", async (server) => {
      const clients = [];
      for (let i = 0; i < 4; i++) clients.push(await Client.connect(server.port));
      await server.count(/ accept #/, 4);
      // Their messages are there at the same time.
      process.kill(server.pid, "SIGSTOP");
      for (const client of clients) client.send("hello");
      await sleep(100);
      process.kill(server.pid, "SIGCONT");
      const times = await Promise.all(clients.map(async (client) => {
        await client.receive(5, 60);
        return performance.now();
      }));
      const told = (await server.count(/ (work|send) #/, 8)).map((line) => / (work|send) (#\d)/.exec(line)!);
      for (let i = 0; i < 8; i += 2) {
        assertEquals([told[i][1], told[i + 1][1], told[i][2]], ["work", "send", told[i + 1][2]]);
      }
      if (Math.max(...times) - Math.min(...times) < 300) throw new Slow("all replies have come at once");
      for (const client of clients) client.close();
    }, ["--work", "300"]);
  }

  test("the heartbeat says what each task awaits, and says it once", async (server) => {
    const clients = [];
    for (let i = 0; i < 3; i++) {
      clients.push(await Client.connect(server.port));
      assert(await clients[i].echo("hello"));
    }
    await clients[2].flood();
    assertMatch(
      await server.line(/ main tasks 3: .*send/),
      / tasks 3: #1 awaits recv, #2 awaits recv, #3 awaits send$/,
    );
    await sleep(5500);
    const beats = server.lines(/ tasks \d/).map((line) => line.replace(/.* tasks/, ""));
    for (const [i, beat] of beats.entries()) assert(beat !== beats[i + 1], `twice: ${beat}`);
    clients[2].reset();
  });
});
