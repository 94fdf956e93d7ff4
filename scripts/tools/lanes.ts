// SPDX-License-Identifier: MIT
/** Makes lanes of a recording: who waits for what, and what each thread does. It knows no model, only what logs say. */

import type { Line, Recording, Task, Visit } from "./session.ts";

/** In a terminal a character and its colour, in SVG the fill on a light and on a dark page. */
type Look = [character: string, colour: number, light: string, dark: string];

/**
 * What a lane can show, by who can be in that state, and how that looks. Those that `count` are never left out of a
 * picture, however short they are.
 */
export const kinds = {
  connect: { who: "clients", about: "connecting", look: ["╌", 35, "#d4b6f0", "#6b4a8f"] },
  backlog: { who: "clients", about: "connected, not accepted yet", look: ["▓", 35, "#e3a9e0", "#85417f"] },
  line: { who: "clients", about: "accepted, waits for a thread", look: ["▒", 31, "#ffb1a1", "#9a3b2c"] },
  wait: { who: "clients", about: "sent a message, which waits its turn", look: ["░", 33, "#ffe07a", "#7d6110"] },
  served: { who: "clients", about: "is being served", counts: true, look: ["█", 32, "#86d497", "#2b7a3f"] },
  deaf: { who: "clients", about: "does not read", look: ["≠", 31, "#cfa791", "#7a4f38"] },
  half: { who: "clients", about: "half-closed: sends no more, still reads", look: ["╴", 36, "#b3bfd4", "#4a5a75"] },
  quiet: { who: "clients", about: "connected, says nothing", look: ["─", 90, "#e4e8ed", "#30363d"] },
  compute: { who: "threads", about: "works for client #N", counts: true, look: ["█", 34, "#79aef5", "#2d62b3"] },
  busy: { who: "threads", about: "runs, for no client", look: ["╳", 31, "#ff9a70", "#ab4a1e"] },
  held: { who: "threads", about: "asleep, for one client", look: ["┄", 36, "#d3e6f8", "#263b50"] },
  sleep: { who: "threads", about: "asleep, until something comes", look: ["·", 90, "#e4e8ed", "#30363d"] },
  // Their texts alone are shown.
  more: { who: "threads", about: "", look: [" ", 90, "none", "none"] },
  lost: { who: "clients", about: "", look: [" ", 31, "none", "none"] },
} satisfies Record<string, { who: "clients" | "threads"; about: string; look: Look; counts?: true }>;

export type Kind = keyof typeof kinds;

export interface Span {
  from: number;
  to: number;
  kind: Kind;
  /** What may be written into it, the longest first. */
  texts: string[];
}

export interface Lane {
  name: string;
  /** In time, without overlap. */
  spans: Span[];
  /** When a client has sent, and when the whole reply had come. */
  sends: number[];
  replies: number[];
  /** Milliseconds that a client has waited, or of CPU that a thread has used; -1 if not known. */
  total: number;
}

/** What the calls of a loop hand over to the kernel, or get back: as many as were logged singly. */
export interface Calls {
  name: string;
  unit: "bits" | "entries" | "requests" | "ready" | "signals" | "completed" | "";
  /** When a call returned; of how many things, and how many of these are ready. */
  stacks: { at: number; of: number; ready: number }[];
  /** Calls that the log tells of in one line. */
  spans: Span[];
}

export interface Picture {
  model: string;
  title: string;
  clients: Lane[];
  threads: Lane[];
  calls: Calls[];
  /** Whether the kernel was asked what the threads do. Otherwise that is what the log tells of it. */
  kernel: boolean;
  notes: string[];
  /** When what it shows began, and how long that was. Times in its lanes are counted from there. */
  start: number;
  end: number;
}

/** Calls that sleep for one thing only. The others wait for whatever comes first. */
const SINGLE = /^(read|write|accept4?|sendto|recvfrom|recvmsg|wait4|futex)$/;
/** Milliseconds: what is shorter than this the kernel was hardly asked about, and the log knows better. */
const SHORT = 12;
/** So many notes on single clients are shown: there may be a crowd. */
const MOST_TOLD = 10;

/** A connection, as the log tells of it. */
interface Connection {
  id: number;
  /** The lines that accept it, give it to a thread, receive and compute for it, and close it. */
  accept: Line;
  given?: Line;
  /** It was not given to a thread, and others were. */
  waits?: boolean;
  /** With the bytes that had been received then. */
  received: (Line & { total: number })[];
  work: Line[];
  close?: Line;
  thread: string;
}

/** Draws a recording, from `start` on. */
export function draw(recording: Recording, start = 0): Picture {
  const { model, options, runtime, visits, lines, end, failure } = recording;
  const tasks = recording.tasks.filter(({ runs }) => (runs.at(-1)?.to ?? 0) > start);
  const connections = readConnections(lines);
  const find = ({ port }: Visit) => connections.find(({ accept }) => accept.detail.endsWith(`:${port}`));
  const names = new Set(lines.filter(({ time }) => time < end).map(({ thread }) => thread));
  // Deno calls its Workers worker-1, worker-2, ..., in the order in which they started.
  const given = connections.flatMap(({ given, thread }) => given ? [thread] : []);
  const prefixes = new Set([...names, ...given].map((name) => /^(.+)-\d+$/.exec(name)?.[1]).filter(Boolean));
  // Those of processes that were made beforehand.
  const places = new Map(lines.flatMap(({ event, detail }) => {
    const [, name, pid] = event === "start" && /^(\S+-\d+) process (\d+)/.exec(detail) || [];
    return pid ? [[`pid ${pid}`, name]] : [];
  }));
  const named = tasks.map((task) => {
    const place = places.get(task.name);
    if (place) return { ...task, name: place };
    const client = connections.find(({ given }) => given?.detail === task.name.replace("pid", "process"));
    // A process whose client has said nothing has logged nothing.
    const silent = client && task.name.replace(/^pid .*/, `p-${client.id}`);
    if (client) return { ...task, name: client.thread = client.received[0]?.thread ?? silent! };
    const own = task.name.replace(/^worker(?=-)/, (worker) => prefixes.size === 1 ? [...prefixes][0]! : worker);
    return { ...task, name: own };
  });
  const logged: Task[] = [...names].filter((name) => !named.some((task) => task.name === name)).map((name) => {
    const from = name === "main" ? 0 : lines.find(({ thread }) => thread === name)!.time;
    return { name, cpu: -1, runs: [{ from, to: end, running: false, call: "" }] };
  });
  return {
    model,
    title: `${model} ${options.join(" ")} on ${runtime}`.replace(/ --messages 0(?= )/, "").replace(/ +/g, " "),
    clients: visits.filter((visit) => visit.end > start).map((visit) => clientLane(visit, find(visit), start, end)),
    threads: [...named, ...logged].map((task) => threadLane(task, recording, connections, start)),
    // Where several threads wait it is not this that one looks for.
    calls: named.length + logged.length === 1 ? callLanes(lines, start, end) : [],
    kernel: tasks.length > 0,
    notes: [...failure ? [failure] : [], ...notes({ ...recording, tasks: named }, connections, start || -Infinity)],
    start,
    end: end - start,
  };
}

function readConnections(lines: Line[]): Connection[] {
  const connections = new Map<number, Connection>();
  for (const line of lines) {
    const { event, id, detail } = line, connection = connections.get(id);
    if (event === "accept" && id > 0) {
      connections.set(id, { id, accept: line, received: [], work: [], thread: line.thread });
    }
    if (!connection) continue;
    const given = /^(?:serve|start|pass)$/.test(event) && /^\S+-\d+|^process \d+/.exec(detail)?.[0];
    if (given) Object.assign(connection, { given: line, thread: given });
    if (event === "recv") {
      const size = Number(/^(?:step 5: )?(\d+)/.exec(detail)?.[1] ?? 0);
      connection.received.push({ ...line, total: (connection.received.at(-1)?.total ?? 0) + size });
    }
    if (event === "work") connection.work.push(line);
    if (event === "close") connection.close = line;
  }
  const all = [...connections.values()], gives = all.some(({ given }) => given);
  for (const connection of all) connection.waits = gives && !connection.given;
  return all;
}

/** Puts a span over others, and cuts what it covers. */
function paint(spans: Span[], from: number, to: number, kind: Kind, ...texts: string[]): Span[] {
  if (!(to > from)) return spans;
  const rest = spans.flatMap((span) => [
    ...span.from < from ? [{ ...span, to: Math.min(span.to, from) }] : [],
    ...span.to > to ? [{ ...span, from: Math.max(span.from, to) }] : [],
  ]);
  return [...rest, { from, to, kind, texts }].sort((a, b) => a.from - b.from);
}

/** The part of the spans that can be seen. */
function clip(spans: Span[], start: number): Span[] {
  return spans.filter(({ to }) => to > start)
    .map((span) => ({ ...span, from: Math.max(0, span.from - start), to: span.to - start }));
}

function clientLane(visit: Visit, connection: Connection | undefined, start: number, pictureEnd: number): Lane {
  const { begin, connected = visit.end, exchanges, end, role, failure, pauses = [], finished = end } = visit;
  const accepted = connection?.accept.time ?? end;
  const given = connection?.given?.time ?? (connection?.waits ? connection.close?.time ?? end : accepted);
  const served: [from: number, to: number][] = [];
  let spans = paint([], begin, end, "quiet"), before = 0;
  for (const { sent, size, received = end } of exchanges) {
    // The server may receive a message in parts, or several at once.
    const { time = received } = connection?.received.find(({ total }) => total > before) ?? {};
    before += size;
    // A thread other than the one that has received may begin with it later.
    const begun = connection?.work.find((line) => line.time >= time && line.time < received)?.time ?? time;
    spans = paint(spans, sent, begun, "wait");
    served.push([Math.min(begun, received - 0.1), received]);
  }
  // A client that has sent several messages is being served as long as one of them is.
  for (const [from, to] of served) spans = paint(spans, from, to, "served");
  for (const { kind, from, to } of spans) {
    const late = kind === "quiet" || kind === "served";
    if (late) spans = paint(spans, Math.max(from, finished), to, "half", "half-closed", "half");
  }
  // What it then waits for is its own doing.
  for (const { from, to = end } of pauses) spans = paint(spans, from, to, "deaf", "does not read", "deaf");
  const [, inLine] = /after ([\d.]+) ms in line/.exec(connection?.given?.detail ?? "") ?? [];
  const waited = inLine ? Number(inLine) : connection?.given ? -1 : given - accepted;
  const why = waited >= 0 ? [`in line ${duration(waited)}`, "in line"] : [`start ${duration(given - accepted)}`];
  spans = paint(spans, accepted, given, "line", ...why);
  spans = paint(spans, connected, accepted, "backlog", `backlog ${duration(accepted - connected)}`, "backlog");
  spans = paint(spans, begin, connected, "connect");
  const waits = spans.filter(({ kind }) => ["connect", "backlog", "line", "wait"].includes(kind));
  const total = waits.reduce((sum, { from, to }) => sum + to - from, 0);
  if (failure) spans = paint(spans, end, pictureEnd, "lost", failure, failure.replace(/.*\((\w+)\)$/, "$1"));
  const visible = (times: number[]) => times.filter((time) => time >= start).map((time) => time - start);
  return {
    name: `${connection ? `#${connection.id}` : "--"} ${role}`,
    spans: clip(spans, start),
    sends: visible(exchanges.map(({ sent }) => sent)),
    replies: visible(exchanges.flatMap(({ received }) => received ?? [])),
    total,
  };
}

/** What a thread does. If it is not the kernel who tells of that, its CPU time is -1. */
function threadLane(
  { name, runs, cpu }: Task,
  { lines, end }: Recording,
  connections: Connection[],
  start: number,
): Lane {
  const kernel = cpu >= 0;
  const own = connections.filter(({ thread }) => thread === name);
  const changes = own.flatMap(({ accept, given, close }) => [(given ?? accept).time, close?.time ?? end]);
  let spans: Span[] = [];
  for (const { from, to, running, call } of runs.filter(({ to }) => to > start)) {
    const cuts = [from, ...changes.filter((time) => time > from && time < to).sort((a, b) => a - b), to];
    for (const [i, cut] of cuts.slice(0, -1).entries()) {
      const middle = (cut + cuts[i + 1]) / 2;
      const open = own.filter(({ accept, given, close }) =>
        (given ?? accept).time < middle && middle < (close?.time ?? end)
      );
      // Without the kernel: a thread that was given a client waits for that one.
      const held = open.length === 1 && (kernel ? SINGLE.test(call) : open[0].given !== undefined);
      const texts = [...held ? [`${call} for #${open[0].id}`.trim()] : [], ...call ? [call] : []];
      const kind = running ? "busy" : held ? "held" : "sleep";
      if (cuts[i + 1] > cut) spans.push({ from: cut, to: cuts[i + 1], kind, texts: running ? [] : texts });
    }
  }
  // What it does for whom is what it has logged last, if the kernel agrees that it does something.
  const works: { from: number; to: number; id: number }[] = [];
  for (const [i, { thread, time, event, id }] of lines.entries()) {
    if (thread !== name || id === 0 || !/^(recv|work)$/.test(event) || time >= end) continue;
    // Until it logs something else, or another thread sends the reply. The log counts tenths of a millisecond.
    let then = i + 1;
    while (lines[then] && lines[then].thread !== name && (lines[then].id !== id || lines[then].event === "work")) {
      then++;
    }
    const next = Math.max(time + 0.1, Math.min(end, lines[then]?.time ?? end));
    if (next <= start) continue;
    const pieces = next - time < SHORT || !kernel
      ? event === "work" || next - time < SHORT ? [{ from: time, to: next }] : []
      : spans.filter(({ kind }) => kind === "busy");
    for (const piece of pieces) {
      const from = Math.max(piece.from, time), to = Math.min(piece.to, next), last = works.at(-1);
      if (to <= from) continue;
      // A long message is received in many parts.
      if (last?.id === id && from - last.to < 1) last.to = to;
      else works.push({ from, to, id });
    }
  }
  for (const { from, to, id } of works) spans = paint(spans, from, to, "compute", `#${id}`, String(id));
  return { name, spans: clip(spans, start), sends: [], replies: [], total: cpu };
}

/** What a wait says of itself in the log: of what it handed over, and of what came back. */
const HANDED = /(\d+) (bits|entries|submitted)(?= looked at \(| handed over|,)/,
  BACK = /(\d+) (ready|completed|signal)/;
/** The kernel has been told before whom to wait for. */
const NOTHING = /\d registered|^1 signal/;

function callLanes(lines: Line[], start: number, end: number): Calls[] {
  const over: Calls = { name: "hands over", unit: "", stacks: [], spans: [] };
  const back: Calls = { name: "gets back", unit: "", stacks: [], spans: [] };
  let event = "", last = 0, nothing = false;
  for (const { time, detail, ...line } of lines) {
    const times = line.event === event && /^(\d+) more times/.exec(detail)?.[1];
    const found = BACK.exec(detail) ?? (times && ["", times, "signal"]), handed = HANDED.exec(detail);
    if (line.id > 0 || !found || time >= end) continue;
    const [, count, what] = found, at = time - start;
    over.unit = handed ? handed[2] === "submitted" ? "requests" : handed[2] as Calls["unit"] : "";
    back.unit = what === "signal" ? "signals" : what as Calls["unit"];
    nothing ||= NOTHING.test(detail);
    if (times) {
      const sums = ([number, unit]: [string, string]) => [`${times} more: ${number} ${unit}`, `${times} more`];
      if (handed) over.spans = paint(over.spans, last, time, "more", ...sums([handed[1], over.unit]));
      back.spans = paint(back.spans, last, time, "more", ...sums([count, back.unit]));
    } else if (at >= 0) {
      if (handed) over.stacks.push({ at, of: Number(handed[1]), ready: 0 });
      // All of the bits and entries come back, and the program looks for those that are ready.
      const searched = /bits|entries/.test(over.unit) ? handed![1] : count;
      back.stacks.push({ at, of: Number(searched), ready: Number(count) });
    }
    [event, last] = [line.event, time];
  }
  if (nothing) over.spans = paint([], start, end, "more", "nothing: the kernel knows already for whom it waits");
  const seen = [over, back].filter(({ stacks, spans }) => stacks.length + spans.length > 0);
  return back.unit ? seen.map((calls) => ({ ...calls, spans: clip(calls.spans, start) })) : [];
}

/** What the log and the kernel have counted. */
function notes({ lines, tasks, cpu, end }: Recording, connections: Connection[], start: number): string[] {
  const found: string[] = [];
  if (cpu >= 0 && end > 0) {
    found.push(`CPU ${duration(cpu)} in ${duration(end)}: ${(100 * cpu / end).toFixed()} % of a core`);
  }
  if (tasks.length > 0) found.push(tasks.map(shares).join("; "));
  const running = tasks.flatMap(({ runs }) => runs).filter((run) => run.running)
    .reduce((sum, { from, to }) => sum + to - from, 0);
  if (running > 1.5 * cpu + 300) {
    found.push(`ready to run for ${duration(running)}, and ran for ${duration(cpu)}: too few free cores`);
  }
  // A wait, with its figures; above ten a second, several of them in one line.
  const waits = new Map<string, number>();
  for (const { event, detail } of lines.filter(({ time }) => time < end)) {
    const [, times] = /^(?:(\d+) more times:|\d+ (?:ready|submitted)\b)/.exec(detail) ?? [, ""];
    if (times !== "") waits.set(event, (waits.get(event) ?? 0) + Number(times ?? 1));
  }
  for (const [event, times] of waits) found.push(`${event} found something ${times} times`);
  const calls = lines.filter(({ event }) => event === "calls").map(({ detail }) => detail.match(/\d+/g)!.map(Number));
  const sum = (index: number) => calls.reduce((sum, figures) => sum + figures[index], 0);
  if (calls.length > 0) found.push(`${sum(0)} calls made, ${sum(1)} found nothing`);
  const entered = lines.map(({ detail }) => /(\d+) calls so far$/.exec(detail)?.[1]).findLast(Boolean);
  if (entered) found.push(`${entered} system calls made`);
  const told: string[] = [];
  for (const { event, id, detail, thread } of lines.filter(({ time }) => time > start && time < end)) {
    if (event === "error") told.push(`${thread} error ${detail}`);
    if (event === "wait" && id > 0) told.push(`#${id}: ${detail}`);
    if (event === "start" && / in /.test(detail)) told.push(`#${id}: started ${detail}`);
    if (event === "cost") told.push(`#${id}: ${detail}`);
  }
  for (const { id, close } of connections) {
    if (close && close.time > start && close.time < end && !/^(step 7: )?(by the client|after )/.test(close.detail)) {
      told.push(`#${id}: ${close.detail}`);
    }
  }
  const left = told.length - MOST_TOLD;
  return [...found, ...left > 1 ? [`... ${left} more, and`] : [], ...told.slice(left > 1 ? left : 0)];
}

/** How much of a thread's life went into what, such as `main 90 % epoll_wait, 10 % running`. */
function shares({ name, runs }: Task): string {
  const times = new Map<string, number>();
  for (const { from, to, running, call } of runs) {
    const what = running ? "running" : call || "asleep";
    times.set(what, (times.get(what) ?? 0) + to - from);
  }
  const life = [...times.values()].reduce((sum, time) => sum + time, 0);
  const parts = [...times].map(([what, time]) => [what, Math.round(100 * time / life)] as const);
  return `${name} ${
    parts.filter(([, share]) => share > 0).sort((a, b) => b[1] - a[1]).map(([what, share]) => `${share} % ${what}`)
      .join(", ")
  }`;
}

/** Milliseconds in words: `887 ms`, `1.21 s`. */
export function duration(milliseconds: number): string {
  // None is less than a tick of the clock that counts CPU.
  if (milliseconds === 0) return "<10 ms";
  return milliseconds < 999.5 ? `${milliseconds.toFixed()} ms` : `${(milliseconds / 1000).toFixed(2)} s`;
}
