// SPDX-License-Identifier: MIT
/**
 * The other end: connects, sends, receives what comes back, closes.
 *
 * A client has four steps where a server has eight: create and connect, send, recv, close. It works with every
 * server here: each sends back what it received, so a reply is complete when it is as long as the message.
 *
 * With `--clients N` it is a crowd: N connections, opened one after the other. When all are open, each sends every
 * message, and closes when the last reply has come. The line `connect` shows the client's own port, as the server's
 * log does: `accept #2 127.0.0.1:49214`.
 *
 *   deno run -A scripts/client.ts hello world      or: bun scripts/client.ts …      or: node scripts/client.ts …
 *   deno run -A scripts/client.ts                  without a message: sends the lines you type, or a piped file's
 *   deno run -A scripts/client.ts --clients 8 hi   eight at once
 */

import { fail, flushLog, formatAddress, log, parseOptions, printAll, process } from "./shim/program.ts";
import { stopping, until, usageError } from "./shim/program.ts";
import { connect, type Connection } from "./shim/shim.ts";

const options = parseOptions(
  "The other end: sends each MESSAGE, or each line of the standard input, and prints each reply.",
  "start a server (deno run -A scripts/tasks.ts) and, beside it, deno run -A scripts/client.ts hello world",
  {
    host: ["127.0.0.1", "address to connect to"],
    port: [9999, "port to connect to", 1, 65_535],
    clients: [1, "connections at once, each of which sends every MESSAGE", 1, 10_000],
    quiet: [false, "print the replies as they are, and errors, nothing else"],
  },
  "[MESSAGE ...]",
);
if (options.clients > 1 && options.operands.length === 0) usageError("--clients: several of them need a MESSAGE");

const address = formatAddress(options.host, options.port), connections: Connection[] = [];
// One after the other, so that both logs have them in the same order.
while (connections.length < options.clients) {
  const connection = await connect(options).catch((error) => fail(`cannot connect to ${address}`, error));
  connections.push(connection);
  log("connect", numberOf(connection), connection.peer, "from", connection.local);
}
await Promise.all(connections.map(talk));
await until(flushLog, Infinity);
process.exit(0);

/** A single client needs no number. */
function numberOf({ id }: Connection): number {
  return options.clients > 1 ? id : 0;
}

/** What one client says and hears, until its last reply has come, or the server closes. */
async function talk(connection: Connection): Promise<void> {
  const id = numberOf(connection);
  /** Bytes sent that have not come back yet. */
  let missing = 0, over = false;
  let replied = () => {};
  await Promise.race([sendAll(), receive()]);
  over = true;
  connection.close();

  async function sendAll(): Promise<void> {
    for await (const message of options.operands.length > 0 ? operands() : lines()) {
      if (over) return;
      missing += message.length;
      const reply = new Promise<void>((resolve) => replied = resolve);
      const sending = connection.send(message);
      log("send", id, message.length, message);
      await sending;
      if (missing > 0) await reply;
      // Faster than its output is read it need not be.
      if (!flushLog()) await until(flushLog, Infinity);
    }
    if (!over) log("close", id, "end of input");
    over = true;
  }

  /** Prints what comes, whether a reply is due or not, until the server closes. */
  async function receive(): Promise<void> {
    for (;;) {
      const data = await connection.recv();
      if (stopping) connection.close();
      if (over || stopping) return new Promise(() => {});
      if (data.length === 0) break;
      if (options.quiet) await printAll(data);
      else log("recv", id, data.length, data);
      missing -= data.length;
      if (missing <= 0) replied();
    }
    if (connection.isBroken) fail("recv", connection.reason);
    if (missing > 0) fail("no reply", "the server closed the connection");
    log("close", id, "by the server");
  }
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
