// SPDX-License-Identifier: MIT
/** What is simpler in a copy than in shim/ring.ts. */

import { Ring } from "../../shim/ring.ts";

/** A ring for so many requests at once, and so many completions. */
export function openRing(requests: number, completions: number): Ring {
  return new Ring(requests, completions);
}
