// SPDX-License-Identifier: MIT
/**
 * `@std/assert` where its registry can be reached, otherwise node:assert under the same names. Bun and Node can't
 * resolve the name, and a test run must not depend on the network.
 */

import * as node from "node:assert/strict";

/** The few assertions that the suite uses. */
interface Assertions {
  assert(condition: unknown, message?: string): asserts condition;
  assertEquals(actual: unknown, expected: unknown, message?: string): void;
  assertMatch(actual: string, expected: RegExp, message?: string): void;
}

// Not a literal, or type checking would ask the registry too.
const name: string = "@std/assert";
const found: Assertions = await import(name).catch(() => ({
  assert: node.ok,
  assertEquals: node.deepStrictEqual,
  assertMatch: node.match,
}));

export const assert: Assertions["assert"] = found.assert;
export const assertEquals: Assertions["assertEquals"] = found.assertEquals;
export const assertMatch: Assertions["assertMatch"] = found.assertMatch;
