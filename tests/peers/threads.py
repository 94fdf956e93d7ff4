# SPDX-License-Identifier: MIT
"""A thread per connection, as in scripts/threads.ts: for bench.ts to compare with."""

import socket
import threading


def serve(connection):
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while data := connection.recv(16384):
                connection.sendall(data)
        except OSError:
            pass  # It costs this connection alone.


with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
    print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()
