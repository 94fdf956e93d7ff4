// SPDX-License-Identifier: MIT
/** What running a script asks of a machine: permissions, the FFI, nothing from the network. */

import { spawnSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import * as path from "node:path";
import process from "node:process";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import {
  check,
  Client,
  hasFFI,
  linux,
  otherUser,
  run,
  type Runtime,
  runtimes,
  serve,
  sleep,
  temporaryFolder,
} from "./harness.ts";
import { models } from "./models.ts";

const systemCalls = [...new Set(models.flatMap(({ script, systemCalls }) => systemCalls ? [script] : []))];

/** Ways to start each runtime without the FFI: the command, and environment variables. */
const without: Record<string, [command: string[], environment: Record<string, string>][]> = {
  deno: [
    [["deno", "run", "--allow-net", "--no-prompt"], {}],
    // Another library than the C library.
    [["deno", "run", "--allow-net", "--no-prompt", "--allow-ffi=./nothing.so"], {}],
  ],
  bun: [[["bun"], { BUN_JSC_useJIT: "0" }]],
  node: [[["node", "--no-experimental-ffi"], {}], [["node", "--permission", "--allow-fs-read=*"], {}]],
};

for (const runtime of runtimes) {
  const { name } = runtime;
  if (!hasFFI(runtime)) continue;
  for (const [command, environment] of without[name]) {
    const how = [...Object.entries(environment).map((entry) => entry.join("=")), ...command].join(" ");
    check(`${how}: each script of system calls says in one line what it needs, and has its help`, async () => {
      for (const script of systemCalls) {
        const limited: Runtime = { name, command };
        const [started, help] = await Promise.all([
          run(limited, script, ["--port", "0"], { environment }),
          run(limited, script, ["--help"], { environment }),
        ]);
        assertEquals([script, started.code, started.output], [script, 1, []]);
        assertMatch(started.errors, new RegExp(`^${script}: .+\n$`));
        assertEquals([script, help.code, help.errors], [script, 0, ""]);
        assertMatch(help.output.join("\n"), /--port/);
      }
    });
  }
}

for (const runtime of linux ? runtimes : []) {
  /** Registers a test with a limit of processes and threads, a few more than the runtime needs for itself. */
  const limited = (what: string, script: string, body: (processes: number) => Promise<void>) => {
    if (!hasFFI(runtime) && systemCalls.includes(script)) return;
    check(`${runtime.name} ${script}: ${what}`, () => {
      if (process.getuid?.() !== 0) return "no one but root can start it as another user, whom the limit binds";
      if (runtime.name === "bun") return "Bun crashes when it can't have a thread for its own purposes";
      // Where another user can't read the folder that it is in, they may find an older one, further down the PATH.
      const [own, theirs] = [undefined, otherUser].map((uid) => spawnSync(runtime.command[0], ["--version"], { uid }));
      if (`${theirs.stdout}` !== `${own.stdout}`) return `another user can't run this ${runtime.name}`;
      return body(14).catch((error: Error) => {
        if (!error.message.includes("Deno could not start: unable to create worker threads")) throw error;
        return "Deno panicked, as it could not have a thread for its own purposes";
      });
    });
  };

  for (const script of ["pool.ts", "offload.ts", "reuseport.ts", "reactors.ts"]) {
    limited("threads that the system doesn't give are one line and exit code 1", script, async (processes) => {
      const { code, output, errors } = await run(runtime, script, ["--port", "0", "--workers", "20"], { processes });
      assertEquals([code, output], [1, []]);
      assertMatch(errors, new RegExp(`^${script}: cannot start (thread|loop-)\\S* ?.*: .*EAGAIN.*\n$`));
    });
  }

  limited("with fewer threads than it asked for it serves", "blocking.ts", async (processes) => {
    await serve(runtime, "blocking.ts", ["--threads", "20"], async (server) => {
      await server.line(/ main error \d+ of 20 threads serve, there are no more: .*EAGAIN/, 30);
      const client = await Client.connect(server.port);
      assert(await client.echo("hello"));
      client.close();
      assertEquals([await server.stopAtOnce(), server.errors, server.lines(/ error /).length], [0, "", 1]);
    }, { processes });
  });

  const told: [script: string, args: string[], line: RegExp][] = [
    ["threads.ts", ["--messages", "0"], / wait #\d+ no thread to be had: .*EAGAIN.*, \d+ in line$/],
    ["processes.ts", ["--exec", "cat"], / close #\d+ cannot start cat: .*EAGAIN/],
  ];
  for (const [script, args, line] of told) {
    limited("one client too many is told in a line, and costs no other", script, async (processes) => {
      await serve(runtime, script, args, async (server) => {
        const clients = [];
        for (let i = 0; i < 12; i++) {
          clients.push(await Client.connect(server.port));
          clients[i].send("hello");
        }
        await server.line(line, 30);
        await sleep(1000);
        const some = clients.filter(({ received }) => received > 0);
        assert(some.length > 0 && some.length < 12, `${some.length} of 12 are served`);
        for (const client of some) assert(await client.receive(5) && await client.echo("again"));
        for (const client of clients) client.close();
        await server.allClosed(60);
        // The system may count a thread for a moment after the runtime has said that it has ended.
        let served = false;
        for (let i = 0; i < 10 && !served; i++) {
          const next = await Client.connect(server.port);
          served = await next.echo("next", 30).catch(() => false);
          next.close();
          if (!served) await sleep(200);
        }
        assert(served, "there is room again");
        assertEquals(server.errors, "");
      }, { processes });
    });
  }
}

if (runtimes.some(({ name }) => name === "deno")) {
  check("deno run downloads nothing", async () => {
    const empty = temporaryFolder();
    const offline = { name: "deno", command: ["deno", "run", "--cached-only", "-A"] };
    for (const script of ["multiplex.ts", "tasks.ts", "single.ts", "client.ts", ...linux ? ["epoll.ts"] : []]) {
      const { code, errors } = await run(offline, script, ["--help"], { environment: { DENO_DIR: empty } });
      assertEquals([code, errors], [0, ""]);
    }
    rmSync(empty, { recursive: true });
  });

  check("deno run: the permissions that suffice, and no question after others", async () => {
    const least: [script: string, ...permissions: string[]][] = [
      ["multiplex.ts", "net"],
      ["tasks.ts", "net"],
      ["single.ts", "net"],
      ["threads.ts", "net", "read"],
      ["pool.ts", "net", "read"],
      ["offload.ts", "net", "read"],
      ...linux ? [["reuseport.ts", "net", "read"], ["epoll.ts", "ffi"]] as [string, ...string[]][] : [],
    ];
    for (const [script, ...permissions] of least) {
      const command = ["deno", "run", "--no-prompt", ...permissions.map((name) => `--allow-${name}`)];
      // What it would ask for at a terminal.
      const audit = path.join(temporaryFolder(), "audit");
      await serve({ name: "deno", command }, script, [], async (server) => {
        const client = await Client.connect(server.port);
        assert(await client.echo("hello"));
        client.close();
        if (script !== "single.ts") assertEquals(await server.stop(), 0);
        assertEquals([await server.exited, server.errors], [0, ""]);
      }, { environment: { DENO_AUDIT_PERMISSIONS: audit } });
      const asked = readFileSync(audit, "utf8").trim().split("\n").map((line) => JSON.parse(line))
        .filter(({ permission, value }) => value !== "/dev/null" && !permissions.includes(permission));
      assertEquals([script, asked], [script, []]);
    }
  });
}
