// SPDX-License-Identifier: MIT
/**
 * Runs scripts as child processes, on every runtime, and talks to them over real sockets.
 *
 * There is a file for each model, and each file tests all three runtimes. To run fewer tests:
 *
 *   deno test -A tests/pool.test.ts                  one model (or: bun test pool, node --test tests/pool.test.ts)
 *   RUNTIMES=bun deno test -A tests/pool.test.ts     on one runtime
 *   deno test -A tests/ --filter "half-close"        one test, of all models (bun: -t, node: --test-name-pattern)
 *   FORM=short deno test -A tests/pool.test.ts       its copies in .github/copies
 *
 * The files run side by side, so a test waits for a condition instead of a fixed time, and measures the CPU time of the
 * server instead of the clock.
 */

import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  appendFileSync,
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
} from "node:fs";
import * as net from "node:net";
import * as os from "node:os";
import * as path from "node:path";
import process from "node:process";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { findRuntime } from "../scripts/tools/runtimes.ts";

export { sleep };

/** A runtime and how it is started. */
export interface Runtime {
  name: string;
  command: string[];
}

const known: Record<string, { command: string[]; least: [number, number] }> = {
  deno: { command: ["deno", "run", "-A"], least: [2, 9] },
  bun: { command: ["bun"], least: [1, 4] },
  node: { command: ["node"], least: [22, 18] },
};

/**
 * For the twins (see twins.ts) and the matrix (see matrix.ts): SCRIPTS names another folder with scripts to be tested,
 * ONLY the title of the only test to be run, RESULTS a file that gets a line of JSON for each test: a `Result`.
 */
const { SCRIPTS, ONLY, RESULTS } = process.env;
/** The tests that `listed` has found so far, where they are not to be run. */
let listing: Listed[] | null = null;

/**
 * The runtimes to test: all three, or those that the environment variable RUNTIMES names (`deno,bun`). One that is
 * missing or too old is a test that fails, and the others are tested all the same.
 */
export const runtimes: Runtime[] = (process.env.RUNTIMES ?? "deno,bun,node").split(",").flatMap((name) => {
  const { command, least: [major, minor] } = known[name] ??
    raise(`RUNTIMES names "${name}"; there are deno, bun and node`);
  const found = findRuntime(name), version = typeof found === "string" ? "" : found.version;
  const [actualMajor, actualMinor] = version.split(".").map(Number);
  if (actualMajor > major || (actualMajor === major && actualMinor >= minor)) return [{ name, command }];
  check(`${name} ${major}.${minor} or later is there`, () =>
    raise(
      `${
        version ? `found ${version}` : found
      }. npx -y -p deno@2.9 -p bun@1.4 -p node@26 -c 'deno task test' gets all three; ` +
        `RUNTIMES=deno tests fewer`,
    ));
  return [];
});

function raise(message: string): never {
  throw new Error(message);
}

export const linux = os.platform() === "linux";
export const windows = os.platform() === "win32";
export const project = path.join(path.dirname(fileURLToPath(import.meta.url)), "..");

/** Seconds that a test waits for what should come at once. For a twin, that is to fail, fewer will do. */
export const PATIENCE = ONLY ? 8 : 20;
export const scripts = SCRIPTS ?? path.join(project, "scripts");

/** What became of a test: what it has failed with, or why it was skipped. */
export interface Result {
  title: string;
  failure?: string;
  skipped?: string;
}

/**
 * With FORM=short the contract is tested on the copies of the scripts, each alone in a folder, with the constants that
 * `standalone.ts` gives them. Such a copy has no command line, and a log of few words.
 */
const { FORM } = process.env;
if (FORM && FORM !== "short") raise(`FORM is "${FORM}"; there is short`);
/** Whether what is tested keeps to the whole contract, and is not a copy. */
export const whole = !FORM;
/**
 * Crowds are a tenth where copies are tested: those of the originals have shown what the code does with all of them.
 */
export const crowd = whole ? 1 : 0.1;

const folders: string[] = [];
const removeFolders = () => folders.forEach((folder) => rmSync(folder, { recursive: true, force: true }));
process.on("exit", removeFolders);
// Where Deno runs tests, that is not heard of.
globalThis.addEventListener?.("unload", removeFolders);

/** A folder that is removed when the tests have ended. */
export function temporaryFolder(): string {
  folders.push(mkdtempSync(path.join(os.tmpdir(), "echo-test-")));
  return folders.at(-1)!;
}

const copies = whole ? "" : temporaryFolder();

/** Where a script is, or its copy, which is made when it is first asked for; and the options that it is given. */
function locate(script: string, args: string[], runtime: Runtime): string[] {
  const original = path.join(scripts, script);
  // The tools start or read the other scripts, and have no copies.
  if (whole || ["bench.ts", "standalone.ts", "timeline.ts"].includes(script) || script.includes("/")) {
    return [original, ...args];
  }
  // A copy has no such options.
  const constants = args.filter((arg, i) => arg !== "--quiet" && ![arg, args[i - 1]].includes("--messages"));
  const folder = path.join(copies, `${runtime.name}${constants.join("").replace(/\W+/g, "-")}`);
  const copy = path.join(folder, runtime.name === "node" ? script.replace(".ts", ".mts") : script);
  if (existsSync(copy)) return [copy];
  mkdirSync(folder, { recursive: true });
  const made = [path.basename(script, ".ts"), "--output", copy, "--", ...constants];
  const command = [...runtime.command, path.join(scripts, "standalone.ts"), ...made];
  const { status, stderr } = spawnSync(command[0], command.slice(1), { encoding: "utf8" });
  return status === 0 ? [copy] : raise(`standalone.ts ${made.join(" ")}: ${stderr}`);
}

/** Whether a runtime has the FFI that the system-call scripts need: Node got it in version 26. */
export function hasFFI(runtime: Runtime): boolean {
  if (!linux) return false;
  if (runtime.name !== "node") return true;
  return spawnSync(runtime.command[0], ["-e", "process.getBuiltinModule('node:ffi') || process.exit(1)"]).status === 0;
}

/** Keeps what Node makes of each script, which takes it three times as long as to start. Twins are other scripts. */
const compiled = { NODE_COMPILE_CACHE: path.join(os.tmpdir(), "node-compile-cache") };

/** A copy lets Node say that its FFI is experimental. */
const silent = { NODE_NO_WARNINGS: "1" };

/** A user of whom the system knows nothing, and who has no other process. Only root can start one for them. */
export const otherUser = 54_321;

/** How a script is started. */
export interface StartOptions {
  /** The limit of descriptors for the process, as `ulimit -n`. */
  descriptors?: number;
  /** The limit of processes and threads, as `ulimit -u`. It doesn't bind root, so the script runs as `otherUser`. */
  processes?: number;
  /** The folder that the script is in, if not the project's own. */
  folder?: string;
  /** The file that its output goes to, instead of to the test. */
  output?: string;
  /** Whether its errors go there, too. */
  mixed?: boolean;
  /** What the script reads from its standard input. */
  input?: string | Uint8Array;
  /** Environment variables beside those of the test. */
  environment?: Record<string, string>;
  /** How long `run` waits for the end. What takes longer is killed, and has no exit code. */
  seconds?: number;
}

/** A script that runs, or has run. */
export class Script {
  readonly output: string[] = [];
  /** The output as it came. */
  readonly bytes: Uint8Array[] = [];
  errors = "";
  readonly exited: Promise<number | null>;
  #child: ChildProcessWithoutNullStreams;

  constructor(runtime: Runtime, script: string, args: string[], options: StartOptions = {}) {
    const given = options.folder ? [path.join(options.folder, script), ...args] : locate(script, args, runtime);
    let command = [...runtime.command, ...given];
    const { descriptors, processes, output, mixed } = options;
    if (descriptors) command = ["sh", "-c", `ulimit -n ${descriptors}; exec "$@"`, "sh", ...command];
    // One shell calls it u, another one p.
    const limit = `ulimit -u ${processes} 2> /dev/null || ulimit -p ${processes}; exec "$@"`;
    if (processes) command = ["sh", "-c", limit, "sh", ...command];
    if (output) command = ["sh", "-c", `exec "$@" > '${output}' ${mixed ? "2>&1" : ""}`, "sh", ...command];
    this.#child = spawn(command[0], command.slice(1), {
      env: { ...compiled, ...whole ? {} : silent, ...process.env, ...options.environment },
      uid: processes ? otherUser : undefined,
    });
    this.#child.stdin.on("error", () => {});
    if (options.input !== undefined) this.#child.stdin.end(options.input);
    const decoder = new TextDecoder();
    let rest = "";
    this.#child.stdout.on("data", (data: Uint8Array) => {
      this.bytes.push(data);
      const lines = (rest + decoder.decode(data, { stream: true })).split("\n");
      rest = lines.pop()!;
      this.output.push(...lines);
    });
    this.#child.stderr.setEncoding("utf8").on("data", (text: string) => this.errors += text);
    this.exited = new Promise((resolve) => this.#child.on("close", (code) => resolve(code)));
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** The port that it listens on: the line that says so comes first, or after create and bind. */
  get port(): number {
    const line = this.output.find((line) => line.startsWith("listening on "));
    return Number(/:(\d+)$/.exec(line ?? raise("it doesn't listen"))![1]);
  }

  /** The lines of output that match. */
  lines(pattern: RegExp): string[] {
    return this.output.filter((line) => pattern.test(line));
  }

  /** Waits for a line of output that matches, and returns it; fails after `seconds`. */
  async line(pattern: RegExp, seconds = PATIENCE): Promise<string> {
    let found: string | undefined, gone = false;
    this.exited.then(() => gone = true);
    const find = () => found = this.output.find((line) => pattern.test(line));
    await until(() => find() !== undefined || gone, seconds);
    return found ?? raise(`no line matches ${pattern}${gone ? ", and it has ended" : ""}`);
  }

  /** Waits until as many lines match, and returns them; fails after `seconds`. */
  async count(pattern: RegExp, least: number, seconds = PATIENCE): Promise<string[]> {
    if (!await until(() => this.lines(pattern).length >= least, seconds)) {
      raise(`${this.lines(pattern).length} instead of ${least} lines match ${pattern}`);
    }
    return this.lines(pattern);
  }

  /** Waits until every connection that was accepted has been closed, and says why each was: see `reasons`. */
  async allClosed(seconds = PATIENCE): Promise<Map<number, string>> {
    const count = (event: string) => this.output.filter((line) => eventOf(line)[1] === event).length;
    await until(() => count("close") >= count("accept"), seconds);
    return this.reasons();
  }

  /** Why each connection was closed, by its number: fails unless every one was accepted once, and closed once. */
  reasons(): Map<number, string> {
    const accepted = new Set<number>(), closed = new Map<number, string>();
    for (const line of this.output) {
      const [, event, number, reason] = eventOf(line);
      if (event === "accept" && accepted.has(+number)) raise(`two connections are #${number}`);
      if (event === "close" && !accepted.has(+number)) raise(`#${number} was never accepted: ${line}`);
      if (event === "close" && closed.has(+number)) raise(`#${number} was closed before: ${line}`);
      if (event === "accept") accepted.add(+number);
      if (event === "close") closed.set(+number, reason ?? "");
    }
    const open = [...accepted].filter((number) => !closed.has(number));
    if (open.length > 0) raise(`never closed: ${open.map((number) => `#${number}`).join(" ")}`);
    return closed;
  }

  /** Types at its standard input; nothing is Ctrl-D. */
  type(text?: string): void {
    if (text === undefined) this.#child.stdin.end();
    else this.#child.stdin.write(text);
  }

  /** Sends a signal, and waits for the end, which has to come within a second: the exit code. */
  async stopAtOnce(signal: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
    const before = performance.now(), code = await this.stop(signal, 10), time = performance.now() - before;
    if (code === null) throw new Error(`${signal} does not end it`);
    if (time > 1000) throw new Slow(`${time.toFixed()} ms from ${signal} to the end`);
    return code;
  }

  /** Sends a signal, and waits for the end: the exit code, or `null` if it took longer than `seconds`. */
  async stop(signal: NodeJS.Signals = "SIGTERM", seconds = 5): Promise<number | null> {
    // Not child.kill: Deno's reports no exit code after it, even if the process exits by itself.
    process.kill(this.pid, signal);
    return await Promise.race([this.exited, sleep(seconds * 1000).then(() => null)]);
  }

  /** Ends it, whatever it does: the last resort, and no error if it has ended already. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.exited;
  }

  // What Linux knows of a process: proc(5).

  /** Descriptors that the process has open. */
  get descriptors(): number {
    return readdirSync(`/proc/${this.pid}/fd`).length;
  }

  get threads(): number {
    return readdirSync(`/proc/${this.pid}/task`).length;
  }

  /** Whether it has a handler for a signal, by its number. */
  handles(signal: number): boolean {
    const [, mask] = /SigCgt:\s+(\w+)/.exec(readFileSync(`/proc/${this.pid}/status`, "utf8"))!;
    return (BigInt(`0x${mask}`) >> BigInt(signal - 1) & 1n) === 1n;
  }

  /** Resident memory in MiB. */
  get memory(): number {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${this.pid}/status`, "utf8"))![1]) / 1024;
  }

  /** CPU time used so far, in seconds. */
  get cpu(): number {
    const fields = readFileSync(`/proc/${this.pid}/stat`, "utf8").split(") ")[1].split(" ");
    return (Number(fields[11]) + Number(fields[12])) / 100;
  }

  /** Whether one of its threads runs, or would if a core were free. */
  get runnable(): boolean {
    return readdirSync(`/proc/${this.pid}/task`).some((id) => {
      try {
        return readFileSync(`/proc/${this.pid}/task/${id}/stat`, "utf8").split(") ").at(-1)!.startsWith("R");
      } catch {
        // It has just ended.
        return false;
      }
    });
  }

  /**
   * Whether it sleeps: in the quietest of some half seconds it has used less than a tenth of a core, and was asleep
   * most times that it was looked at. What spins on a busy machine may use as little, but is never asleep.
   */
  async rests(): Promise<boolean> {
    for (let i = 0; i < 30; i++) {
      const used = this.cpu, before = performance.now();
      let awake = 0;
      for (let look = 0; look < 10; look++) {
        await sleep(50);
        if (this.runnable) awake++;
      }
      if (awake < 5 && (this.cpu - used) / ((performance.now() - before) / 500) < 0.05) return true;
    }
    return false;
  }
}

/**
 * The event, the number and the rest of a line that tells how a connection begins or ends. A copy's log has no times,
 * and no thread's name if there is one thread only.
 */
function eventOf(line: string): string[] {
  return /^(?: *[\d.]+ )?(?:\S+ )??(accept|close) #(\d+)(?: (.*))?$/.exec(line) ?? [];
}

/** A pipe as a shell makes one, for the output of a script; the test has its other end, and reads when it likes. */
export class Pipe {
  readonly path = path.join(temporaryFolder(), "pipe");
  /** What has been read. */
  text = "";
  #fd: number;
  #decoder = new TextDecoder();

  constructor() {
    spawnSync("mkfifo", [this.path]);
    this.#fd = openSync(this.path, constants.O_RDONLY | constants.O_NONBLOCK);
  }

  /** Reads what is there, 64 KiB of it at most, and returns it. */
  read(): Uint8Array {
    const data = new Uint8Array(65_536);
    let size = 0;
    try {
      size = readSync(this.#fd, data);
    } catch (error) {
      if ((error as { code?: string }).code !== "EAGAIN") throw error;
    }
    this.text += this.#decoder.decode(data.subarray(0, size), { stream: true });
    return data.subarray(0, size);
  }

  /** Reads until a line matches, and returns the match. */
  async line(pattern: RegExp): Promise<RegExpExecArray> {
    const multiline = new RegExp(pattern.source, "m");
    await until(() => {
      this.read();
      return multiline.test(this.text);
    });
    return multiline.exec(this.text) ?? raise(`no line matches ${pattern} in:\n${this.text.slice(-2000)}`);
  }

  /** Reads no longer: the next line meets a closed pipe. */
  close(): void {
    closeSync(this.#fd);
  }
}

/** Starts a server on a free port, waits until it is ready, and hands it to `use`; ends it afterwards. */
export async function serve(
  runtime: Runtime,
  script: string,
  args: string[],
  use: (server: Script) => Promise<void>,
  options?: StartOptions,
): Promise<void> {
  const server = new Script(runtime, script, ["--port", "0", ...args], options);
  const before = new Set(clients);
  try {
    // A busy machine may take its time to start a runtime, and a pool of them.
    if (!options?.output) await server.line(/^listening on .*:\d+$/, 30);
    await use(server);
  } catch (error) {
    if (error instanceof Slow) throw error;
    const said = [...server.output.slice(-25), server.errors].map((line) => line.slice(0, 200)).join("\n");
    throw new Error(`${(error as Error).message}\n${runtime.name} ${script}, its last lines:\n${said}`, {
      cause: error,
    });
  } finally {
    // A test that has failed leaves them open, and the next ones would run out of descriptors.
    for (const client of clients) if (!before.has(client)) client.close();
    await server.kill();
  }
}

/** A port that nobody uses, and that isn't one of those which the system hands out: another test might get it. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 10_000 + Math.floor(20_000 * Math.random());
    const server = net.createServer().listen(port, "127.0.0.1");
    if (!await once(server, "listening").catch(() => null)) continue;
    await new Promise<void>((resolve) => server.close(() => resolve()));
    return port;
  }
}

/** What became of a script that has run to its end. */
export interface Ended {
  code: number | null;
  output: string[];
  errors: string;
}

/** Runs a script to its end. */
export async function run(
  runtime: Runtime,
  script: string,
  args: string[],
  options?: StartOptions,
): Promise<Ended> {
  const child = new Script(runtime, script, args, { input: "", ...options });
  const timer = options?.seconds && setTimeout(() => child.kill(), options.seconds * 1000);
  const code = await child.exited;
  clearTimeout(timer);
  return { code, output: child.output, errors: child.errors };
}

/** What took longer than it may, which can be the fault of a machine that is busy. */
export class Slow extends Error {}

/** How many failed tests of this file are tried once more: what else the machine does can make one fail, not two. */
let secondTries = ONLY ? 0 : 1;

/**
 * Registers a test, with more time than Bun's five seconds. A failure is printed when it happens, and not only at the
 * end. What was too slow is tried again, eight times in all, in the first half of `seconds`: the machine may have less
 * to do by then. One failure in each file is tried again, too, and `TRIED AGAIN` printed: tests share a machine that has
 * more to do than it can. A test that can't be made here returns why.
 */
export function check(title: string, body: () => void | string | Promise<void | string>, seconds = 180): void {
  if (listing) return void listing.push({ title });
  if (ONLY && title !== ONLY) return;
  test(title, { timeout: seconds * 1000 }, async (t) => {
    const start = performance.now();
    for (let attempt = 1;; attempt++) {
      try {
        const skipped = await body() ?? undefined;
        tell({ title, skipped });
        return skipped === undefined ? undefined : t.skip(skipped);
      } catch (error) {
        if (error instanceof Slow && attempt < 8 && performance.now() - start < seconds * 500) {
          await sleep(attempt * 1000);
          continue;
        }
        const { message } = error as Error;
        console.error(`${title}: ${message}`);
        if (secondTries-- > 0) {
          console.error(`${title}: TRIED AGAIN`);
          continue;
        }
        tell({ title, failure: message });
        throw error;
      }
    }
  });
}

/** Registers a test of what is the same on all runtimes, for the first of them. */
export function checkOnce(runtime: Runtime, ...test: Parameters<typeof check>): void {
  if (runtime === runtimes[0]) check(...test);
}

function tell(result: Result): void {
  if (RESULTS) appendFileSync(RESULTS, `${JSON.stringify(result)}\n`);
}

/** A test that would be registered, or `why` there is none of this title. */
export interface Listed {
  title: string;
  why?: string;
}

/** The tests that `body` registers, and those that it leaves out. None of them is run. */
export function listed(body: () => void): Listed[] {
  const list: Listed[] = listing = [];
  try {
    body();
  } finally {
    listing = null;
  }
  return list;
}

/** Instead of `check`, for what a server does not promise. */
export function leaveOut(title: string, why: string): void {
  listing?.push({ title, why });
}

/** Waits until `condition` holds, for at most `seconds`, and says whether it does. */
export async function until(condition: () => boolean, seconds = PATIENCE): Promise<boolean> {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await sleep(20)) {
    if (condition()) return true;
  }
  return condition();
}

/** Bytes that show when one is lost, repeated or out of place. */
export function pattern(length: number, seed = 0): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0, x = seed + 1; i < length; i++) {
    x = Math.imul(x, 1_664_525) + 1_013_904_223 | 0;
    bytes[i] = x >>> 24;
  }
  return bytes;
}

/** Those that are connected, or on the way. */
const clients = new Set<Client>();

/** What `flood` sends, again and again: of a length that no buffer has. */
export const flooding = pattern(255_001);

/** A client of the test's own, which reads only when it is told to. */
export class Client {
  readonly socket: net.Socket;
  /** What the connection ended with: `end`, or the code of an error such as ECONNRESET. */
  ended: string | null = null;
  received = 0;
  #chunks: Uint8Array[] = [];
  #changed = () => {};

  constructor(port: number, host = "127.0.0.1") {
    clients.add(this);
    this.socket = net.connect({ port, host, allowHalfOpen: true });
    this.socket.on("error", (error: Error & { code?: string }) => this.#end(error.code ?? error.message));
    this.socket.on("end", () => this.#end("end"));
    this.socket.on("close", () => {
      clients.delete(this);
      this.#end("close");
    });
  }

  #end(how: string): void {
    this.ended ??= how;
    this.#changed();
  }

  static async connect(port: number, host?: string): Promise<Client> {
    for (let attempt = 1;; attempt++) {
      const client = new Client(port, host);
      try {
        await once(client.socket, "connect");
        client.read();
        return client;
      } catch (error) {
        // Other tests have a crowd, too, and Deno runs them all in one process.
        if ((error as { code?: string }).code !== "EMFILE" || attempt === 60) throw error;
        await sleep(500);
      }
    }
  }

  /** Connects until `word` comes back: a server that is not ready yet may refuse a client, or reset it. */
  static async served(server: Script, port: number, word: string): Promise<Client> {
    let gone = false;
    server.exited.then(() => gone = true);
    for (const end = Date.now() + 30_000; !gone && Date.now() < end; await sleep(100)) {
      const client = await Client.connect(port).catch(() => null);
      if (await client?.echo(word).catch(() => false)) return client!;
    }
    throw new Error("it does not serve");
  }

  /** Starts to read, or goes on reading. */
  read(): void {
    if (this.socket.listenerCount("data") > 0) this.socket.resume();
    else {
      this.socket.on("data", (data: Uint8Array | string) => {
        this.#chunks.push(data as Uint8Array);
        this.received += data.length;
        this.#changed();
      });
    }
  }

  /** Stops reading, so that the kernel's buffers fill up. */
  pause(): void {
    this.socket.pause();
  }

  /** Sends without waiting until it has gone. */
  send(data: string | Uint8Array): void {
    this.socket.write(data);
  }

  /**
   * Sends without reading until the server takes no more, or has taken `most` bytes: how many it took, those in the
   * buffers of the kernel among them.
   */
  async flood(most = 160 * 1024 * 1024): Promise<number> {
    this.pause();
    let taken = 0;
    const send = () => {
      this.socket.write(flooding, (error) => {
        taken += error ? 0 : flooding.length;
        if (!error && taken < most) send();
      });
    };
    send();
    for (let before = -1; before !== taken && taken < most;) {
      before = taken;
      await sleep(400);
    }
    return taken;
  }

  /** Shuts down the sending side: shutdown(2) with SHUT_WR. */
  finish(): void {
    this.socket.end();
  }

  /** Resets the connection: the server gets RST instead of the end of the stream. */
  reset(): void {
    this.socket.resetAndDestroy();
  }

  close(): void {
    this.socket.destroy();
  }

  /** Waits for `length` bytes and takes them; fails if they don't come within `seconds`, or the connection ends. */
  async receive(length: number, seconds = PATIENCE): Promise<Uint8Array> {
    await this.#wait(() => this.received >= length, seconds);
    const all = new Uint8Array(Buffer.concat(this.#chunks));
    if (all.length < length) throw new Error(`${all.length} of ${length} bytes came, ended: ${this.ended}`);
    this.#chunks = [all.subarray(length)];
    this.received = all.length - length;
    return all.subarray(0, length);
  }

  /** Sends, and says whether exactly that comes back within `seconds`. */
  async echo(data: string | Uint8Array, seconds = PATIENCE): Promise<boolean> {
    const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
    this.send(bytes);
    return Buffer.compare(await this.receive(bytes.length, seconds), bytes) === 0;
  }

  /** Waits until the connection has ended, and returns how: see `ended`. */
  async end(seconds = PATIENCE): Promise<string | null> {
    await this.#wait(() => this.ended !== null, seconds);
    return this.ended;
  }

  async #wait(condition: () => boolean, seconds: number): Promise<void> {
    const end = Date.now() + seconds * 1000;
    while (!condition() && this.ended === null && Date.now() < end) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, end - Date.now());
        this.#changed = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }
}
