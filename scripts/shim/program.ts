// SPDX-License-Identifier: MIT
/** What a script needs beside its sockets. */

export { Account, closeAll, LINGER, open, until } from "./connections.ts";
export { cannotListen, fail, joinParent, onStop, stopping, usageError } from "./end.ts";
export { errorCode, explain, flushLog, formatAddress, heartbeat, list, log, numberSteps, ready } from "./log.ts";
export { messages, parseOptions, serverOptions, threeMessages, work } from "./options.ts";
export { ACCEPTED, count, MESSAGES, nextNumber, OPEN, process, runtime } from "./runtime.ts";
export { type ThreadSettings, threadSettings } from "./runtime.ts";
export { logInLine, logWait, waited } from "./waits.ts";
export { burn, isLight } from "./work.ts";
export { printAll } from "./print.ts";
