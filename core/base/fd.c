#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/auto.h"

static bool retry(int fd, short events)
{
	if (errno == EINTR)
		return true;
	if (errno != EAGAIN)
		return false;
	struct pollfd p = { .fd = fd, .events = events };
	return poll(&p, 1, -1) >= 0 || errno == EINTR;
}

ssize_t gt_read_full(int fd, void *bytes, size_t len)
{
	size_t got = 0;
	while (got < len) {
		ssize_t n = read(fd, (char *)bytes + got, len - got);
		if (n == 0)
			break;
		if (n > 0)
			got += (size_t)n;
		else if (!retry(fd, POLLIN))
			return -1;
	}
	return (ssize_t)got;
}

int gt_write_full(int fd, const void *bytes, size_t len)
{
	size_t done = 0;
	while (done < len) {
		ssize_t n = write(fd, (const char *)bytes + done, len - done);
		if (n >= 0)
			done += (size_t)n;
		else if (!retry(fd, POLLOUT))
			return -1;
	}
	return 0;
}

int gt_read_file(int dirfd, const char *path, size_t max, struct gt_buf *out, struct gt_error *err)
{
	AUTO_CLOSE int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return gt_fail_errno(err, errno, "open %s", path);
	size_t start = out->len;
	for (;;) {
		size_t room = out->len - start > 4096 ? 65536 : 4096;
		char *end = gt_buf_reserve(out, room);
		ssize_t n = gt_read_full(fd, end, room);
		if (n < 0)
			return gt_fail_errno(err, errno, "read %s", path);
		out->len += (size_t)n;
		out->data[out->len] = '\0';
		if (out->len - start > max)
			return gt_fail(err, GT_TOO_LARGE, "%s is larger than %zu bytes", path, max);
		if ((size_t)n < room)
			return 0;
	}
}

int gt_write_control(int dirfd, const char *path, const char *text, struct gt_error *err)
{
	AUTO_CLOSE int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return gt_fail_errno(err, errno, "open %s", path);
	if (write(fd, text, strlen(text)) < 0)
		return gt_fail_errno(err, errno, "write \"%.100s\" to %s", text, path);
	return 0;
}

int gt_read_number(int dirfd, const char *path, int64_t *value, struct gt_error *err)
{
	AUTO_BUF struct gt_buf text = { 0 };
	if (gt_read_file(dirfd, path, 4096, &text, err) < 0)
		return -1;
	char *end;
	errno = 0;
	long long number = text.data ? strtoll(text.data, &end, 10) : 0;
	if (!text.data || end == text.data || errno)
		return gt_fail(err, GT_INTERNAL, "%s does not hold a number", path);
	*value = number;
	return 0;
}

int gt_replace_file(int dirfd, const char *name, const void *bytes, size_t len, mode_t mode, bool durable,
		    struct gt_error *err)
{
	static _Atomic unsigned serial;
	char temp[NAME_MAX + 1];
	int used = snprintf(temp, sizeof temp, ".%.200s.%d.%u.tmp", name, (int)getpid(), atomic_fetch_add(&serial, 1));
	if (used < 0 || strchr(name, '/'))
		return gt_fail(err, GT_INVALID, "%s is not a file name", name);
	AUTO_CLOSE int fd = openat(dirfd, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "create %s", temp);
	if (gt_write_full(fd, bytes, len) < 0 || (durable && fsync(fd) < 0) || renameat(dirfd, temp, dirfd, name) < 0) {
		int saved = errno;
		unlinkat(dirfd, temp, 0);
		return gt_fail_sys(err, GT_INTERNAL, saved, "write %s", name);
	}
	if (durable) {
		AUTO_CLOSE int dir = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (dir < 0 || fsync(dir) < 0)
			return gt_fail_sys(err, GT_INTERNAL, errno, "sync the directory of %s", name);
	}
	return 0;
}

int gt_openat2(int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
		.mode = flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)) ? mode : 0,
		.resolve = resolve,
	};
	long fd;
	do {
		fd = syscall(SYS_openat2, dirfd, path, &how, sizeof how);
	} while (fd < 0 && (errno == EINTR || errno == EAGAIN));
	return (int)fd;
}

int gt_mkdirs(int dirfd, const char *path, mode_t mode, struct gt_error *err)
{
	AUTO_FREE char *copy = gt_xstrdup(path);
	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdirat(dirfd, copy, mode) < 0 && errno != EEXIST)
			return gt_fail_sys(err, GT_INTERNAL, errno, "create directory %s", copy);
		*p = '/';
	}
	if (mkdirat(dirfd, copy, mode) < 0 && errno != EEXIST)
		return gt_fail_sys(err, GT_INTERNAL, errno, "create directory %s", path);
	struct stat st;
	if (fstatat(dirfd, copy, &st, 0) < 0 || !S_ISDIR(st.st_mode))
		return gt_fail_sys(err, GT_INTERNAL, ENOTDIR, "create directory %s", path);
	return 0;
}

/* The depth of hostile trees is bounded by re-opening, not by the C stack: each level costs one fd
 * and one frame, so deep trees are flattened by renaming sub-directories up once `depth` is used up. */
static int remove_contents(int dirfd, int topfd, int depth, struct gt_error *err);

static int remove_subdir(int dirfd, const char *name, int topfd, int depth, struct gt_error *err)
{
	if (depth == 0) {
		static _Atomic unsigned serial;
		char flat[64];
		snprintf(flat, sizeof flat, ".gt-deep.%u", atomic_fetch_add(&serial, 1));
		if (renameat(dirfd, name, topfd, flat) < 0)
			return gt_fail_errno(err, errno, "move %s", name);
		return 1;
	}
	int fd = gt_openat2(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0,
			    RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS);
	if (fd < 0)
		return errno == ENOENT ? 0 : gt_fail_errno(err, errno, "open %s", name);
	int rc = remove_contents(fd, topfd < 0 ? fd : topfd, depth - 1, err);
	if (rc < 0)
		return -1;
	if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return gt_fail_errno(err, errno, "remove directory %s", name);
	return rc;
}

/* Takes dirfd over. Returns 1 where it moved something up to topfd. */
static int remove_contents(int dirfd, int topfd, int depth, struct gt_error *err)
{
	DIR *dir = fdopendir(dirfd);
	if (!dir) {
		int saved = errno;
		close(dirfd);
		return gt_fail_errno(err, saved, "read a directory");
	}
	int moved = 0, rc = 0;
	do {
		moved = dirfd == topfd ? 0 : moved;
		rewinddir(dir);
		for (struct dirent *e; rc >= 0 && (e = readdir(dir)) != NULL;) {
			if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
				continue;
			if (unlinkat(dirfd, e->d_name, 0) == 0 || errno == ENOENT)
				continue;
			if (errno != EISDIR) {
				rc = gt_fail_errno(err, errno, "remove %s", e->d_name);
				break;
			}
			rc = remove_subdir(dirfd, e->d_name, topfd, depth, err);
			moved |= rc > 0;
		}
	} while (rc >= 0 && moved && dirfd == topfd);
	closedir(dir);
	return rc < 0 ? -1 : moved;
}

int gt_remove_tree(int dirfd, const char *path, struct gt_error *err)
{
	AUTO_CLOSE int parent = -1;
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	if (slash) {
		AUTO_FREE char *above = gt_xasprintf("%.*s/", (int)(slash - path), path);
		parent = openat(dirfd, above, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (parent < 0)
			return errno == ENOENT ? 0 : gt_fail_errno(err, errno, "open %s", above);
		dirfd = parent;
	}
	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR)
		return gt_fail_errno(err, errno, "remove %s", name);
	return remove_subdir(dirfd, name, -1, 128, err) < 0 ? -1 : 0;
}

int gt_fd_raise(int fd)
{
	enum { HIGH = 1024 };
	int high = fd >= 0 && fd < HIGH ? fcntl(fd, F_DUPFD_CLOEXEC, HIGH) : -1;
	if (high < 0)
		return fd;
	close(fd);
	return high;
}

ssize_t gt_send_fds(int sock, const void *bytes, size_t len, const int *fds, size_t nfds)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int) * GT_MAX_FDS)];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (nfds > GT_MAX_FDS) {
		errno = EINVAL;
		return -1;
	}
	if (nfds) {
		msg.msg_control = control.room;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * nfds);
	}
	ssize_t n;
	do {
		n = sendmsg(sock, &msg, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n;
}

ssize_t gt_recv_fds(int sock, void *bytes, size_t len, int *fds, size_t *nfds)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int) * GT_MAX_FDS)];
	} control = { 0 };
	struct iovec iov = { .iov_base = bytes, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room,
			      .msg_controllen = sizeof control.room };
	ssize_t n;
	do {
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	size_t room = nfds ? *nfds : 0, got = 0;
	for (struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			if (got < room)
				fds[got++] = fd;
			else
				close(fd);
		}
	}
	if (nfds)
		*nfds = got;
	return n;
}

/* Opens the directory of path and fills addr with a name below /proc/self/fd, so that long
 * paths fit. Returns the directory fd. */
static int short_address(const char *path, struct sockaddr_un *addr, struct gt_error *err)
{
	AUTO_FREE char *dircopy = gt_xstrdup(path);
	AUTO_FREE char *basecopy = gt_xstrdup(path);
	const char *base = basename(basecopy);
	int dir = open(dirname(dircopy), O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return gt_fail_errno(err, errno, "open the directory of %s", path);
	addr->sun_family = AF_UNIX;
	int n = snprintf(addr->sun_path, sizeof addr->sun_path, "/proc/self/fd/%d/%s", dir, base);
	if (n < 0 || (size_t)n >= sizeof addr->sun_path) {
		close(dir);
		return gt_fail(err, GT_INVALID, "%s: the socket's name is too long", path);
	}
	return dir;
}

int gt_unix_listen(const char *path, int type, mode_t mode, struct gt_error *err)
{
	struct sockaddr_un addr = { 0 };
	AUTO_CLOSE int dir = short_address(path, &addr, err);
	if (dir < 0)
		return -1;
	AUTO_CLOSE int sock = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return gt_fail_errno(err, errno, "socket for %s", path);
	unlink(addr.sun_path);
	mode_t old = umask(0177);
	int rc = bind(sock, (struct sockaddr *)&addr, sizeof addr);
	int saved = errno;
	umask(old);
	if (rc < 0)
		return gt_fail_errno(err, saved, "bind %s", path);
	if (chmod(addr.sun_path, mode) < 0 || listen(sock, 512) < 0)
		return gt_fail_errno(err, errno, "listen on %s", path);
	return take_fd(sock);
}

int gt_unix_connect(const char *path, int type, struct gt_error *err)
{
	struct sockaddr_un addr = { 0 };
	AUTO_CLOSE int dir = short_address(path, &addr, err);
	if (dir < 0)
		return -1;
	AUTO_CLOSE int sock = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return gt_fail_errno(err, errno, "socket for %s", path);
	if (connect(sock, (struct sockaddr *)&addr, sizeof addr) < 0)
		return gt_fail_errno(err, errno, "connect to %s", path);
	return take_fd(sock);
}
