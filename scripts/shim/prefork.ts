// SPDX-License-Identifier: MIT
/** Processes that are made beforehand, as prefork.ts has them, and the memory that they share with their parent. */

import type { ChildProcess } from "node:child_process";
import { setTimeout as pause } from "node:timers/promises";
import { isatty } from "node:tty";
import { BlockingThread, CLIENT, COUNT, LEAVE, ORDER, type Seat, SEAT_SIZE, TIMEOUT } from "./blocking.ts";
import { memoryOf, monotonic, type Told } from "./child.ts";
import { ChildProcesses, REST } from "./children.ts";
import { fail, log, nextNumber, process, stopping } from "./program.ts";
import { self } from "./runtime.ts";
import * as sys from "./sys.ts";

/** The descriptor by which a child gets the shared memory; its standard input is where its clients come from. */
const BOARD = 3;

interface Child {
  /** Which of the children it is, from 1. */
  readonly place: number;
  readonly pid: number;
  readonly ended: Promise<void>;
  /** With `--pass`: this process's end of the socket pair by which it gets its clients. */
  socket: number;
}

/** The shared memory: the counters of the process, then a seat for each child. Web servers call it the scoreboard. */
function seatOf(board: sys.Memory, place: number): Seat {
  return sys.part(board, SEAT_SIZE * place, SEAT_SIZE).ints;
}

/** The children of a server, each in its place. */
export class Preforked extends ChildProcesses<Child> {
  /** With `--pass`: those that wait for a client, the one that has waited longest first. */
  #free: Child[] = [];
  /** The descriptor of the shared memory. */
  readonly board: number;
  #seats: Seat[];
  #pass: boolean;
  #replaced = Promise.resolve();
  #terminal = isatty(1);

  constructor(script: string, { processes: count, pass }: { processes: number; pass: boolean }) {
    super(script);
    this.#pass = pass;
    try {
      this.board = sys.must(sys.memfd_create(sys.memory(4), sys.MFD_CLOEXEC));
      const size = SEAT_SIZE * (1 + count);
      sys.must(sys.ftruncate(this.board, size));
      const board = sys.mapped(this.board, 0, size);
      self.counters = sys.part(board, 0, 8).ints;
      this.#seats = Array.from({ length: 1 + count }, (_, place) => seatOf(board, place));
    } catch (error) {
      fail("cannot share memory", error);
    }
  }

  /**
   * Starts the child of a place, and waits until it has ended. `spawn` gets the descriptor by which clients come to the
   * child: `listener`, or with `--pass` one end of a socket pair, of which this process keeps the other.
   */
  async run(place: number, listener: number, spawn: (input: number, settings: object) => ChildProcess): Promise<void> {
    const seat = this.#seats[place];
    seat.set([0, -1, 0, -1]);
    let socket = -1;
    const start = (settings: object) => {
      if (!this.#pass) return spawn(listener, settings);
      const [ours, theirs] = sys.socketPair(sys.SOCK_STREAM | sys.SOCK_CLOEXEC);
      socket = ours;
      try {
        sys.limitCalls(theirs, TIMEOUT);
        return spawn(theirs, settings);
      } finally {
        sys.close(theirs);
      }
    };
    const started = this.launch(place, start, (reason) => {
      const id = Atomics.exchange(seat, CLIENT, 0);
      this.children.delete(place);
      this.#free = this.#free.filter((child) => child.place !== place);
      if (socket >= 0) sys.close(socket);
      if (stopping) return;
      if (id > 0) log("close", id, reason);
      log("end", 0, `p-${place}:`, seat[ORDER] === LEAVE && id === 0 ? "it has left" : reason);
    });
    if (started) {
      log("start", 0, `p-${place} process ${started.pid}`);
      this.children.set(place, { place, socket, ...started });
      await started.ended;
    }
    // What fails at once would fail again.
    if (seat[COUNT] < 0 && !stopping) await pause(REST);
  }

  /** Replaces the children one by one: each leaves when it has no client, and the next only when there is another. */
  replaceAll(): Promise<void> {
    return this.#replaced = this.#replaced.then(() => this.#replaceEach());
  }

  async #replaceEach(): Promise<void> {
    for (const child of this.list) {
      const { place, socket, ended } = child, seat = this.#seats[place];
      if (stopping || this.children.get(place) !== child) continue;
      log("replace", 0, `p-${place} process ${child.pid}`);
      Atomics.store(seat, ORDER, LEAVE);
      // It takes what has been passed to it, and then finds the end of the stream.
      if (socket >= 0) sys.shutdown(socket, sys.SHUT_WR);
      this.#free = this.#free.filter((other) => other !== child);
      await ended;
      while (!stopping && (seat[ORDER] === LEAVE || seat[COUNT] < 0)) await pause(20);
    }
  }

  /** Whether a child waits for a client. */
  get isFree(): boolean {
    return this.#free.length > 0;
  }

  /** A child has said that it is free. One that is to leave is no more. */
  release(child: Child): void {
    if (this.#seats[child.place][ORDER] !== LEAVE) this.#free.push(child);
  }

  /** Passes a client to the child that has been free for longest, and closes it here. See SCM_RIGHTS in unix(7). */
  pass(fd: number, peer: sys.SocketAddress): void {
    const child = this.#free.shift()!, id = nextNumber();
    log("accept", id, sys.addressText(peer));
    Atomics.store(this.#seats[child.place], CLIENT, id);
    log("pass", id, `p-${child.place} gets descriptor ${fd}`);
    sys.sendmsg(child.socket, sys.descriptorMessage(id, fd), 0);
    sys.close(fd);
  }

  /** After a failed accept, with what it has returned: says why, and lets a while pass. */
  async rest(failure: number): Promise<void> {
    log("error", 0, "accept:", sys.systemError(failure));
    await pause(REST);
  }

  /** Whether SIGHUP says that the terminal is gone on which the log was. After nohup(1) there was none. */
  get hungUp(): boolean {
    return this.#terminal && !isatty(1);
  }

  /** What each has done, such as `p-1 accepted 12, serves #31`. */
  describe(): string[] {
    return this.list.map(({ place }) => {
      const seat = this.#seats[place], id = seat[CLIENT];
      return `p-${place} accepted ${Math.max(seat[COUNT], 0)}${id > 0 ? `, serves #${id}` : ""}`;
    });
  }

  protected takeClient({ place }: Child): number {
    return Atomics.exchange(this.#seats[place], CLIENT, 0);
  }
}

/** In a child: takes the seat that it was started for. When the parent has ended, even killed, it is killed, too. */
export function joinPreforked(told: Told, options: { processes: number }): BlockingThread {
  sys.must(sys.prctl(sys.PR_SET_PDEATHSIG, sys.SIGKILL));
  if (process.ppid !== told.parent) process.exit();
  const board = sys.mapped(BOARD, 0, SEAT_SIZE * (1 + options.processes));
  self.counters = sys.part(board, 0, 8).ints;
  log("ready", 0, `${(monotonic() - told.since).toFixed(1)} ms after its start; memory: ${memoryOf(process.pid)}`);
  return new BlockingThread({ listener: 0, seat: seatOf(board, told.id), parent: told.parent });
}
