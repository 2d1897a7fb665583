/*
 * stats.c - GET /containers/{id}/stats: one document, or one each second, from the container's cgroup and network namespace.
 *
 * CPU figures come in pairs (now and a second before), as clients compute percentages from their difference. The network is read through
 * /proc/<pid>/net/dev, which shows the namespace of that process.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/internal.h"
#include "runtime/cgroup.h"

struct stats {
	struct gt_stream stream;        /* first */
	struct gt_container *ctr;
	bool forever, one_shot, done;
	int64_t next;                   /* CLOCK_MONOTONIC: when the next document is due */
	json_t *cpu_before;             /* cpu_stats of the sample before */
	int64_t read_before;            /* ns; 0: none */
	struct gt_buf line;
	size_t sent;
};

/* All CPUs' time of the host in ns, as Docker's system_cpu_usage. */
static int64_t system_cpu(void)
{
	AUTO_BUF struct gt_buf text = { 0 };
	long long field[8] = { 0 };
	if (gt_read_file(AT_FDCWD, "/proc/stat", 4 << 20, &text, NULL) < 0 ||
	    sscanf(text.data, "cpu %lld %lld %lld %lld %lld %lld %lld %lld", &field[0], &field[1], &field[2], &field[3], &field[4], &field[5],
		   &field[6], &field[7]) < 7)
		return 0;
	int64_t ticks = 0;
	for (size_t i = 0; i < 7; i++)
		ticks += field[i];
	return ticks * (GT_SECOND / sysconf(_SC_CLK_TCK));
}

static json_t *cpu_json(const struct gt_cgroup_stats *sample)
{
	json_t *usage = json_pack("{s:I s:I s:I}", "total_usage", (json_int_t)sample->cpu_total, "usage_in_usermode", (json_int_t)sample->cpu_user,
				  "usage_in_kernelmode", (json_int_t)sample->cpu_system);
	if (sample->cpu_percpu_count) {
		json_t *each = json_array();
		for (size_t i = 0; i < sample->cpu_percpu_count; i++)
			json_array_append_new(each, json_integer((json_int_t)sample->cpu_percpu[i]));
		json_object_set_new(usage, "percpu_usage", each);
	}
	return json_pack("{s:o s:I s:i s:{s:I s:I s:I}}", "cpu_usage", usage, "system_cpu_usage", (json_int_t)system_cpu(), "online_cpus",
			 (int)sysconf(_SC_NPROCESSORS_ONLN), "throttling_data", "periods", (json_int_t)sample->throttle_periods,
			 "throttled_periods", (json_int_t)sample->throttled_periods, "throttled_time", (json_int_t)sample->throttled_time);
}

static json_t *no_cpu_json(void)
{
	return json_pack("{s:{s:i s:i s:i} s:{s:i s:i s:i}}", "cpu_usage", "total_usage", 0, "usage_in_usermode", 0, "usage_in_kernelmode", 0,
			 "throttling_data", "periods", 0, "throttled_periods", 0, "throttled_time", 0);
}

static int64_t host_memory(void)
{
	return (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
}

static json_t *memory_json(const struct gt_cgroup_stats *sample)
{
	int64_t limit = host_memory();
	if (sample->memory_limit < (uint64_t)limit)
		limit = (int64_t)sample->memory_limit;
	json_t *memory = json_pack("{s:I s:I s:O?}", "usage", (json_int_t)sample->memory_usage, "limit", (json_int_t)limit, "stats",
				   sample->memory_stat);
	if (sample->memory_max_usage)
		json_object_set_new(memory, "max_usage", json_integer((json_int_t)sample->memory_max_usage));
	if (sample->memory_failcnt)
		json_object_set_new(memory, "failcnt", json_integer((json_int_t)sample->memory_failcnt));
	return memory;
}

static json_t *io_json(const struct gt_cgroup_blkio *entries, size_t count)
{
	json_t *list = json_array();
	for (size_t i = 0; i < count; i++)
		json_array_append_new(list, json_pack("{s:I s:I s:s s:I}", "major", (json_int_t)entries[i].major, "minor",
						      (json_int_t)entries[i].minor, "op", entries[i].op, "value", (json_int_t)entries[i].value));
	return list;
}

static json_t *pids_json(const struct gt_cgroup_stats *sample)
{
	json_t *pids = json_pack("{s:I}", "current", (json_int_t)sample->pids_current);
	if (sample->pids_limit)
		json_object_set_new(pids, "limit", json_integer((json_int_t)sample->pids_limit));
	return pids;
}

/* The interfaces of the container's network namespace but loopback. */
static json_t *networks_json(pid_t pid)
{
	char path[64];
	AUTO_BUF struct gt_buf text = { 0 };
	json_t *networks = json_object();
	snprintf(path, sizeof path, "/proc/%d/net/dev", pid);
	if (gt_read_file(AT_FDCWD, path, 1 << 20, &text, NULL) < 0 || !text.data)
		return networks;
	char *rest = text.data;
	for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
		char name[32];
		unsigned long long in[4], out[4];
		if (sscanf(line, " %31[^:]: %llu %llu %llu %llu %*u %*u %*u %*u %llu %llu %llu %llu", name, &in[0], &in[1], &in[2], &in[3],
			   &out[0], &out[1], &out[2], &out[3]) != 9 ||
		    strcmp(name, "lo") == 0)
			continue;
		json_object_set_new(networks, name,
				    json_pack("{s:I s:I s:I s:I s:I s:I s:I s:I}", "rx_bytes", (json_int_t)in[0], "rx_packets", (json_int_t)in[1],
					      "rx_errors", (json_int_t)in[2], "rx_dropped", (json_int_t)in[3], "tx_bytes", (json_int_t)out[0],
					      "tx_packets", (json_int_t)out[1], "tx_errors", (json_int_t)out[2], "tx_dropped",
					      (json_int_t)out[3]));
	}
	return networks;
}

/* Fills what only a running container has. Returns false where it does not run. */
static bool add_sample(struct stats *stats, json_t *document)
{
	struct gt_container *ctr = stats->ctr;
	pthread_mutex_lock(&ctr->lock);
	pid_t pid = ctr->pid;
	bool running = ctr->status == GT_RUNNING || ctr->status == GT_PAUSED;
	pthread_mutex_unlock(&ctr->lock);
	struct gt_cgroup *cgroup = NULL;
	struct gt_cgroup_stats sample = { 0 };
	if (!running || gt_cgroup_open(ctr->cgroup, &cgroup, NULL) < 0)
		return false;
	bool read = gt_cgroup_stats(cgroup, &sample, NULL) == 0;
	gt_cgroup_free(cgroup);
	if (!read)
		return false;
	json_t *cpu = cpu_json(&sample);
	json_object_set(document, "cpu_stats", cpu);
	json_object_set_new(document, "memory_stats", memory_json(&sample));
	json_object_set_new(document, "pids_stats", pids_json(&sample));
	json_t *blkio = json_pack("{s:o s:o}", "io_service_bytes_recursive", io_json(sample.io_bytes, sample.io_bytes_count),
				  "io_serviced_recursive", io_json(sample.io_ops, sample.io_ops_count));
	static const char *const NULLS[] = { "io_queue_recursive",  "io_service_time_recursive", "io_wait_time_recursive",
					     "io_merged_recursive", "io_time_recursive",         "sectors_recursive" };
	for (size_t i = 0; i < GT_COUNT(NULLS); i++)
		json_object_set_new(blkio, NULLS[i], json_null());
	json_object_set_new(document, "blkio_stats", blkio);
	if (strcmp(ctr->config.host.network_mode ? ctr->config.host.network_mode : "", "host"))
		json_object_set_new(document, "networks", networks_json(pid));
	json_decref(stats->cpu_before);
	stats->cpu_before = cpu;
	gt_cgroup_stats_release(&sample);
	return true;
}

static void compose(struct stats *stats)
{
	char now_text[36], before_text[36];
	int64_t now = gt_now();
	gt_time_format(now, now_text);
	gt_time_format(stats->read_before, before_text);
	pthread_mutex_lock(&stats->ctr->lock);
	json_t *document = json_pack("{s:s+ s:s s:s s:s s:i s:{} s:o s:o s:{} s:{} s:{}}", "name", "/", stats->ctr->name, "id", stats->ctr->id,
				     "read", now_text, "preread", before_text, "num_procs", 0, "storage_stats", "cpu_stats", no_cpu_json(),
				     "precpu_stats", stats->cpu_before ? json_incref(stats->cpu_before) : no_cpu_json(), "memory_stats",
				     "pids_stats", "blkio_stats");
	pthread_mutex_unlock(&stats->ctr->lock);
	bool live = add_sample(stats, document);
	stats->read_before = live ? now : 0;
	AUTO_FREE char *text = json_dumps(document, JSON_COMPACT);
	json_decref(document);
	gt_buf_reset(&stats->line);
	gt_buf_printf(&stats->line, "%s\n", text ? text : "{}");
	stats->sent = 0;
}

/* Sleeps towards the next document; wakes early where the container changes or the engine closes. */
static bool due(struct stats *stats, int timeout_ms)
{
	int64_t left = stats->next - gt_monotonic();
	if (left <= 0)
		return true;
	bool reached = left <= timeout_ms * GT_MILLISECOND;
	struct timespec until = gt_deadline(reached ? left : timeout_ms * GT_MILLISECOND);
	LOCKED(&stats->ctr->lock);
	while (!stats->ctr->removed && !stats->ctr->engine->closing &&
	       pthread_cond_timedwait(&stats->ctr->changed, &stats->ctr->lock, &until) == 0)
		;
	return reached;
}

static ssize_t stats_read(struct gt_stream *stream, void *bytes, size_t room, int timeout_ms, struct gt_error *err)
{
	(void)err;
	struct stats *stats = (struct stats *)stream;
	if (stats->sent == stats->line.len) {
		if (stats->done)
			return GT_STREAM_END;
		if (!due(stats, timeout_ms))
			return stats->ctr->removed || stats->ctr->engine->closing ? GT_STREAM_END : GT_STREAM_IDLE;
		if (stats->ctr->removed || stats->ctr->engine->closing)
			return GT_STREAM_END;
		compose(stats);
		stats->next = gt_monotonic() + GT_SECOND;
		stats->done = !stats->forever;
	}
	size_t n = stats->line.len - stats->sent;
	if (n > room)
		n = room;
	memcpy(bytes, stats->line.data + stats->sent, n);
	stats->sent += n;
	return (ssize_t)n;
}

static void stats_close(struct gt_stream *stream)
{
	struct stats *stats = (struct stats *)stream;
	json_decref(stats->cpu_before);
	gt_buf_free(&stats->line);
	gt_container_put(stats->ctr);
	free(stats);
}

struct gt_stream *gt_container_stats(struct gt_engine *engine, const char *ref, bool stream, bool one_shot, struct gt_error *err)
{
	struct gt_container *ctr = gt_container_get(engine, ref, err);
	if (!ctr)
		return NULL;
	struct stats *stats = gt_xcalloc(1, sizeof *stats);
	stats->stream = (struct gt_stream){ .read = stats_read, .close = stats_close };
	stats->ctr = ctr;
	stats->forever = stream;
	stats->one_shot = one_shot;
	if (!stream && !one_shot && gt_container_is_running(ctr)) { /* a first sample for the pair; the answer comes a second later */
		compose(stats);
		gt_buf_reset(&stats->line);
		stats->next = gt_monotonic() + GT_SECOND;
	}
	return &stats->stream;
}
