// SPDX-License-Identifier: MIT
/**
 * A task per connection: every client has its own `async` function, and all of
 * them share one thread.
 *
 *   bun tasks.ts
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

let connections = 0;

/** Binds and listens: socket(2), bind(2) and listen(2). */
function listen(hostname: string, port: number): Server {
  const server = new Server({ hostname, port });
  console.log(`listening on ${hostname}:${server.listener.port}`);
  return server;
}

/** A listening socket. */
class Server {
  #accepted: Connection[] = [];
  #wake = () => {};
  readonly listener: Bun.TCPSocketListener<Connection>;

  constructor(address: { hostname: string; port: number }) {
    // The same functions serve all sockets; `data` is a socket's own.
    const socket: Bun.SocketHandler<Connection> = {
      open: (socket) => {
        this.#accepted.push(socket.data = new Connection(socket));
        this.#wake();
      },
      data: (socket, data) => socket.data.arrived(data),
      drain: (socket) => socket.data.wake(),
      end: (socket) => socket.data.ended("by the client"),
      error: (socket, error) => socket.data.ended(`${error}`),
      close: (socket) => socket.data.ended("reset by the client"),
    };
    // With allowHalfOpen, a client that shuts down its side still gets replies.
    this.listener = Bun.listen({ ...address, allowHalfOpen: true, socket });
  }

  /** Waits for the next connection. See accept(2). */
  async accept(): Promise<Connection> {
    while (this.#accepted.length === 0) {
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    return this.#accepted.shift()!;
  }
}

/** A connected socket. A failure reads as the end of the stream. */
class Connection {
  readonly id = ++connections;
  #socket: Bun.Socket<Connection>;
  #unread: Uint8Array[] = [];
  /** Why it ended. */
  #reason = "";
  #change = Promise.withResolvers<void>();

  constructor(socket: Bun.Socket<Connection>) {
    this.#socket = socket;
    const { remoteAddress, remotePort } = socket;
    console.log(`accept #${this.id}`, `${remoteAddress}:${remotePort}`);
  }

  /** Has `recv` and `send` look again. */
  wake(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers();
  }

  arrived(data: Uint8Array): void {
    // With eight pieces unread, the client has to wait.
    if (this.#unread.push(data) === 8) this.#socket.pause();
    this.wake();
  }

  ended(reason: string): void {
    this.#reason ||= reason;
    this.wake();
  }

  /** Waits for bytes; an empty array is the end of the stream. See recv(2). */
  async recv(): Promise<Uint8Array> {
    while (this.#unread.length === 0 && !this.#reason) {
      await this.#change.promise;
    }
    if (this.#unread.length === 8) this.#socket.resume();
    const data = this.#unread.shift() ?? new Uint8Array(0);
    if (data.length > 0) console.log(`recv #${this.id}`, shown(data));
    return data;
  }

  /** Sends all of `data`: send(2) in a loop. */
  async send(data: Uint8Array): Promise<void> {
    console.log(`send #${this.id}`, data.length);
    for (;;) {
      // As much as the kernel takes; -1 if the socket is closed.
      const sent = this.#socket.write(data);
      if (sent < 0 || sent === data.length) return;
      data = data.subarray(sent);
      await this.#change.promise;
    }
  }

  /** Closes the connection. See close(2). */
  close(): void {
    console.log(`close #${this.id}`, this.#reason);
    this.#socket.end();
  }
}

/** Bytes for the log: how many, and the first 60 of them as text. */
function shown(data: Uint8Array): string {
  const text = new TextDecoder().decode(data.subarray(0, 60));
  return `${data.length} ${JSON.stringify(text)}`;
}

await main();
