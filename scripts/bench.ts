// SPDX-License-Identifier: MIT
/**
 * Which model, on this machine: starts the servers, drives them, and compares them.
 *
 * How an experiment compares is half of its result:
 *
 * - A machine is never quiet. So two servers run at once, of which one is the reference, and the load alternates between
 *   them in slices of a quarter of a second; who has no turn is suspended. A ratio is made of two adjacent slices: what
 *   drifts, hits both. Not more than two: after ten seconds without a turn, fifty threads need seconds to be as fast again.
 * - A runtime compiles what runs often. So each has some seconds of load before the first slice: threads compile apart.
 * - It may compile the same program in another way the next time. So all of them are started several times.
 * - What counts is the median of all ratios, and an interval around it: of slices, with a certainty of 95 % for all of
 *   an experiment together, as out of a hundred comparisons some come out by chance; and no narrower than the starts are
 *   apart, of which a few show only a part. A verdict needs an interval that leaves out 1; within 5 % of it, the two are
 *   equal.
 * - Beside each server is a process of load.ts, which checks every byte and reports its own CPU time: if the generator is
 *   the busier one, it is the generator that was measured. A server that sends back a wrong byte is left out.
 *
 *   deno run -A scripts/bench.ts              all models that there are, on this runtime
 *   bun scripts/bench.ts idle work            two of the experiments; --help lists them
 *   node scripts/bench.ts shim --runtimes deno,bun,node
 */

import { type ChildProcessWithoutNullStreams, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeSync } from "node:fs";
import { availableParallelism, cpus, release, tmpdir, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { children, lastWords, requirePermissions, signalChild, startChild } from "./tools/children.ts";
import { explain, fail, parseOptions, printAll, process, runtime, usageError } from "./shim/program.ts";
import { models as servers } from "./tools/models.ts";
import { findRuntime, type Found } from "./tools/runtimes.ts";
import {
  axisNames,
  chance,
  compare,
  doubts,
  least,
  report,
  settingText,
  spread,
  title,
  units,
  WIDTH,
} from "./tools/report.ts";
import type { Experiment, Measured, Results, Row, Run, Setting, Slice } from "./tools/results.ts";
import { family, usage, usedByAll } from "./tools/usage.ts";

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
}

const { single: _, ...several } = servers;
const models: Record<string, Model> = {
  ...several,
  blocking: { arguments: (clients) => clients > 1 ? ["--threads", clients] : [], most: 100 },
  processes: { arguments: (clients) => ["--max-processes", clients], most: 100 },
  prefork: { arguments: (clients) => ["--processes", clients], most: 100 },
  threads: { arguments: (clients) => ["--max-threads", clients], most: 100 },
  pool: { arguments: (clients) => ["--workers", clients], most: 100 },
  // One bit for each descriptor below 1024, and the process has some of its own.
  select: { most: 950 },
  // Echoes by hand, which know no options: on the runtime's own API, in its style; with a promise for each message, as
  // Deno's API is; and a loop over epoll_wait.
  bare: { script: (on) => `../tests/peers/bare_${on}` },
  promises: { script: (on) => `../tests/peers/${on === "deno" ? "bare" : "promises"}_${on}` },
  loop: { script: () => "../tests/peers/loop" },
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
   * The reference of a group: its first server, or the same one with the first of these numbers. A group has the same
   * setting and, unless a contender says otherwise, the same runtime.
   */
  against: "first" | keyof Setting;
  by?: Measured[];
  /** The columns of its table. */
  columns?: string[];
  /** Latency is measured once in each start, at one rate for all of a group. */
  latency?: true;
  /** Messages a second, on a timetable: every slice measures latency, and is twice as long. */
  rate?: number;
  /** What else load.ts is told. */
  load?: Record<string, number>;
  /** Each slice opens its connections anew. */
  fresh?: true;
}

const plans: Record<string, Plan> = {
  models: {
    about: "each model against tasks, a task per connection",
    settings: { connections: [50], idle: [0], workMs: [0] },
    models: ["tasks", ...allModels.filter((name) => name !== "tasks")],
    against: "first",
    latency: true,
  },
  threads: {
    about: "what a thread costs to clients that come one by one, and at once",
    settings: { connections: [10], together: [0, 1], idle: [0], workMs: [0] },
    models: ["tasks", "pool", "threads", "blocking", "processes", "prefork"],
    contenders: (names) => [
      ...contenders(names),
      ...chosenModels ? [] : findPeers().filter(({ on }) => on === "Python"),
    ],
    against: "first",
    by: ["firstReplyUs"],
    // Ten processes that start at once may take long until the first reply.
    load: { patience: 60_000 },
    fresh: true,
    columns: ["first", "kB/conn", "MB", "threads"],
  },
  idle: {
    about: "what silent connections cost the others: select, poll, epoll, ...",
    settings: { connections: [10], idle: [0, 900, 10_000], workMs: [0] },
    models: ["select", "poll", "epoll", "tasks"],
    against: "idle",
  },
  work: {
    about: "handlers that compute: one loop, a pool, a loop per core",
    settings: { connections: [8], idle: [0], workMs: [1] },
    models: ["multiplex", "pool", "prefork", "offload", "reuseport", "reactors"],
    against: "first",
  },
  mixed: {
    about: "mostly idle clients, and every tenth message takes CPU: how late the others are",
    settings: { connections: [500], idle: [0], workMs: [10] },
    models: ["multiplex", "offload", "reuseport"],
    against: "first",
    by: ["p90Us"],
    rate: 300,
    load: { light: 90 },
    columns: ["at", "p50", "p90", "p99", "lag", "cores", "MB", "threads"],
  },
  shim: {
    about: "what the shim costs: against echoes by hand, in the same style",
    settings: { connections: [50, 500], idle: [0], holdUs: [0] },
    models: ["multiplex", "tasks", "epoll", "coroutines"],
    contenders: (names) => rivals(names, contenders(["bare", "promises", "loop", "epoll"])),
    against: "first",
  },
  peers: {
    about: "against the same models in C, Go and Python",
    settings: { connections: [50], idle: [0], holdUs: [0] },
    models: ["epoll", "uring", "loop", "tasks", "multiplex", "threads", "blocking"],
    fixed: true,
    contenders: (names) => rivals(names, findPeers()),
    against: "first",
  },
  generator: {
    about: "is the generator to be trusted: load.ts against a client in C",
    settings: { connections: [50], inflight: [1, 16] },
    models: [],
    fixed: true,
    contenders: findGenerators,
    against: "first",
    columns: ["messages/s", "CPU", "cores", "gen."],
  },
};

/** What is compared with an echo by hand, or with a peer. */
const rivalsOf: Record<string, string[]> = {
  "bare": ["multiplex"],
  "promises": ["tasks"],
  "loop": ["epoll"],
  "epoll": ["coroutines"],
  "epoll C": ["epoll", "uring", "loop"],
  "goroutines Go": ["tasks", "multiplex"],
  "threads Python": ["threads", "blocking"],
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
    models: [
      "auto",
      "those to measure, with commas; in models, threads, work, mixed the first is the reference, and may come twice",
    ],
    runtimes: ["own", "those to run them on: deno,bun,node; own is the one that runs this"],
    connections: ["auto", "connections that send; several numbers make several measurements"],
    idle: ["auto", "silent connections beside them"],
    work: ["auto", "milliseconds of CPU per message"],
    size: [64, "bytes in a message", 1, 1 << 20],
    inflight: ["auto", "messages on their way per connection; 1 is ping-pong"],
    rate: ["auto", "messages a second when latency is measured; auto = half of the reference's, mixed 300"],
    seconds: ["0.25", "duration of a slice; mixed twice that, threads as long as it takes to connect"],
    warm: ["2", "seconds of load before the first slice, but in threads"],
    slices: [4, "slices that each of a pair gets in a start", 1],
    starts: [3, "how often each pair is started", 1],
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
  return asked;
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
  let settings: Setting[] = [{ connections: 10, together: 0, idle: 0, workMs: 0, inflight: 1, holdUs: 100 }];
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
if (!(milliseconds >= 50 && milliseconds < 1 / 0)) usageError(`--seconds ${options.seconds}: not a number from 0.05`);
const warmUp = Math.round(Number(options.warm) * 1000);
if (!(warmUp >= 0 && warmUp < 1 / 0)) usageError(`--warm ${options.warm}: not a number from 0`);
if (!/^(auto|[1-9]\d*)$/.test(options.rate)) usageError(`--rate ${options.rate}: not a whole number from 1`);
const settingsOf = Object.fromEntries(asked.map((name) => [name, combine(name)]));
for (const name of asked) {
  if (options.rate !== "auto" && !plans[name].latency && !plans[name].rate) {
    usageError(`--rate: ${name} has no use for it`);
  }
  if (settingsOf[name].some(({ workMs, inflight }) => workMs > 0 && (inflight > 1 || options.size > 4096))) {
    usageError(`${name}: a server computes for what it receives at once: one message in flight, of 4096 bytes at most`);
  }
  const other = plans[name].fixed && chosenModels?.find((model) => !plans[name].models.includes(model));
  if (other) usageError(`--models ${other}: ${name} doesn't measure it`);
}

/** The runtimes that are there. */
const found: Record<string, Found> = {
  [runtime]: { program: process.execPath, version: process.versions[runtime]! },
};
const chosenRuntimes = [
  ...new Set(
    choose("runtime", ["deno", "bun", "node"], options.runtimes === "own" ? [runtime] : options.runtimes.split(",")),
  ),
].filter((name) => {
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
  /** The runtime of the load generator, if not this one; or a program that takes its place. */
  driver?: { on?: string; program?: string };
}

/** These models beside what each is compared with. */
function rivals(names: string[], references: Contender[]): Contender[] {
  return references.flatMap((reference) => {
    const group = title(reference), own = rivalsOf[group] ?? rivalsOf[reference.model];
    const others = contenders(names.filter((name) => own?.includes(name)))
      .filter(({ on }) => on === reference.on || !(reference.model in models && reference.on in found));
    return others.length > 0 ? [reference, ...others].map((one) => ({ ...one, group })) : [];
  });
}

/** These models, on each of the runtimes that were asked for. */
function contenders(names: string[]): Contender[] {
  return chosenRuntimes.flatMap((on) =>
    names.map((model) => ({
      model,
      on,
      command: (setting) => modelCommand(model, on, setting),
    }))
  );
}

function modelCommand(name: string, on: string, setting: Setting): string[] | string {
  const { script = () => name, arguments: own, most = Infinity } = models[name];
  const clients = setting.connections + setting.idle;
  if (clients > most) return `not made for more than ${most} clients`;
  if (setting.workMs > 0 && !servers[name]?.work) return "it has no --work";
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

/** The peers whose tools are there; what is missing is said. */
function findPeers(): Contender[] {
  const python = ["python3", "python"].find((name) => spawnSync(name, ["--version"]).status === 0);
  if (!python) say("python3 is not on the PATH: Python is left out");
  const list: [model: string, on: string, program?: string | null, ...rest: string[]][] = [
    ["epoll", "C", build("cc", "epoll.c", "-O2")],
    ["goroutines", "Go", build("go", "goroutines.go", "build")],
    ["threads", "Python", python, join(peersFolder, "threads.py")],
    ["pool", "Python", python, join(peersFolder, "pool.py")],
  ];
  return list.filter(([, , program]) => program).map(([model, on, program, ...rest]) => ({
    model,
    on,
    command: ({ connections, idle, workMs }) =>
      workMs > 0 ? "it has no --work" : [program!, ...rest, ...model === "pool" ? [`${connections + idle}`] : []],
  }));
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

// ---------------------------------------------------------------- a server and its load

let stopped = false;

/** A program that runs, and what it prints. */
class Program {
  readonly child: ChildProcessWithoutNullStreams;
  readonly ended: Promise<unknown>;
  err = "";
  #last = "";
  readonly #lines: AsyncIterator<string>;

  constructor(command: string[], reads = false) {
    this.child = startChild(command, reads);
    const lines = createInterface({ input: this.child.stdout }).on("line", (line) => this.#last = line);
    this.#lines = lines[Symbol.asyncIterator]();
    this.child.stderr.on("data", (data) => this.err += data);
    this.child.once("error", (error) => this.err += error.message);
    this.ended = new Promise((resolve) => this.child.once("close", resolve).once("error", resolve));
  }

  /** The next line. If it ends instead, throws what it has said. */
  async line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (!done) return value;
    await this.ended;
    throw new Error(this.words || "it has ended");
  }

  /** What it has said last, beside the line that says it is ready; or which signal has ended it. */
  get words(): string {
    const words = lastWords(this.err || this.#last).replace(/^(the run failed: |listening on .*)/, "");
    return words || (this.child.signalCode ? `ended by ${this.child.signalCode}` : "");
  }
}

/** A contender under a setting, and what its slices have shown. */
interface Outcome {
  plan: Plan;
  contender: Contender;
  setting: Setting;
  runs: Run[];
  /** Those on a timetable, where the others are not. */
  paced: Run[];
  /** Of each start: each of its slices with the adjacent one of the reference. */
  starts: [Run, Run][][];
  /** Of a reference: messages a second at which latency is measured. */
  pace?: number;
  failure?: string;
}

/** A server that runs, with its load generator. */
class Player {
  readonly outcome: Outcome;
  readonly server: Program;
  #generator: Program | undefined;
  #pids: number[] = [];
  #connectionMB = 0;

  constructor(outcome: Outcome) {
    this.outcome = outcome;
    this.server = new Program(outcome.contender.command(outcome.setting) as string[]);
  }

  /** Waits until the server listens, opens the connections, and warms both up. */
  async prepare(): Promise<void> {
    const { plan, setting: { together, holdUs: hold, ...setting }, contender: { driver } } = this.outcome;
    const late = setTimeout(() => {
      this.server.err = "not ready after 20 s";
      signalChild(this.server.child, "SIGKILL");
    }, 20_000);
    let port: string | undefined;
    while (!port) port = /^listening on .*:(\d+)$/.exec(await this.server.line())?.[1];
    clearTimeout(late);
    const before = usage([this.server.child.pid!]),
      { connections, idle, inflight } = setting,
      { size } = options;
    const load = { connections, idle, size, inflight, hold, port, together: together && connections };
    const named = Object.entries({ ...load, ...plan.load }).flatMap(([name, value]) => [`--${name}`, `${value}`]);
    this.#generator = new Program(
      driver?.program
        ? [driver.program, port, ...[connections, size, inflight].map(String)]
        : [...onRuntime(driver?.on ?? runtime, "tools/load.ts"), "--orders", ...named],
      true,
    );
    await this.#generator.line();
    this.#pids = family(this.server.child.pid!);
    const after = usage(this.#pids);
    if (before && after) this.#connectionMB = (after.memory - before.memory) / (connections + idle);
    if (warmUp > 0 && !plan.fresh) await this.#order(`${warmUp} 0`);
    signalChild(this.server.child, "SIGSTOP");
  }

  /** One slice; with `fresh`, the time of a slice is that of opening the connections. */
  async play(milliseconds: number, rate = 0): Promise<Run> {
    const { child } = this.server, { fresh } = this.outcome.plan;
    if (fresh) await this.#closeAll();
    const before = usage(this.#pids), all = usedByAll(), since = performance.now();
    signalChild(child, "SIGCONT");
    const slice: Slice = JSON.parse(await this.#order(`${milliseconds} ${rate}`));
    const seconds = fresh ? (performance.now() - since) / 1000 : slice.seconds, { messages, generatorCores } = slice;
    signalChild(child, "SIGSTOP");
    if (fresh) this.#pids = family(child.pid!);
    const after = usage(this.#pids), allAfter = usedByAll();
    if (!before || !after || messages === 0) return { ...slice, server: null, otherCores: null };
    const cpu = after.cpu - before.cpu;
    return {
      ...slice,
      otherCores: all === null ? null : Math.max(0, (allAfter! - all - cpu) / seconds - generatorCores),
      server: {
        cores: cpu / seconds,
        // Threads that have ended no longer count.
        threadsWaiting: Math.max(0, after.waited - before.waited) / seconds,
        cpuUsPerMessage: cpu / messages * 1e6,
        peakMB: after.peak,
        connectionMB: this.#connectionMB,
        threads: after.threads,
      },
    };
  }

  #order(text: string): Promise<string> {
    this.#generator!.child.stdin.write(`${text}\n`);
    return this.#generator!.line();
  }

  /** Closes the connections, and waits until the server has done what there is to do then, or for a second. */
  async #closeAll(): Promise<void> {
    signalChild(this.server.child, "SIGCONT");
    await this.#order("0");
    for (let i = 0, last = -1; i < 20; i++, await pause(50)) {
      this.#pids = family(this.server.child.pid!);
      const { cpu = 0 } = usage(this.#pids) ?? {};
      // Where threads or processes have ended, it is less.
      if (Math.abs(cpu - last) < 0.002) return;
      last = cpu;
    }
  }

  async stop(): Promise<void> {
    const { child, ended } = this.server;
    this.#generator?.child.stdin.end();
    for (const signal of ["SIGCONT", "SIGTERM"] as const) signalChild(child, signal);
    await Promise.race([ended, pause(2000)]);
    for (const one of [this.server, this.#generator]) if (one) signalChild(one.child, "SIGKILL");
    await Promise.all([ended, this.#generator?.ended]);
  }
}

// ---------------------------------------------------------------- taking turns

/** All servers of an experiment under all of its settings, in pairs that begin with the reference; or one alone. */
function prepare(name: string): Outcome[][] {
  const plan = plans[name], names = chosenModels ?? plan.models, { against } = plan;
  const all = plan.contenders?.(names) ?? contenders(names);
  const outcomes = settingsOf[name].flatMap((setting) =>
    all.map((contender): Outcome => {
      const command = contender.command(setting), failure = typeof command === "string" ? command : undefined;
      return { plan, contender, setting, runs: [], paced: [], starts: [], failure };
    })
  );
  const groups = Map.groupBy(
    outcomes,
    ({ contender, setting }) =>
      against === "first"
        ? `${contender.group ?? contender.on} ${settingText(setting)}`
        : `${title(contender)} ${settingText({ ...setting, [against]: 0 })}`,
  );
  return [...groups.values()].flatMap(([reference, ...others]) =>
    others.length > 0 ? others.map((other) => [reference, other]) : [[reference]]
  );
}

/** Seconds that a start of a group takes, before there is one to go by. */
function estimate(group: Outcome[]): number {
  return group.filter(({ failure }) => !failure).reduce((sum, { plan, setting }) => {
    const { connections, idle } = setting, opening = (connections + idle) / 5000;
    const slice = plan.fresh ? connections / 30 : milliseconds / 1000 * (plan.rate ? 2 : 1) + 0.02;
    return sum + 0.8 + opening + (plan.fresh ? 0 : warmUp / 1000) + options.slices * slice +
      (plan.latency ? 2 * slice : 0);
  }, 0);
}

const total = (groups: Outcome[][]) => groups.reduce((sum, group) => sum + estimate(group), 0);

/** Seconds as one says them. */
function about(seconds: number): string {
  return seconds < 90 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} min`;
}

/** Starts all groups one after the other, as often as `--starts` says. `then` has to come yet. */
async function measure(name: string, groups: Outcome[][], then: Outcome[][]): Promise<void> {
  for (let nth = 1; nth <= options.starts; nth++) {
    for (const [i, group] of groups.entries()) {
      if (stopped) return;
      const [{ contender, setting }] = group, what = `${contender.group ?? contender.on}, ${settingText(setting)}`;
      const rest = total(groups.slice(i)) + total(groups) * (options.starts - nth) + total(then) * options.starts;
      progress(`${name}: start ${nth} of ${options.starts}, about ${about(rest)} left`, what, i === 0);
      await playGroup(group);
    }
  }
}

/** What an action of a server returns; if it fails, the server is left out from then on. */
async function attempt<T>(player: Player, action: () => Promise<T>): Promise<T | undefined> {
  const { outcome } = player;
  if (stopped || outcome.failure) return;
  try {
    return await action();
  } catch (error) {
    // Ctrl-C goes to all processes of a terminal, and the others may be faster to react.
    await pause(100);
    if (stopped) return;
    const words = explain(error), own = player.server.words;
    outcome.failure = own && own !== words ? `${words}; the server: ${own}` : words;
    say(`${title(outcome.contender)}, ${settingText(outcome.setting)}: left out: ${outcome.failure}`);
  }
}

/** Has a pair of servers run at once, and alternates between them. */
async function playGroup(group: Outcome[]): Promise<void> {
  const players = group.filter(({ failure }) => !failure).map((outcome) => new Player(outcome));
  const { plan } = group[0];
  const rate = options.rate === "auto" ? plan.rate ?? 0 : Number(options.rate);
  const length = plan.fresh ? 1 : milliseconds * (plan.rate ? 2 : 1), pairs: [Run, Run][] = [];
  try {
    for (const player of players) await attempt(player, () => player.prepare());
    for (let round = 0; round < options.slices; round++) {
      // One after the other, and in the next round the other way round.
      const runs: Record<number, Run> = {};
      for (const player of round % 2 === 0 ? players : players.toReversed()) {
        const run = await attempt(player, () => player.play(length, plan.rate && rate));
        if (!run) continue;
        player.outcome.runs.push(run);
        runs[group.indexOf(player.outcome)] = run;
      }
      if (runs[0] && runs[1]) pairs.push([runs[1], runs[0]]);
    }
    if (pairs.length > 0) group[1].starts.push(pairs);
    if (!plan.latency) return;
    const [reference] = group, reached = reference.runs.slice(-options.slices).map((run) => run.messagesPerSecond);
    if (reached.length > 0) reference.pace ||= Math.ceil(Number((spread(reached).median / 2).toPrecision(2)));
    const pace = rate || reference.pace;
    for (const player of pace ? players : []) {
      const run = await attempt(player, () => player.play(2 * milliseconds, pace));
      if (run) player.outcome.paced.push(run);
    }
  } finally {
    await Promise.all(players.map((player) => player.stop()));
  }
}

// ---------------------------------------------------------------- figures

/** The median of each figure in some results; `null` if it was not measured in all of them. */
function medians<T>(values: T[]): T {
  const [first] = values;
  if (values.some((value) => value === null)) return null as T;
  if (typeof first === "number") return spread(values as number[]).median as T;
  if (typeof first !== "object" || first === null) return first;
  const keys = Object.keys(first) as (keyof T)[];
  return Object.fromEntries(keys.map((key) => [key, medians(values.map((value) => value?.[key]))])) as T;
}

function toRow({ contender: { model, on }, setting, failure, runs, paced }: Outcome): Row {
  const figures = runs.length > 0 ? medians(runs) : null;
  if (figures) figures.served = Math.min(...runs.map(({ served }) => served));
  if (figures && paced.length > 0) figures.latencyUs = medians(paced.map(({ latencyUs }) => latencyUs));
  const messagesPerSecond = figures && spread(runs.map((run) => run.messagesPerSecond));
  return { model, on, setting, failure, runs: runs.length, messagesPerSecond, figures };
}

/** What an experiment has shown so far. */
function conclude(name: string, groups: Outcome[][]): Experiment {
  const { against, by = ["messagesPerSecond", "cpuUsPerMessage"], fresh } = plans[name], cores = availableParallelism();
  // A reference is in several pairs.
  const bySetting = Map.groupBy(new Set(groups.flat()), ({ setting }) => settingText(setting));
  const rows = [...bySetting.values()].flat().filter(({ runs, failure }) => runs.length > 0 || failure).map(toRow);
  const measured = rows.filter(({ figures, failure }) => figures && !failure);
  const compared = groups.flatMap(([reference, ...others]) =>
    others.filter(({ starts, failure }) => starts.length > 0 && !failure && !reference.failure)
      .map((other) => [other, reference])
  );
  const comparisons = compared.map(([other, reference]) => {
    const { contender: { model, on }, setting, starts } = other, value = reference.setting[against as keyof Setting];
    const name = value === undefined ? title(reference.contender) : `${value} ${units[against as keyof Setting]}`;
    const doubtful = [other, reference].some((one) => doubts([toRow(one)], cores, fresh).length > 0);
    return { model, on, setting, against: name, ...compare(starts, by, compared.length * by.length, doubtful) };
  });
  const ratios = compared.length * by.length, notes = doubts(measured, cores, fresh);
  return { name, rows, comparisons, notes: ratios > 0 ? [chance(ratios, options.starts), ...notes] : notes };
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

/** What a slice of an experiment is. */
function sliceText(name: string): string {
  const { fresh, rate } = plans[name];
  return fresh ? "that open all connections anew" : `of ${milliseconds * (rate ? 2 : 1) / 1000} s`;
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
    method:
      `${options.starts} starts, ${options.slices} slices ${
        [...new Set(asked.map(sliceText))].join(" or ")
      } in each; ` +
      "in brackets the 95 % interval of the median, of ratios for all of an experiment together, and as wide as the " +
      "starts are apart",
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
for (const [i, groups] of prepared.entries()) {
  const servers = [...new Set(groups.flat())].filter(({ failure }) => !failure).length;
  const time = `${servers} servers, about ${about(total(groups) * options.starts)}`;
  say(`${asked[i]}: ${servers > 0 ? time : "nothing can be measured"}`);
}
for (const [i, name] of asked.entries()) {
  if (stopped) break;
  await measure(name, prepared[i], prepared.slice(i + 1).flat());
  results.push(conclude(name, prepared[i]));
  if (process.stderr.isTTY) tell("\r\x1b[K");
  if (options.json) continue;
  const { about, columns } = plans[name];
  await printAll(report(results[i], `${about}; ${spanOf(settingsOf[name])}`, columns));
}
if (options.json) {
  const round = (_: string, value: unknown) =>
    typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value;
  await printAll(JSON.stringify({ ...context, experiments: results } satisfies Results, round, 1) + "\n");
}
const measured = results.some(({ rows }) => rows.some(({ figures, failure }) => figures && !failure));
process.exit(measured || stopped ? 0 : 1);
