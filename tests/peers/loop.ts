// SPDX-License-Identifier: MIT
/** A loop over epoll_wait and nothing else, through the same FFI as epoll.ts: bench.ts shows with it what that costs. */

import * as sys from "../../scripts/shim/sys.ts";

sys.requireSystemCalls();
const SIZE = 65_536,
  EVENTS = 512,
  buffer = sys.memory(SIZE),
  peer = sys.socketAddress(),
  found = sys.epollEvents(EVENTS);
const listener = await sys.openListener({ host: "127.0.0.1", port: 0 }, sys.SOCK_STREAM | sys.SOCK_NONBLOCK);
const epoll = sys.must(sys.epoll_create1(0));
const watch = (fd: number) => sys.must(sys.epoll_ctl(epoll, sys.EPOLL_CTL_ADD, fd, sys.epollEvent(sys.EPOLLIN, fd)));
watch(listener);
for (;;) {
  const count = sys.epoll_wait(epoll, found, EVENTS, -1);
  for (let i = 0; i < count; i++) {
    const fd = sys.descriptorOf(found, i);
    if (fd === listener) watch(sys.must(sys.accept4(listener, peer, 0)));
    else {
      // The sockets block: what a slow client does not take holds up all the others.
      const length = sys.recv(fd, buffer, SIZE, 0);
      if (length <= 0 || sys.send(fd, buffer, length, 0) < 0) sys.close(fd);
    }
  }
}
