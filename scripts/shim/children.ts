// SPDX-License-Identifier: MIT
/** The processes that serve the clients of a server: what it takes to start them, why they end, and that none is left. */

import type { ChildProcess } from "node:child_process";
import { dirname } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { TIMEOUT } from "./blocking.ts";
import { ENOUGH, environment, memoryOf, monotonic, SILENT, type Told } from "./child.ts";
import { outOfDescriptors } from "./descriptors.ts";
import { explain, log, nextNumber, process, runtime, stopping } from "./program.ts";
import * as sys from "./sys.ts";

/** The descriptors that it takes to accept a client and start a process. */
const DESCRIPTORS = 12;
/** Milliseconds before another try, when a client can't be accepted, or a child not be started. */
export const REST = 500;

/** Taken at the start: the file may be replaced while the server runs. */
const runtimePath = process.execPath;

/** A process that serves. */
interface Child {
  readonly pid: number;
  /** Resolves when it is known how the process has ended. */
  readonly ended: Promise<void>;
}

/** The processes that serve, by number: those of processes.ts, one a client, and those of prefork.ts. */
export abstract class ChildProcesses<Kind extends Child> {
  /** The program that serves, and its arguments. */
  readonly command: string[];
  protected readonly isProgram: boolean;
  protected readonly children = new Map<number, Kind>();
  #settings: { cwd?: string };
  #origin = monotonic() - performance.now();

  /** Either the program `exec` serves, or, without one, `script`, a module's `import.meta.url`, as a child. */
  constructor(script: string, exec = "") {
    const program = exec.split(" ").filter(Boolean), path = fileURLToPath(script);
    this.isProgram = program.length > 0;
    const run = runtime === "deno" ? ["run", "-A"] : [];
    this.command = this.isProgram ? program : [runtimePath, ...run, path, ...process.argv.slice(2)];
    // The folder that the server was started in may be removed while it runs.
    this.#settings = this.isProgram ? {} : { cwd: dirname(path) };
    // However this process ends, unless it is killed, the children end with it.
    process.on("exit", () => this.kill("SIGKILL"));
    // A program that ignores it has this one ignore it, too: then the system doesn't keep how a child has ended.
    if (isIgnored(sys.SIGCHLD)) {
      sys.must(sys.sigaction(sys.SIGCHLD, sys.memory(SIGACTION_SIZE), sys.memory(SIGACTION_SIZE)));
    }
  }

  get list(): Kind[] {
    return [...this.children.values()];
  }

  /**
   * Starts process `id` with the settings that `spawn` gets, a folder and an environment. Its process group is its own,
   * so that a signal reaches what it has started in turn, and Ctrl-C at a terminal reaches the server alone. Returns its
   * number, if it could be started; `ended` is called when it has ended, with the reason.
   */
  protected launch(
    id: number,
    spawn: (settings: object) => ChildProcess,
    ended: (reason: unknown) => void,
  ): Child | null {
    const told: Told = { id, since: monotonic(), origin: this.#origin, parent: process.pid };
    const env = this.isProgram ? undefined : { ...environment(), ECHO_CHILD: JSON.stringify(told) };
    try {
      const child = spawn({ ...this.#settings, ...env && { env }, detached: true }), { pid } = child;
      const end = new Promise<unknown>((resolve) => {
        child.once("error", (error) => resolve(this.#cannotStart(error)));
        child.once("exit", (code, signal) => resolve(this.reasonOf(code, signal)));
      }).then(ended);
      return pid ? { pid, ended: end } : null;
    } catch (error) {
      ended(this.#cannotStart(error));
      return null;
    }
  }

  /** Sends a signal to all, and to what they have started. See kill(2). */
  kill(signal: NodeJS.Signals): void {
    for (const { pid } of this.list) {
      try {
        process.kill(-pid, signal);
      } catch {
        // It has just ended.
      }
    }
  }

  /** Asks all to end, and waits for that a while: what goes on is killed when this process ends. */
  async stop(): Promise<void> {
    for (const child of this.list) {
      const id = this.takeClient(child);
      if (id) log("close", id, "the server stops");
    }
    // A second Ctrl-C doesn't wait. A handler that is set at once might see the first one.
    await pause(1);
    for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(130));
    this.kill("SIGTERM");
    for (let i = 0; i < 15 && this.children.size > 0; i++) await pause(20);
  }

  /** The client that a process serves, 0 for none: from here on this process logs the end of the connection. */
  protected abstract takeClient(child: Kind): number;

  #cannotStart(error: unknown): string {
    return `cannot start ${this.command[0]}: ${explain(error)}`;
  }

  protected reasonOf(code: number | null, signal: string | null): unknown {
    return code === null ? `its process was ended by ${signal}` : `its process ended with exit code ${code}`;
  }
}

/** A process that serves a client. */
interface ClientChild extends Child {
  readonly id: number;
  /** Can be read from once the process has ended; negative if the system gives none. */
  readonly pidfd: number;
}

interface Options {
  exec: string;
  idle: number;
  messages: number;
}

/** A process for each client. */
export class Children extends ChildProcesses<ClientChild> {
  /** Milliseconds after which a call on a client's socket gives up, so that a silent client is noticed. */
  readonly timeLimit: number;
  #options: Options;
  #restsUntil = 0;
  #told = false;

  /** Either the program that `options` name serves, or `script`, a module's `import.meta.url`, as a child. */
  constructor(script: string, options: Options) {
    super(script, options.exec);
    this.#options = options;
    this.timeLimit = this.isProgram ? options.idle * 1000 : TIMEOUT;
    // Its terminal is gone. After nohup(1) it ignores that; Node has forgotten it by now.
    if (!isIgnored(sys.SIGHUP)) process.once("SIGHUP", () => process.exit(129));
  }

  /** Whether no client is accepted for a while. */
  get resting(): boolean {
    return performance.now() < this.#restsUntil;
  }

  /** Makes an accept4(2) call that fills in `peer`. Returns the number and the descriptor of the client, if any. */
  accept(peer: sys.SocketAddress, call: () => number): { id: number; fd: number } | null {
    const failure = outOfDescriptors(DESCRIPTORS), fd = failure ? -sys.EMFILE : call();
    if (fd === -sys.EAGAIN) return null;
    if (fd >= 0) {
      this.#told = false;
      const id = nextNumber();
      log("accept", id, sys.addressText(peer));
      return { id, fd };
    }
    if (!this.#told) log("error", 0, "accept:", failure ?? sys.systemError(fd));
    if (fd === -sys.ECONNABORTED) return null;
    this.#told = true;
    this.#restsUntil = performance.now() + REST;
    return null;
  }

  /** Has client `id` served by the process that `spawn` starts with these settings, a folder and an environment. */
  start(id: number, spawn: (settings: object) => ChildProcess): void {
    const child = this.launch(id, spawn, (reason) => this.#finish(id, reason));
    if (!child) return;
    log("start", id, `process ${child.pid}`);
    this.children.set(id, { id, ...child, pidfd: sys.pidfd_open(child.pid) });
  }

  /** What each is that runs, such as `#1 process 4711 30.1 of 70.2 MB its own`. */
  describe(): string[] {
    return this.list.flatMap(({ id, pid }) => {
      const memory = memoryOf(pid);
      return memory ? [`#${id} process ${pid} ${memory}`] : [];
    });
  }

  protected takeClient({ id }: ClientChild): number {
    return id;
  }

  #finish(id: number, reason: unknown): void {
    const { pidfd = -1 } = this.children.get(id) ?? {};
    if (pidfd >= 0) sys.close(pidfd);
    this.children.delete(id);
    if (!stopping) log("close", id, reason);
  }

  protected override reasonOf(code: number | null, signal: string | null): unknown {
    if (code !== null && !this.isProgram) {
      if (code === ENOUGH) return `after ${this.#options.messages} messages`;
      if (code === SILENT) return `silent for ${this.#options.idle} s`;
      // The runtimes have lower ones for their own ends.
      if (code === 0 || code >= 32 && code < 128) return sys.endReason(-code);
    }
    return super.reasonOf(code, signal);
  }
}

const SIGACTION_SIZE = 152, SIG_IGN = 1;

/** Whether a signal has been ignored since the start of the process. */
function isIgnored(signal: number): boolean {
  const standard = sys.memory(SIGACTION_SIZE), action = sys.memory(SIGACTION_SIZE);
  sys.must(sys.sigaction(signal, standard, action));
  sys.must(sys.sigaction(signal, action, standard));
  return action.ints[0] === SIG_IGN && action.ints[1] === 0;
}
