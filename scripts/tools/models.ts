// SPDX-License-Identifier: MIT
/** The servers, in the order of the path in the README. */

/** What a tool has to know of a server. */
interface Model {
  /** Whether it has `--work`. */
  work?: boolean;
  /** It serves one exchange, and has no `--messages`. */
  single?: boolean;
  /** The model in a few words, and what to look at in its lanes. */
  title: string;
  look: string;
  /** Options of its own, with their defaults. */
  own?: string;
}

/** What can be given to `--live`'s box beside a model's own options. */
export function optionsOf(model: string): string {
  const { own, work, single } = models[model];
  return [own, work && "--work 150", !single && "--messages 0", "--idle 300"].filter(Boolean).join(", ");
}

export const models: Record<string, Model> = {
  single: {
    single: true,
    title: "one connection, one exchange",
    look: "The second client is connected and never accepted; after one exchange the server ends.",
  },
  blocking: {
    title: "blocking system calls",
    look: "main sleeps in recv for one client; all others stay in the backlog.",
    own: "--threads 0",
  },
  processes: {
    title: "a process per connection",
    look: "Each process sleeps in read for its own client.",
    own: "--max-processes 16",
  },
  prefork: {
    title: "processes made beforehand",
    look: "Each process sleeps in accept4 on the same socket, then in recv for one client.",
    own: "--processes 3, --pass",
  },
  threads: {
    work: true,
    title: "a thread per connection",
    look: "Each client waits for the start of its thread, and then has it to itself.",
    own: "--max-threads 64",
  },
  pool: {
    work: true,
    title: "a pool of three threads",
    look: "Three threads serve three clients; the fourth waits in line until one of them leaves.",
    own: "--workers 3",
  },
  tasks: {
    work: true,
    title: "a task per connection",
    look: "One thread serves everyone; when it computes for one client, the others wait.",
  },
  nonblocking: {
    title: "non-blocking system calls",
    look: "The thread never sleeps, and nearly all of its calls find nothing.",
  },
  select: {
    title: "select(2)",
    look: "main sleeps in pselect6 for all clients at once; each call copies a bit for every descriptor.",
  },
  poll: {
    title: "poll(2)",
    look: "main sleeps in poll for all clients at once; each call copies a list of them.",
  },
  epoll: {
    title: "epoll(7)",
    look: "main sleeps in epoll_wait; the kernel has the list, and returns only the ready ones.",
    own: "--edge",
  },
  signals: {
    title: "signal-driven I/O",
    look: "main sleeps in rt_sigtimedwait, and takes one signal for each event.",
  },
  uring: {
    title: "io_uring(7)",
    look: "io_uring_enter is the only call: it submits requests, and waits for completions.",
  },
  coroutines: {
    work: true,
    title: "coroutines by hand, over epoll(7)",
    look: "main alone sleeps in epoll_wait; each client has a coroutine, parked until its descriptor is ready.",
  },
  multiplex: {
    work: true,
    title: "I/O multiplexing by the runtime's event loop",
    look: "One loop waits for all clients, and handles the ready ones one after the other.",
  },
  reuseport: {
    work: true,
    title: "an event loop per core",
    look: "Each loop accepts for itself; the kernel chooses one by a hash of the addresses.",
    own: "--workers N",
  },
  reactors: {
    work: true,
    title: "main and sub reactors",
    look: "main only accepts; the loops get the clients in turn.",
    own: "--workers N, --spread round",
  },
  offload: {
    work: true,
    title: "a loop that hands work away",
    look: "Threads compute for any client, and main stays free to serve the others.",
    own: "--workers N, --queue 16",
  },
};
