// SPDX-License-Identifier: MIT
/**
 * Draws the charts of the README, .github/*.svg, from the results of bench.ts, .github/bench/*.json.
 *
 * Colours and lines are chosen for a light and a dark background: text takes its colour from a style sheet in the
 * picture, which asks the reader's system which one it is.
 *
 *   deno task charts
 */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import * as Plot from "@observablehq/plot";
import { parseHTML } from "linkedom";
import { settingText } from "../scripts/tools/report.ts";
import type { Comparison, Results, Row, Run, Spread } from "../scripts/tools/results.ts";

const pictures = join(dirname(fileURLToPath(import.meta.url)), "../.github");
const { document } = parseHTML("<!DOCTYPE html><html></html>") as unknown as {
  document: { createElementNS(namespace: string, name: string): Picture };
};

/** What is used of an element. */
interface Picture {
  setAttribute(name: string, value: string): void;
  appendChild(child: Picture): void;
  textContent: string;
  readonly outerHTML: string;
}

/** Bright enough for black, dark enough for white. */
const colours: Record<string, string> = {
  deno: "#2da44e",
  bun: "#db61a2",
  node: "#2f81f7",
  select: "#bf8700",
  poll: "#e5534b",
  epoll: "#2f81f7",
  uring: "#a371f7",
  multiplex: "#2da44e",
  tasks: "#1b9e9e",
};
const names: Record<string, string> = { deno: "Deno", bun: "Bun", node: "Node" };
const colour = (name: string) => colours[name] ?? "#7d8590";

const charts: Record<string, (result: Results) => Chart> = {
  models: drawModels,
  idle: drawIdle,
  work: drawWork,
  shim: drawRatios("Messages per second against what each is compared with (1 = the same)"),
  peers: drawRatios("Messages per second against the same model in C, Go and Python (1 = the same)"),
  threads: drawThreads,
};

interface Chart {
  title: string;
  /** The runtimes whose colours are to be explained. */
  legend?: string[];
  options: Plot.PlotOptions;
}

for (const file of readdirSync(join(pictures, "bench")).filter((name) => name.endsWith(".json"))) {
  const name = file.replace(".json", "");
  const result: Results = JSON.parse(readFileSync(join(pictures, "bench", file), "utf8"));
  const draw = charts[name];
  if (draw) writeFileSync(join(pictures, `${name}.svg`), render(draw(result), result));
}

/** A chart as a picture that stands alone: with its title, and on what it was measured. */
function render({ title, options, legend = [] }: Chart, { machine, versions, date }: Results): string {
  const { height = 300, ...rest } = options, width = 840;
  const svg = Plot.plot({
    ...rest,
    document,
    width,
    height: height + 72,
    marginTop: 72,
    marginBottom: 66,
    style: { background: "none" },
  } as Plot.PlotOptions) as unknown as Picture;
  const write = (text: string, place: Record<string, string | number>) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", "text");
    for (const [key, value] of Object.entries({ x: 8, fill: "currentColor", "text-anchor": "start", ...place })) {
      element.setAttribute(key, String(value));
    }
    element.textContent = text;
    svg.appendChild(element);
  };
  write(title, { y: 20, "font-size": 15 });
  write(`${machine}; ${Object.values(versions).join(", ")}; ${date}`, {
    y: height + 64,
    "font-size": 10,
    opacity: 0.7,
  });
  legend.forEach((on, i) => write(`● ${names[on]}`, { x: 8 + 70 * i, y: 40, "font-size": 12, fill: colour(on) }));
  const style = document.createElementNS("http://www.w3.org/2000/svg", "style");
  style.textContent = "svg { color: #1f2328; font-family: system-ui, sans-serif }" +
    "@media (prefers-color-scheme: dark) { svg { color: #e6edf3 } }";
  svg.appendChild(style);
  svg.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  return `${svg.outerHTML}\n`;
}

function find(result: Results, name: string) {
  return result.experiments.find((experiment) => experiment.name === name)!;
}

/** The runtimes that are in the data. */
function runtimesIn(rows: { on: string }[]): string[] {
  return Object.keys(names).filter((name) => rows.some(({ on }) => on === name));
}

/** The rows that have been measured to the end, and for all of their connections. */
function measured(rows: Row[]): Measured[] {
  return rows.filter((row): row is Measured =>
    row.figures !== null && !row.failure && row.figures.served === row.setting.connections
  );
}

type Measured = Row & { messagesPerSecond: Spread; figures: Run };

/** The ratio of the rates. */
function rate({ ratios }: Comparison): Spread {
  return ratios.messagesPerSecond!;
}

/** Dots in the colour of the runtime, with the lowest and the highest value as a line through each. */
function dots<T extends { on: string }>(data: T[], value: (row: T) => Spread, place: Record<string, unknown>) {
  return [
    Plot.link(data, {
      ...place,
      x1: (row: T) => value(row).low,
      x2: (row: T) => value(row).high,
      y1: place.y,
      y2: place.y,
      stroke: ({ on }: T) => colour(on),
      strokeWidth: 2.5,
      strokeOpacity: 0.5,
    } as Plot.LinkOptions),
    Plot.dot(data, {
      ...place,
      x: (row: T) => value(row).median,
      fill: ({ on }: T) => colour(on),
      r: 4.5,
    } as Plot.DotOptions),
  ];
}

function drawModels(result: Results): Chart {
  const rows = measured(find(result, "models").rows);
  const order = [...new Set(rows.map(({ model }) => model))];
  return {
    title: "Messages per second, 64 bytes each, by number of connections",
    legend: runtimesIn(rows),
    options: {
      height: 90 + order.length * 22,
      marginLeft: 90,
      x: {
        type: "log",
        domain: [3000, 300_000],
        label: "messages per second →",
        labelOffset: 36,
        grid: true,
        tickFormat: "~s",
        ticks: [10_000, 30_000, 100_000],
      },
      y: { domain: order, label: null, tickSize: 0 },
      fx: { label: null, tickFormat: (value: number) => value === 1 ? "1 connection" : `${value} connections` },
      marks: [
        Plot.frame({ strokeOpacity: 0.2 }),
        ...dots(rows, ({ messagesPerSecond }) => messagesPerSecond, {
          y: "model",
          fx: ({ setting }: Row) => setting.connections,
        }),
      ],
    },
  };
}

function drawIdle(result: Results): Chart {
  const rows = measured(find(result, "idle").rows).filter(({ figures }) => figures.server !== null);
  const cost = ({ figures: { server } }: Measured) => server!.cpuUsPerMessage;
  const last = Math.max(...rows.map(({ setting }) => setting.idle));
  const ends = runtimesIn(rows).flatMap((on) => {
    const series = [...new Set(rows.map(({ model }) => model))].map((model) =>
      rows.filter((row) => row.model === model && row.on === on).reduce((a, b) =>
        a.setting.idle > b.setting.idle ? a : b
      )
    ).filter((row) => row !== undefined);
    return apart(series.map((row) => ({ row, at: Math.log10(cost(row)) })), 0.11);
  });
  return {
    title: `Microseconds of CPU per message of ten active connections, beside up to ${last} silent ones`,
    options: {
      height: 360,
      marginLeft: 60,
      marginRight: 80,
      x: { type: "point", label: "silent connections →", labelOffset: 36, padding: 0.2 },
      y: {
        type: "log",
        domain: [3, 1000],
        label: null,
        grid: true,
        ticks: [3, 10, 30, 100, 300, 1000],
        tickFormat: "~s",
      },
      fx: { label: null, domain: runtimesIn(rows), padding: 0.3, tickFormat: (on: string) => names[on] },
      marks: [
        Plot.line(rows, {
          x: ({ setting }: Row) => setting.idle,
          y: cost,
          z: "model",
          fx: "on",
          stroke: ({ model }: Row) => colour(model),
          strokeWidth: 2,
          marker: "dot",
        }),
        Plot.text(ends, {
          x: ({ row }) => row.setting.idle,
          y: ({ at }) => 10 ** at,
          fx: ({ row }) => row.on,
          text: ({ row }) => row.model,
          fill: ({ row }) => colour(row.model),
          textAnchor: "start",
          dx: 8,
          fontSize: 12,
        }),
      ],
    },
  };
}

/** Moves labels apart that would lie on one another. */
function apart<T extends { at: number }>(labels: T[], gap: number): T[] {
  const sorted = labels.toSorted((a, b) => a.at - b.at);
  return sorted.reduce<T[]>((placed, label) => {
    const below = placed.at(-1)?.at ?? -Infinity;
    return [...placed, { ...label, at: Math.max(label.at, below + gap) }];
  }, []);
}

function drawWork(result: Results): Chart {
  const { comparisons } = find(result, "work");
  const models = [...new Set(comparisons.map(({ model }) => model))];
  return {
    title: "Messages per second against one loop, when a message takes so much CPU (1 = the same)",
    legend: runtimesIn(comparisons),
    options: {
      height: 90 + models.length * 50,
      marginLeft: 90,
      x: {
        label: "times as many as multiplex →",
        labelOffset: 36,
        grid: true,
        domain: [0, Math.max(2.2, ...comparisons.map((row) => rate(row).high))],
      },
      y: { domain: models, label: null, tickSize: 0 },
      fx: { label: null, tickFormat: (value: number) => `${value} ms` },
      marks: [
        Plot.frame({ strokeOpacity: 0.2 }),
        Plot.ruleX([1], { strokeOpacity: 0.6 }),
        ...dots(comparisons, rate, { y: "model", fx: ({ setting }: Comparison) => setting.workMs }),
      ],
    },
  };
}

/** Ratios to what they are compared with, which is a heading above its group, by setting; and 1 as a line. */
function drawRatios(title: string): (result: Results) => Chart {
  return (result) => {
    const { comparisons } = result.experiments[0];
    // A runtime's own API is in the title.
    const heading = ({ against }: Comparison) =>
      against.startsWith("bare") ? "" : `against ${against.replace(" ", " in ")}`;
    const headings = [...new Set(comparisons.map(heading))].filter(Boolean);
    // The same model can be in several groups.
    const place = (row: Comparison) => `${row.model} ${names[row.on]}#${heading(row)}`;
    const places = [...new Set(comparisons.map(place))];
    const rows = ["", ...headings].flatMap((group) => [
      ...group ? [group] : [],
      ...places.filter((place) => place.endsWith(`#${group}`)),
    ]);
    const values = comparisons.map(rate),
      settings = [...new Set(comparisons.map(({ setting }) => settingText(setting)))];
    return {
      title,
      legend: runtimesIn(comparisons),
      options: {
        height: 80 + rows.length * 18,
        marginLeft: 120,
        x: {
          label: "times as many →",
          labelOffset: 36,
          grid: true,
          domain: [
            Math.min(...values.map(({ low }) => low)) - 0.05,
            Math.max(...values.map(({ high }) => high)) + 0.05,
          ],
          ticks: 4,
        },
        y: {
          label: null,
          domain: rows,
          tickSize: 0,
          tickFormat: (row: string) => row.includes("#") ? row.split("#")[0] : "",
        },
        fx: { label: null, domain: settings, padding: 0.08, tickFormat: (text: string) => text.replace(", ", ",\n") },
        marks: [
          Plot.frame({ strokeOpacity: 0.2 }),
          Plot.ruleX([1], { strokeOpacity: 0.6 }),
          ...dots(comparisons, rate, { y: place, fx: ({ setting }: Comparison) => settingText(setting) }),
          Plot.text(headings, {
            y: (group) => group,
            fx: () => settings[0],
            text: (group) => group,
            frameAnchor: "left",
            textAnchor: "start",
            dx: -112,
            fontWeight: "bold",
          }),
        ],
      },
    };
  };
}

function drawThreads(result: Results): Chart {
  const rows = measured(find(result, "threads").rows).filter(({ setting }) => !setting.together);
  const place = ({ model, on }: Row) => `${model} ${names[on] ?? on}`;
  const figures = rows.flatMap((row) => [
    { ...row, what: "microseconds to the first reply", value: row.figures.firstReplyUs },
    { ...row, what: "kilobytes per connection", value: Math.max(10, (row.figures.server?.connectionMB ?? 0) * 1000) },
  ]);
  return {
    title: "What a thread costs: a new client's first reply, and memory per client",
    options: {
      height: 90 + rows.length * 20,
      marginLeft: 130,
      x: {
        type: "log",
        label: null,
        grid: true,
        tickFormat: "~s",
        domain: [10, 300_000],
        ticks: [10, 100, 1000, 10_000, 100_000],
      },
      y: { domain: rows.map(place), label: null, tickSize: 0 },
      fx: { label: null, domain: ["microseconds to the first reply", "kilobytes per connection"] },
      marks: [
        Plot.frame({ strokeOpacity: 0.2 }),
        Plot.dot(figures, { x: "value", y: place, fx: "what", fill: ({ on }: Row) => colour(on), r: 5 }),
      ],
    },
  };
}
