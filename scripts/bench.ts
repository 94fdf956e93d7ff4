// SPDX-License-Identifier: MIT
/**
 * Which model, on this machine: starts the servers, drives them, and compares them.
 *
 * An experiment compares servers, or one server under different loads. How it does that is half of its result:
 *
 * - Each run has a fresh server process, and load.ts as a process beside it, which checks every byte and reports the
 *   CPU time of both: if the generator is the busier one, it is the generator that was measured.
 * - A machine is never quiet, and gets faster and slower over minutes. So the servers take turns, A B A B, and what
 *   counts is the ratio within a turn: the median of five or more, with the lowest and the highest beside it. If these
 *   lie on both sides of 1, nothing has been shown, and the verdict is a tie.
 * - A server that sends back a wrong byte is reported, and left out.
 *
 *   deno run -A scripts/bench.ts              all models that there are, on this runtime
 *   bun scripts/bench.ts idle work            two of the experiments; --help lists them
 *   node scripts/bench.ts shim --runtimes deno,bun,node
 */

import { type ChildProcessWithoutNullStreams, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeSync } from "node:fs";
import { availableParallelism, cpus, release, tmpdir, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { children, lastWords, requirePermissions, signalChild, startChild } from "./tools/children.ts";
import { explain, fail, parseOptions, printAll, process, runtime, usageError } from "./shim/program.ts";
import { findRuntime, type Found } from "./tools/runtimes.ts";
import { axisNames, cpuPerMessage, doubts, least, report, settingText, title, units, WIDTH } from "./tools/report.ts";
import type { Comparison, Experiment, Measured, Results, Row, Run, Setting, Spread } from "./tools/results.ts";

const folder = dirname(fileURLToPath(import.meta.url));
const peersFolder = join(folder, "../tests/peers");

// ---------------------------------------------------------------- what there is to choose from

interface Model {
  /** Its script, if that isn't named after it: it is measured only if it is asked for. */
  script?: (on: string) => string;
  /** Arguments beside the usual ones. */
  arguments?: (clients: number) => (string | number)[];
  /** The most clients that it is asked to serve. */
  most?: number;
  /** It can burn CPU: it has `--work`. */
  works?: true;
  /** Milliseconds that a client waits for a first reply. */
  patience?: number;
}

const models: Record<string, Model> = {
  blocking: { arguments: (clients) => clients > 1 ? ["--threads", clients] : [], most: 100 },
  // One thread: the second client waits.
  "blocking-1": { script: () => "blocking", patience: 500 },
  processes: { arguments: (clients) => ["--max-processes", clients], most: 100 },
  prefork: { arguments: (clients) => ["--processes", clients], most: 100 },
  threads: { arguments: (clients) => ["--max-threads", clients], most: 100, works: true },
  pool: { arguments: (clients) => ["--workers", clients], most: 100, works: true },
  tasks: { works: true },
  multiplex: { works: true },
  coroutines: { works: true },
  offload: { works: true },
  reuseport: { works: true },
  reactors: { works: true },
  nonblocking: {},
  // One bit for each descriptor below 1024, and the process has some of its own.
  select: { most: 950 },
  poll: {},
  epoll: {},
  signals: {},
  uring: {},
  // An echo on the runtime's own API, which knows no options.
  bare: { script: (on) => `../tests/peers/bare_${on}` },
};
const allModels = Object.keys(models).filter((name) => !models[name].script);

/** An experiment: which servers, under what, compared with which other, and by what. */
interface Plan {
  about: string;
  /** The settings: all combinations of these numbers, or of those in the options. What isn't here has no option. */
  settings: Partial<Record<keyof Setting, number[]>>;
  /** The models that take part unless others are asked for; `fixed` if there are no others. */
  models: string[];
  fixed?: true;
  /** The servers, if that isn't each of the models on each of the runtimes. */
  contenders?: (names: string[]) => Contender[];
  /**
   * What each is compared with: the first of its group, the next slower one, or itself with the first of these numbers.
   * A group has the same setting and, unless a contender says otherwise, the same runtime.
   */
  against: "first" | "next" | keyof Setting;
  by?: Measured[];
  /** The columns of its table. */
  columns?: string[];
  /** What latency is of, where it is measured, which takes as long again. */
  latency?: string;
  /** What else load.ts is told. */
  load?: (setting: Setting) => Record<string, number>;
  /** How often the load is applied to the one process; the last time counts, with all threads started. */
  times?: number;
}

const halfRate = "when messages are sent on a timetable, at half of that rate";

const plans: Record<string, Plan> = {
  models: {
    about: "each model against the next slower",
    settings: { connections: [1, 10, 100, 1000], idle: [0], workMs: [0] },
    models: allModels,
    against: "next",
    latency: halfRate,
  },
  threads: {
    about: "what a thread costs to clients that come one by one, and at once",
    settings: { connections: [20], together: [0, 1], idle: [0], workMs: [0] },
    models: ["tasks", "pool", "threads", "blocking", "processes", "prefork"],
    contenders: (names) => [...contenders(names), ...Object.values(findPeers()).filter(({ on }) => on !== "C")],
    against: "first",
    by: ["firstReplyUs", "cpuUsPerMessage"],
    times: 2,
    columns: ["messages/s", "first", "CPU", "kB/conn", "MB", "threads", "cores", "gen."],
  },
  idle: {
    about: "what silent connections cost the others: select, poll, epoll, ...",
    settings: { connections: [10], idle: [0, 100, 900, 10_000], workMs: [0] },
    models: ["select", "poll", "epoll", "signals", "uring", "multiplex", "tasks"],
    against: "idle",
  },
  work: {
    about: "handlers that compute: one loop, a pool, a loop per core",
    settings: { connections: [8], idle: [0], workMs: [0, 1, 10] },
    models: ["multiplex", "pool", "offload", "reuseport", "reactors"],
    against: "first",
    latency: halfRate,
  },
  mixed: {
    about: "mostly idle clients, and every tenth message takes CPU",
    settings: { connections: [8], idle: [5000], workMs: [10] },
    models: ["multiplex", "tasks", "reuseport", "reactors", "offload", "pool"],
    against: "first",
    by: ["messagesPerSecond", "p99Us"],
    latency: "of the light messages, when 1 % of the idle clients speak each second, and no other",
    load: ({ idle }) => ({ light: 90, trickle: Math.ceil(idle / 100) }),
  },
  slow: {
    about: "a client that never reads, among others that do",
    settings: { connections: [9], idle: [0], slow: [0, 1], workMs: [0] },
    models: [...allModels, "blocking-1"],
    against: "slow",
    latency: halfRate,
  },
  shim: {
    about: "multiplex, tasks and coroutines against an echo on the runtime's own API",
    settings: { connections: [50, 500], idle: [0], holdUs: [0, 100] },
    models: ["multiplex", "tasks", "coroutines"],
    contenders: (names) => contenders([...new Set(["bare", ...names])]),
    against: "first",
  },
  peers: {
    about: "against the same models in C, Go and Python",
    settings: { connections: [50], idle: [0], holdUs: [0, 100] },
    models: ["epoll", "uring", "tasks", "multiplex", "threads", "pool"],
    fixed: true,
    contenders: (names) =>
      Object.entries(findPeers()).flatMap(([group, peer]) => {
        const rivals = contenders(names.filter((name) => peersOf[group].includes(name)));
        return rivals.length > 0 ? [peer, ...rivals].map((one) => ({ ...one, group })) : [];
      }),
    against: "first",
  },
  generator: {
    about: "is the generator to be trusted: load.ts against a client in C",
    settings: { connections: [50, 500], inflight: [1, 16] },
    models: [],
    fixed: true,
    contenders: findGenerators,
    against: "first",
    columns: ["messages/s", "CPU", "cores", "gen."],
  },
};

/** The models that a peer is compared with. */
const peersOf: Record<string, string[]> = {
  "epoll C": ["epoll", "uring"],
  "goroutines Go": ["tasks", "multiplex"],
  "threads Python": ["threads"],
  "pool Python": ["pool"],
};

/** All numbers of some settings, such as `1, 10 connections; 5000 idle`. */
function span(settings: Plan["settings"]): string {
  const shown = axisNames.filter((axis) =>
    axis !== "holdUs" && axis !== "together" && settings[axis]?.some((value) => value > least(axis))
  );
  return shown.map((axis) => `${settings[axis]!.join(", ")} ${units[axis]}`).join("; ");
}

const options = parseOptions(
  `Measures the servers of this collection, on this machine. The experiments:\n\n${
    Object.entries(plans).map(([name, { about, settings }]) =>
      `  ${name.padEnd(9)} ${about}\n${" ".repeat(12)}${span(settings)}\n`
    ).join("")
  }\nThe models: ${Object.keys(models).join(", ")}`,
  "deno run -A scripts/bench.ts models --connections 100 --runtimes deno,bun,node",
  {
    models: ["auto", "those to measure, with commas, the one to compare with first; auto = the experiment's own"],
    runtimes: ["own", "those to run them on: deno,bun,node; own is the one that runs this"],
    connections: ["auto", "connections that send; several numbers make several measurements"],
    idle: ["auto", "silent connections beside them"],
    work: ["auto", "milliseconds of CPU per message"],
    size: [64, "bytes in a message", 1, 1 << 20],
    inflight: ["auto", "messages on their way per connection; 1 is ping-pong"],
    seconds: ["1", "duration of a measurement"],
    rounds: [5, "turns that each server gets; fewer than 5 give no verdict", 1],
    json: [false, "print the results as JSON"],
  },
  "[EXPERIMENT ...]",
);
requirePermissions();
// What there is so far is printed at the end: that is no server's stop.
for (const signal of ["SIGINT", "SIGTERM"]) process.removeAllListeners(signal);

/** The names that were asked for, in that order; the end of the process if one isn't known. */
function choose(kind: string, known: string[], asked: string[]): string[] {
  for (const name of asked) {
    if (!known.includes(name)) usageError(`unknown ${kind} "${name}"; known are ${known.join(", ")}`);
  }
  return [...new Set(asked)];
}

/** By what they set: the options that are numbers, and the range of each. */
const axes = {
  connections: ["connections", 1, 100_000],
  idle: ["idle", 0, 100_000],
  workMs: ["work", 0, 10_000],
  inflight: ["inflight", 1, 1000],
} as const;

/** The numbers in the option for an axis; `null` if it isn't given. */
function numbers([option, from, to]: (typeof axes)[keyof typeof axes]): number[] | null {
  if (options[option] === "auto") return null;
  return options[option].split(",").map((text) => {
    if (/^\d+$/.test(text) && Number(text) >= from && Number(text) <= to) return Number(text);
    return usageError(`--${option} "${text}": not a whole number from ${from} to ${to}`);
  });
}

/** What was asked for. */
function spanOf(settings: Setting[]): string {
  return span(Object.fromEntries(axisNames.map((axis) => [axis, [...new Set(settings.map((one) => one[axis]))]])));
}

/** All settings of an experiment. An option that it has no use for is a mistake. */
function combine(name: string): Setting[] {
  let settings: Setting[] = [{ connections: 10, together: 0, idle: 0, slow: 0, workMs: 0, inflight: 1, holdUs: 100 }];
  for (const axis of axisNames) {
    const given = axis in axes ? numbers(axes[axis as keyof typeof axes]) : null;
    const own = plans[name].settings[axis] ?? (axis === "inflight" ? [1] : null);
    if (given && !own) usageError(`--${axis === "workMs" ? "work" : axis}: ${name} has no use for it`);
    const values = given ?? own;
    if (values) settings = values.flatMap((value) => settings.map((setting) => ({ ...setting, [axis]: value })));
  }
  return settings;
}

const asked = choose("experiment", Object.keys(plans), options.operands.length ? options.operands : ["models"]);
const chosenModels = options.models === "auto" ? null : choose("model", Object.keys(models), options.models.split(","));
const milliseconds = Math.round(Number(options.seconds) * 1000);
if (!(milliseconds >= 100)) usageError(`--seconds ${options.seconds}: not a number from 0.1`);
const settingsOf = Object.fromEntries(asked.map((name) => [name, combine(name)]));
for (const name of asked) {
  const other = plans[name].fixed && chosenModels?.find((model) => !plans[name].models.includes(model));
  if (other) usageError(`--models ${other}: ${name} doesn't measure it`);
}

/** The runtimes that are there. */
const found: Record<string, Found> = {
  [runtime]: { program: process.execPath, version: process.versions[runtime]! },
};
const chosenRuntimes = choose(
  "runtime",
  ["deno", "bun", "node"],
  options.runtimes === "own" ? [runtime] : options.runtimes.split(","),
).filter((name) => {
  if (name === runtime) return true;
  const answer = findRuntime(name);
  if (typeof answer === "string") return say(`${answer}: ${name} is left out`);
  return found[name] = answer;
});

/** The command that runs a script. */
function onRuntime(name: string, script: string): string[] {
  return [found[name].program, ...name === "deno" ? ["run", "-A"] : [], join(folder, script)];
}

// ---------------------------------------------------------------- servers

/** Something that can be measured. */
interface Contender {
  /** The model, or the name of the peer. */
  model: string;
  /** The runtime, or the language. */
  on: string;
  /** How to start it, or why it can't be measured under this setting. */
  command(setting: Setting): string[] | string;
  /** What it is compared within, if not the runtime. */
  group?: string;
  patience?: number;
  /** The runtime of the load generator, if not this one; or a program that takes its place. */
  driver?: { on?: string; program?: string };
}

/** These models, on each of the runtimes that were asked for. */
function contenders(names: string[]): Contender[] {
  return chosenRuntimes.flatMap((on) =>
    names.map((model) => ({
      model,
      on,
      patience: models[model].patience,
      command: (setting) => modelCommand(model, on, setting),
    }))
  );
}

function modelCommand(name: string, on: string, setting: Setting): string[] | string {
  const { script = () => name, arguments: own, most = Infinity, works } = models[name];
  const clients = setting.connections + setting.idle + setting.slow;
  if (clients > most) return `not made for more than ${most} clients`;
  if (setting.workMs > 0 && !works) return "it has no --work";
  return [
    ...onRuntime(on, `${script(on)}.ts`),
    ...["--port", 0, "--quiet", "--messages", 0, "--idle", 0],
    ...setting.workMs > 0 ? ["--work", setting.workMs] : [],
    ...own?.(clients) ?? [],
  ].map(String);
}

let built = "";

/** Compiles a peer, and returns the program; `null` if there is no compiler, or it fails. */
function build(compiler: string, source: string, ...flags: string[]): string | null {
  try {
    built ||= mkdtempSync(join(tmpdir(), "bench-"));
  } catch (error) {
    return say(`${source} is left out: no folder for the program: ${explain(error)}`), null;
  }
  const program = join(built, source.replace(".", "-"));
  const { status, stderr, error } = spawnSync(compiler, [...flags, "-o", program, join(peersFolder, source)]);
  if (error) say(`${compiler} is not on the PATH: ${source} is left out`);
  else if (status !== 0) say(`${source} can't be compiled: ${String(stderr).split("\n")[0]}`);
  return status === 0 ? program : null;
}

/** The peers whose tools are there, by name; what is missing is said. */
function findPeers(): Record<string, Contender> {
  const python = ["python3", "python"].find((name) => spawnSync(name, ["--version"]).status === 0);
  if (!python) say("python3 is not on the PATH: Python is left out");
  const list: [model: string, on: string, program?: string | null, ...rest: string[]][] = [
    ["epoll", "C", build("cc", "epoll.c", "-O2")],
    ["goroutines", "Go", build("go", "goroutines.go", "build")],
    ["threads", "Python", python, join(peersFolder, "threads.py")],
    ["pool", "Python", python, join(peersFolder, "pool.py")],
  ];
  const found = list.filter(([, , program]) => program).map(([model, on, program, ...rest]): Contender => {
    const command = (
      { connections, idle }: Setting,
    ) => [program!, ...rest, ...model === "pool" ? [`${connections + idle}`] : []];
    return { model, on, command };
  });
  return Object.fromEntries(found.map((peer) => [title(peer), peer]));
}

/** The server in C, under a client in C, and under load.ts on each runtime. */
function findGenerators(): Contender[] {
  const server = build("cc", "epoll.c", "-O2"), client = server && build("cc", "client.c", "-O2");
  if (!server || !client) return say("generator is left out: it needs a C compiler, cc"), [];
  const same = { command: () => [server], group: "C" };
  return [
    { ...same, model: "client.c", on: "C", driver: { program: client } },
    ...chosenRuntimes.map((on): Contender => ({ ...same, model: "load.ts", on, driver: { on } })),
  ];
}

// ---------------------------------------------------------------- a run

let stopped = false;

/** A program, everything that it has written so far, and its exit code. */
interface Running {
  child: ChildProcessWithoutNullStreams;
  out: string;
  err: string;
  ended: Promise<number | null>;
  code?: number | null;
}

/** Starts a program, and keeps what it writes. */
function start(command: string[]): Running {
  const child = startChild(command);
  const ended = new Promise<number | null>((resolve) => {
    child.once("error", (error) => (running.err += error.message, resolve(running.code = 1)));
    child.once("close", (code) => resolve(running.code = code));
  });
  const running: Running = { child, out: "", err: "", ended };
  child.stdout.on("data", (data) => running.out += data);
  child.stderr.on("data", (data) => running.err += data);
  return running;
}

/** What a load generator prints. */
async function resultOf(command: string[]) {
  const generator = start(command);
  if (await generator.ended !== 0) throw new Error(reason(generator) || "the load generator was stopped");
  return JSON.parse(generator.out);
}

/**
 * One run: a server, and the load for it. If that is applied several times the last one counts, but for the memory:
 * what the first connections took is used again by the next ones.
 */
async function runOnce({ plan: { latency, times = 1, load: more }, contender, setting }: Outcome): Promise<Run> {
  const server = start(contender.command(setting) as string[]), { child } = server;
  try {
    let port: string | undefined;
    for (const since = performance.now(); !port; await pause(5)) {
      port = server.out.match(/^listening on .*:(\d+)$/m)?.[1];
      if (server.code !== undefined) throw new Error(reason(server) || `ended with ${server.code}`);
      if (performance.now() - since > 20_000) throw new Error("not ready after 20 s");
    }
    const { connections, together, idle, slow, inflight, holdUs: hold } = setting,
      { size } = options,
      { patience = 5000, driver } = contender;
    if (driver?.program) return await runClient(driver.program, setting, port, child.pid!);
    const load = {
      ...more?.(setting),
      connections,
      together: together ? connections : 0,
      idle,
      slow,
      size,
      inflight,
      hold,
      milliseconds,
      patience,
      pace: latency ? 50 : 0,
    };
    const runs: Run[] = [];
    const on = driver?.on ?? runtime, given = Object.entries({ ...load, port, pid: child.pid! });
    const command = [...onRuntime(on, "tools/load.ts"), ...given.flatMap(([name, value]) => [`--${name}`, `${value}`])];
    while (runs.length < times) runs.push(await resultOf(command));
    const [first] = runs, last = runs[times - 1];
    if (first.server && last.server) last.server.connectionMB = first.server.connectionMB;
    return last;
  } finally {
    signalChild(child, "SIGTERM");
    await Promise.race([server.ended, pause(2000)]);
    signalChild(child, "SIGKILL");
    await server.ended;
  }
}

/** Runs tests/peers/client.c instead, which knows only what two generators can be compared by. */
async function runClient(program: string, setting: Setting, port: string, pid: number): Promise<Run> {
  const { connections, inflight } = setting;
  const given = [connections, options.size, inflight, milliseconds, pid];
  const { rate, generator, user, system } = await resultOf([program, port, ...given.map(String)]);
  return {
    ...{ served: connections, messagesPerSecond: rate, firstReplyUs: null, latencyUs: null, sockets: "uring" },
    ...{ generatorCores: generator, otherCores: null },
    server: {
      ...{ cores: user + system, threadsWaiting: null, peakMB: null, connectionMB: null, threads: 1 },
      ...{ userUsPerMessage: user / rate * 1e6, systemUsPerMessage: system / rate * 1e6 },
    },
  };
}

/** What went wrong, as the program has said it. */
function reason({ err, out }: Running): string {
  return lastWords(err || out).replace(/^the run failed: /, "");
}

// ---------------------------------------------------------------- taking turns

/** A contender under a setting, and what its runs have shown. */
interface Outcome {
  plan: Plan;
  contender: Contender;
  setting: Setting;
  runs: Run[];
  failure?: string;
}

/** All servers of an experiment under all of its settings. */
function prepare(name: string): Outcome[] {
  const plan = plans[name], names = chosenModels ?? plan.models;
  const all = plan.contenders?.(names) ?? contenders(names);
  return settingsOf[name].flatMap((setting) =>
    all.map((contender) => {
      const command = contender.command(setting);
      return { plan, contender, setting, runs: [], failure: typeof command === "string" ? command : undefined };
    })
  );
}

/** Seconds that a run takes, before there is one to go by. */
function estimate({ plan: { times = 1, latency, load: more }, setting }: Outcome): number {
  const load = Math.max(0.4, milliseconds / 2000) + milliseconds / 1000 * (more ? 26 : latency ? 2 : 1);
  return 0.5 + times * (0.4 + load) + (setting.connections + setting.idle) / 5000 + setting.slow;
}

const total = (outcomes: Outcome[]) => outcomes.reduce((sum, one) => sum + (one.failure ? 0 : estimate(one)), 0);

/** Seconds as one says them. */
function about(seconds: number): string {
  return seconds < 90 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} min`;
}

/** How long the runs so far took, by the clock and by the estimate. */
const spent = { seconds: 0, estimated: 0 };

/** Runs all in turn, as often as `--rounds` says. Those that fail are left out from then on. `then` has to come yet. */
async function takeTurns(name: string, outcomes: Outcome[], then: Outcome[][]): Promise<void> {
  const later = then.reduce((sum, next) => sum + total(next), 0) * options.rounds;
  for (let round = 0; round < options.rounds; round++) {
    for (const [i, outcome] of outcomes.entries()) {
      if (stopped) return;
      if (outcome.failure) continue;
      const rest = total(outcomes.slice(i)) + total(outcomes) * (options.rounds - round - 1) + later;
      const left = about(rest * (spent.estimated > 0 ? spent.seconds / spent.estimated : 1));
      const what = `${title(outcome.contender)}, ${settingText(outcome.setting)}`, since = performance.now();
      progress(`${name}: round ${round + 1} of ${options.rounds}, about ${left} left`, what, i === 0);
      try {
        outcome.runs.push(await runOnce(outcome));
        spent.seconds += (performance.now() - since) / 1000;
        spent.estimated += estimate(outcome);
      } catch (error) {
        // Ctrl-C goes to all processes of a terminal, and the others may be faster to react.
        await pause(100);
        if (stopped) return;
        outcome.failure = explain(error);
        say(`${what}: left out: ${outcome.failure}`);
      }
    }
  }
}

// ---------------------------------------------------------------- figures

function spread(values: number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b), middle = sorted.length / 2;
  const median = (sorted[Math.ceil(middle) - 1] + sorted[Math.floor(middle)]) / 2;
  return { median, low: sorted[0], high: sorted[sorted.length - 1], count: sorted.length };
}

/** The median of each figure in some results; `null` if it was not measured in all of them. */
function medians<T>(values: T[]): T {
  const [first] = values;
  if (values.some((value) => value === null)) return null as T;
  if (typeof first === "number") return spread(values as number[]).median as T;
  if (typeof first !== "object" || first === null) return first;
  const keys = Object.keys(first) as (keyof T)[];
  return Object.fromEntries(keys.map((key) => [key, medians(values.map((value) => value?.[key]))])) as T;
}

function toRow({ contender: { model, on }, setting, failure, runs }: Outcome): Row {
  const figures = runs.length > 0 ? medians(runs) : null;
  if (figures) figures.served = Math.min(...runs.map(({ served }) => served));
  const messagesPerSecond = figures && spread(runs.map((run) => run.messagesPerSecond));
  return { model, on, setting, failure, runs: runs.length, messagesPerSecond, figures };
}

const usualMeasures: Measured[] = ["messagesPerSecond", "cpuUsPerMessage"];

/** What ratios are made of, and what is said of one above 1, and below. */
const measures: Record<Measured, { of: (run: Run) => number; more: string; less: string }> = {
  messagesPerSecond: { of: (run) => run.messagesPerSecond, more: "faster", less: "slower" },
  cpuUsPerMessage: {
    of: (run) => cpuPerMessage(run) ?? NaN,
    more: "more CPU",
    less: "less CPU",
  },
  p99Us: { of: (run) => run.latencyUs?.p99 ?? NaN, more: "later", less: "sooner" },
  firstReplyUs: { of: (run) => run.firstReplyUs ?? NaN, more: "later", less: "sooner" },
};

/** The pairs that are compared. */
function pairUp(outcomes: Outcome[], against: Plan["against"]): [Outcome, Outcome][] {
  const usable = ({ runs, setting, failure }: Outcome) =>
    runs.length > 0 && !failure && runs.every(({ served }) => served === setting.connections);
  const rate = ({ runs }: Outcome) => spread(runs.map((run) => run.messagesPerSecond)).median;
  const groups = Map.groupBy(
    outcomes,
    ({ contender, setting }) =>
      against === "first" || against === "next"
        ? `${contender.group ?? contender.on} ${settingText(setting)}`
        : `${title(contender)} ${settingText({ ...setting, [against]: 0 })}`,
  );
  return [...groups.values()].flatMap((group): [Outcome, Outcome][] => {
    if (against !== "next") return group.slice(1).map((one) => [one, group[0]]);
    const ranked = group.filter(usable).sort((a, b) => rate(b) - rate(a));
    return ranked.slice(1).map((slower, i) => [ranked[i], slower]);
  }).filter((pair) => pair.every(usable));
}

/** The ratios of two, turn by turn. */
function compare([one, other]: [Outcome, Outcome]): Comparison {
  const { against, by = usualMeasures } = one.plan, it = other.setting[against as keyof Setting];
  const { contender: { model, on }, setting } = one, pairs = Math.min(one.runs.length, other.runs.length);
  const found = by.flatMap((name) => {
    const { of, more, less } = measures[name];
    const all = one.runs.slice(0, pairs).map((run, i) => of(run) / of(other.runs[i]));
    // Some of them may not have been measured.
    if (!all.every((ratio) => ratio > 0 && ratio < Infinity)) return [];
    const ratio = spread(all);
    return [{ name, ratio, word: ratio.low > 1 ? more : ratio.high < 1 ? less : "" }];
  });
  const doubtful = [one, other].some(({ runs, setting }) => doubts(medians(runs), setting).length > 0);
  const words = found.map(({ word }) => word).filter(Boolean).join(", ") || "tie";
  return {
    ...{ model, on, setting },
    against: it === undefined ? title(other.contender) : `${it} ${units[against as keyof Setting]}`,
    ratios: Object.fromEntries(found.map(({ name, ratio }) => [name, ratio])),
    verdict: pairs < 5 ? "too few turns" : `${words}${doubtful ? " (?)" : ""}`,
  };
}

// ---------------------------------------------------------------- telling

/** A line on standard error, which does not get into the results. */
function say(text: string): void {
  tell(`${process.stderr.isTTY ? "\r\x1b[K" : ""}${text}\n`);
}

function tell(text: string): void {
  try {
    writeSync(2, text);
  } catch {
    // Nobody reads it, or not fast enough.
  }
}

let said = -Infinity;

/** What is going on: one line that is written over, where there is a terminal; elsewhere a line now and then. */
function progress(round: string, what: string, first: boolean): void {
  const line = `${round}: ${what}`.slice(0, (process.stderr.columns ?? WIDTH) - 1);
  if (process.stderr.isTTY) return tell(`\r\x1b[K${line}`);
  if (!first && performance.now() - said < 10_000) return;
  said = performance.now();
  say(round);
}

/** What was measured on what: figures without that are worth nothing. */
function describe(): Omit<Results, "experiments"> {
  const congestion = "/proc/sys/net/ipv4/tcp_congestion_control";
  return {
    date: new Date().toISOString().slice(0, 10),
    revision: String(spawnSync("git", ["describe", "--always", "--dirty"], { cwd: folder }).stdout ?? "").trim(),
    machine: `${cpus()[0]?.model.trim() ?? process.arch}, ${availableParallelism()} cores, ` +
      `${Math.round(totalmem() / 2 ** 30)} GiB, ${process.platform} ${release().split("-")[0]}` +
      (existsSync(congestion) ? `, TCP ${readFileSync(congestion, "utf8").trim()}` : ""),
    versions: Object.fromEntries(chosenRuntimes.map((name) => [name, `${name} ${found[name].version}`])),
    generator: runtime,
    messageBytes: options.size,
    seconds: milliseconds / 1000,
    rounds: options.rounds,
  };
}

process.on("SIGINT", () => {
  if (stopped) process.exit(130);
  stopped = true;
  say("stopped: this is what there is so far");
  for (const child of children) signalChild(child, "SIGTERM");
});
process.on("SIGTERM", () => process.exit(143));
process.on("exit", () => {
  if (built) rmSync(built, { recursive: true, force: true });
});

if (chosenRuntimes.length === 0) fail("nothing to measure", "none of the runtimes is there");
const context = describe(), results: Experiment[] = [];
say(`${context.machine}\n${Object.values(context.versions).join(", ")}; ${context.date}`);
const prepared = asked.map(prepare);
for (const [i, outcomes] of prepared.entries()) {
  const runs = outcomes.filter(({ failure }) => !failure).length * options.rounds;
  const time = `${runs} runs, about ${about(total(outcomes) * options.rounds)}`;
  say(`${asked[i]}: ${runs > 0 ? time : "nothing can be measured"}`);
}
for (const [i, name] of asked.entries()) {
  if (stopped) break;
  await takeTurns(name, prepared[i], prepared.slice(i + 1));
  const rows = prepared[i].filter(({ runs, failure }) => runs.length > 0 || failure).map(toRow);
  results.push({ name, rows, comparisons: pairUp(prepared[i], plans[name].against).map(compare) });
  if (process.stderr.isTTY) tell("\r\x1b[K");
  if (options.json) continue;
  const { about, latency, columns } = plans[name];
  await printAll(report(results[i], `${about}; ${spanOf(settingsOf[name])}`, latency, columns));
}
if (options.json) {
  const round = (_: string, value: unknown) => typeof value === "number" ? Number(value.toPrecision(4)) : value;
  await printAll(JSON.stringify({ ...context, experiments: results } satisfies Results, round, 1) + "\n");
}
const measured = results.some(({ rows }) => rows.some(({ figures, failure }) => figures && !failure));
process.exit(measured || stopped ? 0 : 1);
