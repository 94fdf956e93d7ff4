// SPDX-License-Identifier: MIT
/** What each model is there to show. */

import process from "node:process";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import {
  check,
  Client,
  hasFFI,
  linux,
  pattern,
  run,
  type Runtime,
  runtimes,
  type Script,
  serve,
  sleep,
} from "./harness.ts";

for (const runtime of runtimes) {
  portable(runtime);
  if (linux) reuseport(runtime);
  if (hasFFI(runtime)) systemCalls(runtime);
  else needsFFI(runtime);
}

/** How many lines of output match. */
function count(server: Script, pattern: RegExp): number {
  return server.output.filter((line) => pattern.test(line)).length;
}

/** Whether a client gets a reply within `seconds`. */
function replies(client: Client, seconds: number): Promise<boolean> {
  return client.echo("hello", seconds).catch(() => false);
}

function portable(runtime: Runtime): void {
  const { name } = runtime;
  const unlimited = ["--messages", "0"];

  for (const leave of ["close", "reset"] as const) {
    check(
      `${name} pool.ts: three at once; the fourth waits for a ${leave}, and gets that thread`,
      () =>
        serve(runtime, "pool.ts", unlimited, async (server) => {
          const three = [];
          for (let i = 0; i < 3; i++) three.push(await Client.connect(server.port));
          for (const client of three) assert(await client.echo("hello"));
          const fourth = await Client.connect(server.port);
          assert(!await replies(fourth, 0.7), "the fourth waits");
          await server.line(/ wait /);
          three[1][leave]();
          await fourth.receive(5);
          assertMatch(await server.line(/ accept #4 /), /first in line for [\d.]+ ms/);
          const second = /(w-\d) recv #2 /.exec(await server.line(/ recv #2 /))![1];
          assertMatch(await server.line(/ recv #4 /), new RegExp(` ${second} `));
          for (const client of [...three, fourth]) client.close();
        }),
    );
  }

  check(
    `${name} pool.ts: the same three threads for 100 clients`,
    () =>
      serve(runtime, "pool.ts", [], async (server) => {
        for (let i = 0; i < 100; i++) {
          const client = await Client.connect(server.port);
          assert(await client.echo("hello"));
          if (i % 2 === 0) client.close();
          else client.reset();
        }
        await server.line(/ close #100/);
        const names = new Set(server.output.map((line) => / (\S+) recv #/.exec(line)?.[1]).filter(Boolean));
        assertEquals([...names].sort(), ["w-1", "w-2", "w-3"]);
        assertEquals(count(server, / start w-/), 3);
      }),
  );

  check(
    `${name} threads.ts: --max-threads 2, and the third client waits`,
    () =>
      serve(runtime, "threads.ts", [...unlimited, "--max-threads", "2"], async (server) => {
        const two = [await Client.connect(server.port), await Client.connect(server.port)];
        for (const client of two) assert(await client.echo("hello"));
        const third = await Client.connect(server.port);
        assert(!await replies(third, 0.7), "the third waits");
        await server.line(/ wait /);
        assertEquals(count(server, / start #/), 2);
        two[0].close();
        await third.receive(5);
        assertMatch(await server.line(/ start #3 /), /r-3 in [\d.]+ ms, process -?[\d.]+ MB larger/);
        assertMatch(await server.line(/ threads \d/, 5), / threads 2 r-\d r-\d$/);
        for (const client of [...two, third]) client.close();
      }),
  );

  check(
    `${name} threads.ts: a blocked thread's lines appear when they happen`,
    () =>
      serve(runtime, "threads.ts", unlimited, async (server) => {
        const client = await Client.connect(server.port);
        for (const word of ["one", "two"]) {
          assert(await client.echo(word));
          // The thread blocks in the next recv by now.
          await server.line(new RegExp(` r-1 recv #1 3 "${word}"`), 2);
        }
        client.finish();
        await server.line(/ r-1 bye #1/);
        client.close();
      }),
  );

  check(
    `${name} threads.ts: 60 clients, 8 threads at most, all served; under a limit of 256 descriptors`,
    () =>
      serve(runtime, "threads.ts", ["--max-threads", "8", "--messages", "1"], async (server) => {
        const clients = await Promise.all(Array.from({ length: 60 }, () => Client.connect(server.port)));
        assertEquals(await Promise.all(clients.map((client) => replies(client, 100))), clients.map(() => true));
        await server.line(/ close #60/);
        let live = 0, most = 0;
        for (const line of server.output) {
          if (/ start #/.test(line)) most = Math.max(most, ++live);
          if (/ close #/.test(line)) live--;
        }
        assert(most <= 8, `${most} threads at a time`);
        for (const client of clients) client.close();
      }, linux ? { descriptors: 256 } : {}),
  );

  check(`${name} pool.ts: --work on two threads at the same time, in one loop one after another`, async () => {
    // Not the time that it takes: that says more about what else the machine is doing.
    const mostAtOnce = async (script: string, args: string[]) => {
      let now = 0, most = 0;
      await serve(runtime, script, [...args, "--work", "20", "--messages", "0"], async (server) => {
        const clients = await Promise.all([1, 2].map(() => Client.connect(server.port)));
        const used = linux ? server.cpu : 0;
        await Promise.all(clients.map(async (client) => {
          for (let i = 0; i < 20; i++) assert(await client.echo("hello"));
        }));
        if (linux) assert(server.cpu - used > 0.4, `40 messages of 20 ms took ${server.cpu - used} s of CPU`);
        for (const client of clients) client.close();
        assertEquals(await server.stop(), 0);
        for (const line of server.output) {
          if (/ recv #/.test(line)) most = Math.max(most, ++now);
          if (/ send #/.test(line)) now--;
        }
      });
      return most;
    };
    assertEquals(await mostAtOnce("pool.ts", ["--workers", "2"]), 2);
    assertEquals(await mostAtOnce("multiplex.ts", []), 1);
  });
}

function reuseport(runtime: Runtime): void {
  check(
    `${runtime.name} reuseport.ts: 400 connections over four loops, 15 to 35 % each`,
    () =>
      serve(runtime, "reuseport.ts", ["--workers", "4"], async (server) => {
        for (let i = 0; i < 400; i++) {
          const client = await Client.connect(server.port);
          assert(await client.echo("hello"));
          client.close();
        }
        assertEquals(await server.stop(), 0);
        // Each loop's last count: a loop may still log its last close after the main thread has printed them.
        const counts = new Map<string, number>();
        for (const line of server.output) {
          const [, loop, accepted] = / main loop (loop-\d) accepted (\d+)/.exec(line) ?? [];
          if (loop) counts.set(loop, Number(accepted));
        }
        assertEquals(counts.size, 4);
        assertEquals([...counts.values()].reduce((a, b) => a + b), 400);
        for (const accepted of counts.values()) assert(accepted >= 60 && accepted <= 140, [...counts.values()].join());
      }),
  );
}

function systemCalls(runtime: Runtime): void {
  const { name } = runtime;

  check(
    `${name} blocking.ts: the second client waits in the backlog, and the log shows it`,
    () =>
      serve(runtime, "blocking.ts", [], async (server) => {
        const first = await Client.connect(server.port);
        assert(await first.echo("hello"));
        const second = await Client.connect(server.port);
        assert(!await replies(second, 1), "the second waits");
        await server.line(/ backlog 1 waiting/, 5);
        first.close();
        await second.receive(5);
        second.close();
      }),
  );

  check(
    `${name} blocking.ts: --threads 3 blocks three threads in one accept; the fourth client waits`,
    () =>
      serve(runtime, "blocking.ts", ["--threads", "3"], async (server) => {
        const three = [];
        for (let i = 0; i < 3; i++) three.push(await Client.connect(server.port));
        for (const client of three) assert(await client.echo("hello"));
        const fourth = await Client.connect(server.port);
        assert(!await replies(fourth, 0.7), "the fourth waits");
        three[0].close();
        await fourth.receive(5);
        const names = new Set(server.output.map((line) => / (t-\d) recv #/.exec(line)?.[1]).filter(Boolean));
        assertEquals([...names].sort(), ["t-1", "t-2", "t-3"]);
        for (const client of [...three, fourth]) client.close();
      }),
  );

  check(
    `${name} nonblocking.ts: a core at 100 %, and nearly every call in vain`,
    () =>
      serve(runtime, "nonblocking.ts", [], async (server) => {
        const client = await Client.connect(server.port);
        assert(await client.echo("hello"));
        const [, made, vain] = / calls (\d+) made, (\d+) found nothing/.exec(await server.line(/ calls /, 8))!;
        assert(Number(made) > 1000 && Number(vain) > 0.9 * Number(made), `${made}, ${vain}`);
        client.close();
      }),
  );

  check(
    `${name} select.ts: 1 100 clients; those beyond the set are turned away, the others served`,
    () =>
      serve(runtime, "select.ts", [], async (server) => {
        const clients: Client[] = [];
        while (clients.length < 1100) {
          clients.push(...await Promise.all(Array.from({ length: 50 }, () => Client.connect(server.port))));
        }
        const served = (await Promise.all(clients.map((client) => replies(client, 5)))).filter(Boolean).length;
        assert(served > 900 && served < 1024, `${served} served`);
        await server.line(/ error .*(1024|FD_SETSIZE)/);
        for (const client of clients) client.close();
        await sleep(300);
        const next = await Client.connect(server.port);
        assert(await next.echo("next"));
        next.close();
      }),
  );

  for (const [script, ...args] of [["select.ts"], ["poll.ts"], ["epoll.ts"], ["epoll.ts", "--edge"], ["uring.ts"]]) {
    check(
      `${name} ${[script, ...args].join(" ")}: a reused descriptor never gets its predecessor's bytes`,
      () =>
        serve(runtime, script, [...args, "--quiet"], async (server) => {
          for (let round = 0; round < 5; round++) {
            const old = await Promise.all(Array.from({ length: 20 }, () => Client.connect(server.port)));
            for (const client of old) assert(await client.echo("hello"));
            // What follows arrives in one batch: bytes, ends, resets, and new clients that take the free numbers.
            process.kill(server.pid, "SIGSTOP");
            for (const [i, client] of old.entries()) {
              client.send("stale");
              if (i % 3 === 0) client.close();
              if (i % 3 === 1) client.reset();
            }
            const young = await Promise.all(Array.from({ length: 20 }, () => Client.connect(server.port)));
            const messages = young.map((_, i) => pattern(100, i));
            for (const [i, client] of young.entries()) client.send(messages[i]);
            await sleep(50);
            process.kill(server.pid, "SIGCONT");
            for (const [i, client] of young.entries()) {
              assertEquals(Buffer.compare(await client.receive(100), messages[i]), 0);
              assertEquals(client.received, 0);
            }
            for (const client of [...old, ...young]) client.close();
          }
        }),
    );
  }

  check(
    `${name} uring.ts: more messages at once than its rings have places`,
    () =>
      serve(runtime, "uring.ts", ["--quiet"], async (server) => {
        const clients: Client[] = [];
        while (clients.length < 3000) {
          clients.push(...await Promise.all(Array.from({ length: 100 }, () => Client.connect(server.port))));
        }
        process.kill(server.pid, "SIGSTOP");
        for (const [i, client] of clients.entries()) client.send(pattern(200, i));
        await sleep(300);
        process.kill(server.pid, "SIGCONT");
        for (const [i, client] of clients.entries()) {
          assertEquals(Buffer.compare(await client.receive(200, 30), pattern(200, i)), 0);
        }
        await sleep(100);
        assertEquals(clients.filter(({ received }) => received > 0).length, 0, "nothing twice");
        for (const client of clients) client.close();
      }),
  );
}

function needsFFI(runtime: Runtime): void {
  for (const script of ["blocking.ts", "nonblocking.ts", "select.ts", "poll.ts", "epoll.ts", "uring.ts"]) {
    check(`${runtime.name} ${script}: says in one line what it needs, exit code 1`, async () => {
      const { code, output, errors } = await run(runtime, script, ["--port", "0"]);
      assertEquals([code, output], [1, []]);
      assertMatch(errors, new RegExp(`^${script}: .*(Linux|Node 26).* is needed.*\n$`));
    });
  }
}
