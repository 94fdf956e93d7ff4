// SPDX-License-Identifier: MIT
/** What every server keeps to, under every fault that a network or a client can bring about. */

import { spawnSync } from "node:child_process";
import process from "node:process";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import {
  check,
  Client,
  crowd,
  hasFFI,
  linux,
  pattern,
  run,
  type Runtime,
  runtimes,
  type Script,
  serve,
  sleep,
  until,
  whole,
  windows,
} from "./harness.ts";
import { type Model, models } from "./models.ts";

for (const runtime of runtimes) {
  for (const model of models) {
    if (model.linux && !linux) continue;
    if (model.systemCalls && !hasFFI(runtime)) continue;
    contract(runtime, model);
  }
}

function contract(runtime: Runtime, model: Model): void {
  const { script, clients, args } = model;
  const title = [runtime.name, script, ...args.filter((arg) => arg !== "--messages" && arg !== "0")].join(" ");
  const serving = (what: string, use: (server: Script) => Promise<void>, extra: string[] = [], descriptors?: number) =>
    check(`${title}: ${what}`, () => serve(runtime, script, [...args, ...extra], use, { descriptors }));
  const quiet = ["--quiet"];

  serving("every byte comes back, in order", async (server) => {
    const client = await Client.connect(server.port);
    const all = Uint8Array.from({ length: 256 }, (_, i) => i);
    assert(await client.echo(all), "all 256 values");
    for (const byte of all) assert(await client.echo(Uint8Array.of(byte)), "one byte at a time");
    const many = Array.from({ length: 500 }, (_, i) => pattern(1 + i % 97, i));
    for (const message of many) client.send(message);
    const sent = Buffer.concat(many);
    assertEquals(Buffer.compare(await client.receive(sent.length), sent), 0, "many messages at once");
    client.close();
    // The whole of 127.0.0.0/8 is this machine.
    const elsewhere = linux ? await Client.connect(server.port, "127.0.0.2").catch(({ code }) => code) : "ECONNREFUSED";
    assertEquals(elsewhere, "ECONNREFUSED", "it listens on the address that it was given, and no other");
  }, quiet);

  serving("64 MiB to a slow reader, who has shut down its side", async (server) => {
    const sent = pattern(64 * 1024 * 1024);
    const client = await Client.connect(server.port);
    client.pause();
    client.send(sent);
    client.finish();
    await sleep(300);
    // The end is read most slowly: when the server learns of the end of the stream, it still has bytes to send.
    const slow = sent.length - 8 * 1024 * 1024;
    while (client.received < sent.length && client.ended === null) {
      client.read();
      await sleep(client.received < slow ? 5 : 0);
      client.pause();
      await sleep(2);
    }
    client.read();
    const received = await client.receive(sent.length, 60);
    assertEquals(Buffer.compare(received, sent), 0);
    assertEquals(await client.end(), "end");
    assertEquals(client.received, 0, "nothing behind it");
    client.close();
  }, quiet);

  serving("a client that never reads costs bounded memory, and only itself", async (server) => {
    const greedy = await Client.connect(server.port);
    assert(await greedy.echo("hello", 60));
    const before = linux ? server.memory : 0;
    greedy.pause();
    // As much as the server takes; the rest stays in this process.
    greedy.send(pattern(192 * 1024 * 1024));
    await sleep(2000);
    if (linux) assert(server.memory - before < 96, `grew from ${before} to ${server.memory} MiB`);
    if (clients > 1) {
      const other = await Client.connect(server.port);
      assert(await other.echo("still there?"), "others are served");
      other.close();
    }
    greedy.reset();
    const next = await Client.connect(server.port);
    assert(await next.echo("next"), "the next is served");
    next.close();
  }, quiet);

  serving("half-close: all replies, then the end of the stream", async (server) => {
    const client = await Client.connect(server.port);
    assert(await client.echo("hello"));
    // The server is held up, so that the last message and the end of the stream are there at the same time.
    if (!windows) process.kill(server.pid, "SIGSTOP");
    client.send("world");
    client.finish();
    await sleep(50);
    if (!windows) process.kill(server.pid, "SIGCONT");
    assertEquals(new TextDecoder().decode(await client.receive(5)), "world");
    assertEquals(await client.end(), "end");
    client.close();
    await server.line(/ close #1/);
  });

  serving("a reset at any point costs that connection alone", async (server) => {
    for (let round = 0; round < 20; round++) {
      const early = new Client(server.port);
      await new Promise<void>((resolve) => early.socket.once("connect", resolve));
      early.reset();
    }
    const waiting = await Client.connect(server.port);
    assert(await waiting.echo("x"));
    await sleep(20);
    waiting.reset();
    const writing = await Client.connect(server.port);
    writing.pause();
    writing.send(pattern(16 * 1024 * 1024));
    await sleep(200);
    writing.reset();
    const next = await Client.connect(server.port);
    assert(await next.echo("next"));
    next.close();
    await server.line(whole ? / error #\d+ .*(ECONNRESET|EPIPE)/ : / error #\d+ /);
    const accepted = () => server.output.filter((line) => / accept #/.test(line)).length;
    const closed = () => server.output.filter((line) => / close #/.test(line)).length;
    assert(await until(() => closed() === accepted()), "every accepted connection is closed");
    assertEquals(server.errors, "");
  });

  serving("--messages closes after as many exchanges", async (server) => {
    const client = await Client.connect(server.port);
    assert(await client.echo("one"));
    assert(await client.echo("two"));
    assertEquals(await client.end(), "end");
    client.close();
  }, ["--messages", "2"]);

  if (linux) {
    serving(
      "out of descriptors: no spin, no exit, and served again when some are free",
      async (server) => {
        // Some time after its start Deno sets up signals, SIGUSR1 first, unless the script has done so. If there is no
        // descriptor left by then, it ends.
        if (runtime.name === "deno") assert(await until(() => server.handles(10)), "Deno has not set up its signals");
        const crowd = Array.from({ length: 200 }, () => new Client(server.port));
        for (const client of crowd) client.read();
        await sleep(1500);
        const used = server.cpu;
        await sleep(1000);
        if (!model.spins) assert(server.cpu - used < 0.3, `${server.cpu - used} s of CPU in a second`);
        for (const client of crowd) client.close();
        let served = false;
        for (let i = 0; i < 20 && !served; i++) {
          await sleep(200);
          const next = new Client(server.port);
          next.read();
          served = await next.echo("next", 5).catch(() => false);
          next.close();
        }
        assert(served, "served again");
      },
      quiet,
      96,
    );

    const churn = model.churn * crowd, crowded = Math.ceil(model.idle * crowd);
    serving(`${churn} clients come and go: no descriptor, thread or memory is left behind`, async (server) => {
      const batch = async (count: number) => {
        for (let done = 0; done < count; done += 50) {
          await Promise.all(Array.from({ length: 50 }, async (_, i) => {
            const client = await Client.connect(server.port);
            if (i % 3 === 0) assert(await client.echo("hello", 60));
            if (i % 2 === 0) client.close();
            else client.reset();
          }));
        }
      };
      await batch(churn / 10);
      await sleep(500);
      const { descriptors, threads, memory } = server;
      await batch(churn);
      assert(
        await until(() => server.descriptors <= descriptors + 2),
        `${descriptors} to ${server.descriptors} descriptors`,
      );
      assert(await until(() => server.threads <= threads + 2), `${threads} to ${server.threads} threads`);
      assert(server.memory < memory + 60, `${memory} to ${server.memory} MiB`);
    }, quiet);

    serving(`an active connection beside ${crowded} idle ones`, async (server) => {
      const active = await Client.connect(server.port);
      assert(await active.echo("hello"));
      const idle: Client[] = [];
      while (idle.length < crowded) {
        idle.push(
          ...await Promise.all(
            Array.from({ length: Math.min(100, crowded - idle.length) }, () => Client.connect(server.port)),
          ),
        );
      }
      const times: number[] = [];
      for (let i = 0; i < 200; i++) {
        const before = performance.now();
        assert(await active.echo("hello"));
        times.push(performance.now() - before);
      }
      // The best of them, as the machine may be busy with other things. What looks at each idle one does so every time.
      const best = Math.min(...times);
      assert(best < 20, `${best} ms a message`);
      const last = idle.at(-1);
      if (last) assert(await last.echo("last", 60), "the last one is served too");
      for (const client of [active, ...idle]) client.close();
    }, quiet);
  }

  check(`${title}: IPv6`, async (t) => {
    // A machine may have none.
    if (spawnSync("sh", ["-c", "grep -q 1$ /proc/net/if_inet6"]).status !== 0) return t.skip("no IPv6 here");
    await serve(runtime, script, [...args, "--host", "::1"], async (server) => {
      if (whole) assertMatch(server.output[0], /^listening on \[::1\]:\d+$/);
      const client = await Client.connect(server.port, "::1");
      assert(await client.echo("hello"));
      client.close();
      const accepted = await server.line(/ accept #1/);
      if (whole) assertMatch(accepted, /\[::1\]:\d+$/);
    });
  });

  // The rest is about options, the log, and how a script ends, which a copy for a text has cut down.
  if (!whole) return;

  serving("a silent connection is closed after --idle, a busy one is not", async (server) => {
    const busy = await Client.connect(server.port);
    const silent = clients > 1 ? await Client.connect(server.port) : null;
    for (let i = 0; i < 12; i++) {
      assert(await busy.echo("tick"));
      await sleep(200);
    }
    if (silent) assertEquals(await silent.end(0.5), "end");
    assertEquals(busy.ended, null);
    assertEquals(await busy.end(4), "end");
    await server.line(/ idle #\d+ /);
    silent?.close();
    busy.close();
  }, ["--idle", "1"]);

  serving("the log can't be forged", async (server) => {
    const client = await Client.connect(server.port);
    assert(await client.echo('\x1b[2J\r\n  99.9 main accept #9 "\u202e\0' + "x".repeat(500)));
    client.close();
    await server.line(/ close #1/);
    // deno-lint-ignore no-control-regex
    for (const line of server.output) assert(!/[\0-\x1f\x7f-\x9f\u202e]/.test(line), JSON.stringify(line));
    const recv = await server.line(/ recv #1 /);
    assertMatch(recv, /recv #1 \d+ "\\u001b\[2J\\r\\n {2}99\.9 main accept #9 \\"\\u\{202e\}\\u0000x*"\.\.\.$/);
    assert(recv.length < 130, "long messages are cut");
  });

  for (const signal of windows ? [] : ["SIGINT", "SIGTERM"] as const) {
    serving(`${signal} with open connections: exit 0 within a second, and the port is free`, async (server) => {
      const open = [];
      for (let i = 0; i < 5; i++) open.push(await Client.connect(server.port));
      assert(await open[0].echo("hello"));
      assertEquals(await server.stop(signal, 1), 0);
      assertEquals(server.errors, "");
      assert(await open[0].end() !== null);
      for (const client of open) client.close();
      await serve(runtime, script, ["--port", String(server.port)], async () => {});
    });
  }

  check(`${title}: a mistake in the command line is one line and exit code 2`, async () => {
    for (
      const mistake of [["--port", "x"], ["--port", "65536"], ["--nonsense"], ["operand"], ["--idle"], ["--port=-1"]]
    ) {
      const { code, output, errors } = await run(runtime, script, mistake);
      assertEquals([code, output], [2, []], mistake.join(" "));
      assertMatch(errors, new RegExp(`^${script}: .+\n$`));
    }
  });

  check(`${title}: --help names every option`, async () => {
    const { code, output, errors } = await run(runtime, script, ["--help"]);
    assertEquals([code, errors], [0, ""]);
    for (const option of ["host", "port", "idle", "quiet", "messages", "help"]) {
      assertMatch(output.join("\n"), new RegExp(`--${option}\\b`));
    }
  });

  check(
    `${title}: a taken port or an unknown host is one line and exit code 1`,
    () =>
      serve(runtime, script, args, async (server) => {
        const taken = await run(runtime, script, ["--port", String(server.port)]);
        assertEquals([taken.code, taken.output], [1, []]);
        assertMatch(taken.errors, new RegExp(`^${script}: .*EADDRINUSE.*\n$`));
        const unknown = await run(runtime, script, ["--port", "0", "--host", "no-such-host.invalid"]);
        assertEquals([unknown.code, unknown.output], [1, []]);
        assertMatch(unknown.errors, new RegExp(`^${script}: .*no-such-host\\.invalid.*\n$`));
      }),
  );
}
