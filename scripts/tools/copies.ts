// SPDX-License-Identifier: MIT
/**
 * Makes the copies of the scripts for articles: `deno task copies`, or with a FOLDER that is not .github/copies behind.
 *
 * A copy is the script as it runs without options, and what it imports: written for an article in copy/, or structures
 * and system calls of shim/. All rules are about text:
 *
 * - What nothing uses is left out: declarations, members of classes, constants of a list, system calls.
 * - So is what uses a name that is not there, or is `gone`: see `without`. `options.port` becomes a constant, PORT.
 * - In copy/, a line that ends in `// only NAME ...` is for these scripts or runtimes; with `// not` for all others.
 * - A class that two files have gets the members of both. Of others with the same name, the last one counts.
 */

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const tools = path.dirname(fileURLToPath(import.meta.url)), scripts = path.dirname(tools);
const commands: Record<string, string> = { deno: "deno run -A", bun: "bun", node: "node" };

/** The scripts that have copies, and what is gone in each beside what is gone in all. */
const lessons: Record<string, string[]> = {
  ...{
    single: ['"after one exchange"'],
    tasks: [],
    multiplex: [],
    threads: [],
    pool: [],
    reuseport: [],
    coroutines: ["fd !== listener"],
  },
  ...{
    blocking: ["fd < 0"],
    nonblocking: ["size > 0 && client.leaving"],
    select: [],
    poll: [],
    epoll: ["edge", "busy", "undrained"],
    signals: [],
  },
  ...{ reactors: ["stop", "describe"], offload: ["jobs", "running", "drop", "isIts", "full"] },
  ...{ uring: ["silent", "TIMEOUT", "sys.runtimeTurn", "clients.full", "return receive"], processes: ["options.exec"] },
  prefork: ["options.pass", "acceptAndPass", "receive", "--pass", "fd < 0"],
};
const gone = ("options.messages clients.turn acceptor.turn clients.answered client.silence connection.excused " +
  "connection.abort connection.isBroken children.timeLimit children.resting heartbeat burn").split(" ");
const kept: Record<string, string> = { nonblocking: "heartbeat", offload: "burn" };

/** What is simpler in all copies: an error that would end the process does so, and Ctrl-C does. */
const simpler: [RegExp, string][] = [
  [/^( *)try \{\n([^]*?)\n\1\} catch [^]*?\n\1\}$/gm, "$2"],
  [/\s*\.catch\((cannotListen|\(error\) => fail\(.*\))\)/g, ""],
  [/while \(!stopping\)/g, "for (;;)"],
  // What is told for the log, or for a thread that dies.
  [/(?<=(?:logInLine|logWait|startComputers)\(.*), (?:connection|job|handOut|true)(?=[,)])/g, ""],
  // nonblocking.ts waits with nothing.
  [/(?<=new Clients\()listener(?=\))/g, ""],
  // Sentences about other scripts.
  [/(?<=[.:*\/] [^.:]*[.:]) [^.:]*\b\w+\.ts\b[^.]*\./g, ""],
];

/** The text without comments and strings, which say nothing about what is used. */
const codeOf = (text: string) => text.replace(/\/\*\*[^]*?\*\/|(?<!:)\/\/ .*|"[^"\n]*"/g, "");
const word = (name: string) => `(?<!(?<!\\.\\.)\\.|[#\\w])${name.replace(/[.?]/g, "\\$&")}(?!\\w)`;
const count = (code: string, pattern: string) => code.match(new RegExp(pattern, "gm"))?.length ?? 0;
const constant = (option: string) => option.toUpperCase().replaceAll("-", "_");
const fileOf = (name: string, runtime: string) => `${name}.${runtime === "node" ? "mts" : "ts"}`;
const nameOf = (unit: string) =>
  /^(?:async )?(?:function\*?|class|interface|type|const|let) (\w+)/m.exec(unit)?.[1] ?? "";

/** Leaves out a name: as an argument, a choice, an operand, a result, a variable, in comments, or the whole statement. */
function without(text: string, name: string): string {
  const at = word(name), argument = `(?<=\\w\\()${at}(?:, |(?=\\)))|, (?:\\.{3})?${at}(?:\\(.*?\\))?(?=[,)\\]]| \\})`;
  const others =
    `${at} \\? [^:]+ : (?=\\w)| (?:&&|\\|\\|) !?${at}|(?<=return) ${at}\\([^()]*\\)(?=;)|(?<=const )${at} = [^,;]*, |, ${at} = [^;]*(?=;)`;
  text = text.replace(new RegExp(`${argument}|${others}|^ *// .*\`${name}\`.*\n`, "gm"), "");
  // With the comments before it, until its own line or its block ends.
  const start = "^(?: *(?://|/\\*\\*) .*\\n)*( *)(?! |//|/\\*)", end = "(?:.*;\\n|[^]*?\\n\\1(?:\\S.*)?[;}]\\n)";
  while (count(codeOf(text), at) > 0) text = text.replace(new RegExp(`${start}.*${at}${end}`, "m"), "");
  return text;
}

/** Leaves out what nothing uses, again and again. Of what the lesson uses, `names` are declared here. */
function shake(units: string[], lesson: string, names: Set<string>): string[] {
  const code = codeOf(units.join("\n")), all = codeOf(lesson) + code;
  const isUsed = (pattern: string, own: string, code = all) => count(code, pattern) > count(codeOf(own), pattern);
  // A member may have the same name.
  const isNeeded = (name: string, own: string, at = `${word(name)}(?!\\(.*\\): .* \\{$)`) =>
    names.has(name) && isUsed(at, own) || isUsed(at, own, code);
  const rest = units.map((unit) => {
    const list = /^((?:\/\*\*[^]*?\*\/\n)?)const ((?:\w+ = [^,;({]+,\s+)+\w+ = [^,;({]+);$/.exec(unit);
    if (list) {
      const all = list[2].split(/,\s+/), used = all.filter((one) => isNeeded(one.split(" ")[0], one));
      return used.length === 0 ? "" : `${used.length === all.length ? list[1] : ""}const ${used.join(", ")};`;
    }
    if (!isNeeded(nameOf(unit), unit)) return "";
    // Several classes have a `close`.
    const owner = { Server: "(server|source|probe|this)", Clients: "(clients|acceptor|this)" }[nameOf(unit)] ?? "";
    return unit.replace(/^ {2}(\w+): cFunction.*\n/gm, (row, call) => all.includes(`sys.${call}(`) ? row : "")
      .replace(
        /(?<=^class .*\{\n)[^]*(?=^\}$)/m,
        (body) =>
          body.split(/(?<=[;}]\n)(?=\n* {2}[\w#/])/).filter((member) => {
            const [, name] = /^ {2}(?:static |readonly |async |get )*(#?\w+)/m.exec(member)!;
            return name === "constructor" || isUsed(`${owner}\\.${name}(?!\\w)|[{,] ${name}(?=,| \\})`, member);
          }).join(""),
      );
  }).filter(Boolean);
  return rest.join() === units.join() ? rest : shake(rest, lesson, names);
}

/** Takes `await` from calls of what is not `async` here, and `async` from functions that await nothing then. */
function settle(text: string): string {
  const rest = text.replace(/\bawait ((\w+\.)?(\w+)\()/g, (all, call, owner, name) => {
    const declaration = `^${owner ? "  (?:async )?" : "(?:async )?function "}${name}\\([^]*?\\{\\n`;
    return /Promise<|^$/.test(text.match(new RegExp(declaration, "gm"))?.join() ?? "") ? all : call;
  }).replace(/^async (function .*): Promise<(\w+)> (\{\n[^]*?^\}\n)/gm, (all, head, type, body) => {
    return /\bawait /.test(codeOf(body)) ? all : `${head}: ${type} ${body}`;
  });
  return rest === text ? rest : settle(rest);
}

/** Makes one copy. */
function copy(name: string, runtime: string): string {
  const source = readFileSync(path.join(scripts, `${name}.ts`), "utf8"), sources = new Map([["", source]]);
  const units = new Map<string, string>(), rows = new Map<string, string>(), names = new Set(["sys"]);

  /** Adds what is declared in the files that stand for one of shim/, and before it what these import. */
  function load(from: string): void {
    // Deno has no way to share a port but Node's.
    const sockets = name === "reuseport" && runtime === "deno" ? "node" : runtime;
    const file = from.replace("shim.ts", `${name === "multiplex" ? "ready_" : ""}${sockets}.ts`)
      .replace("_deno", `_${runtime}`);
    if (sources.has(file)) return;
    const parts = [path.join(scripts, "shim", file), path.join(tools, "copy", file)].slice(
      /sys|calls/.test(file) ? 0 : 1,
    );
    const text = parts.filter((part) => existsSync(part)).map((part) => readFileSync(part, "utf8")).join("\n")
      .replace(
        /^(.*?) *\/\/ (only|not) (.*)\n/gm,
        (_, line, word, names) =>
          names.split(" ").some((own: string) => [name, runtime].includes(own)) === (word === "only")
            ? `${line}\n`
            : "",
      )
      .replace(/(?<=cFunction\("\w+".*), (\w+)(?=[,)])/g, ', "$1"');
    sources.set(file, text);
    for (const [, from] of text.matchAll(/^(?:import|export) [^;]*?"\.\/(.*)";\n/gm)) load(from);
    // A declaration begins at the left, and ends where the next one or its comment does.
    const code = text.replace(/^(import|export [*{])[^;]*;\n|^\/\/ (SPDX.*\n\/\*\*[^]*?\*\/|-{8}.*)\n/gm, "")
      // A comment on what is for others.
      .replace(/^ *\/\*\* .* \*\/\n(?=\n)/gm, "").trim();
    for (const unit of code.split(/(?<=[;}])\n+(?=[^\s}])/)) {
      const name = nameOf(unit.replace(/^export /m, "")), before = units.get(name);
      const [, row] = /^export const \w+ = (cFunction\([^]*\));/m.exec(unit) ?? [];
      if (row) rows.set(name, `  ${name}: ${row},\n`);
      else if (before && /^class/.test(unit)) units.set(name, before.slice(0, -1) + unit.replace(/^.*\n/, "\n"));
      else if (name !== "int") units.set(name, unit.replace(/^export /m, ""));
    }
    const table = `/** System calls: see section 2 of the manual. */\nconst sys = {\n${[...rows.values()].join("")}};`;
    if (file === "calls.ts") units.set("sys", table);
  }

  const [given] = /^const options = [^]*?^\);\n/m.exec(source)!;
  let lesson = source.replace(given, "").replace(/^import [^;]*;\n|^\/\/ SPDX[^]*? \*\/\n/gm, (all) => {
    const [, imported, from] = /\{ ?([^]*?),?\s*\} from "\.\/shim\/(.*)"/.exec(all) ?? [];
    if (from) load(from);
    for (const name of imported?.split(/,\s*/) ?? []) names.add(name.replace("type ", "").trim());
    return "";
  });
  for (const [pattern, by] of simpler) lesson = lesson.replace(pattern, by);
  for (const [call] of lesson.matchAll(/\bsys\.\w+/g)) names.add(call);
  const declared = codeOf([...units.values(), ...rows.values()].join("\n"));
  const isThere = (name: string) =>
    new RegExp(`(\\w |,\\s+|^  )${name.replace("sys.", "")}( = |:|\\b.*[({]$)`, "m").test(declared);
  for (
    const word of [...[...names].filter((name) => !isThere(name) && name !== "parseOptions"), ...lessons[name], ...gone]
  ) {
    if (word !== kept[name]) lesson = without(lesson, word);
  }
  const settings = new Map([["HOST", '"127.0.0.1"'], ["PORT", "9999"], ["WORK", "0"]]);
  for (const [, option, value] of given.matchAll(/"?([\w-]+)"?: \[([^,\]]+), /g)) settings.set(constant(option), value);
  lesson = lesson.replace(/\[([\w.]+)\]\.join\(.*?\)/g, "$1")
    .replace(/, options(?=\))/g, "").replace(
      /\boptions(?=[,)])/g,
      "HOST, PORT",
    )
    .replace(/\boptions(?:\.(\w+)|\["(.*?)"\])/g, (_, a, b) => constant(a ?? b));
  // Where threads or processes print, a function says which; elsewhere console.log will do.
  const prints = sources.has("worker.ts") || sources.has("child.ts") ? /^$/ : /\blog\("(\w+)", ([\w.]+)/g;
  const direct = (text: string) =>
    text.replace(/\bsys\.(\w+)/g, (all, call) => rows.has(call) ? all : call)
      .replace(prints, "console.log(`$1 #${$2}`");
  lesson = direct(lesson).trim();
  const rest = shake(
    [...units.values()].map(direct),
    lesson,
    new Set([...names].map((name) => name.replace("sys.", ""))),
  );

  // The lesson comes first, unless what it does at its top level needs the rest. What starts it comes last.
  const needs = /^const [^;]*(\w\(|\bnew )/m.test(codeOf(lesson)), line = `// ${"-".repeat(40)}`;
  const at = needs ? 0 : lesson.search(/\n(\/\/ .*\n)?(if \(isMainThread|(await )?main\()/) + 1;
  const parts = [
    lesson.slice(0, at),
    `${line} what it stands on`,
    ...rest,
    needs ? `${line} the server` : "",
    lesson.slice(at),
  ];
  const body = settle(parts.filter(Boolean).join("\n\n")).replace(/^(const [A-Z].*;\n)\n(?=const [A-Z])/gm, "$1");
  const used = [...settings].filter(([name]) => count(codeOf(body), word(name)) > 0);
  const top = used.map(([name, value]) => `const ${name} = ${value};\n`).join("");
  return `${header(source, name, runtime)}\n${
    importsOf([...sources.values()].join(""), codeOf(top + body))
  }\n${top}\n${body}\n`;
}

/** What a text imports from modules of the runtime, as far as the code uses it. */
function importsOf(text: string, code: string): string {
  const files = new Map<string, string>(),
    imports = [...text.matchAll(/^import (type )?([^;]*?) from "([^.].*)";\n/gm)];
  // What is imported as a value need not be as a type.
  for (const kind of ["", "type "]) {
    for (const [, type = "", list, from] of imports) {
      for (const [, own = "", name] of list.matchAll(/(type |\* as )?(\w+)/g)) {
        const before = files.get(from) ?? "",
          isNew = !new RegExp(word(name)).test(before) && count(code, word(name)) > 0;
        if (isNew && kind === (type || own.replace("* as ", ""))) {
          files.set(from, `${before}, ${own === "* as " ? own : kind}${name}`);
        }
      }
    }
  }
  return [...files].map(([from, names]) => {
    const list = names.slice(2);
    return `import ${/^\*|^process$/.test(list) ? list : `{ ${list} }`} from "${from}";\n`;
  }).join("");
}

/** The first paragraph of the script's header, and how to run the copy. */
function header(source: string, name: string, runtime: string): string {
  const [, first] = /\/\*\*\n \* ([^]*?)\n \*\n/.exec(source)!, [, note] = /^ \* {3}(nc .*)/m.exec(source)!;
  const rows = [`${commands[runtime]} ${fileOf(name, runtime)}`, note.replace(/ {2,}/, "   ")];
  const lines = [
    ...fold(first, 77),
    "",
    ...rows.flatMap((row) => fold(row, 71).map((part, i) => (i ? "       " : "  ") + part)),
  ];
  return `// SPDX-License-Identifier: MIT\n/**\n${lines.map((line) => ` * ${line}`.trimEnd()).join("\n")}\n */\n`;
}

/** Words in lines that are no wider. */
function fold(words: string, width: number): string[] {
  return words.replace(/\n \*/g, "").match(new RegExp(`\\S.{0,${width - 1}}(?=\\s|$)`, "g"))!;
}

/** Wraps comments whose lines are too long; one beside code goes above it. */
function wrap(text: string): string {
  const comments = /^( *)(?:\/\/ .*(?:\n\1\/\/ .*)*|\/\*\*[^]*?\*\/)$/gm;
  return text.replace(/^(?=.{81})( *)(\S.*;) (\/\/ .*)$/gm, "$1$3\n$1$2").replace(comments, (all, indent) => {
    if (!/^.{81}/m.test(all)) return all;
    const [start, mark, end] = all.includes("/*") ? [`${indent}/**\n`, " * ", `\n${indent} */`] : ["", "// ", ""];
    const words = all.replace(/^ *(\/\*\*|\/\/|\*(?!\/))|\*\/$/gm, "").trim().replace(/\s+/g, " ");
    return start + fold(words, 80 - indent.length - mark.length).map((line) => indent + mark + line).join("\n") + end;
  });
}

/** Writes all copies into a folder. */
const folder = process.argv[2] ?? path.join(scripts, "../.github/copies");
const files = Object.keys(commands).flatMap((runtime) => {
  mkdirSync(path.join(folder, runtime), { recursive: true });
  return Object.keys(lessons).map((name) => {
    const file = path.join(folder, runtime, fileOf(name, runtime));
    writeFileSync(file, copy(name, runtime));
    return file;
  });
});
const { status, stderr } = spawnSync("deno", ["fmt", "--quiet", "--no-config", folder], { encoding: "utf8" });
if (status !== 0) throw new Error(stderr);
for (const file of files) writeFileSync(file, wrap(readFileSync(file, "utf8")));
