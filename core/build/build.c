/*
 * build.c - stages in threads: each takes the first stage whose needs are built, until none is left or something failed.
 */
#include "build/build.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "build/internal.h"

#define MAX_THREADS 4

bool build_stopped(void *arg)
{
	struct build *build = arg;
	if (!atomic_load(&build->stop) && build->host->cancelled(build->host->arg)) {
		pthread_mutex_lock(&build->lock);
		if (build->error.kind == GT_OK)
			gt_fail(&build->error, GT_CANCELLED, "the build was cancelled");
		pthread_mutex_unlock(&build->lock);
		atomic_store(&build->stop, true);
		output_stop(&build->output, -1);
	}
	return atomic_load(&build->stop);
}

char *build_make_dir(struct build *build, const char *what, struct gt_error *err)
{
	AUTO_FREE char *path = gt_xasprintf("%s/%s-%d", build->options->work_dir, what, atomic_fetch_add(&build->serial, 1));
	if (mkdir(path, 0755) < 0) {
		gt_fail_errno(err, errno, "make a directory of the build");
		return NULL;
	}
	return take(path);
}

/* ---- threads ---- */

/* With the lock held. NULL: nothing can be begun now; *left: something may be later. */
static struct stage *next_stage(struct build *build, bool *left)
{
	*left = false;
	for (size_t i = 0; i <= build->plan.target; i++) {
		struct stage *stage = &build->plan.stages[i];
		if (!stage->needed || stage->state != STAGE_WAITS)
			continue;
		*left = true;
		bool ready = true;
		for (size_t k = 0; k < i; k++)
			ready &= !stage->needs[k] || build->plan.stages[k].state == STAGE_DONE;
		if (ready)
			return stage;
	}
	return NULL;
}

static void settle(struct build *build, struct stage *stage, int rc, const struct gt_error *err)
{
	if (rc == 0)
		output_end_stage(&build->output, stage->index);
	pthread_mutex_lock(&build->lock);
	stage->state = rc == 0 ? STAGE_DONE : STAGE_FAILED;
	if (rc < 0 && build->error.kind == GT_OK)
		build->error = *err;
	pthread_mutex_unlock(&build->lock);
	if (rc < 0) {
		atomic_store(&build->stop, true);
		output_stop(&build->output, err->kind == GT_CANCELLED ? -1 : (ssize_t)stage->index);
	}
	LOCKED(&build->lock);
	pthread_cond_broadcast(&build->changed);
}

static void *worker(void *arg)
{
	struct build *build = arg;
	pthread_mutex_lock(&build->lock);
	for (bool left = true; left && !atomic_load(&build->stop);) {
		struct stage *stage = next_stage(build, &left);
		if (!stage) {
			if (left)
				pthread_cond_wait(&build->changed, &build->lock);
			continue;
		}
		stage->state = STAGE_RUNS;
		pthread_mutex_unlock(&build->lock);
		struct gt_error err = { 0 };
		int rc = stage_build(build, stage, &err);
		settle(build, stage, rc, &err);
		pthread_mutex_lock(&build->lock);
		left = true;
	}
	pthread_mutex_unlock(&build->lock);
	return NULL;
}

static void run_all(struct build *build)
{
	pthread_t threads[MAX_THREADS];
	size_t started = 0, stages = 0;
	for (size_t i = 0; i <= build->plan.target; i++) {
		stages += build->plan.stages[i].needed;
		if (!build->plan.stages[i].needed)
			output_end_stage(&build->output, i);
	}
	while (started + 1 < stages && started + 1 < MAX_THREADS && pthread_create(&threads[started], NULL, worker, build) == 0)
		started++;
	worker(build);
	for (size_t i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
}

/* ---- the build ---- */

static int read_epoch(struct build *build, struct gt_error *err)
{
	const char *text = json_string_value(json_object_get(build->options->build_args, "SOURCE_DATE_EPOCH"));
	char *end;
	build->epoch = -1;
	if (!text || !text[0])
		return 0;
	errno = 0;
	build->epoch = strtoll(text, &end, 10);
	return *end || errno || build->epoch < 0 || build->epoch > 253402300799 /* year 9999 */ ?
		       gt_fail(err, GT_INVALID, "SOURCE_DATE_EPOCH=%.40s is not a number of seconds", text) :
		       0;
}

static void find_cache_sources(struct build *build)
{
	for (size_t i = 0; build->options->cache_from && i < build->options->cache_from->count; i++) {
		struct gt_image image = { 0 };
		if (gt_image_find(build->images, build->options->cache_from->items[i], &image, NULL) == 0)
			gt_strings_add(&build->cache_from, image.id);
		gt_image_free(&image);
	}
}

static void tell_unused_args(struct build *build)
{
	AUTO_BUF struct gt_buf names = { 0 };
	const char *name;
	json_t *value;
	json_object_foreach(build->plan.unused_args, name, value)
		gt_buf_printf(&names, "%s%s", names.len ? " " : "", name);
	if (names.len)
		output_text(&build->output, build->output.count, "[Warning] One or more build-args [%s] were not consumed\n", names.data);
}

static int build_all(struct build *build, char id[72], struct gt_error *err)
{
	for (size_t i = 0; i < build->plan.file.warnings.count; i++)
		output_text(&build->output, 0, "[Warning] %s\n", build->plan.file.warnings.items[i]);
	run_all(build);
	if (build->error.kind != GT_OK) {
		if (err)
			*err = build->error;
		return -1;
	}
	tell_unused_args(build);
	const struct stage *target = &build->plan.stages[build->plan.target];
	if (!target->image[0])
		return gt_fail(err, GT_INVALID, "No image was generated. Is your Dockerfile empty?");
	snprintf(id, 72, "%s", target->image);
	int64_t clamp = build->epoch >= 0 ? build->epoch : INT64_MAX;
	if (build->options->squash)
		return gt_image_squash(build->images, target->root[0] ? target->root : NULL, target->image, clamp, build->options->holder, id, err);
	return build->options->keep ? gt_image_step_keep(build->images, id, err) : 0;
}

int gt_build(struct gt_images *images, const struct gt_build_options *options, const struct gt_build_host *host, struct gt_progress *progress,
	     char id[72], struct gt_error *err)
{
	struct build build = { .images = images, .options = options, .host = host, .began = gt_now() };
	if (read_epoch(&build, err) < 0 || plan_make(options, &build.plan, err) < 0)
		return -1;
	pthread_mutex_init(&build.lock, NULL);
	pthread_cond_init(&build.changed, NULL);
	output_open(&build.output, progress, build.plan.target + 1);
	find_cache_sources(&build);
	int rc = build_all(&build, id, err);
	output_close(&build.output);
	plan_free(&build.plan);
	gt_strings_free(&build.cache_from);
	pthread_cond_destroy(&build.changed);
	pthread_mutex_destroy(&build.lock);
	return rc;
}
