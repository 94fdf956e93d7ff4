// SPDX-License-Identifier: MIT
/** How many descriptors a process may still open: what runs out of them is told in time. */

import { closeSync, openSync } from "node:fs";
import { devNull } from "node:os";
import { errorCode } from "./program.ts";

/** Why there are not so many descriptors left; `undefined` while there are. */
export function outOfDescriptors(count: number): unknown {
  const opened: number[] = [];
  try {
    while (opened.length < count) opened.push(openSync(devNull, "r"));
  } catch (error) {
    // Whatever else is wrong with /dev/null (there is none, it may not be read) says nothing about descriptors.
    return /^E[MN]FILE$/.test(errorCode(error)) ? error : undefined;
  } finally {
    for (const descriptor of opened) closeSync(descriptor);
  }
}
