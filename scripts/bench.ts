// SPDX-License-Identifier: MIT
/**
 * Which model, on this machine: starts the servers, drives them, and says in figures what came out.
 *
 * An experiment compares servers, or one server under different loads. How it does that is half of its result:
 *
 * - Each run has a fresh server process, and load.ts as a process beside it, which checks every byte and reports the
 *   CPU time of both: if the generator is the busier one, it is the generator that was measured.
 * - A machine is never quiet, and gets faster and slower over minutes. So the servers take turns, A B A B, and what
 *   counts is the ratio within a pair: the median of five or more, with the lowest and the highest beside it. If these
 *   lie on both sides of 1, nothing has been shown.
 * - A server that sends back a wrong byte is reported, and left out.
 *
 *   deno run -A scripts/bench.ts              all models that there are, on this runtime
 *   bun scripts/bench.ts idle work            two of the experiments; --help lists them
 *   node scripts/bench.ts shim --runtimes deno,bun,node
 */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeSync } from "node:fs";
import { availableParallelism, cpus, release, tmpdir, totalmem } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { LoadResult } from "./shim/load.ts";
import { explain, fail, parseOptions, process, runtime, usageError } from "./shim/program.ts";

// ---------------------------------------------------------------- what there is to choose from

/** What a server is put under. */
interface Setting {
  connections: number;
  /** Silent connections beside these. */
  idle: number;
  /** Connections that send and never read. */
  slow: number;
  /** Milliseconds of CPU per message. */
  work: number;
  /** Messages on their way per connection. */
  inflight: number;
}

interface Model {
  /** Arguments beside the usual ones. */
  arguments?: (setting: Setting, clients: number) => (string | number)[];
  /** The most clients that it is asked to serve. */
  most?: number;
  /** It can burn CPU: it has `--work`. */
  works?: true;
}

const models: Record<string, Model> = {
  blocking: { arguments: (_, clients) => clients > 1 ? ["--threads", clients] : [], most: 100 },
  threads: { arguments: (_, clients) => ["--max-threads", clients], most: 100, works: true },
  pool: { arguments: (_, clients) => ["--workers", clients], most: 100, works: true },
  tasks: { works: true },
  multiplex: { works: true },
  reuseport: { works: true },
  nonblocking: {},
  // One bit for each descriptor below 1024, and the process has some of its own.
  select: { most: 950 },
  poll: {},
  epoll: {},
  uring: {},
};

const runtimes: Record<string, string[]> = { deno: ["deno", "run", "-A"], bun: ["bun"], node: ["node"] };

const experiments: Record<string, { about: string; run: () => Promise<Experiment> }> = {
  models: { about: "all models at 1, 10, 100 and 1000 connections", run: compareModels },
  threads: { about: "what a thread costs: one per client, from a pool, or none", run: compareThreads },
  idle: { about: "what silent connections cost the others: select, poll, epoll, ...", run: compareIdle },
  work: { about: "handlers that compute: one loop, a pool, a loop per core", run: compareWork },
  slow: { about: "one client that never reads, among nine that do", run: compareSlow },
  shim: { about: "multiplex and tasks against an echo on the runtime's own API", run: compareShim },
  peers: { about: "against the same models in C, Go and Python", run: comparePeers },
  generator: { about: "is the generator to be trusted: load.ts against a client in C", run: compareGenerators },
};

const options = parseOptions(
  `Measures the servers of this collection, on this machine. The experiments:\n\n${
    Object.entries(experiments).map(([name, { about }]) => `  ${name.padEnd(9)} ${about}\n`).join("")
  }\nThe models: ${Object.keys(models).join(", ")}`,
  "bench.ts models --connections 100 --runtimes deno,bun,node",
  {
    models: ["all", "those to measure, with commas between them"],
    runtimes: ["own", "those to run them on: deno,bun,node; own is the one that runs this"],
    connections: ["auto", "connections that send; several numbers make several measurements"],
    idle: ["auto", "silent connections beside them"],
    work: ["auto", "milliseconds of CPU per message"],
    size: [64, "bytes in a message", 1, 1 << 20],
    inflight: ["auto", "messages on their way per connection; 1 is ping-pong"],
    seconds: ["1", "duration of a measurement"],
    rounds: [5, "turns that each server gets", 1],
    json: [false, "print the results as JSON"],
  },
  "[EXPERIMENT ...]",
);

/** The part of the names that were asked for, or the end of the process. */
function choose(kind: string, known: string[], asked: string[]): string[] {
  for (const name of asked) {
    if (!known.includes(name)) usageError(`unknown ${kind} "${name}"; known are ${known.join(", ")}`);
  }
  return known.filter((name) => asked.includes(name));
}

/** The numbers in an option, or those that the experiment has for itself. */
function numbers(name: "connections" | "idle" | "work" | "inflight", auto: number[]): number[] {
  if (options[name] === "auto") return auto;
  const [least, most] = { connections: [1, 100_000], idle: [0, 100_000], work: [0, 10_000], inflight: [1, 1000] }[name];
  return options[name].split(",").map((text) => {
    if (/^\d+$/.test(text) && Number(text) >= least && Number(text) <= most) return Number(text);
    return usageError(`--${name} "${text}": not a whole number from ${least} to ${most}`);
  });
}

const folder = dirname(fileURLToPath(import.meta.url));
const peersFolder = join(folder, "../tests/peers");

const asked = choose("experiment", Object.keys(experiments), options.operands.length ? options.operands : ["models"]);
const chosenModels = choose(
  "model",
  Object.keys(models),
  options.models === "all" ? Object.keys(models) : options.models.split(","),
);
const chosenRuntimes = choose(
  "runtime",
  Object.keys(runtimes),
  options.runtimes === "own" ? [runtime] : options.runtimes.split(","),
).filter((name) => onPath(name) || (say(`${name} is not on the PATH: left out`), false));
const milliseconds = Math.round(Number(options.seconds) * 1000);
if (!(milliseconds >= 100)) usageError(`--seconds ${options.seconds}: not a number from 0.1`);
numbers("connections", []), numbers("idle", []), numbers("work", []), numbers("inflight", []);

function onPath(program: string): boolean {
  return (process.env.PATH ?? "").split(delimiter)
    .some((path) => ["", ".exe", ".cmd"].some((ending) => existsSync(join(path, program + ending))));
}

// ---------------------------------------------------------------- servers

/** Something that can be measured. */
interface Contender {
  /** The model, or the name of the peer. */
  model: string;
  /** The runtime, or the language. */
  on: string;
  /** How to start it; `null` if it is not made for that many clients. */
  command(setting: Setting): string[] | null;
  /** Milliseconds that its clients wait for a first reply: a pool starts all of its threads before. */
  patience?: number;
  /** The runtime of the load generator, if not this one; or a program that takes its place. */
  driver?: { on: string } | { program: string };
}

/** The models, out of those that were asked for, on each of the runtimes that were. */
function contenders(names: string[] = chosenModels): Contender[] {
  return chosenRuntimes.flatMap((on) =>
    names.filter((model) => chosenModels.includes(model) && existsSync(join(folder, `${model}.ts`)))
      .map((model) => ({ model, on, command: (setting: Setting) => modelCommand(model, on, setting) }))
  );
}

function modelCommand(name: string, on: string, setting: Setting): string[] | null {
  const { arguments: own, most = Infinity, works } = models[name];
  const clients = setting.connections + setting.idle + setting.slow;
  if (clients > most || setting.work > 0 && !works) return null;
  return [
    ...runtimes[on],
    join(folder, `${name}.ts`),
    ...["--port", 0, "--quiet", "--messages", 0, "--idle", 0],
    ...works && setting.work > 0 ? ["--work", setting.work] : [],
    ...own?.(setting, clients) ?? [],
  ].map(String);
}

/** An echo on the runtime's own API. */
function bare(on: string): Contender {
  return { model: "bare", on, command: () => [...runtimes[on], join(peersFolder, `bare_${on}.ts`)] };
}

let built = "";

/** Compiles a peer, and returns the program; `null` if there is no compiler, or it fails. */
function build(compiler: string, source: string, ...flags: string[]): string | null {
  built ||= mkdtempSync(join(tmpdir(), "bench-"));
  const program = join(built, source.replace(".", "-"));
  const { status, stderr } = spawnSync(compiler, [...flags, "-o", program, join(peersFolder, source)]);
  if (status !== 0) say(`${source} can't be compiled: ${String(stderr).split("\n")[0]}`);
  return status === 0 ? program : null;
}

/** The peers whose tools are there, by name; the others are named. */
function findPeers(): Record<string, Contender> {
  const python = ["python3", "python"].find(onPath);
  const peer = (model: string, on: string, program: string | null, ...rest: string[]) =>
    program ? [{ model, on, command: () => [program, ...rest] }] : [];
  const found: Contender[] = [];
  if (onPath("cc")) found.push(...peer("epoll", "C", build("cc", "epoll.c", "-O2")));
  else say("cc is not on the PATH: C is left out");
  if (onPath("go")) found.push(...peer("goroutines", "Go", build("go", "goroutines.go", "build")));
  else say("go is not on the PATH: Go is left out");
  if (python) {
    found.push(...peer("threads", "Python", python, join(peersFolder, "threads.py")));
    found.push({
      model: "pool",
      on: "Python",
      command: ({ connections }) => [python, join(peersFolder, "pool.py"), String(connections)],
    });
  } else say("python3 is not on the PATH: Python is left out");
  return Object.fromEntries(found.map((contender) => [title(contender), contender]));
}

function title({ model, on }: { model: string; on: string }): string {
  return `${model} ${on}`;
}

// ---------------------------------------------------------------- a run

/** What is running, to be ended with this process. */
const children = new Set<ChildProcess>();
let stopped = false;

/** Starts a program with as many descriptors as it may have. */
function start(command: string[]): ChildProcess {
  const raise = ["sh", "-c", 'ulimit -n "$(ulimit -H -n)" 2>/dev/null; exec "$@"', "sh"];
  const [program, ...rest] = process.platform === "win32" ? command : [...raise, ...command];
  const child = spawn(program, rest, { stdio: ["ignore", "pipe", "pipe"] });
  children.add(child);
  child.once("close", () => children.delete(child));
  return child;
}

/** Everything that a program writes, and its exit code; the caller may look at it before it is complete. */
interface Output {
  out: string;
  err: string;
  ended: Promise<number | null>;
  code?: number | null;
}

function read(child: ChildProcess): Output {
  const output: Output = {
    out: "",
    err: "",
    ended: new Promise((resolve) => {
      child.once("error", (error) => (output.err += error.message, resolve(output.code = 1)));
      child.once("close", (code) => resolve(output.code = code));
    }),
  };
  child.stdout!.on("data", (data) => output.out += data);
  child.stderr!.on("data", (data) => output.err += data);
  return output;
}

const pause = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds));

/**
 * One run: a server, and the load for it. If that is applied several times the last one counts, but for the memory:
 * what the first connections took is used again by the next ones.
 */
async function runOnce({ contender, setting, latency, times }: Case): Promise<LoadResult> {
  const child = start(contender.command(setting)!), server = read(child);
  try {
    let port: string | undefined;
    for (const since = performance.now(); !port; await pause(5)) {
      port = server.out.match(/^listening on .*:(\d+)$/m)?.[1];
      if (server.code !== undefined) throw new Error(firstLine(server) || `ended with ${server.code}`);
      if (performance.now() - since > 20_000) throw new Error("not ready after 20 s");
    }
    const { connections, idle, slow, inflight } = setting, { size } = options, { patience = 5000, driver } = contender;
    if (driver && "program" in driver) return await runClient(driver.program, setting, port, child.pid!);
    const load = { connections, idle, slow, size, inflight, milliseconds, patience, pace: latency ? 50 : 0 };
    const first = await runLoad({ ...load, port, pid: child.pid! }, driver?.on);
    let result = first;
    for (let i = 1; i < times; i++) result = await runLoad({ ...load, port, pid: child.pid! }, driver?.on);
    if (first.server && result.server) result.server.perConnection = first.server.perConnection;
    return result;
  } finally {
    child.kill("SIGTERM");
    await Promise.race([server.ended, pause(2000)]);
    child.kill("SIGKILL");
    await server.ended;
  }
}

/** Runs the load generator with these options, on this runtime unless another is given. */
async function runLoad(values: Record<string, string | number>, on?: string): Promise<LoadResult> {
  const output = read(start([
    ...on ? runtimes[on] : [process.execPath, ...runtimes[runtime].slice(1)],
    join(folder, "shim/load.ts"),
    ...Object.entries(values).flatMap(([name, value]) => [`--${name}`, String(value)]),
  ]));
  if (await output.ended !== 0) throw new Error(firstLine(output) || "the load generator was stopped");
  return JSON.parse(output.out);
}

/** Runs tests/peers/client.c instead, which knows only what two generators can be compared by. */
async function runClient(program: string, setting: Setting, port: string, pid: number): Promise<LoadResult> {
  const { connections, inflight } = setting;
  const output = read(start([program, port, ...[connections, options.size, inflight, milliseconds, pid].map(String)]));
  if (await output.ended !== 0) throw new Error(firstLine(output) || "the client was stopped");
  const { rate, generator, user, system } = JSON.parse(output.out);
  const server = { load: user + system, user: user / rate * 1e6, system: system / rate * 1e6 };
  return {
    ...{ served: connections, rate, firstReply: NaN, latency: null, sockets: "uring", generator, backlog: NaN },
    server: { ...server, peak: NaN, perConnection: NaN, threads: 1 },
  };
}

/** The line that says what went wrong. */
function firstLine({ err, out }: Output): string {
  const lines = (err || out).split("\n");
  return (lines.find((line) => /error/i.test(line)) ?? lines[0]).replace(/^load\.ts: the run failed: /, "");
}

// ---------------------------------------------------------------- taking turns

/** A contender under a setting. */
interface Case {
  contender: Contender;
  setting: Setting;
  /** Whether latency is measured too, which takes as long again. */
  latency: boolean;
  /** How often the load is applied to the one process. */
  times: number;
}

/** What the runs of a case have shown. */
interface Outcome extends Case {
  runs: LoadResult[];
  failure?: string;
}

function makeCase(contender: Contender, setting: Partial<Setting>, { latency = false, times = 1 } = {}): Case {
  const [inflight] = numbers("inflight", [1]);
  return { contender, setting: { connections: 10, idle: 0, slow: 0, work: 0, inflight, ...setting }, latency, times };
}

/** Runs all cases in turn, as often as `--rounds` says. Those that fail are left out from then on. */
async function takeTurns(cases: Case[]): Promise<Outcome[]> {
  const outcomes: Outcome[] = cases.map((one) => ({ ...one, runs: [] }));
  for (const outcome of outcomes) {
    if (outcome.contender.command(outcome.setting) === null) outcome.failure = "not made for that many clients";
  }
  for (let round = 0; round < options.rounds; round++) {
    for (const [i, outcome] of outcomes.entries()) {
      if (stopped) return outcomes;
      if (outcome.failure) continue;
      const { contender, setting } = outcome;
      progress(`round ${round + 1} of ${options.rounds}, ${i + 1} of ${cases.length}: ${title(contender)}, \
${settingText(setting)}`);
      try {
        outcome.runs.push(await runOnce(outcome));
      } catch (error) {
        // Ctrl-C goes to all processes of a terminal, and the others may be faster to react.
        await pause(100);
        if (stopped) return outcomes;
        outcome.failure = explain(error);
        say(`${title(contender)}, ${settingText(setting)}: left out: ${outcome.failure}`);
      }
    }
  }
  return outcomes;
}

function settingText({ connections, idle, slow, work, inflight }: Setting): string {
  const parts = [`${connections} connection${connections === 1 ? "" : "s"}`];
  if (idle > 0) parts.push(`${idle} idle`);
  if (slow > 0) parts.push(`${slow} slow`);
  if (work > 0) parts.push(`${work} ms of work`);
  if (inflight > 1) parts.push(`${inflight} in flight`);
  return parts.join(", ");
}

// ---------------------------------------------------------------- figures

/** The median, the lowest and the highest of some figures, and how many there were. */
interface Spread {
  median: number;
  low: number;
  high: number;
  count: number;
}

function spread(values: number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b), middle = sorted.length / 2;
  const median = (sorted[Math.ceil(middle) - 1] + sorted[Math.floor(middle)]) / 2;
  return { median, low: sorted[0], high: sorted[sorted.length - 1], count: sorted.length };
}

/** What is measured about a case. */
type Measure = (result: LoadResult) => number;
const rate: Measure = (result) => result.rate;
/** Microseconds of the server's CPU per message; as there is none elsewhere, on Linux only. */
const cost: Measure = ({ server }) => server ? server.user + server.system : NaN;

/** How a case compares with another, round by round. */
interface Comparison {
  model: string;
  on: string;
  setting: Setting;
  against: string;
  /** Of rates, or of what the experiment is about: above 1, the first one has more. */
  ratio: Spread;
  /** Of the CPU time per message, on Linux. It is steadier than rates are, and a generator can't be its limit. */
  cost: Spread | null;
}

/** The ratio of two cases, each of which may have failed: then `null`. */
function compare(of: Outcome | undefined, to: Outcome | undefined, measure = rate): Comparison | null {
  if (!of || !to || of.failure || to.failure) return null;
  const pairs = Math.min(of.runs.length, to.runs.length);
  if (pairs === 0) return null;
  const ratios = (measure: Measure) =>
    spread(of.runs.slice(0, pairs).map((run, i) => measure(run) / measure(to.runs[i])));
  const { contender: { model, on }, setting } = of, costs = ratios(cost);
  const found = ratios(measure);
  // A server that served nobody has a rate of 0.
  if (![found.low, found.high].every((ratio) => ratio > 0 && isFinite(ratio))) return null;
  const against = title(to.contender) === title(of.contender) ? settingText(to.setting) : title(to.contender);
  return { model, on, setting, against, ratio: found, cost: isFinite(costs.median) ? costs : null };
}

function ratioText({ ratio }: Comparison): string {
  return spreadText(ratio);
}

function spreadText({ median, low, high }: Spread): string {
  return `${factor(median)} (${factor(low)} to ${factor(high)})`;
}

/** Three digits, as nobody measures more. */
function factor(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** Microseconds in the unit that suits them. */
function duration(microseconds: number): string {
  return microseconds >= 1000 ? `${factor(microseconds / 1000)} ms` : `${microseconds.toFixed(0)} us`;
}

function count(value: number): string {
  return Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, " ");
}

/** A row of the result: the medians over all rounds. */
interface Row {
  model: string;
  on: string;
  setting: Setting;
  failure?: string;
  runs: number;
  /** Of those connections that send; the fewest in any round. */
  served: number;
  rate: Spread | null;
  /** Microseconds: p50, p99, p99.9. */
  latency: number[] | null;
  firstReply: number;
  generator: number;
  backlog: number;
  server: LoadResult["server"];
}

function toRow({ contender: { model, on }, setting, failure, runs }: Outcome): Row {
  const median = (measure: Measure) => spread(runs.map(measure)).median;
  const latencies = runs.map(({ latency }) => latency), first = runs[0]?.server;
  return {
    ...{ model, on, setting, failure, runs: runs.length },
    served: Math.min(...runs.map(({ served }) => served)),
    rate: runs.length > 0 ? spread(runs.map(rate)) : null,
    latency: latencies[0] ? [0, 1, 2].map((i) => spread(latencies.map((latency) => latency![i])).median) : null,
    firstReply: median(({ firstReply }) => firstReply),
    generator: median(({ generator }) => generator),
    backlog: median(({ backlog }) => backlog),
    server: first
      ? Object.fromEntries(
        Object.keys(first).map((key) => [key, median(({ server }) => server?.[key as keyof typeof first] ?? NaN)]),
      ) as typeof first
      : null,
  };
}

/** The result of an experiment. */
interface Experiment {
  name: string;
  rows: Row[];
  comparisons: Comparison[];
  verdict: string;
}

function experiment(name: string, outcomes: Outcome[], found: (Comparison | null)[], verdict: string): Experiment {
  const comparisons = found.filter((comparison) => comparison !== null);
  return { name, rows: outcomes.map(toRow), comparisons, verdict: verdict || "Nothing was measured to the end." };
}

/** Finds the outcome of a case. */
function finder(outcomes: Outcome[]) {
  return (model: string, on: string, setting: Partial<Setting>) =>
    outcomes.find(({ contender, setting: its }) =>
      contender.model === model && contender.on === on &&
      Object.entries(setting).every(([key, value]) => its[key as keyof Setting] === value)
    );
}

/** A sentence for each runtime. */
function perRuntime(sentence: (on: string) => string): string {
  return chosenRuntimes.map((on) => [on, sentence(on)]).filter(([, text]) => text)
    .map(([on, text]) => `On ${{ deno: "Deno", bun: "Bun", node: "Node" }[on]}, ${text}.`).join(" ");
}

// ---------------------------------------------------------------- the experiments

async function compareModels(): Promise<Experiment> {
  const counts = numbers("connections", [1, 10, 100, 1000]), works = numbers("work", [0]), idles = numbers("idle", [0]);
  const settings = counts.flatMap((connections) =>
    idles.flatMap((idle) => works.map((work) => ({ connections, idle, work })))
  );
  const outcomes = await takeTurns(
    settings.flatMap((setting) => contenders().map((contender) => makeCase(contender, setting, { latency: true }))),
  );
  const comparisons: (Comparison | null)[] = [];
  const verdict = perRuntime((on) =>
    settings.map((setting) => {
      const ranked = outcomes.filter(({ contender, setting: its, runs, failure }) =>
        contender.on === on && runs.length > 0 && !failure && runs[0].served === its.connections &&
        Object.entries(setting).every(([key, value]) => its[key as keyof Setting] === value)
      ).sort((a, b) => spread(b.runs.map(rate)).median - spread(a.runs.map(rate)).median);
      if (ranked.length === 0) return "";
      const [best, ...others] = ranked, against = others.map((other) => compare(best, other));
      comparisons.push(...against);
      const last = against.findLast((one) => one !== null);
      return `at ${settingText(best.setting)} ${best.contender.model} was the fastest with ` +
        `${count(spread(best.runs.map(rate)).median)} messages/s` +
        (last ? `, ${ratioText(last)} times ${others[others.length - 1].contender.model}` : "");
    }).filter(Boolean).join("; ")
  );
  return experiment("models", outcomes, comparisons, verdict);
}

async function compareThreads(): Promise<Experiment> {
  const [connections] = numbers("connections", [20]);
  const peers = Object.values(findPeers()).filter(({ on }) => on !== "C");
  const outcomes = await takeTurns(
    // Only the second load counts: by then the pool has its threads, and the code is compiled.
    [...contenders(["threads", "pool", "tasks", "blocking"]), ...peers]
      .map((contender) => makeCase(contender, { connections }, { times: 2 })),
  );
  const find = finder(outcomes), firstReply: Measure = (result) => result.firstReply;
  const against = (on: string, model: string) => compare(find("threads", on, {}), find(model, on, {}), firstReply);
  const verdict = perRuntime((on) => {
    const thread = find("threads", on, {}), pool = against(on, "pool"), task = against(on, "tasks");
    if (!thread || !pool || !task) return "";
    const { firstReply, server } = toRow(thread);
    return `a client with a new thread got its first reply after ${duration(firstReply)}, ` +
      `${ratioText(pool)} times as late as from a pool and ${ratioText(task)} times as late as from a task; ` +
      `the thread took ${server ? `${factor(server.perConnection)} MB` : "memory unknown here"}`;
  });
  const comparisons = chosenRuntimes.flatMap((on) => [against(on, "pool"), against(on, "tasks")]);
  return experiment("threads", outcomes, comparisons, verdict);
}

async function compareIdle(): Promise<Experiment> {
  const levels = numbers("idle", [0, 100, 900, 10_000]), [connections] = numbers("connections", [10]);
  const names = ["select", "poll", "epoll", "uring", "multiplex", "tasks"];
  const outcomes = await takeTurns(
    levels.flatMap((idle) => contenders(names).map((contender) => makeCase(contender, { connections, idle }))),
  );
  const find = finder(outcomes), comparisons: Comparison[] = [];
  const verdict = perRuntime((on) =>
    names.map((model) => {
      const first = find(model, on, { idle: levels[0] });
      // Elsewhere than on Linux, the CPU time is not known: then the rate has to do, upside down.
      const grown = levels.slice(1).map((idle) =>
        process.platform === "linux"
          ? compare(find(model, on, { idle }), first, cost)
          : compare(find(model, on, { idle }), first, (result) => 1 / result.rate)
      ).filter((one) => one !== null);
      comparisons.push(...grown);
      const most = grown.at(-1);
      return most ? `${model} ${ratioText(most)} times with ${count(most.setting.idle)}` : "";
    }).filter(Boolean).join(", ").replace(/^(\S+)/, "a message beside idle connections cost, against none: $1")
  );
  return experiment("idle", outcomes, comparisons, verdict);
}

async function compareWork(): Promise<Experiment> {
  const levels = numbers("work", [0, 1, 10]), [connections] = numbers("connections", [8]);
  const outcomes = await takeTurns(levels.flatMap((work) =>
    contenders(["multiplex", "pool", "reuseport"])
      .map((contender) => makeCase(contender, { connections, work }, { latency: true }))
  ));
  const find = finder(outcomes), comparisons: Comparison[] = [];
  const verdict = perRuntime((on) =>
    levels.map((work) => {
      const found = ["pool", "reuseport"].map((model) =>
        compare(find(model, on, { work }), find("multiplex", on, { work }))
      ).filter((one) => one !== null);
      comparisons.push(...found);
      const text = found.map((one) => `${one.model} ${ratioText(one)}`).join(" and ");
      return text ? `with ${work} ms of work ${text}` : "";
    }).filter(Boolean).join("; ").replace(/^(.)/, "against the one loop of multiplex, $1")
  );
  return experiment("work", outcomes, comparisons, verdict && `${verdict} There are ${availableParallelism()} cores.`);
}

async function compareSlow(): Promise<Experiment> {
  const [connections] = numbers("connections", [9]);
  const one: Contender[] = contenders(["blocking"]).map(({ on }) => ({
    model: "blocking, one thread",
    on,
    patience: 500,
    command: (setting) => modelCommand("blocking", on, setting)!.filter((_, i, all) => i < all.indexOf("--threads")),
  }));
  // With as many threads as clients, blocking.ts is one of those that serve them all.
  const fair = contenders();
  const outcomes = await takeTurns(
    [...fair, ...one].flatMap((contender) =>
      [0, 1].map((slow) => makeCase(contender, { connections, slow }, { latency: true }))
    ),
  );
  const find = finder(outcomes), comparisons: Comparison[] = [];
  const verdict = perRuntime((on) => {
    const kept = fair.filter((contender) => contender.on === on).map(({ model }) =>
      compare(find(model, on, { slow: 1 }), find(model, on, { slow: 0 }))
    ).filter((found) => found !== null).sort((a, b) => a.ratio.median - b.ratio.median);
    if (kept.length === 0) return "";
    comparisons.push(...kept);
    const blocked = find("blocking, one thread", on, { slow: 1 })?.runs[0];
    return `beside a client that never reads, the others kept between ${ratioText(kept[0])} (${kept[0].model}) and ` +
      `${ratioText(kept.at(-1)!)} (${kept.at(-1)!.model}) of their rate` +
      (blocked ? `; with one blocking thread ${blocked.served} of ${connections} were served` : "");
  });
  return experiment("slow", outcomes, comparisons, verdict);
}

async function compareShim(): Promise<Experiment> {
  const counts = numbers("connections", [50, 500]);
  const outcomes = await takeTurns(
    counts.flatMap((connections) =>
      chosenRuntimes.flatMap((on) =>
        [bare(on), ...contenders(["multiplex", "tasks"]).filter((one) => one.on === on)]
          .map((contender) => makeCase(contender, { connections }))
      )
    ),
  );
  const find = finder(outcomes), comparisons: Comparison[] = [];
  const verdict = perRuntime((on) =>
    counts.map((connections) => {
      const found = ["multiplex", "tasks"].map((model) =>
        compare(find(model, on, { connections }), find("bare", on, { connections }))
      ).filter((one) => one !== null);
      comparisons.push(...found);
      const text = found.map((one) => `${one.model} ${ratioText(one)}`).join(", ");
      return text ? `at ${connections} connections ${text}` : "";
    }).filter(Boolean).join("; ").replace(/^(.)/, "against an echo on its own API, $1")
  );
  return experiment("shim", outcomes, comparisons, verdict);
}

/** The models that a peer is compared with. */
const rivals: Record<string, string[]> = {
  "epoll C": ["epoll", "uring"],
  "goroutines Go": ["tasks", "multiplex"],
  "threads Python": ["threads"],
  "pool Python": ["pool"],
};

async function comparePeers(): Promise<Experiment> {
  const counts = numbers("connections", [50]), peers = findPeers();
  const outcomes = await takeTurns(
    counts.flatMap((connections) =>
      Object.entries(peers).flatMap(([name, peer]) =>
        [peer, ...contenders(rivals[name])].map((contender) => makeCase(contender, { connections }))
      )
    ),
  );
  const find = finder(outcomes), comparisons: Comparison[] = [];
  const verdict = Object.entries(peers).flatMap(([name, { model, on }]) =>
    counts.map((connections) => {
      const found = contenders(rivals[name]).map((rival) =>
        compare(find(rival.model, rival.on, { connections }), find(model, on, { connections }))
      ).filter((one) => one !== null);
      comparisons.push(...found);
      const text = found.map((one) => `${title(one)} ${ratioText(one)}`).join(", ");
      return text ? `Against ${name} at ${connections} connections: ${text}.` : "";
    })
  ).filter(Boolean).join(" ");
  const c = find("epoll", "C", {});
  return experiment("peers", outcomes, comparisons, verdict + (c && c.runs.length > 0 ? saturation(toRow(c)) : ""));
}

/** Whether the fastest server was the bottleneck, or the generator. */
function saturation(row: Row): string {
  if (!row.server) return "";
  const { generator, server: { load } } = row;
  return ` While C was measured, it used ${factor(load)} of a core and the generator ${factor(generator)}, \
so ${limitOf(row)} was the limit${limitOf(row) === "the generator" ? ", and C may be faster" : ""}.`;
}

/** Who was at the end of a core. A process that is measured never gets all of it, as there are others. */
function limitOf({ generator, server }: Row): string {
  if (generator >= 0.9 && generator > (server?.load ?? 0)) return "the generator";
  return server && server.load >= 0.9 ? "the server" : "neither of them alone";
}

async function compareGenerators(): Promise<Experiment> {
  const counts = numbers("connections", [50, 500]), flights = numbers("inflight", [1, 16]);
  const server = onPath("cc") ? build("cc", "epoll.c", "-O2") : null;
  const client = server && build("cc", "client.c", "-O2");
  if (!server || !client) {
    say(`generator is left out: ${onPath("cc") ? "its programs in C can't be compiled" : "cc is not on the PATH"}`);
    return experiment("generator", [], [], "Left out: it needs a C compiler, cc.");
  }
  const command = () => [server], inC: Contender = { model: "client.c", on: "C", command, driver: { program: client } };
  const ours = chosenRuntimes.map((on): Contender => ({ model: "load.ts", on, command, driver: { on } }));
  const settings = flights.flatMap((inflight) => counts.map((connections) => ({ connections, inflight })));
  const outcomes = await takeTurns(
    settings.flatMap((setting) => [inC, ...ours].map((contender) => makeCase(contender, setting))),
  );
  const find = finder(outcomes), comparisons: Comparison[] = [];
  const verdict = perRuntime((on) =>
    settings.map((setting) => {
      const mine = find("load.ts", on, setting), other = find("client.c", "C", setting), found = compare(mine, other);
      if (!found) return "";
      comparisons.push(found);
      const { median } = found.ratio, sides = [toRow(mine!), toRow(other!)];
      const verb = median > 1.1 ? "gets more out of the server than" : median < 0.9 ? "gets less than" : "agrees with";
      const [first, second] = sides.map((row) =>
        `${limitOf(row)} (server ${factor(row.server?.load ?? NaN)}, generator ${factor(row.generator)})`
      );
      return `at ${settingText(mine!.setting)} load.ts ${verb} client.c, ${ratioText(found)}: the limit was ${first}, \
and with client.c ${second}`;
    }).filter(Boolean).join("; ")
  );
  return experiment("generator", outcomes, comparisons, verdict);
}

// ---------------------------------------------------------------- telling

/** Writes to standard output, all of it. */
function print(text: string): void {
  for (let data = new TextEncoder().encode(text); data.length > 0;) data = data.subarray(writeSync(1, data));
}

/** A line on standard error, which does not get into the results. */
function say(text: string): void {
  writeSync(2, `${process.stderr.isTTY ? "\r\x1b[K" : ""}${text}\n`);
}

/** What is going on: one line that is written over, where there is a terminal. */
function progress(text: string): void {
  if (process.stderr.isTTY) writeSync(2, `\r\x1b[K${text}`);
  else if (/, 1 of/.test(text)) say(text);
}

const columns: [head: string, value: (row: Row) => string][] = [
  ["server", title],
  ["load", ({ setting }) => settingText(setting)],
  ["messages/s", (row) => row.rate ? count(row.rate.median) : ""],
  ["from", ({ rate }) => rate ? count(rate.low) : ""],
  ["to", ({ rate }) => rate ? count(rate.high) : ""],
  ["p50", ({ latency }) => latency ? duration(latency[0]) : "-"],
  ["p99", ({ latency }) => latency ? duration(latency[1]) : "-"],
  ["p99.9", ({ latency }) => latency ? duration(latency[2]) : "-"],
  ["1st reply", ({ firstReply, served }) => isFinite(firstReply) && served > 0 ? duration(firstReply) : "-"],
  ["user s/M", ({ server }) => server ? factor(server.user) : "-"],
  ["system s/M", ({ server }) => server ? factor(server.system) : "-"],
  ["peak MB", ({ server }) => isFinite(server?.peak ?? NaN) ? factor(server!.peak) : "-"],
  ["kB/conn", ({ server }) => isFinite(server?.perConnection ?? NaN) ? factor(server!.perConnection * 1000) : "-"],
  ["threads", ({ server }) => server ? String(server.threads) : "-"],
  ["its CPU", ({ server }) => server ? factor(server.load) : "-"],
  ["generator's", ({ generator }) => factor(generator)],
];

const comparisonColumns: [head: string, value: (row: Comparison) => string][] = [
  ["server", title],
  ["load", ({ setting }) => settingText(setting)],
  ["against", ({ against }) => against],
  ["ratio", ratioText],
  ["of CPU per message", ({ cost }) => cost ? spreadText(cost) : "-"],
  ["pairs", ({ ratio }) => String(ratio.count)],
];

/** A table whose columns are as wide as they have to be: the first two to the left, figures to the right. */
function layOut<T>(columns: [head: string, value: (row: T) => string][], rows: T[]): string[] {
  const cells = [columns.map(([head]) => head), ...rows.map((row) => columns.map(([, value]) => value(row)))];
  const widths = columns.map((_, i) => Math.max(...cells.map((line) => line[i].length)));
  return cells.map((line) =>
    line.map((cell, i) => i < 2 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])).join("  ")
  );
}

/** The rows as lines; one that has no figures says why. */
function table(rows: Row[]): string {
  const shown = rows.filter(({ runs, failure }) => runs > 0 && !failure);
  const notes = rows.filter(({ failure }) => failure)
    .map((row) => `${title(row)}, ${settingText(row.setting)}: ${row.failure}`);
  const partly = shown.filter(({ served, setting }) => served < setting.connections)
    .map((row) => `${title(row)}, ${settingText(row.setting)}: ${row.served} of ${row.setting.connections} served`);
  const limited = shown.filter((row) => limitOf(row) === "the generator")
    .map((row) => `${title(row)}, ${settingText(row.setting)}: the generator was the limit, the server may be faster`);
  return [...layOut(columns, shown), ...partly, ...limited, ...notes].join("\n");
}

function report({ name, rows, comparisons, verdict }: Experiment): string {
  const ratios = comparisons.length > 0 ? `${layOut(comparisonColumns, comparisons).join("\n")}\n\n` : "";
  return `\n${name}: ${experiments[name].about}\n\n${table(rows)}\n\n${ratios}${verdict}\n`;
}

/** What was measured on what: figures without that are worth nothing. */
function describe() {
  const version = (name: string) =>
    `${name} ${String(spawnSync(name, ["--version"]).stdout).match(/\d+\.\d+\.\d+/)?.[0] ?? "?"}`;
  const congestion = "/proc/sys/net/ipv4/tcp_congestion_control";
  return {
    date: new Date().toISOString().slice(0, 10),
    machine: `${cpus()[0]?.model.trim() ?? process.arch}, ${availableParallelism()} cores, ` +
      `${Math.round(totalmem() / 2 ** 30)} GiB, ${process.platform} ${release().split("-")[0]}` +
      (existsSync(congestion) ? `, TCP ${readFileSync(congestion, "utf8").trim()}` : ""),
    versions: Object.fromEntries(chosenRuntimes.map((name) => [name, version(name)])),
    generator: runtime,
    size: options.size,
    inflight: numbers("inflight", [1])[0],
    seconds: milliseconds / 1000,
    rounds: options.rounds,
  };
}

process.on("SIGINT", () => {
  if (stopped) process.exit(130);
  stopped = true;
  say("stopped: this is what there is so far");
  for (const child of children) child.kill("SIGTERM");
});
process.on("SIGTERM", () => process.exit(143));
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL");
  if (built) rmSync(built, { recursive: true, force: true });
});

if (chosenRuntimes.length === 0) fail("nothing to measure", "none of the runtimes is on the PATH");
const about = describe(), results: Experiment[] = [];
say(`${about.machine}; ${Object.values(about.versions).join(", ")}; ${about.date}`);
for (const name of asked) {
  if (stopped) break;
  const result = await experiments[name].run();
  results.push(result);
  if (process.stderr.isTTY) writeSync(2, "\r\x1b[K");
  if (!options.json) print(report(result));
}
if (options.json) {
  const round = (_: string, value: unknown) => typeof value === "number" ? Number(value.toPrecision(4)) : value;
  print(JSON.stringify({ ...about, experiments: results }, round, 1) + "\n");
}
process.exit(0);
