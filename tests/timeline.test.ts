// SPDX-License-Identifier: MIT
/** timeline.ts: what its lanes hold, for the models that differ most. */

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import * as path from "node:path";
import { draw, type Lane, type Picture, type Span } from "../scripts/tools/lanes.ts";
import { drawSvg, drawText } from "../scripts/tools/picture.ts";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { check, checkOnce, hasFFI, linux, run, type Runtime, runtimes, Slow, temporaryFolder } from "./harness.ts";

const nothing: Picture = {
  ...{ model: "tasks", title: "", clients: [], threads: [], calls: [], notes: [] },
  ...{ kernel: true, start: 0, end: 0 },
};

check("lanes: half-close, and a client that does not read, have states and a word in the legend", () => {
  const visit = { role: "A", port: 1, begin: 0, connected: 0, end: 1000 };
  const picture = draw({
    model: "tasks",
    options: [],
    runtime: "deno",
    visits: [{
      ...visit,
      exchanges: [{ sent: 100, size: 9, received: 900 }],
      pauses: [{ from: 200, to: 300 }, { from: 950 }],
      finished: 400,
    }],
    lines: [
      { time: 0, thread: "main", event: "accept", id: 1, detail: "127.0.0.1:1" },
      { time: 150, thread: "main", event: "recv", id: 1, detail: '9 "xxxxxxxxx"' },
    ],
    tasks: [{ name: "main", cpu: 0, runs: [{ from: 0, to: 1000, running: false, call: "epoll_wait" }] }],
    cpu: 0,
    end: 1000,
  });
  assertEquals(picture.clients[0].spans.map(({ kind, from, to }) => [kind, from, to]), [
    ["quiet", 0, 100],
    ["wait", 100, 150],
    ["served", 150, 200],
    ["deaf", 200, 300],
    ["served", 300, 400],
    ["half", 400, 900],
    ["half", 900, 950],
    ["deaf", 950, 1000],
  ]);
  assertEquals([picture.clients[0].sends, picture.clients[0].replies], [[100], [900]]);
  const text = drawText([picture], 80, false);
  assertMatch(text, /^clients: [^]*is being served[^]*does not read[^]*half-closed[^]*^threads: · asleep/m);
  // A triangle at each end of the exchange, and two in the legend.
  const svg = drawSvg([picture]);
  assertEquals(svg.match(/<path class="s"/g)?.length, 3);
  assertMatch(svg, />clients<[^]*>it sends<[^]*>threads<[^]*>asleep, until/);
});

check("lanes: a terminal marks where a client sends, and where its reply has come, and no text hides it", () => {
  const spans = [{ from: 0, to: 1000, kind: "deaf" as const, texts: ["does not read", "deaf"] }];
  const client = { name: "#1 A", spans, sends: [30, 900], replies: [500, 905], total: 0 };
  const text = drawText([{ ...nothing, clients: [client], end: 1000 }], 71, false).split("\n");
  assertEquals(
    text.find((line) => line.startsWith("#1"))!.slice(11, 61),
    `≠▼≠does not read${"≠".repeat(9)}▲${"≠".repeat(19)}◆≠≠≠≠`,
  );
  assertMatch(text.join("\n"), /▼ sends {2}▲ has the whole reply {2}◆ both/);
});

check("lanes: what the calls of select, poll, epoll, signals and uring hand over, and what they get back", () => {
  const calls = (event: string, ...details: string[]) => {
    const lines = details.map((detail, i) => ({ time: 100 * i + 50, thread: "main", event, id: 0, detail }));
    const [over, back] = ["hands over", "gets back"].map((name) => {
      const recording = { model: event, options: [], runtime: "deno", visits: [], lines, tasks: [], cpu: 0, end: 300 };
      const { unit, stacks, spans } = draw(recording).calls.find((calls) => calls.name === name)!;
      return [unit, ...stacks.map(({ ready, of }) => `${ready}/${of}`), ...spans.map(({ texts }) => texts[0])].join(
        " ",
      );
    });
    return [over, back];
  };
  const known = " nothing: the kernel knows already for whom it waits";
  const bits = "bits looked at (highest descriptor + 1), 32 bytes of sets copied in and out";
  assertEquals(calls("select", `2 ready, 3 watched, 27 ${bits}`, `4 more times: 5 ready, 12 watched, 110 ${bits}`), [
    "bits 0/27 4 more: 110 bits",
    "ready 2/27 4 more: 5 ready",
  ]);
  assertEquals(calls("poll", "1 ready, 6 entries handed over"), ["entries 0/6", "ready 1/6"]);
  assertEquals(calls("epoll_wait", "1 ready, 6 registered, 1 entries looked at"), [known, "ready 1/1"]);
  assertEquals(calls("sigtimedwait", "1 signal, descriptor 25 (#1), POLL_IN", "13 more times"), [
    known,
    "signals 1/1 13 more: 13 signals",
  ]);
  assertEquals(calls("io_uring_enter", "2 submitted, 1 completed: 5 calls so far"), ["requests 0/2", "completed 1/1"]);
});

check("lanes: in a terminal two numbers never touch", () => {
  const works = [4, 15, 4, 15, 2, 5, 16].map((id, i) => (
    { from: 100 * i, to: 100 * (i + 1), kind: "compute" as const, texts: [`#${id}`, String(id)] }
  ));
  const threads = [{ name: "main", spans: works, sends: [], replies: [], total: -1 }];
  const picture = { ...nothing, threads, end: 700 };
  for (let width = 30; width < 100; width++) {
    const line = drawText([picture], width, false).split("\n").find((line) => line.startsWith("main"))!;
    for (const word of line.slice(4).match(/[#\d]+/g) ?? []) {
      assert(/^#?(4|15|2|5|16)$/.test(word), `${word} in ${width} columns: ${line}`);
    }
  }
});

for (const runtime of runtimes) {
  const title = `${runtime.name} timeline.ts`;

  check(`${title}: pool's fourth client waits until one leaves`, async () => {
    const [pool] = await record(runtime, ["pool", "--", "--work=20"]);
    assertEquals(pool.title, `pool --work=20 on ${runtime.name}`);
    assertEquals(pool.clients.length, 5);
    const [first, ...others] = pool.clients, fourth = lane(pool.clients, "#4");
    const line = fourth.spans.find(({ kind }) => kind === "line")!;
    timely(line.to - line.from > 100, "it has waited");
    for (const other of others.slice(0, 2)) timely(time(other, "line") < 100, `${other.name} has not`);
    const left = Math.min(...[first, ...others.slice(0, 2)].map(({ spans }) => spans.at(-1)!.to));
    timely(Math.abs(line.to - left) < 100, `served at ${line.to}, when one has left at ${left}`);
    assertEquals(pool.threads.map(({ name }) => name), ["main", "w-1", "w-2", "w-3"]);
    for (const { id, thread } of work(pool.threads)) assert(thread !== "main", `main has worked for #${id}`);
    // A Node without FFI, which is one before 26, does not tell the kernel its threads' names: they come from the log.
    if (hasFFI(runtime)) {
      timely(share(lane(pool.threads, "w-3"), ({ texts }) => texts.at(-1) === "futex") > 0.3, "w-3 sleeps");
    }
  });

  check(`${title}: one thread works for all, and is asleep in its wait most of the time`, async () => {
    const [multiplex] = await record(runtime, ["multiplex", "--work", "0"]);
    assertEquals(multiplex.threads.map(({ name }) => name), ["main"]);
    const [main] = multiplex.threads;
    assertEquals([...new Set(work([main]).map(({ id }) => id))].sort(), [1, 2, 4, 5]);
    timely(share(main, ({ kind }) => kind === "sleep") > 0.6, "it sleeps");
    if (linux) assert(main.spans.some(({ texts }) => /^epoll_p?wait2?$/.test(texts[0])));
    for (const { total, name } of multiplex.clients) timely(total < 500, `${name} has waited ${total} ms`);
  });

  check(`${title}: the log's clock and the clients' are one, and CPU time is what the work takes`, async () => {
    const [{ clients: [client], threads: [main] }] = await record(runtime, ["tasks", "--clients=1", "--work=100"]);
    // Four pauses of 120 ms: a line that is dated too early makes a message be served before it was sent.
    assert(time(client, "quiet") > 450, `quiet ${time(client, "quiet")} ms`);
    timely(time(client, "wait") + time(client, "backlog") < 90, `wait ${time(client, "wait")} ms`);
    if (!linux) return;
    // It can't have used more than the time in which the kernel saw it run.
    const running = time(main, "compute") + time(main, "busy");
    assert(main.total > 100 && main.total < 1.3 * running + 100, `CPU ${main.total} ms, running ${running} ms`);
  });

  if (hasFFI(runtime)) {
    check(`${title}: nonblocking is never asleep, and blocking's second client is in the backlog`, async () => {
      const [blocking, nonblocking, processes, prefork] = await record(runtime, [
        "blocking",
        "nonblocking",
        "processes",
        "prefork",
      ]);
      // When it has had nothing to do for a while it gives the runtime a turn.
      timely(share(nonblocking.threads[0], ({ kind }) => kind === "sleep" || kind === "held") < 0.2, "it sleeps");
      assert(nonblocking.notes.some((note) => /^\d{4,} calls made, \d+ found nothing$/.test(note)));
      const [first, second] = blocking.clients, backlog = second.spans.find(({ kind }) => kind === "backlog")!;
      timely(Math.abs(backlog.to - first.spans.at(-1)!.to) < 100, "until the first has left");
      const [main] = blocking.threads;
      timely(share(main, ({ texts }) => texts[0] === "recvfrom for #2") > 0.2, "asleep in recv");
      timely(time(first, "backlog") < time(second, "backlog") / 2, "not the first");
      // The third client is silent.
      assertEquals(processes.threads.map(({ name }) => name), ["main", "p-1", "p-2", "p-3", "p-4", "p-5"]);
      assertEquals(prefork.threads.map(({ name }) => name), ["main", "p-1", "p-2", "p-3"]);
    });

    // What has no FFI has no names of threads for the kernel, either.
    check(`${title}: threads are in the order in which they began, also where the numbers begin anew`, async () => {
      if (!linux) return "/proc is Linux's";
      const last = "$(($(cat /proc/sys/kernel/pid_max) - 35)) > /proc/sys/kernel/ns_last_pid";
      const inside = [
        "unshare",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-ec",
        `echo ${last}; exec "$@"`,
        "sh",
      ];
      if (spawnSync(inside[0], [...inside.slice(1), "true"]).status !== 0) return "unshare(1) is not allowed here";
      const args = ["pool", "--clients=1", "--messages=1", "--", "--workers=20"];
      const [pool] = await record({ ...runtime, command: [...inside, ...runtime.command] }, args);
      const names = Array.from({ length: 20 }, (_, i) => `w-${i + 1}`);
      assertEquals(pool.threads.map(({ name }) => name), ["main", ...names]);
    });
  }

  check(`${title}: in the terminal, and as a picture`, async () => {
    const environment = { COLUMNS: "80" };
    const args = ["tasks", "single", "--clients", "2", "--work", "1"];
    const { code, output } = await run(runtime, "timeline.ts", args, { environment });
    assertEquals(code, 0);
    for (const line of output) assert(line.length <= 80, `longer than 80 columns: ${line}`);
    assert(!output.join("").includes("\x1b"), "no colours where there is no terminal");
    assertEquals(output.filter((line) => /^(tasks --work 1|single) on /.test(line)).length, 2);
    timely(output.some((line) => /^#1 quick .*closed by the server/.test(line)), "single.ts has not ended by then");

    const file = path.join(temporaryFolder(), "tasks.svg");
    assertEquals(
      (await run(runtime, "timeline.ts", ["tasks", "--work", "5", "--clients", "2", "--svg", file])).code,
      0,
    );
    const svg = readFileSync(file, "utf8");
    assertMatch(svg, /^<svg [^>]*width="900"/);
    assert(svg.length < 10_000 && svg.includes("prefers-color-scheme:dark") && svg.includes(">#2 slow</text>"));
  });

  checkOnce(runtime, `${title}: a width that is no number of columns`, async () => {
    for (const [columns, width] of [["80.5", 80], ["1e9", 1000], ["x", 80], ["-3", 30]] as const) {
      const environment = { COLUMNS: columns }, args = ["single", "--work", "1", "--messages", "1"];
      const { code, output, errors } = await run(runtime, "timeline.ts", args, { environment, seconds: 30 });
      assertEquals([columns, code, errors], [columns, 0, `running single on ${runtime.name}\n`]);
      for (const line of output) assert(line.length <= width, `longer than ${width} columns: ${line}`);
    }
  });

  check(`${title}: what can't be drawn is said`, async () => {
    const unknown = await run(runtime, "timeline.ts", ["nosuch"]);
    assertEquals(unknown.code, 2);
    assertMatch(unknown.errors, /^timeline\.ts: unknown model "nosuch"; known are [^\n]*\n$/);
    const useless = await run(runtime, "timeline.ts", ["tasks", "--", "--host", "::1"]);
    assertEquals(useless.code, 2);
    assertMatch(useless.errors, /^timeline\.ts: -- --host: [^\n]*\n$/);
    const refused = await run(runtime, "timeline.ts", ["tasks", "--", "--nosuch"]);
    assertEquals(refused.code, 1);
    assert(refused.output.some((line) => /^ {2}Unknown option '--nosuch'/.test(line)));
  });
}

async function record(runtime: Runtime, args: string[]): Promise<Picture[]> {
  const { code, output, errors } = await run(runtime, "timeline.ts", ["--runtime", runtime.name, "--json", ...args]);
  const pictures: Picture[] = JSON.parse(output[0]);
  assertEquals([code, errors], [0, pictures.map(({ model }) => `running ${model} on ${runtime.name}\n`).join("")]);
  return pictures;
}

/** What holds unless the machine is busy. */
function timely(condition: boolean, what: string): void {
  if (!condition) throw new Slow(what);
}

function lane(lanes: Lane[], name: string): Lane {
  return lanes.find((lane) => lane.name.split(" ")[0] === name)!;
}

function time({ spans }: Lane, kind: string): number {
  return spans.filter((span) => span.kind === kind).reduce((sum, { from, to }) => sum + to - from, 0);
}

/** The part of a lane's time that such spans take. */
function share({ spans }: Lane, such: (span: Span) => boolean): number {
  const length = (spans: Span[]) => spans.reduce((sum, { from, to }) => sum + to - from, 0);
  return length(spans.filter(such)) / length(spans);
}

/** Which thread has worked for which client. */
function work(threads: Lane[]): { thread: string; id: number }[] {
  return threads.flatMap(({ name, spans }) =>
    spans.filter(({ kind }) => kind === "compute").map(({ texts }) => ({ thread: name, id: Number(texts[1]) }))
  );
}
