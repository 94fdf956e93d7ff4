// SPDX-License-Identifier: MIT
/** A page on which lanes grow while its reader plays the clients: its own server, on the loopback alone. */

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { readFileSync } from "node:fs";
import { type AddressInfo } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { draw } from "./lanes.ts";
import { optionsOf } from "./models.ts";
import { drawSvg } from "./picture.ts";
import { explain, fail, onStop, printAll } from "../shim/program.ts";
import { type Client, Session, type Settings } from "./session.ts";
import { abouts, glossary, type Language, languages, looks, type Phrase, say } from "./words.ts";

/** Milliseconds: that a picture shows; between two pictures; that the servers run on though no page is open. */
const WINDOW = 20_000, EACH = 300, UNSEEN = 5000;
/** Clients at the same time, bytes that one may wait for, and characters of what a page may say. */
const MOST_CLIENTS = 50, MOST_MISSING = 64 << 20, MOST_BODY = 2000;
/** These would run any program, or let in others than this machine: they are for the command line. */
const FORBIDDEN = /^--(exec|host|port)(=|$)/;

/** What the chosen client can be told; each is a button. */
const acts = {
  "send 1 B": (client) => client.send("x"),
  "send light": (client) => client.send("light"),
  "send 64 KiB": (client) => client.send(new Uint8Array(1 << 16).fill(120)),
  "send 16 MiB": (client) => client.send(new Uint8Array(1 << 24).fill(120)),
  "stop reading": (client) => client.pause(),
  "read again": (client) => client.resume(),
  "half-close": (client) => client.finish(),
  "reset": (client) => client.reset(),
  "close": (client) => client.close(),
} satisfies Partial<Record<Phrase, (client: Client) => void>>;

/** An experiment: what runs, and the buttons that are pressed, each after so many milliseconds. */
interface Lesson {
  models: [model: string, options: string][];
  steps: [after: number, what: keyof typeof acts | "connect 1", client?: string][];
}

const lessons: Record<keyof typeof looks, Lesson> = {
  "the fourth waits": {
    models: [["pool", ""]],
    steps: [
      ...Array<[number, "connect 1"]>(4).fill([400, "connect 1"]),
      [400, "send 1 B", "D"],
      [3000, "close", "A"],
    ],
  },
  "backpressure": {
    models: [["tasks", "--work 0"]],
    steps: [[400, "connect 1"], [600, "stop reading", "A"], [600, "send 16 MiB", "A"], [4000, "read again", "A"]],
  },
  "half-close": {
    models: [["tasks", "--work 2000"]],
    steps: [[400, "connect 1"], [600, "send 1 B", "A"], [500, "half-close", "A"]],
  },
  "one client computes": {
    models: [["tasks", "--work 2000"], ["offload", "--work 2000"]],
    steps: [[400, "connect 1"], [300, "connect 1"], [600, "send 1 B", "A"], [300, "send light", "B"]],
  },
};

/** Lines of a log that the page shows. */
const LOG_LINES = 200;
/** Pixels: the width of a picture on a phone, and elsewhere. */
const NARROW = 360, WIDE = 900;
/** What a page can be like. */
const views = languages.flatMap((language) => [NARROW, WIDE].map((width) => ({ language, width })));
type View = typeof views[number];

/** Serves the page until this process is stopped. It offers the `chosen` models first, of those in `folder`. */
export async function live(folder: string, models: string[], chosen: string[], port: number, settings: Settings) {
  let sessions: Session[] = [],
    phase: "stopped" | "starting" | "running" = "stopped",
    reason: Phrase = "stopped",
    choice: [model: string, options: string][] = [],
    seen = 0,
    named = 0,
    timer: ReturnType<typeof setInterval>;
  /** Each is one client of every server. */
  const clients = new Map<string, Client[]>(), pages = new Map<ServerResponse, View>();

  const running = () => sessions.filter((session) => session.running);
  const present = (name: string) => (clients.get(name) ?? []).filter(({ visit }) => visit.end === 0);
  const open = () => [...clients.keys()].filter((name) => present(name).length > 0);

  /** What such a page shows now. */
  function news({ language, width }: View): string {
    const recordings = sessions.map((session) => session.snapshot());
    const shows = recordings.map((recording) => ({
      model: recording.model,
      svg: drawSvg([draw(recording, Math.max(0, recording.end - WINDOW))], WINDOW, width),
      log: recording.lines.slice(-LOG_LINES).map(({ time, thread, event, id, detail }) =>
        [time.toFixed(1).padStart(8), thread, event, id > 0 ? `#${id}` : "", detail].filter(Boolean).join(" ")
      ).join("\n"),
    }));
    const all = recordings.every(({ end }) => end <= WINDOW);
    const since = all ? "everything since the start is shown" : "the last {} s are shown";
    const state = say(language, phase === "stopped" ? reason : phase);
    const text = sessions.length === 0
      ? say(language, "Choose a model, or two, start it, and be its clients.")
      : `${state}${say(language, ": ")}${say(language, since, WINDOW / 1000)}`;
    const labels = open().map((name) => {
      const notes = present(name)[0].notes.map((note) => say(language, note));
      return [name, [name, ...notes].join(", ")];
    });
    return `data: ${JSON.stringify({ shows, phase, text, choice, clients: labels })}\n\n`;
  }

  function publish(): void {
    if (pages.size === 0) return;
    seen = performance.now();
    for (const view of new Set(pages.values())) {
      const text = news(view);
      // One that reads slowly misses some.
      for (const [page, own] of pages) if (own === view && page.writableLength < 1 << 20) page.write(text);
    }
  }

  async function start(fields: URLSearchParams, refuse: Refuse): Promise<void> {
    if (phase === "starting") refuse("one moment, the servers are starting");
    const wanted = [1, 2].map((place) => ({
      model: fields.get(`model${place}`) ?? "",
      options: (fields.get(`options${place}`) ?? "").split(/\s+/).filter(Boolean),
    })).filter(({ model }) => model);
    for (const { model, options } of wanted) {
      if (!models.includes(model)) refuse("unknown model {}", model);
      const bad = options.find((option) => FORBIDDEN.test(option));
      if (bad) refuse("{} can only be given on the command line, after --", bad);
    }
    phase = "starting";
    try {
      await stop();
      clients.clear();
      [named, seen] = [0, performance.now()];
      clearInterval(timer);
      timer = setInterval(() => {
        publish();
        if (performance.now() - seen > UNSEEN) stop("stopped, as no page was open");
      }, EACH);
      choice = wanted.map(({ model, options }) => [model, options.join(" ")]);
      reason = "stopped, as the servers have ended";
      sessions = wanted.map(({ model, options }) =>
        new Session(folder, model, { ...settings, options: [...settings.options, ...options] })
      );
      await Promise.all(sessions.map((session) => session.start()));
      const origin = performance.now();
      for (const session of sessions) {
        session.begin(origin);
        // What it sent last is on its way.
        session.ended.then(() => pause(50)).then(() => session.freeze()).then(rest);
      }
    } finally {
      phase = "running";
      rest();
    }
    const failed = sessions.findIndex(({ failure }) => failure);
    if (failed >= 0) throw new Error(`${wanted[failed].model}: ${sessions[failed].failure}`);
  }

  /** Ends the servers; what they did is still shown. */
  async function stop(why = reason): Promise<void> {
    if (phase === "starting" || running().length > 0) reason = why;
    await Promise.all(sessions.map((session) => session.stop()));
    rest();
  }

  /** Nothing is drawn any more once nothing runs. */
  function rest(): void {
    if (phase === "running" && running().length === 0) {
      phase = "stopped";
      clearInterval(timer);
    }
    publish();
  }

  async function obey(fields: URLSearchParams, refuse: Refuse): Promise<void> {
    const what = fields.get("what") ?? "", count = /^connect (1|10)$/.exec(what)?.[1];
    if (what === "start") return await start(fields, refuse);
    if (what === "stop") return await stop("stopped, as you have asked");
    if (running().length === 0) refuse("no server runs");
    if (count) {
      if (open().length + Number(count) > MOST_CLIENTS) refuse("{} clients are the most", MOST_CLIENTS);
      for (let i = 0; i < Number(count); i++) {
        const name = letters(named++);
        clients.set(name, running().map((session) => session.connect(name)));
      }
      return;
    }
    const name = fields.get("client") || open().at(-1) || "";
    const act = Object.entries(acts).find(([name]) => name === what)?.[1] ?? refuse("unknown action {}", what);
    if (!open().includes(name)) refuse("client {} is not connected", name);
    if (what.startsWith("send") && present(name).some(({ missing }) => missing > MOST_MISSING)) {
      refuse("client {} has not got back enough of what it sent", name);
    }
    if (what.startsWith("send") && present(name).some(({ notes }) => notes.includes("half-closed"))) {
      refuse("client {} has shut down its sending side", name);
    }
    present(name).forEach(act);
  }

  const server = createServer(async (request, response) => {
    const reply = (status: number, text: string, type = "text/plain") =>
      response.writeHead(status, { ...headers, "content-type": `${type}; charset=utf-8` }).end(text);
    // The page that has asked may be closed.
    response.on("error", () => {});
    const { method, url, headers: { host, origin } } = request;
    // Other pages in the same browser can send requests here, too, and have their own names lead here.
    const own = hosts.find((own) => own.host === host);
    if (!own || (method !== "GET" || origin) && origin !== own.origin) return reply(403, "not from the page itself\n");
    // The page reads its choice in the address itself.
    const [path, query] = (url ?? "").split("?");
    // What its browser prefers, unless it asks for one.
    const preferred = /^zh\b/i.test(request.headers["accept-language"] ?? "") ? "zh" : "en";
    const language = path === "/" ? preferred : languages.find((language) => path === `/${language}`);
    if (method === "GET" && language) return reply(200, page(language, models, chosen), "text/html");
    const source = models.find((model) => path === `/${model}.ts`);
    if (method === "GET" && source) return reply(200, readFileSync(`${folder}/${source}.ts`, "utf8"));
    if (method === "GET" && path === "/events") {
      const wanted = new URLSearchParams(query);
      const view = views.find(({ language, width }) =>
        language === languageOf(wanted) && width === (wanted.has("narrow") ? NARROW : WIDE)
      )!;
      response.writeHead(200, { ...headers, "content-type": "text/event-stream" });
      response.on("close", () => pages.delete(response));
      pages.set(response, view);
      return response.write(news(view));
    }
    if (method !== "POST" || url !== "/do") return reply(404, "there is only / here\n");
    const body = await read(request);
    if (body === undefined) return reply(413, "too long\n");
    try {
      const fields = new URLSearchParams(body);
      await obey(fields, (...why) => {
        throw new Error(say(languageOf(fields), ...why));
      });
      reply(200, "");
    } catch (error) {
      // A browser would log another status as an error of the page.
      reply(200, `${explain(error)}\n`);
    }
  });
  server.on("error", (error) => fail(`cannot listen on 127.0.0.1:${port}`, error));
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", () => resolve()));
  const taken = (server.address() as AddressInfo).port;
  const hosts = ["127.0.0.1", "localhost", "[::1]"].map((name) => new URL(`http://${name}:${taken}`));
  onStop(() => stop());
  await printAll(`${hosts[0]} is the page; Ctrl-C ends it, and its servers\n`);
  return await new Promise<never>(() => {});
}

/** Tells the page, in its language, why it does not have its way. */
type Refuse = (why: Phrase, value?: string | number) => never;

function languageOf(fields: URLSearchParams): Language {
  return fields.get("language") === "zh" ? "zh" : "en";
}

const nonce = crypto.randomUUID();
const headers = {
  "cache-control": "no-store",
  "x-content-type-options": "nosniff",
  // Whatever stands in a log is text. No other page may put this one into a frame, and have its buttons pressed.
  "content-security-policy": "default-src 'none'; connect-src 'self'; img-src data:; style-src 'unsafe-inline'; " +
    `script-src 'nonce-${nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
};

/** What was sent with a request; `undefined` if that is too long. */
function read(request: IncomingMessage): Promise<string | undefined> {
  let text = "";
  return new Promise((resolve) => {
    request.setEncoding("utf8").on("data", (part: string) => {
      if (text.length <= MOST_BODY) text += part;
      if (text.length > MOST_BODY) resolve(undefined);
    });
    request.on("end", () => resolve(text));
    request.on("error", () => resolve(undefined));
  });
}

/** The name of a client, not to be taken for the number of a connection: A to Z, AA, AB, ... */
function letters(index: number): string {
  return (index < 26 ? "" : letters(Math.floor(index / 26) - 1)) + String.fromCharCode(65 + index % 26);
}

/** The names of an object's properties, with their type. */
function keys<T extends object>(object: T): (keyof T & string)[] {
  return Object.keys(object) as (keyof T & string)[];
}

function page(language: Language, models: string[], chosen: string[]): string {
  const t = (phrase: Phrase) => say(language, phrase);
  const button = (name: Phrase) => `<button name="what" value="${name}">${t(name)}</button>`;
  const choice = (place: number, none: string) =>
    `<div class="choice"><select name="model${place}" aria-label="${t("model")}">${none}${
      models.map((model) => `<option${model === chosen[place - 1] ? " selected" : ""}>${model}</option>`).join("")
    }</select> <input name="options${place}" aria-label="${t("its options")}" placeholder="${t("its options")}">
      <small id="known${place}"></small></div>`;
  const about = Object.fromEntries(models.map((model) => {
    const { title, look } = abouts[model];
    return [model, { title: title[language], look: look[language], known: optionsOf(model) }];
  }));
  const plans = Object.fromEntries(
    keys(lessons).map((name) => [name, { ...lessons[name], look: looks[name][language] }]),
  );
  const texts = Object.fromEntries(
    (["source of {}", "log of {}", "timeline.ts has ended", "the last one"] as const).map((name) => [name, t(name)]),
  );
  const [other, called] = language === "zh" ? ["en", "English"] : ["zh", "中文"];
  const json = (value: unknown) => JSON.stringify(value).replaceAll("<", "\\u003c");
  return `<!doctype html>
<html lang="${language}">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>timeline.ts</title>
<style>
  :root { color-scheme: light dark; font: 14px/1.6 system-ui, sans-serif }
  body { max-width: 900px; margin: 1em auto; padding: 0 1em }
  fieldset { border: 0; margin: 0; padding: 0.3em 0; display: flex; flex-wrap: wrap; gap: 0.4em; align-items: center }
  select[name="client"] { width: 9em }
  small { display: block; opacity: 0.75; max-width: 28em }
  h2 { margin: 1em 0 0; font-size: 1.2em }
  svg { max-width: 100%; height: auto }
  pre { height: 10em; overflow: auto; font-size: 12px; line-height: 1.4; border: 1px solid #8886; padding: 0.5em }
  [data-lane] { cursor: pointer }
  #other { float: right }
  #look:not(:empty) { border-left: 4px solid #79aef5; padding-left: 0.7em }
</style>
<style id="chosen"></style>
<a id="other" href="${other}" lang="${other}" hreflang="${other}">${called}</a>
<form>
  <input type="hidden" name="language" value="${language}">
  <fieldset id="lessons">${t("Experiments:")} ${
    keys(lessons).map((name) => `<button type="button" value="${name}">${t(name)}</button>`).join(" ")
  }</fieldset>
  <fieldset>${choice(1, "")} ${choice(2, `<option value="">${t("no second one")}</option>`)}
    ${button("start")} ${button("stop")}</fieldset>
  <fieldset id="clients">${button("connect 1")} ${button("connect 10")}
    <fieldset id="acts"><select name="client" aria-label="${t("client")}"></select>
      ${keys(acts).map((name) => button(name)).join(" ")}</fieldset>
    <small>${t("A client is chosen in this box, or by a click on its lane.")}</small></fieldset>
</form>
<p id="look" role="status"></p>
<p><output id="text"></output> <strong id="said" role="alert"></strong></p>
<main id="shows"></main>
${language === "zh" ? `<details><summary>图里的词</summary>${glossary}</details>` : ""}
<script type="module" nonce="${nonce}">
  const about = ${json(about)}, lessons = ${json(plans)}, texts = ${json(texts)};
  const form = document.forms[0], { client, language: { value: language } } = form.elements, at = (id) => document.getElementById(id);
  const add = (parent, name, fields) => parent.appendChild(Object.assign(document.createElement(name), fields));

  async function tell(body) {
    at("said").textContent = "";
    const reply = await fetch("do", { method: "POST", body }).then((reply) => reply.text(), String);
    at("said").textContent = reply;
    return reply === "";
  }

  // A choice is the list of models and their options: the form shows it, and the address keeps it.
  function choose(choice) {
    for (const place of [1, 2]) {
      const [model = "", options = ""] = choice[place - 1] ?? [], { elements } = form;
      if (place === 2 || about[model]) elements["model" + place].value = about[model] ? model : "";
      elements["options" + place].value = options;
    }
    list();
  }
  function list() {
    for (const place of [1, 2]) {
      at("known" + place).textContent = about[form.elements["model" + place].value]?.known ?? "";
    }
  }
  form.onchange = () => (list(), emphasize());

  // The lane of the chosen client: a rule, as each picture is a new one.
  function emphasize() {
    const name = client.value || client.lastElementChild?.value;
    at("chosen").textContent = '[data-lane$=" ' + name + '"] text:first-child { font-weight: bold; text-decoration: underline }';
  }
  // A picture may be replaced before the button is up again.
  at("shows").onpointerdown = ({ target, clientY }) => {
    const lanes = target.closest(".picture")?.querySelectorAll("[data-lane]") ?? [];
    const lane = Array.from(lanes).find((lane) => {
      const { top, bottom } = lane.getBoundingClientRect();
      return top <= clientY && clientY <= bottom;
    });
    const name = lane?.dataset.lane.split(" ")[1];
    if (Array.from(client.options).some(({ value }) => value === name)) client.value = name;
    emphasize();
  };
  at("other").onclick = ({ target }) => target.search = location.search;

  // Whatever is pressed by hand ends an experiment.
  let experiment = 0;
  form.onsubmit = (event) => {
    event.preventDefault();
    experiment++;
    at("look").textContent = "";
    tell(new URLSearchParams(new FormData(form, event.submitter)));
  };
  at("lessons").onclick = async ({ target: { value } }) => {
    if (!lessons[value]) return;
    const { models, steps, look } = lessons[value], own = ++experiment;
    choose(models);
    at("look").textContent = look;
    if (!await tell(new URLSearchParams([...new FormData(form), ["what", "start"]]))) return;
    for (const [after, what, client = ""] of steps) {
      await new Promise((resolve) => setTimeout(resolve, after));
      if (own !== experiment || !await tell(new URLSearchParams({ language, what, client }))) return;
    }
  };

  // A picture and its log for each model; they stay while the same models run, so that a log keeps its place.
  function show(shows) {
    const main = at("shows");
    if (shows.map(({ model }) => model).join() !== main.dataset.models) {
      main.dataset.models = shows.map(({ model }) => model).join();
      main.replaceChildren();
      for (const { model } of shows) {
        const part = add(main, "section", {});
        add(part, "h2", { textContent: model + ": " + about[model].title });
        const words = add(part, "p", { textContent: about[model].look + " " });
        add(words, "a", { href: model + ".ts", target: "_blank", textContent: texts["source of {}"].replace("{}", model + ".ts") });
        add(part, "div", { className: "picture" });
        add(part, "pre", { tabIndex: 0, ariaLabel: texts["log of {}"].replace("{}", model) });
      }
    }
    shows.forEach(({ svg, log }, i) => {
      const [, , picture, pre] = main.children[i].children;
      picture.innerHTML = svg;
      if (pre.textContent === log) return;
      const below = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 20;
      pre.textContent = log;
      if (below) pre.scrollTop = pre.scrollHeight;
    });
  }

  const address = new URLSearchParams(location.search);
  if (address.has("model1")) choose([1, 2].map((place) => ["model", "options"].map((name) => address.get(name + place))));
  else list();

  let known = "[]";
  const events = new EventSource("events?language=" + language + (innerWidth < 600 ? "&narrow" : ""));
  events.onerror = () => at("said").textContent = texts["timeline.ts has ended"];
  events.onopen = () => at("said").textContent = "";
  events.onmessage = ({ data }) => {
    const { shows, phase, text, choice, clients } = JSON.parse(data), chosen = client.value;
    // What runs may have been started by another page, or before this one was loaded.
    if (JSON.stringify(choice) !== known && (known !== "[]" || phase !== "stopped" || !address.has("model1"))) {
      choose(choice);
      const fields = choice.flatMap(([model, options], i) => [["model" + (i + 1), model], ["options" + (i + 1), options]]);
      history.replaceState(null, "", "?" + new URLSearchParams(fields));
    }
    known = JSON.stringify(choice);
    show(shows);
    at("text").textContent = text;
    // What is pressed stays enabled: it would lose the keyboard's focus.
    at("clients").disabled = phase !== "running";
    at("acts").disabled = clients.length === 0;
    const options = [["", texts["the last one"]], ...clients].map(([name, label]) => new Option(label, name));
    const labels = (options) => Array.from(options, ({ text }) => text).join();
    if (labels(options) === labels(client.options)) return;
    client.replaceChildren(...options);
    client.value = clients.some(([name]) => name === chosen) ? chosen : "";
    emphasize();
  };
</script>
`;
}
