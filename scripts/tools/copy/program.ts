// SPDX-License-Identifier: MIT
/** What a copy has of program.ts. */

/** Prints an event: what happens, to which connection (0 for none), details. */
export function log(event: string, id: number, ...details: unknown[]): void {
  console.log([event, ...id > 0 ? [`#${id}`] : [], ...details].join(" "));
}

/** Bytes for the log: how many, and the first 60 of them as text. */
export function shown(data: Uint8Array): string {
  const text = new TextDecoder().decode(data.subarray(0, 60));
  return `${data.length} ${JSON.stringify(text)}`;
}

/** Prints what a wait has found: figures with their meanings, and a detail. */
export function logWait(
  event: string,
  figures: Record<string, number>,
  detail = () => "",
): void {
  const words = Object.entries(figures).map(([name, n]) => `${n} ${name}`);
  console.log(event, words.join(", "), detail());
}

/** Prints what `lines` returns, every so many seconds. */
export function heartbeat(
  event: string,
  seconds: number,
  lines: () => string[],
): void {
  setInterval(() => {
    for (const line of lines()) console.log(event, line);
  }, seconds * 1000);
}
