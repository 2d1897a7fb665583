/*
 * fd.h - files by descriptor: whole reads and writes, documents replaced whole,
 * hostile paths, directory trees, descriptors over sockets.
 *
 * All descriptors made here are O_CLOEXEC. All functions are thread safe.
 */
#pragma once

#include <linux/openat2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/error.h"

/* Read or write all of len, going on after EINTR and short transfers. Reads return the number of
 * bytes got (less than len only at end of file), -1 with errno. Non-blocking fds are polled. */
ssize_t gt_read_full(int fd, void *bytes, size_t len);
int gt_write_full(int fd, const void *bytes, size_t len);

/* Appends the whole of a file (below dirfd, or AT_FDCWD) to out; a file of more than `max` bytes
 * is refused with GT_TOO_LARGE. */
int gt_read_file(int dirfd, const char *path, size_t max, struct gt_buf *out, struct gt_error *err);
/* For /proc, /sys and cgroup files: writes text in one write(2), no create. */
int gt_write_control(int dirfd, const char *path, const char *text, struct gt_error *err);
/* Reads a file of /proc or a cgroup that holds one number; *value is kept where it holds none. */
int gt_read_number(int dirfd, const char *path, int64_t *value, struct gt_error *err);

/* Replaces a document whole: temporary file in the same directory, fsync, rename, fsync of the
 * directory. `name` has no slash. With durable = false the fsyncs are left out (for files below
 * /run, which do not outlive the machine). */
int gt_replace_file(int dirfd, const char *name, const void *bytes, size_t len, mode_t mode, bool durable,
		    struct gt_error *err);

/* openat2(2). `resolve`: RESOLVE_IN_ROOT for paths of a container or an image, RESOLVE_BENEATH
 * for paths that must not leave dirfd. Returns the fd, or -1 with errno. */
int gt_openat2(int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve);

/* mkdir -p below dirfd; existing directories are fine. */
int gt_mkdirs(int dirfd, const char *path, mode_t mode, struct gt_error *err);

/* Removes what path's last component names, with all that is in it; the directories above it are the caller's
 * and trusted. Inside, never follows a symbolic link and never crosses a mount point; a missing path is no error. */
int gt_remove_tree(int dirfd, const char *path, struct gt_error *err);

/* Moves a descriptor that will stay for long to a high number, where a process to come need not take it over (gt_spawn copies the table up to the highest
 * that is asked for). Returns the new one; the same where there is no room. */
int gt_fd_raise(int fd);

/* One message with up to 8 descriptors over a unix socket. gt_recv_fds stores at most *nfds
 * descriptors and sets *nfds; descriptors that do not fit are closed. Return the bytes
 * transferred, 0 at end of file, -1 with errno. */
#define GT_MAX_FDS 8
ssize_t gt_send_fds(int sock, const void *bytes, size_t len, const int *fds, size_t nfds);
ssize_t gt_recv_fds(int sock, void *bytes, size_t len, int *fds, size_t *nfds);

/* A unix socket path may be longer than sun_path: both go through /proc/self/fd/<dirfd>.
 * type: SOCK_STREAM or SOCK_SEQPACKET. Return the fd, or -1 with err. */
int gt_unix_listen(const char *path, int type, mode_t mode, struct gt_error *err);
int gt_unix_connect(const char *path, int type, struct gt_error *err);
