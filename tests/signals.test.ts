// SPDX-License-Identifier: MIT
/** signals.ts: signal-driven I/O. */

import process from "node:process";
import { assert, assertEquals } from "./assert.ts";
import { check, Client, serve, sleep } from "./harness.ts";
import { testModel } from "./contract.ts";
import { checkReuse } from "./descriptors.ts";
import { checkSums, checkWait } from "./waits.ts";

testModel("signals.ts", (test, runtime) => {
  // Under Bun a signal that comes while the runtime has its turn is lost, and with it the line.
  if (runtime.name !== "bun") {
    checkWait(test, /main sigtimedwait 1 signal, descriptor \d+ \(#2\), POLL_IN/, /main drain #2 EAGAIN/);
  }
  checkSums(test, "sigtimedwait");
  checkReuse(test);

  check(`${runtime.name} signals.ts: when the queue of signals overflows, every socket is asked`, () => {
    const command = ["bash", "-c", 'ulimit -i 20; exec "$@"', "bash", ...runtime.command];
    return serve({ ...runtime, command }, "signals.ts", [], async (server) => {
      const clients = await Promise.all(Array.from({ length: 60 }, () => Client.connect(server.port)));
      for (const client of clients) assert(await client.echo("hello"));
      process.kill(server.pid, "SIGSTOP");
      for (const client of clients) client.send("again");
      await sleep(200);
      process.kill(server.pid, "SIGCONT");
      for (const client of clients) assertEquals(new TextDecoder().decode(await client.receive(5)), "again");
      // Bun loses this signal, too, and then asks all of them.
      if (runtime.name !== "bun") await server.line(/ main overflow SIGIO: 61 sockets asked$/);
      for (const client of clients) client.close();
    });
  });
});
