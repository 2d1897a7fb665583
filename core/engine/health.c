/*
 * health.c - health checks: a probe on a timer in each running container that has one.
 *
 * State.Health is a JSON object {"Status","FailingStreak","Log":[...]}, replaced whole under the container's lock. One job lives from start to exit of a
 * container; it belongs to the timer or worker that runs it, and ends when its number is not the container's any more.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

#define LOG_ENTRIES 5
#define OUTPUT_MAX 4096
#define DEFAULT_INTERVAL (30 * GT_SECOND)
#define DEFAULT_TIMEOUT (30 * GT_SECOND)
#define DEFAULT_START_INTERVAL (5 * GT_SECOND)
#define DEFAULT_RETRIES 3

struct gt_health {
	struct gt_container *ctr;       /* referenced */
	struct gt_strings argv;
	int64_t interval, timeout, start_period, start_interval, retries;
	int64_t began;                  /* CLOCK_MONOTONIC */
	bool stopped;                   /* guarded by ctr->lock: the container has ended */
	uint64_t timer;                 /* guarded by ctr->lock; 0: a probe is running */
};

static void health_free(struct gt_health *job)
{
	gt_strings_free(&job->argv);
	gt_container_put(job->ctr);
	free(job);
}

/* ["NONE"] and an empty test are none; CMD-SHELL goes through the image's shell. */
static bool read_command(const struct gt_container *ctr, const json_t *check, struct gt_strings *argv)
{
	const json_t *test = gt_json_get(check, "Test");
	const char *kind = json_string_value(json_array_get(test, 0));
	if (!kind || strcmp(kind, "NONE") == 0)
		return false;
	if (strcmp(kind, "CMD-SHELL") == 0) {
		const struct gt_strings *shell = &ctr->config.shell;
		for (size_t i = 0; i < shell->count; i++)
			gt_strings_add(argv, shell->items[i]);
		if (!shell->count) {
			gt_strings_add(argv, "/bin/sh");
			gt_strings_add(argv, "-c");
		}
	}
	for (size_t i = 1; i < json_array_size(test); i++) {
		const char *word = json_string_value(json_array_get(test, i));
		if (word)
			gt_strings_add(argv, word);
	}
	return argv->count > 0;
}

static int64_t setting(const json_t *check, const char *name, int64_t fallback)
{
	int64_t value = 0;
	gt_json_int(check, name, &value, NULL);
	return value > 0 ? value : fallback;
}

/* ---- the state that people see ---- */

static const char *status_of(const json_t *health)
{
	const char *status = json_string_value(json_object_get(health, "Status"));
	return status ? status : "starting";
}

static json_t *log_entry(int64_t from, int64_t to, int code, const struct gt_buf *output)
{
	char start[36], end[36];
	gt_time_format(from, start);
	gt_time_format(to, end);
	json_t *text = json_stringn(output->data ? output->data : "", output->len);
	if (!text)
		text = json_string("(output is not UTF-8)");
	return json_pack("{s:s s:s s:i s:o}", "Start", start, "End", end, "ExitCode", code, "Output", text);
}

/* The state after one more result; *changed where its status is another. With the container's lock held. */
static void note_result(struct gt_health *job, int code, json_t *entry, const char **changed)
{
	struct gt_container *ctr = job->ctr;
	json_t *fresh = json_deep_copy(ctr->health);
	json_t *log = json_object_get(fresh, "Log");
	int64_t streak = json_integer_value(json_object_get(fresh, "FailingStreak"));
	const char *before = status_of(ctr->health), *after = before;
	bool starting = strcmp(before, "starting") == 0;
	json_array_append_new(log, entry);
	if (json_array_size(log) > LOG_ENTRIES)
		json_array_remove(log, 0);
	if (code == 0) {
		streak = 0;
		after = "healthy";
	} else if (!starting || gt_monotonic() - job->began >= job->start_period) {
		streak++;
		if (streak >= job->retries)
			after = "unhealthy";
	}
	*changed = strcmp(before, after) ? after : NULL;
	json_object_set_new(fresh, "FailingStreak", json_integer(streak));
	json_object_set_new(fresh, "Status", json_string(after));
	json_decref(ctr->health);
	ctr->health = fresh;
}

/* ---- the job ---- */

static void probe_job(void *arg);

/* With the container's lock held. */
static void arm(struct gt_health *job)
{
	bool starting = strcmp(status_of(job->ctr->health), "starting") == 0 && gt_monotonic() - job->began < job->start_period;
	job->timer = gt_timer_after(job->ctr->engine, starting ? job->start_interval : job->interval, probe_job, job);
}

static void probe(struct gt_health *job)
{
	struct gt_container *ctr = job->ctr;
	AUTO_BUF struct gt_buf output = { 0 };
	struct gt_error err = { 0 };
	const char *changed = NULL;
	int code = -1;
	int64_t from = gt_now();
	if (gt_exec_probe(ctr, &job->argv, job->timeout, &code, &output, OUTPUT_MAX, &err) < 0) {
		code = -1;
		gt_buf_reset(&output);
		if (err.kind == GT_TIMEOUT)
			gt_buf_printf(&output, "Health check exceeded timeout (%lld ms)", (long long)(job->timeout / GT_MILLISECOND));
		else
			gt_buf_str(&output, err.message);
	}
	gt_counter_add(&ctr->engine->figures.probes, 1);
	if (code != 0)
		gt_counter_add(&ctr->engine->figures.failed_probes, 1);
	json_t *entry = log_entry(from, gt_now(), code, &output);
	pthread_mutex_lock(&ctr->lock);
	if (job->stopped)
		json_decref(entry);
	else
		note_result(job, code, entry, &changed);
	pthread_mutex_unlock(&ctr->lock);
	if (changed) {
		struct gt_error unsaved = { 0 };
		if (gt_container_save_state(ctr, &unsaved) < 0)
			gt_warn("the health of a container could not be stored", "id", ctr->id, "error", unsaved.message);
		AUTO_FREE char *action = gt_xasprintf("health_status: %s", changed);
		gt_container_event(ctr, action, NULL);
	}
}

static void probe_job(void *arg)
{
	struct gt_health *job = arg;
	struct gt_container *ctr = job->ctr;
	pthread_mutex_lock(&ctr->lock);
	job->timer = 0;
	bool stopped = job->stopped || ctr->engine->closing, paused = ctr->status == GT_PAUSED;
	pthread_mutex_unlock(&ctr->lock);
	if (!stopped && !paused)
		probe(job);
	pthread_mutex_lock(&ctr->lock);
	stopped = job->stopped || ctr->engine->closing;
	if (stopped && ctr->health_job == job)
		ctr->health_job = NULL;
	if (!stopped)
		arm(job);
	pthread_mutex_unlock(&ctr->lock);
	if (stopped)
		health_free(job);
}

void gt_health_started(struct gt_container *ctr)
{
	const json_t *check = ctr->config.healthcheck;
	struct gt_strings argv = { 0 };
	if (!check || !read_command(ctr, check, &argv)) {
		gt_strings_free(&argv);
		return;
	}
	struct gt_health *job = gt_xcalloc(1, sizeof *job);
	*job = (struct gt_health){ .ctr = gt_container_ref(ctr), .argv = argv, .began = gt_monotonic(),
				   .interval = setting(check, "Interval", DEFAULT_INTERVAL), .timeout = setting(check, "Timeout", DEFAULT_TIMEOUT),
				   .start_period = setting(check, "StartPeriod", 0), .start_interval = setting(check, "StartInterval", DEFAULT_START_INTERVAL),
				   .retries = setting(check, "Retries", DEFAULT_RETRIES) };
	LOCKED(&ctr->lock);
	if (!ctr->health)
		ctr->health = json_pack("{s:s s:i s:[]}", "Status", "starting", "FailingStreak", 0, "Log");
	ctr->health_job = job;
	arm(job);
}

/* A probe that is running frees the job itself when it is done. */
void gt_health_stopped(struct gt_container *ctr)
{
	pthread_mutex_lock(&ctr->lock);
	struct gt_health *job = take(ctr->health_job);
	bool idle = false;
	if (job) {
		job->stopped = true;
		idle = job->timer && ctr->engine->timers && gt_timer_cancel(ctr->engine, job->timer);
	}
	pthread_mutex_unlock(&ctr->lock);
	if (idle)
		health_free(job);
}
