// SPDX-License-Identifier: MIT
/** What the models that wait for many sockets say of each wait: the same questions to all of them. */

import process from "node:process";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import type { Test } from "./contract.ts";
import { Client, linux, type Script, sleep, Slow, until } from "./harness.ts";

/**
 * Three clients are connected, and the second speaks: the log tells first of the wait that ended, in a line that
 * matches `wait`, then of what was received and sent.
 */
export function checkWait(test: Test, wait: RegExp, drained?: RegExp, options?: string[]): void {
  test("what a wait has found, with its figures", async (server) => {
    const clients = [];
    for (let i = 0; i < 3; i++) {
      clients.push(await Client.connect(server.port));
      assert(await clients[i].echo("hello"));
    }
    // What has happened is told by then, and none of it in a sum.
    await sleep(1500);
    const before = server.output.length;
    assert(await clients[1].echo("hello"));
    const lines = () => server.output.slice(before).join("\n");
    // Readiness comes before the call, completion after it: then sending has a wait of its own.
    const rest = String.raw`.* recv #2 5 "hello"\n(?:.* io_uring_enter .*\n)*.* send #2 5`;
    const all = new RegExp(`^.* ${wait.source}\n${rest}${drained ? `\n.* ${drained.source}` : ""}(\n|$)`);
    await until(() => all.test(lines()));
    assertMatch(lines(), all);
    await sleep(1500);
    assert(server.lines(new RegExp(` ${wait.source}`)).length < 20, "a wait that has run out of time has no line");
    for (const client of clients) client.close();
  }, options);
}

/**
 * A fast client: few lines, whose sum is true. `event` is the name of the wait in the log, and `least` how many there
 * are at least for each message.
 */
export function checkSums(test: Test, event: string, least = 0.95): void {
  test("at high rates the waits are summed up", async (server) => {
    const client = await Client.connect(server.port);
    let messages = 0;
    for (const end = Date.now() + 700; Date.now() < end; messages++) assert(await client.echo("hello"));
    if (messages < 120) throw new Slow(`only ${messages} messages`);
    await server.count(/ send #1/, messages);
    await sleep(1500);
    const lines = server.lines(new RegExp(` ${event} `));
    assert(lines.length < 50, `${lines.length} lines for ${messages} messages`);
    let waits = 0;
    for (const line of lines) waits += Number(/ (\d+) (?:more )?times/.exec(line)?.[1] ?? 1);
    // One for each message, but for a few that are found without; more where sending is waited for, too.
    assert(waits >= least * messages && waits <= 3 * messages + 10, `${waits} waits for ${messages} messages`);
    client.close();
  });
}

/** What a client has taken of its reply is no silence: that begins when it could send the next message. */
export function checkPatience(test: Test, options: string[] = []): void {
  test("a client is not silent as long as it takes its reply", async (server) => {
    const client = await Client.connect(server.port), data = new Uint8Array(32_768);
    const sum = (event: string) =>
      server.lines(new RegExp(` ${event} #1 `)).reduce((sum, line) => sum + Number(/ #1 (\d+)/.exec(line)![1]), 0);
    client.pause();
    let sent = 0;
    // Until the kernel takes no more of the reply, and the server has no other message.
    do {
      client.send(data);
      sent += data.length;
      assert(await until(() => sum("recv") === sent), "it receives");
    } while (await until(() => sum("send") === sent, 0.4));
    if (sum("send") === sent) throw new Slow("it has sent all");
    const times = [performance.now() - 400];
    await sleep(1400);
    client.read();
    assert(await until(() => sum("send") === sent), "it sends");
    times.push(performance.now());
    await sleep(1800);
    times.push(performance.now());
    if (times.some((time, i) => time - times[i - 1] > 1950)) throw new Slow(`silent for too long: ${times}`);
    client.send("next");
    const reply = await client.receive(sent + 4);
    assertEquals(new TextDecoder().decode(reply.subarray(sent)), "next");
    // Before it is silent for too long.
    const used = linux ? server.cpu : 0;
    await sleep(1000);
    if (linux) assert(server.cpu - used < 0.3, "it spins when all is sent");
    client.close();
  }, [...options, "--idle", "2"]);
}

/** Has a server compute for a client until the heartbeat, every three seconds, finds it doing so: that line. */
export async function beatWhile(server: Script, client: Client, beat: RegExp): Promise<string> {
  await sleep(2200);
  for (let i = 0; i < 20 && server.lines(beat).length === 0; i++) assert(await client.echo("hello", 60));
  return await server.line(beat, 1);
}

/** Interrupts the calls that a process sleeps in, by stopping it for a moment and letting it go on. See signal(7). */
export async function interrupt(pid: number, times: number): Promise<void> {
  for (let i = 0; i < times; i++) {
    process.kill(pid, "SIGSTOP");
    await sleep(20);
    process.kill(pid, "SIGCONT");
    await sleep(40);
  }
}
