// SPDX-License-Identifier: MIT
/** The servers, in the order of the path in the README. */

/** What a tool has to know of a server. */
interface Model {
  /** Whether it has `--work`. */
  work?: boolean;
  /** It serves one exchange, and has no `--messages`. */
  single?: boolean;
  /** Options of its own, with their defaults. */
  own?: string;
}

/** What can be given to `--live`'s box beside a model's own options. */
export function optionsOf(model: string): string {
  const { own, work, single } = models[model];
  return [own, work && "--work 150", !single && "--messages 0", "--idle 300"].filter(Boolean).join(", ");
}

export const models: Record<string, Model> = {
  single: { single: true },
  blocking: { own: "--threads 0" },
  processes: { own: "--max-processes 16" },
  prefork: { work: true, own: "--processes 3, --pass" },
  threads: { work: true, own: "--max-threads 64" },
  pool: { work: true, own: "--workers 3" },
  tasks: { work: true },
  nonblocking: {},
  select: {},
  poll: {},
  epoll: { own: "--edge" },
  signals: {},
  uring: {},
  coroutines: { work: true },
  multiplex: { work: true },
  reuseport: { work: true, own: "--workers N" },
  reactors: { work: true, own: "--workers N, --spread round" },
  offload: { work: true, own: "--workers N, --queue 16" },
};
