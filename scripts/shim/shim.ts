// SPDX-License-Identifier: MIT
/**
 * The shim: BSD socket names over each runtime's own TCP API. Read the file for your runtime; bun.ts and node.ts share
 * stream.ts.
 *
 * | step    | deno.ts             | bun.ts                    | node.ts              |
 * | ------- | ------------------- | ------------------------- | -------------------- |
 * | listen  | `Deno.listen`       | `Bun.listen`              | `net.createServer`   |
 * | accept  | `listener.accept()` | the `open` callback       | `"connection"` event |
 * | recv    | `conn.read()`       | the `data` callback       | `"data"` event       |
 * | send    | `conn.write()`      | `socket.write()`, `drain` | `socket.write()`     |
 * | connect | `Deno.connect`      | `Bun.connect`             | `net.connect`        |
 */

import * as bun from "./bun.ts";
import * as deno from "./deno.ts";
import * as node from "./node.ts";
import { runtime } from "./program.ts";
import type { Adapter } from "./socket.ts";

export type { Server, Socket as Connection } from "./socket.ts";

const adapters: Record<typeof runtime, Adapter> = { deno, bun, node };

/** See `Adapter` in socket.ts. */
export const { listen, listenReusePort, connect } = adapters[runtime];
