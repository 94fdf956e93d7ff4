// SPDX-License-Identifier: MIT
/** An echo server on Deno's own API and nothing else: bench.ts shows with it what the shim costs. */

const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
console.log(`listening on 127.0.0.1:${listener.addr.port}`);
for (;;) serve(await listener.accept());

async function serve(conn: Deno.Conn): Promise<void> {
  const buffer = new Uint8Array(16_384);
  try {
    for (let length; (length = await conn.read(buffer)) !== null;) {
      for (let sent = 0; sent < length;) sent += await conn.write(buffer.subarray(sent, length));
    }
  } catch {
    // A reset costs this connection alone.
  }
  conn.close();
}
