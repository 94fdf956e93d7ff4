// SPDX-License-Identifier: MIT
/** What a copy has of program.ts. */

/** Prints an event: what happens, to which connection, details. */
export function log(what: string, id: number, ...details: unknown[]): void {
  console.log(`${what} #${id}`, ...details);
}

/** Prints what a wait has found: figures with their meanings, and a detail. */
export function logWait(call: string, figures: object, detail = () => ""): void {
  const words = Object.entries(figures).map(([name, n]) => `${n} ${name}`);
  console.log([call, words.join(", "), detail()].filter(Boolean).join(" "));
}

/** Prints what `lines` returns, every so many seconds. */
export function heartbeat(what: string, seconds: number, lines: () => string[]): void { // only nonblocking
  setInterval(() => console.log(what, ...lines()), seconds * 1000); // only nonblocking
} // only nonblocking

/** Prints that the server is ready. */
export function ready(host: string, port: number): void {
  console.log(`listening on ${host}:${port}`);
}

/** `HOST:PORT`. */
export function formatAddress(host: string, port: number): string {
  return `${host}:${port}`;
}

/** How many there are, and which. */
export function list(items: string[]): string {
  return `${items.length}: ${items.join(", ")}`;
}

/** Whether a message begins with `light`. */
export function isLight(data: Uint8Array): boolean {
  return new TextDecoder().decode(data.subarray(0, 5)) === "light";
}

/** Computes for so many milliseconds. */
export function burn(_id: number, milliseconds: number, _: Uint8Array): void {
  for (const end = performance.now() + milliseconds; performance.now() < end;);
}
