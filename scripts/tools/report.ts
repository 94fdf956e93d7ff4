// SPDX-License-Identifier: MIT
/** What bench.ts says of its results: tables of 80 columns where they can, with what their figures mean below them. */

import type { Comparison, Experiment, Row, Run, Setting, Spread } from "./results.ts";

/** What the numbers of a setting are. */
export const units: Record<keyof Setting, string> = {
  connections: "connections",
  together: "all at once",
  idle: "idle",
  slow: "slow",
  workMs: "ms of work",
  inflight: "in flight",
  holdUs: "us for replies to be answered together",
};
export const axisNames = Object.keys(units) as (keyof Setting)[];

/** What goes without saying. */
export const least = (axis: keyof Setting) => axis === "inflight" ? 1 : 0;

export function settingText(setting: Setting): string {
  const named = axisNames.filter((axis) => axis !== "holdUs" && setting[axis] > least(axis));
  const texts = named.map((axis) => axis === "together" ? units[axis] : `${setting[axis]} ${units[axis]}`)
    .map((text) => text.replace(/^1 connections/, "1 connection"));
  return [...texts, ...setting.holdUs === 0 ? ["each reply answered at once"] : []].join(", ");
}

export function title({ model, on }: { model: string; on: string }): string {
  return `${model} ${on}`;
}

/** Three digits: no measurement here is more precise. */
function factor(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** Three digits of a large number. */
function short(value: number): string {
  return value >= 999_500 ? `${factor(value / 1e6)}M` : value >= 1000 ? `${factor(value / 1000)}k` : factor(value);
}

/** Microseconds of the server's CPU; `null` if that isn't known. */
export function cpuPerMessage({ server }: Run): number | null {
  return server && server.userUsPerMessage + server.systemUsPerMessage;
}

/** Why the figures of a server are to be doubted. */
export function doubts({ served, generatorCores, otherCores, server }: Run, { connections }: Setting): string[] {
  const cores = server?.cores ?? 0;
  return [
    served < connections && `only ${served} of ${connections} connections were served`,
    // A process that is measured never gets all of a core, as there are others.
    generatorCores >= 0.9 && generatorCores > cores && "the generator was the limit, the server may be faster",
    server && cores < 0.9 && (server.threadsWaiting ?? 0) > 0.1 && (otherCores ?? 0) > 0.2 &&
    `busy machine: other programs used ${factor(otherCores!)} cores, the server had to wait and got ${factor(cores)}`,
  ].filter((doubt) => typeof doubt === "string");
}

/** A column of a table: what it shows of a row, `null` if it wasn't measured; and what that means. */
type Columns<T> = Record<string, [value: (row: T) => string | null, meaning?: string]>;

const show = (value: number | null | undefined, format = factor) => value == null ? null : format(value);
/** The unit stands once where both ends have it. */
const range = (spread: Spread | null | undefined, format = factor) =>
  spread
    ? `${format(spread.median)} (${format(spread.low)}–${format(spread.high)})`.replace(/([kM])(?=–.*\1\)$)/, "")
    : null;
const whole = (value: number) => value.toFixed(0), kB = (megabytes: number) => factor(Math.max(0, megabytes * 1000));

const rowColumns: Columns<Row> = {
  server: [title],
  "messages/s": [(row) => range(row.messagesPerSecond, short), "the median of all turns (lowest to highest); k = 1000"],
  p50: [(row) => show(row.figures!.latencyUs?.p50, whole), "50 % of the replies came within these microseconds"],
  p99: [(row) => show(row.figures!.latencyUs?.p99, whole), "99 % of them"],
  "p99.9": [(row) => show(row.figures!.latencyUs?.p999, whole), "99.9 % of them"],
  first: [(row) => show(row.figures!.firstReplyUs, whole), "microseconds from connect to the first reply"],
  CPU: [
    (row) => show(cpuPerMessage(row.figures!)),
    "microseconds of the server's CPU per message",
  ],
  "kB/conn": [(row) => show(row.figures!.server?.connectionMB, kB), "memory that the server took for a connection"],
  MB: [(row) => show(row.figures!.server?.peakMB), "the most memory that the server had"],
  threads: [(row) => show(row.figures!.server?.threads, whole)],
  cores: [(row) => show(row.figures!.server?.cores), "that the server used: seconds of CPU per second"],
  "gen.": [(row) => show(row.figures!.generatorCores), "cores that the load generator used"],
};
const usual = ["messages/s", "p50", "p99", "p99.9", "CPU", "MB", "threads", "cores", "gen."];

const comparisonColumns: Columns<Comparison> = {
  server: [title],
  against: [({ against }) => against],
  "messages/s": [
    ({ ratios }) => range(ratios.messagesPerSecond),
    "the ratio of the two: the median of all turns (lowest to highest)",
  ],
  "p99": [({ ratios }) => range(ratios.p99Us), "the same for the latency"],
  "first reply": [({ ratios }) => range(ratios.firstReplyUs), "the ratio of its microseconds"],
  "CPU per message": [({ ratios }) => range(ratios.cpuUsPerMessage), "the same for the CPU time of the server"],
  verdict: [
    ({ verdict }) => verdict,
    "a range that includes 1 is a tie; (?) stands for the doubt below a figure above",
  ],
};

/** Characters in a line; a table may need more. */
export const WIDTH = 80;

/** Breaks a text into lines, all but the first of which are indented. */
function wrap(text: string, indent: number): string {
  return text.match(new RegExp(`\\S.{0,${WIDTH - 1 - indent}}(?=\\s|$)`, "g"))!.join(`\n${" ".repeat(indent)}`);
}

/**
 * A table with a line for each setting above its rows, and notes below a row. Its columns are those that have a value;
 * what they mean stands below.
 */
function table<T extends { setting: Setting }>(
  columns: Columns<T>,
  rows: T[],
  latency = "",
  notes: (row: T) => string[] = () => [],
): string {
  const shown = Object.entries(columns).filter(([, [value]]) => rows.some((row) => value(row) !== null));
  const cells = rows.map((row) => shown.map(([, [value]]) => value(row) ?? "-"));
  const widths = shown.map(([head], i) => Math.max(head.length, ...cells.map((line) => line[i].length)));
  const gap = widths.reduce((sum, width) => sum + width + 2) > WIDTH ? " " : "  ";
  const left = cells[0].map((cell) => /^[a-z]/.test(cell));
  const layOut = (line: string[]) =>
    line.map((cell, i) => left[i] ? cell.padEnd(widths[i]) : cell.padStart(widths[i])).join(gap).trimEnd();
  const lines = [layOut(shown.map(([head]) => head))];
  for (const [i, row] of rows.entries()) {
    const setting = settingText(row.setting);
    if (i === 0 || setting !== settingText(rows[i - 1].setting)) lines.push("", `${setting}:`);
    lines.push(layOut(cells[i]), ...notes(row).map((note) => `  ? ${wrap(note, 4)}`));
  }
  const meanings = shown.flatMap(([head, [, meaning]]) =>
    meaning ? [`${head}: ${meaning}${head === "p50" ? `, ${latency}` : ""}`] : []
  );
  return [...lines, "", ...meanings.map((meaning) => wrap(meaning, 2))].join("\n");
}

/** All that an experiment has shown. `latency` says what that is of. */
export function report(
  { name, rows, comparisons }: Experiment,
  about: string,
  latency?: string,
  heads = usual,
): string {
  const parts = [wrap(`${name}: ${about}`, 2)];
  const measured = rows.filter(({ figures, failure }) => figures && !failure);
  const own = Object.fromEntries(Object.entries(rowColumns).filter(([head]) => ["server", ...heads].includes(head)));
  const failed = rows.filter(({ failure }) => failure)
    .map((row) => wrap(`${title(row)}, ${settingText(row.setting)}: left out: ${row.failure}`, 2));
  if (measured.length > 0) {
    parts.push(table(own, measured, latency, ({ figures, setting }) => doubts(figures!, setting)));
  } else parts.push("Nothing was measured to the end.");
  if (failed.length > 0) parts.push(failed.join("\n"));
  if (comparisons.length > 0) parts.push(table(comparisonColumns, comparisons));
  return `\n${parts.join("\n\n")}\n`;
}
