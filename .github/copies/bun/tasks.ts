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

/** Binds and listens: socket(2), bind(2) and listen(2). */
function listen(hostname: string, port: number): Server {
  const server = new Server({ hostname, port });
  console.log(`listening on ${hostname}:${server.listener.port}`);
  return server;
}

/** A listening socket. */
class Server {
  #queue: Connection[] = [];
  #next = Promise.withResolvers<void>();
  readonly listener: Bun.TCPSocketListener<Connection>;

  constructor(address: { hostname: string; port: number }) {
    // The same functions serve all sockets; `data` is a socket's own.
    const socket: Bun.SocketHandler<Connection> = {
      open: (socket) => {
        this.#queue.push(socket.data = new Connection(socket));
        this.#next.resolve();
      },
      data: ({ data: connection }, data) => connection.arrived(data),
      drain: ({ data: connection }) => connection.wake(),
      end: ({ data: connection }) => connection.wake("by the client"),
      close: ({ data: connection }) => connection.wake("reset"),
    };
    // With allowHalfOpen, a client that shuts down its side still gets replies.
    this.listener = Bun.listen({ ...address, allowHalfOpen: true, socket });
  }

  /** Waits for the next connection. See accept(2). */
  async accept(): Promise<Connection> {
    if (!this.#queue[0]) await (this.#next = Promise.withResolvers()).promise;
    return this.#queue.shift()!;
  }
}

/** A connected socket. A failure reads as the end of the stream. */
class Connection {
  static #count = 0;
  readonly id = ++Connection.#count;
  #socket: Bun.Socket<Connection>;
  #unread: Uint8Array[] = [];
  #reason = "";
  #change = Promise.withResolvers<void>();

  constructor(socket: Bun.Socket<Connection>) {
    this.#socket = socket;
    const { remoteAddress, remotePort } = socket;
    console.log(`accept #${this.id}`, `${remoteAddress}:${remotePort}`);
  }

  arrived(data: Uint8Array): void {
    // With eight pieces unread, the client has to wait.
    if (this.#unread.push(data) === 8) this.#socket.pause();
    this.wake();
  }

  /** Something has happened: `recv` and `send` look again. */
  wake(reason = this.#reason): void {
    this.#reason = reason;
    this.#change.resolve();
    this.#change = Promise.withResolvers();
  }

  /** Waits for bytes; an empty array is the end of the stream. See recv(2). */
  async recv(): Promise<Uint8Array> {
    while (!this.#unread[0] && !this.#reason) await this.#change.promise;
    if (this.#unread.length === 8) this.#socket.resume();
    const data = this.#unread.shift();
    if (data) console.log(`recv #${this.id}`, data.length);
    return data ?? new Uint8Array(0);
  }

  /** Sends all of `data`: each write takes a part, or -1 if it is closed. */
  async send(data: Uint8Array): Promise<void> {
    console.log(`send #${this.id}`, data.length);
    for (;;) {
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

await main();
