// SPDX-License-Identifier: MIT
/** The processes that serve the clients of a server, in a copy. */

import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { log } from "./program.ts";
import * as sys from "./sys.ts";

/** A process that serves a client. */
interface Child {
  readonly id: number;
  /** Can be read from once the process has ended. */
  readonly pidfd: number;
  /** Resolves when the process has ended, and its zombie is gone. */
  readonly ended: Promise<void>;
}

export class Children {
  /** The program that serves, and its arguments. */
  readonly command: string[];
  #children = new Map<number, Child>();
  #connections = 0;

  /** Each child runs `script`, a module's `import.meta.url`. */
  constructor(script: string) {
    const path = fileURLToPath(script);
    this.command = [process.execPath, "run", "-A", path]; // only deno
    this.command = [process.execPath, path]; // only bun node
  }

  get list(): Child[] {
    return [...this.#children.values()];
  }

  /** Makes an accept4(2) call. Returns the client. */
  accept(peer: sys.SocketAddress, call: () => number): { id: number; fd: number } | null {
    const fd = call();
    if (fd === -sys.EAGAIN) return null;
    sys.must(fd);
    const id = ++this.#connections;
    log("accept", id, sys.addressText(peer));
    return { id, fd };
  }

  /** Has client `id` served by the process that `spawn` starts. */
  start(id: number, spawn: (settings: object) => ChildProcess): void {
    const child = spawn({ env: { ...process.env, ECHO_CHILD: `${id}` } });
    const pid = child.pid!, pidfd = sys.pidfd_open(pid);
    log("start", id, `process ${pid}`);
    const ended = once(child, "exit").then(([, signal]) => {
      sys.close(pidfd);
      this.#children.delete(id);
      log("close", id, signal ?? "by the client");
    });
    this.#children.set(id, { id, pidfd, ended });
  }
}
