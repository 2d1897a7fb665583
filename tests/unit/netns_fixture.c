#include "netns_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 10000       /* for what comes: a busy kernel brings links up when it gets to it */
#define SILENCE_MS 700          /* that count as nothing coming */

/* ---- places ---- */

void host_enter(void)
{
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	free(shell_in(NULL, "ip link set lo up"));
}

struct place place_make(void)
{
	int ready[2];
	char path[64], byte;
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWNET) < 0 || write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_true(pid > 0);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	snprintf(path, sizeof path, "/proc/%d/ns/net", pid);
	struct place place = { pid, open(path, O_RDONLY | O_CLOEXEC) };
	assert_true(place.netns >= 0);
	return place;
}

void place_end(struct place *place)
{
	if (place->pid > 0) {
		kill(place->pid, SIGKILL);
		waitpid(place->pid, NULL, 0);
	}
	if (place->netns >= 0)
		close(place->netns);
	*place = (struct place){ 0, -1 };
}

/* ---- commands ---- */

static int run(const struct place *place, const char *fmt, va_list ap, struct gt_buf *output)
{
	AUTO_BUF struct gt_buf line = { 0 };
	char bytes[4096];
	char *command = NULL;
	if (vasprintf(&command, fmt, ap) < 0)
		fail();
	if (place)
		gt_buf_printf(&line, "exec nsenter -t %d -n -- ", place->pid);
	gt_buf_printf(&line, "sh -c '%s' 2>&1", command);
	free(command);
	/* popen's child is in this thread's namespace. */
	FILE *pipe = popen(line.data, "re");
	assert_non_null(pipe);
	for (size_t got; (got = fread(bytes, 1, sizeof bytes, pipe)) > 0;)
		gt_buf_add(output, bytes, got);
	gt_buf_add(output, "", 0);
	return pclose(pipe);
}

char *shell_in(const struct place *place, const char *fmt, ...)
{
	struct gt_buf output = { 0 };
	va_list ap;
	va_start(ap, fmt);
	int status = run(place, fmt, ap, &output);
	va_end(ap);
	if (status != 0)
		fail_msg("%s: status %d: %s", fmt, status, output.data);
	return gt_buf_take(&output);
}

int try_in(const struct place *place, const char *fmt, ...)
{
	AUTO_BUF struct gt_buf output = { 0 };
	va_list ap;
	va_start(ap, fmt);
	int status = run(place, fmt, ap, &output);
	va_end(ap);
	return status;
}

/* ---- sockets ---- */

struct opening {
	int netns, family, type, fd;
};

static void *open_there(void *arg)
{
	struct opening *opening = arg;
	opening->fd = setns(opening->netns, CLONE_NEWNET) < 0 ? -1 : socket(opening->family, opening->type | SOCK_CLOEXEC, 0);
	return NULL;
}

int socket_in(const struct place *place, int family, int type)
{
	if (!place)
		return socket(family, type | SOCK_CLOEXEC, 0);
	struct opening opening = { place->netns, family, type, -1 };
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, open_there, &opening), 0);
	pthread_join(thread, NULL);
	return opening.fd;
}

static socklen_t fill(const char *address, int port, struct sockaddr_storage *to)
{
	struct sockaddr_in *in = (struct sockaddr_in *)to;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)to;
	memset(to, 0, sizeof *to);
	if (strchr(address, ':')) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)port);
		assert_int_equal(inet_pton(AF_INET6, address, &in6->sin6_addr), 1);
		return sizeof *in6;
	}
	in->sin_family = AF_INET;
	in->sin_port = htons((uint16_t)port);
	assert_int_equal(inet_pton(AF_INET, address, &in->sin_addr), 1);
	return sizeof *in;
}

static int bound(const struct place *place, const char *address, int port, int type)
{
	struct sockaddr_storage to;
	int on = 1;
	socklen_t len = fill(address, port, &to);
	int fd = socket_in(place, to.ss_family, type);
	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(fd, (struct sockaddr *)&to, len) < 0)
		fail_msg("bind %s:%d: %s", address, port, strerror(errno));
	return fd;
}

int serve(const struct place *place, const char *address, int port)
{
	int fd = bound(place, address, port, SOCK_STREAM);
	assert_int_equal(listen(fd, 16), 0);
	return fd;
}

int serve_udp(const struct place *place, const char *address, int port)
{
	return bound(place, address, port, SOCK_DGRAM);
}

static bool ready(int fd, short events, int patience)
{
	struct pollfd poll_fd = { .fd = fd, .events = events };
	return poll(&poll_fd, 1, patience) == 1;
}

static void write_peer(const struct sockaddr_storage *from, char peer[64])
{
	const void *bytes = from->ss_family == AF_INET ? (const void *)&((const struct sockaddr_in *)from)->sin_addr :
							  (const void *)&((const struct sockaddr_in6 *)from)->sin6_addr;
	inet_ntop(from->ss_family, bytes, peer, 64);
}

static bool try_connect(const struct place *place, const char *address, int port, int listener, int ends[2], char peer[64], int patience)
{
	struct sockaddr_storage to, from;
	socklen_t len = fill(address, port, &to), from_len = sizeof from;
	int error = 0;
	socklen_t error_len = sizeof error;
	ends[0] = socket_in(place, to.ss_family, SOCK_STREAM | SOCK_NONBLOCK);
	ends[1] = -1;
	assert_true(ends[0] >= 0);
	bool up = connect(ends[0], (struct sockaddr *)&to, len) == 0 ||
		  (errno == EINPROGRESS && ready(ends[0], POLLOUT, patience) &&
		   getsockopt(ends[0], SOL_SOCKET, SO_ERROR, &error, &error_len) == 0 && error == 0);
	if (up && ready(listener, POLLIN, patience))
		ends[1] = accept4(listener, (struct sockaddr *)&from, &from_len, SOCK_CLOEXEC);
	if (ends[1] >= 0) {
		if (peer)
			write_peer(&from, peer);
		return true;
	}
	close(ends[0]);
	ends[0] = -1;
	return false;
}

bool connects(const struct place *place, const char *address, int port, int listener, int ends[2], char peer[64])
{
	return try_connect(place, address, port, listener, ends, peer, PATIENCE_MS);
}

bool refused(const struct place *place, const char *address, int port, int listener)
{
	int ends[2];
	if (!try_connect(place, address, port, listener, ends, NULL, SILENCE_MS))
		return true;
	close(ends[0]);
	close(ends[1]);
	return false;
}

bool reaches(const struct place *place, const char *address, int port, int listener, char peer[64])
{
	int ends[2];
	if (!connects(place, address, port, listener, ends, peer))
		return false;
	close(ends[0]);
	close(ends[1]);
	return true;
}

static bool try_echo(int client, const char *address, int port, int server, int patience)
{
	struct sockaddr_storage to, from;
	socklen_t len = fill(address, port, &to), from_len = sizeof from;
	char bytes[16];
	if (sendto(client, "ping", 4, 0, (struct sockaddr *)&to, len) != 4 || !ready(server, POLLIN, patience) ||
	    recvfrom(server, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &from_len) != 4)
		return false;
	assert_int_equal(sendto(server, "pong", 4, 0, (struct sockaddr *)&from, from_len), 4);
	from_len = sizeof from;
	return ready(client, POLLIN, patience) && recvfrom(client, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &from_len) == 4;
}

bool echoes(int client, const char *address, int port, int server)
{
	return try_echo(client, address, port, server, PATIENCE_MS);
}

bool stays_silent(int client, const char *address, int port, int server)
{
	return !try_echo(client, address, port, server, SILENCE_MS);
}
