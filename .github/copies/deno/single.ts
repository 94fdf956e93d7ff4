// SPDX-License-Identifier: MIT
/**
 * One connection, one exchange: the eight steps of a TCP server, once each,
 * and the process ends.
 *
 *   deno run -A single.ts
 *   nc 127.0.0.1 9999       in another terminal: type a line
 */

const HOST = "127.0.0.1";
const PORT = 9999;

async function main(): Promise<void> {
  // Steps 1 to 3: create, bind, listen. Clients may connect from now on.
  const server = listen(HOST, PORT);
  // Step 4: accept.
  const connection = await server.accept();
  // Step 5: recv. No bytes are the end of the stream: the client has left
  // without a message.
  const data = await connection.recv();
  // Step 6: send.
  if (data.length > 0) await connection.send(data);
  // Steps 7 and 8: close the connection, and the listening socket.
  connection.close("after one exchange");
  server.close();
}

// ---------------------------------------- what it stands on

let connections = 0;

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
        // The client has reset it already, or no descriptor is left.
        console.log("error", `accept: ${error}`);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }

  /** Stops listening. */
  close(): void {
    this.#listener.close();
  }
}

/** A connected socket. A failure reads as the end of the stream. */
class Connection {
  readonly id = ++connections;
  #conn: Deno.TcpConn;
  #buffer = new Uint8Array(16_384);
  /** Why it ended. */
  #reason = "";

  constructor(conn: Deno.TcpConn) {
    this.#conn = conn;
    const { hostname, port } = conn.remoteAddr;
    console.log(`accept #${this.id}`, `${hostname}:${port}`);
    try {
      conn.setNoDelay();
    } catch {
      // The client has reset it, as recv will find.
    }
  }

  /** Waits for bytes; an empty array is the end of the stream. See recv(2). */
  async recv(): Promise<Uint8Array> {
    try {
      const size = await this.#conn.read(this.#buffer) ?? 0;
      const data = this.#buffer.subarray(0, size);
      if (size === 0) this.#reason ||= "by the client";
      else console.log(`recv #${this.id}`, shown(data));
      return data;
    } catch (error) {
      this.#reason ||= `${error}`;
      return new Uint8Array(0);
    }
  }

  /** Sends all of `data`: send(2) in a loop. */
  async send(data: Uint8Array): Promise<void> {
    console.log(`send #${this.id}`, data.length);
    try {
      // One write may take only a part of it.
      for (let sent = 0; sent < data.length;) {
        sent += await this.#conn.write(data.subarray(sent));
      }
    } catch (error) {
      this.#reason ||= `${error}`;
    }
  }

  /**
   * Closes the connection, losing nothing that was sent. With bytes unread it
   * would be reset: for a second, what still comes is dropped.
   */
  async close(reason = "by the server"): Promise<void> {
    console.log(`close #${this.id}`, this.#reason || reason);
    const timer = setTimeout(() => this.#conn.close(), 1000);
    try {
      await this.#conn.closeWrite();
      while (await this.#conn.read(this.#buffer) !== null);
      clearTimeout(timer);
      this.#conn.close();
    } catch {
      // It is closed, or has failed: then the timer closes it.
    }
  }
}

/** Bytes for the log: how many, and the first 60 of them as text. */
function shown(data: Uint8Array): string {
  const text = new TextDecoder().decode(data.subarray(0, 60));
  return `${data.length} ${JSON.stringify(text)}`;
}

await main();
