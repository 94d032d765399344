/* What the sockets of two hosts give a C program: the limit that scripts/hosts bench compares with.
 *
 *   pingpong serve              answers one client
 *   pingpong ask ADDRESS        measures with it; prints one object of JSON
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { kPort = 4100, kSmall = 8, kRoundTrips = 4000, kWindow = 64, kWindows = 200 };
static const size_t kPiece = 1 << 20;
static const size_t kLarge = 64 << 20;
enum { kLarges = 5, kPieceWindows = 3 };

static void fail(const char* what) {
  fprintf(stderr, "pingpong: %s: %s\n", what, strerror(errno));
  exit(1);
}

static double now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

static void send_all(int s, const char* from, size_t bytes) {
  while (bytes) {
    const ssize_t done = send(s, from, bytes, 0);
    if (done < 0) fail("send");
    from += done;
    bytes -= done;
  }
}

/* With MSG_DONTWAIT in flags it asks again and again, else it sleeps. */
static void receive_all(int s, char* into, size_t bytes, int flags) {
  while (bytes) {
    const ssize_t done = recv(s, into, bytes, flags);
    if (done == 0) exit(1);
    if (done < 0) {
      if (errno == EAGAIN) continue;
      fail("recv");
    }
    into += done;
    bytes -= done;
  }
}

static double round_trips(int s, char* memory, int count, int first, int flags) {
  const double start = now_us();
  for (int i = 0; i < count; ++i) {
    if (first) send_all(s, memory, kSmall);
    receive_all(s, memory, kSmall, flags);
    if (!first) send_all(s, memory, kSmall);
  }
  return (now_us() - start) / count / 2;
}

/* One way, in messages of so many bytes, the last of which is acknowledged. */
static double one_way(int s, char* memory, size_t bytes, int count, int first) {
  const double start = now_us();
  for (int i = 0; i < count; ++i) {
    if (first)
      send_all(s, memory, bytes);
    else
      receive_all(s, memory, bytes, 0);
  }
  char done = 0;
  if (first)
    receive_all(s, &done, 1, 0);
  else
    send_all(s, &done, 1);
  return now_us() - start;
}

static int connection_to(const char* address) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_INET}, *found;
  char port[8];
  snprintf(port, sizeof port, "%d", kPort);
  if (getaddrinfo(address, port, &hints, &found)) fail("getaddrinfo");
  const int s = socket(found->ai_family, SOCK_STREAM, 0);
  if (connect(s, found->ai_addr, found->ai_addrlen)) fail("connect");
  freeaddrinfo(found);
  return s;
}

static int accepted(void) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  const struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(kPort)};
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (const struct sockaddr*)&any, sizeof any) || listen(listener, 1)) fail("listen");
  puts("listening");
  fflush(stdout);
  const int s = accept(listener, 0, 0);
  if (s < 0) fail("accept");
  return s;
}

int main(int count, char** words) {
  const int first = count == 3 && !strcmp(words[1], "ask");
  if (!first && (count != 2 || strcmp(words[1], "serve"))) return 2;
  char* memory = malloc(kLarge);
  memset(memory, 1, kLarge);
  const double start = now_us();
  const int s = first ? connection_to(words[2]) : accepted();
  const int on = 1;
  setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  round_trips(s, memory, 1, first, 0);
  const double connect_us = now_us() - start;
  round_trips(s, memory, 100, first, MSG_DONTWAIT);
  const double spinning = round_trips(s, memory, kRoundTrips, first, MSG_DONTWAIT);
  const double sleeping = round_trips(s, memory, kRoundTrips, first, 0);
  one_way(s, memory, kLarge, 1, first);
  const double large = one_way(s, memory, kLarge, kLarges, first) / kLarges;
  double windowed = 0, rate = 0;
  for (int i = 0; i < kPieceWindows; ++i) windowed += one_way(s, memory, kPiece, kWindow, first);
  for (int i = 0; i < kWindows; ++i) rate += one_way(s, memory, kSmall, kWindow, first);
  if (first)
    printf("{\"first_us\": %.3f, \"latency_us\": %.3f, \"latency_sleeping_us\": %.3f,"
           " \"large_us\": %.3f, \"windowed_mib_s\": %.3f, \"rate\": %.1f}\n",
           connect_us, spinning, sleeping, large, kWindow * kPieceWindows / (windowed / 1e6),
           kWindow * kWindows / (rate / 1e6));
  return 0;
}
