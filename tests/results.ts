// SPDX-License-Identifier: MIT
/**
 * Prints the page of results, .github/bench/README.md, made from the results of bench.ts beside it, *.json.
 *
 *   deno task charts
 */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { settingText } from "../scripts/tools/report.ts";
import type { Comparison, Experiment, Measured, Results, Row, Setting, Spread } from "../scripts/tools/results.ts";

const folder = join(dirname(fileURLToPath(import.meta.url)), "../.github/bench");
const names: Record<string, string> = { deno: "Deno", bun: "Bun", node: "Node" };

/** A section: a title, what to know before reading its tables, and these. */
interface Section {
  title: string;
  about: string;
  tables: (experiment: Experiment) => string[];
}

/** By the name of the file; in this order. What is not named here comes last, with the tables that fit anything. */
const sections: Record<string, Section> = {
  models: {
    title: "All models",
    about:
      "The ratios are to `tasks` on the same runtime. Latency is measured at one rate for all of a runtime: half of what " +
      "`tasks` reached in its first start.",
    tables: ({ rows, comparisons }) => [
      matrix(rows, "messages per second", rateOf),
      matrix(rows, "microseconds of CPU per message", cpuOf),
      ...latencies(rows),
      ...pairs(comparisons),
    ],
  },
  threads: {
    title: "What a thread costs",
    about:
      "Clients connect one after the other, or all at once. The server has served as many before, so the threads of `pool` " +
      "and `blocking`, one for each client, exist already; `threads` starts one for each new client. Memory counts from " +
      "before the first client: what a runtime takes once, for its first messages, is in it, a tenth for each of the ten. " +
      "That is nearly all that `tasks` shows here. The threads of `pool` are not in it, as they are there before the server " +
      "listens; those of the others are. What processes share, such as the program, counts in each.",
    tables: ({ rows, comparisons }) => [threadCosts(rows), ...pairs(comparisons)],
  },
  idle: {
    title: "Silent connections",
    about: "Ten connections send, beside so many that say nothing. The second table is of the same server, against " +
      "itself without silent connections: how many times as much CPU a message takes.",
    tables: ({ rows, comparisons }) => [
      matrix(rows, "microseconds of CPU per message", cpuOf, "idle", byModel),
      matrix(comparisons, "ratio of the CPU", ({ ratios }) => range(ratios.cpuUsPerMessage), "idle", byModel),
    ],
  },
  work: {
    title: "Handlers that compute",
    about:
      "Eight connections. Each message takes that much CPU before it is sent back. All are compared with `multiplex`, " +
      "one loop in one thread, on the same runtime.",
    tables: groups,
  },
  mixed: {
    title: "Mostly idle clients, and some work",
    about:
      "Every tenth message takes 10 ms of CPU, the others none. The ratios are to `multiplex`, one loop in one thread. A " +
      "latency is that of the light messages.",
    tables: (experiment) => [...latencies(experiment.rows), ...groups(experiment)],
  },
  shim: {
    title: "What the common interface costs",
    about:
      "`bare`, `promises` and `loop` are echoes by hand: on the API of each runtime with callbacks, with a promise for each " +
      "message, and with epoll through its FFI. Deno's API has no callbacks: there the first two are one program. The " +
      "others use `shim/`, and are compared with one in the same style; `coroutines` with `epoll`, whose calls it makes, too.",
    tables: groups,
  },
  peers: {
    title: "Other languages",
    about:
      "Against epoll in C, goroutines in Go and threads in Python, with one message in flight per connection. Not all are " +
      "of one model: `uring` is compared with epoll, and `blocking`, whose threads are made once, with a thread per " +
      "connection. Goroutines may use both cores.",
    tables: groups,
  },
  stream: {
    title: "Other languages, sixteen messages in flight",
    about: "As above, but each client has sixteen messages on their way, and sends another for each reply.",
    tables: groups,
  },
  generator: {
    title: "Is the load generator to be trusted?",
    about: "The same server under load from a client in C and from `load.ts`, which all results here come from.",
    tables: groups,
  },
};

// ---------------------------------------------------------------- figures

function onText(on: string): string {
  return names[on] ?? on;
}

/** Three digits that count, with spaces between thousands that don't break. */
function figure(value: number | null | undefined): string {
  if (value === null || value === undefined) return "";
  const rounded = Number(value.toPrecision(3));
  return rounded >= 1000 ? String(rounded).replace(/\B(?=(\d{3})+$)/g, "\u00a0") : String(rounded);
}

/** A ratio: from 10 up whole, below with two decimals, unless that makes 1 of what is not. Its parts don't break. */
function range(spread: Spread | undefined): string {
  if (!spread) return "";
  const digits = (value: number) => value >= 10 ? 0 : value !== 1 && value.toFixed(2) === "1.00" ? 3 : 2;
  const show = (value: number) => value.toFixed(digits(value));
  return `${show(spread.median)}\u00a0(${show(spread.low)}–${show(spread.high)})`;
}

function rateOf({ messagesPerSecond, figures, setting: { connections } }: Row): string {
  return figures && figures.served < connections
    ? `${figures.served} of ${connections} served`
    : figure(messagesPerSecond?.median);
}

function cpuOf({ figures }: Row): string {
  const server = figures?.server;
  return server ? figure(server.cpuUsPerMessage) : "";
}

// ---------------------------------------------------------------- tables

/** Texts to the left, figures to the right. */
function table(head: string[], rows: string[][], texts = 1): string {
  const all = [head, ...rows], widths = head.map((_, i) => Math.max(3, ...all.map((row) => [...row[i]].length)));
  const left = (i: number) => i < texts || head[i] === "verdict";
  const line = (row: string[]) =>
    `| ${row.map((cell, i) => left(i) ? cell.padEnd(widths[i]) : cell.padStart(widths[i])).join(" | ")} |`;
  const rule = widths.map((width, i) => left(i) ? "-".repeat(width) : `${"-".repeat(width - 1)}:`);
  return [line(head), `| ${rule.join(" | ")} |`, ...rows.map(line)].join("\n");
}

function unique<T>(values: T[]): T[] {
  return [...new Set(values)];
}

/** Orders by the model first, so that a model's runtimes stand side by side. */
function byModel<T extends { model: string }>(rows: T[]): T[] {
  const order = unique(rows.map(({ model }) => model));
  return rows.toSorted((a, b) => order.indexOf(a.model) - order.indexOf(b.model));
}

/** A row for each server, and a column for each value of what is set. */
function matrix<T extends { model: string; on: string; setting: Setting }>(
  rows: T[],
  what: string,
  cell: (row: T) => string,
  by: keyof Setting = "connections",
  order: (rows: T[]) => T[] = (rows) => rows,
): string {
  const columns = unique(rows.map(({ setting }) => setting[by])), title = by === "idle" ? "silent" : "";
  const servers = [...Map.groupBy(order(rows), ({ model, on }) => `${model} | ${onText(on)}`)];
  const body = servers.map(([server, own]) => [
    ...server.split(" | "),
    ...columns.map((column) => {
      const row = own.find(({ setting }) => setting[by] === column);
      return row ? cell(row) || "–" : "–";
    }),
  ]);
  const heads = columns.map((column, i) =>
    by === "connections"
      ? `${column} connection${column === 1 ? "" : "s"}`
      : `${figure(column)}${i === 0 ? ` ${title}` : ""}`
  );
  return `${what[0].toUpperCase()}${what.slice(1)}:\n\n${table(["model", "on", ...heads], body, 2)}`;
}

const measures: [Measured, string][] = [
  ["messagesPerSecond", "messages/s, ratio"],
  ["firstReplyUs", "first reply, ratio"],
  ["p90Us", "p90, ratio"],
  ["cpuUsPerMessage", "CPU, ratio"],
];

/** Those ratios that are in the data. */
function measuredIn(comparisons: Comparison[]): [Measured, string][] {
  return measures.filter(([name]) => comparisons.some(({ ratios }) => ratios[name]));
}

/** Pairs, a line each, and a table for each setting. */
function pairs(comparisons: Comparison[]): string[] {
  const columns = measuredIn(comparisons);
  return [...Map.groupBy(comparisons, ({ setting }) => settingText(setting))].map(([setting, own]) =>
    `Compared, ${setting}:\n\n${
      table(
        ["model", "on", "against", ...columns.map(([, head]) => head), "verdict"],
        own.map((one) => [
          one.model,
          onText(one.on),
          againstText(one),
          ...columns.map(([name]) => range(one.ratios[name])),
          one.verdict,
        ]),
        3,
      )
    }`
  );
}

/** What it is compared with; the runtime is named if it is another. */
function againstText({ against, on }: Comparison): string {
  const [model, other] = against.split(" ");
  return other === on ? model : `${model} ${onText(other)}`;
}

/** A table for each setting: what is compared with, and below it those that are. */
function groups({ rows, comparisons }: Experiment): string[] {
  const columns = measuredIn(comparisons);
  return [...Map.groupBy(rows, ({ setting }) => settingText(setting))].map(([setting, rows]) => {
    const of = (row: Row, ratio: string[], verdict: string) => [
      row.model,
      onText(row.on),
      row.failure ? "–" : rateOf(row),
      cpuOf(row) || "–",
      ...ratio,
      verdict,
    ];
    const own = comparisons.filter((one) => settingText(one.setting) === setting), shown = new Set<Row>();
    const is = (model: string, on: string) => (row: Row) => row.model === model && row.on === on;
    const lines = [...Map.groupBy(own, ({ against }) => against)].flatMap(([against, own]) => {
      // A server that is compared with one group and the reference of another has a row for each; the latter is behind.
      const [model, on] = against.split(" "), first = rows.findLast(is(model, on))!;
      shown.add(first);
      return [
        of(first, columns.map(() => "1"), "compared with"),
        ...own.map((one) => {
          const row = rows.find(is(one.model, one.on))!;
          shown.add(row);
          return of(row, columns.map(([name]) => range(one.ratios[name])), one.verdict);
        }),
      ];
    });
    const rest = rows.filter((row) => !shown.has(row))
      .map((row) => of(row, columns.map(() => ""), row.failure ?? ""));
    const head = ["model", "on", "messages/s", "CPU µs", ...columns.map(([, head]) => head), "verdict"];
    return `${setting[0].toUpperCase()}${setting.slice(1)}:\n\n${table(head, [...lines, ...rest], 2)}`;
  });
}

function threadCosts(all: Row[]): string {
  const rows = all.filter(({ setting }) => !setting.together), together = all.filter((row) => !rows.includes(row));
  const head = together.length > 0 ? ["first reply, all at once, µs"] : [];
  return table(
    ["model", "on", "first reply, µs", ...head, "memory per connection, kB", "threads"],
    byModel(rows).map((row) => {
      const twin = together.find(({ model, on }) => model === row.model && on === row.on);
      const atOnce = head.map(() => figure(twin?.figures?.firstReplyUs) || "–");
      const server = row.figures?.server, grown = server?.connectionMB;
      const memory = grown === null || grown === undefined ? "–" : grown < 0.01 ? "< 10" : figure(grown * 1000);
      const first = figure(row.figures?.firstReplyUs) || "–", threads = String(server?.threads ?? "–");
      return [row.model, onText(row.on), first, ...atOnce, memory, threads];
    }),
    2,
  );
}

/** What was measured on a timetable, if that was. */
function latencies(rows: Row[]): string[] {
  const heads = ["at, messages/s", "p50", "p90", "p99", "p99.9", "lag"];
  const cells = ({ figures }: Row) => {
    const late = figures?.latencyUs;
    return late
      ? [late.rate, late.p50, late.p90, late.p99, late.p999, late.lag].map((one) => figure(one) || "–")
      : null;
  };
  if (!rows.some(cells)) return [];
  const body = rows.filter(({ figures }) => figures).map((
    row,
  ) => [row.model, onText(row.on), settingText(row.setting), ...cells(row) ?? heads.map(() => "–")]);
  return [
    `Latency in microseconds; – where a server can't keep up with the rate, or there were too few messages for it:\n\n${
      table(["model", "on", "under", ...heads], body, 3)
    }`,
  ];
}

// ---------------------------------------------------------------- the page

const files = readdirSync(folder).filter((name) => name.endsWith(".json")).map((name) => name.replace(".json", ""));
const order = Object.keys(sections),
  place = (name: string) => order.includes(name) ? order.indexOf(name) : order.length;
files.sort((a, b) => place(a) - place(b));
const results = files.map((name): [string, Results] => [
  name,
  JSON.parse(readFileSync(join(folder, `${name}.json`), "utf8")),
]);

function section([name, { experiments, method, date, revision }]: [string, Results]): string {
  const { title, about, tables } = sections[name] ?? { title: name, about: "", tables: groups };
  const notes = experiments.flatMap(({ notes }) => notes.map((note) => `- ${note[0].toUpperCase()}${note.slice(1)}.`));
  const picture = existsSync(join(folder, `../${name}.svg`)) ? `![${title}](../${name}.svg)` : "";
  const source = `${date}, revision ${revision} of the servers: ${method}. Data: [${name}.json](${name}.json).`;
  return [`## ${title}`, about, source, picture, ...experiments.flatMap(tables), notes.join("\n")].filter(Boolean).join(
    "\n\n",
  );
}

// ---------------------------------------------------------------- the first screen

/** What one decides by: a question, an answer, a ratio, and the experiment, model, other one and figure that it is of. */
type Reason = [when: string, use: string, says: string, name: string, model: string, against: RegExp, by: Measured];

// deno-fmt-ignore
const reasons: Reason[] = [
  ["wait for a database or another server", "`tasks`", "rate at 50 connections, to an echo by hand",
    "shim", "tasks", /^(bare|promises) /, "messagesPerSecond"],
  ["answer many messages, little work each", "`uring`", "CPU per message, to `tasks`",
    "models", "uring", /^tasks /, "cpuUsPerMessage"],
  ["answer many messages, little work each", "`multiplex`", "CPU per message, to `tasks`",
    "models", "multiplex", /^tasks /, "cpuUsPerMessage"],
  ["serve thousands of silent clients", "`tasks`, `epoll`", "CPU per message of `poll` beside 10 000 of them, to none",
    "idle", "poll", /^0 idle/, "cpuUsPerMessage"],
  ["compute for every message", "`reuseport`", "rate, to one loop",
    "work", "reuseport", /^multiplex /, "messagesPerSecond"],
  ["compute now and then", "`offload`", "time in which 90 % of the other messages are answered, to one loop",
    "mixed", "offload", /^multiplex /, "p90Us"],
  ["compute now and then", "`offload`", "rate, to one loop",
    "mixed", "offload", /^multiplex /, "messagesPerSecond"],
  ["block, and can't be written with `await`", "`pool`", "time to the first reply of `threads`, to `tasks`",
    "threads", "threads", /^tasks /, "firstReplyUs"],
  ["block, and can't be written with `await`", "`pool`", "its own, to `tasks`",
    "threads", "pool", /^tasks /, "firstReplyUs"],
  ["compute nothing", "not `offload`", "its rate, to `tasks`", "models", "offload", /^tasks /, "messagesPerSecond"],
];

/** What each runtime measured, a row for each reason for which there is a figure; under the most work, or silent clients. */
function decisions(): string {
  const runtimes = Object.keys(names), most = ({ setting: { idle, workMs } }: Comparison) => idle + workMs;
  const rows = reasons.flatMap(([when, use, says, name, model, against, by]) => {
    const all = results.find(([file]) => file === name)?.[1].experiments[0].comparisons ?? [];
    const own = all.filter((one) => one.model === model && against.test(one.against) && one.ratios[by]);
    const cells = runtimes.map((on) => {
      const [pair] = own.filter((one) => one.on === on).sort((a, b) => most(b) - most(a)), ratio = pair?.ratios[by];
      if (!ratio) return "–";
      const doubtful = by === "messagesPerSecond" && pair.verdict.includes("(?)");
      return `${range(ratio)}${ratio.low <= 1 && ratio.high >= 1 ? "\u00a0n.s." : doubtful ? "\u00a0(?)" : ""}`;
    });
    return own.length > 0 ? [[when, use, says, ...cells]] : [];
  });
  return table(["your handlers …", "use", "ratio", ...runtimes.map(onText)], rows, 3);
}

/** What all the files have in common, or each of them. */
function common(of: (results: Results) => string): string {
  return unique(results.map(([, result]) => of(result))).join("; ");
}

const versions = unique(
  results.flatMap(([, { versions }]) =>
    Object.entries(versions).map(([name, text]) => text.replace(name, onText(name)))
  ),
);

process.stdout.write(`# Results

[← README](../../README.md) | [简体中文](../README.zh-CN.md)

\`tasks\`, unless another row fits:

${decisions()}

A figure is the median of ratios, with an interval in brackets; below each title stands how it was made. **n.s.**: the
interval includes 1, nothing has been shown. **(?)**: a doubt stands below the tables. Two cores had to do for server and
load generator together, so a model with several threads would gain more on a larger machine. All servers echo, and do
nothing else.

| machine        | ${common(({ machine }) => machine)} |
| -------------- | --- |
| versions       | ${versions.join(", ")} |
| load generator | \`load.ts\` on ${common(({ generator }) => onText(generator))}, on the same machine |
| message        | ${
  common(({ messageBytes }) => String(messageBytes))
} bytes, one in flight per connection unless it says otherwise |

\`deno task bench\` measures the models where you are; \`deno run -A scripts/bench.ts --help\` lists the other
experiments. Servers are started with \`--quiet --messages 0 --idle 0\`. With other options \`uring\` is slower than here: it
has to be told of each message that was sent. Unless a table says that each reply is answered at once, the load
generator collects replies for up to 0.1 ms and answers them together, which favours servers that serve several clients
with one call. In the tables:

- **messages/s** are echoes per second of all connections together. More is better.
- **CPU** is the time that the server used per message, in the program and in the kernel, in microseconds (µs). Less is
  better. Of a server of one thread it says the same as the rate, and depends less on the neighbours: where the two
  differ, believe it. One of several threads may need more CPU per message, and be faster all the same.
- **first reply** is the time from connect to the first reply, the median of all connections, in microseconds.
- **Latency** counts from when a message was due by a timetable. A client sends it then whether or not it has the reply
  to the one before, so a rate may be higher than what the same server reaches one by one. **Lag**: 99 % of the messages
  were sent no later than this after they were due. It is in the latencies, and where they are of its size they are the
  generator's.
- A **verdict** says what each ratio of a pair shows: a word if its interval leaves out 1, equal if it is within 5 % of
  1, and inconclusive if that is so of none. **(?)**: the rate is to be doubted, for a reason that stands below the
  tables.
- – was not measured: the model is not made for that many clients, or for that work.

Contents: ${results.map(([name]) => sections[name]?.title ?? name).map(link).join(" · ")}

${results.map(section).join("\n\n")}
`);

function link(title: string): string {
  return `[${title}](#${title.toLowerCase().replace(/[^\w\- ]/g, "").replaceAll(" ", "-")})`;
}
