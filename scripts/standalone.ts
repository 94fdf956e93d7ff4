// SPDX-License-Identifier: MIT
/**
 * Prints the copy of a script for an article: one of .github/copies, with the port and the other constants that are
 * asked for. `--split` puts what the lesson stands on into a file of its own.
 *
 *   deno run -A scripts/standalone.ts tasks         or: bun scripts/standalone.ts …   or: node scripts/standalone.ts …
 *   deno run -A scripts/standalone.ts tasks --runtime bun --output echo.ts -- --port 8080
 *   deno run -A scripts/standalone.ts pool --split threads.ts
 */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { fail, parseOptions, printAll, process, runtime as own, usageError } from "./shim/program.ts";

const options = parseOptions(
  "Prints a script as one file for an article about one runtime, with constants instead of options.",
  "deno run -A scripts/standalone.ts tasks --runtime node -- --port 8080",
  {
    runtime: [own as string, "deno, bun or node"],
    output: ["", "file to write; standard output unless given"],
    split: ["", "file for what the script stands on; the script alone is printed, and imports it"],
  },
  "SCRIPT [-- OPTION ...]",
);

const { runtime, output, split } = options;
const given = process.argv.includes("--") ? process.argv.slice(process.argv.indexOf("--") + 1) : [];
const [script = "", ...more] = options.operands.slice(0, options.operands.length - given.length);
if (more.length > 0) usageError(`one script at a time, not also "${more[0]}"; options for it stand behind --`);
if (split && resolve(split) === resolve(output)) usageError("--split and --output name the same file");
if (/["'\\#?%]/.test(split)) usageError(`--split ${split}: an import can't name a file with one of " ' \\ # ? %`);
const folder = join(dirname(fileURLToPath(import.meta.url)), "../.github/copies"), known = list(folder);
if (!known.includes(runtime)) usageError(`unknown runtime "${runtime}"; known are ${known.join(", ")}`);
const files = list(join(folder, runtime)), names = files.map((file) => file.replace(/\.m?ts$/, ""));

const name = basename(script, ".ts"), file = files[names.indexOf(name)];
if (!file) usageError(`unknown script "${script}"; known are ${names.join(", ")}`);
const text = constants(readFileSync(join(folder, runtime, file), "utf8"), given)
  .replaceAll(file, basename(output || file));
const [lesson, rest] = split ? apart(text) : [text, ""];
try {
  if (split) writeFileSync(split, rest);
  if (output) writeFileSync(output, lesson);
} catch (error) {
  fail(`cannot write ${[output, split].filter(Boolean).join(" or ")}`, error);
}
if (!output) await printAll(lesson);

function list(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch (error) {
    return fail("cannot find the copies", error);
  }
}

/** Gives constants the values that options have in a command line. */
function constants(text: string, args: string[]): string {
  const [table] = /(^const [A-Z_]+ = .*;\n)+/m.exec(text)!, rows = [...table.matchAll(/const ([A-Z_]+) = (.*);/g)];
  const names = rows.map(([, name]) => name.toLowerCase().replaceAll("_", "-"));
  let values: Record<string, string | undefined>;
  try {
    const rows = names.map((name) => [name, { type: "string" as const }]);
    values = parseArgs({ args, options: Object.fromEntries(rows) }).values as typeof values;
  } catch (error) {
    const [complaint] = (error as Error).message.split(/\. |\n/);
    return usageError(`for ${name}: ${complaint}; there are ${names.map((name) => `--${name}`).join(", ")}`);
  }
  for (const [i, [row, constant, before]] of rows.entries()) {
    const value = values[names[i]];
    if (value === undefined) continue;
    const isText = before.startsWith('"');
    if (!isText && !/^(0|[1-9]\d*)$/.test(value)) usageError(`for ${name}: --${names[i]} ${value}: not a whole number`);
    if (constant === "PORT" && Number(value) > 65_535) usageError(`for ${name}: --port ${value}: more than 65535`);
    if (/^(MAX_|PROCESSES|WORKERS)/.test(constant) && value === "0") {
      usageError(`for ${name}: --${names[i]} 0: not a whole number from 1`);
    }
    const after = isText ? JSON.stringify(value) : value;
    text = text.replace(row, () => `const ${constant} = ${after};`);
    if (constant === "PORT") text = text.replace(/^( \* .* )9999\b/gm, (_, words) => words + value);
  }
  return text;
}

/** The lesson, which imports what it stands on, and that as another file. */
function apart(text: string): [lesson: string, rest: string] {
  const [head, first, second = ""] = text.split(/^\/\/ -{9}.*\n\n/m);
  // Where the lesson comes first, what starts it stands at the end.
  const at = second ? first.length : first.lastIndexOf("\n}\n") + 3;
  const rest = first.slice(0, at).trim(), end = second || first.slice(at).trimStart();
  const imports = [...head.matchAll(/^import [^;]*? from ".*";\n/gm)].map(([line]) => line);
  const [, header, top] = /^([^]*? \*\/\n)([^]*)/.exec(head.replace(/^import [^;]*? from ".*";\n/gm, ""))!;
  // Constants may share a line, and a list of them may have several.
  const declared = rest.replace(/,\n +(?=[A-Z][A-Z\d_]* = )/g, ", ").split("\n").flatMap((line) => {
    const [, kind = "", name = ""] = /^(?:async )?(function|class|interface|type|const|let) (\w+)/.exec(line) ?? [];
    const names = kind === "const" && /^[A-Z]/.test(name) ? line.match(/[A-Z][A-Z\d_a-z]+(?= = )/g)! : [name];
    return names.map((name) => /interface|type/.test(kind) ? `type ${name}` : name);
  });
  const bare = (name: string) => name.replace("type ", "");
  const as = declared.filter((name) => name && uses(top + end, bare(name)))
    .sort((a, b) => bare(a).toLowerCase() < bare(b).toLowerCase() ? -1 : 1);
  const path = relative(dirname(output || split), split).replaceAll("\\", "/");
  const own = listing("import", as, ` from "${path.startsWith(".") ? path : `./${path}`}"`);
  const about = `// SPDX-License-Identifier: MIT\n/** What ${name} stands on. */\n`;
  return [
    `${header}\n${needed(imports, top + end)}${own}\n${top.trimStart()}${end}`,
    `${[about, needed(imports, rest), `${rest}\n`, listing("export", as, "")].filter(Boolean).join("\n")}`,
  ];
}

/** Whether the code of a text, not its comments and strings, has a name that is not declared within. */
function uses(text: string, name: string): boolean {
  const code = text.replace(/\/\*\*[^]*?\*\/|(?<!:)\/\/ .*|"[^"\n]*"/g, "")
    .replace(/`[^`]*`/g, (all) => [...all.matchAll(/\$\{([^}]*)/g)].map(([, inner]) => inner).join(" "));
  const isLocal = new RegExp(`^ +(const|let) ([^=]*, )?${name}\\b|[(,]\\s*${name}: `, "m");
  return !isLocal.test(code) && new RegExp(`(?<!(?<!\\.\\.)\\.|[#\\w])${name}\\b`).test(code);
}

/** What a text uses of imports. */
function needed(imports: string[], text: string): string {
  return imports.map((line) => {
    const [, names, from] = /^import ([^;]*) from (".*");/.exec(line)!;
    const used = names.replace(/[{}\n]/g, "").split(",").map((name) => name.trim())
      .filter((name) => name && uses(text, name.split(" ").at(-1)!));
    return used.length === 0 ? "" : names.startsWith("{") ? listing("import", used, ` from ${from}`) : line;
  }).join("");
}

/** Names in braces, in lines of 80 columns. */
function listing(what: string, names: string[], from: string): string {
  const line = `${what} { ${names.join(", ")} }${from};\n`;
  return line.length <= 81 ? line : `${what} {\n${names.map((name) => `  ${name},\n`).join("")}}${from};\n`;
}
