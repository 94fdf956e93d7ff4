// SPDX-License-Identifier: MIT
/** Draws lanes: for a terminal, and as SVG. Both divide time into cells, and a cell shows what took most of it. */

import { type Calls, duration, type Kind, kinds, type Lane, type Picture, type Span } from "./lanes.ts";

/** Equal neighbouring cells. */
interface Strip {
  start: number;
  length: number;
  kind: Kind;
  texts: string[];
}

/** Divides a lane into cells. What counts gets at least so many of them, however short it was. */
function divide(spans: Span[], end: number, cells: number, least: number): Strip[] {
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

/** What stands above the lanes of a loop's calls. */
const CALLS = "calls, from the log";

/** Whether there are marks where clients send. */
function sent(pictures: Picture[]): boolean {
  return pictures.some(({ clients }) => clients.some(({ sends }) => sends.length > 0));
}

function total({ total }: Pick<Lane, "total">): string {
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

const LABEL = 11, TAIL = 10;
/** In a client's lane, where it sends, where the whole reply has come, and where both happen in one cell. */
const SENDS = "▼", REPLIED = "▲", BOTH = "◆";

/** For a terminal of so many columns. */
export function drawText(pictures: Picture[], width: number, coloured: boolean): string {
  const end = longest(pictures);
  width = Math.max(width, 30);
  const tail = width < 50 ? 0 : TAIL, cells = Math.max(10, width - LABEL - tail);
  const paint = (colour: number, text: string) => coloured ? `\x1b[${colour}m${text}\x1b[0m` : text;
  const row = (name: string, lane: string, end: string) =>
    `${name.slice(0, LABEL - 1).padEnd(LABEL)}${lane}${tail ? end.padStart(tail) : ""}`.trimEnd();
  const cell = (at: number) => Math.min(cells - 1, Math.floor(at / end * cells));
  /** Characters, each in its colour, of which equal ones stand together. */
  const join = (line: [character: string, colour: number][]) => {
    let text = "";
    for (let i = 0, from = 0; i < line.length; i++) {
      if (line[i + 1]?.[1] === line[i][1]) continue;
      const part = line.slice(from, from = i + 1).map(([character]) => character).join("");
      text += part.trim() ? paint(line[i][1], part) : part;
    }
    return text;
  };
  /** With signs, by their columns, that no text may cover. */
  const drawSpans = (name: string, spans: Span[], tail: string, signs: Map<number, string>) => {
    const strips = divide(spans, end, cells, 1), line = Array<[string, number]>(cells).fill([" ", 0]);
    const texts = place(strips, (text) => text.length < 3 ? text.length : text.length + 2);
    // Two texts don't touch: `worded` is the column up to which there is one.
    let worded = -1;
    for (const strip of strips) {
      const [character, colour] = kinds[strip.kind].look, stop = strip.start + strip.length;
      line.fill([character, colour], strip.start, stop);
      for (const text of [texts.get(strip) ?? "", ...strip.texts.slice(1)]) {
        let column = strip.start + Number(text.length > 2 || worded === strip.start);
        const covers = () => [...` ${text} `].some((_, i) => signs.has(column - 1 + i));
        while (column + text.length <= stop && covers()) column++;
        if (column + text.length > stop) continue;
        [...text].forEach((one, i) => line[column + i] = [one, colour]);
        if (text) worded = column + text.length;
        break;
      }
    }
    for (const [column, sign] of signs) line[column] = [sign, 1];
    return row(name, join(line), tail);
  };
  const drawClient = ({ name, spans, sends, replies, ...lane }: Lane) => {
    const signs = new Map(sends.map((at) => [cell(at), SENDS]));
    for (const at of replies) signs.set(cell(at), signs.get(cell(at)) === SENDS ? BOTH : REPLIED);
    return drawSpans(name, spans, total(lane), signs);
  };
  const drawCalls = ({ name, unit, stacks, spans }: Calls) => {
    const signs = new Map<number, string>();
    for (const { at, of, ready } of stacks) {
      const first = cell(at), digits = [...String(ready || of)];
      // One that does not fit behind the last is left out.
      if (signs.has(first) || signs.has(first - 1) || first + digits.length > cells) continue;
      digits.forEach((digit, i) => signs.set(first + i, digit));
    }
    return drawSpans(name, spans, unit, signs);
  };
  const lines: string[] = [];
  for (const picture of pictures) {
    const { title, clients, threads, calls, notes } = picture;
    lines.push(...wrap(title, width).map((line) => paint(1, line)));
    if (clients.length + threads.length > 0) {
      let axis = "";
      for (const at of marks(0, end, cells / 8)) {
        const column = Math.floor(at / end * cells);
        if (column + mark(at).length <= cells) axis = axis.padEnd(column) + mark(at);
      }
      const heading = (text: string, end: string) =>
        lines.push((text.padEnd(width - tail) + (tail ? end.padStart(tail) : "")).trimEnd());
      lines.push(row("clients", axis.padEnd(cells), "waited"), ...clients.map(drawClient));
      heading(source(picture), "CPU");
      lines.push(...threads.map((lane) => drawSpans(lane.name, lane.spans, total(lane), new Map())));
      if (calls.length > 0) heading(CALLS, "of what");
      lines.push(...calls.map(drawCalls));
    }
    lines.push(...notes.flatMap((note) => wrap(note, width - 2)).map((line) => `  ${line}`), "");
  }
  // A sign stays with its words.
  for (const [who, seen] of legend(pictures, end)) {
    const words = seen.map((kind) => `${kinds[kind].look[0]} ${kinds[kind].about} `);
    if (who === "clients" && sent(pictures)) {
      words.push(`${SENDS} sends `, `${REPLIED} has the whole reply `, `${BOTH} both `);
    }
    const signs = words.map((word) => word.replaceAll(" ", "\xa0"));
    if (signs.length === 0) continue;
    lines.push(...wrap(`${who}: ${signs.join(" ")}`, width).map((line) => line.replaceAll("\xa0", " ").trimEnd()));
  }
  return lines.join("\n") + "\n";
}

// ---------------------------------------------------------------- SVG

/** Pixels: how high and how wide the pile of a call is, and that a call has for itself. */
const PILE = 20, PILE_WIDTH = 8, APART = 9;
const WIDTH = 900, LEFT = 88, RIGHT = 72, ROW = 19, BAR = 15, LETTER = 7;

/**
 * As a picture for a page as wide as a README, or so many pixels, with room for so many milliseconds. Letters are all
 * of the same width, so that it is known what fits.
 */
export function drawSvg(pictures: Picture[], end = longest(pictures), width = WIDTH): string {
  const cells = width - LEFT - RIGHT,
    x = (at: number) => Math.round(LEFT + at / end * cells),
    parts: string[] = [],
    drawn = Object.keys(kinds).slice(0, -1) as Kind[];
  let y = 0;
  const text = (x: number, text: string, attributes = "") =>
    parts.push(`<text x="${x}" y="${y + 12}"${attributes}>${escape(text)}</text>`);
  /** No text lies on a sign, if there is room for it behind. */
  const drawSpans = (spans: Span[], signs: number[] = []) => {
    const strips = divide(spans, end, cells, LETTER + 4),
      texts = place(strips, (text) => LETTER * text.length + (text.length < 3 ? 3 : 8));
    for (const kind of drawn) {
      const boxes = strips.filter((strip) => strip.kind === kind)
        .map(({ start, length }) => [start, Math.max(1, length - 1)])
        // The gap tells work for one client from work for the next.
        .map(([start, length]) => `M${LEFT + start} ${y + 1}h${length}v${BAR}h-${length}z`);
      if (boxes.length > 0) parts.push(`<path class="${kind}" d="${boxes.join("")}"/>`);
    }
    for (const [{ start, length }, words] of texts) {
      const centred = words.length < 3, wide = LETTER * words.length;
      let left = LEFT + start + 4;
      for (const sign of signs) {
        const covers = sign > left - 4 && sign < left + wide + 4, behind = sign + 6;
        if (covers && behind + wide <= LEFT + start + length) left = behind;
      }
      text(centred ? LEFT + start + length / 2 : left, words, centred ? ' class="m"' : "");
    }
  };
  const drawLane = (lane: Lane) => {
    text(0, lane.name);
    drawSpans(lane.spans, [...lane.sends, ...lane.replies].map(x).sort((a, b) => a - b));
    // It sends: from above. The reply has come: from below.
    const signs = [
      ...lane.sends.map((at) => `M${x(at) - 3} ${y + 1}h6l-3 5z`),
      ...lane.replies.map((at) => `M${x(at) - 3} ${y + 1 + BAR}h6l-3-5z`),
    ];
    if (signs.length > 0) parts.push(`<path class="s" d="${signs.join("")}"/>`);
    text(width, total(lane), ' class="e"');
    y += ROW;
  };
  /** A pile for each call: bars, or dots for what uring queues. The ready ones lie below. A signal is a flag. */
  const drawCalls = ({ name, unit, stacks, spans }: Calls) => {
    const bottom = y + PILE + 1, single = apart(stacks, ({ at }) => x(at));
    const drawPiles = (kind: string, counts: number[]) => {
      const round = unit === "requests" || unit === "completed", most = Math.max(...counts);
      const pitch = Math.max(2, Math.min(round ? 6 : 4, Math.floor(PILE / most)));
      const high = PILE / pitch, wide = PILE_WIDTH / Math.ceil(most / high);
      const piles = counts.flatMap((count, i) =>
        Array.from({ length: Math.ceil(count / high) }, (_, column) => {
          const length = pitch * Math.min(high, count - column * high);
          const left = x(single[i].at) + wide * (column + 0.5);
          return `M${left.toFixed(1)} ${round ? `${bottom - 3}v-${length - pitch + 0.1}` : `${bottom}v-${length}`}`;
        })
      );
      const look = round
        ? `stroke-width="5" stroke-linecap="round" stroke-dasharray="0 ${pitch}"`
        : `stroke-width="${(wide - 0.5).toFixed(1)}" stroke-dasharray="${pitch - 0.7} 0.7"`;
      if (most > 0) parts.push(`<path class="${kind}" ${look} d="${piles.join("")}"/>`);
    };
    if (unit === "signals") {
      parts.push(
        `<path class="s" d="${single.map(({ at }) => `M${x(at)} ${bottom}v-16h8l-2 3 2 3h-7v10z`).join("")}"/>`,
      );
    } else {
      drawPiles("cells", single.map(({ of }) => of));
      drawPiles("ready", single.map(({ ready }) => ready));
    }
    y += 4;
    text(0, name);
    // Behind the pile of the last call that is drawn.
    const beside = PILE_WIDTH * end / cells;
    drawSpans(spans.map((span) => ({ ...span, from: Math.min(span.from + beside, span.to) })));
    text(width, unit, ' class="d e"');
    y += PILE;
  };
  for (const picture of pictures) {
    const { title, clients, threads, calls, notes, start } = picture;
    text(0, title, ' class="t"');
    y += ROW;
    if (clients.length + threads.length > 0) {
      text(0, "clients", ' class="d"');
      for (const at of marks(start, end, cells / 60)) {
        if (x(at - start) < width - RIGHT - 30) text(x(at - start), mark(at), ' class="d"');
      }
      text(width, "waited", ' class="d e"');
      y += ROW;
      for (const lane of clients) {
        // The page of timeline.ts --live looks for it.
        parts.push(`<g data-lane="${lane.name}">`);
        drawLane(lane);
        parts.push("</g>");
      }
      text(0, source(picture), ' class="d"');
      text(width, "CPU", ' class="d e"');
      y += ROW;
      threads.forEach(drawLane);
      if (calls.length > 0) {
        text(0, CALLS, ' class="d"');
        text(width, "of what", ' class="d e"');
        y += ROW;
      }
      calls.forEach(drawCalls);
    }
    for (const line of notes.flatMap((note) => wrap(note, Math.floor(width / LETTER)))) {
      text(0, line, ' class="d"');
      y += ROW;
    }
    y += ROW / 2;
  }
  for (const [who, seen] of legend(pictures, end)) {
    const signs = seen.map((kind) => [kind, `h14v${BAR}h-14z`, kinds[kind].about]);
    if (who === "clients" && sent(pictures)) {
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
  const fills = drawn.map((kind) => [`.${kind}`, ...kinds[kind].look.slice(2)]);
  const style = (dark: 0 | 1) =>
    [["text,.s", "#1f2328", "#e6edf3"], [".d", "#59636e", "#9198a1"], ...fills]
      .map(([selector, ...colours]) => `${selector}{fill:${colours[dark]}}`).join("");
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y}" viewBox="0 0 ${width} ${y}" role="img">`,
    `<title>${escape(pictures.map(({ title }) => title).join("; "))}</title>`,
    `<style>text{font:11.5px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}` +
    `.t{font-weight:bold}.e{text-anchor:end}.m{text-anchor:middle}` +
    `.cells,.ready{stroke:#8b949e}.ready{stroke:#1f2328}${style(0)}` +
    `@media(prefers-color-scheme:dark){.ready{stroke:#e6edf3}${style(1)}}</style>`,
    ...parts,
    "</svg>\n",
  ].join("\n");
}

/** Without what would lie on the one before: calls come too quickly for some pictures. */
function apart<T>(all: T[], place: (one: T) => number): T[] {
  let last = -APART;
  return all.filter((one) => place(one) - last >= APART && (last = place(one), true));
}

function escape(text: string): string {
  return text.replace(/[&<>]/g, (one) => `&#${one.charCodeAt(0)};`);
}
