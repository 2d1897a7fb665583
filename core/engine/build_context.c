/*
 * build_context.c - a build's context: the tar that was sent, or what a URL leads to; its Dockerfile, and what of it is ignored.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "build/dockerfile.h"
#include "engine/build_job.h"
#include "image/fsjob.h"

/* ---- archives ---- */

static bool is_archive(int fd)
{
	unsigned char head[512] = { 0 };
	static const struct {
		size_t at, len;
		const char *magic;
	} kinds[] = { { 257, 5, "ustar" }, { 0, 2, "\x1f\x8b" }, { 0, 3, "BZh" }, { 0, 4, "\x28\xb5\x2f\xfd" }, { 0, 6, "\xfd\x37zXZ\0" } };
	ssize_t len = pread(fd, head, sizeof head, 0);
	for (size_t i = 0; i < GT_COUNT(kinds); i++) {
		if (len >= (ssize_t)(kinds[i].at + kinds[i].len) && memcmp(head + kinds[i].at, kinds[i].magic, kinds[i].len) == 0)
			return true;
	}
	return false;
}

static int unpack_context(struct build_job *job, int fd, struct gt_error *err)
{
	AUTO_FREE char *path = gt_xasprintf("%s/digests", job->dir);
	AUTO_CLOSE int digests = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (digests < 0)
		return gt_fail_errno(err, errno, "make a file of the build");
	if (gt_fs_context(job->engine->fs_helper, job->context, fd, digests, MAX_CONTEXT, MAX_CONTEXT_ENTRIES, err) < 0)
		return gt_context(err, "the build context");
	job->digests = take(path);
	return 0;
}

/* ---- git ---- */

/* A directory below `root`, which is hostile: links lead nowhere else. The caller's. */
static char *directory_below(const char *root, const char *name, struct gt_error *err)
{
	char link[64], path[4096];
	struct stat st;
	AUTO_CLOSE int top = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	AUTO_CLOSE int fd = top < 0 ? -1 : gt_openat2(top, name[0] ? name : ".", O_PATH, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
	if (fd < 0 || fstat(fd, &st) < 0) {
		gt_fail_errno(err, errno, "open the directory \"%.200s\" of the repository", name);
		return NULL;
	}
	if (!S_ISDIR(st.st_mode))
		return gt_fail_null(err, GT_INVALID, "\"%.200s\" of the repository is not a directory", name);
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t len = readlink(link, path, sizeof path - 1);
	return len > 0 ? gt_xstrndup(path, (size_t)len) : gt_fail_null(err, GT_INTERNAL, "the directory \"%.200s\" cannot be found", name);
}

int job_clone(struct build_job *job, const struct gt_git_url *url, bool keep, const char *dir, char **files, char commit[65], struct gt_error *err)
{
	const struct gt_fs_clone how = { .url = url->url, .ref = url->ref, .dir = dir, .keep = keep, .max_bytes = MAX_FETCH,
					 .max_entries = MAX_CONTEXT_ENTRIES, .stop = job_cancelled, .arg = job };
	if (gt_fs_clone(job->engine->fs_helper, &how, commit, err) < 0)
		return -1;
	*files = directory_below(dir, url->directory, err);
	return *files ? 0 : -1;
}

static bool keeps_git(const struct gt_build_request *request)
{
	const char *value = json_string_value(json_object_get(request->build_args, "BUILDKIT_CONTEXT_KEEP_GIT_DIR"));
	return value && (strcmp(value, "1") == 0 || strcasecmp(value, "true") == 0);
}

static int clone_context(struct build_job *job, struct gt_error *err)
{
	struct gt_git_url url;
	char commit[65] = "", *files = NULL;
	if (gt_git_url_read(job->request->remote, &url, err) < 0)
		return -1;
	job_say(job, json_pack("{s:o}", "stream", json_sprintf("Cloning %s\n", url.url)));
	int rc = job_clone(job, &url, keeps_git(job->request), job->context, &files, commit, err);
	if (rc == 0) {
		job_say(job, json_pack("{s:o}", "stream", json_sprintf("Commit %s\n", commit)));
		free(job->context);
		job->context = files;
	}
	gt_git_url_free(&url);
	return rc;
}

/* ---- other URLs ---- */

/* An archive is the context, a text the Dockerfile. */
static int fetch_context(struct build_job *job, struct gt_error *err)
{
	const char *url = job->request->remote;
	if (gt_git_is_url(url))
		return clone_context(job, err);
	if (!gt_url_is_web(url))
		return gt_fail(err, GT_UNSUPPORTED, "remote context %.200s: it is neither a git repository nor an http or https URL of an archive or a "
						    "Dockerfile", url);
	job_say(job, json_pack("{s:s+}", "stream", "Downloading build context from remote url: ", url));
	job_say(job, json_pack("{s:s}", "stream", "\n"));
	AUTO_CLOSE int fd = gt_url_spool(job->dir, url, MAX_FETCH, job_cancelled, job, err);
	if (fd < 0)
		return -1;
	if (is_archive(fd))
		return unpack_context(job, fd, err);
	AUTO_FREE char *path = gt_xasprintf("/proc/self/fd/%d", fd);
	return gt_read_file(AT_FDCWD, path, DOCKERFILE_MAX, &job->dockerfile, err) < 0 ? gt_context(err, "%.200s", url) : 0;
}

/* ---- the Dockerfile ---- */

/* A file of the context, which is hostile: links lead nowhere else. */
static int read_context_file(struct build_job *job, const char *name, size_t max, struct gt_buf *out, struct gt_error *err)
{
	char link[64];
	AUTO_CLOSE int root = open(job->context, O_PATH | O_DIRECTORY | O_CLOEXEC);
	AUTO_CLOSE int fd = root < 0 ? -1 : gt_openat2(root, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return errno == ENOENT ? gt_fail(err, GT_INVALID, "Cannot locate specified Dockerfile: %.200s", name) :
					 gt_fail_errno(err, errno, "open %.200s of the context", name);
	if (!S_ISREG(st.st_mode))
		return gt_fail(err, GT_INVALID, "%.200s of the context is not a file", name);
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	return gt_read_file(AT_FDCWD, link, max, out, err) < 0 ? gt_context(err, "%.200s of the context", name) : 0;
}

/* <Dockerfile>.dockerignore goes before .dockerignore. */
static void read_ignore(struct build_job *job, const char *dockerfile)
{
	AUTO_BUF struct gt_buf text = { 0 };
	AUTO_FREE char *own = gt_xasprintf("%s.dockerignore", dockerfile);
	if (read_context_file(job, own, 1 << 20, &text, NULL) < 0 && read_context_file(job, ".dockerignore", 1 << 20, &text, NULL) < 0)
		return;
	bool mark = text.len >= 3 && memcmp(text.data, "\xef\xbb\xbf", 3) == 0;
	for (char *rest = text.data ? text.data + 3 * mark : NULL, *line; (line = strsep(&rest, "\n")) != NULL;) {
		if (*line && *line != '#')
			gt_strings_add(&job->ignore, line);
	}
}

int job_read_context(struct build_job *job, int in_fd, struct gt_error *err)
{
	const struct gt_build_request *request = job->request;
	const char *name = request->dockerfile && request->dockerfile[0] ? request->dockerfile : "Dockerfile";
	bool remote = request->remote && request->remote[0];
	if ((remote ? fetch_context(job, err) : unpack_context(job, in_fd, err)) < 0)
		return -1;
	if (!job->dockerfile.data && read_context_file(job, name, DOCKERFILE_MAX, &job->dockerfile, err) < 0)
		return -1;
	read_ignore(job, name);
	return 0;
}
