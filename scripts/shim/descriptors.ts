// SPDX-License-Identifier: MIT
/** How many descriptors a process may still open: what runs out of them is told in time. */

import { closeSync, openSync } from "node:fs";
import { devNull } from "node:os";

/** Why there are not so many descriptors left; `undefined` while there are. */
export function outOfDescriptors(count: number): unknown {
  const opened: number[] = [];
  try {
    while (opened.length < count) opened.push(openSync(devNull, "r"));
  } catch (error) {
    return error;
  } finally {
    for (const descriptor of opened) closeSync(descriptor);
  }
}
