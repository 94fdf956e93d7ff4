// SPDX-License-Identifier: MIT
/** Records what a server does for a small cast of clients, from beginning to end. */

import { setTimeout as pause } from "node:timers/promises";
import { type Recording, Session, type Settings } from "./session.ts";

interface Cast extends Settings {
  clients: number;
  messages: number;
}

/** Milliseconds: between two arrivals; before each message; until the silent client leaves; until all must. */
const STAGGER = 50, QUICK = 120, SLOW = 350, SILENCE = 1500, PATIENCE = 10_000;
/** What the first clients are like; the others are quick. */
const ROLES = ["quick", "slow", "silent"];

/** Runs a model, a file in `folder`, with its cast. */
export async function record(folder: string, model: string, cast: Cast): Promise<Recording> {
  const session = new Session(folder, model, cast);
  await session.start();
  session.begin();
  if (session.running) {
    const leave = pause(PATIENCE + 3 * cast.clients * cast.messages * cast.work);
    await Promise.all(Array.from({ length: cast.clients }, (_, i) => visit(session, i, cast.messages, leave)));
    await pause(50);
  }
  await session.stop();
  return session.snapshot();
}

/** A client's whole life. */
async function visit(session: Session, place: number, messages: number, leave: Promise<void>): Promise<void> {
  await pause(place * STAGGER);
  const role = ROLES[place] ?? "quick", client = session.connect(role);
  leave.then(() => client.close("given up"));
  const life = async () => {
    await client.connected;
    if (role === "silent") return await pause(SILENCE);
    for (let i = 0; i < messages; i++) {
      await pause(role === "slow" ? SLOW : QUICK);
      if (client.visit.end > 0) return;
      await client.send("hello");
    }
    await pause(QUICK);
  };
  await Promise.race([client.gone, life()]);
  client.close();
}
