// SPDX-License-Identifier: MIT
/** timeline.ts --live: who may use its page, what the page shows, and that nothing outlives it. */

import { readdirSync, readFileSync } from "node:fs";
import * as http from "node:http";
import * as net from "node:net";
import { draw } from "../scripts/tools/lanes.ts";
import { drawSvg } from "../scripts/tools/picture.ts";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { isRunning } from "./children.ts";
import { check, hasFFI, linux, run, type Runtime, runtimes, Script, until } from "./harness.ts";

check("lanes: the last seconds of a recording, and messages that come in parts or together", () => {
  const line = (time: number, event: string, id: number, detail = "") => ({ time, thread: "main", event, id, detail });
  const visit = (role: string, port: number, begin: number, end: number) => ({
    role,
    port,
    begin,
    connected: begin,
    end,
  });
  const picture = draw({
    model: "tasks",
    options: [],
    runtime: "deno",
    visits: [
      { ...visit("A", 1, 0, 9000), exchanges: [] },
      {
        ...visit("B", 2, 0, 15_000),
        // The first arrives in two parts, the others together.
        exchanges: [{ sent: 10_100, size: 3, received: 10_400 }, { sent: 10_155, size: 2, received: 10_800 }, {
          sent: 10_300,
          size: 1,
          received: 10_900,
        }],
      },
    ],
    lines: [
      line(1, "accept", 1, "127.0.0.1:1"),
      line(1, "accept", 2, "127.0.0.1:2"),
      line(8000, "error", 1, "long ago"),
      line(10_150, "recv", 2, '2 "xx"'),
      line(10_160, "recv", 2, '1 "x"'),
      line(10_600, "recv", 2, '3 "xxx"'),
      line(14_000, "error", 2, "just now"),
    ],
    tasks: [{ name: "main", cpu: 0, runs: [{ from: 0, to: 15_000, running: false, call: "epoll_wait" }] }],
    cpu: 0,
    end: 15_000,
  }, 10_000);
  assertEquals(picture.clients.map(({ name }) => name), ["#2 B"]);
  const waits = picture.clients[0].spans.filter(({ kind }) => kind === "wait").map(({ from, to }) => [from, to]);
  assertEquals(waits, [[100, 150], [400, 600]]);
  assertEquals([picture.start, picture.end, picture.threads[0].spans[0].from], [10_000, 5000, 0]);
  assertEquals(picture.notes.filter((note) => /error/.test(note)), ["main error just now"]);
  assertMatch(drawSvg([picture], 20_000), /x="88" [^>]*>10 s<.*>28 s</s);
});

check("lanes: two messages that are computed one after the other are one piece, whatever runs later", () => {
  const line = (time: number, event: string, detail = "") => ({ time, thread: "main", event, id: 1, detail });
  const { threads: [main] } = draw({
    ...{ model: "tasks", options: [], runtime: "deno", visits: [] },
    lines: [
      line(50, "accept", "127.0.0.1:1"),
      line(100, "work"),
      line(600, "send", "1"),
      line(600.4, "work"),
      line(1100, "send", "1"),
    ],
    tasks: [{
      ...{ name: "main", cpu: 1010 },
      runs: [
        { from: 100, to: 1100, running: true, call: "" },
        { from: 1100, to: 5000, running: false, call: "epoll_wait" },
        { from: 5000, to: 5010, running: true, call: "" },
      ],
    }],
    cpu: 1010,
    end: 6000,
  });
  const computes = main.spans.filter(({ kind }) => kind === "compute").map(({ from, to }) => [from, to]);
  assertEquals(computes, [[100, 1100]]);
});

check("lanes: what a client has waited, and the share of a core", () => {
  const line = (time: number, event: string, detail = "") => ({ time, thread: "main", event, id: 1, detail });
  const { clients: [client], threads: [main], notes } = draw({
    model: "blocking",
    options: [],
    runtime: "deno",
    visits: [{
      ...{ role: "A", port: 1, begin: 0, connected: 10, end: 900 },
      exchanges: [{ sent: 200, size: 3, received: 500 }],
    }],
    lines: [line(110, "accept", "127.0.0.1:1"), line(400, "recv", '3 "xxx"')],
    tasks: [{
      ...{ name: "main", cpu: 250 },
      runs: [{ from: 0, to: 750, running: false, call: "accept" }, { from: 750, to: 1000, running: true, call: "" }],
    }],
    cpu: 250,
    end: 1000,
  });
  // To connect, in the backlog, and until its message was received.
  assertEquals(client.total, 10 + 100 + 200);
  assertEquals(client.spans.slice(0, 2).map(({ kind, from, to }) => [kind, from, to]), [
    ["connect", 0, 10],
    ["backlog", 10, 110],
  ]);
  assertEquals(main.total, 250);
  assertEquals(notes.slice(0, 2), ["CPU 250 ms in 1.00 s: 25 % of a core", "main 75 % accept, 25 % running"]);
});

for (const runtime of runtimes) {
  const title = `${runtime.name} timeline.ts --live`;

  const checkPage = (what: string, args: string[], use: (page: Page) => Promise<void>) =>
    check(`${title}: ${what}`, () => visit(runtime, args, use));

  checkPage("answers its own page, and no other", ["tasks", "pool"], async (page) => {
    const { port } = page, host = `127.0.0.1:${port}`, origin = `http://${host}`;
    const status = async (method: string, path: string, headers: Record<string, string>, body = "what=stop") =>
      (await page.request(method, path, headers, method === "GET" ? "" : body)).status;
    const { status: found, text, policy } = await page.request("GET", "/", { host });
    assertEquals(found, 200);
    assertMatch(text, /<select name="model1".*<option selected>tasks<\/option>.*<select name="model2"/s);
    // The choice is the page's own affair, and a model's source is there to be read.
    assertEquals(await status("GET", "/?model1=pool", { host }), 200);
    assertMatch((await page.request("GET", "/pool.ts", { host })).text, /function joinPool/);
    assertEquals(await status("GET", "/client.ts", { host }), 404);
    // In the browser's language, or in the one that was asked for.
    const languages = [["/", "zh-CN,en", "zh"], ["/", "en,zh", "en"], ["/en", "zh", "en"], ["/zh", "en", "zh"]];
    for (const [path, accepted, language] of languages) {
      const { text } = await page.request("GET", path, { host, "accept-language": accepted });
      assertMatch(
        text,
        new RegExp(`<html lang="${language}">.*>${language === "zh" ? "启动" : "start"}</button>`, "s"),
      );
    }
    assertMatch(await page.tell("connect 1", { language: "zh" }), /^没有服务器在运行/);
    assertMatch(policy, /default-src 'none'.*frame-ancestors 'none'/);
    for (const name of ["localhost", "[::1]"]) {
      assertEquals(await status("GET", "/", { host: `${name}:${port}` }), 200);
    }
    for (const path of ["/", "/events"]) {
      for (const host of ["example.org", `example.org:${port}`, "127.0.0.1", `127.0.0.1:${port + 1}`]) {
        assertEquals(await status("GET", path, { host }), 403, `${path} for ${host}`);
      }
      assertEquals(await status("GET", path, { host, origin: "http://example.org" }), 403);
    }
    assertEquals(await status("POST", "/do", { host, origin }), 200);
    assertEquals(await status("POST", "/do", { host }), 403, "no origin");
    for (const other of ["null", "http://example.org", `https://${host}`, `http://localhost:${port}`, `${origin}1`]) {
      assertEquals(await status("POST", "/do", { host, origin: other }), 403, other);
    }
    assertEquals(await status("POST", "/do", { host: "example.org", origin }), 403);
    assertEquals(await status("POST", "/do", { host, origin }, `what=${"x".repeat(5000)}`), 413);
    assertEquals(await status("GET", "/do", { host }), 404);
    if (linux) assertEquals(await connects(port, "127.0.0.2"), false, "other addresses of the machine");
  });

  checkPage("of four clients pool's last one waits, and servers end without a page", [], async (page) => {
    const opened = page.listen();
    await page.tell("start", { model1: "pool", options1: " --work  1 ", model2: "tasks" });
    assertMatch(await page.tell("send 1 B"), /is not connected/);
    // Its threads are there before the first client; Deno calls them w-1 only once the log does.
    if (hasFFI(runtime)) await page.news(({ svg }) => />w(orker)?-3</.test(svg) && !/>#1 A</.test(svg));
    for (let i = 0; i < 4; i++) assertEquals(await page.tell("connect 1"), "");
    const waits = (svg: string) => lane(parts(svg)[0], "#4 D").includes('class="line"');
    const { svg, clients, text } = await page.news(({ svg }) => waits(svg) && />#4 D</.test(parts(svg)[1]));
    const [pool, tasks] = parts(svg);
    assertMatch(pool, /^pool --work 1 on .*>#4: no thread is free, 1 in line</s);
    for (const name of ["#1 A", "#2 B", "#3 C"]) assert(!lane(pool, name).includes('class="line"'), `${name} waits`);
    assertMatch(lane(tasks, "#4 D"), /class="quiet"/);
    assert(!lane(tasks, "#4 D").includes('class="line"'), "a task for everyone");
    assertEquals([clients.map(([name]) => name).join(""), text], [
      "ABCD",
      "running: everything since the start is shown",
    ]);

    const { shows: [{ log }], choice } = await page.news(() => true);
    assertMatch(log, / main accept #1 127\.0\.0\.1:\d+\n/);
    assertEquals(choice, [["pool", "--work 1"], ["tasks", ""]]);

    await page.tell("stop reading", { client: "B" });
    await page.news(({ clients }) => clients.some(([, label]) => label === "B, not reading"));
    await page.tell("read again", { client: "B" });
    await page.news(({ clients }) => clients.some(([, label]) => label === "B"));
    for (const [what, client] of [["half-close", "A"], ["reset", "B"], ["close", "C"]]) {
      await page.tell(what, { client });
      await page.news(({ clients }) => !clients.some(([name]) => name === client));
    }
    // There are threads that are free now.
    await page.tell("send 64 KiB");
    const { svg: later } = await page.news(({ svg }) => lane(parts(svg)[0], "#4 D").includes('class="served"'));
    for (const part of parts(later)) {
      assertMatch(lane(part, "#1 A"), />closed by the server</);
      assertMatch(lane(part, "#2 B"), />reset</);
      assertMatch(lane(part, "#3 C"), /class="quiet"/);
    }

    const servers = descendants(page.script.pid);
    if (linux) assertEquals(servers.length, 2);
    opened.destroy();
    assert(await until(() => !servers.some(isRunning), 15), "they have ended");
    assertMatch(await page.tell("connect 1"), /no server runs/);
  });

  checkPage("says what does not run, what has ended, and what it refuses", [], async (page) => {
    page.listen();
    assertMatch(await page.tell("connect 1"), /no server runs/);
    assertMatch(await page.tell("start", { model1: "../tools/load" }), /unknown model/);
    for (const option of ["--exec touch", "--exec=touch", "--host 0.0.0.0", "--port=1"]) {
      const said = await page.tell("start", { model1: "processes", options1: option });
      assertMatch(said, /^--\S+ can only be given on the command line/);
    }
    await page.tell("start", { model1: "tasks" });
    const said = await page.tell("start", { model1: "tasks", options1: "--nosuch $(date)", model2: "single" });
    assertMatch(said, /^tasks: Unknown option '--nosuch'[^\n]*\n$/);
    const { svg } = await page.news(({ phase }) => phase === "running");
    const [tasks, single] = parts(svg);
    assertMatch(tasks, /^tasks .*--nosuch \$\(date\).*>Unknown option '--nosuch'/s);
    assertMatch(single, /^single on /);
    await page.tell("connect 1");
    await page.tell("send 1 B");
    const { svg: last, clients } = await page.news(({ phase }) => phase === "stopped");
    assertMatch(parts(last)[1], />#1 A<.*class="served".*class="e".*>the server ended by itself, exit 0</s);
    assertEquals(clients, []);
    assertMatch(await page.tell("fly", { client: "A" }), /no server runs/);
    const pictures = page.count;
    assertEquals(await until(() => page.count > pictures, 1), false, "nothing is drawn when nothing runs");
  });

  checkPage("each experiment ends with what it promises", [], async (page) => {
    const { port } = page, { text } = await page.request("GET", "/en", { host: `127.0.0.1:${port}` });
    const lessons: Record<string, { models: string[][]; steps: [number, string, string][] }> = JSON.parse(
      /lessons = (\{.*?\}), texts = /.exec(text)![1],
    );
    const replied = /h6l-3-5z/, logs = ({ shows }: News) => shows.map(({ log }) => log);
    // What is shown before the last button is pressed, which is as soon as it is, and what at the end.
    const promises: Record<string, (news: News) => [before: boolean, after: boolean]> = {
      "the fourth waits": ({ svg }) => {
        const last = lane(svg, "#4 D"), waits = last.includes('class="line"') && /h6l-3 5z/.test(last);
        return [waits && !replied.test(last), replied.test(last) && />#1 A</.test(svg)];
      },
      "backpressure": (news) => {
        const client = lane(news.svg, "#1 A"), deaf = client.includes('class="deaf"');
        return [deaf && logs(news)[0].endsWith("#1 awaits send"), deaf && replied.test(client)];
      },
      "half-close": (news) => {
        const client = lane(news.svg, "#1 A");
        return [
          logs(news)[0].includes("work #1 800 ms"),
          client.includes('class="half"') && replied.test(client) && logs(news)[0].includes("close #1 by the client"),
        ];
      },
      "one client computes": (news) => {
        const order = logs(news).map((log) => Array.from(log.matchAll(/ send #(\d)/g), ([, id]) => id).join());
        return [logs(news).every((log) => /work #1/.test(log)), order.join(" ") === "1,2 2,1"];
      },
    };
    const opened = page.listen();
    assertEquals(Object.keys(lessons), Object.keys(promises));
    for (const [name, { models, steps }] of Object.entries(lessons)) {
      const fields = models.flatMap(([model, options], i) => [
        [`model${i + 1}`, model],
        [`options${i + 1}`, options.replace("2000", "800")],
      ]);
      assertEquals(await page.tell("start", Object.fromEntries(fields)), "");
      for (const [i, [, what, client = ""]] of steps.entries()) {
        await page.news(({ clients }) => !client || clients.some(([name]) => name === client));
        if (i + 1 === steps.length) await page.news((news) => promises[name](news)[0]);
        assertEquals(await page.tell(what, { client }), "", `${name}: ${what}`);
      }
      if (name === "half-close") {
        // Sent all the same, that would be its end, and its reply lost.
        assertMatch(await page.tell("send 1 B"), /^client A (has shut down its sending side|is not connected)/);
      }
      await page.news((news) => promises[name](news)[1]);
    }
    opened.destroy();
  });

  if (linux) {
    checkPage("SIGTERM ends its servers, and what they have started", [], async (page) => {
      page.listen();
      await page.tell("start", { model1: hasFFI(runtime) ? "processes" : "pool" });
      await page.tell("connect 1");
      const most = hasFFI(runtime) ? 2 : 1;
      assert(await until(() => descendants(page.script.pid).length === most));
      const servers = descendants(page.script.pid);
      assertEquals(await page.script.stop("SIGTERM", 10), 0);
      assertEquals(servers.filter(isRunning), []);
    });

    checkPage("a server does not outlive it, even if it was killed and nothing is logged", [], async (page) => {
      page.listen();
      await page.tell("start", { model1: "pool" });
      const servers = descendants(page.script.pid);
      assertEquals(servers.length, 1);
      await page.script.kill();
      assert(await until(() => !servers.some(isRunning)), "it has ended");
    });
  }

  check(`${title}: what is wrong with its command line takes one line`, async () => {
    const taken = net.createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => taken.once("listening", resolve));
    const { port } = taken.address() as net.AddressInfo;
    const { code, errors } = await run(runtime, "timeline.ts", ["--live", String(port)]);
    taken.close();
    assertEquals(code, 1);
    assertMatch(errors, /^timeline\.ts: cannot listen on 127\.0\.0\.1:\d+: [^\n]*\(EADDRINUSE\)\n$/);
    for (
      const args of [["--live", "65536"], ["--live", "x"], ["--live", "0", "--json"], [
        "--live",
        "0",
        "pool",
        "tasks",
        "epoll",
      ]]
    ) {
      const { code, errors } = await run(runtime, "timeline.ts", args);
      assertEquals(code, 2);
      assertMatch(errors, /^timeline\.ts: [^\n]+\n$/);
    }
  });
}

/** What the page is told. */
interface News {
  svg: string;
  shows: { model: string; svg: string; log: string }[];
  choice: [model: string, options: string][];
  phase: string;
  text: string;
  clients: [name: string, label: string][];
}

/** The program, and what its page does. */
class Page {
  readonly script: Script;
  port = 0;
  /** How often something has been drawn. */
  count = 0;
  #last: News = { svg: "", shows: [], choice: [], phase: "", text: "", clients: [] };

  constructor(script: Script) {
    this.script = script;
  }

  request(method: string, path: string, headers: Record<string, string>, body = "") {
    return new Promise<{ status: number; text: string; policy: string }>((resolve, reject) => {
      const request = http.request({ host: "127.0.0.1", port: this.port, method, path, headers, agent: false });
      request.on("error", reject).on("response", (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (part) => text += part).on("error", reject);
        const policy = String(response.headers["content-security-policy"]);
        response.on("end", () => resolve({ status: response.statusCode!, text, policy }));
      });
      request.end(body);
    });
  }

  /** Presses a button: what the page is told then, nothing if it has its way. */
  async tell(what: string, fields: Record<string, string> = {}): Promise<string> {
    const host = `127.0.0.1:${this.port}`, body = new URLSearchParams({ ...fields, what }).toString();
    return (await this.request("POST", "/do", { host, origin: `http://${host}` }, body)).text;
  }

  /** Opens the page; the result closes it. */
  listen(): http.ClientRequest {
    const request = http.get({ host: "127.0.0.1", port: this.port, path: "/events", agent: false }, (response) => {
      let rest = "";
      response.setEncoding("utf8").on("error", () => {}).on("data", (text: string) => {
        const events = (rest + text).split("\n\n");
        rest = events.pop()!;
        this.count += events.length;
        if (events.length === 0) return;
        this.#last = JSON.parse(events.at(-1)!.slice("data: ".length));
        this.#last.svg = this.#last.shows.map(({ svg }) => svg).join("");
      });
    });
    return request.on("error", () => {});
  }

  /** Waits until the page shows something. */
  async news(such: (news: News) => boolean): Promise<News> {
    await until(() => such(this.#last), 30);
    const shown = {
      ...this.#last,
      svg: this.#last.svg.replace(/<style.*?<\/style>|<[^>]*>/gs, " ").replace(/\s+/g, " "),
    };
    assert(such(this.#last), `it shows ${JSON.stringify(shown)}`);
    return this.#last;
  }
}

async function visit(runtime: Runtime, args: string[], use: (page: Page) => Promise<void>): Promise<void> {
  const script = new Script(runtime, "timeline.ts", ["--live", "0", ...args]), page = new Page(script);
  try {
    page.port = Number(/:(\d+)/.exec(await script.line(/^http:\/\/127\.0\.0\.1:\d+\/ is the page/, 30))![1]);
    await use(page);
  } finally {
    await script.kill();
  }
}

/** What a picture shows of each of its models. */
function parts(svg: string): string[] {
  return svg.split(/<text [^>]*class="t">/).slice(1);
}

/** What is drawn of a client. */
function lane(part: string, name: string): string {
  return new RegExp(`>${name}</text>(.*?)class="e"`, "s").exec(part)?.[1] ?? "";
}

async function connects(port: number, host: string): Promise<boolean> {
  const socket = net.connect(port, host);
  const found = await new Promise<boolean>((resolve) => {
    socket.on("connect", () => resolve(true)).on("error", () => resolve(false));
  });
  socket.destroy();
  return found;
}

/** The processes that a process has started, and those that they have. */
function descendants(pid: number | string): string[] {
  if (!linux) return [];
  const own = readdirSync(`/proc/${pid}/task`)
    .flatMap((thread) => readFileSync(`/proc/${pid}/task/${thread}/children`, "utf8").match(/\d+/g) ?? []);
  return own.flatMap((child) => [child, ...descendants(child)]);
}
