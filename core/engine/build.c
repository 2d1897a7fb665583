/*
 * build.c - POST /build: a context becomes an image, by core/build, for which the engine runs containers and fetches what is elsewhere.
 *
 *   <root>/builds/work/<id>/    one build: context/, and what it makes on the way; removed at its end, and at start-up what a crash has left
 *   <root>/builds/trash/<id>/   one that is over, until its files are gone
 *   <root>/builds/cache/        of RUN --mount=type=cache; lasting
 *   <run>/builds/<id>/          its secrets and sockets, while a command uses them
 *
 * Containers of a build are marked: a daemon that finds them removes them (reconcile.c). Images of steps are the build cache.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/build_job.h"

/* ---- life ---- */

/*
 * ext4 keeps directories near their parent, and gives inodes that were removed lately to nobody for minutes: each file of a context would step over all those
 * of the contexts before. Directories below one with this flag go where there is room instead. Other file systems refuse.
 */
static void spread_below(const char *path)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int flags;
	if (fd < 0 || ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
		return;
	flags |= FS_TOPDIR_FL;
	(void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

int gt_builds_open(struct gt_engine *engine, struct gt_error *err)
{
	const struct gt_config *config = atomic_load(&engine->config);
	struct gt_builds *builds = engine->builds = gt_xcalloc(1, sizeof *builds);
	pthread_mutex_init(&builds->lock, NULL);
	pthread_cond_init(&builds->ended, NULL);
	builds->work = gt_xasprintf("%s/builds/work", config->root);
	builds->cache = gt_xasprintf("%s/builds/cache", config->root);
	builds->trash = gt_xasprintf("%s/builds/trash", config->root);
	builds->secrets = gt_xasprintf("%s/builds", config->run);
	sessions_init(&builds->sessions);
	if (gt_remove_tree(AT_FDCWD, builds->work, err) < 0 || gt_mkdirs(AT_FDCWD, builds->work, 0700, err) < 0 ||
	    gt_mkdirs(AT_FDCWD, builds->cache, 0700, err) < 0 || gt_remove_tree(AT_FDCWD, builds->trash, err) < 0 ||
	    gt_mkdirs(AT_FDCWD, builds->trash, 0700, err) < 0 || gt_remove_tree(AT_FDCWD, builds->secrets, err) < 0 ||
	    gt_mkdirs(AT_FDCWD, builds->secrets, 0700, err) < 0)
		return gt_context(err, "the directory of builds");
	spread_below(builds->work);
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
	sessions_free(&builds->sessions);
	free(builds->secrets);
	free(builds->trash);
	free(builds->work);
	free(builds->cache);
	free(builds);
}

/* ---- what core/build asks for ---- */

bool job_cancelled(void *arg)
{
	const struct build_job *job = arg;
	return atomic_load(&job->engine->builds->stop) || atomic_load(&job->engine->closing) ||
	       gt_progress_cancelled(job->progress) || (job->request->gone && job->request->gone(job->request->arg));
}

static int run(void *arg, const struct gt_build_run *how, char container[65], int *exit_code, struct gt_error *err)
{
	const struct build_job *job = arg;
	return gt_build_execute(job->engine, job->host_config, how, container, exit_code, err);
}

static void run_end(void *arg, const char *container)
{
	const struct build_job *job = arg;
	struct gt_error err = { 0 };
	if (gt_container_remove(job->engine, container, true, true, false, &err) < 0 && err.kind != GT_NOT_FOUND)
		gt_warn("the container of a build's step could not be removed", "id", container, "error", err.message);
}

static int pull(void *arg, const char *reference, const char *platform, struct gt_progress *progress, struct gt_error *err)
{
	const struct build_job *job = arg;
	const json_t *auth = gt_registry_auth_for(job->request->auths, reference);
	return gt_engine_image_pull(job->engine, reference, platform, false, auth, progress, err);
}

static int fetch(void *arg, const char *url, int fd, int64_t *modified, struct gt_error *err)
{
	return gt_url_fetch(url, fd, MAX_FETCH, job_cancelled, arg, modified, err);
}

static int clone_git(void *arg, const struct gt_git_url *url, bool keep, const char *dir, char **files, char commit[65], struct gt_error *err)
{
	return job_clone(arg, url, keep, dir, files, commit, err);
}

static int secret(void *arg, const char *id, struct gt_buf *value, struct gt_error *err)
{
	const struct build_job *job = arg;
	return session_secret(job->session, id, job_cancelled, arg, value, err);
}

static int agent(void *arg, const char *id, const char *path, void **handle, struct gt_error *err)
{
	const struct build_job *job = arg;
	return agent_open(job->session, id, path, job_cancelled, arg, handle, err);
}

static void agent_end(void *arg, void *handle)
{
	(void)arg;
	agent_close(handle);
}

static void emit(void *arg, json_t *message)
{
	struct build_job *job = arg;
	job->told = true;
	if (job->progress && (!job->request->quiet || !json_object_get(message, "stream")))
		job->progress->emit(job->progress->arg, message);
}

void job_say(struct build_job *job, json_t *message)
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

/* ---- the build ---- */

static int tag_all(struct build_job *job, const char *id, struct gt_error *err)
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
		job_say(job, json_pack("{s:o}", "stream", json_sprintf("Successfully tagged %s\n", familiar)));
	}
	return 0;
}

static int build(struct build_job *job, char id[72], struct gt_error *err)
{
	const struct gt_build_request *request = job->request;
	struct gt_progress progress = { .emit = emit, .arg = job };
	const struct gt_build_host host = { .arg = job, .run = run, .run_end = run_end, .pull = pull, .fetch = fetch, .clone = clone_git,
					    .secret = secret, .agent = agent, .agent_end = agent_end, .cancelled = job_cancelled };
	AUTO_FREE char *work = gt_xasprintf("%s/files", job->dir);
	if (gt_mkdirs(AT_FDCWD, work, 0700, err) < 0)
		return -1;
	const struct gt_build_options options = {
		.dockerfile = request->dockerfile && request->dockerfile[0] ? request->dockerfile : "Dockerfile",
		.text = job->dockerfile.data ? job->dockerfile.data : "",
		.text_len = job->dockerfile.len,
		.context_dir = job->context,
		.digests = job->digests,
		.ignore = &job->ignore,
		.work_dir = work,
		.cache_dir = job->engine->builds->cache,
		.secret_dir = job->secrets,
		.holder = job->holder,
		.build_args = request->build_args,
		.labels = request->labels,
		.cache_from = &request->cache_from,
		.target = request->target,
		.platform = request->platform,
		.no_cache = request->no_cache,
		.pull = request->pull,
		.squash = request->squash,
		.keep = !request->cache_only || request->tags.count > 0,
	};
	if (gt_build(job->engine->images, &options, &host, &progress, id, err) < 0)
		return -1;
	job_say(job, json_pack("{s:{s:s}}", "aux", "ID", id));
	job_say(job, json_pack("{s:o}", "stream", json_sprintf("Successfully built %.12s\n", id + 7)));
	if (request->quiet && job->progress) {
		AUTO_JSON json_t *line = json_pack("{s:o}", "stream", json_sprintf("%s\n", id));
		job->progress->emit(job->progress->arg, line);
	}
	return tag_all(job, id, err);
}

/* After messages went out the answer's status is sent: the failure is the last of them. An exit code of RUN becomes the client's. */
static void tell_failure(struct build_job *job, const struct gt_error *err)
{
	AUTO_JSON json_t *text = json_string(err->message);
	if (!text)
		text = json_string("the build failed with a message that is not UTF-8");
	AUTO_JSON json_t *detail = json_pack("{s:O}", "message", text);
	if (strstr(err->message, "returned a non-zero code") && err->errnum)
		json_object_set_new(detail, "code", json_integer(err->errnum));
	job_say(job, json_pack("{s:O, s:O}", "errorDetail", detail, "error", text));
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

static int prepare(struct build_job *job, struct gt_error *err)
{
	const struct gt_build_request *request = job->request;
	struct gt_builds *builds = job->engine->builds;
	if (request->session && !(job->session = session_take(&builds->sessions, request->session, err)))
		return -1;
	/* what is in the context is seen by RUN --mount, whatever user runs there */
	if (gt_mkdirs(AT_FDCWD, job->context, 0700, err) < 0 || gt_mkdirs(AT_FDCWD, job->secrets, 0700, err) < 0)
		return -1;
	return chmod(job->context, 0755) < 0 ? gt_fail_errno(err, errno, "make the directory of the build") : 0;
}

static void remove_dir(const char *path)
{
	struct gt_error err = { 0 };
	if (gt_remove_tree(AT_FDCWD, path, &err) < 0)
		gt_warn("the directory of a build could not be removed", "path", path, "error", err.message);
}

static void empty_trash(void *arg)
{
	AUTO_FREE char *path = arg;
	remove_dir(path);
}

/* The client does not wait until thousands of files are gone. */
static void discard(struct gt_engine *engine, const char *path)
{
	const char *name = strrchr(path, '/') + 1;
	AUTO_FREE char *trash = gt_xasprintf("%s/%s", engine->builds->trash, name);
	if (rename(path, trash) == 0)
		gt_work(engine, empty_trash, take(trash));
	else
		remove_dir(path);
}

static void job_free(struct build_job *job)
{
	session_close(job->session);
	json_decref(job->host_config);
	gt_strings_free(&job->ignore);
	gt_buf_free(&job->dockerfile);
	free(job->dir);
	free(job->context);
	free(job->digests);
	free(job->secrets);
}

int gt_engine_build(struct gt_engine *engine, const struct gt_build_request *request, int in_fd, struct gt_progress *progress,
		    struct gt_error *err)
{
	char fresh[GT_ID_LEN + 1], id[72] = "";
	struct build_job job = { .engine = engine, .request = request, .progress = progress };
	struct gt_error local = { 0 };
	if (check_tags(request, err) < 0)
		return -1;
	begin(engine->builds);
	gt_id_new(fresh);
	snprintf(job.holder, sizeof job.holder, "build-%.64s", fresh);
	job.dir = gt_xasprintf("%s/%s", engine->builds->work, fresh);
	job.secrets = gt_xasprintf("%s/%s", engine->builds->secrets, fresh);
	job.context = gt_xasprintf("%s/context", job.dir);
	job.host_config = make_host_config(request);
	int rc = prepare(&job, &local);
	if (rc == 0)
		rc = job_read_context(&job, in_fd, &local);
	if (rc == 0)
		rc = build(&job, id, &local);
	if (rc == 0)
		gt_event(engine, "image", "build", id, json_pack("{s:s}", "name", request->tags.count ? request->tags.items[0] : id));
	gt_image_release_all(engine->images, job.holder);
	discard(engine, job.dir);
	remove_dir(job.secrets);
	if (rc < 0 && job.told) {
		tell_failure(&job, &local);
		rc = 0;
	}
	if (rc < 0 && err)
		*err = local;
	job_free(&job);
	end(engine->builds);
	return rc;
}

int gt_engine_build_session(struct gt_engine *engine, const char *id, int fd, struct gt_error *err)
{
	return session_put(&engine->builds->sessions, id, fd, err);
}
