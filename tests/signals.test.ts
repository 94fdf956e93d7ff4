// SPDX-License-Identifier: MIT
/** signals.ts: signal-driven I/O. */

import { type Runtime } from "./harness.ts";
import { testModel } from "./contract.ts";
import { checkReuse } from "./descriptors.ts";
import { checkSums, checkWait } from "./waits.ts";

testModel("signals.ts", (runtime: Runtime) => {
  // Under Bun a signal that comes while the runtime has its turn is lost, and with it the line.
  if (runtime.name !== "bun") {
    checkWait(
      runtime,
      "signals.ts",
      [],
      /main sigtimedwait 1 signal, descriptor \d+ \(#2\), POLL_IN/,
      /main drain #2 EAGAIN/,
    );
  }
  checkSums(runtime, "signals.ts", [], "sigtimedwait");
  checkReuse(runtime, "signals.ts", []);
});
