// SPDX-License-Identifier: MIT
/**
 * The shim: BSD socket names over each runtime's own TCP API. Read the file for your runtime, and socket.ts.
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
import { open } from "./connections.ts";
import * as deno from "./deno.ts";
import { cannotListen } from "./end.ts";
import { formatAddress, list, logStep, ready } from "./log.ts";
import * as node from "./node.ts";
import { runtime } from "./runtime.ts";
import { type Adapter, type Address, Connection, type Server } from "./socket.ts";

export type { Connection, Server } from "./socket.ts";

const adapters: Record<typeof runtime, Adapter> = { deno, bun, node };

/** Binds and listens: socket(2), bind(2) and listen(2). Throws what the system says, such as EADDRINUSE. */
export const { bind } = adapters[runtime];

/** As `bind`, for several sockets that share a port: see SO_REUSEPORT in socket(7). */
export const bindReusePort = (address: Address): Promise<Server> => bind(address, true);

/** Connects to a server: socket(2), connect(2). Throws if none listens there (ECONNREFUSED). Nothing is logged. */
export async function connect(address: Address): Promise<Connection> {
  const connection = await adapters[runtime].connect(address);
  connection.logs = false;
  return connection;
}

/** The first three of the eight steps, and the line that says so. Ends the process with one line if that can't be. */
export async function listen(options: Address): Promise<Server> {
  const server = await bind(options).catch(cannotListen);
  logStep("create", "a socket");
  logStep("bind", formatAddress(options.host, server.port));
  ready(options.host, server.port);
  return server;
}

/** What each connection of this thread waits for, such as `#1 awaits recv`. */
export function waiting(): string[] {
  const connections = [...open].filter((one) => one instanceof Connection);
  return [list(connections.map(({ id, onWritable }) => `#${id} awaits ${onWritable ? "send" : "recv"}`))];
}
