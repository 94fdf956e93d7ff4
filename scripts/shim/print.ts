// SPDX-License-Identifier: MIT
/** Output that is no log: what a program is there to print. */

import * as fs from "node:fs";
import { setTimeout } from "node:timers/promises";
import { fail } from "./end.ts";
import { errorCode } from "./log.ts";
import { process, self } from "./runtime.ts";

/** Writes text or bytes to the standard output, however long that takes. Ends the process if the reader has gone. */
export async function printAll(all: string | Uint8Array): Promise<void> {
  let data = typeof all === "string" ? new TextEncoder().encode(all) : all;
  while (data.length > 0) {
    try {
      // No more than goes into a pipe whole or not at all: of more, a runtime may not say how much it has written.
      data = data.subarray(fs.writeSync(self.output, data.subarray(0, 4096)));
    } catch (error) {
      if (errorCode(error) === "EPIPE") process.exit(0);
      if (errorCode(error) !== "EAGAIN") fail("cannot write", error);
      await setTimeout(10);
    }
  }
}
