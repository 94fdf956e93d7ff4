// SPDX-License-Identifier: MIT
/** What bench.ts says of its results: tables of 80 columns where they can, with what their figures mean below them. */

import type { Comparison, Experiment, Measured, Row, Run, Setting, Spread } from "./results.ts";

/** What the numbers of a setting are. */
export const units: Record<keyof Setting, string> = {
  connections: "connections",
  together: "all at once",
  idle: "idle",
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

/** So is a ratio, unless that makes 1 of what is not. */
function ratio(value: number): string {
  return value !== 1 && value.toFixed(2) === "1.00" ? value.toFixed(3) : factor(value);
}

/** Three digits of a large number. */
function short(value: number): string {
  return value >= 999_500 ? `${factor(value / 1e6)}M` : value >= 1000 ? `${factor(value / 1000)}k` : factor(value);
}

// ---------------------------------------------------------------- what figures show

/**
 * The median of some values, and the narrowest interval between two of them that holds the true median but for a risk.
 * Each value is below it by the toss of a coin, however they are distributed. Of too few, it is that of all values.
 */
export function spread(values: number[], risk = 0.05): Spread {
  const sorted = values.toSorted((a, b) => a - b), count = sorted.length, middle = count / 2;
  const median = (sorted[Math.ceil(middle) - 1] + sorted[Math.floor(middle)]) / 2;
  // How likely it is that fewer than `below` are below the median.
  let below = 0, logarithm = -count * Math.LN2;
  for (let tail = Math.exp(logarithm); 2 * tail <= risk && below < middle; tail += Math.exp(logarithm)) {
    below++;
    logarithm += Math.log((count - below + 1) / below);
  }
  const outer = Math.max(0, below - 1);
  return { median, low: sorted[outer], high: sorted[count - 1 - outer], count };
}

/** What ratios are made of, and what is said of one above 1, below, and near it. */
const measures: Record<Measured, { of: (run: Run) => number | null | undefined; words: [string, string, string] }> = {
  messagesPerSecond: { of: (run) => run.messagesPerSecond, words: ["faster", "slower", "equal rate"] },
  cpuUsPerMessage: { of: (run) => run.server?.cpuUsPerMessage, words: ["more CPU", "less CPU", "equal CPU"] },
  p90Us: { of: (run) => run.latencyUs?.p90, words: ["later", "sooner", "equally late"] },
  firstReplyUs: { of: (run) => run.firstReplyUs, words: ["later", "sooner", "equally late"] },
};

/** Nobody should care for less. */
const EQUAL = 0.05;

/**
 * What the ratios of pairs of slices show, in each of some starts. Of as many ratios as there are in an experiment, 5 %
 * may err by chance. The slices of a start have in common what that start made of the servers (how they were compiled,
 * how their connections were spread), so an interval is no narrower than the medians of the starts are apart.
 */
export function compare(starts: [Run, Run][][], by: Measured[], ratiosInAll: number, doubtful: boolean) {
  const ratios: Comparison["ratios"] = {}, words: string[] = [];
  let few = false;
  for (const name of by) {
    const { of, words: [more, less, equal] } = measures[name];
    // A slice without a message tells nothing.
    const ratiosOf = (pairs: [Run, Run][]) =>
      pairs.map(([one, other]) => (of(one) ?? NaN) / (of(other) ?? NaN)).filter((one) => one > 0 && one < 1 / 0);
    const all = ratiosOf(starts.flat());
    if (2 * all.length <= starts.flat().length) continue;
    const risk = 0.05 / ratiosInAll, slices = spread(all, risk);
    const medians = starts.map(ratiosOf).filter(({ length }) => length > 0).map((own) => spread(own).median);
    const low = Math.min(slices.low, ...medians), high = Math.max(slices.high, ...medians);
    ratios[name] = { ...slices, low, high };
    few ||= 2 * 0.5 ** all.length > risk;
    const word = low > 1 - EQUAL && high < 1 + EQUAL ? equal : low > 1 ? more : high < 1 ? less : "";
    if (word) words.push(word + (doubtful && name === "messagesPerSecond" ? " (?)" : ""));
  }
  const none = Object.keys(ratios).length === 0 ? "no ratio" : "inconclusive";
  return { ratios, verdict: few ? "too few slices" : words.join(", ") || none };
}

/** How many verdicts chance gives. */
export function chance(ratios: number, starts: number): string {
  return `were all ${ratios} ratios 1, chance among the slices would give 0.05 verdicts (with an interval of 95 % for ` +
    `each, ${factor(0.05 * ratios)}); how far apart starts are is known from ${starts} of them alone`;
}

/** What figures are to be doubted for; `cores` are those that the server used, `all` those that there are. */
const questions: Record<string, (run: Run, setting: Setting, cores: number, all: number) => boolean> = {
  "not all of the connections were served": ({ served }, { connections }) => served < connections,
  // A process that is measured never gets all of a core, as there are others.
  "the generator was the limit": ({ generatorCores }, _, cores) =>
    generatorCores >= 0.9 && generatorCores > cores + 0.1,
  "generator and server were equally busy": ({ generatorCores }, _, cores) =>
    Math.min(generatorCores, cores) >= 0.8 && Math.abs(cores - generatorCores) <= 0.1,
  "the machine was full": ({ generatorCores, server }, _, cores, all) =>
    (cores > 1.05 || (server?.threadsWaiting ?? 0) > 0.1) && cores + generatorCores > 0.9 * all,
  "other programs took cores that the server waited for": ({ otherCores, server }, _, cores) =>
    cores < 0.9 && (server?.threadsWaiting ?? 0) > 0.1 && (otherCores ?? 0) > 0.2,
};

/**
 * Why figures are to be doubted, each with the servers that this is true of. `all` is the number of cores. While
 * connections are opened, which is `brief`, only the first question has an answer.
 */
export function doubts(rows: Row[], all: number, brief = false): string[] {
  return Object.entries(questions).slice(0, brief ? 1 : undefined).flatMap(([doubt, holds]) => {
    const found = rows.filter(({ figures, setting }) =>
      figures && holds(figures, setting, figures.server?.cores ?? NaN, all)
    );
    const texts = [...Map.groupBy(found, ({ setting }) => settingText(setting))]
      .map(([setting, own]) => `${setting}: ${[...new Set(own.map(title))].join(", ")}`);
    const where = found.length === rows.length && found.length > 1 ? "all" : texts.join("; ");
    return found.length > 0 ? [`${doubt}: ${where}`] : [];
  });
}

// ---------------------------------------------------------------- tables

/** A column of a table: what it shows of a row, `null` if it wasn't measured; and what that means. */
type Columns<T> = Record<string, [value: (row: T) => string | null, meaning?: string]>;

const show = (value: number | null | undefined, format = factor) => value == null ? null : format(value);
/** The unit stands once where both ends have it. */
const range = (spread: Spread | null | undefined, format = ratio) =>
  spread
    ? `${format(spread.median)} (${format(spread.low)}–${format(spread.high)})`.replace(/([kM])(?=–.*\1\)$)/, "")
    : null;
const whole = (value: number) => value.toFixed(0), kB = (megabytes: number) => factor(Math.max(0, megabytes * 1000));

const rowColumns: Columns<Row> = {
  server: [title],
  "messages/s": [
    (row) => range(row.messagesPerSecond, short),
    "the median of all slices (its 95 % interval); k = 1000",
  ],
  first: [(row) => show(row.figures!.firstReplyUs, whole), "microseconds from connect to the first reply"],
  CPU: [
    (row) => show(row.figures!.server?.cpuUsPerMessage),
    "microseconds of the server's CPU per message",
  ],
  "kB/conn": [
    (row) => show(row.figures!.server?.connectionMB, kB),
    "memory that the server took for a connection; what processes share counts in each",
  ],
  MB: [(row) => show(row.figures!.server?.peakMB), "the most memory that the server had, counted in the same way"],
  threads: [(row) => show(row.figures!.server?.threads, whole)],
  cores: [(row) => show(row.figures!.server?.cores), "that the server used: seconds of CPU per second"],
  "gen.": [(row) => show(row.figures!.generatorCores), "cores that the load generator used"],
};

const latencyColumns: Columns<Row> = {
  latency: [title],
  at: [(row) => show(row.figures!.latencyUs?.rate, short), "messages a second, on a timetable; - is too many for it"],
  p50: [(row) => show(row.figures!.latencyUs?.p50, whole), "50 % of the replies came within these microseconds"],
  p90: [(row) => show(row.figures!.latencyUs?.p90, whole), "90 % of them"],
  p99: [(row) => show(row.figures!.latencyUs?.p99, whole), "99 % of them"],
  "p99.9": [(row) => show(row.figures!.latencyUs?.p999, whole), "99.9 % of them"],
  lag: [(row) => show(row.figures!.latencyUs?.lag, whole), "by which the generator itself was late, in 99 % at most"],
};

const comparisonColumns: Columns<Comparison> = {
  server: [title],
  against: [({ against }) => against],
  "messages/s": [
    ({ ratios }) => range(ratios.messagesPerSecond),
    "the ratio of the two: the median of all pairs of slices, with an interval of 95 % for all ratios of the " +
    "experiment together, and no narrower than the starts are apart",
  ],
  "p90": [({ ratios }) => range(ratios.p90Us), "the ratio of the latency, in the same way"],
  "first reply": [({ ratios }) => range(ratios.firstReplyUs), "the ratio of its microseconds, in the same way"],
  "CPU per message": [({ ratios }) => range(ratios.cpuUsPerMessage), "the same for the CPU time of the server"],
  verdict: [
    ({ verdict }) => verdict,
    "of each interval that leaves out 1; equal if it is within 5 % of 1; (?) stands for a doubt below",
  ],
};

/** Characters in a line; a table may need more. */
export const WIDTH = 80;

/** Breaks a text into lines, all but the first of which are indented. */
function wrap(text: string, indent: number): string {
  return text.match(new RegExp(`\\S.{0,${WIDTH - 1 - indent}}(?=\\s|$)|\\S+`, "g"))!.join(`\n${" ".repeat(indent)}`);
}

/**
 * A table with a line for each setting above its rows. Its columns are those that have a value;
 * what they mean stands below.
 */
function table<T extends { setting: Setting }>(
  columns: Columns<T>,
  rows: T[],
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
    lines.push(layOut(cells[i]));
  }
  const meanings = shown.flatMap(([head, [, meaning]]) => meaning ? [`${head}: ${meaning}`] : []);
  return [...lines, "", ...meanings.map((meaning) => wrap(meaning, 2))].join("\n");
}

/** All that an experiment has shown, in these columns. */
export function report(
  { name, rows, comparisons, notes }: Experiment,
  about: string,
  heads = Object.keys(rowColumns).filter((head) => head !== "first" && head !== "kB/conn"),
): string {
  const parts = [wrap(`${name}: ${about}`, 2)];
  const measured = rows.filter(({ figures, failure }) => figures && !failure);
  const own = Object.fromEntries(Object.entries(rowColumns).filter(([head]) => ["server", ...heads].includes(head)));
  const failed = rows.filter(({ failure }) => failure)
    .map((row) => wrap(`${title(row)}, ${settingText(row.setting)}: left out: ${row.failure}`, 2));
  if (measured.length > 0) parts.push(table(own, measured));
  else parts.push("Nothing was measured to the end.");
  if (measured.some(({ figures }) => figures!.latencyUs)) parts.push(table(latencyColumns, measured));
  if (failed.length > 0) parts.push(failed.join("\n"));
  if (comparisons.length > 0) parts.push(table(comparisonColumns, comparisons));
  if (notes.length > 0) parts.push(notes.map((note) => `? ${wrap(note, 2)}`).join("\n"));
  return `\n${parts.join("\n\n")}\n`;
}
