/* A service whose own time is known: it tells when it began and when it listens.
 *
 *   late NOTES PORT DELAY_MS        listens on PORT after DELAY_MS, lets callers in, ends at TERM
 *   late NOTES PORT DELAY_MS NEED   as above, but first connects to NEED; ends with 1 if that fails or breaks
 *
 * NOTES is a FIFO that takes `begin|listen PORT NANOSECONDS` (CLOCK_MONOTONIC). */
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int notes;

static void tell(const char *what, const char *port) {
  struct timespec t;
  char line[96];
  clock_gettime(CLOCK_MONOTONIC, &t);
  int n = snprintf(line, sizeof line, "%s %s %lld\n", what, port, t.tv_sec * 1000000000LL + t.tv_nsec);
  if (write(notes, line, n) != n) _exit(3);
}

static struct sockaddr_in at(const char *port) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return a;
}

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  notes = open(argv[1], O_WRONLY | O_CLOEXEC);
  if (notes < 0) return 2;
  tell("begin", argv[2]);
  int need = -1;
  if (argc > 4) {
    struct sockaddr_in a = at(argv[4]);
    need = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(need, (void *)&a, sizeof a) != 0) return 1;
  }
  usleep(atoi(argv[3]) * 1000);
  struct sockaddr_in a = at(argv[2]);
  int one = 1, door = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(door, (void *)&a, sizeof a) != 0 || listen(door, 128) != 0) return 4;
  tell("listen", argv[2]);
  int keep[1024], kept = 0; /* a caller stays until we go */
  for (;;) {
    struct pollfd fds[2] = {{.fd = door, .events = POLLIN}, {.fd = need, .events = POLLIN}};
    poll(fds, 2, -1);
    if (fds[1].revents) return 1;
    int caller = accept(door, NULL, NULL);
    if (caller < 0) continue;
    if (kept == 1024) while (kept) close(keep[--kept]);
    keep[kept++] = caller;
  }
}
