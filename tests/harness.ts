// SPDX-License-Identifier: MIT
/** Runs scripts as child processes, on every runtime, and talks to them over real sockets. */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import * as net from "node:net";
import * as os from "node:os";
import * as path from "node:path";
import process from "node:process";
import { test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";

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

/** The runtimes to test: all three, or those that the environment variable RUNTIMES names (`deno,bun`). */
export const runtimes: Runtime[] = (process.env.RUNTIMES ?? "deno,bun,node").split(",").map((name) => {
  const { command, least: [major, minor] } = known[name] ??
    raise(`RUNTIMES names "${name}"; there are deno, bun and node`);
  const found = /(\d+)\.(\d+)\.\d+/.exec(spawnSync(command[0], ["--version"]).stdout?.toString() ?? "");
  if (found && (+found[1] > major || (+found[1] === major && +found[2] >= minor))) return { name, command };
  return raise(
    `${name} ${major}.${minor} or later is needed, found ${found?.[0] ?? "none"}. ` +
      `npx -y -p deno@2.9 -p bun@1.4 -p node@26 -c 'deno task test' gets all three; RUNTIMES=deno tests fewer`,
  );
});

function raise(message: string): never {
  throw new Error(message);
}

export const linux = os.platform() === "linux";
export const windows = os.platform() === "win32";
const scripts = path.join(path.dirname(fileURLToPath(import.meta.url)), "..", "scripts");

/**
 * With FORM=all the suite runs what `standalone.ts` prints instead of the scripts, from a folder with nothing else in it;
 * with FORM=own what it prints for the runtime under test, whole; with FORM=short what it prints for that runtime and a
 * text, where the options are constants.
 */
const { FORM } = process.env;
if (FORM && !["all", "own", "short"].includes(FORM)) raise(`FORM is "${FORM}"; there are all, own and short`);
/** Whether what is tested keeps to the whole contract: a copy for a text has no command line, and just any log. */
export const whole = FORM !== "short";
/** Crowds are a tenth where copies are tested: those of the originals have shown what the code does with all of them. */
export const crowd = FORM ? 0.1 : 1;
const copies = FORM ? mkdtempSync(path.join(os.tmpdir(), "standalone-")) : "";
if (copies) {
  const remove = () => rmSync(copies, { recursive: true, force: true });
  process.on("exit", remove);
  // Where Deno runs tests, that is not heard of.
  globalThis.addEventListener?.("unload", remove);
}

/** These start or read the other scripts, and have no copies. */
const tools = ["bench.ts", "load.ts", "standalone.ts"];

/** Where a script is, or its copy in one piece, which is made when it is first asked for; and the options it is given. */
function locate(script: string, args: string[], runtime: Runtime): string[] {
  const original = path.join(scripts, script);
  if (!copies || tools.includes(script)) return [original, ...args];
  // It makes no difference there, but would make twice as many copies.
  if (!whole) args = args.filter((arg) => arg !== "--quiet");
  const folder = FORM === "all" ? "all" : whole ? runtime.name : `${runtime.name}${args.join("")}`;
  const copy = path.join(copies, folder, script), command = whole ? [copy, ...args] : [copy];
  if (existsSync(copy)) return command;
  mkdirSync(path.dirname(copy), { recursive: true });
  const form = FORM === "all" ? [] : ["--runtime", runtime.name, ...whole ? ["--whole"] : []];
  const made = [path.basename(script, ".ts"), ...form, "--output", copy, ...whole ? [] : ["--", ...args]];
  const { status, stderr } = spawnSync("deno", ["run", "-A", path.join(scripts, "standalone.ts"), ...made], {
    encoding: "utf8",
  });
  return status === 0 ? command : raise(`standalone.ts ${made.join(" ")}: ${stderr}`);
}

/** Whether a runtime has the FFI that the system-call scripts need: Node got it in version 26. */
export function hasFFI(runtime: Runtime): boolean {
  if (!linux) return false;
  if (runtime.name !== "node") return true;
  return spawnSync(runtime.command[0], ["-e", "process.getBuiltinModule('node:ffi') || process.exit(1)"]).status === 0;
}

/** How a script is started. */
export interface StartOptions {
  /** The limit of descriptors for the process, as `ulimit -n`. */
  descriptors?: number;
  /** The folder that the script is in, if not the project's own. */
  folder?: string;
  /** What the script reads from its standard input. */
  input?: string | Uint8Array;
  /** Environment variables beside those of the test. */
  environment?: Record<string, string>;
}

/** A script that runs, or has run. */
export class Script {
  readonly output: string[] = [];
  /** The output as it came. */
  readonly bytes: Uint8Array[] = [];
  errors = "";
  readonly exited: Promise<number | null>;
  #child: ChildProcess;
  #changed = () => {};

  constructor(runtime: Runtime, script: string, args: string[], options: StartOptions = {}) {
    const given = options.folder ? [path.join(options.folder, script), ...args] : locate(script, args, runtime);
    let command = [...runtime.command, ...given];
    if (options.descriptors) {
      command = ["sh", "-c", `ulimit -n ${options.descriptors}; exec "$@"`, "sh", ...command];
    }
    this.#child = spawn(command[0], command.slice(1), {
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, ...options.environment },
    });
    this.#child.stdin!.on("error", () => {});
    if (options.input !== undefined) this.#child.stdin!.end(options.input);
    const decoder = new TextDecoder();
    let rest = "";
    this.#child.stdout!.on("data", (data: Uint8Array) => {
      this.bytes.push(data);
      const lines = (rest + decoder.decode(data, { stream: true })).split("\n");
      rest = lines.pop()!;
      this.output.push(...lines);
      this.#changed();
    });
    this.#child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      this.errors += text;
      this.#changed();
    });
    this.exited = new Promise((resolve) => this.#child.on("close", (code) => resolve(code)));
  }

  get pid(): number {
    return this.#child.pid!;
  }

  get port(): number {
    return Number(/:(\d+)$/.exec(this.output[0])![1]);
  }

  /** Waits for a line of output that matches, and returns it; fails after `seconds`. */
  async line(pattern: RegExp, seconds = 10): Promise<string> {
    let gone = false;
    this.exited.then(() => {
      gone = true;
      this.#changed();
    });
    const end = Date.now() + seconds * 1000;
    for (;;) {
      const found = this.output.find((line) => pattern.test(line));
      if (found !== undefined) return found;
      if (gone || Date.now() > end) break;
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
        setTimeout(resolve, 100);
      });
    }
    throw new Error(`no line matches ${pattern} in:\n${this.output.slice(-30).join("\n")}\n${this.errors}`);
  }

  /** Sends a signal, and waits for the end: the exit code, or `null` if it took longer than `seconds`. */
  async stop(signal: NodeJS.Signals = "SIGTERM", seconds = 5): Promise<number | null> {
    // Not child.kill: Deno's reports no exit code after it, even if the process exits by itself.
    process.kill(this.pid, signal);
    return await Promise.race([this.exited, sleep(seconds * 1000).then(() => null)]);
  }

  /** Reads its output no longer, so that its next line meets a closed pipe. */
  closeOutput(): void {
    this.#child.stdout!.destroy();
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
  const before = clients.length;
  try {
    await server.line(/^listening on .*:\d+$/);
    await use(server);
  } catch (error) {
    throw new Error(
      `${runtime.name} ${script}: its last lines:\n${server.output.slice(-15).join("\n")}\n${server.errors}`,
      {
        cause: error,
      },
    );
  } finally {
    // A test that has failed leaves them open, and the next ones would run out of descriptors.
    for (const client of clients.splice(before)) client.close();
    await server.kill();
  }
}

/** Runs a script to its end. */
export async function run(
  runtime: Runtime,
  script: string,
  args: string[],
  options?: StartOptions,
): Promise<{ code: number | null; output: string[]; errors: string }> {
  const child = new Script(runtime, script, args, { input: "", ...options });
  return { code: await child.exited, output: child.output, errors: child.errors };
}

/** Registers a test, with more time than Bun's five seconds. */
export function check(title: string, body: (t: TestContext) => Promise<void>): void {
  test(title, { timeout: 180_000 }, body);
}

export function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** Waits until `condition` holds, for at most `seconds`, and says whether it does. */
export async function until(condition: () => boolean, seconds = 10): Promise<boolean> {
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

/** Those that were made for the servers that are running. */
const clients: Client[] = [];

/** A client of the test's own, which reads only when it is told to. */
export class Client {
  readonly socket: net.Socket;
  /** What the connection ended with: `end`, or the code of an error such as ECONNRESET. */
  ended: string | null = null;
  received = 0;
  #chunks: Uint8Array[] = [];
  #changed = () => {};

  constructor(port: number, host = "127.0.0.1") {
    clients.push(this);
    this.socket = net.connect({ port, host, allowHalfOpen: true });
    this.socket.on("error", (error: Error & { code?: string }) => this.#end(error.code ?? error.message));
    this.socket.on("end", () => this.#end("end"));
    this.socket.on("close", () => this.#end("close"));
  }

  #end(how: string): void {
    this.ended ??= how;
    this.#changed();
  }

  static async connect(port: number, host?: string): Promise<Client> {
    const client = new Client(port, host);
    await new Promise<void>((resolve, reject) => {
      client.socket.once("connect", resolve);
      client.socket.once("error", reject);
    });
    client.read();
    return client;
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
  async receive(length: number, seconds = 10): Promise<Uint8Array> {
    await this.#wait(() => this.received >= length, seconds);
    const all = new Uint8Array(Buffer.concat(this.#chunks));
    if (all.length < length) throw new Error(`${all.length} of ${length} bytes came, ended: ${this.ended}`);
    this.#chunks = [all.subarray(length)];
    this.received = all.length - length;
    return all.subarray(0, length);
  }

  /** Sends, and says whether exactly that comes back within `seconds`. */
  async echo(data: string | Uint8Array, seconds = 10): Promise<boolean> {
    const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
    this.send(bytes);
    return Buffer.compare(await this.receive(bytes.length, seconds), bytes) === 0;
  }

  /** Waits until the connection has ended, and returns how: see `ended`. */
  async end(seconds = 10): Promise<string | null> {
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
