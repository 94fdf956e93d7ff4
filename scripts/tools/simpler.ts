// SPDX-License-Identifier: MIT
/**
 * What standalone.ts writes more simply in a copy than in the scripts, and what it leaves out. No script imports it.
 */

/** What an article does without: what hangs on options that a copy has not, and on the end by a signal. */
export const GONE = ["idle", "silence", "excuse", "excused", "patience", "quiet", "silent", "stopping"];

/** What is written more simply in a copy. The rest is done on the syntax trees of what comes out of this. */
export const SIMPLER: [RegExp, string][] = [
  [/^\/\/ SPDX[^]*?\*\/\n|^(?:\/\*\*.*\*\/\n)?export [{*].*;\n|^export |^\/\/ -{8}.*\n/gm, ""],
  // The runtime's own file has classes of these names.
  [/^interface (Server|Adapter)\b[^]*?^\}\n/gm, ""],
  // An error that would end the program does so by itself.
  [/\s*\.catch\((cannot\w+|\(error\) => fail\(.*\))\)/g, ""],
  [/ try \{\n((?:(?!.*\btry \{).*\n)*?) *\} catch \(error\) \{\n *(?:return )?fail\(.*\);\n *\}/g, "$1"],
  [/\bready\((.*), (.*)\);/g, "console.log(`listening on ${$1}:${$2}`);"],
  [/\bformatAddress\(((?:[^(),]|\([^()]*\))+), ((?:[^(),]|\([^()]*\))+)\)/g, "`${$1}:${$2}`"],
  [/\berrorCode\((\w+)\)/g, "($1 as { code: string }).code"],
  [/\bexplain\((\w+)\)/g, "($1 as Error).message"],
  [/\[list\((.*)\)\]/g, "$1"],
  [/\blist\(((?:[^()]|\([^()]*\))+)\)/g, '$1.join(", ")'],
  [/if \(options\.quiet\) .*;\n\s*else /g, ""],
  // Only program.ts calls these.
  [/^ *abort: \(why\) => .*,\n|^ *abort\(why\) \{\n[^]*?\n {6}\},\n/gm, ""],
  // One object, as there is no more in it than fits.
  [/\.\.\.\{ (.*?) \}/g, "$1"],
  [/`--([a-z])/g, "`$1"],
];
