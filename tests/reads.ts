// SPDX-License-Identifier: MIT
/**
 * Draws how five kinds of I/O receive one message: by which calls, and which of them sleep, as in the figures of UNIX
 * Network Programming, 6.2, but from the calls that five of the scripts make, with the times that these took.
 *
 * The scripts are copied, and in the copy every call of the C library is timed. Client and server read the same clock.
 *
 *   deno run -A tests/reads.ts > .github/models/reads.svg      (a part of: deno task pictures)
 */

import { readFileSync } from "node:fs";
import * as path from "node:path";
import * as util from "node:util";
import { monotonic as now } from "../scripts/shim/child.ts";
import { load } from "../scripts/shim/ffi.ts";
import * as sys from "../scripts/shim/sys.ts";
import { type Runtime, runtimes, serve, sleep, temporaryFolder } from "./harness.ts";
import { copy } from "./twins.ts";

/** The kinds of I/O, each with a script that shows it. */
const kinds = {
  "blocking": "blocking",
  "non-blocking": "nonblocking",
  "multiplexed": "poll",
  "signal-driven": "signals",
  "completion": "uring",
};

/** A call of the C library, with the milliseconds of its beginning and its end. */
interface Call {
  name: string;
  begin: number;
  end: number;
  returned: number;
}

/** How a message was received. */
export interface Read {
  /** When the server began to wait for it, when it was sent, and when it was in the server's buffer. */
  begin: number;
  sent: number;
  end: number;
  calls: Call[];
}

/** Messages, of which the quickest is shown: code is slow before it has run a few times. Bytes of each. */
const MESSAGES = 12, SIZE = 16_384;
/** Milliseconds between two messages; and what ends so soon after one belongs to it. */
const WAIT = 100, AFTER = 1;

// ---------------------------------------------------------------- the run

const untimed = 'for (const own of declared) Object.assign(own, { call: find(own.name, own.kinds, "int"), errno });';
const timed = (file: string) => `
  const at = toPointer(Number(mmap(NULL.pointer, 4096, 3, 34, -1, 0)));
  const time = new Int32Array(toArrayBuffer(at, 16)), clock = find("clock_gettime", ["int", "pointer"], "int");
  const now = () => (clock(${sys.CLOCK_MONOTONIC}, at), time[0] * 1e3 + time[2] / 1e6), calls: unknown[] = [];
  for (const own of declared) {
    const { name } = own, timed = find(name, own.kinds, "int");
    const call = (...values: unknown[]) => {
      const begin = now(), returned = timed(...values), end = now(), error = errno[0];
      calls.push({ name, begin, end, returned: Number(returned) < 0 ? -error : Number(returned) });
      errno[0] = error;
      return returned;
    };
    Object.assign(own, { call, errno });
  }
  const write = process.getBuiltinModule("node:fs").writeFileSync;
  process.on("exit", () => write(${JSON.stringify(file)}, JSON.stringify(calls)));
`;

/** Runs a script, and returns the calls by which it received a message. Needs Linux, and FFI in both runtimes. */
export async function record(runtime: Runtime, script: string): Promise<Read> {
  load();
  const folder = temporaryFolder(), file = path.join(folder, "calls");
  const messages: { begin: number; sent: number }[] = [];
  copy({ file: "shim/ffi.ts", from: untimed, to: timed(file) }, folder);
  await serve(runtime, `${script}.ts`, [], async (server) => {
    const [address] = await sys.resolveAddresses({ host: "127.0.0.1", port: server.port });
    const client = sys.must(sys.socket(sys.AF_INET, sys.SOCK_STREAM, 0)), buffer = sys.memory(SIZE);
    sys.must(sys.connect(client, address));
    for (let i = 0; i < MESSAGES; i++) {
      const begin = now();
      await sleep(WAIT);
      messages.push({ begin, sent: now() });
      sys.must(sys.send(client, buffer, SIZE, 0));
      for (let rest = SIZE; rest > 0;) rest -= sys.must(sys.recv(client, buffer, rest, 0));
    }
    sys.close(client);
    await server.stop();
  }, { folder });
  const all: Call[] = JSON.parse(readFileSync(file, "utf8"));
  // The only system calls that the C library has no function for are those of io_uring.
  const calls = all.map((call) => ({ ...call, name: call.name === "syscall" ? "io_uring_enter" : call.name }));
  // Before the first one it has to accept.
  const reads = messages.slice(1).map(({ begin, sent }) => {
    const { end } = calls.find(({ name, end, returned }) =>
      end > sent && (name === "recv" ? returned > 0 : name === "io_uring_enter")
    )!;
    return { begin, sent, end, calls: calls.filter((call) => call.end > begin + AFTER && call.begin < end) };
  });
  return reads.reduce((one, other) => one.end - one.sent <= other.end - other.sent ? one : other);
}

// ---------------------------------------------------------------- the picture

/** What some calls were, and what they returned. */
function summary(calls: Call[], sleeps: (call: Call) => boolean): string {
  const result = (returned: number) => returned < 0 ? util.getSystemErrorName(returned) : returned;
  const all = calls.map((call) => `${call.name} ${sleeps(call) ? "sleeps" : `→ ${result(call.returned)}`}`);
  const different = new Set(all), times = all.length > different.size ? `; ${all.length} calls` : "";
  return [...different].join("; ") + times;
}

const WIDTH = 900, LEFT = 120, MIDDLE = 490, ROW = 52, BAR = 18;

function draw(reads: Map<string, Read>): string {
  const most = Math.max(...[...reads.values()].map(({ sent, end }) => end - sent));
  const parts: string[] = [];
  const text = (x: number, y: number, text: string, attributes = "") =>
    parts.push(`<text x="${x}" y="${y}"${attributes}>${text.replaceAll("&", "&amp;").replaceAll("<", "&lt;")}</text>`);
  const bars = (kind: string, y: number, spans: [number, number][]) => {
    const merged: [number, number][] = [];
    for (const [from, to] of spans) {
      const last = merged.at(-1);
      // Calls that follow one another closer than a pixel are one bar.
      if (last && from < last[1] + 1) last[1] = to;
      else merged.push([from, to]);
    }
    for (const [from, to] of merged) {
      const width = Math.max(1, to - from).toFixed(1);
      parts.push(`<path class="${kind}" d="M${from.toFixed(1)} ${y}h${width}v${BAR}h-${width}z"/>`);
    }
  };
  text(LEFT, 14, `waiting for data, ${WAIT} ms`, ' class="t"');
  text(MIDDLE + 8, 14, "until it is in the buffer", ' class="t"');
  let y = 26;
  for (const [kind, { begin, sent, end, calls }] of reads) {
    const before = (time: number) => LEFT + Math.max(0, time - begin) / (sent - begin) * (MIDDLE - LEFT);
    const after = (time: number) => MIDDLE + (time - sent) / most * (WIDTH - MIDDLE - 60);
    text(0, y + 13, kind, ' class="t"');
    text(0, y + 30, `${kinds[kind as keyof typeof kinds]}.ts`, ' class="d"');
    const sleeps = ({ begin: from, end }: Call) => end - from > (sent - begin) / 2 && from < sent;
    const waiting = calls.filter((call) => call.begin < sent), copying = calls.filter((call) => call.end > sent);
    bars("s", y, waiting.filter(sleeps).map((call) => [before(call.begin), before(Math.min(call.end, sent))]));
    bars("r", y, waiting.filter((call) => !sleeps(call)).map(({ begin, end }) => [before(begin), before(end)]));
    const spans = copying.map(({ begin, end }): [number, number] => [after(Math.max(begin, sent)), after(end)]);
    bars("r", y, spans.slice(0, -1));
    bars("c", y, spans.slice(-1));
    text(LEFT, y + 32, summary(waiting.filter((call) => call.end < sent || sleeps(call)), sleeps), ' class="d"');
    text(MIDDLE + 8, y + 32, summary(copying, () => false), ' class="d"');
    text(after(end) + 6, y + 13, `${((end - sent) * 1000).toFixed()} µs`, ' class="d"');
    y += ROW;
  }
  parts.push(`<path class="l" d="M${MIDDLE} 20V${y - 8}"/>`);
  text(MIDDLE, y + 4, "the client sends", ' class="d m"');
  y += 14;
  let x = 0;
  for (
    const [kind, about] of [["s", "asleep in a call"], ["r", "in other calls"], ["c", "the call that gives the data"]]
  ) {
    bars(kind, y, [[x, x + 14]]);
    text(x + 20, y + 13, about, ' class="d"');
    x += 50 + 7 * about.length;
  }
  y += 16;
  const fills = [
    ["text", "#1f2328", "#e6edf3"],
    [".d", "#59636e", "#9198a1"],
    [".s", "#e4e8ed", "#30363d"],
    [".r", "#b7dcf7", "#27547a"],
    [".c", "#86d497", "#2b7a3f"],
  ];
  const style = (dark: 0 | 1) =>
    fills.map(([selector, ...colours]) => `${selector}{fill:${colours[dark]}}`).join("") +
    `.l{stroke:${["#59636e", "#9198a1"][dark]};stroke-dasharray:3 3}`;
  const about = `One message of ${SIZE / 1024} KiB, received by five kinds of I/O`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y + 12}" viewBox="0 0 ${WIDTH} ${
      y + 12
    }" role="img">`,
    `<title>${about}</title>`,
    `<style>text{font:11.5px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}` +
    `.t{font-weight:bold}.m{text-anchor:middle}${style(0)}@media(prefers-color-scheme:dark){${style(1)}}</style>`,
    ...parts,
    "</svg>",
  ].join("\n");
}

if (import.meta.main) {
  const reads = new Map<string, Read>();
  for (const [kind, script] of Object.entries(kinds)) reads.set(kind, await record(runtimes[0], script));
  console.log(draw(reads));
}
