/*
 * files.c - files of containers: stat, archive out and in (docker cp), export.
 *
 * A running container is seen through its own mount namespace; a stopped one through a private mount of its layer with its volumes and binds in place.
 * The work is done by gantry-fs; streams come from a thread that feeds a pipe, so that a slow client holds up nobody.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/internal.h"
#include "image/fsjob.h"

#define PIPE_SIZE (1 << 20)
#define END_TIMEOUT (5 * GT_SECOND) /* from a process's end to the notice of it */

static json_t *stat_json(const struct gt_fs_stat *stat)
{
	char mtime[36];
	gt_time_format(stat->mtime, mtime);
	return json_pack("{s:s s:I s:I s:s s:s}", "name", stat->name, "size", (json_int_t)stat->size, "mode", (json_int_t)stat->mode, "mtime",
			 mtime, "linkTarget", stat->link_target ? stat->link_target : "");
}

/* The helper knows no containers: its "Could not find the file PATH in container" gets a name. Returns rc. */
static int name_container(int rc, const char *ref, struct gt_error *err)
{
	char message[sizeof err->message];
	if (rc == 0 || !err || err->kind != GT_NOT_FOUND)
		return rc;
	snprintf(message, sizeof message, "%s", err->message);
	return gt_fail(err, GT_NOT_FOUND, "%s %.255s", message, ref);
}

/* After a failed job: whether the container's process ended under it. Then `root` is that of the stopped container, and the job can be done again. */
static bool ended_meanwhile(struct gt_container *ctr, struct gt_fsroot *root, struct gt_error *err)
{
	struct gt_fsroot stopped = { 0 };
	if (root->pid <= 0 || err->kind != GT_CONFLICT || err->errnum != ESRCH || !gt_exit_await(ctr, END_TIMEOUT) ||
	    gt_container_fsroot(ctr, &stopped, err) < 0)
		return false;
	gt_container_fsroot_free(root);
	*root = stopped;
	return true;
}

static int read_stat(struct gt_container *ctr, struct gt_fsroot *root, const char *ref, const char *path, json_t **out, struct gt_error *err)
{
	struct gt_fs_stat stat = { 0 };
	int rc = gt_fs_stat(root, path, &stat, err);
	if (rc < 0 && ended_meanwhile(ctr, root, err))
		rc = gt_fs_stat(root, path, &stat, err);
	if (name_container(rc, ref, err) < 0)
		return -1;
	*out = stat_json(&stat);
	gt_fs_stat_free(&stat);
	return *out ? 0 : gt_fail(err, GT_UNSUPPORTED, "the name of %s is not UTF-8 and cannot be told in JSON", path);
}

static int check_path(const char *path, struct gt_error *err)
{
	if (!path || !path[0])
		return gt_fail(err, GT_INVALID, "the path is missing: say which file of the container is meant");
	if (strlen(path) >= 4096)
		return gt_fail(err, GT_INVALID, "the path is longer than 4095 bytes");
	return 0;
}

int gt_container_check(struct gt_engine *engine, const char *ref, struct gt_error *err)
{
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, ref, err);
	return ctr ? 0 : -1;
}

int gt_container_path_stat(struct gt_engine *engine, const char *ref, const char *path, json_t **stat, struct gt_error *err)
{
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, ref, err);
	struct gt_fsroot root = { 0 };
	if (!ctr || check_path(path, err) < 0 || gt_container_fsroot(ctr, &root, err) < 0)
		return -1;
	int rc = read_stat(ctr, &root, ref, path, stat, err);
	gt_container_fsroot_free(&root);
	return rc;
}

/* ---- out ---- */

/* One helper at work whose output a client pulls. */
struct job {
	struct gt_container *ctr;
	struct gt_fsroot root;
	char *path;             /* NULL: the whole root */
	int out_fd;
	struct gt_error err;    /* of the helper; read after `thread` has ended */
	int rc;
	pthread_t thread;
};

static int write_archive(struct job *job)
{
	return job->path ? gt_fs_archive(&job->root, job->path, job->out_fd, &job->err) : gt_fs_export(&job->root, job->out_fd, &job->err);
}

static void *run_helper(void *arg)
{
	struct job *job = arg;
	job->rc = write_archive(job);
	if (job->rc < 0 && ended_meanwhile(job->ctr, &job->root, &job->err)) /* before the first byte */
		job->rc = write_archive(job);
	close(job->out_fd);
	return NULL;
}

/* Moves bytes from the helper to the consumer. When the consumer goes, the pipe closes and the helper ends by EPIPE. */
static int produce(void *arg, struct gt_queue *queue, struct gt_error *err)
{
	struct job *job = arg;
	int pipe_fds[2];
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return gt_fail_errno(err, errno, "make a pipe for an archive");
	fcntl(pipe_fds[1], F_SETPIPE_SZ, PIPE_SIZE);
	job->out_fd = pipe_fds[1];
	int rc = pthread_create(&job->thread, NULL, run_helper, job);
	if (rc != 0) {
		close(pipe_fds[0]);
		close(pipe_fds[1]);
		return gt_fail_errno(err, rc, "make a thread for an archive");
	}
	char *bytes = gt_xmalloc(65536);
	ssize_t n;
	rc = 0;
	while (rc == 0 && (n = read(pipe_fds[0], bytes, 65536)) != 0) {
		if (n < 0 && errno != EINTR)
			rc = gt_fail_errno(err, errno, "read an archive");
		else if (n > 0)
			rc = gt_queue_write(queue, bytes, (size_t)n, err);
	}
	free(bytes);
	close(pipe_fds[0]);
	pthread_join(job->thread, NULL);
	if (rc == 0 && job->rc < 0) {
		*err = job->err;
		rc = -1;
	}
	return rc;
}

static void free_job(void *arg)
{
	struct job *job = arg;
	gt_container_fsroot_free(&job->root);
	gt_container_put(job->ctr);
	free(job->path);
	free(job);
}

static struct gt_stream *start_job(struct gt_container *ctr, struct gt_fsroot *root, const char *path, struct gt_error *err)
{
	struct job *job = gt_xcalloc(1, sizeof *job);
	job->ctr = gt_container_ref(ctr);
	job->root = *root;
	job->path = gt_xstrdup(path);
	return gt_stream_from_thread(&ctr->engine->archives, produce, job, free_job, err);
}

struct gt_stream *gt_container_archive(struct gt_engine *engine, const char *ref, const char *path, json_t **stat, struct gt_error *err)
{
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, ref, err);
	struct gt_fsroot root = { 0 };
	if (!ctr || check_path(path, err) < 0 || gt_container_fsroot(ctr, &root, err) < 0)
		return NULL;
	if (read_stat(ctr, &root, ref, path, stat, err) < 0) {
		gt_container_fsroot_free(&root);
		return NULL;
	}
	gt_container_event(ctr, "archive-path", NULL);
	return start_job(ctr, &root, path, err);
}

struct gt_stream *gt_container_export(struct gt_engine *engine, const char *ref, struct gt_error *err)
{
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, ref, err);
	struct gt_fsroot root = { 0 };
	if (!ctr || gt_container_fsroot(ctr, &root, err) < 0)
		return NULL;
	gt_container_event(ctr, "export", NULL);
	return start_job(ctr, &root, NULL, err);
}

/* ---- in ---- */

/* The mount that `path` lies in, as far as its words tell: symbolic links inside the container are followed by the kernel, which then says EROFS itself. */
static const struct gt_container_mount *mount_of(const struct gt_container *ctr, const char *path)
{
	const struct gt_container_mount *found = NULL;
	size_t longest = 0;
	for (size_t i = 0; i < ctr->mount_count; i++) {
		size_t len = strlen(ctr->mounts[i].destination);
		if (len >= longest && strncmp(path, ctr->mounts[i].destination, len) == 0 && (path[len] == '/' || !path[len])) {
			found = &ctr->mounts[i];
			longest = len;
		}
	}
	return found;
}

/* Whom copied files shall belong to where the client asks for the container's user. Without one, owners are those of the archive. */
static int owner_of(const struct gt_container *ctr, int64_t *uid, int64_t *gid, struct gt_error *err)
{
	const char *user = ctr->config.user;
	char *end;
	if (!user || !user[0])
		return 0;
	*uid = *gid = strtoll(user, &end, 10);
	if (*end == ':')
		*gid = strtoll(end + 1, &end, 10);
	if (*end || *uid < 0 || *gid < 0 || *uid > UINT32_MAX || *gid > UINT32_MAX)
		return gt_fail(err, GT_UNSUPPORTED, "copyUIDGID works with numeric users alone, and container %.12s runs as \"%s\"", ctr->id, user);
	return 0;
}

int gt_container_extract(struct gt_engine *engine, const char *ref, const char *path, int in_fd, bool no_overwrite_dir_non_dir,
			 bool copy_uid_gid, struct gt_error *err)
{
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, ref, err);
	struct gt_fsroot root = { 0 };
	if (!ctr || check_path(path, err) < 0)
		return -1;
	AUTO_FREE char *absolute = path[0] == '/' ? gt_xstrdup(path) : gt_xasprintf("/%s", path);
	const struct gt_container_mount *mount = mount_of(ctr, absolute);
	if (mount && !mount->rw)
		return gt_fail(err, GT_DENIED, "mounted volume is marked read-only");
	if (!mount && ctr->config.host.readonly_rootfs)
		return gt_fail(err, GT_DENIED, "container rootfs is marked read-only");
	int64_t uid = -1, gid = -1;
	if (copy_uid_gid && owner_of(ctr, &uid, &gid, err) < 0)
		return -1;
	if (gt_container_fsroot(ctr, &root, err) < 0)
		return -1;
	int rc = gt_fs_extract(&root, absolute, in_fd, no_overwrite_dir_non_dir, uid, gid, err);
	if (rc < 0 && ended_meanwhile(ctr, &root, err)) /* nothing of the input has been read */
		rc = gt_fs_extract(&root, absolute, in_fd, no_overwrite_dir_non_dir, uid, gid, err);
	rc = name_container(rc, ref, err);
	gt_container_fsroot_free(&root);
	if (rc == 0)
		gt_container_event(ctr, "extract-to-dir", NULL);
	return rc;
}
