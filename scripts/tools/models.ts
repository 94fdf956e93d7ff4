// SPDX-License-Identifier: MIT
/** The servers, in the order of the path in the README. */

/** What a tool has to know of a server. */
interface Model {
  /** Whether it has `--work`. */
  work?: boolean;
  /** It serves one exchange, and has no `--messages`. */
  single?: boolean;
}

export const models: Record<string, Model> = {
  single: { single: true },
  blocking: {},
  processes: {},
  prefork: {},
  threads: { work: true },
  pool: { work: true },
  tasks: { work: true },
  nonblocking: {},
  select: {},
  poll: {},
  epoll: {},
  signals: {},
  uring: {},
  coroutines: { work: true },
  multiplex: { work: true },
  reuseport: { work: true },
  reactors: { work: true },
  offload: { work: true },
};
