// SPDX-License-Identifier: MIT
/** multiplex.ts: one loop that waits for many sources. */

import { assertEquals } from "./assert.ts";
import { check, Client, pattern, serve, sleep } from "./harness.ts";
import { testModel } from "./contract.ts";
import { checkSums, checkWait } from "./waits.ts";

testModel("multiplex.ts", (test, runtime) => {
  checkWait(test, /main wait 1 ready, 4 watched: #2/);
  checkSums(test, "wait");

  check(`${runtime.name} multiplex.ts: loses nothing if the last message allowed is one that has to wait`, async () => {
    const sent = pattern(12 * 1024 * 1024);
    /** How many messages of a client that doesn't read are received, and whether it is closed meanwhile. */
    const fill = async (options: string[]) => {
      let messages = 0, isClosed = false;
      await serve(runtime, "multiplex.ts", options, async (server) => {
        const client = await Client.connect(server.port);
        client.pause();
        // In pieces of which the kernel takes about as many each time.
        for (let at = 0; at < sent.length; at += 65_536) client.send(sent.subarray(at, at + 65_536));
        await server.line(/ recv #1 /);
        for (let before = -1; before !== messages; await sleep(300)) {
          before = messages;
          messages = server.lines(/ recv #1 /).length;
        }
        isClosed = server.lines(/ close #1 /).length > 0;
        client.read();
        if (options.length === 0) return client.close();
        await client.end();
        await server.line(/ close #1 /);
        const told = server.lines(/ send #1 /).reduce((sum, line) => sum + Number(/send #1 (\d+)/.exec(line)![1]), 0);
        assertEquals(client.received, told, `--messages ${messages}`);
        assertEquals(Buffer.compare(await client.receive(told), sent.subarray(0, told)), 0, "other bytes");
        client.close();
      });
      return { messages, isClosed };
    };
    // Until the kernel takes no more, it is closed without a wait.
    const { messages } = await fill([]);
    for (let most = messages - 4; most < messages + 16; most++) {
      if (!(await fill(["--messages", `${most}`])).isClosed) return;
    }
  });
});
