// SPDX-License-Identifier: MIT
/** The processes that serve the clients of a server, in a copy. */

import type { ChildProcess } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { log } from "./program.ts";
import * as sys from "./sys.ts";

/** A process that serves a client. */
interface Child {
  readonly id: number;
  readonly pid: number;
  /** Can be read from once the process has ended. */
  readonly pidfd: number;
  /** Resolves when the process has ended, and its zombie is gone. */
  readonly ended: Promise<void>;
}

export class Children {
  /** The program that serves, and its arguments. */
  readonly command: string[];
  #most: number;
  #children = new Map<number, Child>();
  #connections = 0;
  #resting = 0;

  /** Each child runs `script`, a module's `import.meta.url`. */
  constructor(script: string, most: number) {
    const path = fileURLToPath(script);
    this.command = [process.execPath, "run", "-A", path]; // tag: deno
    this.command = [process.execPath, path]; // tag: plain
    this.#most = most;
  }

  get list(): Child[] {
    return [...this.#children.values()];
  }

  /** Whether there can be another process now. */
  get room(): boolean {
    return this.#children.size < this.#most && performance.now() >= this.#resting;
  }

  /** Makes an accept4(2) call. Returns the client, if there is one. */
  accept(peer: sys.SocketAddress, call: () => number): { id: number; fd: number } | null {
    const fd = call();
    if (fd === -sys.EAGAIN) return null;
    if (fd < 0) {
      log("error", 0, `accept: ${sys.systemError(fd)}`);
      // Perhaps there is no descriptor left.
      this.#resting = performance.now() + 500;
      return null;
    }
    const id = ++this.#connections;
    log("accept", id, sys.addressText(peer));
    return { id, fd };
  }

  /** Has client `id` served by the process that `spawn` starts. */
  start(id: number, spawn: (settings: object) => ChildProcess): void {
    const child = spawn({ env: { ...process.env, ECHO_CHILD: `${id}` } });
    const ended = new Promise<unknown>((resolve) => {
      child.once("error", resolve);
      child.once("exit", (code) => resolve(code ? `its process: ${code}` : "by the client"));
    }).then((reason) => {
      sys.close(pidfd);
      this.#children.delete(id);
      log("close", id, reason);
    });
    const pid = child.pid!, pidfd = sys.pidfd_open(pid);
    log("start", id, `process ${pid}`);
    this.#children.set(id, { id, pid, pidfd, ended });
  }

  /** What each is. */
  describe(): string[] {
    return this.list.map(({ id, pid }) => `#${id} process ${pid}`);
  }
}
