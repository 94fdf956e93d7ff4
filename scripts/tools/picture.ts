// SPDX-License-Identifier: MIT
/** Draws lanes: for a terminal, and as SVG. Both divide time into cells, and a cell shows what took most of it. */

import { duration, type Kind, kinds, type Lane, type Picture } from "./lanes.ts";

/** How each kind looks: in a terminal a character and its colour, in SVG the fill on a light and on a dark page. */
const looks: Record<Kind, [character: string, colour: number, light: string, dark: string]> = {
  connect: ["╌", 35, "#d4b6f0", "#6b4a8f"],
  backlog: ["▓", 35, "#e3a9e0", "#85417f"],
  line: ["▒", 31, "#ffb1a1", "#9a3b2c"],
  wait: ["░", 33, "#ffe07a", "#7d6110"],
  served: ["█", 32, "#86d497", "#2b7a3f"],
  deaf: ["≠", 31, "#cfa791", "#7a4f38"],
  half: ["╴", 36, "#b3bfd4", "#4a5a75"],
  quiet: ["─", 90, "#e4e8ed", "#30363d"],
  compute: ["█", 34, "#79aef5", "#2d62b3"],
  busy: ["╳", 31, "#ff9a70", "#ab4a1e"],
  held: ["┄", 36, "#d3e6f8", "#263b50"],
  sleep: ["·", 90, "#e4e8ed", "#30363d"],
  // Its reason alone is shown.
  lost: [" ", 31, "none", "none"],
};

/** Equal neighbouring cells. */
interface Strip {
  start: number;
  length: number;
  kind: Kind;
  texts: string[];
}

/** Divides a lane into cells. What counts gets at least so many of them, however short it was. */
function divide({ spans }: Lane, end: number, cells: number, least: number): Strip[] {
  const step = end / cells, owner: number[] = Array(cells).fill(-1), most: number[] = Array(cells).fill(0);
  spans.forEach(({ from, kind, ...span }, i) => {
    const to = kind === "lost" ? end : span.to;
    for (let cell = Math.floor(from / step); cell < cells && cell * step < to; cell++) {
      const share = Math.min(to, (cell + 1) * step) - Math.max(from, cell * step);
      if (share > most[cell]) [owner[cell], most[cell]] = [i, share];
    }
  });
  spans.forEach(({ from, kind }, i) => {
    // A client's share of it needs no number.
    const enough = kind === "served" ? Math.ceil(least / 3) : least;
    if (!("counts" in kinds[kind]) || owner.filter((one) => one === i).length >= enough) return;
    const first = Math.min(Math.floor(from / step), cells - enough);
    owner.fill(i, first, first + enough);
  });
  const strips: Strip[] = [];
  owner.forEach((i, start) => {
    if (i < 0) return;
    const { kind, texts } = spans[i], last = strips.at(-1);
    const same = last && last.start + last.length === start && last.kind === kind && last.texts[0] === texts[0];
    if (same) last.length++;
    else strips.push({ start, length: 1, kind, texts });
  });
  return strips;
}

/** Where a text goes, by its strip: into all that it fits into, but what a thread sleeps in is said once. */
function place(strips: Strip[], width: (text: string) => number): Map<Strip, string> {
  const placed = new Map<Strip, string>(), longest = new Map<string, Strip>();
  for (const strip of strips) {
    const text = strip.texts.find((text) => width(text) <= strip.length);
    if (!text) continue;
    const key = strip.texts[0], other = longest.get(key);
    if (strip.kind === "sleep" || strip.kind === "held") {
      if (other && other.length >= strip.length) continue;
      if (other) placed.delete(other);
      longest.set(key, strip);
    }
    placed.set(strip, text);
  }
  return placed;
}

/** The kinds that can be seen: of clients, and of threads. */
function legend(pictures: Picture[], end: number): [who: string, kinds: Kind[]][] {
  const used = new Set(
    pictures.flatMap(({ clients, threads }) => [...clients, ...threads])
      .flatMap(({ spans }) => spans)
      .filter(({ from, to, kind }) => "counts" in kinds[kind] || to - from > end / 200).map(({ kind }) => kind),
  );
  const seen = (Object.keys(kinds) as Kind[]).filter((kind) => used.has(kind) && kinds[kind].about);
  return ["clients", "threads"].map((who) => [who, seen.filter((kind) => kinds[kind].who === who)]);
}

/** Where the axis has marks, at most so many: milliseconds. */
function marks(start: number, length: number, most: number): number[] {
  const step = [50, 100, 200, 500, 1000, 2000, 5000].find((step) => length / step <= most) ?? 10_000;
  const first = Math.ceil(start / step), last = Math.floor((start + length) / step);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

function mark(milliseconds: number): string {
  return milliseconds === 0 ? "0" : `${milliseconds / 1000} s`;
}

/** Milliseconds that the longest of them shows. */
function longest(pictures: Picture[]): number {
  return Math.max(...pictures.map(({ end }) => end));
}

function source({ kernel }: Picture): string {
  return kernel ? "threads, from the kernel" : "threads, from the log";
}

function total({ total }: Lane): string {
  return total < 0 ? "" : duration(total);
}

/** Columns of a terminal that a text takes: East Asian characters and emoji take two, combining ones none. */
function columns(text: string): number {
  const wide =
    /[\p{Script=Han}\p{Script=Hangul}\p{Script=Hiragana}\p{Script=Katakana}\p{Emoji_Presentation}\uff01-\uff60]/u;
  return [...text].reduce((sum, one) => sum + (wide.test(one) ? 2 : /\p{M}/u.test(one) ? 0 : 1), 0);
}

/** Breaks a text into lines of so many columns, between words if it can. */
function wrap(text: string, width: number): string[] {
  const lines = [""];
  for (const word of text.split(" ")) {
    if (lines.at(-1) !== "" && columns(`${lines.at(-1)} ${word}`) > width) lines.push("");
    const room = lines.at(-1) === "" ? "" : " ";
    for (const one of room + word) {
      if (columns(lines.at(-1)! + one) > width) lines.push("");
      lines[lines.length - 1] += one;
    }
  }
  return lines;
}

const LABEL = 11, TAIL = 8;

/** For a terminal of so many columns. */
export function drawText(pictures: Picture[], width: number, coloured: boolean): string {
  const end = longest(pictures);
  width = Math.max(width, 30);
  const tail = width < 50 ? 0 : TAIL, cells = Math.max(10, width - LABEL - tail);
  const paint = (colour: number, text: string) => coloured ? `\x1b[${colour}m${text}\x1b[0m` : text;
  const row = (name: string, lane: string, end: string) =>
    `${name.slice(0, LABEL - 1).padEnd(LABEL)}${lane}${tail ? end.padStart(tail) : ""}`.trimEnd();
  const drawLane = (lane: Lane) => {
    const strips = divide(lane, end, cells, 1);
    const texts = place(strips, (text) => text.length < 3 ? text.length : text.length + 2);
    // Two texts don't touch: `worded` is the column up to which there is one.
    let line = "", column = 0, worded = -1;
    for (const strip of strips) {
      const [character, colour] = looks[strip.kind], touches = worded === strip.start;
      const fits = (text: string) => !touches || text.length < strip.length;
      const text = [texts.get(strip) ?? "", ...strip.texts.slice(1)].find(fits) ?? "";
      const before = text.length < 3 && !touches ? "" : strip.kind === "lost" ? " " : character;
      line += " ".repeat(strip.start - column) + paint(colour, (before + text).padEnd(strip.length, character));
      column = strip.start + strip.length;
      if (text) worded = strip.start + (before + text).length;
    }
    return row(lane.name, line + " ".repeat(cells - column), total(lane));
  };
  const lines: string[] = [];
  for (const picture of pictures) {
    const { title, clients, threads, notes } = picture;
    lines.push(...wrap(title, width).map((line) => paint(1, line)));
    if (clients.length + threads.length > 0) {
      let axis = "";
      for (const at of marks(0, end, cells / 8)) {
        const column = Math.floor(at / end * cells);
        if (column + mark(at).length <= cells) axis = axis.padEnd(column) + mark(at);
      }
      lines.push(row("clients", axis.padEnd(cells), "waited"), ...clients.map(drawLane));
      lines.push(
        (source(picture).padEnd(width - tail) + (tail ? "CPU".padStart(tail) : "")).trimEnd(),
        ...threads.map(drawLane),
      );
    }
    lines.push(...notes.flatMap((note) => wrap(note, width - 2)).map((line) => `  ${line}`), "");
  }
  // A sign stays with its words.
  for (const [who, seen] of legend(pictures, end)) {
    const signs = seen.map((kind) => `${looks[kind][0]} ${kinds[kind].about} `.replaceAll(" ", "\xa0"));
    if (signs.length === 0) continue;
    lines.push(...wrap(`${who}: ${signs.join(" ")}`, width).map((line) => line.replaceAll("\xa0", " ").trimEnd()));
  }
  return lines.join("\n") + "\n";
}

// ---------------------------------------------------------------- SVG

const WIDTH = 900, LEFT = 88, RIGHT = 72, ROW = 19, BAR = 15, LETTER = 7;

/**
 * As a picture for a page as wide as a README, or so many pixels, with room for so many milliseconds. Letters are all
 * of the same width, so that it is known what fits.
 */
export function drawSvg(pictures: Picture[], end = longest(pictures), width = WIDTH): string {
  const cells = width - LEFT - RIGHT,
    x = (at: number) => Math.round(LEFT + at / end * cells),
    parts: string[] = [],
    drawn = Object.keys(looks).slice(0, -1) as Kind[];
  let y = 0;
  const text = (x: number, text: string, attributes = "") =>
    parts.push(`<text x="${x}" y="${y + 12}"${attributes}>${escape(text)}</text>`);
  const drawLane = (lane: Lane) => {
    text(0, lane.name);
    const strips = divide(lane, end, cells, LETTER + 4),
      texts = place(strips, (text) => LETTER * text.length + (text.length < 3 ? 3 : 8));
    for (const kind of drawn) {
      const boxes = strips.filter((strip) => strip.kind === kind)
        .map(({ start, length }) => [start, Math.max(1, length - 1)])
        // The gap tells work for one client from work for the next.
        .map(([start, length]) => `M${LEFT + start} ${y + 1}h${length}v${BAR}h-${length}z`);
      if (boxes.length > 0) parts.push(`<path class="${kind}" d="${boxes.join("")}"/>`);
    }
    for (const [{ start, length }, words] of texts) {
      const centred = words.length < 3;
      text(centred ? LEFT + start + length / 2 : LEFT + start + 4, words, centred ? ' class="m"' : "");
    }
    // It sends: from above. The reply has come: from below.
    const signs = [
      ...lane.sends.map((at) => `M${x(at) - 3} ${y + 1}h6l-3 5z`),
      ...lane.replies.map((at) => `M${x(at) - 3} ${y + 1 + BAR}h6l-3-5z`),
    ];
    if (signs.length > 0) parts.push(`<path class="s" d="${signs.join("")}"/>`);
    text(width, total(lane), ' class="e"');
    y += ROW;
  };
  for (const picture of pictures) {
    const { title, clients, threads, notes, start } = picture;
    text(0, title, ' class="t"');
    y += ROW;
    if (clients.length + threads.length > 0) {
      text(0, "clients", ' class="d"');
      for (const at of marks(start, end, cells / 60)) {
        if (x(at - start) < width - RIGHT - 30) text(x(at - start), mark(at), ' class="d"');
      }
      text(width, "waited", ' class="d e"');
      y += ROW;
      clients.forEach(drawLane);
      text(0, source(picture), ' class="d"');
      text(width, "CPU", ' class="d e"');
      y += ROW;
      threads.forEach(drawLane);
    }
    for (const line of notes.flatMap((note) => wrap(note, Math.floor(width / LETTER)))) {
      text(0, line, ' class="d"');
      y += ROW;
    }
    y += ROW / 2;
  }
  const sent = pictures.some(({ clients }) => clients.some(({ sends }) => sends.length > 0));
  for (const [who, seen] of legend(pictures, end)) {
    const signs = seen.map((kind) => [kind, `h14v${BAR}h-14z`, kinds[kind].about]);
    if (who === "clients" && sent) {
      signs.push(["s", "m4 0h6l-3 5z", "it sends"], ["s", `m4 ${BAR}h6l-3-5z`, "it has the whole reply"]);
    }
    if (signs.length === 0) continue;
    text(0, who, ' class="d"');
    let left = LEFT;
    for (const [kind, path, about] of signs) {
      const length = 20 + LETTER * about.length;
      if (left > LEFT && left + length > width) [left, y] = [LEFT, y + ROW];
      parts.push(`<path class="${kind}" d="M${left} ${y + 1}${path}"/>`);
      text(left + 20, about, ' class="d"');
      left += length + 20;
    }
    y += ROW;
  }
  const fills = drawn.map((kind) => [`.${kind}`, looks[kind][2], looks[kind][3]]);
  const style = (dark: 0 | 1) =>
    [["text,.s", "#1f2328", "#e6edf3"], [".d", "#59636e", "#9198a1"], ...fills]
      .map(([selector, ...colours]) => `${selector}{fill:${colours[dark]}}`).join("");
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y}" viewBox="0 0 ${width} ${y}" role="img">`,
    `<title>${escape(pictures.map(({ title }) => title).join("; "))}</title>`,
    `<style>text{font:11.5px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}` +
    `.t{font-weight:bold}.e{text-anchor:end}.m{text-anchor:middle}` +
    `${style(0)}@media(prefers-color-scheme:dark){${style(1)}}</style>`,
    ...parts,
    "</svg>\n",
  ].join("\n");
}

function escape(text: string): string {
  return text.replace(/[&<>]/g, (one) => `&#${one.charCodeAt(0)};`);
}
