// SPDX-License-Identifier: MIT
/**
 * One connection, one exchange: the eight steps of a TCP server, once each, and
 * the process ends.
 *
 *   deno run -A single.ts
 *   nc 127.0.0.1 9999   in another terminal: type a line
 */

const HOST = "127.0.0.1";
const PORT = 9999;

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

  close(): void {
    this.#listener.close();
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
    this.#reason = "after one exchange";
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

// ---------------------------------------- the server

// Steps 1 to 3: create, bind, listen. Clients may connect from now on.
const server = listen(HOST, PORT);
// Step 4: accept.
const connection = await server.accept();
// Step 5: recv. No bytes are the end of the stream: the client has left without
// a message.
const data = await connection.recv();
// Step 6: send.
if (data.length > 0) await connection.send(data);
// Steps 7 and 8: close the connection, and the listening socket.
connection.close();
server.close();
