// SPDX-License-Identifier: MIT
/**
 * Runs a server, sends it a few clients, and draws what happened: a lane for each client, and one for each thread.
 *
 * The clients come one after the other. One of them is slow, one says nothing, the others are quick. What a client
 * waits for is known from its own clock and from the server's log. What a thread does the kernel is asked, on Linux:
 * every few milliseconds, whether it runs, and if not, in which call it sleeps. Elsewhere the log has to do, and the
 * picture says so.
 *
 *   deno run -A scripts/timeline.ts pool multiplex         or: bun …, node …
 *   deno run -A scripts/timeline.ts blocking -- --threads 3
 *   deno run -A scripts/timeline.ts --svg epoll.svg epoll
 *   deno run -A scripts/timeline.ts --live 8080 pool       a page on which you are the clients
 */

import { existsSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { isatty } from "node:tty";
import { fileURLToPath } from "node:url";
import { requirePermissions } from "./tools/children.ts";
import { draw, type Picture } from "./tools/lanes.ts";
import { live } from "./tools/live.ts";
import { drawSvg, drawText } from "./tools/picture.ts";
import { fail, parseOptions, printAll, process, runtime, usageError } from "./shim/program.ts";
import { models } from "./tools/models.ts";
import { record } from "./tools/record.ts";
import { findRuntime } from "./tools/runtimes.ts";

requirePermissions();
const folder = dirname(fileURLToPath(import.meta.url));
const names = Object.keys(models);

// What follows `--` is for the models.
const own = process.argv.indexOf("--") < 0 ? [] : process.argv.splice(process.argv.indexOf("--")).slice(1);
const options = parseOptions(
  `Runs servers with a few clients each, and draws who waits for what, for how long. The models: ${names.join(", ")}.`,
  "deno run -A scripts/timeline.ts pool tasks",
  {
    clients: [5, "the second is slow, the third silent, the others quick", 1, 20],
    messages: [3, "messages of each client", 1, 20],
    work: [150, "milliseconds of CPU per message, for models that compute", 0, 10_000],
    runtime: [runtime as string, "deno, bun or node: what the servers run on"],
    svg: ["", "file for a picture; if it is a folder, it gets one of each model, all on one time scale"],
    json: [false, "print the lanes as JSON"],
    live: ["", "port, 0 = a free one: serves a page with buttons for clients, on which the lanes grow"],
  },
  "[MODEL ...] [-- OPTION ...]",
);

for (const model of options.operands) {
  if (!names.includes(model)) usageError(`unknown model "${model}"; known are ${names.join(", ")}`);
}
const useless = own.find((option) => /^--(host|quiet)(=|$)/.test(option));
if (useless && !options.live) usageError(`-- ${useless}: a picture is made from the log of a server on 127.0.0.1`);
if (!["deno", "bun", "node"].includes(options.runtime)) {
  usageError(`unknown runtime "${options.runtime}"; known are deno, bun, node`);
}
const found = options.runtime === runtime ? { program: process.execPath } : findRuntime(options.runtime);
if (typeof found === "string") fail(`cannot run servers on ${options.runtime}`, found);
const command = [found.program, ...options.runtime === "deno" ? ["run", "-A"] : []];
if (options.svg && !existsSync(dirname(options.svg))) fail(`cannot write ${options.svg}`, "there is no such folder");
if (options.live) {
  if (!/^\d+$/.test(options.live) || Number(options.live) > 65_535) {
    usageError(`--live ${options.live}: not a whole number from 0 to 65535`);
  }
  if (options.operands.length > 2) usageError("--live shows two models at most");
  if (options.svg || options.json) usageError("--live shows its page, and writes neither --svg nor --json");
  const chosen = options.operands.length > 0 ? options.operands : ["pool"];
  await live(folder, names, chosen, Number(options.live), { ...options, command, options: own });
}

if (options.svg && options.json) usageError("--svg and --json: one of them");

const pictures: Picture[] = [];
for (const model of options.operands.length > 0 ? options.operands : names) {
  process.stderr.write(`running ${model} on ${options.runtime}\n`);
  pictures.push(draw(await record(folder, model, { ...options, command, options: own })));
}

if (options.json) {
  await printAll(JSON.stringify(pictures) + "\n");
} else if (options.svg) {
  try {
    writePictures();
  } catch (error) {
    fail(`cannot write ${options.svg}`, error);
  }
} else {
  const terminal = isatty(1), columns = Math.floor(Number(process.env.COLUMNS));
  const width = terminal && process.stdout.columns || Math.min(columns || 80, 1000);
  const text = drawText(pictures, width, terminal && !process.env.NO_COLOR);
  await printAll(text);
}
process.exit(pictures.some(({ clients }) => clients.length > 0) ? 0 : 1);

function writePictures(): void {
  if (!existsSync(options.svg) || !statSync(options.svg).isDirectory()) {
    return writeFileSync(options.svg, drawSvg(pictures));
  }
  const end = Math.max(...pictures.map(({ end }) => end));
  for (const picture of pictures) {
    // One that can't run here keeps the picture that another machine has made.
    if (picture.clients.length > 0) {
      writeFileSync(join(options.svg, `${picture.model}.svg`), drawSvg([picture], end));
    }
  }
}
