// SPDX-License-Identifier: MIT
/** The READMEs: what they link to, name, quote and tell to run is there, and both say the same. */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import * as path from "node:path";
import type { Results, Spread } from "../scripts/tools/results.ts";
import { assert, assertEquals } from "./assert.ts";
import { check, Client, project, run, type Runtime, runtimes, serve } from "./harness.ts";

/** What there is in each language: the page to read, and the one to look things up in. */
const editions = [["README.md", ".github/reference.md"], [".github/README.zh-CN.md", ".github/reference.zh-CN.md"]];
/** The pages beside them. */
const results = ".github/bench/README.md";
const others = [results, ".github/models/README.md", "tests/README.md", "tests/exercises/README.md"];
const read = (file: string) => readFileSync(path.join(project, file), "utf8").replaceAll("\r", "");

/** All that a pattern finds, by its first group, each once. */
function all(text: string, pattern: RegExp): string[] {
  return [...new Set([...text.matchAll(pattern)].map((match) => match[1]))];
}

/** The rows of all tables, with their cells. */
function rowsOf(text: string): string[][] {
  return text.split("\n").filter((line) => line.startsWith("|")).map((line) =>
    line.split("|").slice(1, -1).map((cell) => cell.trim())
  );
}

/** The items of the path: the server, and what is said of it. */
function pathOf(text: string): [string, string][] {
  return text.split(/^(?=\d+\. \[`\w+\.ts`\])/m).slice(1).map((item) => [
    /`(\w+)\.ts`/.exec(item)![1],
    item.split(/\n\n/)[0],
  ]);
}

/** What is in fences. */
function fencesOf(text: string, language = "\\w+"): string[] {
  return all(text, new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\`$`, "gm"));
}

/** The options that a script's `--help` lists, with their defaults. */
async function optionsOf(runtime: Runtime, script: string): Promise<Map<string, string>> {
  const { code, output } = await run(runtime, `${script}.ts`, ["--help"]);
  assertEquals([script, code], [script, 0]);
  const found = output.map((line) => /^ {2}--([a-z-]+) {1,}(?:(\S+) )?/.exec(line)).filter((match) => match !== null);
  return new Map(found.map(([line, name, value]) => [name, line.length < 22 ? value ?? "" : ""]));
}

const texts = editions.map((pages) => pages.map(read).join("\n")), [first] = runtimes;

check("README: without the folded answers, each edition has 200 lines or fewer", () => {
  for (const [file] of editions) {
    const unfolded = read(file).replace(/\n\n *<details>[^]*?<\/details>\n/g, "").trimEnd().split("\n");
    assert(unfolded.length <= 200, `${file}: ${unfolded.length} lines`);
  }
});

check("README: every relative link and picture is there", () => {
  for (const file of [...editions.flat(), ...others]) {
    const links = all(read(file), /\]\(([^)#\s]+)[^)]*\)/g).filter((link) => !/^https?:/.test(link));
    assert(links.length > 1, file);
    const missing = links.filter((link) => !existsSync(path.join(project, path.dirname(file), link)));
    assertEquals([file, missing], [file, []]);
  }
});

check("README: both editions have the same scripts, options, commands, transcripts and figures", () => {
  const facts = texts.map((text) => ({
    path: pathOf(text).map(([script]) => script),
    scripts: all(text, /`(\w+)(?:\.ts)?`/g).sort(),
    perItem: pathOf(text).map(([script, item]) => [script, ...all(item, /`(--[^`]+)`/g).sort()]),
    options: all(text, /(--[a-z][a-z-]*)/g).sort(),
    tables: rowsOf(text).map((row) => row.length),
    fences: fencesOf(text),
    figures: [...text.matchAll(/[\d.]+\s+\([\d.]+–[\d.]+\)/g)].map(([figure]) => figure.replace(/\s+/, " ")).sort(),
    sections: [...text.matchAll(/^#+ /gm)].length,
    addresses: all(text, /\]\((https?:[^)]+)\)/g),
  }));
  assertEquals(facts[1], facts[0]);
});

if (first) {
  check("README: the path has every server, and the tables and the path have their options and defaults", async () => {
    const scripts = readdirSync(path.join(project, "scripts")).filter((name) => name.endsWith(".ts"));
    const known = new Map<string, Map<string, string>>();
    for (const name of scripts) {
      const script = name.replace(".ts", ""), options = await optionsOf(first, script);
      if (options.has("idle") && options.has("port")) known.set(script, options);
    }
    const servers = [...known.keys()].sort(),
      having = (option: string) => servers.filter((script) => known.get(script)!.has(option));
    const offered = [...known.values(), await optionsOf(first, "client")];
    const options = [...new Set(offered.flatMap((own) => [...own.keys()]))];
    for (const [i, text] of texts.entries()) {
      const edition = editions[i][0], rows = rowsOf(text);
      assertEquals([edition, pathOf(text).map(([script]) => script).sort()], [edition, servers]);
      for (const [script, item] of pathOf(text)) {
        // What a client is given has its own test: path.test.ts runs it.
        const own = item.replace(/`bun scripts\/client\.ts[^`]*`/g, "");
        const wrong = all(own, /--([a-z-]+)/g).filter((option) => !known.get(script)!.has(option));
        assertEquals([edition, script, wrong], [edition, script, []]);
      }
      const told = rows.filter(([name]) => name.startsWith("`--"));
      const names = told.map(([name]) => /--([a-z-]+)/.exec(name)![1]);
      assertEquals([edition, names.sort()], [edition, options.filter((option) => option !== "help").sort()]);
      for (const [name, value, meaning] of told) {
        const option = /--([a-z-]+)/.exec(name)![1], literal = /^`(.*)`$/.exec(value)?.[1];
        for (const script of having(option)) {
          const real = known.get(script)!.get(option);
          if (literal !== undefined) assertEquals([edition, script, option, literal], [edition, script, option, real]);
        }
        // Where a row names scripts, it names all that have the option.
        const named = servers.filter((script) => new RegExp(`\\b${script}\\b(?=\\.ts|[,、)）])`).test(meaning));
        if (named.length > 0) assertEquals([edition, option, named], [edition, option, having(option)]);
      }
      // What each script needs to run.
      const needs = rows.filter((row) => row.length === 6).flatMap(([cell]) => all(cell, /`(\w+)`/g));
      assertEquals([edition, needs.sort()], [edition, [...servers, "client"].sort()]);
    }
  });

  check("README: the page of results is what results.ts prints", async () => {
    const { code, output, errors } = await run(first, "../tests/results.ts", []);
    assertEquals([code, errors], [0, ""]);
    const page = read(results).trimEnd().split("\n"), at = page.findIndex((line, i) => line !== output[i]);
    assertEquals([page[at], page.length], [output[at], output.join("\n").trimEnd().split("\n").length]);
  });
}

check("README: every figure is in the results", () => {
  const folder = path.join(project, ".github/bench"), spreads: Spread[] = [];
  for (const file of readdirSync(folder).filter((name) => name.endsWith(".json"))) {
    const { experiments }: Results = JSON.parse(readFileSync(path.join(folder, file), "utf8"));
    spreads.push(
      ...experiments.flatMap(({ comparisons }) => comparisons.flatMap(({ ratios }) => Object.values(ratios))),
    );
  }
  for (const text of texts) {
    const figures = [...text.matchAll(/([\d.]+)\s+\(([\d.]+)–([\d.]+)\)/g)];
    assert(figures.length > 5);
    const is = (shown: string, value: number) => value.toFixed(shown.split(".")[1]?.length ?? 0) === shown;
    const unknown = figures.filter(([, median, low, high]) =>
      !spreads.some((spread) => is(median, spread.median) && is(low, spread.low) && is(high, spread.high))
    );
    assertEquals(unknown.map(([figure]) => figure), []);
  }
});

check("README: the pages show every picture, and each picture is made for a dark page, too", () => {
  const pages: [string, string][] = [[".github", texts.join()], [".github/models", read(".github/models/README.md")]];
  for (const [folder, page] of pages) {
    for (const file of readdirSync(path.join(project, folder)).filter((name) => name.endsWith(".svg"))) {
      const picture = read(path.join(folder, file)), [root] = /<svg[^>]*>/.exec(picture)!;
      assertEquals([file, page.includes(file) || read(results).includes(file)], [file, true]);
      assertEquals([file, /prefers-color-scheme: ?dark/.test(picture), /style="[^"]*color:/.test(root)], [
        file,
        true,
        false,
      ]);
    }
  }
});

check("README: the gallery has the models in the order of the path, each with a caption in both languages", () => {
  const sections = read(".github/models/README.md").split(/^## /m).slice(1);
  const shown = sections.filter((section) => /\n\nLook at [^]*\n\n看/.test(section)).map((section) =>
    /\w+/.exec(section)![0]
  );
  assertEquals(shown, pathOf(texts[0]).map(([script]) => script));
});

/** Times and ports differ from run to run. */
function mask(lines: string[]): string[] {
  return lines.map((line) => line.replace(/^ *[\d.]+ /, "TIME ").replace(/(127\.0\.0\.1):\d+/g, "$1:PORT"));
}

for (const transcript of new Set(texts.flatMap((text) => fencesOf(text, "console")))) {
  const [command, ...printed] = transcript.trimEnd().split("\n");
  const [, name, script, given] = /^\$ (deno|bun|node)(?: run -A)? scripts\/(\w+\.ts)(.*)$/.exec(command) ?? [];
  const runtime = runtimes.find((runtime) => runtime.name === name), args = (given ?? "").split(" ").filter(Boolean);
  if (script && !runtime) continue;

  check(`README: ${command} prints what it shows`, async () => {
    assert(runtime, "no command that this test understands");
    if (script === "client.ts") {
      await serve(runtime, "tasks.ts", [], async ({ port }) => {
        const { output } = await run(runtime, script, ["--port", String(port), ...args]);
        assertEquals(mask(output), mask(printed));
      });
    } else {
      await serve(runtime, script, args, async (server) => {
        const client = await Client.connect(server.port);
        assert(await client.echo("hello"));
        client.close();
        await server.line(/ close #1/);
        assertEquals(mask(server.output), mask(printed));
      });
    }
  });
}

check("README: every command still knows its script, its options and its task", async () => {
  const commands = texts.flatMap((text) => all(text, /((?:deno run -A|bun|node) scripts\/\w+\.ts[^\n`>)]*)/g));
  for (const command of new Set(commands)) {
    const [, name, script, rest] = /^(\w+).* scripts\/(\w+\.ts)(.*)$/.exec(command)!;
    const runtime = runtimes.find((runtime) => runtime.name === name);
    if (!runtime) continue;
    // What follows `--` is for another script.
    const { code, errors } = await run(runtime, script, [
      "--help",
      ...rest.split(" -- ")[0].split(" ").filter(Boolean),
    ]);
    assertEquals([command, code, errors], [command, 0, ""]);
  }
  const { tasks } = JSON.parse(read("deno.json"));
  for (const task of [...texts, ...others.map(read)].flatMap((text) => all(text, /deno task ([\w:]+)/g))) {
    assert(task in tasks, `deno task ${task}`);
  }
});
