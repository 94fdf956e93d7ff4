// SPDX-License-Identifier: MIT
/** What `--work` is: CPU that a handler burns, as one would that has something to compute. */

import { log } from "./log.ts";
import { process, self } from "./runtime.ts";

/**
 * Burns CPU for a message of connection `id`: `milliseconds` of an otherwise idle core. It does a measured amount of
 * work and doesn't look at the clock, so threads that share a core take longer. A message that begins with `light`
 * needs none.
 */
export function burn(id: number, milliseconds: number, data: Uint8Array): void {
  if (milliseconds === 0 || isLight(data)) return;
  log("work", id, milliseconds, "ms");
  spin(Math.round(milliseconds * burnRate()));
}

/** Whether a message begins with `light`. */
export function isLight(data: Uint8Array): boolean {
  return new TextDecoder().decode(data.subarray(0, 5)) === "light";
}

/** How many blocks `burn` hashes in a millisecond, measured unless it is known: one thread tells the next. */
export function burnRate(): number {
  return self.burnRate ||= measureRate();
}

const block = new Uint8Array(4096);

/** Hashes blocks. That is done in machine code, and takes the same however far the runtime has compiled this script. */
function spin(blocks: number): void {
  const { createHash } = process.getBuiltinModule("node:crypto") as typeof import("node:crypto");
  const hash = createHash("sha256");
  for (let i = 0; i < blocks; i++) hash.update(block);
}

/** The best of many short runs: others may be interrupted. */
function measureRate(): number {
  let best = 0;
  for (let run = 0; run < 50; run++) {
    const start = performance.now();
    spin(50);
    best = Math.max(best, 50 / (performance.now() - start));
  }
  return best;
}
