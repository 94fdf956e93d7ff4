// SPDX-License-Identifier: MIT
/**
 * A task per connection: every client has its own `async` function, and all of
 * them share one thread.
 *
 *   deno run -A tasks.ts
 *   nc 127.0.0.1 9999   in two other terminals: both are served at once
 */

const HOST = "127.0.0.1";
const PORT = 9999;

async function main(): Promise<void> {
  // create, bind, listen
  const server = listen(HOST, PORT);
  // Not awaited: each call starts a task, and the loop goes back to accept.
  for (;;) serve(await server.accept());
}

async function serve(connection: Connection): Promise<void> {
  for (;;) {
    const data = await connection.recv();
    if (data.length === 0) break;
    await connection.send(data);
  }
  connection.close();
}

// ---------------------------------------- what it stands on

/** Binds and listens: socket(2), bind(2) and listen(2). */
function listen(hostname: string, port: number): Server {
  const listener = Deno.listen({ hostname, port });
  console.log(`listening on ${hostname}:${listener.addr.port}`);
  return new Server(listener);
}

/** A listening socket. */
class Server {
  #listener: Deno.TcpListener;

  constructor(listener: Deno.TcpListener) {
    this.#listener = listener;
  }

  /** Waits for the next connection. See accept(2). */
  async accept(): Promise<Connection> {
    for (;;) {
      try {
        return new Connection(await this.#listener.accept());
      } catch (error) {
        // The client has reset it already.
        if ((error as { code?: string }).code !== "ENOTCONN") throw error;
      }
    }
  }
}

/** A connected socket. A failure reads as the end of the stream. */
class Connection {
  static #count = 0;
  readonly id = ++Connection.#count;
  #conn: Deno.TcpConn;
  #buffer = new Uint8Array(16_384);
  #reason = "by the client";

  constructor(conn: Deno.TcpConn) {
    this.#conn = conn;
    conn.setNoDelay();
    const { hostname, port } = conn.remoteAddr;
    console.log(`accept #${this.id}`, `${hostname}:${port}`);
  }

  /** Waits for bytes; an empty array is the end of the stream. See recv(2). */
  async recv(): Promise<Uint8Array> {
    try {
      const size = await this.#conn.read(this.#buffer) ?? 0;
      if (size > 0) console.log(`recv #${this.id}`, size);
      return this.#buffer.subarray(0, size);
    } catch (error) {
      this.#reason = `${error}`;
      return new Uint8Array(0);
    }
  }

  /** Sends all of `data`: send(2) in a loop, as a call may take only a part. */
  async send(data: Uint8Array): Promise<void> {
    console.log(`send #${this.id}`, data.length);
    try {
      for (let sent = 0; sent < data.length;) {
        sent += await this.#conn.write(data.subarray(sent));
      }
    } catch (error) {
      this.#reason = `${error}`;
    }
  }

  /** Closes the connection. See close(2). */
  close(): void {
    console.log(`close #${this.id}`, this.#reason);
    this.#conn.close();
  }
}

await main();
