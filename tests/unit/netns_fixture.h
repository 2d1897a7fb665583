/*
 * netns_fixture.h - network namespaces for tests: the test's own "host", containers and other hosts, and traffic between them.
 *
 * The test's thread moves into a fresh namespace of its own; others are those of child processes that sleep, named by a descriptor. A socket belongs to the
 * namespace it was made in, so traffic needs no thread over there.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "driver_fixture.h"

struct place {
	pid_t pid;                      /* 0: the host */
	int netns;
};

/* A fresh namespace for the test's thread, with loopback up; what was in the one before is gone. */
void host_enter(void);
struct place place_make(void);
/* Kills the process and closes the descriptor: the namespace dies unless something else holds it. */
void place_end(struct place *place);

/* Runs a shell command there; returns its output, freed by the caller. Fails the test where the command fails. place NULL: the host. */
char *shell_in(const struct place *place, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same for its exit status. */
int try_in(const struct place *place, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define assert_shows(text, part)                                                        \
	do {                                                                            \
		AUTO_FREE char *gt_shown = (text);                                      \
		if (!strstr(gt_shown, (part)))                                          \
			fail_msg("\"%s\" is not in: %s", (part), gt_shown);             \
	} while (0)
#define assert_lacks(text, part)                                                        \
	do {                                                                            \
		AUTO_FREE char *gt_shown = (text);                                      \
		if (strstr(gt_shown, (part)))                                           \
			fail_msg("\"%s\" is in: %s", (part), gt_shown);                 \
	} while (0)

int socket_in(const struct place *place, int family, int type);
/* A listening socket. */
int serve(const struct place *place, const char *address, int port);
int serve_udp(const struct place *place, const char *address, int port);
/* Connects from `place`; true where `listener` got the connection. peer (may be NULL) becomes the address that the server sees. */
bool reaches(const struct place *place, const char *address, int port, int listener, char peer[64]);
/* True where it does not, within a short time. */
bool refused(const struct place *place, const char *address, int port, int listener);
/* As reaches(), but keeps both ends. */
bool connects(const struct place *place, const char *address, int port, int listener, int ends[2], char peer[64]);
/* Sends a datagram on a socket; true where `server` got it and its answer came back. */
bool echoes(int client, const char *address, int port, int server);
bool stays_silent(int client, const char *address, int port, int server);       /* the opposite, within a short time */
