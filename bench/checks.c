/* What checks cost at least.
 *
 *   checks serve PORT                      listens there and answers each request with 200
 *   checks bare tcp|http FIRST COUNT SECS  checks COUNT such ports, from FIRST on, once each 10 s, ten times a second
 *                                          some of them, with nothing but the calls that the kernel needs; prints the
 *                                          share of a core, in percent */
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char ANSWER[] = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
static const char QUESTION[] = "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

static struct sockaddr_in at(int port) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return a;
}

static int serve(int port) {
  struct sockaddr_in a = at(port);
  int one = 1, door = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(door, (void *)&a, sizeof a) != 0 || listen(door, 128) != 0) return 4;
  for (;;) {
    char question[4096];
    int caller = accept(door, NULL, NULL);
    if (read(caller, question, sizeof question) > 0) send(caller, ANSWER, sizeof ANSWER - 1, MSG_NOSIGNAL);
    close(caller);
  }
}

static void check(int port, int http) {
  struct sockaddr_in a = at(port);
  int line = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  struct pollfd ready = {line, POLLOUT, 0};
  connect(line, (void *)&a, sizeof a);
  poll(&ready, 1, 1000);
  if (http) {
    char answer[4096];
    send(line, QUESTION, sizeof QUESTION - 1, MSG_NOSIGNAL);
    ready.events = POLLIN;
    while (poll(&ready, 1, 1000) > 0 && read(line, answer, sizeof answer) > 0) {}
  }
  close(line);
}

int main(int argc, char **argv) {
  if (argc == 3 && !strcmp(argv[1], "serve")) return serve(atoi(argv[2]));
  if (argc != 6) return 2;
  int http = !strcmp(argv[2], "http"), first = atoi(argv[3]), count = atoi(argv[4]), seconds = atoi(argv[5]);
  int next = 0, at_once = (count + 99) / 100;
  for (int turn = 0; turn < seconds * 10; turn++) {
    struct timespec pause = {0, 100000000};
    for (int i = 0; i < at_once; i++) check(first + next++ % count, http);
    nanosleep(&pause, NULL);
  }
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
  printf("%.2f\n", cpu / seconds * 100);
  return 0;
}
