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
      "Each model at 50 and at 500 connections; where there are no figures, it does not serve so many at once. Then each " +
      "against the next slower one: that may be inconclusive although one stands above the other in the first table.",
    tables: ({ rows, comparisons }) => [
      matrix(rows, "messages per second", rateOf),
      matrix(rows, "microseconds of CPU per message", cpuOf),
      ...pairs(comparisons),
    ],
  },
  threads: {
    title: "What a thread costs",
    about:
      "Twenty clients connect one after the other. The server has served as many before, so the threads of `pool` and " +
      "`blocking`, one for each client, exist already; `threads` starts one for each new client.",
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
      "Eight connections send; every tenth of their messages takes 10 ms of CPU, the others none. Beside them are 5000 " +
      "idle ones. The latency is that of light messages, when 1 % of the idle clients speak each second.",
    tables: groups,
  },
  slow: {
    title: "A client that never reads",
    about:
      "Nine connections that send and read, with and without a tenth that sends and never reads. The ratio is of " +
      "the rates of the nine.",
    tables: ({ rows, comparisons }) => [slowRates(rows, comparisons)],
  },
  shim: {
    title: "What the common interface costs",
    about: "`bare` is an echo written directly on the API of each runtime; the others use `shim/`.",
    tables: groups,
  },
  peers: {
    title: "Other languages",
    about:
      "The same models written in C, Go and Python. One message is in flight per connection. A client that answers " +
      "several replies together has a server find several clients ready, which favours those that serve many with one call.",
    tables: groups,
  },
  stream: {
    title: "Other languages, sixteen messages in flight",
    about: "As above, but a client sends on without waiting for replies.",
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

/** A ratio: from 10 up whole, below with two decimals. Its parts don't break. */
function range(spread: Spread | undefined): string {
  if (!spread) return "";
  const show = (value: number) => value < 10 ? value.toFixed(2) : value.toFixed();
  return `${show(spread.median)}\u00a0(${show(spread.low)}–${show(spread.high)})`;
}

function rateOf({ messagesPerSecond, figures, setting: { connections } }: Row): string {
  return figures && figures.served < connections
    ? `${figures.served} of ${connections} served`
    : figure(messagesPerSecond?.median);
}

function cpuOf({ figures }: Row): string {
  const server = figures?.server;
  return server && figures.messagesPerSecond > 0 ? figure(server.userUsPerMessage + server.systemUsPerMessage) : "";
}

function verdictOf({ verdict }: Comparison): string {
  return verdict.replace(/^tie\b/, "inconclusive");
}

const units: Record<keyof Setting, (value: number) => string> = {
  connections: (value) => value === 1 ? "1 connection" : `${value} connections`,
  together: (value) => value > 0 ? "all at once" : "",
  idle: (value) => value > 0 ? `${figure(value)} silent ones` : "",
  slow: (value) => value > 0 ? `${value} that never reads` : "",
  workMs: (value) => value > 0 ? `${value} ms of work` : "",
  inflight: (value) => value > 1 ? `${value} messages in flight` : "",
  holdUs: (value) => value === 0 ? "each reply answered at once" : "",
};

function settingOf(setting: Setting): string {
  return (Object.keys(units) as (keyof Setting)[]).map((key) => units[key](setting[key])).filter(Boolean).join(", ");
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
    by === "connections" ? units.connections(column) : `${figure(column)}${i === 0 ? ` ${title}` : ""}`
  );
  return `${what[0].toUpperCase()}${what.slice(1)}:\n\n${table(["model", "on", ...heads], body, 2)}`;
}

const measures: [Measured, string][] = [
  ["messagesPerSecond", "messages/s, ratio"],
  ["firstReplyUs", "first reply, ratio"],
  ["p99Us", "p99, ratio"],
  ["cpuUsPerMessage", "CPU, ratio"],
];

/** Those ratios that are in the data. */
function measuredIn(comparisons: Comparison[]): [Measured, string][] {
  return measures.filter(([name]) => comparisons.some(({ ratios }) => ratios[name]));
}

/** Pairs, a line each, and a table for each setting. */
function pairs(comparisons: Comparison[]): string[] {
  const columns = measuredIn(comparisons);
  return [...Map.groupBy(comparisons, ({ setting }) => settingOf(setting))].map(([setting, own]) =>
    `Compared, turn by turn, ${setting}:\n\n${
      table(
        ["model", "on", "against", ...columns.map(([, head]) => head), "verdict"],
        own.map((one) => [
          one.model,
          onText(one.on),
          againstText(one),
          ...columns.map(([name]) => range(one.ratios[name])),
          verdictOf(one),
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
  return [...Map.groupBy(rows, ({ setting }) => settingOf(setting))].map(([setting, rows]) => {
    const of = (row: Row, ratio: string[], verdict: string) => [
      row.model,
      onText(row.on),
      row.failure ? "–" : rateOf(row),
      cpuOf(row) || "–",
      ...ratio,
      verdict,
    ];
    const own = comparisons.filter((one) => settingOf(one.setting) === setting), shown = new Set<Row>();
    const find = (model: string, on: string) => rows.find((row) => row.model === model && row.on === on)!;
    const lines = [...Map.groupBy(own, ({ against }) => against)].flatMap(([against, own]) => {
      const [model, on] = against.split(" "), first = find(model, on);
      shown.add(first);
      return [
        of(first, columns.map(() => "1"), "compared with"),
        ...own.map((one) => {
          const row = find(one.model, one.on);
          shown.add(row);
          return of(row, columns.map(([name]) => range(one.ratios[name])), verdictOf(one));
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
    ["model", "on", "first reply, µs", ...head, "memory per connection, kB", "threads", "messages/s"],
    byModel(rows).map((row) => {
      const twin = together.find(({ model, on }) => model === row.model && on === row.on);
      const atOnce = head.map(() => figure(twin?.figures?.firstReplyUs) || "–");
      const server = row.figures?.server, grown = server?.connectionMB;
      const memory = grown === null || grown === undefined ? "–" : grown < 0.01 ? "< 10" : figure(grown * 1000);
      const first = figure(row.figures?.firstReplyUs) || "–", threads = String(server?.threads ?? "–");
      return [row.model, onText(row.on), first, ...atOnce, memory, threads, row.failure ? "–" : rateOf(row)];
    }),
    2,
  );
}

function slowRates(rows: Row[], comparisons: Comparison[]): string {
  const servers = [...Map.groupBy(rows, ({ model, on }) => `${model} | ${on}`)];
  return table(
    ["model", "on", "messages/s without", "messages/s with", "ratio", "CPU, ratio", "verdict"],
    servers.map(([server, own]) => {
      const [model, on] = server.split(" | "), one = comparisons.find((one) => one.model === model && one.on === on);
      const rate = (slow: number) => {
        const row = own.find(({ setting }) => setting.slow === slow);
        return row ? rateOf(row) : "–";
      };
      return [
        model,
        onText(on),
        rate(0),
        rate(1),
        range(one?.ratios.messagesPerSecond),
        range(one?.ratios.cpuUsPerMessage),
        one ? verdictOf(one) : "",
      ];
    }),
    2,
  );
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

function section([name, { experiments, rounds, seconds, date, revision }]: [string, Results]): string {
  const { title, about, tables } = sections[name] ?? { title: name, about: "", tables: groups };
  const picture = existsSync(join(folder, `../${name}.svg`)) ? `![${title}](../${name}.svg)` : "";
  const source =
    `${rounds} turns of ${seconds} s for each server, ${date}, revision ${revision} of the servers; data: ` +
    `[${name}.json](${name}.json).`;
  return [`## ${title}`, about, source, picture, ...experiments.flatMap(tables)].filter(Boolean).join("\n\n");
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

\`deno task bench\` measures the models where you are; \`deno run -A scripts/bench.ts --help\` lists the other
experiments.

| machine        | ${common(({ machine }) => machine)} |
| -------------- | --- |
| versions       | ${versions.join(", ")} |
| load generator | \`load.ts\` on ${common(({ generator }) => onText(generator))}, on the same machine |
| message        | ${
  common(({ messageBytes }) => String(messageBytes))
} bytes, one in flight per connection unless it says otherwise |

The machine is shared, so two runs of the same server may differ by a third. For that reason the servers take turns, and
a ratio is made of two that ran one after the other.

- \`0.95 (0.92–1.35)\` is a ratio: the median of all turns, then the lowest and the highest. **A range that includes 1 is
  inconclusive**, and the verdict says so if that holds for all ratios of the pair. Otherwise it names what they show, judged before
  rounding.
- **messages/s** are echoes per second of all connections together, the median of all turns. More is better.
- **CPU** is the time that the server's process used per message, in the program and in the kernel, in microseconds (µs).
  Less is better. It depends less on the neighbours than the rate does.
- **first reply** is the time from connect to the first reply, the median of all connections, in microseconds.
- **(?)** behind a verdict: a figure of the pair is to be doubted, as the load generator was the limit, or the machine busy.
- – was not measured: the model is not made for that many clients.

Contents: ${results.map(([name]) => sections[name]?.title ?? name).map(link).join(" · ")}

${results.map(section).join("\n\n")}
`);

function link(title: string): string {
  return `[${title}](#${title.toLowerCase().replace(/[^\w\- ]/g, "").replaceAll(" ", "-")})`;
}
