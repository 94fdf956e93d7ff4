// SPDX-License-Identifier: MIT
/** An echo server that is slow in a way that is known, for the tests of what measures it: `slowed.ts busy 5`. */

import { spawn } from "node:child_process";
import * as net from "node:net";
import process from "node:process";
import { fileURLToPath } from "node:url";

const [kind, text] = process.argv.slice(-2), milliseconds = Number(text);
/** Milliseconds: that a server stays cold from its first message on; from one stall to the next. */
const COLD = 300, BETWEEN = 300;

/** CPU time and not the clock, so that a busy machine makes no message more expensive. */
function burn(): void {
  for (const before = process.cpuUsage(); used(before) < milliseconds * 1000;);
}

function used(before: { user: number; system: number }): number {
  const { user, system } = process.cpuUsage(before);
  return user + system;
}

let first = 0;
const kinds: Record<string, () => void> = {
  /** Each message takes so many milliseconds of CPU. */
  busy: burn,
  /** The first ones do. */
  cold() {
    first ||= performance.now();
    if (performance.now() - first < COLD) burn();
  },
  /** None does, but now and then all have to wait. */
  stall() {},
};

if (kind === "stall") {
  setInterval(() => {
    for (const end = performance.now() + milliseconds; performance.now() < end;);
  }, BETWEEN);
}

if (kind === "child") {
  // The same as busy, in another process.
  const own = [fileURLToPath(import.meta.url), "busy", text];
  const child = spawn(process.execPath, [..."Deno" in globalThis ? ["run", "-A"] : [], ...own], { stdio: "inherit" });
  process.on("SIGTERM", () => child.kill("SIGKILL"));
  child.on("exit", () => process.exit(0));
} else {
  const server = net.createServer({ noDelay: true }, (socket) => {
    socket.on("error", () => {});
    socket.on("data", (data: Uint8Array) => {
      kinds[kind]();
      socket.write(data);
    });
  });
  process.on("SIGTERM", () => process.exit(0));
  server.listen(
    0,
    "127.0.0.1",
    () => console.log(`listening on 127.0.0.1:${(server.address() as net.AddressInfo).port}`),
  );
}
