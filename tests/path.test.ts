// SPDX-License-Identifier: MIT
/** The path of the README: each question is asked as it stands there, and its answer is what the log says. */

import { readFileSync } from "node:fs";
import * as path from "node:path";
import process from "node:process";
import { assert, assertEquals } from "./assert.ts";
import {
  check,
  hasFFI,
  linux,
  project,
  type Runtime,
  runtimes,
  Script,
  serve,
  sleep,
  until,
  whole,
} from "./harness.ts";
import { models } from "./models.ts";

const editions = ["README.md", ".github/README.zh-CN.md"];

/** A question of the path, as one of the editions puts it. */
interface Question {
  script: string;
  /** What the server is given. */
  options: string[];
  /** What each client is given. */
  clients: string[][];
  /** What is set by `ulimit`, if anything is. */
  limit: string;
  /** The lines that the answer promises, in this order. */
  answer: string[];
}

function questionsOf(edition: string): Question[] {
  const text = readFileSync(path.join(project, edition), "utf8").replaceAll("\r", "");
  return text.split(/^(?=\d+\. \[`\w+\.ts`\])/m).slice(1).map((item) => {
    const [asked, folded] = item.split("<details>"), question = asked.split(/^ +_[^_]+_ /m)[1];
    const code = [...question.matchAll(/`([^`]+)`/g)].map(([, code]) => code.replace(/\s+/g, " "));
    const client = "bun scripts/client.ts";
    return {
      script: /`(\w+\.ts)`/.exec(item)![1],
      options: code.filter((code) => code.startsWith("--")).flatMap((code) => code.split(" ")),
      clients: code.filter((code) => code.startsWith(client))
        .map((code) => code.split(" ").slice(2)),
      limit: /ulimit -i \d+/.exec(question)?.[0] ?? "",
      answer: /```text\n([^]*?)\n *```/.exec(folded)![1].split("\n").map((line) => line.trim()),
    };
  });
}

const questions = questionsOf(editions[0]);

check("path: both editions ask the same, and promise the same lines", () => {
  assertEquals(questions.length, new Set(models.map(({ script }) => script)).size + 1);
  assertEquals(questionsOf(editions[1]), questions);
});

/** Figures that differ from run to run, machine to machine or runtime to runtime, as patterns; the rest is exact. */
function patternOf(line: string): RegExp {
  const pattern = line.replace(/[$()*+.?[\\\]^{|}]/g, "\\$&")
    .replace(/^\d+\\\.\d /, "^ *[\\d.]+ ")
    .replace(/-?\b\d+\\\.\d (ms|MB|of|in)/g, "-?[\\d.]+ $1")
    .replace(/of -?\d+\\\.\d MB/g, "of [\\d.]+ MB")
    .replace(/(127\\\.0\\\.0\\\.1):\d+/g, "$1:\\d+")
    .replace(/\d+ (bits|bytes of sets|calls so far|made|found nothing)/g, "\\d+ $1")
    .replace(/(end|start) p-\d/, "$1 p-\\d")
    .replace(/process \d+/, "process \\d+")
    // The kernel chooses the loop, the thread and the order.
    .replace(/loop-\d+ accepted \d+, open 0, messages \d+/, "loop-\\d+ accepted \\d+, open 0, messages \\d+")
    .replace(/descriptor \d+/, "descriptor \\d+")
    // A thread may start slowly, and the second client still be in line, too.
    .replace(/most, \d in line/, "most, \\d in line")
    .replace(/offload #1 w-\d/, "offload #1 w-\\d")
    .replace(/watched: #\d, #\d/, "watched: (#1, #2|#2, #1)");
  return new RegExp(`${pattern}$`);
}

/** What the log has of lines that were promised, as far as it has them in this order. */
function found(log: string[], answer: string[]): string[] {
  let at = -1;
  const lines: string[] = [];
  for (const line of answer) {
    at = log.findIndex((said, i) => i > at && patternOf(line).test(said));
    if (at < 0) break;
    lines.push(line);
  }
  return lines;
}

/** What a reader does. */
interface Reader {
  server: Script;
  /** Starts so many clients, one after the other. Where there are several commands, the last ones are given once. */
  clients(count: number): Promise<Script[]>;
}

/** Types what the log is to quote, and waits for the reply. */
async function say(client: Script): Promise<void> {
  client.type("hello\n");
  await client.line(/ recv /);
}

/** The bytes that have come for a port, and that no call has received: the column Recv-Q of ss(8). */
function unreceived(port: number): number {
  const local = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const rows = readFileSync("/proc/net/tcp", "utf8").split("\n").map((row) => row.trim().split(/\s+/));
  return Math.max(...rows.filter(([, own]) => own?.endsWith(local)).map((row) => parseInt(row[4].split(":")[1], 16)));
}

/** One command, which ends by itself when it has its replies. */
async function answered({ clients }: Reader): Promise<void> {
  const [client] = await clients(1);
  assertEquals(await client.exited, 0);
}

/** Stops a server with SIGSTOP: on a busy machine it may be in its wait still, and be handed the first client alone. */
async function suspend(server: Script): Promise<void> {
  process.kill(server.pid, "SIGSTOP");
  assert(await until(() => /\) T/.test(readFileSync(`/proc/${server.pid}/stat`, "utf8"))), "it is suspended");
}

/** What each question asks a reader to do. */
const acts: Record<string, (reader: Reader) => Promise<void>> = {
  "single.ts": async ({ server, clients }) => {
    const [first, second] = await clients(2);
    second.type("hello\n");
    await second.line(/ send /);
    await say(first);
    assertEquals([await second.exited, second.lines(/ recv /)], [1, []]);
    assertEquals(server.lines(/ #2/), []);
  },
  "blocking.ts": async ({ server, clients }) => {
    const [first, second] = await clients(2);
    second.type("hello\n");
    await server.line(/ backlog /);
    assert(await until(() => unreceived(server.port) === 6), "ss -tn shows the bytes");
    first.type();
    await second.line(/ recv /);
  },
  "processes.ts": answered,
  "prefork.ts": async ({ server, clients }) => {
    await server.count(/ ready /, 3);
    const [first, second] = await clients(2);
    for (const client of [first, second]) await say(client);
    const [, place] = / (p-\d) recv #1 /.exec(await server.line(/ recv #1 /))!;
    const [, pid] = / process (\d+)/.exec(await server.line(new RegExp(` start ${place} `)))!;
    process.kill(Number(pid), "SIGKILL");
    await first.exited;
    await server.count(/ start /, 4);
    second.type("hello\n");
    await second.count(/ recv /, 2);
  },
  "threads.ts": async ({ server, clients }) => {
    const [first, , third] = await clients(3);
    await server.line(/ wait #3/);
    assertEquals(third.lines(/ recv /), []);
    first.type();
    assertEquals(await third.exited, 0);
  },
  "pool.ts": async ({ server, clients }) => {
    const [, second, , fourth] = await clients(4);
    fourth.type("hello\n");
    await server.line(/ wait #4/);
    await sleep(200);
    assertEquals(fourth.lines(/ recv /), []);
    second.type();
    await fourth.line(/ recv /);
  },
  "tasks.ts": answered,
  "nonblocking.ts": async ({ server, clients }) => {
    await clients(1);
    await server.count(/ calls /, 2);
  },
  "select.ts": async ({ clients }) => {
    const [, , third] = await clients(3);
    assertEquals(await third.exited, 0);
  },
  "poll.ts": async ({ server, clients }) => {
    const [first, second] = await clients(3);
    first.type();
    await server.line(/ close #1 /);
    await say(second);
  },
  "epoll.ts": async ({ clients }) => say((await clients(1))[0]),
  "signals.ts": async ({ server, clients }) => {
    await suspend(server);
    const [crowd] = await clients(1);
    await crowd.count(/ send /, 50);
    process.kill(server.pid, "SIGCONT");
    assertEquals(await crowd.exited, 0);
  },
  "uring.ts": answered,
  "coroutines.ts": async ({ server, clients }) => {
    const [, second] = await clients(2);
    await server.line(/ park #2/);
    await say(second);
  },
  "multiplex.ts": async ({ server, clients }) => {
    const both = await clients(2);
    await server.line(/ accept #2/);
    await suspend(server);
    for (const client of both) client.type("hello\n");
    for (const client of both) await client.line(/ send /);
    process.kill(server.pid, "SIGCONT");
    for (const client of both) await client.line(/ recv /);
  },
  "reuseport.ts": async ({ server, clients }) => {
    await answered({ server, clients });
    await server.line(/ accepted /);
    await until(() => sum(server, "accepted") === 8);
    assertEquals(sum(server, "accepted"), 8);
  },
  "reactors.ts": async ({ server, clients }) => {
    await answered({ server, clients });
    await server.count(/ given /, 4);
  },
  "offload.ts": async ({ clients }) => {
    for (const client of await clients(2)) assertEquals(await client.exited, 0);
  },
};

/** The sum of what the loops have said last. */
function sum(server: Script, what: string): number {
  const last = new Map<string, number>();
  for (const line of server.output) {
    const [, loop, count] = new RegExp(` (loop-\\d+) ${what} (\\d+)`).exec(line) ?? [];
    if (loop) last.set(loop, Number(count));
  }
  return [...last.values()].reduce((sum, count) => sum + count, 0);
}

/** Asks a question on a runtime, and looks for its answer. */
async function ask({ script, options, clients, limit, answer }: Question, runtime: Runtime): Promise<void> {
  const bun = runtimes.find(({ name }) => name === "bun") ?? runtime, started: Script[] = [];
  const command = limit ? ["bash", "-c", `${limit}; exec "$@"`, "bash", ...runtime.command] : runtime.command;
  try {
    await serve({ ...runtime, command }, script, options, async (server) => {
      const start = async (count: number) => {
        for (let i = 0; i < count; i++) {
          const given = clients[Math.max(0, i - count + clients.length)];
          const client = new Script(bun, "client.ts", ["--port", `${server.port}`, ...given]);
          started.push(client);
          await client.line(/ connect /);
        }
        return started;
      };
      await acts[script]({ server, clients: start });
      // Under Bun signals are lost while its own loop runs: the answer says so.
      if (script === "signals.ts" && runtime.name === "bun") return assertEquals(server.lines(/ send /).length, 50);
      await until(() => found(server.output, answer).length === answer.length);
      assertEquals(found(server.output, answer), answer);
    });
  } finally {
    for (const client of started) await client.kill();
  }
}

for (const runtime of whole ? runtimes : []) {
  for (const question of questions) {
    const model = models.find(({ script }) => script === question.script);
    if (model?.systemCalls ? !hasFFI(runtime) : model?.linux && !linux) continue;
    check(`path: ${runtime.name} ${question.script}: the answer is what the log says`, () => ask(question, runtime));
  }
}
