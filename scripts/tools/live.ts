// SPDX-License-Identifier: MIT
/** A page on which lanes grow while its reader plays the clients: its own server, on the loopback alone. */

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { type AddressInfo } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { draw, type Picture } from "./lanes.ts";
import { drawSvg } from "./picture.ts";
import { explain, fail, onStop, printAll } from "../shim/program.ts";
import { type Client, Session, type Settings } from "./session.ts";

/** Milliseconds: that a picture shows; between two pictures; that the servers run on though no page is open. */
const WINDOW = 20_000, EACH = 300, UNSEEN = 5000;
/** Clients at the same time, bytes that one may wait for, and characters of what a page may say. */
const MOST_CLIENTS = 50, MOST_MISSING = 64 << 20, MOST_BODY = 2000;
/** These would run any program, or let in others than this machine: they are for the command line. */
const FORBIDDEN = /^--(exec|host|port)(=|$)/;

/** What the chosen client can be told; each is a button. */
const acts: Record<string, (client: Client) => void> = {
  "send 1 B": (client) => client.send("x"),
  "send 64 KiB": (client) => client.send(new Uint8Array(1 << 16).fill(120)),
  "send 16 MiB": (client) => client.send(new Uint8Array(1 << 24).fill(120)),
  "stop reading": (client) => client.pause(),
  "read again": (client) => client.resume(),
  "half-close": (client) => client.finish(),
  "reset": (client) => client.reset(),
  "close": (client) => client.close(),
};

/** Serves the page until this process is stopped. It offers the `chosen` models first, of those in `folder`. */
export async function live(folder: string, models: string[], chosen: string[], port: number, settings: Settings) {
  let sessions: Session[] = [], phase = "stopped", seen = 0, named = 0, timer: ReturnType<typeof setInterval>;
  /** Each is one client of every server. */
  const clients = new Map<string, Client[]>(), pages = new Set<ServerResponse>();

  const running = () => sessions.filter((session) => session.running);
  const present = (name: string) => (clients.get(name) ?? []).filter(({ visit }) => visit.end === 0);
  const open = () => [...clients.keys()].filter((name) => present(name).length > 0);

  /** What the page shows now. */
  function news(): string {
    const pictures = sessions.map((session): Picture => {
      const recording = session.snapshot();
      return draw(recording, Math.max(0, recording.end - WINDOW));
    });
    const since = pictures.some(({ start }) => start > 0) ? `the last ${WINDOW / 1000} s` : "all since the start";
    const text = sessions.length === 0 ? "Choose a model, or two, start it, and be its clients." : `${phase}: ${since}`;
    const labels = open().map((name) => [name, [name, ...present(name)[0].notes].join(", ")]);
    return `data: ${JSON.stringify({ svg: drawSvg(pictures, WINDOW), phase, text, clients: labels })}\n\n`;
  }

  function publish(): void {
    if (pages.size === 0) return;
    seen = performance.now();
    const text = news();
    // One that reads slowly misses some.
    for (const page of pages) if (page.writableLength < 1 << 20) page.write(text);
  }

  async function start(fields: URLSearchParams): Promise<void> {
    if (phase === "starting") throw new Error("one moment, the servers are starting");
    const wanted = [1, 2].map((place) => ({
      model: fields.get(`model${place}`) ?? "",
      options: (fields.get(`options${place}`) ?? "").split(/\s+/).filter(Boolean),
    })).filter(({ model }) => model);
    for (const { model, options } of wanted) {
      if (!models.includes(model)) throw new Error(`unknown model "${model}"`);
      const bad = options.find((option) => FORBIDDEN.test(option));
      if (bad) throw new Error(`${bad} can only be given on the command line, after --`);
    }
    phase = "starting";
    try {
      await stop();
      clients.clear();
      [named, seen] = [0, performance.now()];
      clearInterval(timer);
      timer = setInterval(() => {
        publish();
        if (performance.now() - seen > UNSEEN) stop();
      }, EACH);
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
  }

  /** Ends the servers; what they did is still shown. */
  async function stop(): Promise<void> {
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

  async function obey(fields: URLSearchParams): Promise<void> {
    const what = fields.get("what") ?? "", count = /^connect (1|10)$/.exec(what)?.[1];
    if (what === "start") return await start(fields);
    if (what === "stop") return await stop();
    if (running().length === 0) throw new Error("no server runs");
    if (count) {
      if (open().length + Number(count) > MOST_CLIENTS) throw new Error(`${MOST_CLIENTS} clients are the most`);
      for (let i = 0; i < Number(count); i++) {
        const name = letters(named++);
        clients.set(name, running().map((session) => session.connect(name)));
      }
      return;
    }
    const name = fields.get("client") || open().at(-1) || "", act = Object.hasOwn(acts, what) && acts[what];
    if (!act) throw new Error(`unknown action "${what}"`);
    if (!open().includes(name)) throw new Error(`client ${name} is not connected`);
    if (what.startsWith("send") && present(name).some(({ missing }) => missing > MOST_MISSING)) {
      throw new Error(`client ${name} has not got back enough of what it sent`);
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
    if (method === "GET" && url === "/") return reply(200, page(models, chosen), "text/html");
    if (method === "GET" && url === "/events") {
      response.writeHead(200, { ...headers, "content-type": "text/event-stream" });
      response.on("close", () => pages.delete(response));
      pages.add(response);
      return response.write(news());
    }
    if (method !== "POST" || url !== "/do") return reply(404, "there is only / here\n");
    const body = await read(request);
    if (body === undefined) return reply(413, "too long\n");
    try {
      await obey(new URLSearchParams(body));
      reply(200, "");
    } catch (error) {
      reply(400, `${explain(error)}\n`);
    }
  });
  server.on("error", (error) => fail(`cannot listen on 127.0.0.1:${port}`, error));
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", () => resolve()));
  const taken = (server.address() as AddressInfo).port;
  const hosts = ["127.0.0.1", "localhost", "[::1]"].map((name) => new URL(`http://${name}:${taken}`));
  onStop(stop);
  await printAll(`${hosts[0]} is the page; Ctrl-C ends it, and its servers\n`);
  return await new Promise<never>(() => {});
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

function page(models: string[], chosen: string[]): string {
  const button = (name: string, more = "") => `<button name="what" value="${name}"${more}>${name}</button>`;
  const choice = (place: number, none: string) =>
    `<select name="model${place}" aria-label="model">${none}${
      models.map((model) => `<option${model === chosen[place - 1] ? " selected" : ""}>${model}</option>`).join("")
    }</select> <input name="options${place}" aria-label="its options" placeholder="its options">`;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>timeline.ts</title>
<style>
  :root { color-scheme: light dark; font: 14px/1.6 system-ui, sans-serif }
  body { max-width: 900px; margin: 1em auto; padding: 0 1em }
  fieldset { border: 0; margin: 0; padding: 0.3em 0; display: flex; flex-wrap: wrap; gap: 0.4em; align-items: center }
  select[name="client"] { width: 9em }
  svg { max-width: 100%; height: auto }
</style>
<form>
  <fieldset>${choice(1, "")} ${choice(2, '<option value="">no second one</option>')}
    ${button("start", ' id="start"')} ${button("stop", ' id="stop"')}</fieldset>
  <fieldset id="clients">${button("connect 1")} ${button("connect 10")}
    <fieldset id="acts"><select name="client" aria-label="client"></select>
      ${Object.keys(acts).map((name) => button(name)).join(" ")}</fieldset></fieldset>
</form>
<p><output id="text"></output> <strong id="said" role="alert"></strong></p>
<div id="picture"></div>
<script type="module" nonce="${nonce}">
  const form = document.forms[0], { client } = form.elements, at = (id) => document.getElementById(id);
  form.onsubmit = async (event) => {
    event.preventDefault();
    const body = new URLSearchParams(new FormData(form, event.submitter));
    const reply = await fetch("do", { method: "POST", body }).then((reply) => reply.text(), String);
    at("said").textContent = reply;
  };
  const events = new EventSource("events");
  events.onerror = () => at("said").textContent = "timeline.ts has ended";
  events.onopen = () => at("said").textContent = "";
  events.onmessage = ({ data }) => {
    const { svg, phase, text, clients } = JSON.parse(data), chosen = client.value;
    at("picture").innerHTML = svg;
    at("text").textContent = text;
    at("start").disabled = phase === "starting";
    at("stop").disabled = phase === "stopped";
    at("clients").disabled = phase !== "running";
    at("acts").disabled = clients.length === 0;
    const options = [["", "the last one"], ...clients].map(([name, label]) => new Option(label, name));
    const texts = (options) => Array.from(options, ({ text }) => text).join();
    if (texts(options) === texts(client.options)) return;
    client.replaceChildren(...options);
    client.value = clients.some(([name]) => name === chosen) ? chosen : "";
  };
</script>
`;
}
