// SPDX-License-Identifier: MIT
// A load generator that has nothing in common with scripts/load.ts but what it does, for bench.ts to check that one by:
// cc -O2 client.c -o client; ./client PORT CONNECTIONS SIZE INFLIGHT
//
// Every connection has INFLIGHT messages of SIZE bytes on their way and answers each reply with the next message. What
// comes back is checked. It uses io_uring(7), since a client with a system call for each message costs as much as the
// server, and measures itself; for the same reason it waits a little for several replies. As load.ts --orders it measures
// once for each line on standard input, its milliseconds, and prints a line of JSON: see Slice in scripts/tools/results.ts.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { ENTRIES = 4096, BUFFER = 65536, PERIOD = 65521, SEND = 0, RECV = 1 };

// How far a connection has come, in bytes: what should have been sent, what was, what has come back.
struct connection {
  int fd, sending;
  unsigned long start, due, sent, received;
  unsigned char *buffer;
};

// PERIOD random bytes, and again their beginning, so that no piece has a gap. A prime, as message sizes aren't.
static unsigned char table[PERIOD + BUFFER];
static int connections, size, inflight, buffer_size, ending;
static unsigned long messages;
static struct connection *all;

// The rings, as io_uring_setup(2) lays them out.
static int ring;
static unsigned *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask, queued;
static struct io_uring_sqe *sqes;
static struct io_uring_cqe *cqes;

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

static void open_ring(void) {
  // Without the last two, each completion would interrupt this process.
  struct io_uring_params p = {.flags = IORING_SETUP_CLAMP | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
  ring = syscall(SYS_io_uring_setup, ENTRIES, &p);
  if (ring < 0) stop("io_uring_setup");
  if (!(p.features & IORING_FEAT_SINGLE_MMAP) || !(p.features & IORING_FEAT_EXT_ARG)) stop("io_uring is too old");
  size_t sq = p.sq_off.array + p.sq_entries * sizeof(unsigned), cq = p.cq_off.cqes + p.cq_entries * sizeof *cqes;
  int access = PROT_READ | PROT_WRITE, kind = MAP_SHARED | MAP_POPULATE;
  char *rings = mmap(NULL, sq > cq ? sq : cq, access, kind, ring, IORING_OFF_SQ_RING);
  sqes = mmap(NULL, p.sq_entries * sizeof *sqes, access, kind, ring, IORING_OFF_SQES);
  if (rings == MAP_FAILED || sqes == MAP_FAILED) stop("mmap");
  sq_tail = (unsigned *)(rings + p.sq_off.tail), sq_mask = (unsigned *)(rings + p.sq_off.ring_mask);
  sq_array = (unsigned *)(rings + p.sq_off.array), cqes = (struct io_uring_cqe *)(rings + p.cq_off.cqes);
  cq_head = (unsigned *)(rings + p.cq_off.head), cq_tail = (unsigned *)(rings + p.cq_off.tail);
  cq_mask = (unsigned *)(rings + p.cq_off.ring_mask);
}

// Hands over what is queued, and waits until so many completions are there, or so many microseconds have passed.
static void enter(unsigned wait, long microseconds) {
  struct __kernel_timespec time = {microseconds / 1000000, microseconds % 1000000 * 1000};
  struct io_uring_getevents_arg argument = {.ts = (unsigned long)&time};
  unsigned flags = IORING_ENTER_EXT_ARG | IORING_ENTER_GETEVENTS;
  int done = syscall(SYS_io_uring_enter, ring, queued, wait, flags, &argument, sizeof argument);
  if (done < 0 && errno != ETIME && errno != EINTR) stop("io_uring_enter");
  // What timed out was the waiting: that comes after the handing over.
  queued = done < 0 ? 0 : queued - done;
}

static void queue(int operation, struct connection *c, const unsigned char *at, unsigned long length) {
  if (queued == ENTRIES) enter(0, 0);
  unsigned tail = *sq_tail, place = tail & *sq_mask;
  sqes[place] = (struct io_uring_sqe){
    .opcode = operation == SEND ? IORING_OP_SEND : IORING_OP_RECV, .fd = c->fd, .addr = (unsigned long)at,
    .len = length, .msg_flags = MSG_NOSIGNAL, .user_data = (unsigned long)(c - all) << 1 | operation,
  };
  sq_array[place] = place;
  atomic_store_explicit((_Atomic unsigned *)sq_tail, tail + 1, memory_order_release);
  queued++;
}

static void send_due(struct connection *c) {
  if (c->sending || c->sent == c->due) return;
  unsigned long left = c->due - c->sent;
  c->sending = 1;
  queue(SEND, c, table + (c->start + c->sent) % PERIOD, left < BUFFER ? left : BUFFER);
}

static void complete(unsigned long data, int result) {
  struct connection *c = &all[data >> 1];
  if (result < 0) errno = -result, stop(data & RECV ? "recv" : "send");
  if ((data & 1) == SEND) {
    c->sent += result, c->sending = 0;
  } else {
    errno = 0;
    if (result == 0 || c->received + result > c->due) stop("the server's bytes");
    if (memcmp(c->buffer, table + (c->start + c->received) % PERIOD, result)) stop("the server's bytes");
    unsigned long before = c->received / size;
    c->received += result;
    unsigned long whole = c->received / size - before;
    messages += whole;
    if (!ending) c->due += whole * size;
    queue(RECV, c, c->buffer, buffer_size);
  }
  send_due(c);
}

// Takes what has completed, and returns how many of these were replies.
static int reap(void) {
  int replies = 0;
  unsigned head = *cq_head, tail = atomic_load_explicit((_Atomic unsigned *)cq_tail, memory_order_acquire);
  for (; head != tail; head++) {
    struct io_uring_cqe *cqe = &cqes[head & *cq_mask];
    replies += cqe->user_data & RECV;
    complete(cqe->user_data, cqe->res);
  }
  atomic_store_explicit((_Atomic unsigned *)cq_head, head, memory_order_release);
  return replies;
}

// Answers replies for so many seconds, waits for those that are still to come, and prints what it has seen.
static void run(double seconds) {
  double start = now(), used = cpu(), passed;
  unsigned together = connections > 4 ? connections / 4 : 1;
  messages = 0, ending = 0;
  for (int i = 0; i < connections; i++) all[i].due += (unsigned long)size * inflight, send_due(&all[i]);
  unsigned long left = (unsigned long)connections * inflight, counted = 0;
  double counting = 0;
  while (!ending || messages < counted + left) {
    // That something has been sent is known at once. It is not what is waited for.
    enter(0, 0);
    unsigned replies = reap();
    // Every second one that is queued is a send, which is done at once.
    if (replies < together && !ending) enter(queued / 2 + together - replies, 100), replies += reap();
    if (replies == 0) enter(1, 50000), reap();
    passed = now() - start;
    if (!ending && passed >= seconds) ending = 1, counted = messages, counting = passed;
  }
  passed = now() - start;
  printf("{\"served\":%d,\"messages\":%lu,\"seconds\":%.6f,\"messagesPerSecond\":%.1f,\"firstReplyUs\":null,"
         "\"latencyUs\":null,\"sockets\":\"uring\",\"generatorCores\":%.4f}\n",
         connections, messages, passed, counted / counting, (cpu() - used) / passed);
  fflush(stdout);
}

int main(int count, char **arguments) {
  if (count != 5) return fprintf(stderr, "usage: client PORT CONNECTIONS SIZE INFLIGHT\n"), 2;
  struct sockaddr_in address = {
    .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(atoi(arguments[1])),
  };
  connections = atoi(arguments[2]), size = atoi(arguments[3]), inflight = atoi(arguments[4]);
  unsigned x = 0x2545f491;
  for (int i = 0; i < PERIOD + BUFFER; i++) {
    x = x * 1664525 + 1013904223;
    table[i] = i < PERIOD ? x >> 24 : table[i - PERIOD];
  }

  open_ring();
  all = calloc(connections, sizeof *all);
  buffer_size = size * inflight < BUFFER ? size * inflight : BUFFER;
  for (int i = 0, one = 1; i < connections; i++) {
    struct connection *c = &all[i];
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address)) stop("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->start = i * 7919L % PERIOD;
    c->buffer = malloc(buffer_size);
    queue(RECV, c, c->buffer, buffer_size);
  }
  char line[64];
  for (run(0.4); fgets(line, sizeof line, stdin);) run(atoi(line) / 1e3);
}
