// SPDX-License-Identifier: MIT
/** How many descriptors a process may still open: so that a shortage is told before it does harm. */

import { closeSync, openSync } from "node:fs";
import { devNull } from "node:os";
import { errorCode } from "./program.ts";

/** The error if fewer than `count` descriptors are left, otherwise `undefined`. */
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
