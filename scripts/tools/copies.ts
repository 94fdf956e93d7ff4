// SPDX-License-Identifier: MIT
/**
 * Makes the copies of the scripts for articles: `deno task copies`, or with a FOLDER that is not .github/copies behind.
 *
 * A copy is the lesson's text, and below it what the lesson imports: hand-written in copy/, for one runtime where the
 * runtimes differ, and much simpler than in shim/. All rules are about text:
 *
 * - Of a file those declarations are taken that are used, of a class those members, of a list those constants.
 * - A statement of the lesson that uses what copy/ does not have is left out, with the comment before it.
 * - `options.port` becomes a constant, PORT; and where there is a limit of messages, the endless loop counts.
 * - A line that ends in `// tag: NAME` is there if the copy has the tag, and with the tag `First` what is named
 *   `closeFirst` takes the place of `close`.
 */

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const tools = path.dirname(fileURLToPath(import.meta.url)), scripts = path.dirname(tools);

/** How each runtime runs a file. */
export const commands: Record<string, string> = { deno: "deno run -A", bun: "bun", node: "node" };

/** All copies: the script, and the name of the copy. */
export const copies = ["tasks"];

/** What a file declares at its top level, each with its comment, by name; and where the names that it imports are. */
interface Source {
  blocks: Map<string, string>;
  imports: Map<string, { from: string; as: string }>;
}

/** The text without comments, which say nothing about what is used. */
const codeOf = (text: string) => text.replace(/\/\*\*[^]*?\*\/|(?<!:)\/\/ .*/g, "");
const uses = (code: string, name: string) => new RegExp(`(?<![.#\\w])${name}\\b`).test(code);

/** Takes a text apart. What it declares under no name, the calls at its end, has the name "". */
function parse(text: string): Source {
  const imports: Source["imports"] = new Map(), blocks: Source["blocks"] = new Map();
  text = text.replace(/^import (type )?([^;]*?) from "(.*)";\n/gm, (_, type = "", names, from) => {
    for (const as of names.replace(/[{}]/g, "").split(",").map((name: string) => name.trim()).filter(Boolean)) {
      imports.set(as.split(" ").at(-1), { from, as: type + as });
    }
    return "";
  });
  text = text.replace(/^\/\/ SPDX.*\n(\/\*\*[^]*?\*\/\n)?|^\/\/ -{8}.*\n|^export /gm, "");
  // A declaration begins at the left, and ends where the next one or its comment does.
  for (const block of text.trim().split(/(?<=[;}])\n+(?=[^\s}])/)) {
    const [, name = ""] = /^(?:async |abstract )?(?:function\*?|class|interface|type|const|let) (\w+)/m.exec(block) ??
      [];
    blocks.set(name, name === "" && blocks.has("") ? `${blocks.get("")}\n${block}` : block);
  }
  return { blocks, imports };
}

/** Makes one copy. */
export function copy(script: string, runtime: string): string {
  const source = readFileSync(path.join(scripts, `${script}.ts`), "utf8"), files = new Map<string, Source>();
  const has = (word: RegExp) => word.test(codeOf(source));
  const limited = has(/messages: \[[1-9]/), layered = has(/\/(thread|selector)\.ts/);
  const tags = [!layered && "logs", (limited || script === "single") && "First", has(/isMainThread/) && "Thread"];

  /** The hand-written file for what the lessons import from `shim/`, if there is one. */
  function load(from: string): Source | undefined {
    const name = path.basename(from).replace(
      "shim.ts",
      `${has(/ReusePort/) && runtime === "deno" ? "node" : runtime}.ts`,
    )
      .replace("ffi.ts", `ffi_${runtime}.ts`);
    const file = path.join(tools, "copy", name);
    if (!files.has(name) && existsSync(file)) files.set(name, parse(direct(tagged(readFileSync(file, "utf8")))));
    return files.get(name);
  }

  function tagged(text: string): string {
    text = text.replace(/^(.*?) *\/\/ tag: (\w+)\n/gm, (_, line, tag) => tags.includes(tag) ? `${line}\n` : "");
    for (const [, name, tag] of text.matchAll(/\b(\w+)(First|Thread)\(.*\{$/gm)) {
      const [wanted, other] = tags.includes(tag) ? [name + tag, name] : [name, name + tag];
      text = text.replace(new RegExp(`\\b${other}\\((?=.*\\{$)`, "m"), "unused(").replace(`${wanted}(`, `${name}(`);
    }
    return text;
  }

  /** Where there is one thread, nothing has to be said but what happens. */
  function direct(text: string): string {
    if (tags.includes("Thread")) return text;
    return text.replace(/\blog\("(\w+)", ([\w.]+)(.*)\);/g, (_, event, id, rest) => {
      const what = id === "0" ? `"${event}"` : `\`${event} #\${${id}}\``;
      return `console.log(${what}${rest});`;
    });
  }

  const constants = new Map([["HOST", '"127.0.0.1"'], ["PORT", "9999"]]);
  for (const [, name, value] of source.matchAll(/^ +"?([\w-]+)"?: \[(.+?), /gm)) constants.set(constant(name), value);

  const { blocks, imports } = parse(direct(source));
  for (const name of ["options"]) blocks.delete(name);
  let lesson = [...blocks].filter(([name]) => name !== "").map(([, text]) => text).join("\n\n");
  const end = blocks.get("")!.replace("sys.requireSystemCalls();\n", "");
  lesson = lesson.replace(/\((options)\b/g, "(HOST, PORT");
  if (limited) lesson = lesson.replace(/for \(;;\) \{(?=\n.*recv)/, "for (let i = 0; i < options.messages; i++) {");
  for (const [name, { from }] of imports) {
    if (from.startsWith(".") && !load(from)?.blocks.has(name)) lesson = without(lesson, name);
  }
  lesson = lesson.replace(/\boptions\.(\w+)|\boptions\["(.*?)"\]/g, (_, a, b) => constant(a ?? b));

  // What is used, and what that uses.
  const taken = new Map<string, string>(), outside = new Map<string, string>();
  const take = (code: string, { imports, blocks }: Source) => {
    for (const [name, { from, as }] of imports) {
      if (!uses(code, name)) continue;
      const file = from.startsWith(".") ? load(from) : undefined;
      if (!from.startsWith(".")) outside.set(as, from);
      else if (!file?.blocks.has(name)) throw new Error(`${script}: copy/ has no ${name} of ${from}`);
      else add(name, file);
    }
    for (const name of blocks.keys()) if (name && uses(code, name)) add(name, { imports, blocks });
  };
  const add = (name: string, file: Source) => {
    if (taken.has(name)) return;
    taken.set(name, file.blocks.get(name)!);
    take(codeOf(file.blocks.get(name)!), file);
  };
  take(codeOf(lesson + end), { imports, blocks: new Map() });
  // What all use comes last.
  const inOrder = [...files].sort(([a], [b]) => Number(a === "program.ts") - Number(b === "program.ts"));
  const pieces = trim(
    inOrder.flatMap(([, { blocks }]) => [...blocks])
      .filter(([name]) => taken.has(name)).map(([, text]) => text),
    lesson + end,
  );
  for (const [name, { from }] of imports) {
    const block = load(from)?.blocks.get(name);
    if (block && /^function/m.test(block)) lesson = lesson.replaceAll(`await ${name}(`, `${name}(`);
  }
  // The lesson comes first, unless it has something at its top level that needs what else there is.
  const needs = [...blocks].some(([name, text]) =>
    /^const/m.test(text) && /\w\(|\bnew /.test(codeOf(text)) && name !== ""
  );
  const line = `// ${"-".repeat(60)}`, rest = [`${line} what it stands on`, ...pieces];
  const body = needs ? [...rest, `${line} the server`, lesson, end] : [lesson, ...rest, end];
  const code = codeOf(body.join("\n\n"));
  const rows = [...constants].filter(([name]) => uses(code, name)).map(([name, value]) => `const ${name} = ${value};`);
  return [header(source, script, runtime), importsOf(outside, code), rows.join("\n"), ...body].join("\n\n") + "\n";
}

function constant(option: string): string {
  return option.toUpperCase().replaceAll("-", "_");
}

/** Leaves out the statements in which a name is used, and the comments right before them. */
function without(text: string, name: string): string {
  const statement = new RegExp(
    `^(?: *// .*\\n)*( *)(?!// )\\S?.*(?<![.\\w])${name}\\b(?:.*;\\n|[^]*?\\n\\1\\S.*;\\n)`,
    "m",
  );
  while (uses(codeOf(text), name)) {
    const rest = text.replace(statement, "");
    if (rest === text) throw new Error(`"${name}" is used where no statement can be left out:\n${text}`);
    text = rest;
  }
  return text;
}

/** Leaves out the methods of classes that nothing calls; empty lines are around each. */
function trim(pieces: string[], lesson: string): string[] {
  for (let before = ""; before !== pieces.join();) {
    before = pieces.join();
    const code = codeOf([lesson, ...pieces].join("\n"));
    pieces = pieces.map((piece) => {
      if (!/^class /m.test(piece)) return piece;
      // Several classes have a `close`.
      const owner = /^class Server/m.test(piece) ? "(server|this)" : "";
      const members = piece.replace(/\n\}$/, "").split(/\n\n(?= {2}\S)/).filter((member) => {
        const [, name] = /^ {2}(?:async |get )?(#?\w+)\(/m.exec(member) ?? [];
        return !name || name === "constructor" || new RegExp(`${owner}\\.${name}\\b`).test(code);
      });
      return `${members.join("\n\n")}\n}`;
    });
  }
  return pieces;
}

function importsOf(outside: Map<string, string>, code: string): string {
  const lines = new Map<string, string[]>();
  for (const [as, from] of [...outside].sort()) {
    const name = as.split(" ").at(-1)!;
    if (uses(code, name)) lines.set(from, [...lines.get(from) ?? [], as]);
  }
  return [...lines].sort().map(([from, names]) =>
    `import ${/^\* |^process$/.test(names[0]) ? names[0] : `{ ${names.join(", ")} }`} from "${from}";\n`
  ).join("");
}

/** The name under which a copy is run. */
export function fileOf(name: string, runtime: string): string {
  return `${name}.${runtime === "node" ? "mts" : "ts"}`;
}

/** The first paragraph of the script's header, and how to run it. */
function header(source: string, script: string, runtime: string): string {
  const [, comment] = /\/\*\*([^]*?) \*\//.exec(source)!;
  const [first, ...others] = comment.replace(/^ \* ?/gm, "").trim().split("\n\n");
  const start = /^ *deno run -A scripts\/\w+\.ts/, run = `${commands[runtime]} ${fileOf(script, runtime)}`;
  const rows = others.find((text) => start.test(text))!.split("\n")
    .map((line) => line.replace(start, run).replace(/ +or: .*/, "").trim().split(/ {2,}/));
  const width = Math.max(...rows.map(([line]) => line.length)) + 3;
  return [
    "// SPDX-License-Identifier: MIT\n/**",
    ...first.replace(/\s+/g, " ").match(/\S.{0,75}(?=\s|$)/g)!.map((line) => ` * ${line}`),
    " *",
    ...rows.map(([line, note]) => ` *   ${note ? line.padEnd(width) + note : line}`),
    " */",
  ].join("\n");
}

/** Writes all copies into a folder. */
function main(folder: string): void {
  for (const runtime of Object.keys(commands)) {
    mkdirSync(path.join(folder, runtime), { recursive: true });
    for (const script of copies) {
      writeFileSync(path.join(folder, runtime, fileOf(script, runtime)), copy(script, runtime));
    }
  }
  spawnSync("deno", ["fmt", "--no-config", folder], { stdio: "inherit" });
}

main(process.argv[2] ?? path.join(scripts, "../.github/copies"));
