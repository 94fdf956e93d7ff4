// SPDX-License-Identifier: MIT
// The loop of scripts/epoll.ts in C, for bench.ts to compare with: cc -O2 epoll.c -o epoll
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 1024, BUFFER = 65536 };

// What a slow client has not taken yet. While there is some, nothing is received from it.
struct client {
  int fd;
  ssize_t unsent;
  char *tail;
};

static int epoll;

static void stop(const char *what) {
  perror(what);
  exit(1);
}

static void want(struct client *client, int operation, unsigned events) {
  struct epoll_event event = {.events = events, .data.ptr = client};
  if (epoll_ctl(epoll, operation, client->fd, &event)) stop("epoll_ctl");
}

static void leave(struct client *client) {
  close(client->fd);
  free(client->tail);
  free(client);
}

static void flush(struct client *client) {
  ssize_t sent = send(client->fd, client->tail, client->unsent, MSG_NOSIGNAL);
  if (sent < 0) {
    if (errno != EAGAIN) leave(client);
    return;
  }
  client->unsent -= sent;
  memmove(client->tail, client->tail + sent, client->unsent);
  if (client->unsent == 0) want(client, EPOLL_CTL_MOD, EPOLLIN);
}

static void receive(struct client *client) {
  static char buffer[BUFFER];
  ssize_t length = recv(client->fd, buffer, sizeof buffer, 0);
  if (length < 0 && errno == EAGAIN) return;
  if (length <= 0) return leave(client);
  ssize_t sent = send(client->fd, buffer, length, MSG_NOSIGNAL);
  if (sent < 0 && errno != EAGAIN) return leave(client);
  if (sent == length) return;
  if (sent < 0) sent = 0;
  client->unsent = length - sent;
  if (!client->tail && !(client->tail = malloc(BUFFER))) stop("malloc");
  memcpy(client->tail, buffer + sent, client->unsent);
  want(client, EPOLL_CTL_MOD, EPOLLOUT);
}

static void welcome(int listener) {
  int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) return;
  struct client *client = calloc(1, sizeof *client);
  if (!client) stop("calloc");
  client->fd = fd;
  want(client, EPOLL_CTL_ADD, EPOLLIN);
}

int main(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
  setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096)) stop("listen");
  getsockname(listener, (struct sockaddr *)&address, &size);
  printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
  fflush(stdout);

  epoll = epoll_create1(0);
  struct client self = {.fd = listener};
  want(&self, EPOLL_CTL_ADD, EPOLLIN);
  for (;;) {
    static struct epoll_event events[EVENTS];
    int count = epoll_wait(epoll, events, EVENTS, -1);
    for (int i = 0; i < count; i++) {
      struct client *client = events[i].data.ptr;
      if (client == &self) welcome(listener);
      else if (client->unsent) flush(client);
      else receive(client);
    }
  }
}
