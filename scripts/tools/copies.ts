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

/** The scripts that have copies. */
const lessons = ["single", "tasks", "multiplex", "threads", "pool", "reuseport", "offload"]
  .concat(
    "nonblocking",
    "select",
    "poll",
    "epoll",
    "epoll_edge",
    "signals",
    "reactors",
    "uring",
    "blocking",
    "processes",
    "coroutines",
  );

/** Files of shim/ that copies take as they are, but for what copy/ has. */
const shared = ["sys.ts", "calls.ts", "ring.ts", "computer.ts"];

/** What a file declares at its top level, each with its comment, by name; what it imports; and what it passes on. */
interface Source {
  blocks: Map<string, string>;
  imports: Map<string, { from: string; as: string }>;
  exports: string[];
}

/** The text without comments, which say nothing about what is used. */
const codeOf = (text: string) => text.replace(/\/\*\*[^]*?\*\/|(?<!:)\/\/ .*/g, "");
const wordOf = (name: string) => `(?<!(?<!\\.\\.)\\.|[#\\w])${name.replace(/[.?]/g, "\\$&")}\\b(?!\`)`;
const uses = (code: string, name: string) => new RegExp(wordOf(name)).test(code);

/** Takes the imports out of a text. */
function importsIn(text: string, imports: Source["imports"]): string {
  return text.replace(/^import (type )?([^;]*?) from "(.*)";\n/gm, (_, type = "", names, from) => {
    for (const as of names.replace(/[{}]/g, "").split(",").map((name: string) => name.trim()).filter(Boolean)) {
      imports.set(as.split(" ").at(-1), { from, as: type + as });
    }
    return "";
  });
}

/** Takes a text apart. */
function parse(text: string, { blocks, imports, exports }: Source): void {
  text = importsIn(text, imports).replace(/^\/\/ SPDX.*\n(\/\*\*[^]*?\*\/\n)?|^\/\/ -{8}.*\n/gm, "");
  text = text.replace(/^export (?:\*|\{.*\}) from "(.*)";\n/gm, (_, from) => (exports.push(from), ""));
  // A declaration begins at the left, and ends where the next one or its comment does.
  for (const block of text.replace(/^export /gm, "").trim().split(/(?<=[;}])\n+(?=[^\s}])/)) {
    const [, kind, name] = /^(?:async |abstract )?(function|class|interface|type|const|let) (\w+)/m.exec(block) ?? [];
    const list = [...codeOf(block).matchAll(/([A-Z][A-Z0-9_]+) = ([^,;]+)/g)];
    if (kind !== "const" || list.length < 2) blocks.set(name, block);
    else for (const [, name, value] of list) blocks.set(name, `const ${name} = ${value};`);
  }
}

/** What is written more simply in a copy: in all of them, and in some. */
const simpler: Record<string, [RegExp, string][]> = {
  "": [
    [/sys\.requireSystemCalls\(\);\n/, ""],
    // An error that would end the process does so by itself; and signals do.
    [/\s*\.catch\((cannotListen|\(error\) => fail\(.*\))\)/g, ""],
    [/while \(!stopping\)/, "for (;;)"],
    [/ \|\| size > 0 && client\.leaving/, ""],
  ],
  nonblocking: [
    [/new Clients\(listener\)/, "new Clients()"],
    [/client\.received\(buffer\.bytes, size\)/, 'log("recv", client.id, size, buffer.bytes)'],
    [/client\.sent\(sent\)/, 'log("send", client.id, sent)'],
  ],
  epoll: [
    [/\bedge \? [^:]+ : (\w+)/, "$1"],
    [/if \(!edge\) /, ""],
    [/busy = undrained\.size > 0, /, ""],
    [/busy \? 0 : TIMEOUT/, "TIMEOUT"],
    [/^ *\/\/ .*`edge`.*\n/gm, ""],
    [/^const undrained = /m, "undrained = "],
  ],
  epoll_edge: [
    [/\bedge \? ([^:]+) : \w+/, "$1"],
    [/else if \(edge\) (.*;\n).*\n/, "else $1"],
    [/register\(fd: number, events: number\)/, "register(fd: number)"],
    [/modify\(fd.*\{\n.*\n\}/, "modify(): void {}"],
    [/With `edge`: the clients/, "The clients"],
    [/With `edge` once/, "Once"],
  ],
  blocking: [
    [/ *heartbeat\("backlog"[^]*?\}\);\n/, ""],
    [/ *if \(fd < 0\) return;\n/, ""],
    [/\bawait (?=thread\.)/g, ""],
    [/server\.settings\(0\)/, "server.settings()"],
    [/(new BlockingServer\(listener), .*?\)/, "$1)"],
  ],
  processes: [[/, children\.timeLimit\)/, ")"], [/(import\.meta\.url, options)\)/, '$1["max-processes"])'], [
    /const log = .*;/,
    "const log = 1;",
  ], [/ *\/\/ Its standard error is the log: .*\n/, "  // Its standard error is this one's output.\n"]],
  uring: [
    [/.*\nconst silent = .*;\n/, ""],
    [/calls so far`, true\)/, "calls so far`)"],
    [/, silent\)/, ")"],
    [/^ *\/\/ Not everything was sent\. The receive.*\n.*\n/m, ""],
    [/^ *\/\/ The server has shut down.*\n.*\n/m, ""],
    [/if \(count === 0 \|\| .*\n/, ""],
    [/^ *\/\/ Signals and timers.*\n/m, ""],
  ],
  "ring.ts": [
    [/, silent: boolean/, ""],
    [/ *const flags = silent.*\n/, ""],
    [/flags << 8/, "IOSQE_IO_LINK << 8"],
    [/ *\* With `silent`.*\n/, ""],
  ],
  coroutines: [
    [/client\.sent\(sent\)/, "clients.sent(client, sent)"],
    [/return clients\.answered\(client\)/, "return"],
    [/^heartbeat\(.*\n/m, ""],
  ],
  reactors: [
    [/, stop, counts/, ", counts"],
    [/^ *\/\/ Without clients.*\n/m, ""],
  ],
};

/** What no copy has: statements that use it are left out. */
const gone = [
  "clients.turn",
  "acceptor.turn",
  "clients.answered",
  "client.silence",
  "edge",
  "fd === stop",
  "connection.excused",
  "children.timeLimit",
  "connection.abort",
];

/** Makes one copy. `name` is that of the script, or of the script with an option: epoll_edge. */
export function copy(name: string, runtime: string): string {
  const [script] = name.split("_");
  const source = readFileSync(path.join(scripts, `${script}.ts`), "utf8"), files = new Map<string, Source>();
  const has = (word: RegExp) => word.test(codeOf(source));
  const limited = has(/threeMessages/), layered = has(/\/(thread|selector)\.ts/);
  const tags = [
    !layered && "logs",
    has(/\bSelector\b.*selector\.ts/) && "selector",
    has(/drained/) && "drained",
    has(/\.cost\b/) && "cost",
    has(/unregister/) && "waits",
    has(/joinIfChild/) && "child",
    has(/turnIsDue/) && "due",
    has(/client\.closed/) && "closed",
    has(/\b(clients|acceptor)\.accept\(/) && "accepts",
    has(/\bclients\.flush\(/) && "flushes",
    runtime === "deno" ? "deno" : "plain",
    runtime === "node" && "node",
    has(/\.exchanges/) && "exchanges",
    has(/\bMESSAGES\b/) && "counted",
    has(/clients\.add\(/) ? "added" : has(/unregister/) && "own",
  ];
  const endings = [
    (limited || script === "single") && "First",
    has(/isMainThread/) && "InThread",
    has(/joinIfChild/) && "InChild",
    has(/acceptor/) && "Giving",
  ].filter(Boolean);
  /** Whether several threads accept, so that they count together. */
  const shares = has(/ReusePort/);
  const sockets = has(/ReusePort/) && runtime === "deno" ? "node" : runtime;

  /** The hand-written file for what is imported from shim/, with what copies take from there. */
  function load(from: string): Source {
    const name = path.basename(from).replace("shim.ts", `${sockets}.ts`).replace("ffi_deno", "ffi")
      .replace(/^(runtime|end|log|waits|connections)\.ts/, "program.ts");
    if (files.has(name)) return files.get(name)!;
    const file: Source = { blocks: new Map(), imports: new Map(), exports: [] };
    files.set(name, file);
    const parts = [path.join(scripts, "shim", name), path.join(tools, "copy", name)];
    if (!shared.includes(name)) parts.shift();
    if (name === "ffi.ts") parts.unshift(path.join(tools, "copy", `ffi_${runtime}.ts`));
    for (const part of parts.filter((part) => existsSync(part))) parse(adapt(readFileSync(part, "utf8"), name), file);
    return file;
  }

  /** Where a name is declared that a file has, itself or from another. */
  function find(name: string, file: Source): Source | undefined {
    if (file.blocks.has(name)) return file;
    return file.exports.map((from) => find(name, load(from))).find(Boolean);
  }

  /** What stands in the place of other text, whichever file it is in. */
  function adapt(text: string, from = ""): string {
    for (const [pattern, by] of [...simpler[""], ...simpler[from] ?? []]) text = text.replace(pattern, by);
    if (!tags.includes("exchanges")) text = text.replace(", exchanges: 0", "");
    if (shares) text = text.replace("++connections", "nextNumber()");
    // Other scripts are not there.
    text = text.replace(/(?<=[.:*\/] [^.:]*[.:]) [^.:]*\b\w+\.ts\b[^.]*\./g, "");
    text = text.replace(/^(.*?) *\/\/ tag: (\w+)\n/gm, (_, line, tag) => tags.includes(tag) ? `${line}\n` : "");
    for (const ending of endings) {
      // The one without the ending stands before it.
      for (const [declaration, name] of text.matchAll(new RegExp(`^[a-z ]*\\b(\\w+)${ending}(?=\\()`, "gm"))) {
        const at = text.indexOf(declaration), before = text.slice(0, at);
        const other = [...before.matchAll(new RegExp(`^[a-z ]*\\b${name}(?=\\()`, "gm"))].at(-1)!;
        text = `${before.slice(0, other.index)}${other[0]}Replaced${before.slice(other.index + other[0].length)}` +
          declaration.slice(0, -`${ending}`.length) + text.slice(at + declaration.length);
      }
    }
    text = text.replace(/\boptions(, )(?=listener|-1)|, options(?=\))|(?<=new \w+\()options(?=\))/g, "");
    text = text.replace(/(?<=\()options\b(?=[,)])/g, "HOST, PORT");
    text = text.replace(/\boptions\.(\w+)|\boptions\["(.*?)"\]/g, (_, a, b) => constant(a ?? b));
    if (endings.includes("InThread") || endings.includes("InChild")) return text;
    // Where there is one thread, it needn't say who it is.
    return text.replace(/\blog\("(\w+)", ([\w.]+)(.*)\);/g, (_, event, id, rest) => {
      const what = id === "0" ? `"${event}"` : `\`${event} #\${${id}}\``;
      return `console.log(${what}${rest.replace(/, (\w+), (\w+\.bytes)$/, ", shown($2.subarray(0, $1))")});`;
    });
  }

  const settled: string[] = [];
  const imports: Source["imports"] = new Map(), [given] = /^const options = [^]*?^\);/m.exec(source)!;
  let lesson = importsIn(source, imports).replace(/^[^]*? \*\/\n/, "").replace(/^const options = [^]*?^\);\n/m, "");
  for (const [pattern, by] of simpler[name] ?? []) lesson = lesson.replace(pattern, by);
  lesson = adapt(lesson);
  if (!has(/isLight/)) lesson = without(lesson, "burn");
  for (const word of name === "epoll" ? [...gone, "undrained"] : gone) lesson = without(lesson, word);
  if (limited) lesson = lesson.replace(/for \(;;\) \{(?=\n.*recv)/, "for (let i = 0; i < MESSAGES; i++) {");
  for (const [name, { from, as }] of imports) {
    if (!from.startsWith(".") || as.startsWith("*") || find(name, load(from))) continue;
    if (uses(codeOf(given), name)) imports.delete(name);
    else lesson = without(lesson, name);
  }
  const needs = /^const [^;]*(\w\(|\bnew )/m.test(codeOf(lesson)) && /^(async )?function/m.test(lesson);
  // A lesson that is nothing but steps becomes a function, as the others are.
  if (!/^(async )?function/m.test(lesson)) {
    lesson = `async function main(): Promise<void> {\n${lesson}\n}\n\nawait main();`;
  }
  for (const [name, { from }] of imports) {
    const block = from.startsWith(".") && find(name, load(from))?.blocks.get(name);
    if (block && /^function/m.test(block) && !block.includes("): Promise<")) {
      lesson = lesson.replaceAll(`await ${name}(`, `${name}(`);
    }
  }
  for (const [, name] of lesson.matchAll(/\bawait sys\.(\w+)/g)) {
    if (/^function/m.test(find(name, load("./sys.ts"))?.blocks.get(name) ?? "")) {
      lesson = lesson.replaceAll(`await sys.${name}(`, `sys.${name}(`);
    }
  }

  // A function that awaits nothing any more is none that can be awaited.
  lesson = lesson.replace(
    /^async function (\w+)\((.*)\): Promise<(\w+)> (\{\n[^]*?^\}\n)/gm,
    (all, name, values, type, body) => {
      if (/\bawait /.test(codeOf(body))) return all;
      settled.push(name);
      return `function ${name}(${values}): ${type} ${body}`;
    },
  );
  for (const name of settled) lesson = lesson.replaceAll(`await ${name}(`, `${name}(`);

  // What is used, and what that uses.
  const taken = new Map<string, string>(), outside = new Map<string, string>(), calls = new Map<string, string>();
  function add(wanted: string, from: Source): void {
    const file = find(wanted, from), block = file?.blocks.get(wanted);
    if (!file || !block) throw new Error(`${script}: there is no ${wanted} in copy/`);
    const [, row] = /^const \w+ = (cFunction\([^]*?\));/m.exec(block) ?? [];
    if (row && file.blocks === load("calls.ts").blocks) calls.set(wanted, row.replace(/, (\w+)/g, ', "$1"'));
    if (calls.has(wanted)) return add("cFunction", load("ffi.ts"));
    if (taken.has(wanted)) return;
    taken.set(wanted, block);
    take(codeOf(block), file);
  }
  function take(code: string, { imports, blocks }: Source): void {
    for (const [name, { from, as }] of imports) {
      if (!uses(code, name)) continue;
      if (!from.startsWith(".")) outside.set(as, from);
      else if (!as.startsWith("*")) add(name, load(from));
      else for (const [, member] of code.matchAll(new RegExp(`\\b${name}\\.(\\w+)`, "g"))) add(member, load(from));
    }
    for (const name of blocks.keys()) if (uses(code, name)) add(name, { imports, blocks, exports: [] });
  }
  take(codeOf(lesson + (has(/availableParallelism\(\), /) ? "; availableParallelism()" : "")), {
    ...{ imports, blocks: new Map(), exports: [] },
  });
  if (shares) add("nextNumber", load("program.ts"));

  // The order in which they need each other; what all use comes last.
  const order = ["program.ts", "", "sys.ts", "address.ts", "calls.ts", "ffi.ts"];
  const rank = (name: string) => order.indexOf(order.includes(name) ? name : "");
  const sorted = [...files].sort(([a], [b]) => rank(b) - rank(a));
  const rows = [...calls].map(([name, row]) => `  ${name}: ${row},\n`).join("");
  const table = `/** System calls, with what they take: see section 2 of the manual. */\nconst sys = {\n${rows}};`;
  let pieces = sorted.flatMap(([, { blocks }]) => [...blocks]).filter(([name]) => taken.has(name)).map(([, text]) =>
    text
  );
  if (calls.size > 0) {
    pieces.splice(pieces.findLastIndex((text) => /^(function cF|const [A-Z_]+ = \d)/m.test(text)) + 1, 0, table);
  }
  pieces = trim(pieces, lesson);

  // The lesson comes first, unless it has something at its top level that needs what else there is.
  const at = lesson.search(/\n(\/\/ .*\n)?(if \(isMainThread|(await )?main\()/), end = lesson.slice(at + 1);
  const line = `// ${"-".repeat(40)}`, rest = [`${line} what it stands on`, ...pieces];
  let body = (needs ? [...rest, `${line} the server`, lesson] : [lesson.slice(0, at), ...rest, end]).join("\n\n");
  body = body.replace(/\bsys\.(\w+)/g, (all, name) => calls.has(name) ? all : name);
  if (calls.has("syscall")) body = body.replace(/(?<![.\w"])syscall\(/g, "sys.syscall(");
  body = packed(body);
  const code = codeOf(body), constants = [["host", '"127.0.0.1"'], ["port", "9999"]];
  if (limited) constants.push(["messages", "3"]);
  if (has(/isLight/)) constants.push(["work", "0"]);
  for (const [, name, value] of given.matchAll(/"?([\w-]+)"?: \[([^,\]]+), /g)) constants.push([name, value]);
  const used = constants.map(([name, value]) => [constant(name), value]).filter(([name]) => uses(code, name));
  const top = [header(source, name, runtime), importsOf(outside, code + used.map(([, value]) => value))];
  return [...top, used.map(([name, value]) => `const ${name} = ${value};`).join("\n"), body].join("\n\n") + "\n";
}

/** Puts constants that follow each other on as few lines as they fit. */
function packed(text: string): string {
  return text.replace(/(?:^const [A-Z_\d]+ = .*;\n\n?(?! *\/))+/gm, (all) => {
    const lines: string[] = [];
    for (const [, row] of all.matchAll(/^const (.*);$/gm)) {
      if (lines.length > 0 && `const ${lines.at(-1)}, ${row};`.length <= 80) lines[lines.length - 1] += `, ${row}`;
      else lines.push(row);
    }
    if (lines.length === 1 && all.split("\n").length === 2) return all;
    return lines.map((line) => `const ${line};\n`).join("") + "\n";
  });
}

function constant(option: string): string {
  return option.toUpperCase().replaceAll("-", "_");
}

/** Leaves out the statements in which a name is used, and the comments right before them. */
function without(text: string, name: string): string {
  const statement = new RegExp(
    `^(?: *(?://|/\\*\\*) .*\\n)*( *)(?!//|/\\*)\\S?.*${wordOf(name)}(?:.*;\\n|[^]*?\\n\\1(?:\\S.*)?[;}]\\n)`,
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
      const owner = /^class Server/m.test(piece)
        ? "(server|source|probe|this)"
        : /^class Clients/m.test(piece)
        ? "(clients|acceptor|this)"
        : "";
      const members = piece.replace(/\n\}$/, "").split(/\n\n(?= {2}\S)/).filter((member) => {
        const [, name] = /^ {2}(?:async |get )?(#?\w+)\(/m.exec(member) ?? [];
        return !name || name === "constructor" || new RegExp(`(${owner}\\.|\\{ )${name}\\b`).test(code);
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
    const isValue = as.startsWith("type ") && outside.has(name);
    if (uses(code, name) && !isValue) lines.set(from, [...lines.get(from) ?? [], as]);
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
function header(source: string, name: string, runtime: string): string {
  const [, comment] = /\/\*\*([^]*?) \*\//.exec(source)!;
  const [first, ...others] = comment.replace(/^ \* ?/gm, "").trim().split("\n\n");
  const start = /^ *deno run -A scripts\/\w+\.ts/, run = `${commands[runtime]} ${fileOf(name, runtime)}`;
  const rows = others.find((text) => start.test(text))!.split("\n")
    .map((line) => line.replace(start, run).replace(/ +or: .*/, "").trim().split(/ {2,}/));
  const width = Math.max(...rows.map(([line]) => line.length)) + 3;
  return [
    "// SPDX-License-Identifier: MIT\n/**",
    ...first.replace(/\s+/g, " ").match(/\S.{0,75}(?=\s|$)/g)!.map((line) => ` * ${line}`),
    " *",
    ...rows.flatMap(([line, note = ""]) => {
      const [first, ...more] = note.match(new RegExp(`\\S.{0,${74 - width}}(?=\\s|$)`, "g")) ?? [];
      return [` *   ${line.padEnd(width)}${first ?? ""}`, ...more.map((words) => ` *   ${"".padEnd(width)}${words}`)];
    }).map((line) => line.trimEnd()),
    " */",
  ].join("\n");
}

/** Wraps comments whose lines are too long. */
function wrap(text: string): string {
  const long = (lines: string) => lines.split("\n").some((line) => line.length > 80);
  const wrapped = (words: string, start: string) =>
    words.trim().split(/\s+/).join(" ").match(new RegExp(`\\S.{0,${79 - start.length}}(?=\\s|$)`, "g"))!
      .map((line) => `${start}${line}\n`).join("");
  // A comment beside code goes above it.
  text = text.replace(/^(?=.{81})( *)(\S.*;) (\/\/ .*)$/gm, "$1$3\n$1$2");
  return text.replace(/(?:^( *)\/\/ [^-].*\n)(?:\1\/\/ .*\n)*/gm, (lines, indent) => {
    return long(lines) ? wrapped(lines.replace(/^ *\/\//gm, ""), `${indent}// `) : lines;
  }).replace(/^( *)\/\*\*([^]*?)\*\/\n/gm, (lines, indent, words) => {
    if (!long(lines)) return lines;
    const paragraphs = words.replace(/^ *\*/gm, "").split(/\n\s*\n/);
    const body = paragraphs.map((words: string) => wrapped(words, `${indent} * `)).join(`${indent} *\n`);
    return `${indent}/**\n${body}${indent} */\n`;
  });
}

/** Writes all copies into a folder. */
function main(folder: string): void {
  const files = Object.keys(commands).flatMap((runtime) => {
    mkdirSync(path.join(folder, runtime), { recursive: true });
    return lessons.map((name) => {
      const file = path.join(folder, runtime, fileOf(name, runtime));
      writeFileSync(file, copy(name, runtime));
      return file;
    });
  });
  const { status, stderr } = spawnSync("deno", ["fmt", "--quiet", "--no-config", folder], { encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  for (const file of files) writeFileSync(file, wrap(readFileSync(file, "utf8")));
}

main(process.argv[2] ?? path.join(scripts, "../.github/copies"));
