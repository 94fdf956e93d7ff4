// SPDX-License-Identifier: MIT
/** prefork.ts: processes made beforehand, which accept from one listening socket. */

import { readdirSync, readFileSync } from "node:fs";
import process from "node:process";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { testModel } from "./contract.ts";
import { check, Client, Pipe, type Script, serve, sleep, until, whole } from "./harness.ts";
import { childOf, children, isRunning } from "./children.ts";

/** The processes that serve at present, by their places; all of them accept by now. */
async function ready(server: Script, count: number): Promise<Map<string, number>> {
  assert(
    await until(() =>
      server.lines(/ ready /).length >= server.lines(/ start p-/).length && running(server).size === count
    ),
    `${[...running(server)]} run`,
  );
  return running(server);
}

/** Which processes have been started last, by their places, and have not ended. */
function running(server: Script): Map<string, number> {
  const found = new Map<string, number>();
  for (const line of server.lines(/ (start|end) p-/)) {
    const [, event, place, pid] = / (start|end) (p-\d+)(?: process (\d+))?/.exec(line)!;
    if (event === "start") found.set(place, Number(pid));
    else found.delete(place);
  }
  return found;
}

/** Which process has received from each client, by the client's number. */
function served(server: Script): Map<number, string> {
  const found = server.lines(/ recv #/).map((line) => / (p-\d+) recv #(\d+) /.exec(line)!);
  return new Map(found.map(([, place, id]) => [Number(id), place]));
}

const ACCEPT4 = process.arch === "arm64" ? "242" : "288";

/** The numbers of the system calls that the threads of a process are in. See proc_pid_syscall(5). */
function callsOf(pid: number): string[] {
  return readdirSync(`/proc/${pid}/task`).map((id) =>
    readFileSync(`/proc/${pid}/task/${id}/syscall`, "utf8").split(" ")[0]
  );
}

/**
 * With `--pass`: waits until the parent's poll has found as much to be ready as that, each child that said it was free
 * and each client that connected; what is over ten lines comes in a sum, at the end of a second.
 */
async function heard(server: Script, count: number): Promise<void> {
  const ready = () =>
    server.lines(/ main poll /).reduce((sum, line) => sum + Number(/ (\d+) ready, /.exec(line)![1]), 0);
  assert(await until(() => ready() === count), `${ready()} instead of ${count} were found to be ready`);
}

// A copy has no `--pass`.
for (const mode of whole ? [[], ["--pass"]] : [[]]) {
  testModel(["prefork.ts", ...mode].join(" "), (test, runtime) => {
    const title = `${runtime.name} ${["prefork.ts", ...mode].join(" ")}`;

    test("three at once, by three processes; the fourth waits in the backlog", async (server) => {
      await ready(server, 3);
      const three = [];
      for (let i = 0; i < 3; i++) three.push(await Client.connect(server.port));
      for (const client of three) assert(await client.echo("hello"));
      const fourth = await Client.connect(server.port);
      fourth.send("hello");
      await server.line(/ backlog 1 waiting to be accepted$/);
      assertEquals(fourth.received, 0);
      three[1].close();
      await fourth.receive(5);
      const places = served(server);
      assertEquals([1, 2, 3].map((id) => places.get(id)).sort(), ["p-1", "p-2", "p-3"]);
      assertMatch(
        await server.line(/ children 3: .*serves/),
        / children 3: (p-\d accepted \d(, serves #\d)?(, )?){3}$/,
      );
      for (const client of [...three, fourth]) client.close();
      await server.allClosed();
    });

    // At its full length once, which is long enough for a restart of each; the other runtimes and the other way in which
    // clients come to a process are no different in this.
    const [kills, pause, least] = mode.length === 0 && runtime.name === "bun" ? [10, 1000, 200] : [3, 400, 30];
    test("a process that dies costs its client, and is replaced; no zombie", async (server) => {
      const pids = await ready(server, 4);
      let visits = 0, lost = 0, killed = 0;
      // Eight clients at a time, more than there are processes, until as many were killed as are to be.
      const visit = async () => {
        const number = ++visits, client = await Client.connect(server.port);
        for (let i = 0; i < 5; i++) {
          if (!await client.echo(`client ${number}, ${i}`, 60).catch(() => false)) return void lost++;
          await sleep(20);
        }
        client.close();
      };
      const crowds = Promise.all(Array.from({ length: 8 }, async () => {
        while (visits < least || killed < kills) await visit();
      }));
      while (killed < kills) {
        await sleep(pause);
        process.kill(running(server).values().next().value!, "SIGKILL");
        await server.count(/ end p-\d: its process was ended by SIGKILL$/, ++killed);
      }
      await crowds;
      assert(lost <= killed, `${killed} processes were killed, and ${lost} clients lost`);
      const after = await ready(server, 4);
      assert([...after.values()].some((pid) => ![...pids.values()].includes(pid)), "others run");
      assert(await until(() => children(server).length === 4), `${children(server)}`);
      assertEquals(children(server).filter((state) => state === "Z"), []);
      assertEquals(server.lines(/ end p-\d: its process was ended by SIGKILL$/).length, killed);
      const reasons = [...(await server.allClosed()).values()].filter((reason) => reason !== "by the client");
      for (const reason of reasons) assertEquals(reason, "its process was ended by SIGKILL");
      assert(reasons.length <= killed, `${killed} processes were killed, and of ${reasons.length} clients`);
    }, ["--processes", "4"]);

    test("SIGHUP replaces all, one by one, after their clients, and refuses nobody", async (server) => {
      const before = await ready(server, 3);
      const held = await Client.connect(server.port);
      assert(await held.echo("hello"));
      const [, place] = / (p-\d) recv #1 /.exec(await server.line(/ recv #1 /))!;
      process.kill(server.pid, "SIGHUP");
      let done = false, count = 0;
      const crowds = Promise.all(Array.from({ length: 4 }, async () => {
        for (; !done; count++) {
          const client = await Client.connect(server.port);
          assert(await client.echo("hello", 60));
          client.finish();
          assertEquals(await client.end(), "end");
          client.close();
        }
      }));
      try {
        await server.line(new RegExp(` replace ${place} `));
        await sleep(1000);
        assertEquals(running(server).get(place), before.get(place), "it serves its client");
        assert(await held.echo("world"));
        held.close();
        assert(await until(() => server.lines(/ end p-\d: it has left$/).length === 3), "all have left");
      } finally {
        done = true;
        await crowds;
      }
      const after = await ready(server, 3);
      for (const [place, pid] of after) assert(pid !== before.get(place), `${place} is as before`);
      assert(count > 0);
      for (const reason of (await server.allClosed()).values()) assertEquals(reason, "by the client");
      // One at a time: another is told only when there is a replacement.
      const events = server.output.flatMap((line) =>
        / (replace p|ready) /.exec(line.replace(/(e p)-\d/, "$1"))?.[1] ?? []
      );
      assertEquals(events.slice(3), Array(3).fill(["replace p", "ready"]).flat());
    });

    test("the children end with their parent, also when that is killed, and one has a busy client", async (server) => {
      const pids = [...(await ready(server, 3)).values()];
      const client = await Client.connect(server.port);
      assert(await client.echo("hello"));
      const busy = (async () => {
        while (await client.echo("hello").catch(() => false)) await sleep(5);
      })();
      process.kill(server.pid, "SIGKILL");
      assert(await until(() => !pids.some(isRunning), 2), `of ${pids} there are ${pids.filter(isRunning)}`);
      await busy;
    });

    if (mode.length > 0) {
      test("eight clients over four processes are two each", async (server) => {
        for (let round = 0; round < 2; round++) {
          // From here on the next four clients get a process each, however long one of these takes.
          await heard(server, 4 + 8 * round);
          for (let i = 0; i < 4; i++) {
            const client = await Client.connect(server.port);
            assert(await client.echo("hello"));
            client.finish();
            assertEquals(await client.end(), "end");
            client.close();
          }
        }
        const counts = new Map<string, number>();
        for (const place of served(server).values()) counts.set(place, (counts.get(place) ?? 0) + 1);
        assertEquals([...counts].sort(), [["p-1", 2], ["p-2", 2], ["p-3", 2], ["p-4", 2]]);
      }, ["--processes", "4"]);
    } else {
      test("the parent accepts nothing", async (server) => {
        const pids = [...(await ready(server, 3)).values()];
        assert(await until(() => pids.every((pid) => callsOf(pid).includes(ACCEPT4))), "each process is in accept4");
        for (let i = 0; i < 3; i++) {
          const client = await Client.connect(server.port);
          assert(!callsOf(server.pid).includes(ACCEPT4), "the parent isn't");
          assert(await client.echo("hello", 60));
          client.close();
        }
        assertMatch(await server.line(/ accept #1 /), / p-\d accept #1 /);
      });

      check(`${title}: a terminal that closes ends it, and a SIGHUP that says nothing of this doesn't`, async () => {
        const terminal = ["sh", "-c", 'exec script -qfec "exec $*" /dev/null', "sh"], log = new Pipe();
        const started = { ...runtime, command: [...terminal, ...runtime.command] };
        await serve(started, "prefork.ts", ["--processes", "1"], async (script) => {
          const [, place] = await log.line(/ start p-1 process (\d+)/), pids = [childOf(script.pid), Number(place)];
          try {
            await log.line(/ ready /);
            process.kill(pids[0], "SIGHUP");
            const [, , next] = await log.line(/ end p-1: it has left[^]*?( start p-1 process (\d+))/);
            pids[1] = Number(next);
            await script.kill();
            assert(await until(() => !pids.some(isRunning)), `of ${pids} there are ${pids.filter(isRunning)}`);
          } finally {
            if (isRunning(pids[0])) process.kill(pids[0], "SIGKILL");
          }
        }, { output: log.path });
        log.close();
      });
    }
  });
}
