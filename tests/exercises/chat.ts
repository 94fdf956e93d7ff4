// SPDX-License-Identifier: MIT
/** Exercise: a chat. `scripts/chat.ts` is to send what one client says to all of them. */

import { assert, assertEquals } from "../assert.ts";
import { check, Client, runtimes, type Script, serve } from "../harness.ts";

/** Clients that are connected, and that the server has accepted. */
async function join(server: Script, count: number): Promise<Client[]> {
  const clients: Client[] = [];
  while (clients.length < count) clients.push(await Client.connect(server.port));
  await server.count(/ accept /, count);
  return clients;
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

for (const runtime of runtimes) {
  const title = `${runtime.name} chat.ts`;

  check(`${title}: all hear what one says`, () =>
    serve(runtime, "chat.ts", [], async (server) => {
      const clients = await join(server, 3);
      for (const [i, speaker] of clients.entries()) {
        speaker.send(`hello from ${i}\n`);
        for (const [j, client] of clients.entries()) {
          assertEquals([j, text(await client.receive(13, 3))], [j, `hello from ${i}`.padEnd(12) + "\n"]);
        }
      }
    }));

  check(`${title}: all hear the same, in the same order`, () =>
    serve(runtime, "chat.ts", [], async (server) => {
      const clients = await join(server, 4);
      for (let line = 10; line < 60; line++) for (const [i, client] of clients.entries()) client.send(`${i} ${line}\n`);
      const heard = [];
      for (const client of clients) heard.push(text(await client.receive(4 * 50 * 5, 5)));
      for (const other of heard) assertEquals(other, heard[0]);
      for (const i of clients.keys()) {
        const own = heard[0].split("\n").filter((line) => line.startsWith(`${i} `));
        assertEquals([i, own.length], [i, 50]);
      }
    }));

  check(
    `${title}: whoever leaves or resets is gone, and the others go on`,
    () =>
      serve(runtime, "chat.ts", [], async (server) => {
        const [first, second, third, fourth] = await join(server, 4);
        second.close();
        third.reset();
        await server.count(/ close #/, 2);
        first.send("still here");
        for (const client of [first, fourth]) assertEquals(text(await client.receive(10, 3)), "still here");
        const late = await Client.connect(server.port);
        await server.line(/ accept #5/);
        late.send("so am I");
        for (const client of [first, fourth, late]) assertEquals(text(await client.receive(7, 3)), "so am I");
        assert(!server.errors, server.errors);
      }),
  );
}
