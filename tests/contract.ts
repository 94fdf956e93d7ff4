// SPDX-License-Identifier: MIT
/** What every server keeps to, under every fault that a network or a client can bring about. */

import { spawnSync } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import {
  check,
  Client,
  crowd,
  type Ended,
  flooding,
  freePort,
  hasFFI,
  leaveOut,
  linux,
  PATIENCE,
  pattern,
  Pipe,
  run,
  type Runtime,
  runtimes,
  type Script,
  serve,
  sleep,
  Slow,
  until,
  whole,
  windows,
} from "./harness.ts";
import { type Model, models } from "./models.ts";

/**
 * Tests a model on every runtime: what it is there to show (not with its copies), and the contract. `name` is the
 * script's, followed by what it has to be started with: `epoll.ts --edge`.
 */
export function testModel(name: string, lessons: (test: Test, runtime: Runtime) => void): void {
  const model = models.find(({ script, args }) => titleOf(script, args) === name);
  if (!model) throw new Error(`models.ts has no "${name}"`);
  if (model.linux && !linux) return;
  for (const runtime of runtimes) {
    if (model.systemCalls && !hasFFI(runtime)) {
      if (name === model.script) needsFFI(runtime, model.script);
      continue;
    }
    // A lesson is tested with no other options than those in its name.
    if (whole) lessons(serving.bind(null, runtime, { ...model, args: name.split(" ").slice(1) }), runtime);
    for (const register of Object.values(contract)) register(runtime, model);
  }
}

/** The contract, by what it is about. */
export const contract: Record<string, (runtime: Runtime, model: Model) => void> = {
  "Bytes and clients": bytes,
  "The log, and how it all ends": logAndEnd,
  "The command line": commandLine,
  "Crowds": crowds,
};

/** Why a behaviour is not asked of a model. .github/matrix.md says so, too. */
const why = {
  variant: "The command line is the script's, whichever options it is started with.",
  one: "It serves one client at a time: none is active beside another.",
  work: "It has no `--work`, and never computes for a client.",
};

/** What is not asked of copies, which are written for an article: by the titles of the tests. */
const excused: [titles: RegExp, why: string][] = [
  [/: --messages 3/, "It serves a client until that leaves."],
  [/: out of descriptors/, "An article leaves out what a server does then."],
  [/ epoll\.ts --edge/, "A copy is the script without options."],
];

/** How a model is named in the titles of tests. */
export function titleOf(script: string, args: string[]): string {
  return [script, ...args].join(" ").replace(" --messages 0", "");
}

/** Registers a test that gets a running server; `extra` are options beside those that it is started with anyway. */
export type Test = (
  what: string,
  use: (server: Script) => Promise<void>,
  extra?: string[],
  descriptors?: number,
) => void;

function serving(
  runtime: Runtime,
  { script, args }: Model,
  what: string,
  use: (server: Script) => Promise<void>,
  extra: string[] = [],
  descriptors?: number,
): void {
  const title = `${runtime.name} ${titleOf(script, args)}: ${what}`;
  if (!whole && excused.some(([titles]) => titles.test(title))) return;
  check(title, () => serve(runtime, script, [...args, ...extra], use, { descriptors }));
}

const quiet = ["--quiet"];

/** What becomes of the bytes, and of the clients. */
function bytes(runtime: Runtime, model: Model): void {
  const { clients } = model;
  const test = serving.bind(null, runtime, model);

  test("every byte comes back, in order", async (server) => {
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

  test("the tail of a large message is not held back", async (server) => {
    const client = await Client.connect(server.port), message = pattern(65_536);
    // Until the client acknowledges what came before (TCP_NODELAY in tcp(7)): which it does at once when a connection
    // is new, but later on only after 40 ms. The best of them, as the machine may be busy with other things.
    let best = Infinity;
    for (let i = 0; i < 60 && best > 20; i++) {
      const before = performance.now();
      assert(await client.echo(message));
      if (i >= 30) best = Math.min(best, performance.now() - before);
    }
    assert(best < 30, `${best} ms for 64 KiB`);
    client.close();
  }, quiet);

  test("half-close: all replies, then the end of the stream", async (server) => {
    const mute = await Client.connect(server.port);
    mute.finish();
    assertEquals(await mute.end(), "end", "a client that has said nothing");
    mute.close();
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
    await server.line(/\bclose #2/);
  });

  test("--messages 3 closes after three exchanges, and loses nothing that it has sent", async (server) => {
    const polite = await Client.connect(server.port);
    for (const word of ["one", "two", "three"]) assert(await polite.echo(word));
    assertEquals(await polite.end(), "end");
    // For a while it drops what a client still sends that doesn't close its side, but not for ever.
    const refused = until(() => {
      polite.send("x");
      return polite.socket.destroyed;
    });
    assert(await refused, "the connection is kept for who stays");

    // Far more input than it will ever read, and a client that reads late: the replies wait in the server's kernel.
    const eager = await Client.connect(server.port);
    eager.pause();
    const sent = pattern(3 * 64 * 1024 + 4 * 1024 * 1024);
    const start = performance.now();
    eager.send(sent);
    await sleep(300);
    eager.read();
    const ended = await eager.end(20), time = performance.now() - start;
    // A server drops what comes for a second.
    if (ended !== "end" && time > 900) throw new Slow(`the test took ${time.toFixed()} ms to send`);
    assertEquals(ended, "end", "no reset");
    const [first, second] = [await server.line(/\bclose #1/), await server.line(/\bclose #2/)];
    if (whole) {
      assertMatch(first, / close #1 after 3 messages$/);
      assertMatch(second, / close #2 after 3 messages$/);
    }
    const counts = server.lines(/\bsend #2/).map((line) => Number(/\bsend #2 (\d+)/.exec(line)![1]));
    assertEquals(counts.length, 3);
    const told = counts.reduce((a, b) => a + b);
    assertEquals(eager.received, told, "every byte that the log calls sent arrives");
    assertEquals(Buffer.compare(await eager.receive(told), sent.subarray(0, told)), 0);
    eager.close();
    await server.allClosed();
  }, ["--messages", "3"]);

  test("a reset at any point costs that connection alone", async (server) => {
    for (let round = 0; round < 20; round++) {
      const early = new Client(server.port);
      await once(early.socket, "connect");
      early.reset();
    }
    const waiting = await Client.connect(server.port);
    assert(await waiting.echo("x", 60));
    await sleep(20);
    waiting.reset();
    const writing = await Client.connect(server.port);
    writing.pause();
    writing.send(pattern(16 * 1024 * 1024));
    await sleep(200);
    writing.reset();
    // What has been received by then is a message, and can't be answered any more.
    for (let i = 0; i < 10; i++) {
      const sending = await Client.connect(server.port);
      sending.pause();
      sending.send(pattern(4 * 1024 * 1024));
      await sleep(3 * i);
      sending.reset();
    }
    // Behind what the client doesn't read there is its end of stream, which not every server has seen by then.
    for (const size of [0.5, 1, 2, 3, 4]) {
      const ended = await Client.connect(server.port);
      ended.pause();
      ended.send(pattern(size * 1024 * 1024));
      ended.finish();
      await sleep(200);
      ended.reset();
    }
    const next = await Client.connect(server.port);
    assert(await next.echo("next", 60));
    next.close();
    const reasons = await server.allClosed();
    if (whole) {
      const resets = [...reasons.values()].filter((reason) => /\((ECONNRESET|EPIPE)\)$/.test(reason));
      assert(resets.length >= 2, `of what was reset there is: ${[...reasons.values()].join(", ")}`);
      // Deno accepts what is reset by then, with an error.
      assertEquals(server.lines(/ error (?!accept: .*\(ENOTCONN\)$)/), []);
    }
    assertEquals(server.errors, "");
  });

  test("clients that never read cost bounded memory, and only themselves; a reset wakes who waits", async (server) => {
    const most = 160 * 1024 * 1024;
    let floods = 0;
    for (let round = 0; round < 2; round++) {
      const greedy: Client[] = [];
      while (greedy.length < Math.min(3, clients)) {
        greedy.push(await Client.connect(server.port));
        assert(await greedy.at(-1)!.echo("hello", 60));
      }
      floods += greedy.length;
      const before = linux ? server.memory : 0;
      for (const taken of await Promise.all(greedy.map((client) => client.flood(most)))) {
        assert(taken < most, "the server takes without end what is never read");
      }
      if (linux) assert(server.memory - before < 96, `grew from ${before} to ${server.memory} MiB`);
      if (linux && !model.spins) assert(await server.rests(), "it spins while no client can be sent to");
      if (clients > 3) {
        const other = await Client.connect(server.port);
        assert(await other.echo("still there?"), "others are served");
        other.close();
      }
      for (const client of greedy) client.reset();
    }
    const next = await Client.connect(server.port);
    assert(await next.echo("next"), "the next is served");
    next.close();
    const reasons = await server.allClosed();
    if (!whole) return;
    const words = [...reasons.values()].filter((reason) => reason !== "by the client");
    assertEquals(words.length, floods, `a reset is not the client's regular end: ${[...reasons.values()].join(", ")}`);
  });

  test("32 MiB to a slow reader, who has shut down its side", async (server) => {
    const sent = pattern(32 * 1024 * 1024);
    const client = await Client.connect(server.port);
    client.pause();
    client.send(sent);
    client.finish();
    await sleep(300);
    // The end is read most slowly: when the server learns of the end of the stream, it still has bytes to send.
    const slow = sent.length - 8 * 1024 * 1024;
    let before = -1, last = Date.now();
    while (client.received < sent.length && client.ended === null) {
      client.read();
      await sleep(client.received < slow ? 5 : 0);
      client.pause();
      await sleep(2);
      if (client.received > before) last = Date.now();
      assert(Date.now() - last < 10_000, `${client.received} bytes came, and no more`);
      before = client.received;
    }
    client.read();
    const received = await client.receive(sent.length, 60);
    assertEquals(Buffer.compare(received, sent), 0);
    assertEquals(await client.end(), "end");
    assertEquals(client.received, 0, "nothing behind it");
    client.close();
  }, quiet);
}

/** What takes many clients. */
function crowds(runtime: Runtime, model: Model): void {
  if (!linux) return;
  const test = serving.bind(null, runtime, model), descriptors = model.churn < 1000 ? 64 : 96;
  // processes.ts accepts no more than 16.
  const many = model.script === "processes.ts" ? 32 : descriptors + 20;

  test(
    "out of descriptors: no spin, no exit, served again when some are free, and stopped when asked",
    async (server) => {
      // Some time after its start Deno sets up signals, SIGUSR1 first, unless the script has done so. If there is no
      // descriptor left by then, it ends.
      if (runtime.name === "deno") assert(await until(() => server.handles(10)), "Deno has not set up its signals");
      let crowd: Client[] = [];
      const fill = async () => {
        crowd = Array.from({ length: many }, () => new Client(server.port));
        for (const client of crowd) client.read();
        // Until it has taken all that it can.
        for (let before = -1; before !== server.descriptors;) {
          before = server.descriptors;
          await sleep(500);
        }
      };
      await fill();
      if (!model.spins) assert(await server.rests(), "it spins");
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
      if (!whole) return;
      // It stops in this state, too.
      await fill();
      assertEquals(await server.stopAtOnce(), 0);
    },
    quiet,
    descriptors,
  );

  const churn = model.churn * crowd, crowded = Math.ceil(model.idle * crowd);
  test("clients come and go: no descriptor, thread or memory is left behind", async (server) => {
    const batch = async (count: number) => {
      for (let left = Math.ceil(count); left > 0; left -= 50) {
        await Promise.all(Array.from({ length: Math.min(left, 50) }, async (_, i) => {
          const client = await Client.connect(server.port);
          if (i % 3 === 0) assert(await client.echo("hello", 60));
          if (i % 2 === 0) client.close();
          else client.reset();
        }));
      }
    };
    await batch(churn / 4);
    for (let before = -1; before !== server.descriptors;) {
      before = server.descriptors;
      await sleep(300);
    }
    const grown = async () => {
      const { descriptors, threads, memory } = server;
      await batch(churn);
      if (!await until(() => server.descriptors <= descriptors + 2)) {
        return `${descriptors} to ${server.descriptors} descriptors`;
      }
      if (!await until(() => server.threads <= threads + 2)) return `${threads} to ${server.threads} threads`;
      return server.memory < memory + 60 ? "" : `${memory} to ${server.memory} MiB`;
    };
    // What is left behind is so each time. What comes once is a thread of the server's own that was late in starting.
    assertEquals(await grown() && await grown(), "");
  }, quiet);

  const beside = "an active connection beside idle ones";
  if (crowded === 0) return leaveOut(`${runtime.name} ${titleOf(model.script, model.args)}: ${beside}`, why.one);
  test(beside, async (server) => {
    const active = await Client.connect(server.port);
    assert(await active.echo("hello"));
    const idle: Client[] = [];
    while (idle.length < crowded) {
      const some = Array.from({ length: Math.min(100, crowded - idle.length) }, () => Client.connect(server.port));
      idle.push(...await Promise.all(some));
    }
    assert(await idle.at(-1)!.echo("last", 60), "the last one is served");
    // The best of them, as the machine may be busy with other things. What looks at each idle one does so every time.
    let best = Infinity;
    for (let i = 0; i < 200 && best > 5; i++) {
      const before = performance.now();
      assert(await active.echo("hello"));
      best = Math.min(best, performance.now() - before);
    }
    assert(best < 20, `${best} ms a message`);
    for (const client of [active, ...idle]) client.close();
  }, quiet);
}

/** The log, and how a connection and the server end. */
function logAndEnd(runtime: Runtime, model: Model): void {
  if (!whole) return;
  const { script, clients, args } = model, title = titleOf(script, args);
  const test = serving.bind(null, runtime, model);

  test("the log can't be forged, and every line of it has the same form", async (server) => {
    const client = await Client.connect(server.port);
    assert(await client.echo('\x1b[2J\r\n  99.9 main accept #9 "\u202e\0' + "x".repeat(500)));
    client.close();
    assertEquals([...await server.allClosed()], [[1, "by the client"]]);
    // deno-lint-ignore no-control-regex
    for (const line of server.output) assert(!/[\0-\x1f\x7f-\x9f\u202e]/.test(line), JSON.stringify(line));
    // One message: in whichever order lines are written, it is that in which things happen.
    const events = server.output.map((line) => /^ *[\d.]+ \S+ (accept|recv|send|close) #1 /.exec(line)?.[1]);
    assertEquals(events.filter(Boolean), ["accept", "recv", "send", "close"]);
    const recv = await server.line(/ recv #1 /);
    assertMatch(recv, /recv #1 \d+ "\\u001b\[2J\\r\\n {2}99\.9 main accept #9 \\"\\u\{202e\}\\u0000x*"\.\.\.$/);
    assert(recv.length < 130, "long messages are cut");
    assertMatch(await server.line(/ accept #1/), / accept #1 127\.0\.0\.1:\d+$/);
    assertEquals(await server.stop(), 0);
    const ready = server.output.findIndex((line) => line === `listening on 127.0.0.1:${server.port}`);
    if (script === "blocking.ts") assertMatch(server.output[ready - 1], / bind step 2: /);
    else assertEquals(ready, 0, "the line that says it is ready is the first");
    for (const line of server.output.toSpliced(ready, 1)) {
      assertMatch(line, /^(?=[ \d]{5}\d\.\d |\d{7,}\.\d ) *[\d.]+ \S+ [a-z_]+ \S/);
    }
    await server.line(/ main stop SIGTERM$/);
  });

  test("why a connection ends: the client has left, or reset it, or was silent", async (server) => {
    const left = await Client.connect(server.port);
    assert(await left.echo("hello"));
    left.finish();
    assertEquals(await left.end(), "end");
    await server.line(/ close #1 /);
    const reset = await Client.connect(server.port);
    assert(await reset.echo("hello"));
    // By now the server waits for the next message.
    await sleep(20);
    reset.reset();
    await server.line(/ close #2 /);
    const busy = await Client.connect(server.port), silent = clients > 1 ? await Client.connect(server.port) : null;
    let last = performance.now(), longest = 0;
    const tick = async () => {
      longest = Math.max(longest, performance.now() - last);
      last = performance.now();
      if (await busy.echo("tick").catch(() => false)) return;
      // A test that is itself silent for so long has shown nothing.
      throw longest > 700 ? new Slow(`the test was silent for ${longest.toFixed()} ms`) : new Error("busy, and closed");
    };
    for (let i = 0; silent ? silent.ended === null && i < 100 : i < 25; i++) {
      await tick();
      await sleep(100);
    }
    if (silent) assertEquals(silent.ended, "end");
    await tick();
    if (!windows) {
      // A server that was stopped, as by Ctrl-Z, didn't wait for a client meanwhile.
      process.kill(server.pid, "SIGSTOP");
      await sleep(1700);
      process.kill(server.pid, "SIGCONT");
      assert(await busy.echo("still there?"), "it was not the client that was silent");
    }
    assertEquals(await busy.end(10), "end");
    busy.close();
    silent?.close();
    const reasons = await server.allClosed();
    assertEquals(reasons.get(1), "by the client");
    assertMatch(reasons.get(2)!, /\((ECONNRESET|EPIPE)\)$/);
    for (let id = 3; id <= (silent ? 4 : 3); id++) assertEquals(reasons.get(id), "silent for 1 s", `#${id}`);
    assertEquals(server.errors, "");
  }, ["--idle", "1"]);

  test("a client that never reads is silent", async (server) => {
    const stuck = await Client.connect(server.port);
    await stuck.flood();
    assertMatch(await server.line(/ close #1 /, 20), / close #1 silent for 1 s$/);
    stuck.read();
    await stuck.end();
    assertMatch(server.lines(/ #1 /).at(-1)!, / close #1 /, "nothing more is told of it");
    const came = await stuck.receive(stuck.received);
    for (let at = 0; at < came.length; at += flooding.length) {
      const piece = came.subarray(at, at + flooding.length);
      assertEquals(Buffer.compare(piece, flooding.subarray(0, piece.length)), 0, `other bytes from ${at} on`);
    }
    stuck.close();
    const next = await Client.connect(server.port);
    assert(await next.echo("next"), "the next is served");
    next.close();
  }, ["--idle", "1"]);

  const computes = "a client is not silent while the server computes for it";
  if (!model.work) leaveOut(`${runtime.name} ${title}: ${computes}`, why.work);
  else {
    // Nor while it waits in line.
    const some = script === "pool.ts" ? 2 : 1;
    test(computes, async (server) => {
      const open = await Promise.all(Array.from({ length: some }, () => Client.connect(server.port)));
      const replies = await Promise.all(open.map((client) => client.echo("hello", 120)));
      assertEquals(replies, open.map(() => true));
      for (const client of open) client.close();
      await server.allClosed();
    }, ["--work", "2200", "--idle", "1", ...some > 1 ? ["--workers", "1"] : []]);
  }

  test("options at their ends: a long time is not a short one, and quiet is one line", async (server) => {
    const client = await Client.connect(server.port);
    assert(await client.echo("hello"));
    await sleep(300);
    assert(await client.echo("world"));
    client.close();
    assertEquals(server.output, [`listening on 127.0.0.1:${server.port}`], "quiet");
  }, ["--idle", "2147484", "--messages", "1000000000", ...quiet]);

  for (const signal of windows ? [] : ["SIGINT", "SIGTERM"] as const) {
    const what = `${signal} with open connections: each closed, exit 0 within a second, the port free`;
    check(`${runtime.name} ${title}: ${what}`, async () => {
      const port = await freePort();
      await serve(runtime, script, [...args, "--port", `${port}`], async (server) => {
        const open = [];
        for (let i = 0; i < 5; i++) open.push(await Client.connect(server.port));
        for (const client of open.slice(0, clients)) assert(await client.echo("hello"));
        if (signal === "SIGTERM") {
          // One of them can't be sent any more, and others wait in line.
          await open[0].flood();
          await sleep(100);
        }
        assertEquals(await server.stopAtOnce(signal), 0);
        assertEquals(server.errors, "");
        await server.line(new RegExp(` stop ${signal}$`));
        assertEquals(server.lines(/ error /), []);
        let reasons: Map<number, string>;
        try {
          reasons = server.reasons();
        } catch (error) {
          // Half a second is all the time that its handlers get.
          throw new Slow((error as Error).message);
        }
        for (let id = 1; id <= Math.min(clients, 5); id++) assertEquals(reasons.get(id), "the server stops", `#${id}`);
        assert(await open[0].end() !== null);
        for (const client of open) client.close();
        await serve(runtime, script, ["--port", `${port}`], async () => {});
      });
    });
  }

  if (!linux) return;

  check(`${runtime.name} ${title}: a log that can't be written is said once, and it serves on`, async () => {
    const port = await freePort();
    await serve(runtime, script, ["--port", `${port}`, ...args], async (server) => {
      // There is no line that says when it is ready.
      const client = await Client.served(server, port, "one");
      for (const word of ["two", "three"]) assert(await client.echo(word));
      client.close();
      const next = await Client.connect(port);
      assert(await next.echo("next"));
      next.close();
      assertEquals(await server.stopAtOnce(), 0);
      assertMatch(server.errors, new RegExp(`^${script}: .*ENOSPC.*\n$`));
    }, { output: "/dev/full" });
  });

  check(`${runtime.name} ${title}: a log whose reader has gone ends it quietly`, async () => {
    const log = new Pipe();
    await serve(runtime, script, args, async (server) => {
      const [, port] = await log.line(/^listening on .*:(\d+)$/);
      log.close();
      // As many may notice at once as there are threads. It may be that the first line meets the end already.
      const talkers = Array.from({ length: Math.min(3, clients) }, () => new Client(Number(port)));
      let code: number | null | undefined;
      server.exited.then((exited) => code = exited);
      for (let i = 0; code === undefined && i < 100; i++) {
        // Not once: a child of another test may have the pipe until it is another program, and take in some lines.
        for (const client of talkers) client.send("hello");
        await sleep(100);
      }
      assert(code !== undefined, "it goes on");
      assertEquals([code, server.errors], [0, ""]);
      for (const client of talkers) client.close();
    }, { output: log.path });
  });

  check(`${runtime.name} ${title}: a log whose reader stalls holds nobody up`, async () => {
    const log = new Pipe();
    await serve(runtime, script, args, async (server) => {
      const [, port] = await log.line(/^listening on .*:(\d+)$/);
      const client = await Client.connect(Number(port));
      // More than a pipe holds, and than the server can be asked to keep.
      const talk = async (messages: number) => {
        for (let i = 0; i < messages; i++) assert(await client.echo("x".repeat(60)), "it is served");
      };
      await talk(1300);
      if (!model.spins) assert(await server.rests(), "it spins while the log can't be written");
      while (log.read().length > 0);
      // What is kept comes without another event.
      await log.line(/^.*\b(\d+) .*\blost\b.*|^.*\blost\b.* (\d+)\b.*/);
      assert(await client.echo("y"));
      await talk(600);
      assertEquals(await server.stopAtOnce(), 0);
      assertEquals(server.errors, "");
    }, { output: log.path });
    log.close();
  });
}

/** Mistakes, help, and what the machine doesn't have: the same for every variant of a script. */
function commandLine(runtime: Runtime, { script, args }: Model): void {
  if (!whole) return;
  const title = `${runtime.name} ${titleOf(script, args)}`, variant = titleOf(script, args) !== script;
  const ask = (what: string, body: Parameters<typeof check>[1]) =>
    variant ? leaveOut(`${title}: ${what}`, why.variant) : check(`${title}: ${what}`, body);

  /** Or else it serves. */
  const atOnce = { seconds: PATIENCE };

  ask("a mistake in the command line is one line and exit code 2", async () => {
    // options.test.ts makes the others.
    const mistakes = [["--nonsense"], ["--port", "65536"]];
    const results = await Promise.all(mistakes.map((mistake) => run(runtime, script, mistake, atOnce)));
    for (const [i, result] of results.entries()) assertMistake(script, mistakes[i], result);
  });

  ask("--help names every option, in lines of 80 columns", async () => {
    const { code, output, errors } = await run(runtime, script, ["--help"]);
    assertEquals([code, errors], [0, ""]);
    for (const option of ["host", "port", "idle", "quiet", "messages", "help"]) {
      assertMatch(output.join("\n"), new RegExp(`--${option}\\b`));
    }
    for (const line of output) assert(line.length <= 80, `${line.length} columns: ${line}`);
  });

  ask("a taken port or an unknown host is one line and exit code 1", async () => {
    await serve(runtime, script, [], async (server) => {
      const [taken, unknown] = await Promise.all([
        run(runtime, script, ["--port", String(server.port)], atOnce),
        run(runtime, script, ["--port", "0", "--host", "no-such-host.invalid"], atOnce),
      ]);
      assertEquals([taken.code, unknown.code], [1, 1]);
      assertMatch(taken.errors, new RegExp(`^${script}: .*EADDRINUSE.*\n$`));
      assertMatch(unknown.errors, new RegExp(`^${script}: .*no-such-host\\.invalid.*\n$`));
      for (const { output } of [taken, unknown]) assertEquals(output.filter((line) => /listening/.test(line)), []);
    });
  });

  ask("IPv6, in brackets or without", async () => {
    // A machine may have none.
    if (spawnSync("sh", ["-c", "grep -q 1$ /proc/net/if_inet6"]).status !== 0) return "no IPv6 here";
    for (const host of ["::1", "[::1]"]) {
      await serve(runtime, script, ["--host", host], async (server) => {
        assertMatch(await server.line(/^listening/), /^listening on \[::1\]:\d+$/);
        const client = await Client.connect(server.port, "::1");
        assert(await client.echo("hello"));
        client.close();
        assertMatch(await server.line(/ accept #1/), /\[::1\]:\d+$/);
      });
    }
  });
}

/** A server with few threads serves three messages of each client; `more` is what else there is to see then. */
export function checkThree(test: Test, more = async (_: Script) => {}): void {
  test("three messages for each client, unless it is told otherwise", async (server) => {
    const client = await Client.connect(server.port);
    for (const word of ["one", "two", "three"]) assert(await client.echo(word));
    assertEquals(await client.end(), "end");
    client.close();
    assertEquals([...await server.allClosed()], [[1, "after 3 messages"]]);
    await more(server);
  });
}

/** What became of a script that was started with a mistake in its command line. */
export function assertMistake(script: string, mistake: string[], { code, output, errors }: Ended): void {
  assertEquals([mistake, code, output], [mistake, 2, []]);
  assertMatch(errors, new RegExp(`^${script}: .+\n$`), mistake.join(" "));
}

function needsFFI(runtime: Runtime, script: string): void {
  check(`${runtime.name} ${script}: says in one line what it needs, exit code 1`, async () => {
    const { code, output, errors } = await run(runtime, script, ["--port", "0"]);
    assertEquals([code, output], [1, []]);
    assertMatch(errors, new RegExp(`^${script}: .*(Linux|node:ffi).* is needed.*\n$`));
  });
}
