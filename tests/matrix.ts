// SPDX-License-Identifier: MIT
/**
 * Prints which server keeps to which behaviour of the contract on which runtime, as a run of the suite has found.
 *
 *   deno task matrix
 */

import { readFileSync } from "node:fs";
import process from "node:process";
import { findRuntime } from "../scripts/tools/runtimes.ts";
import { contract, titleOf } from "./contract.ts";
import { type Listed, listed, type Result } from "./harness.ts";
import { models } from "./models.ts";

const runtimes = ["deno", "bun", "node"];

/** What the contract asks of each model, by group and name: the tests, with the runtime's name for `RUNTIME`. */
const asked = Object.entries(contract).map(([group, register]) => ({
  group,
  rows: models.map((model) => ({
    name: titleOf(model.script, model.args),
    script: model.script,
    tests: listed(() => register({ name: "RUNTIME", command: [] }, model)),
  })),
}));

/** All tests of the contract, by their titles. */
export const titles = asked.flatMap(({ rows }) =>
  rows.flatMap(({ tests }) =>
    tests.filter(({ why }) => !why).flatMap(({ title }) => runtimes.map((runtime) => title.replace("RUNTIME", runtime)))
  )
);

/** The matrix as a page. `when` says what the results are of. */
export function matrix(results: Result[], when: string): string {
  const outcomes = new Map(results.map((result) => [result.title, result]));
  const reasons: string[] = [], lines: string[] = [];
  let number = 1;
  for (const { group, rows } of asked) {
    const behaviours = rows[0].tests.map(({ title }) => title.replace(`RUNTIME ${rows[0].name}: `, ""));
    const numbers = behaviours.map(() => number++);
    lines.push("", `## ${group}`, "");
    for (const [i, behaviour] of behaviours.entries()) lines.push(`${numbers[i]}. ${behaviour}`);
    lines.push("", `| | ${numbers.join(" | ")} |`, `| --- |${" --- |".repeat(numbers.length)}`);
    for (const { name, script, tests } of rows) {
      lines.push(`| [\`${name}\`](../scripts/${script}) | ${tests.map((test) => cellOf(test, reasons)).join(" | ")} |`);
    }
  }
  return `# Who keeps to what

[← README](../README.md) | [简体中文](README.zh-CN.md)

Every server is held to the same contract on every runtime. D, B and N mean that it keeps to it on Deno, Bun and Node; a
dash means that this is not asked of it, "skipped" that this machine has not what the test needs. ${when}

\`deno task matrix\` makes this page. The tests are in [contract.ts](../tests/contract.ts). What a model promises beside
them is tested in the file of its name in the same folder, as is single.ts, which serves one client and ends.
${lines.join("\n")}

Why this is not asked:

${reasons.map((reason, i) => `- (${letter(i)}) ${reason}`).join("\n")}
`;

  function cellOf({ title, why }: Listed, reasons: string[]): string {
    if (why) {
      if (!reasons.includes(why)) reasons.push(why);
      return `– (${letter(reasons.indexOf(why))})`;
    }
    const told = runtimes.map((runtime) => {
      const outcome = outcomes.get(title.replace("RUNTIME", runtime)), initial = runtime[0].toUpperCase();
      if (!outcome) return `**${initial} UNTESTED**`;
      if (outcome.failure !== undefined) return `**${initial} FAILS**`;
      return outcome.skipped === undefined ? initial : `${initial} (skipped)`;
    });
    return told.join(" ");
  }
}

function letter(index: number): string {
  return String.fromCharCode(97 + index);
}

if (import.meta.main) {
  const results = readFileSync(process.argv[2], "utf8").trimEnd().split("\n").map((line) => JSON.parse(line) as Result);
  const versions = runtimes.map((name) => {
    const found = findRuntime(name);
    return `${name[0].toUpperCase()}${name.slice(1)} ${typeof found === "string" ? "?" : found.version}`;
  });
  console.log(matrix(results, `Run with ${versions.join(", ")} on ${process.platform} ${process.arch}.`).trimEnd());
}
