/*
 * figures.c - what this engine tells Prometheus. Counters are kept where things happen (struct gt_figures); how many objects there are, and in which
 * state, is looked at when asked. A few figures come under the names of Docker's own endpoint too, so that dashboards made for it show them.
 */
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "engine/internal.h"
#include "engine/network.h"

#define STATUSES (GT_DEAD + 1)

static const char *const ACTIONS[GT_ACTIONS] = { "create", "start", "stop", "remove" };
static const char *const DOCKER_ACTIONS[GT_ACTIONS] = { "create", "start", NULL, "delete" };
static const char *const HEALTH[] = { "starting", "healthy", "unhealthy" };

int gt_acted(struct gt_engine *engine, enum gt_action action, int64_t began, int rc)
{
	if (rc < 0)
		gt_counter_add(&engine->figures.failures[action], 1);
	else
		gt_histogram_observe(&engine->figures.actions[action], gt_monotonic() - began);
	return rc;
}

static void sample(struct gt_buf *out, const char *name, const char *label, const char *value, uint64_t number)
{
	const struct gt_label labels[] = { { label, value }, { NULL, NULL } };
	gt_metric_sample(out, name, labels, number);
}

/* ---- containers ---- */

static void write_containers(struct gt_engine *engine, struct gt_buf *out)
{
	size_t total, status[STATUSES] = { 0 }, health[GT_COUNT(HEALTH)] = { 0 };
	uint64_t restarts = 0;
	struct gt_container **all = gt_containers_all(engine, &total);
	for (size_t i = 0; i < total; i++) {
		LOCKED(&all[i]->lock);
		bool running = all[i]->status == GT_RUNNING || all[i]->status == GT_PAUSED;
		const char *word = running ? json_string_value(json_object_get(all[i]->health, "Status")) : NULL;
		status[all[i]->status]++;
		restarts += (uint64_t)all[i]->restart_count;
		for (size_t h = 0; word && h < GT_COUNT(HEALTH); h++)
			health[h] += strcmp(word, HEALTH[h]) == 0;
	}
	gt_containers_put(all);

	gt_metric_family(out, "gantry_containers", "gauge", "Containers by state.");
	for (int i = 0; i < STATUSES; i++)
		sample(out, "gantry_containers", "state", gt_status_name(i), status[i]);
	gt_metric_family(out, "gantry_containers_health", "gauge", "Running containers that have a health check, by what it says.");
	for (size_t h = 0; h < GT_COUNT(HEALTH); h++)
		sample(out, "gantry_containers_health", "status", HEALTH[h], health[h]);
	gt_metric_gauge(out, "gantry_containers_restarts", "Restarts by restart policies, of the containers that there are.", restarts);

	size_t running = status[GT_RUNNING] + status[GT_RESTARTING], paused = status[GT_PAUSED];
	gt_metric_family(out, "engine_daemon_container_states_containers", "gauge", "The same by Docker's name.");
	sample(out, "engine_daemon_container_states_containers", "state", "running", running);
	sample(out, "engine_daemon_container_states_containers", "state", "paused", paused);
	sample(out, "engine_daemon_container_states_containers", "state", "stopped", total - running - paused);
}

static void write_times(struct gt_engine *engine, struct gt_buf *out, const char *name, const char *help, const char *const *names)
{
	gt_metric_family(out, name, "histogram", help);
	for (size_t i = 0; i < GT_ACTIONS; i++) {
		const struct gt_label labels[] = { { "action", names[i] }, { NULL, NULL } };
		if (names[i])
			gt_metric_histogram(out, name, labels, &engine->figures.actions[i]);
	}
}

static void write_actions(struct gt_engine *engine, struct gt_buf *out)
{
	write_times(engine, out, "gantry_container_action_duration_seconds", "Time of what was done to containers, where it succeeded.", ACTIONS);
	gt_metric_family(out, "gantry_container_action_failures_total", "counter", "What was to be done to containers and failed.");
	for (size_t i = 0; i < GT_ACTIONS; i++)
		sample(out, "gantry_container_action_failures_total", "action", ACTIONS[i], gt_counter_read(&engine->figures.failures[i]));
	write_times(engine, out, "engine_daemon_container_actions_seconds", "The same by Docker's name.", DOCKER_ACTIONS);
}

/* ---- all else ---- */

static void write_objects(struct gt_engine *engine, struct gt_buf *out)
{
	pthread_rwlock_rdlock(&engine->lock);
	size_t execs = engine->execs.count;
	pthread_rwlock_unlock(&engine->lock);
	pthread_mutex_lock(&engine->networks->lock);
	size_t networks = engine->networks->by_id.count;
	pthread_mutex_unlock(&engine->networks->lock);
	gt_metric_gauge(out, "gantry_execs", "Commands in containers (exec) that are known.", execs);
	gt_metric_gauge(out, "gantry_images", "Images.", gt_images_count(engine->images));
	gt_metric_gauge(out, "gantry_networks", "Networks, the default ones too.", networks);
	gt_metric_gauge(out, "gantry_volumes", "Volumes.", engine->figures.volumes);
}

static void write_work(struct gt_engine *engine, struct gt_buf *out)
{
	const struct gt_figures *figures = &engine->figures;
	const struct gt_image_figures *images = gt_images_figures(engine->images);
	struct gt_work_load load = gt_workers_load(engine);
	gt_metric_counter(out, "gantry_events_total", "Events.", &figures->events);
	gt_metric_gauge(out, "gantry_events_listeners", "Clients that listen to events.", (uint64_t)gt_events_listeners(engine));
	gt_metric_counter(out, "gantry_health_checks_total", "Health checks that were run.", &figures->probes);
	gt_metric_counter(out, "gantry_health_checks_failed_total", "Health checks that failed.", &figures->failed_probes);
	gt_metric_counter(out, "gantry_pull_bytes_total", "Bytes of blobs that came from registries.", &images->pulled_bytes);
	gt_metric_counter(out, "gantry_push_bytes_total", "Bytes of layers that went to registries.", &images->pushed_bytes);
	gt_metric_gauge(out, "gantry_worker_threads", "Threads for clean-up, restarts and health checks.", load.threads);
	gt_metric_gauge(out, "gantry_worker_queue", "Jobs that wait for such a thread.", load.queued);
	gt_metric_counter(out, "engine_daemon_events_total", "The same as gantry_events_total by Docker's name.", &figures->events);
	gt_metric_counter(out, "engine_daemon_health_checks_total", "The same by Docker's name.", &figures->probes);
	gt_metric_counter(out, "engine_daemon_health_checks_failed_total", "The same by Docker's name.", &figures->failed_probes);
}

static void write_host(struct gt_engine *engine, struct gt_buf *out)
{
	const struct gt_config *config = atomic_load(&engine->config);
	struct utsname uts;
	struct sysinfo memory;
	uname(&uts);
	sysinfo(&memory);
	const struct gt_label build[] = { { "version", GANTRY_VERSION }, { "architecture", uts.machine }, { NULL, NULL } };
	gt_metric_family(out, "gantry_build_info", "gauge", "Always 1; the labels tell which build this is.");
	gt_metric_sample(out, "gantry_build_info", build, 1);
	int64_t opening = engine->figures.opening;
	gt_metric_family(out, "gantry_start_duration_seconds", "gauge", "Time from the daemon's start until all was loaded and reconciled.");
	gt_buf_printf(out, "gantry_start_duration_seconds %.9f\n", (double)opening / 1e9);
	const struct gt_label info[] = { { "architecture", uts.machine },
					 { "daemon_id", engine->engine_id },
					 { "graphdriver", config->storage_driver },
					 { "kernel", uts.release },
					 { "os_type", "linux" },
					 { "version", GANTRY_VERSION },
					 { NULL, NULL } };
	gt_metric_family(out, "engine_daemon_engine_info", "gauge", "The engine and its host, by Docker's name.");
	gt_metric_sample(out, "engine_daemon_engine_info", info, 1);
	gt_metric_gauge(out, "engine_daemon_engine_cpus_cpus", "CPUs of the host, by Docker's name.", (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
	gt_metric_gauge(out, "engine_daemon_engine_memory_bytes", "Memory of the host, by Docker's name.", (uint64_t)memory.totalram * memory.mem_unit);
}

void gt_engine_metrics(struct gt_engine *engine, struct gt_buf *out)
{
	write_host(engine, out);
	write_containers(engine, out);
	write_actions(engine, out);
	write_objects(engine, out);
	write_work(engine, out);
	gt_drivers_metrics(engine->drivers, out);
}
