/*
 * fsjob.c - the client side of gantry-fs: spawns it, sends the request, waits for the reply, reaps it. The protocol is told in
 * fshelper/fs.h. Each call is on its own; nothing is shared between threads.
 */
#include "image/fsjob.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/spawn.h"
#include "internal.h"

#define REPLY_MAX (1u << 20)
#define TICK_MS 200

static int send_request(int sock, const json_t *request, struct gt_error *err)
{
	AUTO_FREE char *text = json_dumps(request, JSON_COMPACT);
	if (!text)
		return gt_fail(err, GT_INVALID, "a file job's path is not UTF-8");
	size_t len = strlen(text);
	for (size_t done = 0; done < len;) {
		ssize_t n = send(sock, text + done, len - done, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return gt_fail_sys(err, GT_INTERNAL, errno, "send a job to gantry-fs");
		done += (size_t)n;
	}
	shutdown(sock, SHUT_WR);
	return 0;
}

int fs_job_start(struct fs_job *job, const char *helper, json_t *request, int in_fd, int out_fd, int extra_fd, struct gt_error *err)
{
	AUTO_JSON json_t *owned = request;
	int pair[2];
	*job = (struct fs_job){ .pidfd = -1, .sock = -1, .name = "" };
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "make a socket for gantry-fs");
	AUTO_CLOSE int ours = pair[0], theirs = pair[1];
	char *argv[] = { "gantry-fs", NULL };
	int fds[] = { in_fd, out_fd, 2, theirs, extra_fd };
	struct gt_spawn how = { .path = helper, .argv = argv, .fds = fds, .nfds = GT_COUNT(fds) };
	pid_t pid;
	if (gt_spawn(&how, &pid, &job->pidfd, err) < 0)
		return -1;
	close(take_fd(theirs));
	/* A helper that dies early shows in the reply; what it was sent does not matter then. */
	struct gt_error failure = { 0 };
	if (send_request(ours, owned, &failure) < 0 && failure.kind == GT_INVALID) {
		int status;
		close(take_fd(ours));
		gt_reap(job->pidfd, &status, NULL);
		close(take_fd(job->pidfd));
		return gt_fail(err, GT_INVALID, "%s", failure.message);
	}
	job->sock = take_fd(ours);
	return 0;
}

static int read_reply(struct fs_job *job, struct gt_buf *text, void (*tick)(void *arg), void *arg, struct gt_error *err)
{
	struct pollfd waiting = { .fd = job->sock, .events = POLLIN };
	for (;;) {
		int ready = poll(&waiting, 1, tick ? TICK_MS : -1);
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready == 0) {
			if (tick)
				tick(arg);
			continue;
		}
		char *end = gt_buf_reserve(text, 4096);
		ssize_t n = read(job->sock, end, 4096);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != ECONNRESET)
			return gt_fail_sys(err, GT_INTERNAL, errno, "read gantry-fs's reply");
		if (n <= 0)
			return 0;
		text->len += (size_t)n;
		if (text->len > REPLY_MAX)
			return gt_fail(err, GT_INTERNAL, "gantry-fs's reply is larger than %u bytes", REPLY_MAX);
	}
}

static int take_error(const json_t *error, struct gt_error *err)
{
	int64_t kind = GT_INTERNAL, errnum = 0;
	const char *message = "";
	gt_json_int(error, "kind", &kind, NULL);
	gt_json_int(error, "errno", &errnum, NULL);
	gt_json_string(error, "message", &message, NULL);
	if (kind <= GT_OK || kind >= GT_KIND_COUNT)
		kind = GT_INTERNAL;
	gt_fail(err, (enum gt_kind)kind, "%s", message);
	if (err)
		err->errnum = (int)errnum;
	return -1;
}

int fs_job_finish(struct fs_job *job, json_t **reply, void (*tick)(void *arg), void *arg, struct gt_error *err)
{
	AUTO_BUF struct gt_buf text = { 0 };
	int status = 0, rc = read_reply(job, &text, tick, arg, err);
	/* Where reading failed, closing the socket ends the helper's wait, and the end of its input its work. */
	close(take_fd(job->sock));
	int reaped = gt_reap(job->pidfd, &status, rc < 0 ? NULL : err);
	close(take_fd(job->pidfd));
	if (rc < 0 || reaped < 0)
		return -1;
	if (text.len == 0 && WIFSIGNALED(status))
		return gt_fail(err, GT_INTERNAL, "gantry-fs was killed by signal %d", WTERMSIG(status));
	if (text.len == 0)
		return gt_fail(err, GT_INTERNAL, "gantry-fs ended with status %d and without a reply", WEXITSTATUS(status));
	AUTO_JSON json_t *answer = gt_json_parse(text.data, text.len, "gantry-fs's reply", err);
	if (!answer)
		return -1;
	json_t *error = gt_json_get(answer, "error");
	if (error)
		return take_error(error, err);
	if (reply)
		*reply = take(answer);
	return 0;
}

json_t *fs_mount_json(const struct gantry_mount *mount, const char *destination)
{
	return json_pack("{s:s, s:s, s:s, s:s*}", "type", mount->type, "source", mount->source, "options", mount->options,
			 "destination", destination);
}

static json_t *root_json(const struct gt_fsroot *root)
{
	json_t *json = json_object();
	if (root->pid > 0) {
		json_object_set_new(json, "pid", json_integer(root->pid));
		return json;
	}
	json_t *mounts = json_array();
	for (size_t i = 0; i < root->count; i++)
		json_array_append_new(mounts, fs_mount_json(root->mounts[i], i ? root->destinations[i] : NULL));
	json_object_set_new(json, "mounts", mounts);
	return json;
}

static json_t *job_on(const char *name, const struct gt_fsroot *root, const char *path)
{
	json_t *request = json_pack("{s:s, s:o}", "job", name, "root", root_json(root));
	if (path)
		json_object_set_new(request, "path", json_string(path) ?: json_string(""));
	return request;
}

/* Names in containers are bytes, requests are UTF-8: a path that is not cannot be asked for. */
static int check_path(const char *path, struct gt_error *err)
{
	AUTO_JSON json_t *text = json_string(path);
	return text ? 0 : gt_fail(err, GT_INVALID, "the path is not UTF-8");
}

static int run(const char *helper, json_t *request, int in_fd, int out_fd, json_t **reply, struct gt_error *err)
{
	struct fs_job job;
	if (fs_job_start(&job, helper, request, in_fd, out_fd, -1, err) < 0)
		return -1;
	return fs_job_finish(&job, reply, NULL, NULL, err);
}

void gt_fs_stat_free(struct gt_fs_stat *stat)
{
	free(stat->name);
	free(stat->link_target);
	*stat = (struct gt_fs_stat){ 0 };
}

int gt_fs_stat(const struct gt_fsroot *root, const char *path, struct gt_fs_stat *stat, struct gt_error *err)
{
	AUTO_JSON json_t *reply = NULL;
	*stat = (struct gt_fs_stat){ 0 };
	if (check_path(path, err) < 0 || run(root->helper, job_on("stat", root, path), -1, -1, &reply, err) < 0)
		return -1;
	const char *name = "", *target = "";
	int64_t mode = 0;
	if (gt_json_string(reply, "name", &name, err) < 0 || gt_json_string(reply, "link_target", &target, err) < 0 ||
	    gt_json_int(reply, "size", &stat->size, err) < 0 || gt_json_int(reply, "mode", &mode, err) < 0 ||
	    gt_json_int(reply, "mtime", &stat->mtime, err) < 0)
		return -1;
	stat->mode = (uint32_t)mode;
	stat->name = gt_xstrdup(name);
	stat->link_target = gt_xstrdup(target);
	return 0;
}

int gt_fs_archive(const struct gt_fsroot *root, const char *path, int out_fd, struct gt_error *err)
{
	if (check_path(path, err) < 0)
		return -1;
	return run(root->helper, job_on("archive", root, path), -1, out_fd, NULL, err);
}

int gt_fs_extract(const struct gt_fsroot *root, const char *path, int in_fd, bool no_overwrite, int64_t uid, int64_t gid,
		  struct gt_error *err)
{
	if (check_path(path, err) < 0)
		return -1;
	json_t *request = job_on("extract", root, path);
	json_object_set_new(request, "no_overwrite", json_boolean(no_overwrite));
	json_object_set_new(request, "uid", json_integer(uid));
	json_object_set_new(request, "gid", json_integer(gid));
	return run(root->helper, request, in_fd, -1, NULL, err);
}

int gt_fs_export(const struct gt_fsroot *root, int out_fd, struct gt_error *err)
{
	return run(root->helper, job_on("export", root, NULL), -1, out_fd, NULL, err);
}

int gt_fs_copy_up(const struct gt_fsroot *root, const char *path, const struct gantry_mount *target, struct gt_error *err)
{
	if (check_path(path, err) < 0)
		return -1;
	json_t *request = job_on("copy_up", root, path);
	json_object_set_new(request, "target", fs_mount_json(target, NULL));
	return run(root->helper, request, -1, -1, NULL, err);
}

int gt_fs_unpack(const char *helper, const struct gantry_layer_dir *dir, int in_fd, int64_t *size, struct gt_error *err)
{
	AUTO_JSON json_t *reply = NULL;
	json_t *request = json_pack("{s:s, s:s, s:i}", "job", "unpack", "dir", dir->path, "whiteouts", (int)dir->whiteouts);
	if (run(helper, request, in_fd, -1, &reply, err) < 0)
		return -1;
	return size ? gt_json_int(reply, "size", size, err) : 0;
}

int gt_fs_diff_tar(const struct gt_fsroot *root, const json_t *changes, int out_fd, struct gt_error *err)
{
	json_t *request = job_on("diff_tar", root, NULL);
	json_object_set_new(request, "changes", json_deep_copy(changes));
	return run(root->helper, request, -1, out_fd, NULL, err);
}

int gt_fs_context(const char *helper, const char *dir, int in_fd, int digests_fd, int64_t max_bytes, int64_t max_entries, struct gt_error *err)
{
	struct fs_job job;
	json_t *request = json_pack("{s:s, s:s, s:I, s:I, s:b}", "job", "context", "dir", dir, "max_bytes", (json_int_t)max_bytes, "max_entries",
				    (json_int_t)max_entries, "digests", digests_fd >= 0);
	if (fs_job_start(&job, helper, request, in_fd, -1, digests_fd, err) < 0)
		return -1;
	return fs_job_finish(&job, NULL, NULL, NULL, err);
}

/* ---- git ---- */

#define CLONE_LIMIT (3600 * GT_SECOND)

struct cloning {
	const struct gt_fs_clone *how;
	int pidfd;
	int64_t until;                  /* monotonic */
	bool stopped, late;
};

static void look_at_clone(void *arg)
{
	struct cloning *cloning = arg;
	cloning->stopped |= cloning->how->stop(cloning->how->arg);
	cloning->late |= gt_monotonic() > cloning->until;
	if (cloning->stopped || cloning->late)
		syscall(SYS_pidfd_send_signal, cloning->pidfd, SIGKILL, NULL, 0);
}

/* The daemon's own, as libcurl takes them. */
static json_t *proxies(void)
{
	static const char *const names[] = { "http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY" };
	json_t *all = json_object();
	for (size_t i = 0; i < GT_COUNT(names); i++) {
		const char *value = getenv(names[i]);
		if (value)
			json_object_set_new(all, names[i], json_string(value));
	}
	return all;
}

int gt_fs_clone(const char *helper, const struct gt_fs_clone *how, char commit[65], struct gt_error *err)
{
	struct fs_job job;
	AUTO_JSON json_t *reply = NULL;
	const char *id = "";
	json_t *request = json_pack("{s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:o}", "job", "clone", "url", how->url, "ref", how->ref, "dir", how->dir,
				    "keep", how->keep, "max_bytes", (json_int_t)how->max_bytes, "max_entries", (json_int_t)how->max_entries,
				    "proxies", proxies());
	if (!request)
		return gt_fail(err, GT_INVALID, "the URL of the git repository is not UTF-8");
	if (fs_job_start(&job, helper, request, -1, -1, -1, err) < 0)
		return -1;
	struct cloning cloning = { .how = how, .pidfd = job.pidfd, .until = gt_monotonic() + CLONE_LIMIT };
	int rc = fs_job_finish(&job, &reply, look_at_clone, &cloning, err);
	if (cloning.stopped)
		return gt_fail(err, GT_CANCELLED, "%.200s: the build was stopped", how->url);
	if (cloning.late)
		return gt_fail(err, GT_TIMEOUT, "%.200s: the repository did not come within an hour", how->url);
	if (rc < 0 || gt_json_string(reply, "commit", &id, err) < 0)
		return -1;
	snprintf(commit, 65, "%s", id);
	return 0;
}
