// SPDX-License-Identifier: MIT
/** offload.ts: a loop for the clients, threads that compute. */

import { assert, assertEquals, assertMatch } from "./assert.ts";
import { testModel } from "./contract.ts";
import { check, Client, linux, pattern, serve, Slow } from "./harness.ts";

testModel("offload.ts", (test, runtime) => {
  test("a light message is answered while every worker computes; replies stay in order", async (server) => {
    const clients = [];
    for (let i = 0; i < 3; i++) clients.push(await Client.connect(server.port));
    const [one, two, three] = clients;
    one.send("hello");
    await server.line(/ w-\d work #1 1500 ms/);
    two.send("hello");
    await server.line(/ w-\d work #2 1500 ms/);
    assert(await three.echo("light", 60));
    // A loop that computes itself would be as late every time.
    if (server.lines(/ send #[12]/).length > 0) throw new Slow("the heavy ones were computed first");
    // A light one behind a heavy one of the same client has to wait.
    one.send("light");
    assertEquals(new TextDecoder().decode(await one.receive(10, 60)), "hellolight");
    await two.receive(5, 60);
    for (const client of clients) client.close();
  }, ["--workers", "2", "--work", "1500"]);

  test("a client for whose message there is no room is not read from, and served in the end", async (server) => {
    const clients = [], full = "; not read from while more than 1 are";
    for (let i = 0; i < 4; i++) clients.push(await Client.connect(server.port));
    const [, second, third, fourth] = clients;
    const told: string[] = [];
    for (const [i, client] of clients.entries()) {
      client.send("hello");
      told.push(await server.line(new RegExp(` (offload|queue) #${i + 1} `)));
    }
    const time = parseFloat(told[3]) - parseFloat(told[0]);
    if (time > 300) throw new Slow(`${time} ms until all had come`);
    const ends = ["offload #1 w-1", "1 in line", `2 in line${full}`, `3 in line${full}`];
    for (const [i, line] of told.entries()) assert(line.endsWith(ends[i]), line);
    second.reset();
    fourth.send("again");
    for (const [client, size] of [[third, 5], [fourth, 10]] as const) await client.receive(size, 30);
    // Were the fourth read from, there would be its second message, too.
    assertMatch(await server.line(/ offload #3 w-1 after/), / after [\d.]+ ms in line, 1 wait now$/);
    assertEquals(server.lines(/ offload #2 /), [], "what a client has asked for that has left is not computed");
    // It stops while a client waits for the reply to its first message, and has sent a second one.
    const before = server.lines(/ (offload|queue) #1/).length;
    for (let i = 1; i <= 2; i++) {
      clients[0].send("hello");
      await server.count(/ (offload|queue) #1/, before + i);
    }
    assertEquals(await server.stop(), 0);
    for (const [id, reason] of server.reasons()) if (id !== 2) assertEquals(reason, "the server stops", `#${id}`);
    for (const client of clients) client.close();
  }, ["--workers", "1", "--queue", "1", "--work", "1000"]);

  if (linux) {
    test("what is handed over is moved, whatever its size", async (server) => {
      const client = await Client.connect(server.port), message = pattern(16 << 20);
      client.read();
      const used = server.cpu;
      client.send(message);
      const received = await client.receive(message.length, 120);
      assertEquals(Buffer.compare(received, message), 0);
      // Copied by a call that looks at every byte, it takes 2 s.
      assert(server.cpu - used < 1.2, `${server.cpu - used} s of CPU for 16 MiB`);
      client.close();
    }, ["--quiet"]);
  }

  check(`${runtime.name} offload.ts: stops while clients connect`, async () => {
    for (let round = 0; round < 8; round++) {
      await serve(runtime, "offload.ts", [], async (server) => {
        const clients: Client[] = [];
        const timer = setInterval(() => {
          for (let i = 0; i < 10; i++) clients.push(new Client(server.port));
          clients.at(-20)?.close();
        }, 1);
        try {
          await server.count(/ accept #/, 200);
          assertEquals([await server.stop("SIGINT"), server.errors], [0, ""]);
        } finally {
          clearInterval(timer);
        }
        for (const client of clients) client.close();
      });
    }
  });
});
