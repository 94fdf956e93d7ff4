// SPDX-License-Identifier: MIT
// A load generator that has nothing in common with scripts/load.ts but what it does, for bench.ts to check that one by:
// cc -O2 client.c -o client; ./client PORT CONNECTIONS SIZE INFLIGHT MILLISECONDS PID
//
// Every connection has INFLIGHT messages of SIZE bytes on their way and answers each reply with the next message. What
// comes back is checked. The result is a line of JSON: messages per second, and CPU seconds per second, of this process
// and of the server, whose PID it gets: in its program and in the kernel.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 1024, BUFFER = 65536, PERIOD = 65521 };

// How far a connection has come, in bytes: what should have been sent, what was, what has come back.
struct connection {
  int fd;
  unsigned long start, due, sent, received;
};

// PERIOD random bytes, and again their beginning, so that no piece has a gap. A prime, as message sizes aren't.
static unsigned char table[PERIOD + BUFFER];
static int epoll, connections, size, inflight;
static unsigned long messages;

static void stop(const char *what) {
  fprintf(stderr, "client: %s: %s\n", what, errno ? strerror(errno) : "not what was sent");
  exit(1);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec / 1e9;
}

static double cpu(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

// CPU seconds of another process, from proc(5): fields 14 and 15, in ticks of 10 ms. Field 2 is a name in brackets.
static void usage(int pid, double *user, double *system) {
  char path[32], line[1024] = "";
  unsigned long ticks[2] = {0};
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  FILE *file = fopen(path, "r");
  if (!file) stop(path);
  if (!fgets(line, sizeof line, file) || !strrchr(line, ')')) stop(path);
  sscanf(strrchr(line, ')') + 1, " %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %lu %lu", &ticks[0], &ticks[1]);
  fclose(file);
  *user = ticks[0] / 100.0, *system = ticks[1] / 100.0;
}

static void flush(struct connection *c) {
  while (c->sent < c->due) {
    unsigned long left = c->due - c->sent;
    ssize_t sent = send(c->fd, table + (c->start + c->sent) % PERIOD, left < BUFFER ? left : BUFFER, MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) return;
    if (sent < 0) stop("send");
    c->sent += sent;
  }
}

// Takes what has arrived. It is edge-triggered: there may be more only if the buffer was filled.
static void receive(struct connection *c) {
  static unsigned char buffer[BUFFER];
  ssize_t length;
  do {
    length = recv(c->fd, buffer, sizeof buffer, 0);
    if (length < 0 && errno == EAGAIN) return;
    if (length < 0) stop("recv");
    errno = 0;
    if (length == 0 || c->received + length > c->sent) stop("the server's bytes");
    if (memcmp(buffer, table + (c->start + c->received) % PERIOD, length)) stop("the server's bytes");
    unsigned long before = c->received / size;
    c->received += length;
    unsigned long whole = c->received / size - before;
    messages += whole;
    c->due += whole * size;
  } while (length == BUFFER);
}

// Answers replies for so many seconds, and returns how long it has really been.
static double run(double seconds) {
  static struct epoll_event events[EVENTS];
  double start = now(), passed;
  messages = 0;
  while ((passed = now() - start) < seconds) {
    int count = epoll_wait(epoll, events, EVENTS, 50);
    for (int i = 0; i < count; i++) {
      receive(events[i].data.ptr);
      flush(events[i].data.ptr);
    }
  }
  return passed;
}

int main(int count, char **arguments) {
  if (count != 7) return fprintf(stderr, "usage: client PORT CONNECTIONS SIZE INFLIGHT MILLISECONDS PID\n"), 2;
  struct sockaddr_in address = {
    .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(atoi(arguments[1])),
  };
  connections = atoi(arguments[2]), size = atoi(arguments[3]), inflight = atoi(arguments[4]);
  double seconds = atoi(arguments[5]) / 1e3;
  unsigned x = 0x2545f491;
  for (int i = 0; i < PERIOD + BUFFER; i++) {
    x = x * 1664525 + 1013904223;
    table[i] = i < PERIOD ? x >> 24 : table[i - PERIOD];
  }

  epoll = epoll_create1(0);
  struct connection *all = calloc(connections, sizeof *all);
  for (int i = 0, one = 1; i < connections; i++) {
    struct connection *c = &all[i];
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address)) stop("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->start = i * 7919L % PERIOD;
    c->due = (unsigned long)size * inflight;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event)) stop("epoll_ctl");
  }
  run(seconds > 0.8 ? seconds / 2 : 0.4);
  int pid = atoi(arguments[6]);
  double before[3], after[3];
  usage(pid, &before[0], &before[1]);
  before[2] = cpu();
  double passed = run(seconds);
  after[2] = cpu();
  usage(pid, &after[0], &after[1]);
  printf("{\"rate\":%.1f,\"generator\":%.4f,\"user\":%.4f,\"system\":%.4f}\n", messages / passed,
         (after[2] - before[2]) / passed, (after[0] - before[0]) / passed, (after[1] - before[1]) / passed);
}
