// SPDX-License-Identifier: MIT
/**
 * Prints a script in one piece: itself first, then the parts of the modules beside it that it really uses.
 *
 * With `--runtime` it is for a text about that runtime: one adapter is kept, options become constants, and what is
 * left is folded until it reads as if written so. Decided conditions go, a name that stood for a choice becomes the
 * thing chosen, an interface with one implementation becomes that class. `--whole` keeps all that the script can do.
 *
 * All of it happens on the syntax tree. A pass looks at the program and notes its edits to the text; the next one
 * parses again, until nobody finds anything to do. Editing the text keeps comments and blank lines where they are.
 *
 *   deno run -A scripts/standalone.ts pool                          one file for all runtimes
 *   deno run -A scripts/standalone.ts tasks --runtime bun --output echo.ts
 *   deno run -A scripts/standalone.ts tasks --runtime bun -- --port 8080 --messages 0
 */

import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import type {
  BlockLike,
  CallExpression,
  ClassDeclaration,
  ClassElement,
  ConstructorDeclaration,
  Declaration,
  Expression,
  ExpressionStatement,
  ForStatement,
  FunctionDeclaration,
  Identifier,
  ImportDeclaration,
  InterfaceDeclaration,
  MethodDeclaration,
  NewExpression,
  Node,
  NodeArray,
  ObjectLiteralExpression,
  Program,
  PropertyAccessExpression,
  SourceFile,
  Statement,
  Symbol as Meaning,
  TypeChecker,
  TypeElement,
} from "typescript";
import { fail, parseOptions, runtime, usageError } from "./program.ts";

const runtimes = ["deno", "bun", "node"];
/** They start the other scripts, read them, or measure them: a copy alone would be of no use. */
const tools = ["bench.ts", "load.ts", "standalone.ts"];
/** In a copy for a text, what is in the first takes the place of what is in the second. */
const PLAIN = "plain.ts", REPLACED = "program.ts";
const folder = dirname(fileURLToPath(import.meta.url));

function read(name: string): string {
  return readFileSync(join(folder, name), "utf8");
}

const options = parseOptions(
  "Prints a script and what it imports as one file that runs on its own.",
  "deno run -A scripts/standalone.ts tasks --runtime deno",
  {
    runtime: ["", "deno, bun or node: for a text about it, with constants instead of options"],
    whole: [false, "with --runtime: keep the options, and all else that the script can do"],
    output: ["", "file to write; standard output unless given"],
  },
  "SCRIPT [-- OPTION ...]",
);

/** What `chooseNames` has renamed, by the new name. */
const originals = new Map<string, string>();
const ts = await loadCompiler();

const [script = "", ...givenValues] = options.operands;
const scripts = readdirSync(folder).filter(isScript).map((name) => name.replace(/\.ts$/, ""));
if (!scripts.includes(script)) usageError(`unknown script "${script}"; known are ${scripts.join(", ")}`);
if (options.runtime && !runtimes.includes(options.runtime)) {
  usageError(`unknown runtime "${options.runtime}"; known are ${runtimes.join(", ")}`);
}

if (options.whole && !options.runtime) usageError("--whole needs --runtime: without it a script is whole");
/** Whether options become constants. */
const plain = options.runtime !== "" && !options.whole;
if (givenValues.length > 0 && !plain) usageError("options for the script need --runtime, and not --whole");

const { header, body } = merge(`${script}.ts`);
const result = format(`${adapt(header)}\n\n${layOut(adapt(simplify(body)))}`);
if (options.output) {
  try {
    writeFileSync(options.output, result);
  } catch (error) {
    fail(`cannot write ${options.output}`, error);
  }
} else {
  for (let data = new TextEncoder().encode(result); data.length > 0;) data = data.subarray(writeSync(1, data));
}

/**
 * TypeScript's API for programs. Version 7 is a native program that has none in JavaScript, 6 is the last one that does.
 * Deno fetches it when this tool runs, and for no other script; Bun and Node need it installed.
 */
async function loadCompiler(): Promise<typeof import("typescript")> {
  let why: unknown = "run this with Deno, or install typescript@6";
  try {
    const { default: compiler } = await import("typescript");
    if (typeof compiler?.createProgram === "function") return compiler;
  } catch (error) {
    if (runtime === "deno") why = error;
  }
  return fail("cannot load the TypeScript compiler", why);
}

/** Whether a file is a script: it reads the command line. */
function isScript(name: string): boolean {
  if (!name.endsWith(".ts") || tools.includes(name)) return false;
  const file = ts.createSourceFile(name, read(name), ts.ScriptTarget.ESNext);
  return file.statements.some((statement) =>
    ts.isImportDeclaration(statement) && statement.importClause?.namedBindings &&
    ts.isNamedImports(statement.importClause.namedBindings) &&
    statement.importClause.namedBindings.elements.some(({ name }) => name.text === "parseOptions")
  );
}

// ---------------------------------------------------------------- programs and edits

/** A text, its syntax tree, and what the names in it mean. */
interface Source {
  text: string;
  file: SourceFile;
  checker: TypeChecker;
  /** Everywhere in the text where what a name stands for is mentioned, the name itself included. */
  mentions(name: Node | undefined): Identifier[];
}

/** Replaces a stretch of the text. */
interface Edit {
  pos: number;
  end: number;
  text: string;
}

function parse(text: string): Source {
  const libraries = dirname(ts.getDefaultLibFilePath({}));
  const name = "/standalone.ts";
  parse.previous = ts.createProgram(
    [name],
    {
      target: ts.ScriptTarget.ESNext,
      module: ts.ModuleKind.ESNext,
      lib: ["lib.esnext.d.ts"],
      types: [],
      noResolve: true,
      strict: true,
    },
    {
      ...ts.createCompilerHost({}),
      getSourceFile(path) {
        const kept = parse.previous?.getSourceFile(path);
        if (kept && path !== name) return kept;
        const content = path === name ? text : ts.sys.readFile(path);
        return content === undefined ? undefined : ts.createSourceFile(path, content, ts.ScriptTarget.ESNext, true);
      },
      getDefaultLibLocation: () => libraries,
      fileExists: (path) => path === name || ts.sys.fileExists(path),
    },
    parse.previous,
  );
  const file = parse.previous.getSourceFile(name)!, checker = parse.previous.getTypeChecker();
  const identifiers: Identifier[] = [];
  each(file, (node) => void (ts.isIdentifier(node) && identifiers.push(node)));
  const byText = Map.groupBy(identifiers, ({ text }) => text);
  const mentions = (name: Node | undefined) => {
    const meaning = name && meaningOf(checker, name);
    if (!meaning) return [];
    return byText.get((name as Identifier).text)!.filter((node) => meaningOf(checker, node) === meaning);
  };
  return { text, file, checker, mentions };
}
parse.previous = undefined as Program | undefined;

/** What an identifier stands for; in `{ name }` that is the variable, not the property. */
function meaningOf(checker: TypeChecker, node: Node): Meaning | undefined {
  return ts.isShorthandPropertyAssignment(node.parent)
    ? checker.getShorthandAssignmentValueSymbol(node.parent)
    : checker.getSymbolAtLocation(node);
}

/** Calls `visit` for a node and all below it; those below are left out when it returns `false`. */
function each(node: Node, visit: (node: Node) => boolean | void): void {
  if (visit(node) !== false) ts.forEachChild(node, (child) => each(child, visit));
}

function some(node: Node, test: (node: Node) => boolean): boolean {
  return test(node) || ts.forEachChild(node, (child) => some(child, test) || undefined) === true;
}

/** Makes the edits that don't lie within another one; what they had in mind is found again by the next pass. */
function apply(text: string, edits: Edit[]): string {
  let done = "", from = 0;
  for (const { pos, end, text: replacement } of edits.toSorted((a, b) => a.pos - b.pos || b.end - a.end)) {
    if (pos < from) continue;
    done += text.slice(from, pos) + replacement;
    from = end;
  }
  return done + text.slice(from);
}

/** All edits of the changes that don't touch the place of an earlier one: a change is made altogether or not at all. */
function separate(changes: Edit[][]): Edit[] {
  const chosen: Edit[] = [];
  for (const change of changes) {
    if (!change.some((a) => chosen.some((b) => a.pos <= b.end && b.pos <= a.end))) chosen.push(...change);
  }
  return chosen;
}

function replace(node: Node, text: string): Edit {
  return { pos: node.getStart(), end: node.end, text };
}

/** Removes a statement or a member with the comments that belong to it; an empty line before it stays. */
function remove(node: Node): Edit {
  const text = node.getSourceFile().text.slice(startOf(node), node.getStart());
  return { pos: startOf(node), end: endOf(node), text: /^\s*\n\s*\n/.test(text) ? "\n" : "" };
}

/** Where a node starts with its comments, but without one that ends the line of the node before it. */
function startOf(node: Node): number {
  const text = node.getSourceFile().text;
  return node.pos === 0 ? 0 : ts.getTrailingCommentRanges(text, node.pos)?.at(-1)?.end ?? node.pos;
}

function endOf(node: Node): number {
  return ts.getTrailingCommentRanges(node.getSourceFile().text, node.end)?.at(-1)?.end ?? node.end;
}

/** Removes some of the elements of a list with commas. */
function removeFromList<T extends Node>(list: NodeArray<T>, unwanted: (element: T) => boolean): Edit[] {
  const kept = list.filter((element) => !unwanted(element));
  if (kept.length === list.length) return [];
  const file = list[0].getSourceFile();
  return [{ pos: list.pos, end: list.end, text: kept.map((node) => file.text.slice(node.pos, node.end)).join(",") }];
}

// ---------------------------------------------------------------- one file out of several

/** For each module, the names that others have already taken, and what its own are called instead. */
type Renames = Map<string, Map<string, string>>;
/** For each module outside of the project, the names imported from it: local, and there (`type ` before a type). */
type Imports = Map<string, Map<string, string>>;

/** Puts a script and what it imports into one text: the script, `debugger` as a mark, the modules. */
function merge(script: string): { header: string; body: string } {
  const sources = new Map<string, Source>();
  const shorter = plain ? read(PLAIN) : "";
  const replaced = new Set(shorter && parse(shorter).file.statements.flatMap(declaredNames));
  visit(script);
  if (shorter) visit(PLAIN);
  // The script has the first choice of names.
  const names = [script, ...[...sources.keys()].filter((name) => name !== script)];
  const renames = chooseNames(new Map(names.map((name) => [name, sources.get(name)!])));
  const imports: Imports = new Map();
  const texts = new Map([...sources].map(([name, source]) => [name, withoutImports(name, source, renames, imports)]));
  const { file, text } = sources.get(script)!;
  const comments = ts.getLeadingCommentRanges(text, file.statements[0].pos) ?? [];
  const modules = [...texts].filter(([name]) => name !== script).map(([, text]) => text);
  return {
    header: comments.map(({ pos, end }) => text.slice(pos, end)).join("\n"),
    body: [importText(imports), texts.get(script), "debugger;", ...modules].join("\n\n"),
  };

  /** A module comes after those that it imports: at module level it may use what they declare. */
  function visit(name: string): void {
    if (sources.has(name)) return;
    const text = read(name);
    const source = parse(name === REPLACED ? without(parse(text), replaced) : text);
    sources.set(name, source);
    source.file.statements.map(importedFrom).filter((from) => from.startsWith("./")).forEach((from) =>
      visit(from.slice(2))
    );
    sources.delete(name);
    sources.set(name, source);
  }
}

/** The text of a source without the statements that declare these names. */
function without({ text, file }: Source, names: Set<string>): string {
  return apply(text, file.statements.filter((node) => declaredNames(node).some((name) => names.has(name))).map(remove));
}

/** The module that a statement imports from, or exports from; an empty string if it does neither. */
function importedFrom(statement: Statement): string {
  const from = (ts.isImportDeclaration(statement) || ts.isExportDeclaration(statement)) && statement.moduleSpecifier;
  return from && ts.isStringLiteral(from) ? from.text : "";
}

/** Finds what is declared twice: `close` of sys.ts becomes `sysClose` in a script with a `close` of its own. */
function chooseNames(sources: Map<string, Source>): Renames {
  const taken = new Set<string>(), renames: Renames = new Map();
  for (const [name, { file }] of sources) {
    const own = new Map<string, string>();
    for (const declared of file.statements.flatMap(declaredNames)) {
      const prefix = name.replace(/\.ts$/, "");
      if (taken.has(declared)) {
        own.set(declared, prefix + declared[0].toUpperCase() + declared.slice(1));
        originals.set(own.get(declared)!, declared);
      } else taken.add(declared);
    }
    renames.set(name, own);
    // `sys.close` may stand where a local variable is called `close`.
    const hasNamespace = file.statements.some((statement) =>
      importedFrom(statement).startsWith("./") && some(statement, ts.isNamespaceImport)
    );
    if (hasNamespace) {
      each(file, (node) => {
        const { name } = node as Declaration & { name?: Node };
        const isVariable = ts.isVariableDeclaration(node) || ts.isParameter(node) || ts.isBindingElement(node) ||
          ts.isFunctionDeclaration(node);
        if (isVariable && name && ts.isIdentifier(name)) taken.add(name.text);
      });
    }
  }
  return renames;
}

/** A module's own statements: no header, no rules between sections, no imports and exports. */
function withoutImports(name: string, source: Source, renames: Renames, imports: Imports): string {
  const { file, text, checker } = source;
  const edits: Edit[] = [];
  for (const statement of file.statements) {
    for (const { pos, end } of ts.getLeadingCommentRanges(text, startOf(statement)) ?? []) {
      if (/^\/\/ -{8}/.test(text.slice(pos, end))) edits.push({ pos, end, text: "" });
    }
    if (ts.isImportDeclaration(statement)) edits.push(...resolveImport(source, statement, renames, imports));
    if (ts.isImportDeclaration(statement) || ts.isExportDeclaration(statement)) {
      edits.push({ ...remove(statement), pos: statement === file.statements[0] ? 0 : startOf(statement) });
    }
    for (const modifier of ts.canHaveModifiers(statement) ? ts.getModifiers(statement) ?? [] : []) {
      if (modifier.kind === ts.SyntaxKind.ExportKeyword) {
        edits.push({ pos: modifier.getStart(), end: modifier.end + 1, text: "" });
      }
    }
  }
  each(file, (node) => {
    const renamed = ts.isIdentifier(node) && renames.get(name)!.get(node.text);
    const isOwn = renamed && meaningOf(checker, node)?.declarations?.map(declarationOf).some(isTopLevel);
    if (isOwn) edits.push(rename(node, renamed));
  });
  return apply(text, edits).trim();
}

/** Whether a declaration is one of the module, not within a function. */
function isTopLevel(node: Node): boolean {
  return ts.isSourceFile(ts.isVariableDeclaration(node) ? node.parent.parent.parent : node.parent);
}

/** Notes what a statement imports from elsewhere, or has what comes from another module called as it is there. */
function resolveImport({ mentions }: Source, statement: ImportDeclaration, renames: Renames, imports: Imports): Edit[] {
  const from = importedFrom(statement), clause = statement.importClause, bindings = clause?.namedBindings;
  const type = clause?.phaseModifier === ts.SyntaxKind.TypeKeyword ? "type " : "";
  const names: [local: Identifier, imported: string][] = [];
  if (clause?.name) names.push([clause.name, `${type}default`]);
  if (bindings && ts.isNamespaceImport(bindings)) names.push([bindings.name, `${type}*`]);
  else {
    for (const { name, propertyName, isTypeOnly } of bindings?.elements ?? []) {
      names.push([name, `${isTypeOnly ? "type " : type}${(propertyName ?? name).text}`]);
    }
  }
  if (!from.startsWith("./")) {
    const known = imports.get(from) ?? imports.set(from, new Map()).get(from)!;
    for (const [{ text }, imported] of names) {
      const other = [...imports].find(([module, names]) => module !== from && names.has(text));
      if (other) fail(`cannot merge ${script}`, `${text} is imported from ${from} and from ${other[0]}`);
      // A value import serves for the type as well.
      if (!known.has(text) || known.get(text)!.startsWith("type ")) known.set(text, imported);
    }
    return [];
  }
  const inModule = (name: string) => renames.get(from.slice(2))!.get(name) ?? name;
  return names.flatMap(([local, imported]) => {
    const mentioned = mentions(local);
    const name = imported.replace("type ", "");
    if (name !== "*") return mentioned.map((node) => rename(node, inModule(name)));
    return mentioned.flatMap(({ parent }) => {
      if (ts.isPropertyAccessExpression(parent)) return [replace(parent, inModule(parent.name.text))];
      return ts.isQualifiedName(parent) ? [replace(parent, inModule(parent.right.text))] : [];
    });
  });
}

function importText(imports: Imports): string {
  return [...imports].sort().flatMap(([from, names]) => {
    const named: string[] = [], lines: string[] = [];
    for (const [local, imported] of names) {
      const type = imported.startsWith("type ") ? "type " : "", bare = imported.slice(type.length);
      if (bare === "default") lines.push(`import ${type}${local} from "${from}";`);
      else if (bare === "*") lines.push(`import ${type}* as ${local} from "${from}";`);
      else named.push(bare === local ? imported : `${imported} as ${local}`);
    }
    const order = named.sort((a, b) => a.replace("type ", "") < b.replace("type ", "") ? -1 : 1);
    return [...lines, ...named.length > 0 ? [`import { ${order.join(", ")} } from "${from}";`] : []];
  }).join("\n");
}

/** The names that a statement brings into the scope around it. */
function declaredNames(statement: Node): string[] {
  if (ts.isVariableStatement(statement)) {
    const names: string[] = [];
    for (const { name } of statement.declarationList.declarations) {
      each(name, (node) => {
        if (ts.isBindingElement(node) && ts.isIdentifier(node.name)) names.push(node.name.text);
      });
      if (ts.isIdentifier(name)) names.push(name.text);
    }
    return names;
  }
  const { name } = statement as Declaration & { name?: Node };
  return name && ts.isIdentifier(name) ? [name.text] : [];
}

function rename(mention: Identifier, name: string): Edit {
  const isShort = ts.isShorthandPropertyAssignment(mention.parent) && mention.text !== name;
  return replace(mention, isShort ? `${mention.text}: ${name}` : name);
}

// ---------------------------------------------------------------- the passes

/** Goes on until no pass has anything to do. The first that finds something decides what the others see. */
function simplify(text: string): string {
  const passes = options.runtime
    ? [
      ...plain ? [setOptions, dropOptions, skipCalls, dropCatch, inlineArrow] : [],
      fold,
      prune,
      neverGiven,
      importBuiltin,
      collapseAlias,
      mergeBase,
      mergeInterface,
      collapseInterface,
      inlineMethod,
      inlineFunction,
      restoreNames,
      dropPrefix,
      unused,
    ]
    : [fold, prune, neverGiven, mergeInterface, unused, restoreNames];
  for (let round = 0; round < 500; round++) {
    const source = parse(text);
    let next = text;
    for (const pass of passes) {
      next = apply(text, separate(pass(source)));
      if (next !== text) break;
    }
    if (next === text) return text;
    text = next;
  }
  return fail(`cannot simplify ${script}`, "the passes don't come to an end");
}

/** The value of an expression that is known beforehand. */
function constant(source: Source, node: Expression): { value: string | number | boolean | undefined } | undefined {
  if (ts.isParenthesizedExpression(node)) return constant(source, node.expression);
  if (ts.isStringLiteral(node)) return { value: node.text };
  if (ts.isNumericLiteral(node)) return { value: Number(node.text) };
  if (node.kind === ts.SyntaxKind.TrueKeyword) return { value: true };
  if (node.kind === ts.SyntaxKind.FalseKeyword) return { value: false };
  if (ts.isIdentifier(node)) {
    if (node.text === "undefined") return { value: undefined };
    // Nobody starts a thread.
    if (node.text === "isMainThread" && plain && !some(source.file, startsThread)) return { value: true };
    // Its name first: that spares the checker most of its work.
    const declaration = options.runtime && node.text === "runtime" &&
      source.checker.getSymbolAtLocation(node)?.valueDeclaration;
    return declaration && isRuntime(declaration) ? { value: options.runtime } : undefined;
  }
  if (ts.isPropertyAccessExpression(node) && plain) {
    const value = optionOf(source, node);
    return value && constant(source, value);
  }
  if (ts.isPrefixUnaryExpression(node) && node.operator === ts.SyntaxKind.ExclamationToken) {
    const operand = constant(source, node.operand);
    return operand && { value: !operand.value };
  }
  if (ts.isBinaryExpression(node)) {
    const operator = node.operatorToken.kind;
    const left = constant(source, node.left);
    if (options.runtime && operator === ts.SyntaxKind.InKeyword && node.right.getText() === "globalThis") {
      const other = runtimes.find((name) => name.toLowerCase() === String(left?.value).toLowerCase());
      return other && other !== "node" ? { value: other === options.runtime } : undefined;
    }
    const right = constant(source, node.right);
    if (!left || !right) return undefined;
    if (operator === ts.SyntaxKind.EqualsEqualsEqualsToken) return { value: left.value === right.value };
    if (operator === ts.SyntaxKind.ExclamationEqualsEqualsToken) return { value: left.value !== right.value };
    if (operator === ts.SyntaxKind.GreaterThanToken) return { value: Number(left.value) > Number(right.value) };
  }
}

function startsThread(node: Node): boolean {
  return ts.isNewExpression(node) && node.expression.getText() === "Worker";
}

function isRuntime(declaration: Node): boolean {
  return ts.isVariableDeclaration(declaration) &&
    declaration.name.getText() === "runtime" &&
    ts.isSourceFile(declaration.parent.parent.parent);
}

/** The value of `options.name` in the text, where `options` is an object that is written out. */
function optionOf({ checker }: Source, node: PropertyAccessExpression): Expression | undefined {
  const declaration = checker.getSymbolAtLocation(node.expression)?.valueDeclaration;
  const object = declaration && ts.isVariableDeclaration(declaration) && declaration.initializer;
  const property = object && ts.isObjectLiteralExpression(object) &&
    object.properties.find(({ name }) => name?.getText() === node.name.text);
  return property && ts.isPropertyAssignment(property) ? property.initializer : undefined;
}

/** Decides what follows from the runtime: conditions, choices, and code that can't be reached any more. */
function fold(source: Source): Edit[][] {
  const edits: Edit[] = [];
  const known = (node: Expression) => constant(source, node);
  each(source.file, (node) => {
    if (ts.isConditionalExpression(node)) {
      const test = known(node.condition);
      if (test) edits.push(replace(node, (test.value ? node.whenTrue : node.whenFalse).getText()));
    } else if (ts.isIfStatement(node)) {
      const test = known(node.expression);
      if (!test) return;
      const branch = test.value ? node.thenStatement : node.elseStatement;
      const follows = ts.isBlock(node.parent) || ts.isSourceFile(node.parent) ? [...node.parent.statements] : [];
      const end = branch && leaves(branch) ? follows.at(-1)?.end ?? node.end : node.end;
      if (!branch) edits.push(remove(node));
      else edits.push({ pos: node.getStart(), end, text: unwrap(branch, node.parent) });
    } else if (ts.isSwitchStatement(node)) {
      const value = known(node.expression);
      if (value) edits.push(replace(node, chosenCase(node.caseBlock.clauses, value.value)));
    } else if (ts.isElementAccessExpression(node) && known(node.argumentExpression)) {
      let choices: Expression = node.expression;
      while (ts.isParenthesizedExpression(choices) || ts.isAsExpression(choices)) choices = choices.expression;
      const key = String(known(node.argumentExpression)!.value);
      if (!ts.isObjectLiteralExpression(choices)) {
        if (key === options.runtime) edits.push(replace(node, `${node.expression.getText()}.${key}`));
        return;
      }
      const choice = choices.properties.find((property) => (property.name as Identifier | undefined)?.text === key);
      const value = !choice
        ? "undefined"
        : ts.isPropertyAssignment(choice)
        ? parenthesized(choice.initializer, node)
        : choice.name!.getText();
      edits.push(replace(node, value));
    } else if (ts.isBinaryExpression(node)) {
      const left = known(node.left), operator = node.operatorToken.kind;
      if (!left) return;
      const both = known(node);
      if (typeof both?.value === "boolean") edits.push(replace(node, String(both.value)));
      const useRight = operator === ts.SyntaxKind.AmpersandAmpersandToken
        ? left.value
        : operator === ts.SyntaxKind.BarBarToken
        ? !left.value
        : operator === ts.SyntaxKind.QuestionQuestionToken
        ? left.value === undefined
        : undefined;
      const isNothing = operator === ts.SyntaxKind.PlusToken && left.value === 0;
      if (isNothing) edits.push(replace(node, node.right.getText()));
      if (useRight !== undefined) edits.push(replace(node, (useRight ? node.right : node.left).getText()));
    } else if (ts.isParenthesizedExpression(node) && ts.isCallExpression(node.expression)) {
      edits.push(replace(node, node.expression.getText()));
    } else if (ts.isTemplateSpan(node)) {
      const value = known(node.expression);
      const start = ts.isTemplateHead(node.parent.getChildAt(0)) ? node.expression.getFullStart() - 2 : node.pos - 2;
      if (value) edits.push({ pos: start, end: node.literal.getStart() + 1, text: String(value.value) });
    } else if (ts.isSpreadAssignment(node) && isEmptyObject(node.expression)) {
      edits.push(...removeFromList(node.parent.properties, (property) => property === node));
    } else if (ts.isPropertyAssignment(node) && node.initializer.getText() === "undefined") {
      edits.push(...removeFromList(node.parent.properties, (property) => property === node));
    } else if (ts.isForStatement(node) && node.condition?.kind === ts.SyntaxKind.TrueKeyword) {
      edits.push(...forever(source, node));
    } else if (ts.isIdentifier(node) && node.text === "runtime" && !isRuntime(node.parent) && known(node)?.value) {
      edits.push(replace(node, `"${options.runtime}"`));
    } else if (ts.isNoSubstitutionTemplateLiteral(node) && !ts.isTaggedTemplateExpression(node.parent)) {
      if (!/["\\\n]/.test(node.text)) edits.push(replace(node, JSON.stringify(node.text)));
    }
  });
  return [edits];
}

/** A loop whose condition always holds: without it, without a count that nobody reads, and what is never reached. */
function forever({ mentions }: Source, loop: ForStatement): Edit[] {
  const { initializer, condition, incrementor, statement } = loop;
  const count = initializer && ts.isVariableDeclarationList(initializer) ? initializer.declarations[0].name : undefined;
  const counts = count && incrementor && mentions(count).length === 2;
  const edits: Edit[] = [
    counts
      ? { pos: initializer!.getStart(), end: incrementor.end, text: ";;" }
      : { pos: condition!.getStart(), end: condition!.end, text: "" },
  ];
  if (!ts.isBlock(loop.parent) || some(statement, ts.isBreakStatement)) return edits;
  const { statements } = loop.parent;
  return [...edits, ...statements.slice(statements.indexOf(loop) + 1).map(remove)];
}

function isEmptyObject(node: Node): boolean {
  return ts.isObjectLiteralExpression(node) && node.properties.length === 0;
}

/** Whether what stands after a statement is never reached. */
function leaves(statement: Statement): boolean {
  const last = ts.isBlock(statement) ? statement.statements.at(-1) : statement;
  return last !== undefined &&
    (ts.isReturnStatement(last) || ts.isThrowStatement(last) || ts.isContinueStatement(last));
}

/** A statement's text; a block's without its braces unless it declares what the block around it declares too. */
function unwrap(statement: Statement, parent: Node): string {
  if (!ts.isBlock(statement)) return statement.getText();
  const around = (parent as BlockLike).statements?.flatMap(declaredNames) ?? [];
  const needed = !("statements" in parent) ||
    statement.statements.flatMap(declaredNames).some((name) => around.includes(name));
  return needed
    ? statement.getText()
    : statement.getSourceFile().text.slice(statement.getStart() + 1, statement.end - 1).trim();
}

function chosenCase(clauses: readonly Node[], value: unknown): string {
  const list = clauses.filter((node) => ts.isCaseOrDefaultClause(node));
  const at = list.findIndex((clause) =>
    ts.isCaseClause(clause) && (clause.expression as { text?: string }).text === value
  );
  const from = at >= 0 ? at : list.findIndex(ts.isDefaultClause);
  const texts: string[] = [];
  for (const statement of from < 0 ? [] : list.slice(from).flatMap((clause) => [...clause.statements])) {
    if (ts.isBreakStatement(statement)) break;
    texts.push(statement.getFullText().trim());
    if (leaves(statement)) break;
  }
  return texts.join("\n");
}

/** An expression's text, in parentheses where it takes another one's place and would be torn apart. */
function parenthesized(node: Expression, place: Node, text = node.getText()): string {
  const simple = ts.isIdentifier(node) || ts.isPropertyAccessExpression(node) || ts.isCallExpression(node) ||
    ts.isLiteralExpression(node) || ts.isArrayLiteralExpression(node) || ts.isElementAccessExpression(node);
  const isUnary = ts.isPrefixUnaryExpression(node) && !ts.isPropertyAccessExpression(place.parent) &&
    !ts.isPrefixUnaryExpression(place.parent) && !ts.isElementAccessExpression(place.parent);
  const free = isUnary || ts.isVariableDeclaration(place.parent) || ts.isReturnStatement(place.parent) ||
    ts.isPropertyAssignment(place.parent) || ts.isExpressionStatement(place.parent) ||
    ts.isParenthesizedExpression(place.parent) ||
    (ts.isCallExpression(place.parent) && place.parent.expression !== place);
  return simple || free ? text : `(${text})`;
}

// ---------------------------------------------------------------- what is used

/**
 * Removes what the script doesn't reach: declarations, imports, members of classes and interfaces. A member counts as
 * used when its name is, whatever the object; a private one is looked up. An assignment to a field is no use of it.
 */
function prune({ file, checker }: Source): Edit[][] {
  const units = new Set<Node>(), live = new Set<Node>(), names = new Set<string>();
  const members = new Map<string, Node[]>();
  const assignments = new Map<Node, ExpressionStatement[]>();
  const roots: Node[] = [];
  const bases = new Set<Node | null | undefined>(
    file.statements.filter(ts.isClassDeclaration).map((node) => baseOf(checker, node)),
  );
  let isLesson = true;
  for (const statement of file.statements) {
    if (ts.isDebuggerStatement(statement)) isLesson = false;
    else if (ts.isImportDeclaration(statement)) importedNames(statement).forEach((node) => units.add(node));
    else if (ts.isVariableStatement(statement)) {
      for (const declaration of statement.declarationList.declarations) {
        if (isLesson && declaration.initializer && hasEffect(declaration.initializer)) roots.push(declaration);
        else units.add(declaration);
      }
    } else if (isDeclaration(statement)) units.add(statement);
    else roots.push(statement);
  }
  roots.forEach(visit);
  return [edits()];

  function reach(node: Node): void {
    if (live.has(node)) return;
    live.add(node);
    if (!ts.isClassDeclaration(node) && !ts.isInterfaceDeclaration(node)) return visit(node);
    node.typeParameters?.forEach(visit);
    node.heritageClauses?.forEach(visit);
    const base = ts.isClassDeclaration(node) ? baseOf(checker, node) : undefined;
    for (const member of node.members as NodeArray<ClassElement | TypeElement>) {
      const { name } = member;
      if (!name || ts.isComputedPropertyName(name) || base === null || names.has(name.getText())) reach(member);
      else if (!ts.isPrivateIdentifier(name)) {
        members.set(name.getText(), [...members.get(name.getText()) ?? [], member]);
      }
    }
  }

  function reachName(name: string): void {
    if (names.has(name)) return;
    names.add(name);
    members.get(name)?.forEach(reachMember);
  }

  function reachMember(member: Node): void {
    if (live.has(member)) return;
    reach(member);
    assignments.get(member)?.forEach((statement) => ts.forEachChild(statement, visit));
  }

  /** A member's name, used where `meaning` is what the checker makes of it. */
  function reachProperty(name: string, meaning: Meaning | undefined): void {
    const declarations = meaning?.declarations;
    if (declarations?.every(isOfLoneClass)) declarations.forEach(reachMember);
    else if (!declarations || declarations.some((node) => node.getSourceFile() === file)) reachName(name);
  }

  /** Whether a variable or field is declared to be of a type that is not in the text, such as `Deno.TcpConn`. */
  function isForeign(node: Expression): boolean {
    const declaration = checker.getSymbolAtLocation(node)?.valueDeclaration;
    let type: Node | undefined = (declaration as Declaration & { type?: Node } | undefined)?.type;
    if (type && ts.isTypeReferenceNode(type)) type = type.typeName;
    while (type && ts.isQualifiedName(type)) type = type.left;
    return type !== undefined && ts.isIdentifier(type) && !checker.getSymbolAtLocation(type)?.declarations;
  }

  /** Whether a member is of a class that extends or implements nothing, and that no other class extends. */
  function isOfLoneClass({ parent }: Node): boolean {
    return ts.isClassDeclaration(parent) && !parent.heritageClauses && !bases.has(parent);
  }

  function visit(node: Node): void {
    if (ts.isExpressionStatement(node)) {
      const target = assignedField(node.expression);
      const member = target && checker.getSymbolAtLocation(target.name)?.valueDeclaration;
      if (member && ts.isClassElement(member) && !live.has(member) && !names.has(target.name.text)) {
        assignments.set(member, [...assignments.get(member) ?? [], node]);
        if (hasEffect(assignedValue(node.expression))) visit(assignedValue(node.expression)!);
        return;
      }
    }
    if (ts.isPropertyAccessExpression(node)) {
      const meaning = checker.getSymbolAtLocation(node.name);
      if (ts.isPrivateIdentifier(node.name)) meaning?.declarations?.forEach(reachMember);
      else if (meaning || !isForeign(node.expression)) reachProperty(node.name.text, meaning);
      return visit(node.expression);
    }
    if (ts.isBindingElement(node) && ts.isObjectBindingPattern(node.parent)) {
      const name = (node.propertyName ?? node.name).getText();
      reachProperty(name, checker.getTypeAtLocation(node.parent).getProperty(name));
    } else if (ts.isPropertySignature(node) || ts.isMethodSignature(node)) {
      reachName(node.name.getText());
    } else if (ts.isCallExpression(node) && !checker.getSymbolAtLocation(node.expression)) {
      // Who knows what a runtime's function reads of an object that it gets?
      const properties = node.arguments.flatMap((argument) => checker.getTypeAtLocation(argument).getProperties());
      properties.filter(({ declarations }) => declarations?.some(ts.isPropertySignature)).forEach(({ name }) =>
        reachName(name)
      );
    } else if (ts.isObjectLiteralExpression(node)) {
      const isTarget = ts.isBinaryExpression(node.parent) && node.parent.left === node;
      const type = isTarget ? checker.getTypeAtLocation(node.parent.right) : checker.getContextualType(node);
      for (const { name } of node.properties) {
        const meaning = name && type?.getProperty(name.getText());
        if (name && (meaning || isTarget)) reachProperty(name.getText(), meaning);
      }
    } else if (ts.isElementAccessExpression(node) && ts.isStringLiteral(node.argumentExpression)) {
      reachName(node.argumentExpression.text);
    } else if (ts.isIdentifier(node)) {
      meaningOf(checker, node)?.declarations?.map(declarationOf).filter((node) => units.has(node)).forEach(reach);
    }
    ts.forEachChild(node, visit);
  }

  function edits(): Edit[] {
    const edits: Edit[] = [];
    for (const statement of file.statements) {
      if (ts.isImportDeclaration(statement)) edits.push(...removeImports(statement, (node) => !live.has(node)));
      else if (ts.isVariableStatement(statement)) {
        const { declarations } = statement.declarationList;
        const isDead = (node: Node) => units.has(node) && !live.has(node);
        if (declarations.every(isDead)) edits.push(remove(statement));
        else edits.push(...removeFromList(declarations, isDead));
      } else if (units.has(statement) && !live.has(statement)) edits.push(remove(statement));
      else if (ts.isClassDeclaration(statement) || ts.isInterfaceDeclaration(statement)) {
        edits.push(...[...statement.members].filter((member) => !live.has(member)).map(remove));
      }
    }
    for (const [member, statements] of assignments) {
      if (live.has(member)) continue;
      for (const statement of statements) {
        const value = assignedValue(statement.expression);
        edits.push(hasEffect(value) ? replace(statement, `${value!.getText()};`) : remove(statement));
      }
    }
    return edits;
  }
}

/** The variable declaration that a name in a pattern is part of; any other declaration is its own. */
function declarationOf(node: Node): Node {
  return ts.isBindingElement(node) ? declarationOf(node.parent.parent) : node;
}

function isDeclaration(node: Node): node is FunctionDeclaration | ClassDeclaration | InterfaceDeclaration {
  return ts.isFunctionDeclaration(node) || ts.isClassDeclaration(node) || ts.isInterfaceDeclaration(node) ||
    ts.isTypeAliasDeclaration(node);
}

function importedNames(statement: Statement): Node[] {
  const clause = ts.isImportDeclaration(statement) ? statement.importClause : undefined,
    bindings = clause?.namedBindings;
  return [
    ...clause?.name ? [clause] : [],
    ...!bindings ? [] : ts.isNamespaceImport(bindings) ? [bindings] : bindings.elements,
  ];
}

/** Here an import has one default name, one namespace, or a list: `importText` writes no other. */
function removeImports(statement: Statement, unwanted: (node: Node) => boolean): Edit[] {
  const names = importedNames(statement);
  if (names.length > 0 && names.every(unwanted)) return [remove(statement)];
  const bindings = ts.isImportDeclaration(statement) && statement.importClause?.namedBindings;
  return bindings && ts.isNamedImports(bindings) ? removeFromList(bindings.elements, unwanted) : [];
}

/** The class that a class extends: `undefined` if it extends none, `null` if that is not one of ours. */
function baseOf(checker: TypeChecker, node: ClassDeclaration): ClassDeclaration | null | undefined {
  const base = node.heritageClauses?.find(({ token }) => token === ts.SyntaxKind.ExtendsKeyword)?.types[0].expression;
  if (!base) return undefined;
  const declaration = checker.getSymbolAtLocation(base)?.valueDeclaration;
  return declaration && ts.isClassDeclaration(declaration) ? declaration : null;
}

/** The `this.field`, or `variable.field`, of an expression that does nothing but change it. */
function assignedField(node: Expression): PropertyAccessExpression | undefined {
  let target: Node | undefined;
  if (ts.isPrefixUnaryExpression(node) || ts.isPostfixUnaryExpression(node)) target = node.operand;
  else if (ts.isBinaryExpression(node) && isAssignment(node.operatorToken.kind)) target = node.left;
  return target && ts.isPropertyAccessExpression(target) &&
      (target.expression.kind === ts.SyntaxKind.ThisKeyword || ts.isIdentifier(target.expression))
    ? target
    : undefined;
}

function isAssignment(kind: number): boolean {
  return kind >= ts.SyntaxKind.FirstAssignment && kind <= ts.SyntaxKind.LastAssignment;
}

function assignedValue(node: Expression): Expression | undefined {
  return ts.isBinaryExpression(node) ? node.right : undefined;
}

/** Whether to evaluate it may do something beside giving a value. */
function hasEffect(node: Node | undefined): boolean {
  if (!node || ts.isFunctionLike(node)) return false;
  return ts.isCallExpression(node) || ts.isNewExpression(node) || ts.isAwaitExpression(node) ||
    ts.isDeleteExpression(node) ||
    ts.isPostfixUnaryExpression(node) || ts.isTaggedTemplateExpression(node) || ts.isYieldExpression(node) ||
    (ts.isPrefixUnaryExpression(node) && node.operator >= ts.SyntaxKind.PlusPlusToken &&
      node.operator <= ts.SyntaxKind.MinusMinusToken) ||
    (ts.isBinaryExpression(node) && isAssignment(node.operatorToken.kind)) ||
    ts.forEachChild(node, (child) => hasEffect(child) || undefined) === true;
}

// ---------------------------------------------------------------- options and parameters that nobody gives

/** Members that can be missing, and no object is made with: whoever reads one gets its default. */
function neverGiven(source: Source): Edit[][] {
  const { file, checker } = source;
  const changes: Edit[][] = [];
  for (const statement of file.statements) {
    if (!ts.isInterfaceDeclaration(statement)) continue;
    for (const member of statement.members) {
      if (!ts.isPropertySignature(member)) continue;
      const isNothing = checker.getTypeAtLocation(member).flags === ts.TypeFlags.Undefined;
      if (!member.questionToken && !isNothing) continue;
      const name = member.name.getText();
      const isMember = (meaning: Meaning | undefined) => meaning?.declarations?.includes(member) === true;
      const isGiven = (node: Node) => {
        if (!ts.isExpression(node) || !isMember(checker.getContextualType(node)?.getProperty(name))) return false;
        const type = checker.getTypeAtLocation(node), given = type.getProperty(name);
        return Boolean(type.flags & ts.TypeFlags.Any) ||
          (given !== undefined && (ts.isObjectLiteralExpression(node) || !isMember(given)));
      };
      if (!isNothing && some(file, isGiven)) continue;
      const edits = [remove(member)];
      each(file, (node) => {
        if (ts.isObjectBindingPattern(node) && isMember(checker.getTypeAtLocation(node).getProperty(name))) {
          for (const element of node.elements) {
            if ((element.propertyName ?? element.name).getText() !== name) continue;
            edits.push(...removeFromList(node.elements, (other) => other === element));
            edits.push(...substitute(source, element, element.initializer?.getText() ?? "undefined"));
          }
        } else if (ts.isPropertyAccessExpression(node) && isMember(checker.getSymbolAtLocation(node.name))) {
          edits.push(replace(node, "undefined"));
        }
      });
      changes.push(edits);
    }
  }
  return changes;
}

/** Puts a text in the place of a variable wherever it is read. */
function substitute({ mentions }: Source, variable: Declaration & { name?: Node }, text: string): Edit[] {
  return mentions(variable.name).filter((node) => node !== variable.name).map((node) => rename(node, text));
}

/** Removes parameters that nobody reads or gives, and local variables that are left over. */
function unused(source: Source): Edit[][] {
  const { file, mentions } = source;
  const changes: Edit[][] = [];
  const isRead = (name: Node) => mentions(name).length > 1;
  each(file, (node) => {
    if (ts.isFunctionDeclaration(node) || ts.isConstructorDeclaration(node)) {
      const calls = callsOf(source, node);
      node.parameters.forEach((parameter, i) => {
        if (!calls || !ts.isIdentifier(parameter.name) || parameter.dotDotDotToken) return;
        const given = calls.filter((call) => (call.arguments?.length ?? 0) > i);
        if (calls.some((call) => call.arguments?.some(ts.isSpreadElement))) return;
        const isNeeded = given.some(({ arguments: list }) =>
          list![i].getText() !== "undefined" || list!.length > i + 1
        ) || calls.length === 0;
        const edits: Edit[] = [];
        if (isRead(parameter.name)) {
          // What its comment speaks of should be there.
          const isDescribed = comment(node).includes(`\`${parameter.name.text}\``);
          if (isNeeded || isDescribed || assigns(source, parameter)) return;
          edits.push(...substitute(source, parameter, parameter.initializer?.getText() ?? "undefined"));
        } else if (given.some((call) => hasEffect(call.arguments![i]))) return;
        edits.push(...removeFromList(node.parameters, (other) => other === parameter));
        for (const call of given) {
          edits.push(...removeFromList(call.arguments!, (other) => other === call.arguments![i]));
        }
        changes.push(edits);
      });
    } else if (ts.isVariableDeclaration(node) && ts.isIdentifier(node.name)) {
      const statement = node.parent.parent, value = node.initializer?.getText();
      const isAlone = ts.isVariableStatement(statement) && statement.declarationList.declarations.length === 1;
      if (!isAlone || ts.isSourceFile(statement.parent)) return;
      if (!isRead(node.name) && !hasEffect(node.initializer)) changes.push([remove(statement)]);
      else if (value === "undefined" && !assigns(source, node)) {
        changes.push([remove(statement), ...substitute(source, node, value)]);
      }
    } else if (
      ts.isVariableStatement(node) && ts.isSourceFile(node.parent) && node.declarationList.flags & ts.NodeFlags.Let
    ) {
      changes.push(settle(source, node));
    } else if (ts.isObjectBindingPattern(node) && !node.elements.some((element) => element.dotDotDotToken)) {
      changes.push(removeFromList(node.elements, ({ name }) => ts.isIdentifier(name) && !isRead(name)));
    }
  });
  return changes;
}

/** A module's variable that nothing changes any more: a literal takes its place, another value becomes a constant. */
function settle(source: Source, statement: Statement): Edit[] {
  if (!ts.isVariableStatement(statement) || statement.declarationList.declarations.length > 1) return [];
  const [variable] = statement.declarationList.declarations;
  if (!variable.initializer || !ts.isIdentifier(variable.name) || assigns(source, variable)) return [];
  if (!ts.isStringLiteral(variable.initializer) && !ts.isNumericLiteral(variable.initializer)) {
    return [{
      pos: statement.declarationList.getStart(),
      end: statement.declarationList.getStart() + 3,
      text: "const",
    }];
  }
  return [remove(statement), ...substitute(source, variable, variable.initializer.getText())];
}

/** Whether a variable is given another value later on. */
function assigns({ mentions }: Source, variable: Declaration & { name?: Node }): boolean {
  return mentions(variable.name).some((node) => {
    const { parent } = node;
    if (ts.isBinaryExpression(parent)) {
      return parent.left === node && isAssignment(parent.operatorToken.kind);
    }
    if (ts.isPrefixUnaryExpression(parent) || ts.isPostfixUnaryExpression(parent)) return hasEffect(parent);
    let place: Node = parent;
    while (!ts.isStatement(place) && !ts.isBinaryExpression(place)) place = place.parent;
    return ts.isBinaryExpression(place) && isAssignment(place.operatorToken.kind) &&
      !ts.isIdentifier(place.left) &&
      !ts.isPropertyAccessExpression(place.left) && node.pos >= place.left.pos && node.end <= place.left.end;
  });
}

/** All calls of a function or constructor, or `undefined` if it is also handed around. */
function callsOf(
  { file, checker, mentions }: Source,
  callee: FunctionDeclaration | ConstructorDeclaration,
): (CallExpression | NewExpression)[] | undefined {
  const named = ts.isConstructorDeclaration(callee) ? callee.parent as ClassDeclaration : callee;
  if (!named.name || !ts.isSourceFile(named.parent)) return undefined;
  const isBase = file.statements.some((node) => ts.isClassDeclaration(node) && baseOf(checker, node) === named);
  if (isBase) return undefined;
  const calls: (CallExpression | NewExpression)[] = [];
  for (const node of mentions(named.name)) {
    const { parent } = node;
    if ((ts.isCallExpression(parent) || ts.isNewExpression(parent)) && parent.expression === node) calls.push(parent);
    else if (node !== named.name && !ts.isTypeReferenceNode(parent)) return undefined;
  }
  return calls;
}

// ---------------------------------------------------------------- constants instead of options

/** `parseOptions(...)` becomes the object that it would return. */
function setOptions(source: Source): Edit[][] {
  const edits: Edit[] = [];
  each(source.file, (node) => {
    if (!ts.isCallExpression(node) || node.expression.getText() !== "parseOptions") return;
    const values = valuesOf(source, node.arguments[2]);
    // To close silent connections is not what a model is about.
    values.set("idle", "0");
    giveValues(values);
    if (node.arguments.length > 3) values.set("operands", "process.argv.slice(2)");
    const properties = [...values].map(([name, value]) => `${/^\w+$/.test(name) ? name : `"${name}"`}: ${value}`);
    // Every thread has the same constants: there is no need to share them.
    const isShared = ts.isArrowFunction(node.parent) && ts.isCallExpression(node.parent.parent);
    edits.push(replace(isShared ? node.parent.parent : node, `{ ${properties.join(", ")} }`));
  });
  return [edits];
}

/** The options in a table of rows, and their defaults as they stand there. */
function valuesOf(source: Source, table: Expression): Map<string, string> {
  if (ts.isSatisfiesExpression(table)) return valuesOf(source, table.expression);
  if (ts.isIdentifier(table)) {
    const variable = source.checker.getSymbolAtLocation(table)?.valueDeclaration;
    return valuesOf(source, (variable as Declaration & { initializer: Expression }).initializer);
  }
  const values = new Map<string, string>();
  for (const property of ts.isObjectLiteralExpression(table) ? table.properties : []) {
    if (ts.isSpreadAssignment(property)) {
      valuesOf(source, property.expression).forEach((value, name) => values.set(name, value));
    } else if (ts.isPropertyAssignment(property) && ts.isArrayLiteralExpression(property.initializer)) {
      values.set((property.name as Identifier).text, property.initializer.elements[0].getText());
    }
  }
  return values;
}

/** Replaces defaults by what stands behind `--` in the command line, in the script's own terms. */
function giveValues(values: Map<string, string>): void {
  for (const given = [...givenValues]; given.length > 0;) {
    const option = given.shift()!, name = option.replace(/^--/, ""), initial = values.get(name);
    if (!option.startsWith("--") || initial === undefined) usageError(`${script} has no option "${option}"`);
    if (initial === "false") values.set(name, "true");
    else if (initial.startsWith('"')) values.set(name, JSON.stringify(given.shift() ?? ""));
    else if (/^\d+$/.test(given[0])) values.set(name, given.shift()!);
    else usageError(`${option} ${given[0] ?? ""}: not a whole number`);
  }
}

/** Removes those that nothing asks for any more. */
function dropOptions({ file }: Source): Edit[][] {
  const asked = new Set<string>();
  each(file, (node) => {
    if (ts.isPropertyAccessExpression(node) || ts.isPropertySignature(node)) asked.add((node.name as Identifier).text);
    if (ts.isElementAccessExpression(node)) asked.add((node.argumentExpression as Identifier).text);
    if (ts.isBindingElement(node)) asked.add((node.propertyName ?? node.name).getText());
  });
  const edits: Edit[] = [], lesson = file.statements.find(ts.isDebuggerStatement)!.pos;
  each(file, (node) => {
    const isOptions = node.pos < lesson && ts.isVariableDeclaration(node) && node.name.getText() === "options" &&
      node.initializer &&
      ts.isObjectLiteralExpression(node.initializer);
    if (!isOptions) return;
    const { properties } = node.initializer as ObjectLiteralExpression;
    edits.push(...removeFromList(properties, ({ name }) => !asked.has((name as Identifier).text)));
  });
  return [edits];
}

/** Removes a call that does nothing: of an empty function, or of one that begins with `if (x === 0) return` where x is. */
function skipCalls(source: Source): Edit[][] {
  const edits: Edit[] = [];
  each(source.file, (node) => {
    if (!ts.isExpressionStatement(node) || !ts.isCallExpression(node.expression)) return;
    const { expression: callee, arguments: given } = node.expression;
    const called = source.checker.getSymbolAtLocation(callee)?.valueDeclaration;
    if (!called || !ts.isFunctionDeclaration(called) || !called.body) return;
    const [first] = called.body.statements;
    if (!first) edits.push(remove(node));
    if (!first || !ts.isIfStatement(first) || !ts.isReturnStatement(first.thenStatement)) return;
    const test = first.expression;
    if (!ts.isBinaryExpression(test) || test.operatorToken.kind !== ts.SyntaxKind.EqualsEqualsEqualsToken) return;
    const place = called.parameters.findIndex(({ name }) => name.getText() === test.left.getText());
    const value = given[place] && constant(source, given[place]), wanted = constant(source, test.right);
    if (value && wanted && value.value === wanted.value) edits.push(remove(node));
  });
  return [edits];
}

/** Removes a `catch` that only words the error and ends the process: uncaught it does that too. */
function dropCatch({ file, checker }: Source): Edit[][] {
  const edits: Edit[] = [];
  const onlyFails = (handler: Expression | undefined): boolean => {
    if (handler && ts.isArrowFunction(handler)) {
      return ts.isCallExpression(handler.body) && handler.body.expression.getText() === "fail";
    }
    const variable = handler && checker.getSymbolAtLocation(handler)?.valueDeclaration;
    return variable !== undefined && ts.isVariableDeclaration(variable) && onlyFails(variable.initializer);
  };
  each(file, (node) => {
    if (!ts.isCallExpression(node) || !ts.isPropertyAccessExpression(node.expression)) return;
    const { name, expression: promise } = node.expression;
    if (name.text === "catch" && onlyFails(node.arguments[0])) {
      edits.push({ pos: promise.end, end: node.end, text: "" });
    }
  });
  return [edits];
}

/** A function of one expression that is a `const`, as those of plain.ts: the expression takes the place of its calls. */
function inlineArrow(source: Source): Edit[][] {
  const changes: Edit[][] = [];
  for (const statement of source.file.statements) {
    if (!ts.isVariableStatement(statement)) continue;
    const [{ name, initializer: arrow }] = statement.declarationList.declarations;
    if (!arrow || !ts.isArrowFunction(arrow) || ts.isBlock(arrow.body)) continue;
    const { parameters } = arrow, body = ts.isParenthesizedExpression(arrow.body) ? arrow.body.expression : arrow.body;
    const calls = source.mentions(name).filter((mention) => mention !== name);
    const texts = calls.map(({ parent: call }) => {
      if (!ts.isCallExpression(call) || !calls.includes(call.expression as Identifier)) return undefined;
      const edits = parameters.map((parameter, i) => substitute(source, parameter, call.arguments[i].getText()));
      // What is done for an argument is done once, as before.
      if (edits.some(({ length }, i) => length !== 1 && hasEffect(call.arguments[i]))) return undefined;
      const from = body.getStart();
      const text = apply(
        body.getText(),
        edits.flat().map((edit) => ({ ...edit, pos: edit.pos - from, end: edit.end - from })),
      );
      const isSpread = ts.isObjectLiteralExpression(body) && ts.isSpreadAssignment(call.parent);
      return isSpread ? replace(call.parent, text.slice(1, -1)) : replace(call, parenthesized(body, call, text));
    });
    if (texts.every((edit) => edit !== undefined)) changes.push([remove(statement), ...texts]);
  }
  return changes;
}

// ---------------------------------------------------------------- one implementation left

/** `const listen = denoListen`: the function takes the name, and the comment, that everybody knows it by. */
function collapseAlias({ file, checker, mentions }: Source): Edit[][] {
  const changes: Edit[][] = [];
  for (const statement of file.statements) {
    if (!ts.isVariableStatement(statement) || !(statement.declarationList.flags & ts.NodeFlags.Const)) continue;
    const [{ name, initializer }] = statement.declarationList.declarations;
    if (!initializer || !ts.isIdentifier(initializer) || !ts.isIdentifier(name)) continue;
    const target = checker.getSymbolAtLocation(initializer)?.valueDeclaration;
    if (!target || !ts.isFunctionDeclaration(target)) continue;
    changes.push([
      remove(statement),
      ...document(target, statement),
      ...mentions(initializer).map((node) => rename(node, name.text)),
    ]);
  }
  return changes;
}

/** Gives a node another one's comment if it has none. */
function document(node: Node, other: Node): Edit[] {
  return comment(node) || !comment(other)
    ? []
    : [{ pos: node.getStart(), end: node.getStart(), text: `${comment(other)}\n` }];
}

/** Gives a node another one's comment in place of its own. */
function describe(node: Node, other: Node): Edit[] {
  const text = comment(other);
  return text ? [{ pos: startOf(node), end: node.getStart(), text: `\n\n${text}\n` }] : [];
}

function comment(node: Node): string {
  return node.getSourceFile().text.slice(startOf(node), node.getStart()).trim();
}

/** Gives a declaration its own name back when what it was mistaken for is gone. */
function restoreNames({ file, mentions }: Source): Edit[][] {
  const taken = identifiersIn(file);
  const declared = file.statements.flatMap((statement): Node[] =>
    ts.isVariableStatement(statement) ? [...statement.declarationList.declarations] : [statement]
  );
  return declared.flatMap((node) => {
    const { name } = node as Declaration & { name?: Node };
    const original = name && originals.get(name.getText());
    return !original || taken.has(original) ? [] : [mentions(name).map((node) => rename(node, original))];
  });
}

/** All names but those of members, which stand behind a dot or in a class or an object. */
function identifiersIn(file: SourceFile): Set<string> {
  const found = new Set<string>();
  each(file, (node) => {
    if (!ts.isIdentifier(node)) return;
    const { parent } = node;
    const isMember = (ts.isPropertyAccessExpression(parent) || ts.isClassElement(parent) || ts.isTypeElement(parent) ||
      ts.isPropertyAssignment(parent)) && parent.name === node;
    if (!isMember && !(ts.isQualifiedName(parent) && parent.right === node)) found.add(node.text);
  });
  return found;
}

/** Where there is one runtime, nothing needs to be called after it: `bunHandlers` becomes `handlers`. */
function dropPrefix({ file, mentions }: Source): Edit[][] {
  const taken = identifiersIn(file);
  return file.statements.filter(ts.isFunctionDeclaration).flatMap(({ name }) => {
    const [, first, rest] = name?.text.match(RegExp(`^${options.runtime}([A-Z])(\\w+)$`)) ?? [];
    const short = first && first.toLowerCase() + rest;
    return !short || taken.has(short) ? [] : [mentions(name).map((node) => rename(node, short))];
  });
}

/** Merges an abstract class into the one class that extends it. */
function mergeBase(source: Source): Edit[][] {
  const { file, checker, mentions } = source;
  for (const node of file.statements.filter(ts.isClassDeclaration)) {
    const base = baseOf(checker, node);
    if (!base) {
      const changes = hideProtected(source, node);
      if (changes.length > 0) return changes;
      continue;
    }
    if (
      baseOf(checker, base) || base.typeParameters ||
      mentions(base.name).length !== 2
    ) continue;
    const own = new Map([...node.members].map((member) => [member.name?.getText() ?? "constructor", member]));
    const inherited = [...base.members].filter((member) =>
      !own.has(member.name?.getText() ?? "constructor") && !hasModifier(member, ts.SyntaxKind.AbstractKeyword)
    );
    const clash = [...base.members].some(({ name }) => name && ts.isPrivateIdentifier(name) && own.has(name.text));
    if (
      clash ||
      some(
        node,
        (child) => ts.isPropertyAccessExpression(child) && child.expression.kind === ts.SyntaxKind.SuperKeyword,
      )
    ) continue;
    const construct = mergeConstructors(
      source,
      base.members.find(ts.isConstructorDeclaration),
      node.members.find(ts.isConstructorDeclaration),
    );
    if (construct === undefined) continue;
    const members = [...inherited, ...node.members].filter((member) => !ts.isConstructorDeclaration(member));
    const fields = members.filter(ts.isPropertyDeclaration);
    const text = (member: ClassElement) => member.getFullText().trim();
    const heritage = base.heritageClauses?.map((clause) => clause.getText()).join(" ") ?? "";
    const parts = [
      [...fields.filter((field) => !isHidden(field)), ...fields.filter(isHidden)].map(text).join("\n"),
      construct,
      ...members.filter((member) => !ts.isPropertyDeclaration(member)).map(text),
    ];
    const merged = `${comment(node) || comment(base)}\nclass ${node.name!.text} ${heritage} {\n${
      parts.filter(Boolean).join("\n\n")
    }\n}`;
    return [[remove(base), { ...remove(node), text: `\n\n${merged}` }]];
  }
  return [];
}

function hasModifier(node: Node, kind: unknown): boolean {
  return ts.canHaveModifiers(node) && ts.getModifiers(node)?.some((modifier) => modifier.kind === kind) === true;
}

function isHidden(member: ClassElement): boolean {
  return hasModifier(member, ts.SyntaxKind.ProtectedKeyword) || ts.isPrivateIdentifier(member.name!);
}

/** One constructor out of two, `super(...)` replaced by what it did; `undefined` if that is not easily said. */
function mergeConstructors(
  source: Source,
  base?: ConstructorDeclaration,
  own?: ConstructorDeclaration,
): string | undefined {
  if (!base || !own) return (base ?? own)?.getFullText().trim().replace(/\bsuper\(\);\s*/, "") ?? "";
  const call = own.body!.statements.find((statement) => /^super\b/.test(statement.getText()));
  const given = call && ts.isExpressionStatement(call) && ts.isCallExpression(call.expression)
    ? call.expression.arguments
    : undefined;
  if (!given || given.length !== base.parameters.length || given.some(hasEffect)) return undefined;
  const edits = base.parameters.flatMap((parameter, i) => substitute(source, parameter, given[i].getText()));
  const shift = base.body!.statements.pos;
  const text = source.text.slice(shift, base.body!.statements.end);
  const body = apply(text, edits.map((edit) => ({ ...edit, pos: edit.pos - shift, end: edit.end - shift })));
  const from = own.getFullStart();
  return apply(own.getFullText(), [{ pos: call!.getStart() - from, end: call!.end - from, text: body.trim() }]).trim();
}

/** What was for subclasses is private once there are none. */
function hideProtected({ file, checker }: Source, node: ClassDeclaration): Edit[][] {
  const changes: Edit[][] = [];
  if (file.statements.some((other) => ts.isClassDeclaration(other) && baseOf(checker, other) === node)) return [];
  for (const member of node.members) {
    const modifier = ts.canHaveModifiers(member) &&
      ts.getModifiers(member)?.find(({ kind }) => kind === ts.SyntaxKind.ProtectedKeyword);
    if (!modifier || !member.name || hasModifier(member, ts.SyntaxKind.AbstractKeyword)) continue;
    const name = `#${member.name.getText()}`;
    if (node.members.some((other) => other.name?.getText() === name)) continue;
    const edits: Edit[] = [{ pos: modifier.getStart(), end: modifier.end + 1, text: "" }, replace(member.name, name)];
    each(node, (child) => {
      if (
        ts.isPropertyAccessExpression(child) && checker.getSymbolAtLocation(child.name)?.valueDeclaration === member
      ) {
        edits.push(replace(child.name, name));
      }
    });
    changes.push(edits);
  }
  return changes;
}

/** An interface with one class behind it: the class takes its name and its comments. */
function collapseInterface({ file, checker, mentions }: Source): Edit[][] {
  const changes: Edit[][] = [];
  for (const shape of file.statements.filter(ts.isInterfaceDeclaration)) {
    const meaning = checker.getSymbolAtLocation(shape.name)!;
    const users = mentions(shape.name).filter((node) => ts.isHeritageClause(node.parent.parent));
    const [user] = users, node = user?.parent.parent.parent;
    if (users.length !== 1 || !node || !ts.isClassDeclaration(node) || !node.name) continue;
    if (
      some(file, (child) => ts.isObjectLiteralExpression(child) && checker.getContextualType(child)?.symbol === meaning)
    ) continue;
    const clause = user.parent.parent;
    const edits = [remove(shape), ...describe(node, shape), { pos: clause.pos, end: clause.end, text: "" }];
    for (const member of node.members) {
      const promised = shape.members.find(({ name }) => name && name.getText() === member.name?.getText());
      if (promised) edits.push(...document(member, promised));
    }
    edits.push(
      ...mentions(node.name).map((mention) => rename(mention, shape.name.text)),
    );
    changes.push(edits);
  }
  return changes;
}

/** A module that is asked for by a function, since the other runtimes don't have it, is imported like any other. */
function importBuiltin({ file, mentions }: Source): Edit[][] {
  return file.statements.filter(ts.isFunctionDeclaration).flatMap((node) => {
    const statement = node.body?.statements[0];
    let value = statement && ts.isReturnStatement(statement) ? statement.expression : undefined;
    while (value && ts.isAsExpression(value)) value = value.expression;
    if (!value || !ts.isCallExpression(value) || value.expression.getText() !== "process.getBuiltinModule") return [];
    const [from] = value.arguments, name = from.getText().match(/\w+(?=")/)?.[0];
    if (!name || some(file, (other) => ts.isIdentifier(other) && other.text === name)) return [];
    const calls = mentions(node.name).filter((mention) => mention !== node.name).map(({ parent }) => parent);
    if (!calls.every(ts.isCallExpression)) return [];
    const text = `import * as ${name} from ${from.getText()};\n`;
    return [[{ pos: 0, end: 0, text }, remove(node), ...calls.map((call) => replace(call, name))]];
  });
}

/** An interface that is only there to be extended by one other becomes a part of that. */
function mergeInterface({ file, text, checker, mentions }: Source): Edit[][] {
  const changes: Edit[][] = [];
  for (const shape of file.statements.filter(ts.isInterfaceDeclaration)) {
    const clause = shape.heritageClauses?.[0];
    const base = clause?.types.length === 1 &&
      checker.getSymbolAtLocation(clause.types[0].expression)?.declarations?.[0];
    if (!base || !ts.isInterfaceDeclaration(base) || mentions(base.name).length !== 2) continue;
    if (base.heritageClauses || base.typeParameters) continue;
    const { pos } = shape.members;
    changes.push([
      remove(base),
      { pos: clause.pos, end: clause.end, text: "" },
      { pos, end: pos, text: text.slice(base.members.pos, base.members.end) },
    ]);
  }
  return changes;
}

/** A private method of one line that stood for a choice: its body takes the place of its calls. */
function inlineMethod({ file, checker }: Source): Edit[][] {
  const changes: Edit[][] = [];
  for (
    const method of file.statements.filter(ts.isClassDeclaration).flatMap((node) => [...node.members]).filter(
      ts.isMethodDeclaration,
    )
  ) {
    if (!ts.isPrivateIdentifier(method.name) || method.body?.statements.length === 0 || method.modifiers) continue;
    const uses: PropertyAccessExpression[] = [];
    each(method.parent, (child) => {
      const isUse = ts.isPropertyAccessExpression(child) &&
        checker.getSymbolAtLocation(child.name)?.valueDeclaration === method;
      if (isUse) uses.push(child);
    });
    const texts = uses.map((use) => inlined(method, use));
    if (texts.length > 0 && texts.every((edit) => edit !== undefined)) changes.push([remove(method), ...texts]);
  }
  return changes;
}

/** A function of one statement that is called once, with variables that are called as its parameters are. */
function inlineFunction({ file, mentions }: Source): Edit[][] {
  return file.statements.filter(ts.isFunctionDeclaration).flatMap((node) => {
    const [use, ...others] = mentions(node.name).filter((mention) => mention !== node.name);
    const call = use?.parent, body = node.body?.statements;
    if (others.length > 0 || !call || !ts.isCallExpression(call) || call.expression !== use) return [];
    const isSame = node.parameters.every(({ name }, i) => name.getText() === call.arguments[i]?.getText());
    if (!isSame || body?.length !== 1 || !ts.isExpressionStatement(body[0])) return [];
    return ts.isExpressionStatement(call.parent) ? [[remove(node), replace(call.parent, body[0].getText())]] : [];
  });
}

function inlined(method: MethodDeclaration, use: PropertyAccessExpression): Edit | undefined {
  const call = use.parent;
  if (!ts.isCallExpression(call) || call.expression !== use || use.expression.kind !== ts.SyntaxKind.ThisKeyword) {
    return undefined;
  }
  if (method.parameters.some((parameter, i) => parameter.name.getText() !== call.arguments[i]?.getText())) {
    return undefined;
  }
  const statements = method.body!.statements, [first] = statements;
  if (ts.isReturnStatement(call.parent) && ts.isBlock(call.parent.parent)) {
    return statements.length > 6
      ? undefined
      : { ...replace(call.parent, method.body!.getFullText().trim().slice(1, -1).trim()) };
  }
  if (statements.length > 1) return undefined;
  if (ts.isExpressionStatement(call.parent)) {
    return ts.isExpressionStatement(first) ? replace(call.parent, first.getText()) : undefined;
  }
  return ts.isReturnStatement(first) && first.expression
    ? replace(call, parenthesized(first.expression, call))
    : undefined;
}

// ---------------------------------------------------------------- comments and layout

/** Makes the comments speak of one runtime, as the code does now. */
function adapt(text: string): string {
  const { file } = parse(text);
  const edits: Edit[] = [];
  each(file, (node) => {
    if (ts.isStringLiteral(node) && /\bscripts\//.test(node.text)) edits.push(replace(node, runLines(node.getText())));
  });
  let from = 0;
  for (const { pos, end } of commentsOf(file)) {
    if (pos < from) continue;
    const comment = text.slice(pos, end).replaceAll("scripts/", "");
    const kept = options.runtime ? forRuntime(comment) : comment;
    // A comment that goes takes its line along.
    edits.push({ pos: kept ? pos : startOfLine(text, pos), end, text: plain ? shorten(kept) : kept });
    from = end;
  }
  return apply(text, edits);
}

/** Where the line break is that stands before a position, with nothing between; otherwise the position. */
function startOfLine(text: string, pos: number): number {
  return text.slice(0, pos).match(/\n *$/)?.index ?? pos;
}

/** Command lines as they are for a copy of the script, in another folder. */
function runLines(text: string): string {
  const command = { deno: "deno run -A ", bun: "bun ", node: "node " }[options.runtime] ?? "$1";
  return text.replace(/(deno run -A |bun |node )scripts\//g, command).replaceAll("scripts/", "");
}

/** Every comment; lines that begin with `//` and follow one another are one. */
function commentsOf(file: SourceFile): { pos: number; end: number }[] {
  const found = new Map<number, { pos: number; end: number }>();
  (function visit(node: Node): void {
    if (node.kind >= ts.SyntaxKind.FirstJSDocNode && node.kind <= ts.SyntaxKind.LastJSDocNode) return;
    const ranges = [
      ...ts.getTrailingCommentRanges(file.text, node.pos) ?? [],
      ...ts.getLeadingCommentRanges(file.text, node.pos) ?? [],
    ];
    for (const { pos, end } of node.pos === node.end && node.kind !== ts.SyntaxKind.EndOfFileToken ? [] : ranges) {
      found.set(pos, { pos, end });
    }
    node.getChildren(file).forEach(visit);
  })(file);
  const merged: { pos: number; end: number }[] = [];
  for (const range of [...found.values()].sort((a, b) => a.pos - b.pos)) {
    const last = merged.at(-1);
    const isNext = last && file.text.startsWith("//", last.pos) && file.text.startsWith("//", range.pos) &&
      /^\n *$/.test(file.text.slice(last.end, range.pos)) && !file.text.startsWith("// SPDX", last.pos);
    if (isNext) last.end = range.end;
    else merged.push({ ...range });
  }
  return merged;
}

/** A comment without the sentences and the command lines that are about other runtimes. */
function forRuntime(comment: string): string {
  const others = {
    deno: /\bDeno\b|\bdeno\b/,
    bun: /\bBun\b|\bbun\b/,
    node: /\bNode\b|\bnode (?=\S+\.ts)|node:(net|ffi)\b/,
  };
  const isOther = (text: string) =>
    Object.entries(others).some(([name, test]) => name !== options.runtime && test.test(text));
  if (!isOther(comment)) return comment;
  const isBlock = comment.startsWith("/*");
  const lines = comment.replace(/^\/\*\*? ?|\s*\*\/$/g, "").split("\n").map((line) =>
    line.replace(/^\s*(\*|\/\/) ?/, "")
  );
  const blocks: string[] = [], width = Math.max(...lines.map((line) => line.length));
  let paragraph: string[] = [];
  const flush = () => {
    const sentences = paragraph.join(" ").split(/(?<=[.!?]) +(?=[(A-Z`])/).filter((sentence) => !isOther(sentence));
    if (sentences.length > 0 && sentences[0]) blocks.push(...wrap(sentences.join(" "), width));
    paragraph = [];
  };
  for (const line of lines) {
    if (/^\S/.test(line) && !line.startsWith("|")) paragraph.push(line);
    else {
      flush();
      const command = line.split(/\s+or: +/).filter((part) => !isOther(part)).map((part) => part.trim());
      if (!line.trim()) blocks.push("");
      else if (command.length > 0) blocks.push(line.includes(" or: ") ? `  ${command[0]}` : line);
    }
  }
  flush();
  const text = blocks.join("\n").trim().replace(/\n{3,}/g, "\n\n");
  if (!text) return "";
  if (!isBlock) return text.split("\n").map((line) => `// ${line}`).join("\n");
  return text.includes("\n")
    ? `/**\n${text.split("\n").map((line) => ` * ${line}`.trimEnd()).join("\n")}\n */`
    : `/** ${text} */`;
}

/** The first sentence of a comment that describes something; of a script's header the first paragraph and the last. */
function shorten(comment: string): string {
  if (!comment.startsWith("/**")) return comment;
  const paragraphs = comment.slice(3, -2).replace(/^ *\* ?/gm, "").trim().split(/\n\s*\n/);
  const [first, ...others] = paragraphs.map((paragraph) => paragraph.replace(/\s*\n(?! )/g, " "));
  if (others.length === 0) return `/** ${first.split(/(?<=\.) (?=[A-Z])/)[0]} */`;
  return ["/**", ...wrap(first, 77), "", ...others.at(-1)!.split("\n")].join("\n * ").replace(/ +$/gm, "") + "\n */";
}

function wrap(text: string, width: number): string[] {
  const lines = [""];
  for (const word of text.split(" ")) {
    const line = lines.at(-1)!;
    if (line && line.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = line ? `${line} ${word}` : word;
  }
  return lines;
}

/**
 * Puts the script first. If classes or variables stand below it, those exist once they have been reached. So a script
 * that only declares things, and then makes a call, has that call as its last line; another one becomes a function.
 */
function layOut(text: string): string {
  const { file, checker } = parse(text);
  const mark = file.statements.findIndex(ts.isDebuggerStatement);
  const imports = file.statements.filter(ts.isImportDeclaration);
  const lessonStart = imports.at(-1)?.end ?? 0;
  const head = text.slice(0, lessonStart).trim();
  const lesson = text.slice(lessonStart, startOf(file.statements[mark])).trim();
  const modules = text.slice(file.statements[mark].end).trim();
  const needsFunction = file.statements.slice(mark).some((node) =>
    ts.isClassDeclaration(node) || ts.isVariableStatement(node)
  );
  if (!needsFunction) return [head, lesson, modules].join("\n\n");
  const isBelow = (node: Node) =>
    ts.isIdentifier(node) &&
    checker.getSymbolAtLocation(node)?.declarations?.some((declaration) =>
        declaration.getSourceFile() === file && declaration.pos > file.statements[mark].pos
      ) === true;
  const statements = file.statements.slice(imports.length, mark);
  const declarations = statements.slice(0, -1), call = statements.at(-1);
  const isStill = declarations.every((node) =>
    isDeclaration(node) || ts.isTypeAliasDeclaration(node) || (ts.isVariableStatement(node) && !some(node, isBelow))
  );
  if (call && isStill) {
    const start = startOf(call), rest = text.slice(lessonStart, start).trim();
    return [head, rest, modules, text.slice(start, call.end).trim()].join("\n\n");
  }
  const name = file.statements.some((node) => declaredNames(node).includes("main")) ? "run" : "main";
  const isAsync = statements.some(awaits);
  const signature = isAsync ? `async function ${name}(): Promise<void>` : `function ${name}(): void`;
  return [head, `${signature} {\n${lesson}\n}`, modules, `${isAsync ? "await " : ""}${name}();`].join("\n\n");
}

function awaits(node: Node): boolean {
  if (ts.isFunctionLike(node) || ts.isClassLike(node)) return false;
  return ts.isAwaitExpression(node) || (ts.isForOfStatement(node) && node.awaitModifier !== undefined) ||
    ts.forEachChild(node, (child) => awaits(child) || undefined) === true;
}

/** Formats by `deno fmt`'s own rules, whatever the folder's settings are; now and then it takes a second time. */
function format(text: string): string {
  const deno = runtime === "deno" ? process.execPath : "deno";
  for (;;) {
    const { error, status, stdout, stderr } = spawnSync(deno, ["fmt", "--no-config", "--ext=ts", "-"], {
      input: text,
      encoding: "utf8",
    });
    if (error) fail("cannot run deno fmt", error);
    if (status !== 0) fail(`cannot format ${script}`, stderr.trim() || "deno fmt failed");
    if (stdout === text) return text;
    text = stdout;
  }
}
