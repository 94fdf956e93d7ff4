// SPDX-License-Identifier: MIT
/**
 * The other end: connects, sends, receives what comes back, closes.
 *
 * A client has four steps where a server has eight: create and connect, send, recv, close. It works with every
 * server here: each sends back what it received, so a reply is complete when it is as long as the message.
 *
 *   deno run -A scripts/client.ts hello world      or: bun scripts/client.ts …      or: node scripts/client.ts …
 *   deno run -A scripts/client.ts                  without a message: sends the lines you type, or a piped file's
 *
 * To copy it into an article: deno run -A scripts/standalone.ts client
 */

import { fail, formatAddress, log, parseOptions, printAll, process, stopping } from "./shim/program.ts";
import { connect } from "./shim/shim.ts";

const options = parseOptions(
  "The other end: sends each MESSAGE, or each line of the standard input, and prints each reply.",
  "start a server (deno run -A scripts/tasks.ts) and, beside it, deno run -A scripts/client.ts hello world",
  {
    host: ["127.0.0.1", "address to connect to"],
    port: [9999, "port to connect to", 1, 65_535],
    quiet: [false, "print the replies as they are, and errors, nothing else"],
  },
  "[MESSAGE ...]",
);

const address = formatAddress(options.host, options.port);
const connection = await connect(options).catch((error) => fail(`cannot connect to ${address}`, error));
log("connect", 0, connection.peer);

/** Bytes sent that have not come back yet. */
let missing = 0;
let replied = () => {};
receive();

for await (const message of options.operands.length > 0 ? operands() : lines()) {
  log("send", 0, message.length, message);
  missing += message.length;
  const reply = new Promise<void>((resolve) => replied = resolve);
  await connection.send(message).catch((error) => failed("send", error));
  if (missing > 0) await reply;
}
connection.close();
log("close", 0, "end of input");
process.exit(0);

/** Prints what comes, whether a reply is due or not, until the server closes. */
async function receive(): Promise<void> {
  for (;;) {
    const data = await connection.recv().catch((error) => failed("recv", error));
    if (data.length === 0) break;
    if (options.quiet) await printAll(data);
    else log("recv", 0, data.length, data);
    missing -= data.length;
    if (missing <= 0) replied();
  }
  if (missing > 0) fail("no reply", "the server closed the connection");
  log("close", 0, "by the server");
  process.exit(0);
}

/** Ends the client because of an error, unless that is the client's own end. */
function failed(what: string, error: unknown): Promise<never> {
  if (stopping) return new Promise(() => {});
  return fail(what, error);
}

async function* operands(): AsyncGenerator<Uint8Array> {
  for (const operand of options.operands) yield new TextEncoder().encode(operand);
}

/** The lines of the standard input as bytes, each with its line feed. */
async function* lines(): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of process.stdin as AsyncIterable<Uint8Array>) {
      for (let rest = chunk; rest.length > 0;) {
        const line = rest.subarray(0, rest.indexOf(10) + 1 || rest.length);
        yield line;
        rest = rest.subarray(line.length);
      }
    }
  } catch (error) {
    fail("cannot read the input", error);
  }
}
