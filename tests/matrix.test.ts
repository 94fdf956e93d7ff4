// SPDX-License-Identifier: MIT
/** The matrix that is committed is of this suite's behaviours, servers and runtimes. Its outcomes are a run's. */

import { readFileSync } from "node:fs";
import * as path from "node:path";
import { assert, assertEquals } from "./assert.ts";
import { check, linux, project, whole } from "./harness.ts";
import { matrix, titles } from "./matrix.ts";

/** The page without what a run has found. */
function mask(page: string): string {
  return page.trimEnd().replace(/Run with .*? on \w+ \w+\./, "RUN").replace(
    /(?<=\| )[^|]*\b[DBN]\b[^|]*(?= \|)/g,
    "OUTCOME",
  );
}

// Elsewhere there are fewer tests.
if (linux && whole) {
  check("matrix.md has the behaviours, the servers and the models of the suite", () => {
    const page = readFileSync(path.join(project, ".github", "matrix.md"), "utf8").replaceAll("\r", "");
    const none = matrix([], "Run with none on x y.");
    assert(titles.length > 500, `${titles.length} tests`);
    assertEquals(mask(page).split("\n"), mask(none).split("\n"));
  });
}
