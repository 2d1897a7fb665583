/*
 * build.c - POST /build: a context becomes an image, by core/build, for which the engine runs containers and fetches what is elsewhere.
 *
 *   <root>/builds/work/<id>/    one build: context/, and what it makes on the way; removed at its end, and at start-up what a crash has left
 *   <root>/builds/cache/        of RUN --mount=type=cache; lasting
 *
 * Containers of a build are marked: a daemon that finds them removes them (reconcile.c). Images of steps are the build cache.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/ignore.h"
#include "build/build.h"
#include "build/dockerfile.h"
#include "engine/internal.h"
#include "image/fsjob.h"

#define MAX_CONTEXT (1ll << 40)
#define MAX_CONTEXT_ENTRIES 4000000
#define MAX_FETCH (1ll << 36)

struct gt_builds {
	char *work, *cache;             /* directories */
	pthread_mutex_t lock;
	pthread_cond_t ended;
	size_t running;                 /* under lock */
	atomic_bool stop;
};

/* One build under way. */
struct job {
	struct gt_engine *engine;
	const struct gt_build_request *request;
	struct gt_progress *progress;
	json_t *host_config;
	char holder[80];                /* "build-<id>" */
	char *dir, *context;
	struct gt_strings ignore;
	struct gt_buf dockerfile;
	bool told;                      /* messages went out: failures are messages too */
};

/* ---- life ---- */

int gt_builds_open(struct gt_engine *engine, struct gt_error *err)
{
	const struct gt_config *config = atomic_load(&engine->config);
	struct gt_builds *builds = engine->builds = gt_xcalloc(1, sizeof *builds);
	pthread_mutex_init(&builds->lock, NULL);
	pthread_cond_init(&builds->ended, NULL);
	builds->work = gt_xasprintf("%s/builds/work", config->root);
	builds->cache = gt_xasprintf("%s/builds/cache", config->root);
	if (gt_remove_tree(AT_FDCWD, builds->work, err) < 0 || gt_mkdirs(AT_FDCWD, builds->work, 0700, err) < 0 ||
	    gt_mkdirs(AT_FDCWD, builds->cache, 0700, err) < 0)
		return gt_context(err, "the directory of builds");
	return 0;
}

void gt_builds_end(struct gt_engine *engine)
{
	struct gt_builds *builds = engine->builds;
	if (!builds)
		return;
	atomic_store(&builds->stop, true);
	LOCKED(&builds->lock);
	while (builds->running > 0)
		pthread_cond_wait(&builds->ended, &builds->lock);
}

void gt_builds_close(struct gt_engine *engine)
{
	struct gt_builds *builds = take(engine->builds);
	if (!builds)
		return;
	pthread_cond_destroy(&builds->ended);
	pthread_mutex_destroy(&builds->lock);
	free(builds->work);
	free(builds->cache);
	free(builds);
}

/* ---- what core/build asks for ---- */

static bool cancelled(void *arg)
{
	const struct job *job = arg;
	return atomic_load(&job->engine->builds->stop) || atomic_load(&job->engine->closing) ||
	       gt_progress_cancelled(job->progress) || (job->request->gone && job->request->gone(job->request->arg));
}

static int run(void *arg, const struct gt_build_run *how, char container[65], int *exit_code, struct gt_error *err)
{
	const struct job *job = arg;
	return gt_build_execute(job->engine, job->host_config, how, container, exit_code, err);
}

static void run_end(void *arg, const char *container)
{
	const struct job *job = arg;
	struct gt_error err = { 0 };
	if (gt_container_remove(job->engine, container, true, true, false, &err) < 0 && err.kind != GT_NOT_FOUND)
		gt_warn("the container of a build's step could not be removed", "id", container, "error", err.message);
}

static int pull(void *arg, const char *reference, const char *platform, struct gt_progress *progress, struct gt_error *err)
{
	const struct job *job = arg;
	const json_t *auth = gt_registry_auth_for(job->request->auths, reference);
	return gt_engine_image_pull(job->engine, reference, platform, false, auth, progress, err);
}

static int fetch(void *arg, const char *url, int fd, int64_t *modified, struct gt_error *err)
{
	return gt_build_fetch(url, fd, MAX_FETCH, cancelled, arg, modified, err);
}

static void emit(void *arg, json_t *message)
{
	struct job *job = arg;
	job->told = true;
	if (job->progress && (!job->request->quiet || !json_object_get(message, "stream")))
		job->progress->emit(job->progress->arg, message);
}

static void say(struct job *job, json_t *message)
{
	AUTO_JSON json_t *owned = message;
	if (message)
		emit(job, message);
}

/* ---- the request ---- */

static void set_int(json_t *object, const char *name, int64_t value)
{
	if (value)
		json_object_set_new(object, name, json_integer(value));
}

static void set_text(json_t *object, const char *name, const char *value)
{
	if (value && value[0])
		json_object_set_new(object, name, json_string(value));
}

static json_t *make_host_config(const struct gt_build_request *request)
{
	json_t *host = json_object();
	set_int(host, "Memory", request->memory);
	set_int(host, "MemorySwap", request->memory_swap);
	set_int(host, "CpuShares", request->cpu_shares);
	set_int(host, "CpuPeriod", request->cpu_period);
	set_int(host, "CpuQuota", request->cpu_quota);
	set_int(host, "ShmSize", request->shm_size);
	set_text(host, "CpusetCpus", request->cpuset_cpus);
	set_text(host, "CpusetMems", request->cpuset_mems);
	set_text(host, "CgroupParent", request->cgroup_parent);
	set_text(host, "NetworkMode", request->network);
	if (json_array_size(request->ulimits))
		json_object_set(host, "Ulimits", request->ulimits);
	if (request->extra_hosts.count)
		json_object_set_new(host, "ExtraHosts", gt_strings_to_json(&request->extra_hosts));
	return host;
}

/* Before anything is built: are the tags names at all? */
static int check_tags(const struct gt_build_request *request, struct gt_error *err)
{
	for (size_t i = 0; i < request->tags.count; i++) {
		struct gt_reference reference;
		if (gt_reference_parse(request->tags.items[i], &reference, err) < 0)
			return -1;
		bool digest = reference.digest != NULL;
		gt_reference_free(&reference);
		if (digest)
			return gt_fail(err, GT_INVALID, "refusing to create a tag with a digest reference");
	}
	return 0;
}

/* ---- the context ---- */

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

static int unpack_context(struct job *job, int fd, struct gt_error *err)
{
	if (gt_fs_context(job->engine->fs_helper, job->context, fd, MAX_CONTEXT, MAX_CONTEXT_ENTRIES, err) < 0)
		return gt_context(err, "the build context");
	return 0;
}

/* An archive is the context, a text the Dockerfile. */
static int fetch_context(struct job *job, struct gt_error *err)
{
	const char *url = job->request->remote;
	int64_t modified;
	size_t len = strcspn(url, "#");
	if (strncasecmp(url, "http://", 7) != 0 && strncasecmp(url, "https://", 8) != 0)
		return gt_fail(err, GT_UNSUPPORTED, "remote context %.200s: git repositories are not supported, only http and https URLs of an archive or a "
						    "Dockerfile", url);
	if (len > 4 && strncmp(url + len - 4, ".git", 4) == 0)
		return gt_fail(err, GT_UNSUPPORTED, "remote context %.200s: git repositories are not supported", url);
	AUTO_CLOSE int fd = open(job->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return gt_fail_errno(err, errno, "make a file for %.200s", url);
	say(job, json_pack("{s:s+}", "stream", "Downloading build context from remote url: ", url));
	say(job, json_pack("{s:s}", "stream", "\n"));
	if (fetch(job, url, fd, &modified, err) < 0)
		return -1;
	if (is_archive(fd)) {
		if (lseek(fd, 0, SEEK_SET) < 0)
			return gt_fail_errno(err, errno, "read what was fetched");
		return unpack_context(job, fd, err);
	}
	AUTO_FREE char *path = gt_xasprintf("/proc/self/fd/%d", fd);
	return gt_read_file(AT_FDCWD, path, DOCKERFILE_MAX, &job->dockerfile, err) < 0 ? gt_context(err, "%.200s", url) : 0;
}

/* A file of the context, which is hostile: links lead nowhere else. */
static int read_context_file(struct job *job, const char *name, size_t max, struct gt_buf *out, struct gt_error *err)
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
static void read_ignore(struct job *job, const char *dockerfile)
{
	AUTO_BUF struct gt_buf text = { 0 };
	AUTO_FREE char *own = gt_xasprintf("%s.dockerignore", dockerfile);
	if (read_context_file(job, own, 1 << 20, &text, NULL) < 0 && read_context_file(job, ".dockerignore", 1 << 20, &text, NULL) < 0)
		return;
	for (char *rest = text.data, *line; (line = strsep(&rest, "\n")) != NULL;) {
		if (*line && *line != '#')
			gt_strings_add(&job->ignore, line);
	}
}

static int read_context(struct job *job, int in_fd, struct gt_error *err)
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

/* ---- the build ---- */

static int tag_all(struct job *job, const char *id, struct gt_error *err)
{
	const struct gt_strings *tags = &job->request->tags;
	for (size_t i = 0; i < tags->count; i++) {
		struct gt_reference reference;
		if (gt_reference_parse(tags->items[i], &reference, err) < 0)
			return -1;
		AUTO_FREE char *repo = gt_xasprintf("%s/%s", reference.domain, reference.path);
		AUTO_FREE char *familiar = gt_reference_familiar(&reference, true);
		int rc = gt_engine_image_tag(job->engine, id, repo, reference.tag, err);
		gt_reference_free(&reference);
		if (rc < 0)
			return -1;
		say(job, json_pack("{s:o}", "stream", json_sprintf("Successfully tagged %s\n", familiar)));
	}
	return 0;
}

static int build(struct job *job, char id[72], struct gt_error *err)
{
	const struct gt_build_request *request = job->request;
	struct gt_progress progress = { .emit = emit, .arg = job };
	const struct gt_build_host host = { .arg = job, .run = run, .run_end = run_end, .pull = pull, .fetch = fetch, .cancelled = cancelled };
	AUTO_FREE char *work = gt_xasprintf("%s/files", job->dir);
	if (gt_mkdirs(AT_FDCWD, work, 0700, err) < 0)
		return -1;
	const struct gt_build_options options = {
		.dockerfile = request->dockerfile && request->dockerfile[0] ? request->dockerfile : "Dockerfile",
		.text = job->dockerfile.data ? job->dockerfile.data : "",
		.text_len = job->dockerfile.len,
		.context_dir = job->context,
		.ignore = &job->ignore,
		.work_dir = work,
		.cache_dir = job->engine->builds->cache,
		.holder = job->holder,
		.build_args = request->build_args,
		.labels = request->labels,
		.cache_from = &request->cache_from,
		.target = request->target,
		.platform = request->platform,
		.no_cache = request->no_cache,
		.pull = request->pull,
	};
	if (gt_build(job->engine->images, &options, &host, &progress, id, err) < 0)
		return -1;
	say(job, json_pack("{s:{s:s}}", "aux", "ID", id));
	say(job, json_pack("{s:o}", "stream", json_sprintf("Successfully built %.12s\n", id + 7)));
	if (request->quiet && job->progress) {
		AUTO_JSON json_t *line = json_pack("{s:o}", "stream", json_sprintf("%s\n", id));
		job->progress->emit(job->progress->arg, line);
	}
	return tag_all(job, id, err);
}

/* After messages went out the answer's status is sent: the failure is the last of them. An exit code of RUN becomes the client's. */
static void tell_failure(struct job *job, const struct gt_error *err)
{
	AUTO_JSON json_t *text = json_string(err->message);
	if (!text)
		text = json_string("the build failed with a message that is not UTF-8");
	AUTO_JSON json_t *detail = json_pack("{s:O}", "message", text);
	if (strstr(err->message, "returned a non-zero code") && err->errnum)
		json_object_set_new(detail, "code", json_integer(err->errnum));
	say(job, json_pack("{s:O, s:O}", "errorDetail", detail, "error", text));
}

static void begin(struct gt_builds *builds)
{
	LOCKED(&builds->lock);
	builds->running++;
}

static void end(struct gt_builds *builds)
{
	LOCKED(&builds->lock);
	if (--builds->running == 0)
		pthread_cond_broadcast(&builds->ended);
}

static int refuse(const struct gt_build_request *request, struct gt_error *err)
{
	if (request->squash)
		return gt_fail(err, GT_UNSUPPORTED, "squash is not supported: the layers of a build stay apart");
	return check_tags(request, err);
}

int gt_engine_build(struct gt_engine *engine, const struct gt_build_request *request, int in_fd, struct gt_progress *progress,
		    struct gt_error *err)
{
	char fresh[GT_ID_LEN + 1], id[72] = "";
	struct job job = { .engine = engine, .request = request, .progress = progress };
	struct gt_error local = { 0 };
	if (refuse(request, err) < 0)
		return -1;
	begin(engine->builds);
	gt_id_new(fresh);
	snprintf(job.holder, sizeof job.holder, "build-%.64s", fresh);
	job.dir = gt_xasprintf("%s/%s", engine->builds->work, fresh);
	job.context = gt_xasprintf("%s/context", job.dir);
	job.host_config = make_host_config(request);
	int rc = gt_mkdirs(AT_FDCWD, job.context, 0700, &local);
	/* what is in it is seen by RUN --mount, whatever user runs there */
	if (rc == 0 && chmod(job.context, 0755) < 0)
		rc = gt_fail_errno(&local, errno, "make the directory of the build");
	if (rc == 0)
		rc = read_context(&job, in_fd, &local);
	if (rc == 0)
		rc = build(&job, id, &local);
	if (rc == 0)
		gt_event(engine, "image", "build", id, json_pack("{s:s}", "name", request->tags.count ? request->tags.items[0] : id));
	gt_image_release_all(engine->images, job.holder);
	struct gt_error left = { 0 };
	if (gt_remove_tree(AT_FDCWD, job.dir, &left) < 0)
		gt_warn("the directory of a build could not be removed", "path", job.dir, "error", left.message);
	if (rc < 0 && job.told) {
		tell_failure(&job, &local);
		rc = 0;
	}
	if (rc < 0 && err)
		*err = local;
	json_decref(job.host_config);
	gt_strings_free(&job.ignore);
	gt_buf_free(&job.dockerfile);
	free(job.dir);
	free(job.context);
	end(engine->builds);
	return rc;
}
