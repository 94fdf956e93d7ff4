// SPDX-License-Identifier: MIT
/**
 * Prints a script in one piece for an article about one runtime: the script first, then what it uses of the modules
 * beside it. Options are constants in it, and nothing is left that an article does without.
 *
 * It goes by names. What an article does without is dropped (simpler.ts names it, and what plain.ts has nothing for),
 * with the smallest thing around it that can be missing. Of the rest a declaration is kept if its name is read in
 * something that is kept, and a member of a class or an interface if `.name` is.
 *
 *   deno run -A scripts/standalone.ts tasks                          for Deno, as it runs this
 *   deno run -A scripts/standalone.ts tasks --runtime bun --output echo.ts -- --port 8080 --messages 7
 *   deno run -A scripts/standalone.ts tasks --split sockets.ts       the script alone; the rest goes into a file
 */

import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename, dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type * as TS from "typescript";
import * as program from "./shim/program.ts";
import { fail, parseOptions, printAll, process, usageError } from "./shim/program.ts";
import { GONE, SIMPLER } from "./tools/simpler.ts";

const options = parseOptions(
  "Prints a script and what it imports as one file, for an article about one runtime: with constants instead of options.",
  "deno run -A scripts/standalone.ts tasks --runtime node -- --port 8080",
  {
    runtime: [program.runtime as string, "deno, bun or node"],
    output: ["", "file to write; standard output unless given"],
    split: ["", "file for what the script imports; the script alone is printed, and imports it"],
  },
  "SCRIPT [-- OPTION ...]",
);

const COMMANDS: Record<string, string> = { deno: "deno run -A", bun: "bun", node: "node" };
const { runtime, split } = options, folder = dirname(fileURLToPath(import.meta.url));

const constants = process.argv.includes("--") ? process.argv.slice(process.argv.indexOf("--") + 1) : [];
const [given = "", ...more] = options.operands.slice(0, options.operands.length - constants.length);
const script = basename(given, ".ts"), scripts = readdirSync(folder).filter(isScript).map((file) => file.slice(0, -3));
if (more.length > 0) usageError(`one script at a time, not also "${more[0]}"; options for it stand behind --`);
if (!scripts.includes(script)) usageError(`unknown script "${given}"; known are ${scripts.join(", ")}`);
if (split && resolve(split) === resolve(options.output)) usageError("--split and --output name the same file");
if (/["'\\#?%]/.test(split)) usageError(`--split ${split}: an import can't name a file with one of " ' \\ # ? %`);
if (!(runtime in COMMANDS)) usageError(`unknown runtime "${runtime}"; known are ${Object.keys(COMMANDS).join(", ")}`);

const source = readFileSync(join(folder, `${script}.ts`), "utf8");
const has = (word: RegExp) => word.test(source), blocks = runtime !== "deno" && has(/shim\/(thread|sys)\.ts/);
/** The endings of names in plain.ts that are to be taken instead of those without. */
const endings = [
  has(/isMainThread/) ? blocks ? "AtOnce" : "OfThread" : has(/joinParent/) ? "OfChild" : "-",
  ...[has(/keepWorker/) ? "Shared" : "-", has(/isLight/) ? "Heavy" : "-"],
].join("|");
/** Deno's own sockets can't share a port, and deno.ts has those of node.ts for that. */
const adapter = runtime === "deno" && has(/listenReusePort/) ? "node.ts" : `${runtime}.ts`;

// The last version with a parser that JavaScript can call is 6.
const { default: ts } = await import("typescript")
  .catch((error) => fail("cannot load typescript@6: Deno fetches it, otherwise it has to be installed", error));
if (!ts.ScriptTarget) fail("cannot use this typescript", "version 6 is needed, which Deno fetches");
/** The name that a file gives to what it imports, what stands in the import, and from where. */
type Import = [name: string, text: string, from: string];
const imports = new Map<string, Import[]>();
/** The files without their imports, each after those that it imports; and the script. */
const files: TS.SourceFile[] = [], file = load(`${script}.ts`);
const plain = files.find(({ fileName }) => fileName === "plain.ts")!;
/** What is declared at the top of a file, by name. */
const declared = new Map<string, TS.Node>();
for (const node of files.flatMap(({ statements }) => [...statements])) {
  for (const child of ts.isVariableStatement(node) ? node.declarationList.declarations : [node]) {
    declared.set(nameOf(child), node);
  }
}
const call = find(file, (node) => ts.isCallExpression(node) && node.expression.getText() === "parseOptions")!;
const values = valuesOf((call as TS.CallExpression).arguments[2].getText());
/** What is left out, with all below it, and other changes to the text of a file. */
const dropped = new Set<TS.Node>(), edits: { file: TS.SourceFile; pos: number; end: number; text: string }[] = [];
for (const file of files) {
  const own = imports.get(file.fileName)!.filter(([, , from]) => from.endsWith("/program.ts")).map(([name]) => name);
  drop(file, own.filter((name) => declared.get(name)?.getSourceFile() !== plain));
}

/** What is read in what is kept, by the file; names of members begin with a dot. */
const reads = new Map(files.map((file) => [file, new Set<string>()]));
for (let before = -1, size = 0; before < size; size = [...reads.values()].reduce((sum, names) => sum + names.size, 0)) {
  before = size;
  files.forEach(mark);
}
files.forEach(rewrite);
if (split) {
  const needed = [...declared].filter(([name, node]) => reads.get(file)!.has(name) && node.getSourceFile() !== file);
  new Set(needed.map(([, node]) => node)).forEach((node) => replace(node, "export ", undefined, node.getStart()));
}
const rows = Object.entries(values).filter(([name]) => isRead(`.${name}`));
replace(call, `{ ${rows.map(([name, text]) => `${/\W/.test(name) ? `"${name}"` : name}: ${text}`).join(", ")} }`);
await write();

/** Whether a file is a script, and no tool. */
function isScript(name: string): boolean {
  return name.endsWith(".ts") && !["bench.ts", "standalone.ts", "timeline.ts"].includes(name) &&
    readFileSync(join(folder, name), "utf8").includes("= parseOptions(");
}

/** Parses a file, after those that it imports; of those that are for one runtime the runtime's own. */
function load(name: string): TS.SourceFile {
  let text = name === `${script}.ts` ? source : readFileSync(join(folder, "shim", name), "utf8");
  const own: Import[] = [];
  text = text.replace(/^import (type )?([^;]*?) from "(.*)";\n/gm, (_, type = "", names, from) => {
    for (const name of names.replace(/[{}]/g, "").split(",").map((name: string) => name.trim()).filter(Boolean)) {
      own.push([name.split(" ").at(-1)!, type + name, from]);
    }
    return "";
  });
  imports.set(name, own);
  for (const from of new Set(own.map(([, , from]) => from).filter((from) => from.startsWith("./")))) {
    const name = basename(from).replace("program.ts", "plain.ts").replace("shim.ts", adapter);
    const own = name.replace(/ffi_\w+/, `ffi_${runtime}`);
    if (!imports.has(own)) load(own);
  }
  // What plain.ts has from elsewhere, such as `process`, the others have from there, too.
  const known = imports.get("plain.ts") ?? [];
  imports.set(name, own.map((row) => known.find(([name]) => name === row[0] && /program/.test(row[2])) ?? row));
  // What has one of the endings is called as the one without then, and that is called otherwise.
  for (const [all, name] of text.matchAll(new RegExp(`function (\\w+)(${endings})\\(`, "g"))) {
    text = text.replace(`function ${name}(`, `function ${name}Else(`).replace(all, `function ${name}(`);
  }
  if (!split || name !== `${script}.ts`) text = text.replace(/\b(sys|ffi)\.(?=\w)/g, "");
  for (const [pattern, by] of SIMPLER) text = text.replace(pattern, by);
  text = text.replace(/^.*\n *if \(process\.versions\.(\w+)\) (.*\n)/gm, (_, of, it) => of === runtime ? it : "");
  const file = ts.createSourceFile(name, text, ts.ScriptTarget.ESNext, true);
  files.push(file);
  return file;
}

/** The name that a node declares. */
function nameOf(node: TS.Node): string {
  return ts.isPropertyAccessExpression(node) ? "" : (node as TS.NamedDeclaration).name?.getText() ?? "";
}

function isType(node: TS.Node): boolean {
  return ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node);
}

function isDeclaration(node: TS.Node): boolean {
  return ts.isFunctionDeclaration(node) || ts.isClassDeclaration(node) || isType(node);
}

/** Whether a name stands for what it names, and is not itself a declaration, or the name of a member. */
function isReference(node: TS.Node): node is TS.Identifier {
  if (!ts.isIdentifier(node)) return false;
  const { name, propertyName } = node.parent as TS.BindingElement;
  return ts.isShorthandPropertyAssignment(node.parent) || name !== node && propertyName !== node;
}

/** Whether a name is that of a parameter of a function around it. */
function isParameter(node: TS.Identifier): boolean {
  for (let around = node.parent; around; around = around.parent) {
    if (ts.isFunctionLike(around) && around.parameters.some(({ name }) => name.getText() === node.text)) return true;
  }
  return false;
}

function find(node: TS.Node, test: (node: TS.Node) => boolean): TS.Node | undefined {
  return test(node) ? node : ts.forEachChild(node, (child) => find(child, test));
}

/** Drops what hangs on names that are gone, as plain.ts has nothing in their place. */
function drop(node: TS.Node, gone: string[]): void {
  if (node === call) return;
  if (!ts.isIdentifier(node)) return ts.forEachChild(node, (child) => drop(child, gone));
  if (GONE.includes(node.text) || isReference(node) && gone.includes(node.text)) without(node);
}

/** Drops the smallest thing around a node that can be missing: an operand, an argument, a statement. */
function without(node: TS.Node): void {
  const { parent } = node;
  if (ts.isConditionalExpression(parent) && node !== parent.whenFalse) return keep(parent, parent.whenFalse);
  if (ts.isBinaryExpression(parent) && /^(&&|\|\||\?\?)$/.test(parent.operatorToken.getText())) {
    return keep(parent, node === parent.left ? parent.right : parent.left);
  }
  if (ts.isIfStatement(parent) && ts.isPrefixUnaryExpression(node)) return keep(parent, parent.thenStatement);
  if (ts.isArrowFunction(parent) && node === parent.body) return without(parent.parent);
  if (ts.isCallExpression(parent) && node === parent.arguments[0]) return without(parent);
  const isOnly = ts.isVariableDeclarationList(parent) && parent.declarations.length === 1;
  const isPart = ts.isHeritageClause(parent) || ts.isTemplateExpression(parent);
  let isElement = false;
  ts.forEachChild(parent, () => {}, (list) => void (isElement ||= list.includes(node)));
  if (isElement && !isOnly && !isPart) dropped.add(node);
  else without(parent);
}

/** Puts a part of a node in the place of the whole. */
function keep(whole: TS.Node, part: TS.Node): void {
  ts.forEachChild(whole, (child) => void (part.pos < child.pos || child.end < part.end ? dropped.add(child) : 0));
  replace(whole, "", whole.getStart(), part.getStart());
  replace(whole, "", part.end, whole.end);
}

function replace(node: TS.Node, text: string, pos = node.getStart(), end = node.end): void {
  edits.push({ file: node.getSourceFile(), pos, end, text });
}

/** Whether a node is left out: nothing that is kept reads what it declares, or what it assigns to. */
function isDead(node: TS.Node): boolean {
  const { parent } = node, name = nameOf(node);
  if (dropped.has(node)) return true;
  if (ts.isVariableStatement(node)) return node.declarationList.declarations.every(isDead);
  const isVariable = ts.isVariableDeclaration(node) || ts.isBindingElement(node);
  if (isVariable && !ts.isIdentifier(node.name)) {
    return ts.isObjectBindingPattern(node.name) && node.name.elements.every(isDead);
  }
  if (isVariable || isDeclaration(node)) {
    const isLoop = parent.parent && ts.isForOfStatement(parent.parent);
    return !isRead(name) && !isLoop && !ts.isCatchClause(parent) && !ts.isArrayBindingPattern(parent);
  }
  const isMember = ts.isClassElement(node) || ts.isTypeElement(node) && ts.isInterfaceDeclaration(parent);
  if (name && isMember) return !isRead(`.${name}`);
  const target = assignedBy(node);
  return !!target && !isRead(ts.isPropertyAccessExpression(target) ? `.${target.name.text}` : target.getText());
}

function isRead(name: string): boolean {
  return [...reads.values()].some((names) => names.has(name));
}

/** What a statement assigns to, if it does nothing else. */
function assignedBy(node: TS.Node): TS.Node | undefined {
  const whole = node && ts.isExpressionStatement(node) ? node.expression : undefined;
  const isUnary = whole && (ts.isPrefixUnaryExpression(whole) || ts.isPostfixUnaryExpression(whole));
  const isBinary = whole && ts.isBinaryExpression(whole) && /^[^=!<>]*=$/.test(whole.operatorToken.getText());
  const target = isUnary ? whole.operand : isBinary ? whole.left : undefined;
  return target && (ts.isIdentifier(target) || ts.isPropertyAccessExpression(target)) ? target : undefined;
}

/** Notes what a node reads, unless it is left out itself. */
function mark(node: TS.Node): void {
  const into = reads.get(node.getSourceFile())!;
  if (node === call) into.add(values.workers?.replace("()", ""));
  if (node === call || isDead(node)) return;
  const isTarget = node.parent && assignedBy(node.parent.parent) === node;
  const member = ts.isPropertyAccessExpression(node)
    ? node.name
    : ts.isElementAccessExpression(node) && ts.isStringLiteral(node.argumentExpression)
    ? node.argumentExpression
    : ts.isBindingElement(node) && ts.isObjectBindingPattern(node.parent)
    ? node.propertyName ?? node.name
    : undefined;
  if (isReference(node) && !isTarget && !isParameter(node)) into.add(node.text);
  if (member && !isTarget) into.add(`.${"text" in member ? member.text : ""}`);
  // The script alone has its `sys` still.
  if (split && member && node.getText().startsWith("sys.")) into.add((member as TS.Identifier).text);
  ts.forEachChild(node, mark);
}

/** The texts of the options' values: as the table has them, or the command line behind `--`. */
function valuesOf(text: string): Record<string, string> {
  const scope = { ...program, availableParallelism };
  const table: program.Options = new Function(...Object.keys(scope), `return ${text}`)(...Object.values(scope));
  for (const name of ["idle", "quiet", ...has(/isLight/) ? [] : ["work"]]) delete table[name];
  const texts = Object.fromEntries(Object.keys(table).map((name) => [name, "false"]));
  try {
    for (const [name, value] of Object.entries(program.readOptions(table, constants, false))) {
      texts[name] = typeof value === "string" ? JSON.stringify(value) : String(value);
    }
  } catch (error) {
    usageError(`for ${script}: ${(error as Error).message}`);
  }
  // The number of this machine's cores says nothing about others.
  const cores = "availableParallelism()";
  if (text.includes(`[${cores}`) && !/--workers/.test(`${constants}`)) texts.workers = cores;
  return { ...texts, operands: "process.argv.slice(2)" };
}

/** Notes what is left out of the text. */
function rewrite(node: TS.Node): void {
  ts.forEachChild(node, (child) => isDead(child) ? replace(child, "", child.pos) : rewrite(child), (list) => {
    const hasCommas = /^\s*,/.test(node.getSourceFile().text.slice(list[0]?.end));
    list.forEach((node, i) => {
      if (!isDead(node)) rewrite(node);
      else replace(node, "", node.pos, hasCommas ? list[i + 1]?.pos ?? list.end : node.end);
    });
  });
}

/** The text of nodes with the comments before them, as it is after all changes. */
function textOf(...nodes: TS.Node[]): string {
  return nodes.map((node) => textBetween(node.getSourceFile(), node.pos, node.end)).join("");
}

function textBetween(file: TS.SourceFile, from: number, to: number): string {
  let text = "";
  const within = edits.filter((edit) => edit.file === file && from <= edit.pos && edit.end <= to);
  for (const edit of within.sort((a, b) => a.pos - b.pos || b.end - a.end)) {
    if (edit.pos < from) continue;
    text += file.text.slice(from, edit.pos) + edit.text;
    from = edit.end;
  }
  // After the last variable that is kept there is a comma still.
  return (text + file.text.slice(from, to)).replace(/,\s*;/g, ";");
}

/** The script, and what is to come last. Variables that need what stands below move into `main`, with the functions. */
function layOut(): [script: string, end: string] {
  const statements = file.statements.filter((node) => !isDead(node)),
    isElsewhere = (node: TS.Node) => isReference(node) && (declared.get(node.text)?.getSourceFile() ?? file) !== file;
  if (split) return [textOf(...statements), ""];
  const calls = statements.filter((node) => !isDeclaration(node) && !ts.isVariableStatement(node));
  const isEarly = (node: TS.Node) => !ts.isVariableStatement(node) || !find(node, isElsewhere);
  if (statements.every(isEarly)) {
    return [textOf(...statements.filter((node) => !calls.includes(node))), textOf(...calls)];
  }
  const first = statements.findIndex((node) => calls.includes(node) || !isEarly(node));
  const main = statements.filter(ts.isFunctionDeclaration).find((node) => nameOf(node) === "main")?.body;
  const inside = statements.slice(first).filter((node) => !isType(node) && node !== main?.parent);
  const lines = [
    textOf(...statements.filter((node) => node !== main?.parent && !inside.includes(node))),
    "\nasync function main(): Promise<void> {",
    textOf(...inside.filter((node) => !isDeclaration(node) && node.getText() !== "await main();")),
    main ? textBetween(file, main.statements.pos, main.statements.end) : "",
    textOf(...inside.filter(isDeclaration)),
    "}",
  ];
  return [lines.join("\n"), "await main();"];
}

/** The imports that files need from outside; what the script needs of the others comes from `rest`. */
function importText(some: TS.SourceFile[], rest = ""): string {
  const lines = new Map<string, Set<string>>();
  for (const file of some) {
    for (const [name, text, from] of imports.get(file.fileName)!) {
      const origin = from.startsWith("./") ? rest : from;
      if (!origin || !reads.get(file)!.has(name)) continue;
      // Each of them is a line of its own if it is no name in braces.
      const line = /^\*|^process$/.test(text) ? `import ${text} from "${origin}";` : origin;
      lines.set(line, (lines.get(line) ?? new Set()).add(text));
    }
  }
  return [...lines].map(([line, texts]) =>
    line.startsWith("import") ? line : `import { ${[...texts].sort().join(", ")} } from "${line}";`
  ).sort((a, b) => a.split('"')[1] < b.split('"')[1] ? -1 : 1).join("\n");
}

/** The first paragraph of the script's header, and how to run it. */
function header(): string {
  const [, comment] = /\/\*\*([^]*?) \*\//.exec(source)!;
  const [first, ...others] = comment.replace(/^ \* ?/gm, "").trim().split("\n\n");
  const name = options.output ? basename(options.output) : `${script}.${runtime === "node" ? "mts" : "ts"}`;
  const run = `${COMMANDS[runtime]} ${name}`, start = /^ *deno run -A scripts\/[\w.]+( --\w+ \d+)?/;
  const rows = others.find((text) => start.test(text))!.split("\n").map((line) =>
    line.replace(start, run).replace(/ +or: .*/, "").replace("9999", values.port).trim().split(/ {2,}/)
  );
  const width = Math.max(...rows.map(([line]) => line.length)) + 3;
  return [
    "// SPDX-License-Identifier: MIT\n/**",
    ...first.replace(/\s+/g, " ").match(/\S.{0,75}(?=\s|$)/g)!.map((line) => ` * ${line}`),
    " *",
    ...rows.map(([line, note]) => ` *   ${note ? line.padEnd(width) + note : line}`),
    " */\n\n",
  ].join("\n");
}

async function write(): Promise<void> {
  const [lesson, end] = layOut(), others = [...files.filter((other) => other !== file && other !== plain), plain];
  const rest = others.map(({ statements }) => textOf(...statements.filter((node) => !isDead(node)))).join("\n");
  const path = relative(dirname(options.output || split), split).replaceAll("\\", "/");
  const imports = split ? importText([file], path.startsWith(".") ? path : `./${path}`) : importText(files);
  const body = shorten(split ? lesson : `${lesson}\n\n${rest}\n\n${end}`);
  const text = format(`${header()}${imports}\n\n${body}`);
  const about = `// SPDX-License-Identifier: MIT\n/** What ${script} is built on. */\n\n`;
  try {
    if (split) writeFileSync(split, format(`${about}${importText(others)}\n\n${shorten(rest)}`));
    if (options.output) writeFileSync(options.output, text);
  } catch (error) {
    fail(`cannot write ${[options.output, split].filter(Boolean).join(" or ")}`, error);
  }
  if (!options.output) await printAll(text);
}

/** Cuts comments that describe something to their first sentence. */
function shorten(text: string): string {
  return text.replace(
    /\/\*\*\s([^]*?)\s*\*\//g,
    (_, words) => `/** ${words.replace(/(^|\n) *\* ?/g, " ").trim().split(/(?<=[.:]) (?=[A-Z`])/)[0]} */`,
  );
}

/** Formats by `deno fmt`'s own rules, whatever the folder's settings are; now and then it takes a second time. */
function format(text: string): string {
  const deno = program.runtime === "deno" ? process.execPath : "deno";
  for (let before = ""; before !== text;) {
    before = text;
    const input = { input: text, encoding: "utf8" } as const;
    const { error, status, stdout, stderr } = spawnSync(deno, ["fmt", "--no-config", "--ext=ts", "-"], input);
    if (error || status !== 0) fail(`cannot format ${script} with deno fmt`, error ?? stderr);
    text = stdout;
  }
  return text;
}
