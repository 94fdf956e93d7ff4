// SPDX-License-Identifier: MIT
/**
 * Records what a server does for a small cast of clients: its log, its clients' view, and, on Linux, what the kernel
 * says of each of its threads, every few milliseconds.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import * as net from "node:net";
import { explain, process, runtime } from "./program.ts";

/** A line of the server's log. Times here are milliseconds since the first client began to connect. */
export interface Line {
  time: number;
  thread: string;
  event: string;
  /** The number of the connection, 0 for none. */
  id: number;
  detail: string;
}

/** A time in which the kernel has always said the same of a thread. */
export interface Run {
  from: number;
  to: number;
  /** Runs, or could if a core were free. Otherwise it is asleep in `call`. */
  running: boolean;
  call: string;
}

/** A thread of the server, as the kernel sees it. */
export interface Task {
  /** `main`, or what the runtime has named it; `pid 123` for a process that the server has started. */
  name: string;
  runs: Run[];
  /** Milliseconds of CPU, in steps of 10. */
  cpu: number;
}

/** A client, as it sees itself. */
export interface Visit {
  role: string;
  begin: number;
  connected?: number;
  port?: number;
  exchanges: { sent: number; received?: number }[];
  end: number;
  /** Why it ended before it had all its replies. */
  failure?: string;
}

export interface Recording {
  model: string;
  /** What the server was started with, but for the port. */
  options: string[];
  runtime: string;
  visits: Visit[];
  lines: Line[];
  /** Empty where there is no /proc. */
  tasks: Task[];
  /** Milliseconds of CPU that the whole process used, its runtime's own threads included; -1 if not known. */
  cpu: number;
  end: number;
  /** Why there is nothing to draw, or no more than there is. */
  failure?: string;
}

export interface Cast {
  clients: number;
  messages: number;
  /** Milliseconds of CPU per message, for models that can. */
  work: number;
  runtime: string;
  /** The model's own options. */
  options: string[];
}

/** Milliseconds between two looks at a thread. */
const INTERVAL = 5;
/** Milliseconds: between two arrivals; before each message; until the silent client leaves; until all must. */
const STAGGER = 50, QUICK = 120, SLOW = 350, SILENCE = 1500, PATIENCE = 10_000;
/** What the first clients are like; the others are quick. */
const ROLES = ["quick", "slow", "silent"];

const pause = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds));

const children = new Set<ChildProcess>();
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));

interface Output {
  lines: { text: string; arrived: number }[];
  errors: string;
  ended: Promise<void>;
  code?: number | string | null;
}

/** Starts a script. It ends with this process. */
function start(on: string, args: string[]): { child: ChildProcess; output: Output } {
  const [program, ...first] = { deno: ["deno", "run", "-A"], bun: ["bun"], node: ["node"] }[on]!;
  const child = spawn(on === runtime ? process.execPath : program, [...first, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.add(child);
  const output: Output = { lines: [], errors: "", ended: Promise.resolve() };
  // A server whose children have the socket as their standard output logs to the other one, too.
  for (const stream of [child.stdout!, child.stderr!]) {
    let rest = "";
    stream.setEncoding("utf8").on("data", (text: string) => {
      const lines = (rest + text).split("\n"), arrived = performance.now();
      rest = lines.pop()!;
      output.lines.push(...lines.map((text) => ({ text, arrived })));
      if (stream === child.stderr) output.errors += text;
    });
  }
  output.ended = new Promise((resolve) => {
    child.once("error", (error) => (output.errors += explain(error), output.code = "1", resolve()));
    child.once("close", (code, signal) => (output.code ??= code ?? signal, children.delete(child), resolve()));
  });
  return { child, output };
}

/** What a script said on its way out: its own line, or else the last one. */
function lastWords({ errors, code }: Output): string {
  const lines = errors.split("\n").filter((line) => line.trim() && !/warning/i.test(line));
  const own = lines.find((line) => /^\w+\.ts: /.test(line)) ?? lines.at(-1);
  return `exit ${code}${own ? `: ${own.replace(/^\w+\.ts: /, "")}` : ""}`.replace(/\p{C}/gu, " ");
}

/** Runs a model, a file in `folder`, with its cast from beginning to end. */
export async function record(folder: string, model: string, cast: Cast): Promise<Recording> {
  const script = `${folder}/${model}.ts`;
  const recording: Recording = {
    model,
    options: [],
    runtime: cast.runtime,
    visits: [],
    lines: [],
    tasks: [],
    cpu: -1,
    end: 0,
  };
  // What it can be given is what its help says.
  const help = start(cast.runtime, [script, "--help"]);
  await help.output.ended;
  const has = (option: string) => help.output.lines.some(({ text }) => text.startsWith(`  --${option} `));
  recording.options = [
    ...has("work") && cast.work > 0 ? ["--work", String(cast.work)] : [],
    // The client leaves first.
    ...has("messages") ? ["--messages", "0"] : [],
    ...cast.options,
  ];
  const { child, output } = start(cast.runtime, [script, "--port", "0", ...recording.options]);
  let port = 0;
  for (const since = performance.now(); port === 0; await pause(5)) {
    port = Number(output.lines.map(({ text }) => /^listening on .*:(\d+)$/.exec(text)?.[1]).find(Boolean) ?? 0);
    if (output.code === undefined && performance.now() - since < PATIENCE) continue;
    child.kill("SIGKILL");
    if (port === 0) return { ...recording, failure: `does not run here: ${lastWords(output)}` };
  }
  // A runtime has things to do when it has just started.
  await pause(200);

  const origin = performance.now(), sampler = new Sampler(child.pid!, origin);
  const timer = setInterval(() => sampler.sample(), INTERVAL);
  const leave = pause(PATIENCE + 3 * cast.clients * cast.messages * cast.work);
  recording.visits = await Promise.all(
    Array.from(
      { length: cast.clients },
      (_, i) => visit(ROLES[i] ?? "quick", i * STAGGER, port, cast.messages, origin, leave),
    ),
  );
  await pause(50);
  clearInterval(timer);
  sampler.sample();
  recording.end = performance.now() - origin;
  // A server that is about to end, as single.ts is, may do so.
  if (recording.visits.some(({ failure }) => failure)) await Promise.race([output.ended, pause(500)]);
  if (output.code !== undefined) {
    recording.failure = `the server ended by itself, ${lastWords(output)}`;
  } else {
    process.kill(child.pid!, "SIGTERM");
    await Promise.race([output.ended, pause(3000)]);
    child.kill("SIGKILL");
  }
  await output.ended;
  recording.lines = parseLog(output.lines, origin);
  return { ...recording, tasks: [...sampler.tasks.values()], cpu: sampler.cpu };
}

/** The log's clock begins with the server; a line can't have been written after it arrived, and some come at once. */
function parseLog(lines: { text: string; arrived: number }[], origin: number): Line[] {
  const parsed = lines.flatMap(({ text, arrived }) => {
    const [, time, thread, event, id = "0", detail = ""] =
      /^ *([\d.]+) (\S+) (\S+)(?: #(\d+))?(?: (.*))?$/.exec(text) ?? [];
    return time ? [{ time: Number(time), thread, event, id: Number(id), detail, arrived: arrived - origin }] : [];
  });
  const offset = Math.min(...parsed.map(({ time, arrived }) => arrived - time));
  return parsed.map(({ arrived: _, ...line }) => ({ ...line, time: line.time + offset }))
    .sort((a, b) => a.time - b.time);
}

/** A client's whole life. */
async function visit(
  role: string,
  delay: number,
  port: number,
  messages: number,
  origin: number,
  leave: Promise<void>,
): Promise<Visit> {
  await pause(delay);
  const now = () => performance.now() - origin;
  const visit: Visit = { role, begin: now(), exchanges: [], end: 0 };
  const socket = net.connect(port, "127.0.0.1");
  let replied = () => {};
  const gone = new Promise<void>((resolve) => {
    const end = (failure: string) => {
      visit.failure ??= failure;
      resolve();
    };
    socket.on("error", (error) => end(explain(error)));
    socket.on("close", () => end("closed by the server"));
    leave.then(() => end("given up"));
  });
  socket.on("data", () => {
    const exchange = visit.exchanges.at(-1);
    if (exchange) exchange.received = now();
    replied();
  });
  const life = async () => {
    await new Promise<void>((resolve) => socket.once("connect", resolve));
    visit.connected = now();
    visit.port = socket.localPort;
    socket.setNoDelay(true);
    if (role === "silent") return await pause(SILENCE);
    for (let i = 0; i < messages; i++) {
      await pause(role === "slow" ? SLOW : QUICK);
      if (visit.failure) return;
      const reply = new Promise<void>((resolve) => replied = resolve);
      visit.exchanges.push({ sent: now() });
      socket.write("hello");
      await reply;
    }
    await pause(QUICK);
  };
  await Promise.race([gone, life().then(() => visit.failure ??= "")]);
  visit.end = now();
  socket.destroy();
  return visit;
}

// ---------------------------------------------------------------- what the kernel says: proc(5)

/** Calls to sleep in, by their numbers on x86-64 and on arm64 (where some of them don't exist). */
const CALLS = "read 0 63, write 1 64, poll 7 -, select 23 -, nanosleep 35 101, accept 43 202, sendto 44 206, " +
  "recvfrom 45 207, recvmsg 47 212, wait4 61 260, rt_sigtimedwait 128 137, futex 202 98, clock_nanosleep 230 115, " +
  "epoll_wait 232 -, pselect6 270 72, ppoll 271 73, epoll_pwait 281 22, accept4 288 242, io_uring_enter 426 426, " +
  "clone3 435 435, epoll_pwait2 441 441";
const callNames = new Map(
  CALLS.split(", ").map((call) => {
    const [name, x64, arm64] = call.split(" ");
    return [process.arch === "arm64" ? arm64 : x64, name];
  }),
);

/** Looks at the threads of a process. Where there is no /proc it sees none. */
class Sampler {
  readonly tasks = new Map<string, Task>();
  /** Milliseconds of CPU that the process has used since the first look. */
  cpu = -1;
  readonly pid: number;
  #own = -1;
  #origin: number;
  #last = 0;
  /** When each thread was seen first, and the CPU time at the first look of each, and of the process: by their ids. */
  #seen = new Map<string, number>();
  #used = new Map<string, number>();

  constructor(pid: number, origin: number) {
    this.pid = pid;
    this.#origin = origin;
    this.sample();
  }

  sample(): void {
    const now = performance.now() - this.#origin, { pid, tasks } = this;
    for (const id of attempt(() => readdirSync(`/proc/${pid}/task`)) ?? []) {
      this.#look(id, `/proc/${pid}/task/${id}`, now, id === String(pid) ? "main" : "");
    }
    for (const id of attempt(() => read(`/proc/${pid}/task/${pid}/children`).match(/\d+/g)) ?? []) {
      this.#look(id, `/proc/${id}`, now, `pid ${id}`);
    }
    attempt(() => this.#own = this.#stat("process", `/proc/${pid}`).cpu);
    this.cpu = this.#own;
    for (const { name, cpu } of tasks.values()) if (name.startsWith("pid ")) this.cpu += cpu;
    this.#last = now;
  }

  #look(id: string, path: string, now: number, name: string): void {
    attempt(() => {
      const task = this.tasks.get(id) ?? this.#identify(id, name || read(`${path}/comm`).trim(), now);
      if (!task) return;
      const { state, cpu } = this.#stat(id, path), last = task.runs.at(-1), running = state === "R";
      task.cpu = cpu;
      // It has ended, and its parent has not asked yet.
      if (/[ZX]/.test(state)) return;
      // Between the two files it may have woken: then the second says `running`.
      const number = running ? "" : read(`${path}/syscall`).split(" ")[0];
      const call = callNames.get(number) ?? (/^\d/.test(number) ? "another call" : "");
      if (last?.running === running && (last.call === call || call === "")) last.to = now;
      else task.runs.push({ from: last ? this.#last : now, to: now, running, call });
    });
  }

  /**
   * A Worker has a name and a number, such as `w-1`. What has neither is a helper of the runtime, but a Worker may look
   * like one at first, and a helper that a Worker starts bears its name.
   */
  #identify(id: string, name: string, now: number): Task | undefined {
    const since = this.#seen.get(id) ?? now;
    this.#seen.set(id, since);
    if (!/^(main|pid \d+|[a-z]+-\d+)$/.test(name) || now - since > 500) return;
    if ([...this.tasks.values()].some((task) => task.name === name && now - task.runs.at(-1)!.to < 100)) return;
    const task: Task = { name, runs: [], cpu: 0 };
    this.tasks.set(id, task);
    return task;
  }

  /** The state of a thread or process, and its CPU time since the first look. */
  #stat(id: string, path: string): { state: string; cpu: number } {
    const fields = read(`${path}/stat`).split(") ").at(-1)!.split(" ");
    // A tick is a hundredth of a second.
    const used = 10 * (Number(fields[11]) + Number(fields[12]));
    if (!this.#used.has(id)) this.#used.set(id, used);
    return { state: fields[0], cpu: used - this.#used.get(id)! };
  }
}

function read(file: string): string {
  return readFileSync(file, "utf8");
}

/** What `body` returns; `undefined` if it throws, as when a thread or a process has just ended. */
function attempt<T>(body: () => T): T | undefined {
  try {
    return body();
  } catch {
    return undefined;
  }
}
