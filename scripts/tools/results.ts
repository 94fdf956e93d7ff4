// SPDX-License-Identifier: MIT
/**
 * What bench.ts measures: the shape of its results, which it prints with `--json` and tests/charts.ts draws.
 *
 * The unit of a figure is in its name: `Us` are microseconds, `MB` megabytes, and `Cores` seconds of CPU per second,
 * so that 1 is one core. A figure is `null` where it was not measured: CPU and memory are known on Linux only.
 */

/** What a server is put under. */
export interface Setting {
  /** Connections that send. */
  connections: number;
  /** 1 if all of these connect at once, 0 if one does after the other, or 64 at a time where they are more than 100. */
  together: number;
  /** Silent connections beside these. */
  idle: number;
  /** Milliseconds of CPU that the server burns per message. */
  workMs: number;
  /** Messages on their way per connection: 1 is ping-pong. */
  inflight: number;
  /** Microseconds that a reply may wait in the load generator for others, to be answered with them; 0 = at once. */
  holdUs: number;
}

/** What the load generator has seen in one slice of a measurement. */
export interface Slice {
  /** Connections that were served, of those that send. */
  served: number;
  /** Those of the slice, with the replies that came after its time. */
  messages: number;
  /** How long it took until the last of them. */
  seconds: number;
  messagesPerSecond: number;
  /** From connect to the first reply, the median of the connections. */
  firstReplyUs: number | null;
  /**
   * From when a message was to be sent to its reply, at this rate: 50, 90, 99, 99.9 % of them took no longer; `null` where
   * there were too few to tell. `lag` is by how much 99 % of them were sent late at most, which no server is to blame for.
   * If some messages are light, it is theirs. It is `null` as a whole if the server could not keep up with the rate.
   */
  latencyUs:
    | { rate: number; p50: number; p90: number | null; p99: number | null; p999: number | null; lag: number }
    | null;
  /** What the load generator made its sockets with: uring, epoll, or runtime. */
  sockets: string;
  /** What the load generator used. */
  generatorCores: number;
}

/** A slice, and what the machine had to do for it. */
export interface Run extends Slice {
  /** What all other programs on this machine used. */
  otherCores: number | null;
  server: {
    cores: number;
    /** How many of its threads could have run but had no core, on average. */
    threadsWaiting: number;
    /** CPU in the program and in the kernel. */
    cpuUsPerMessage: number;
    /** Memory: the most that it used, and how much it grew for each connection. */
    peakMB: number;
    connectionMB: number;
    threads: number;
  } | null;
}

/**
 * The median of some figures and an interval that holds the true median, by order statistics: of a ratio with a certainty
 * of 95 % for all ratios of the experiment together, and no narrower than the medians of the starts are apart. `count` is
 * how many figures there were.
 */
export interface Spread {
  median: number;
  low: number;
  high: number;
  count: number;
}

/** A server under a setting. */
export interface Row {
  model: string;
  /** The runtime, or the language. */
  on: string;
  setting: Setting;
  /** Why it was left out. */
  failure?: string;
  /** How many slices it had. */
  runs: number;
  messagesPerSecond: Spread | null;
  /** The medians of all slices; of those that were served, the fewest. */
  figures: Run | null;
}

/** What servers are compared by. */
export type Measured = "messagesPerSecond" | "cpuUsPerMessage" | "firstReplyUs" | "p90Us";

/** A server and what it is compared with, slice by slice. */
export interface Comparison {
  model: string;
  on: string;
  setting: Setting;
  against: string;
  /** Above 1, the first one has more. */
  ratios: Partial<Record<Measured, Spread>>;
  /** What the ratios show: faster, less CPU, equal, ...; inconclusive if nothing. */
  verdict: string;
}

export interface Experiment {
  name: string;
  rows: Row[];
  comparisons: Comparison[];
  /** How many verdicts chance gives, and what speaks against taking the figures as they are. */
  notes: string[];
}

/** What bench.ts prints with `--json`. */
export interface Results {
  date: string;
  /** The revision of the servers, as git describes it; empty if it can't. */
  revision: string;
  machine: string;
  versions: Record<string, string>;
  /** The runtime of the load generator. */
  generator: string;
  messageBytes: number;
  /** How it was measured, in a sentence: how long, how often, and what an interval is. */
  method: string;
  experiments: Experiment[];
}
