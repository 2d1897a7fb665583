/*
 * listen.c - the sockets that the API is served on.
 *
 * unix:///PATH is made with mode 0660 and the configured group. A socket file that is already there is removed only where nobody answers
 * on it. Sockets that systemd passes (sd_listen_fds(3)) are used for fd://, and for a unix:///PATH that one of them is bound to, so that one
 * configuration serves with and without a socket unit.
 */
#include "listen.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"

enum { FIRST_PASSED_FD = 3, BACKLOG = 512 };

struct opening {
	const char *key;        /* of [daemon] */
	const struct gt_config *config;
	struct listener *list;
	size_t count, max;
	int passed[32];         /* not used yet; -1: used */
	size_t passed_count;
};

static int add(struct opening *opening, struct listener listener, struct gt_error *err)
{
	if (opening->count == opening->max) {
		close(listener.fd);
		free(listener.unlink_path);
		free(listener.name);
		return gt_fail(err, GT_INVALID, "[daemon] %s: more than %zu sockets", opening->key, opening->max);
	}
	opening->list[opening->count++] = listener;
	return 0;
}

/* Whether a tcp socket is served with TLS: always where it is set up, else plain only where that was asked for. */
static int decide_tls(const struct gt_config *config, const char *name, bool *tls, struct gt_error *err)
{
	int given = !!*config->tls_cert + !!*config->tls_key + !!*config->tls_ca;
	*tls = given == 3;
	if (given == 3)
		return 0;
	if (given > 0)
		return gt_fail(err, GT_INVALID, "%s: TLS needs all of [daemon] tls_cert, tls_key and tls_ca", name);
	if (!config->insecure_tcp)
		return gt_fail(err, GT_INVALID,
			       "%s: set [daemon] tls_cert, tls_key and tls_ca; serving tcp without client certificates gives root to all who "
			       "reach the port, so it must be asked for with insecure_tcp = yes",
			       name);
	gt_warn("the API is served without TLS: anyone who reaches the port is root on this host", "listen", name);
	return 0;
}

/* ---- systemd ---- */

static void find_passed(struct opening *opening)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	long count = pid && fds && strtol(pid, NULL, 10) == getpid() ? strtol(fds, NULL, 10) : 0;
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	if (count < 0 || count > (long)GT_COUNT(opening->passed))
		count = 0;
	for (int i = 0; i < (int)count; i++) {
		int fd = FIRST_PASSED_FD + i, listening = 0;
		socklen_t len = sizeof listening;
		if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
			continue;
		if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) == 0 && listening)
			opening->passed[opening->passed_count++] = fd;
		else
			gt_warn("a descriptor passed by systemd is no listening socket");
	}
}

/* The passed socket that is bound to path, or -1. */
static int take_passed_path(struct opening *opening, const char *path)
{
	for (size_t i = 0; i < opening->passed_count; i++) {
		struct sockaddr_un addr = { 0 };
		socklen_t len = sizeof addr - 1;
		if (opening->passed[i] < 0 || getsockname(opening->passed[i], (struct sockaddr *)&addr, &len) < 0)
			continue;
		if (addr.sun_family == AF_UNIX && strcmp(addr.sun_path, path) == 0)
			return take_fd(opening->passed[i]);
	}
	return -1;
}

static int add_passed(struct opening *opening, struct gt_error *err)
{
	size_t added = 0;
	for (size_t i = 0; i < opening->passed_count; i++) {
		struct sockaddr_storage addr = { 0 };
		socklen_t len = sizeof addr;
		if (opening->passed[i] < 0)
			continue;
		struct listener listener = { .fd = opening->passed[i], .name = gt_xstrdup("fd://") };
		opening->passed[i] = -1;
		getsockname(listener.fd, (struct sockaddr *)&addr, &len);
		if (addr.ss_family != AF_UNIX && decide_tls(opening->config, listener.name, &listener.tls, err) < 0) {
			close(listener.fd);
			free(listener.name);
			return -1;
		}
		if (add(opening, listener, err) < 0)
			return -1;
		added++;
	}
	return added ? 0 : gt_fail(err, GT_INVALID, "fd://: systemd passed no listening socket: start gantryd by a socket unit");
}

/* ---- unix ---- */

/* Refuses a path that is in use; removes nothing itself (gt_unix_listen does). */
static int check_stale(const char *path, struct gt_error *err)
{
	struct stat st;
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : gt_fail_errno(err, errno, "look at %s", path);
	if (!S_ISSOCK(st.st_mode))
		return gt_fail(err, GT_CONFLICT, "%s exists and is not a socket: move it away", path);
	struct gt_error why = { 0 };
	AUTO_CLOSE int fd = gt_unix_connect(path, SOCK_STREAM, &why);
	if (fd < 0 && why.errnum == ECONNREFUSED)
		return 0;
	if (fd < 0)
		return gt_fail(err, GT_CONFLICT, "%s: cannot tell whether it is in use: %s", path, why.message);
	return gt_fail(err, GT_CONFLICT, "%s: another process serves there: stop it, or set [daemon] listen", path);
}

static void set_group(const char *path, const char *name)
{
	char room[4096];
	struct group group, *found = NULL;
	if (!*name)
		return;
	if (getgrnam_r(name, &group, room, sizeof room, &found) != 0 || !found) {
		gt_debug("the socket's group does not exist: only root may use the socket", "group", name);
		return;
	}
	if (lchown(path, (uid_t)-1, found->gr_gid) < 0)
		gt_warn("the socket's group could not be set", "socket", path, "group", name, "error", strerror(errno));
}

static int add_unix(struct opening *opening, const char *name, const char *path, struct gt_error *err)
{
	if (*path != '/')
		return gt_fail(err, GT_INVALID, "[daemon] listen %s: the path must be absolute", name);
	struct listener listener = { .fd = take_passed_path(opening, path) };
	if (listener.fd >= 0) {
		listener.name = gt_xstrdup(name);
		return add(opening, listener, err);
	}
	AUTO_FREE char *dir = gt_xstrdup(path);
	*strrchr(dir, '/') = '\0';
	if (*dir && gt_mkdirs(AT_FDCWD, dir, 0711, err) < 0)
		return gt_context(err, "[daemon] listen %s", name);
	if (check_stale(path, err) < 0)
		return -1;
	listener.fd = gt_unix_listen(path, SOCK_STREAM, 0660, err);
	if (listener.fd < 0)
		return -1;
	set_group(path, opening->config->socket_group);
	struct stat st;
	if (lstat(path, &st) == 0) {
		listener.unlink_path = gt_xstrdup(path);
		listener.dev = st.st_dev;
		listener.ino = st.st_ino;
	}
	listener.name = gt_xstrdup(name);
	return add(opening, listener, err);
}

/* ---- tcp ---- */

static int listen_on(const struct addrinfo *at, bool v6only)
{
	AUTO_CLOSE int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, at->ai_protocol);
	int one = 1, only = v6only;
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (at->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
	if (bind(fd, at->ai_addr, at->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
		return -1;
	return take_fd(fd);
}

/* "host:port" or "[v6]:port" in place; NULL where there is no port. */
static char *split_port(char *text)
{
	char *colon = strrchr(text, ':');
	if (!colon || !colon[1])
		return NULL;
	*colon = '\0';
	size_t len = strlen(text);
	if (*text == '[' && len > 1 && text[len - 1] == ']') {
		memmove(text, text + 1, len - 2);
		text[len - 2] = '\0';
	} else if (strchr(text, ':')) {
		return NULL;
	}
	return colon + 1;
}

/* host NULL: every address. */
static int add_addresses(struct opening *opening, const char *name, const char *host, const char *port, bool tls, struct gt_error *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *list;
	int bad = getaddrinfo(host, port, &hints, &list);
	if (bad)
		return gt_fail(err, GT_INVALID, "[daemon] %s %s: %s", opening->key, name, gai_strerror(bad));
	size_t added = 0;
	int failed = 0, why = 0;
	for (const struct addrinfo *at = list; at && !failed; at = at->ai_next) {
		int fd = listen_on(at, list->ai_next != NULL);
		if (fd >= 0) {
			failed = add(opening, (struct listener){ .fd = fd, .tls = tls, .name = gt_xstrdup(name) }, err) < 0;
			added++;
		} else if (!why || errno == EADDRINUSE) {
			why = errno;
		}
	}
	freeaddrinfo(list);
	if (failed)
		return -1;
	/* A host without IPv6 still serves localhost; an address in use is never passed over. */
	if (added == 0 || why == EADDRINUSE)
		return gt_fail_errno(err, why, "listen on %s", name);
	return 0;
}

static int add_tcp(struct opening *opening, const char *name, const char *address, struct gt_error *err)
{
	AUTO_FREE char *host = gt_xstrdup(address);
	const char *port = split_port(host);
	bool tls;
	if (!port)
		return gt_fail(err, GT_INVALID, "[daemon] listen %s: write tcp://HOST:PORT or tcp://[ADDRESS]:PORT", name);
	if (decide_tls(opening->config, name, &tls, err) < 0)
		return -1;
	return add_addresses(opening, name, *host ? host : NULL, port, tls, err);
}

int listeners_open_plain(const char *key, const char *address, size_t max, struct listener **list, size_t *count, struct gt_error *err)
{
	struct opening opening = { .key = key, .max = max, .list = gt_xcalloc(max, sizeof **list) };
	AUTO_FREE char *host = gt_xstrdup(address);
	const char *port = split_port(host);
	int rc = port ? add_addresses(&opening, address, *host ? host : "127.0.0.1", port, false, err)
		      : gt_fail(err, GT_INVALID, "[daemon] %s %s: write HOST:PORT or [ADDRESS]:PORT", key, address);
	if (rc < 0) {
		listeners_close(opening.list, opening.count);
		return -1;
	}
	*list = opening.list;
	*count = opening.count;
	return 0;
}

/* ---- all ---- */

static int add_entry(struct opening *opening, const char *entry, struct gt_error *err)
{
	if (strncmp(entry, "unix://", 7) == 0)
		return add_unix(opening, entry, entry + 7, err);
	if (strncmp(entry, "tcp://", 6) == 0)
		return add_tcp(opening, entry, entry + 6, err);
	if (strncmp(entry, "fd://", 5) == 0)
		return add_passed(opening, err);
	return gt_fail(err, GT_INVALID, "[daemon] listen %s: write unix:///PATH, tcp://HOST:PORT or fd://", entry);
}

int listeners_open(const struct gt_config *config, size_t max, struct listener **list, size_t *count, struct gt_error *err)
{
	struct opening opening = { .key = "listen", .config = config, .max = max, .list = gt_xcalloc(max, sizeof **list) };
	find_passed(&opening);
	int rc = 0;
	for (size_t i = 0; i < config->listen.count && rc == 0; i++)
		rc = add_entry(&opening, config->listen.items[i], err);
	if (rc == 0 && opening.count == 0)
		rc = gt_fail(err, GT_INVALID, "[daemon] listen is empty: nobody could reach the daemon");
	for (size_t i = 0; i < opening.passed_count; i++) {
		if (opening.passed[i] < 0)
			continue;
		if (rc == 0)
			gt_warn("a socket passed by systemd is not used: add fd:// to [daemon] listen");
		close(opening.passed[i]);
	}
	if (rc < 0) {
		listeners_close(opening.list, opening.count);
		return -1;
	}
	*list = opening.list;
	*count = opening.count;
	return 0;
}

void listeners_close(struct listener *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct stat st;
		const struct listener *it = &list[i];
		if (it->unlink_path && lstat(it->unlink_path, &st) == 0 && st.st_dev == it->dev && st.st_ino == it->ino)
			unlink(it->unlink_path);
		if (it->fd >= 0)
			close(it->fd);
		free(it->unlink_path);
		free(it->name);
	}
	free(list);
}
