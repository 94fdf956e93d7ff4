// SPDX-License-Identifier: MIT
/**
 * Soak: clients with random behaviour against one server, and what has to hold whatever they do.
 *
 *   deno task soak pool --seconds 300                      on Deno, with a new seed, which is printed
 *   deno task soak "epoll --edge" --runtime bun --seed 7   the same behaviour again
 *
 * A client makes one connection after another. What it does in each follows from the seed and its number alone: so a
 * failure can be tried again with fewer clients, and `--only` repeats what remains. When all have left, the server has to
 * be as it was after a first quarter of the time. Linux only, for what is asked of the process.
 */

import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import process from "node:process";
import { Client, pattern, type Runtime, runtimes, Script, sleep, Slow, until } from "./harness.ts";
import { type Model, models } from "./models.ts";

export interface Soak {
  runtime: Runtime;
  model: Model;
  seconds: number;
  seed: number;
  /** Their numbers. */
  clients: number[];
  /** Seconds in which every reply has to come, however many clients wait for the same thread. */
  patience: number;
}

/** Steps by how often they are taken, with the least and the most bytes or milliseconds; the last is a client's end. */
type Steps = [share: number, what: string, least?: number, most?: number][];
const steps: Steps = [
  [50, "send", 1, 300 * 1024],
  [25, "receive"],
  [15, "pause", 1, 60],
  [10, "stall", 10, 300],
  [3, "flood", 4 * 1024 * 1024, 12 * 1024 * 1024],
];
const ends: Steps = [[5, "finish"], [3, "close"], [3, "reset"]];

/** A generator of numbers from 0 to below 1 (mulberry32): the same for the same seed and client. */
function generator(seed: number, client: number): () => number {
  let state = Math.imul(seed, 0x9e3779b1) ^ Math.imul(client + 1, 0x85ebca6b);
  return () => {
    state = state + 0x6d2b79f5 | 0;
    let x = Math.imul(state ^ state >>> 15, state | 1);
    x ^= x + Math.imul(x ^ x >>> 7, x | 61);
    return ((x ^ x >>> 14) >>> 0) / 2 ** 32;
  };
}

/** Draws a step. Small amounts are as likely as large ones: 1 to 10 as 1000 to 10 000. */
function draw(random: () => number, from: Steps): [what: string, amount: number] {
  let rest = random() * from.reduce((sum, [share]) => sum + share, 0);
  const [, what, least = 0, most = 0] = from.find(([share]) => (rest -= share) < 0)!;
  return [what, least === 0 ? 0 : Math.floor(least * (most / least) ** random())];
}

/** What clients send, over and over: each connection begins in another place. */
const tape = pattern(1_000_003);

/** What stands from `from` on, in pieces. */
function* pieces(from: number, length: number): Generator<Uint8Array> {
  for (let end = from + length, piece: Uint8Array; from < end; from += piece.length) {
    yield piece = tape.subarray(from % tape.length, from % tape.length + Math.min(65_536, end - from));
  }
}

/** A client: a function that makes one connection after another, until `end`, in milliseconds since 1970. */
function client(number: number, { seed, patience }: Soak, sums: { connections: number; bytes: number }) {
  const random = generator(seed, number);
  let count = 0;
  return async (port: number, end: number): Promise<void> => {
    while (Date.now() < end) {
      const start = Math.floor(random() * tape.length);
      const plan = [
        ...Array.from({ length: Math.floor(random() * 12) }, () => draw(random, steps)),
        draw(random, ends),
      ];
      count++;
      try {
        const right = await follow(await Client.connect(port), plan, start, patience);
        sums.bytes += right;
        sums.connections++;
      } catch (error) {
        const did = plan.map(([what, amount]) => `${what} ${amount || ""}`.trim()).join(", ");
        throw new Error(`client ${number}, its connection ${count} (${did}): ${(error as Error).message}`);
      }
    }
  };
}

/** Does in a connection what is planned. Throws what is wrong; returns how many bytes have come back, and are right. */
async function follow(client: Client, plan: [string, number][], start: number, patience: number): Promise<number> {
  let sent = 0, right = 0;
  const expect = async (length: number): Promise<void> => {
    client.read();
    const data = await client.receive(length, patience).catch(async (error) => {
      // What has come says more, if it is wrong.
      await expect(client.received);
      throw error;
    });
    let at = 0;
    for (const piece of pieces(start + right, length)) {
      if (Buffer.compare(data.subarray(at, at + piece.length), piece) !== 0) {
        throw new Error(`byte ${right + at + piece.findIndex((byte, i) => byte !== data[at + i])} is wrong`);
      }
      at += piece.length;
    }
    right += length;
  };
  for (const [what, amount] of plan) {
    // It reads on when it next receives; until then the server can't send what the kernel has no room for.
    if (what === "stall" || what === "flood") client.pause();
    if (what === "send" || what === "flood") {
      for (const piece of pieces(start + sent, amount)) client.send(piece);
      sent += amount;
    }
    if (what === "receive") await expect(sent - right);
    if (what === "pause" || what === "stall" || what === "flood") await sleep(Math.min(amount, 300));
    if (what === "finish") {
      client.finish();
      await expect(sent - right);
      assertEquals(await client.end(patience), "end", "all has come, but no end of the stream");
    }
    if (what === "close" || what === "reset") assertEquals(client.ended, null, "the server has ended the connection");
  }
  // Of one that leaves earlier: what has come so far.
  await expect(client.received);
  assert(right <= sent, `${right} bytes came back of ${sent}`);
  if (plan.at(-1)![0] === "reset") client.reset();
  client.close();
  return right;
}

/** What a server may have more of afterwards: runtimes have threads of their own, and garbage (in MiB). */
const allowed = [["descriptors", 2], ["threads", 2], ["memory", 160]] as const;

/** Runs once, and returns some figures. Throws what is wrong. */
export async function soak(run: Soak): Promise<string> {
  const { runtime, model, seconds, seed, patience } = run, sums = { connections: 0, bytes: 0 };
  const server = new Script(runtime, model.script, ["--port", "0", ...model.args]);
  const clients = run.clients.map((number) => client(number, run, sums));
  /** How often each connection was accepted and not closed. In no order: lines that find the pipe full come later. */
  const open = new Map<string, number>(), errors: string[] = [];
  let latest: string[] = [], lost = false, reading: ReturnType<typeof setInterval> | undefined;
  // Hours of it would fill the memory.
  const readLog = () => {
    server.bytes.length = 0;
    const lines = server.output.splice(0);
    latest = [...latest, ...lines.slice(-5)].slice(-5);
    for (const line of lines) {
      const [, event, number] = /^ *[\d.]+ \S+ (accept|close|error) #?(\d*)/.exec(line) ?? [];
      if (/ lines are lost$/.test(line)) lost = true;
      // Deno accepts what is reset by then, with an error.
      else if (event === "error" && !/ error accept: .*\(ENOTCONN\)$/.test(line)) errors.push(line);
      if (event !== "accept" && event !== "close") continue;
      const count = (open.get(number) ?? 0) + (event === "accept" ? 1 : -1);
      if (count === 0) open.delete(number);
      else open.set(number, count);
    }
    return lost || open.size === 0;
  };
  const round = async (port: number, seconds: number) => {
    const end = Date.now() + seconds * 1000, all = Promise.all(clients.map((visit) => visit(port, end)));
    await Promise.race([all, server.exited.then(() => assert(false, "the server is gone"))]);
    if (!await until(readLog, patience)) assertEquals([...open.keys()], [], "accepted, and not closed");
  };
  try {
    const port = Number((await server.line(/^listening on /, 30)).split(":").at(-1));
    reading = setInterval(readLog, 1000);
    await round(port, seconds / 4);
    const now = () => allowed.map(([name]) => Math.round(server[name]));
    let before = now();
    // It takes a while until it has let go of what it has needed.
    for (let last = Infinity; before[0] + before[1] < last; before = now()) {
      last = before[0] + before[1];
      await sleep(500);
    }
    await round(port, seconds * 3 / 4);
    const more = () => now().some((figure, i) => figure > before[i] + allowed[i][1]);
    await until(() => !more(), patience);
    const figures = now().map((figure, i) => `${allowed[i][0]} ${before[i]} to ${figure}`).join(", ");
    assert(!more(), `left behind: ${figures}`);
    if (!model.spins) assert(await server.rests(), "it takes CPU, though no one is there");
    readLog();
    assertEquals(errors, [], "errors in the log");
    const stopping = performance.now();
    assertEquals([await server.stop("SIGTERM", patience), server.errors], [0, ""], "exit code and standard error");
    if (performance.now() - stopping > 1000) throw new Slow("more than a second from SIGTERM to the end");
    return `${sums.connections} connections, ${(sums.bytes / 2 ** 20).toFixed()} MiB; ${figures}`;
  } catch (error) {
    // What a client has noticed may have a reason that is known a little later.
    const code = await Promise.race([server.exited.then((code) => `, exit code ${code}`), sleep(500).then(() => "")]);
    readLog();
    const said = [...latest, server.errors].map((line) => line.slice(0, 500)).join("\n");
    (error as Error).message += `\nseed ${seed}, ${clients.length} clients; the server's last lines${code}:\n${said}`;
    throw error;
  } finally {
    clearInterval(reading);
    await server.kill();
  }
}

/** Looks for the fewest clients with which it fails: leaves out half, a quarter, and so on, 12 times at most. */
export async function shrink(run: Soak): Promise<number[]> {
  let { clients } = run, runs = 0;
  for (let size = clients.length >> 1; size >= 1; size >>= 1) {
    for (let at = 0; at < clients.length && size < clients.length && runs++ < 12;) {
      const fewer = clients.toSpliced(at, size);
      const failed = await soak({ ...run, clients: fewer }).then(() => false, (error) => !(error instanceof Slow));
      console.log(`clients ${fewer}: ${failed ? "it fails" : "not seen"}`);
      if (failed) clients = fewer;
      else at += size;
    }
  }
  return clients;
}

/** As many clients as suit a model: some wait where few are served at once, and few come where each is expensive. */
export function crowdOf({ clients, churn }: Model, count = churn < 500 ? 4 : Math.min(16, clients + 2)): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

export const newSeed = (): number => Math.ceil(Math.random() * 1e9);

/** A model's name: the script's, and its options if there are several variants. */
export const nameOf = ({ script, args }: Model): string =>
  [script.replace(".ts", ""), ...args].join(" ").replace(" --messages 0", "");

async function main(): Promise<void> {
  const { fail, parseOptions, usageError } = await import("../scripts/shim/program.ts");
  const { operands: [name], ...options } = parseOptions(
    `Clients with random behaviour against a server. MODEL is one of ${models.map(nameOf).join(", ")}.`,
    "deno task soak pool --seconds 60",
    {
      seconds: [60, "how long clients come and leave", 1],
      seed: [0, "from which their behaviour follows; 0 = a new one"],
      runtime: ["deno", "deno, bun or node"],
      clients: [0, "how many; 0 = as many as suit the model"],
      only: ["", "the numbers of those that come, such as 3,5"],
    },
    "MODEL",
  );
  const model = models.find((model) => nameOf(model) === name?.replace(".ts", ""));
  const runtime = runtimes.find(({ name }) => name === options.runtime);
  if (!model || !runtime) {
    return usageError(`${name ?? "no MODEL"} on ${options.runtime}: there is no such model, or runtime`);
  }
  const { seconds, only } = options, seed = options.seed || newSeed();
  const clients = only ? only.split(",").map(Number) : crowdOf(model, options.clients || undefined);
  const run = { runtime, model, seconds, seed, clients, patience: 30 };
  console.log(`seed ${seed}: ${name} on ${runtime.name}, ${clients.length} clients, ${seconds} s`);
  const start = performance.now(), failed = await soak(run).then(console.log, (error: Error) => error);
  // Timers of the harness are still running.
  if (!failed) process.exit(0);
  console.log(failed.message);
  if (failed instanceof Slow) process.exit(1);
  const enough = Math.ceil(Math.min(seconds, 60, 4 + 2 * (performance.now() - start) / 1000));
  const fewest = await shrink({ ...run, seconds: enough });
  const again = `--seconds ${enough} --seed ${seed} --only ${fewest}`;
  fail(`${name} on ${runtime.name}`, `fails with ${fewest.length} of ${clients.length} clients: ${again}`);
}

// The test imports this file, too.
if (/\bsoak\.ts$/.test(process.argv[1] ?? "")) await main();
