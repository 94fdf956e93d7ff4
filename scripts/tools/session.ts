// SPDX-License-Identifier: MIT
/**
 * A server that is started, and the clients that it is given: its log, its clients' view, and, on Linux, what the
 * kernel says of each of its threads, every few milliseconds.
 */

import { readdirSync, readFileSync } from "node:fs";
import * as net from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { lastWords, signalChild, startChild } from "./children.ts";
import { models } from "./models.ts";
import { explain, process } from "../shim/program.ts";

/** A line of the server's log. Times here are milliseconds since the clients began to come. */
export interface Line {
  time: number;
  thread: string;
  event: string;
  /** The number of the connection, 0 for none. */
  id: number;
  detail: string;
}

/** A time in which the kernel has always said the same of a thread. */
interface Run {
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
  /** What it has sent, how many bytes that were, and when all of them had come back. */
  exchanges: { sent: number; size: number; received?: number }[];
  /** When it did not read; the last may last. */
  pauses?: { from: number; to?: number }[];
  /** When it shut down its sending side. */
  finished?: number;
  /** 0 while it is there. */
  end: number;
  /** Why it ended, if it was not by itself. */
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

export interface Settings {
  /** Milliseconds of CPU per message, for models that can. */
  work: number;
  runtime: string;
  /** What starts a script on that runtime. */
  command: string[];
  /** The model's own options. */
  options: string[];
}

/** Milliseconds: between two looks at a thread; until a server must be ready, and until one must have ended. */
const INTERVAL = 5, PATIENCE = 20_000, LAST = 3000;
/** So much is kept of what a thread has done: hours of it, but for one that never rests. */
const MOST_RUNS = 100_000;

interface Output {
  pid: number;
  lines: { text: string; arrived: number }[];
  errors: string;
  ended: Promise<void>;
  code?: number | string | null;
  kill: (signal: NodeJS.Signals) => void;
}

/** Starts a script. It ends with this process. */
function start(command: string[]): Output {
  const child = startChild(command);
  const kill = (signal: NodeJS.Signals) => signalChild(child, signal);
  const output: Output = { pid: child.pid!, lines: [], errors: "", ended: Promise.resolve(), kill };
  // A server whose children have the socket as their standard output logs to the other one, too.
  for (const stream of [child.stdout, child.stderr]) {
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
    child.once("close", (code, signal) => (output.code ??= code ?? signal, resolve()));
  });
  return output;
}

/** How a script has ended, and what it said. */
function howEnded({ errors, code }: Output): string {
  return [`exit ${code}`, lastWords(errors)].filter(Boolean).join(": ");
}

/** A server, its clients, and what is known of both so far. */
export class Session {
  readonly clients: Client[] = [];
  #model: string;
  #script: string;
  #settings: Settings;
  #options: string[] = [];
  #output: Output | undefined;
  #port = 0;
  #origin = 0;
  #sampler: Sampler | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;
  #end = 0;
  #lines: Line[] = [];
  #offset = Infinity;
  #failure: string | undefined;
  #stopped = false;
  #stopping: Promise<void> | undefined;

  /** For a model, which is a file in `folder`. */
  constructor(folder: string, model: string, settings: Settings) {
    this.#model = model;
    this.#script = `${folder}/${model}.ts`;
    this.#settings = settings;
  }

  /** Starts the server, and waits until it is ready, or known not to run here, which is no error. */
  async start(): Promise<void> {
    const { command, work, options } = this.#settings;
    const { work: works, single } = models[this.#model] ?? {};
    const add = (option: string, value: number) =>
      options.some((own) => own.split("=")[0] === `--${option}`) ? [] : [`--${option}`, String(value)];
    // It is the client that leaves first.
    this.#options = [...works && work > 0 ? add("work", work) : [], ...single ? [] : add("messages", 0), ...options];
    if (this.#stopped) return;
    const output = this.#output = start([...command, this.#script, "--port", "0", ...this.#options]);
    for (const since = performance.now();; await pause(5)) {
      const [, port] = output.lines.map(({ text }) => /^listening on .*:(\d+)$/.exec(text)).find(Boolean) ?? [];
      this.#port = Number(port ?? 0);
      if (this.#port > 0) break;
      if (output.code === undefined && performance.now() - since < PATIENCE) continue;
      const why = output.code === undefined ? `not ready after ${PATIENCE / 1000} s` : howEnded(output);
      // A mistake in its options is not the machine's.
      const mistake = output.code === 2 && lastWords(output.errors);
      if (!this.#stopped) this.#failure = mistake || `does not run here: ${why}`;
      return output.kill("SIGKILL");
    }
    // A runtime has things to do when it has just started.
    await pause(200);
  }

  /** Lets time begin, now or when another session's did. */
  begin(origin = performance.now()): void {
    if (this.#port === 0 || this.#stopped) return;
    this.#origin = origin;
    const sampler = this.#sampler = new Sampler(this.#output!.pid, origin);
    this.#timer = setInterval(() => sampler.sample(), INTERVAL);
  }

  /** Why it did not start. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** Whether time passes: it has begun, and neither the recording nor the server has ended. */
  get running(): boolean {
    return this.#sampler !== undefined && this.#end === 0;
  }

  /** Is there when the server has ended, for whatever reason. */
  get ended(): Promise<void> {
    return this.#output?.ended ?? Promise.resolve();
  }

  /** A client, which begins to connect. */
  connect(role: string): Client {
    const client = new Client(role, this.#port, this.#origin);
    this.clients.push(client);
    return client;
  }

  /** What is known now; once the recording has ended, what was known then. */
  snapshot(): Recording {
    const { code } = this.#output ?? {}, { runtime } = this.#settings;
    const end = this.#end || (this.running ? performance.now() - this.#origin : 0);
    const died = code !== undefined && !this.#stopped;
    return {
      model: this.#model,
      options: this.#options,
      runtime,
      visits: this.clients.map(({ visit }) => ({ ...visit, end: visit.end || end })),
      // Until then it is start() that reads it.
      lines: this.#sampler ? this.#readLog() : [],
      tasks: [...this.#sampler?.tasks.values() ?? []],
      cpu: this.#sampler?.cpu ?? -1,
      end,
      failure: this.#failure ?? (died ? `the server ended by itself, ${howEnded(this.#output!)}` : undefined),
    };
  }

  /** Ends the recording, and then the server. */
  stop(): Promise<void> {
    return this.#stopping ??= this.#stop();
  }

  async #stop(): Promise<void> {
    this.freeze();
    const output = this.#output;
    // A server that is about to end, as single.ts is, may do so.
    if (output && this.clients.some(({ visit }) => visit.failure)) await Promise.race([output.ended, pause(500)]);
    if (!output || output.code === undefined) this.#stopped = true;
    output?.kill("SIGTERM");
    await Promise.race([output?.ended, pause(LAST)]);
    output?.kill("SIGKILL");
    await output?.ended;
  }

  /** Ends the recording, and what is left of its clients. */
  freeze(): void {
    if (!this.running) return;
    clearInterval(this.#timer);
    this.#sampler!.sample();
    for (const client of this.clients) client.close();
    this.#end = performance.now() - this.#origin;
  }

  /** The log's clock begins with the server; a line can't have been written after it arrived, and some come at once. */
  #readLog(): Line[] {
    for (const { text, arrived } of this.#output?.lines.splice(0) ?? []) {
      const [, time, thread, event, id = "0", detail = ""] =
        /^ *([\d.]+) (\S+) (\S+)(?: #(\d+))?(?: (.*))?$/.exec(text) ?? [];
      if (!time) continue;
      this.#lines.push({ time: Number(time), thread, event, id: Number(id), detail });
      this.#offset = Math.min(this.#offset, arrived - Number(time));
    }
    const offset = this.#offset - this.#origin;
    return this.#lines.map((line) => ({ ...line, time: line.time + offset })).sort((a, b) => a.time - b.time);
  }
}

/** A client, which does what it is told, and says of itself what it knows. */
export class Client {
  readonly visit: Visit;
  readonly connected: Promise<void>;
  readonly gone: Promise<void>;
  #socket: net.Socket;
  #now: () => number;
  #received = 0;
  #expected: { exchange: Visit["exchanges"][number]; total: number; done: () => void }[] = [];
  #total = 0;
  #left = () => {};

  constructor(role: string, port: number, origin: number) {
    this.#now = () => performance.now() - origin;
    this.visit = { role, begin: this.#now(), exchanges: [], end: 0 };
    const socket = this.#socket = net.connect(port, "127.0.0.1");
    this.gone = new Promise((resolve) => this.#left = resolve);
    this.connected = new Promise((resolve) =>
      socket.once("connect", () => {
        Object.assign(this.visit, { connected: this.#now(), port: socket.localPort });
        socket.setNoDelay(true);
        resolve();
      })
    );
    socket.on("error", (error) => this.close(explain(error)));
    socket.on("close", () => this.close("closed by the server"));
    socket.on("data", (data) => {
      this.#received += data.length;
      while (this.#expected[0]?.total <= this.#received) {
        const { exchange, done } = this.#expected.shift()!;
        exchange.received = this.#now();
        done();
      }
    });
  }

  /** How much of what it was told to send has not come back. */
  get missing(): number {
    return this.#total - this.#received;
  }

  /** What it does not do. */
  get notes(): ("not reading" | "half-closed")[] {
    const paused = this.#socket.isPaused(), finished = this.#socket.writableEnded;
    return [...paused ? ["not reading"] as const : [], ...finished ? ["half-closed"] as const : []];
  }

  /** Sends, and waits until all of it has come back. */
  send(data: string | Uint8Array): Promise<void> {
    const exchange = { sent: this.#now(), size: data.length };
    this.visit.exchanges.push(exchange);
    this.#total += data.length;
    this.#socket.write(data);
    return new Promise((done) => this.#expected.push({ exchange, total: this.#total, done }));
  }

  /** Stops reading. */
  pause(): void {
    if (this.#socket.isPaused()) return;
    this.#socket.pause();
    (this.visit.pauses ??= []).push({ from: this.#now() });
  }

  resume(): void {
    if (!this.#socket.isPaused()) return;
    this.#socket.resume();
    this.visit.pauses!.at(-1)!.to = this.#now();
  }

  /** Shuts down the sending side, and reads on. */
  finish(): void {
    this.visit.finished ??= this.#now();
    this.#socket.end();
  }

  /** Leaves with RST instead of the end of the stream. */
  reset(): void {
    this.#socket.resetAndDestroy();
    this.close("reset");
  }

  /** Leaves; `why`, if that is not by itself. */
  close(why?: string): void {
    if (this.visit.end > 0) return;
    Object.assign(this.visit, { end: this.#now(), failure: why });
    this.#socket.destroy();
    this.#left();
  }
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
    const ids = attempt(() => readdirSync(`/proc/${pid}/task`)) ?? [];
    // In the order in which they began: a runtime may sort them as text, and after the highest number come low ones.
    for (const id of ids.sort((a, b) => (Number(a) - pid >>> 0) - (Number(b) - pid >>> 0))) {
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
      // Between the two files it may have woken: then the second says `running`. It may not be readable.
      const number = running ? "" : (attempt(() => read(`${path}/syscall`)) ?? "").split(" ")[0];
      const call = callNames.get(number) ?? (/^\d/.test(number) ? "another call" : "");
      if (last?.running === running && (last.call === call || call === "")) last.to = now;
      else task.runs.push({ from: last ? this.#last : now, to: now, running, call });
      if (task.runs.length > MOST_RUNS) task.runs.splice(0, MOST_RUNS / 2);
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
