/*
 * cgroup_v1.c - OCI linux.resources to the control files of cgroup v1, and its figures. Source: OCI runtime-spec config-linux.md, kernel cgroup-v1 documents.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cgroup_internal.h"

static const struct number {
	const char *name, *file;
} CPU_NUMBERS[] = { { "shares", "cpu.shares" },
		    { "period", "cpu.cfs_period_us" },
		    { "quota", "cpu.cfs_quota_us" },
		    { "burst", "cpu.cfs_burst_us" },
		    { "realtimePeriod", "cpu.rt_period_us" },
		    { "realtimeRuntime", "cpu.rt_runtime_us" },
		    { "idle", "cpu.idle" } };

static int read_number(const json_t *object, const char *name, bool *given, int64_t *value, struct gt_error *err)
{
	const json_t *json = gt_json_get(object, name);
	*given = json && !json_is_null(json);
	return *given ? gt_json_int(object, name, value, err) : 0;
}

/* ---- memory ---- */

static int64_t current_limit(const struct gt_cgroup *cgroup, const char *file)
{
	int64_t value = INT64_MAX;
	gt_read_number(cgroup->dir[MEMORY], file, &value, NULL);
	return value;
}

/* memory + swap may never be below memory: which is written first depends on the way. */
static int apply_limits(struct gt_cgroup *cgroup, bool has_limit, int64_t limit, bool has_swap, int64_t swap, struct gt_error *err)
{
	static const char LIMIT[] = "memory.limit_in_bytes", BOTH[] = "memory.memsw.limit_in_bytes";
	bool swap_file = cgroup_file(cgroup, MEMORY, BOTH);
	if (has_swap && !swap_file)
		return gt_fail(err, GT_UNSUPPORTED, "this host does not account for swap: a limit of memory and swap cannot be set");
	if (has_limit && !has_swap && swap_file && limit > 0 && limit > current_limit(cgroup, BOTH))
		return gt_fail(err, GT_INVALID, "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time");
	bool grow = has_swap && (swap < 0 || swap > current_limit(cgroup, LIMIT));
	if (grow && cgroup_set_number(cgroup, MEMORY, BOTH, swap, err) < 0)
		return -1;
	if (has_limit && cgroup_set_number(cgroup, MEMORY, LIMIT, limit, err) < 0)
		return -1;
	return has_swap && !grow ? cgroup_set_number(cgroup, MEMORY, BOTH, swap, err) : 0;
}

static int apply_memory(struct gt_cgroup *cgroup, const json_t *memory, struct gt_error *err)
{
	int64_t limit = 0, swap = 0, reservation = 0, swappiness = 0;
	bool has_limit, has_swap, has_reservation, has_swappiness, no_killer = false;
	if (!memory || !json_object_size(memory))
		return 0;
	if (read_number(memory, "limit", &has_limit, &limit, err) < 0 || read_number(memory, "swap", &has_swap, &swap, err) < 0 ||
	    read_number(memory, "reservation", &has_reservation, &reservation, err) < 0 ||
	    read_number(memory, "swappiness", &has_swappiness, &swappiness, err) < 0 ||
	    gt_json_bool(memory, "disableOOMKiller", &no_killer, err) < 0 || cgroup_need(cgroup, MEMORY, "memory", err) < 0)
		return -1;
	if (apply_limits(cgroup, has_limit, limit, has_swap, swap, err) < 0 ||
	    (has_reservation && cgroup_set_number(cgroup, MEMORY, "memory.soft_limit_in_bytes", reservation, err) < 0) ||
	    (has_swappiness && cgroup_set_number(cgroup, MEMORY, "memory.swappiness", swappiness, err) < 0))
		return -1;
	return no_killer ? cgroup_set(cgroup, MEMORY, "memory.oom_control", "1", err) : 0;
}

/* ---- cpu ---- */

static int apply_cpu(struct gt_cgroup *cgroup, const json_t *cpu, struct gt_error *err)
{
	const char *cpus = NULL, *mems = NULL;
	for (size_t i = 0; i < GT_COUNT(CPU_NUMBERS); i++) {
		bool given;
		int64_t value = 0;
		if (read_number(cpu, CPU_NUMBERS[i].name, &given, &value, err) < 0)
			return -1;
		if (given && (cgroup_need(cgroup, CPU, "cpu", err) < 0 || cgroup_set_number(cgroup, CPU, CPU_NUMBERS[i].file, value, err) < 0))
			return -1;
	}
	if (gt_json_string(cpu, "cpus", &cpus, err) < 0 || gt_json_string(cpu, "mems", &mems, err) < 0)
		return -1;
	if (((cpus && cpus[0]) || (mems && mems[0])) && cgroup_need(cgroup, CPUSET, "cpuset", err) < 0)
		return -1;
	if (cpus && cpus[0] && cgroup_set(cgroup, CPUSET, "cpuset.cpus", cpus, err) < 0)
		return -1;
	return mems && mems[0] ? cgroup_set(cgroup, CPUSET, "cpuset.mems", mems, err) : 0;
}

static int apply_pids(struct gt_cgroup *cgroup, const json_t *pids, struct gt_error *err)
{
	int64_t limit = 0;
	bool given;
	if (read_number(pids, "limit", &given, &limit, err) < 0 || !given)
		return given ? -1 : 0;
	if (cgroup_need(cgroup, PIDS, "pids", err) < 0)
		return -1;
	return limit > 0 ? cgroup_set_number(cgroup, PIDS, "pids.max", limit, err) : cgroup_set(cgroup, PIDS, "pids.max", "max", err);
}

/* ---- block devices ---- */

struct throttle {
	struct gt_cgroup *cgroup;
	const char *file;
};

static int set_device(void *arg, int64_t major, int64_t minor, int64_t value, struct gt_error *err)
{
	const struct throttle *throttle = arg;
	char text[96];
	snprintf(text, sizeof text, "%lld:%lld %lld", (long long)major, (long long)minor, (long long)value);
	return cgroup_set(throttle->cgroup, BLKIO, throttle->file, text, err);
}

static int apply_block_io(struct gt_cgroup *cgroup, const json_t *io, struct gt_error *err)
{
	static const struct number THROTTLES[] = { { "throttleReadBpsDevice", "blkio.throttle.read_bps_device" },
						   { "throttleWriteBpsDevice", "blkio.throttle.write_bps_device" },
						   { "throttleReadIOPSDevice", "blkio.throttle.read_iops_device" },
						   { "throttleWriteIOPSDevice", "blkio.throttle.write_iops_device" } };
	int64_t weight = 0;
	bool given;
	if (!io || !json_object_size(io))
		return 0;
	if (read_number(io, "weight", &given, &weight, err) < 0 || cgroup_need(cgroup, BLKIO, "blkio", err) < 0)
		return -1;
	bool bfq = !cgroup_file(cgroup, BLKIO, "blkio.weight");
	if (given && weight && cgroup_set_number(cgroup, BLKIO, bfq ? "blkio.bfq.weight" : "blkio.weight", weight, err) < 0)
		return -1;
	struct throttle weights = { cgroup, bfq ? "blkio.bfq.weight_device" : "blkio.weight_device" };
	if (cgroup_each_device(gt_json_get(io, "weightDevice"), "weight", set_device, &weights, err) < 0)
		return -1;
	for (size_t i = 0; i < GT_COUNT(THROTTLES); i++) {
		struct throttle throttle = { cgroup, THROTTLES[i].file };
		if (cgroup_each_device(gt_json_get(io, THROTTLES[i].name), "rate", set_device, &throttle, err) < 0)
			return -1;
	}
	return 0;
}

static int apply_huge_pages(struct gt_cgroup *cgroup, const json_t *limits, struct gt_error *err)
{
	size_t i;
	json_t *entry;
	json_array_foreach(limits, i, entry) {
		const char *size = NULL;
		int64_t limit = 0;
		if (gt_json_string(entry, "pageSize", &size, err) < 0 || gt_json_int(entry, "limit", &limit, err) < 0)
			return -1;
		if (!size || strlen(size) > 16 || strchr(size, '/') || strchr(size, '.'))
			return gt_fail(err, GT_INVALID, "a huge page limit names no page size");
		AUTO_FREE char *file = gt_xasprintf("hugetlb.%s.limit_in_bytes", size);
		if (cgroup_need(cgroup, HUGETLB, "hugetlb", err) < 0 || cgroup_set_number(cgroup, HUGETLB, file, limit, err) < 0)
			return -1;
	}
	return 0;
}

int cgroup_v1_apply(struct gt_cgroup *cgroup, const json_t *resources, struct gt_error *err)
{
	if (json_object_size(gt_json_get(resources, "unified")))
		return gt_fail(err, GT_UNSUPPORTED, "limits of cgroup v2 (linux.resources.unified) need a host that has cgroup v2 alone");
	if (json_object_size(gt_json_get(resources, "network")))
		return gt_fail(err, GT_UNSUPPORTED, "linux.resources.network (class id, priorities) is not supported");
	const json_t *devices = gt_json_get(resources, "devices");
	if (apply_memory(cgroup, gt_json_get(resources, "memory"), err) < 0 || apply_cpu(cgroup, gt_json_get(resources, "cpu"), err) < 0 ||
	    apply_pids(cgroup, gt_json_get(resources, "pids"), err) < 0 || apply_block_io(cgroup, gt_json_get(resources, "blockIO"), err) < 0 ||
	    apply_huge_pages(cgroup, gt_json_get(resources, "hugepageLimits"), err) < 0)
		return -1;
	return json_array_size(devices) ? cgroup_v1_devices(cgroup, devices, err) : 0;
}

/* ---- figures ---- */

static uint64_t number_of(int dir, const char *file)
{
	int64_t value = 0;
	gt_read_number(dir, file, &value, NULL);
	return value > 0 ? (uint64_t)value : 0;
}

static void read_memory(int dir, struct gt_cgroup_stats *stats)
{
	stats->memory_usage = number_of(dir, "memory.usage_in_bytes");
	stats->memory_max_usage = number_of(dir, "memory.max_usage_in_bytes");
	stats->memory_limit = number_of(dir, "memory.limit_in_bytes");
	stats->memory_failcnt = number_of(dir, "memory.failcnt");
	stats->memory_stat = cgroup_flat_stat(dir, "memory.stat");
}

static void read_cpu(int dir, struct gt_cgroup_stats *stats)
{
	AUTO_BUF struct gt_buf text = { 0 };
	uint64_t tick = 1000000000ull / (uint64_t)sysconf(_SC_CLK_TCK);
	stats->cpu_total = number_of(dir, "cpuacct.usage");
	stats->cpu_user = cgroup_keyed(dir, "cpuacct.stat", "user", 0) * tick;
	stats->cpu_system = cgroup_keyed(dir, "cpuacct.stat", "system", 0) * tick;
	if (gt_read_file(dir, "cpuacct.usage_percpu", 65536, &text, NULL) < 0 || !text.data)
		return;
	char *rest = text.data;
	for (char *word; (word = strsep(&rest, " \n")) != NULL;) {
		if (!*word)
			continue;
		stats->cpu_percpu = gt_xrealloc(stats->cpu_percpu, (stats->cpu_percpu_count + 1) * sizeof *stats->cpu_percpu);
		stats->cpu_percpu[stats->cpu_percpu_count++] = strtoull(word, NULL, 10);
	}
}

/* Lines "MAJOR:MINOR Op value"; "Total value" at the end is left out. */
static void read_io(int dir, const char *file, struct gt_cgroup_blkio **entries, size_t *count)
{
	AUTO_BUF struct gt_buf text = { 0 };
	if (gt_read_file(dir, file, 1 << 20, &text, NULL) < 0 || !text.data)
		return;
	char *rest = text.data;
	for (char *line; (line = strsep(&rest, "\n")) != NULL && *count < 1024;) {
		unsigned long long major, minor, value;
		char op[16];
		if (sscanf(line, "%llu:%llu %15s %llu", &major, &minor, op, &value) != 4)
			continue;
		*entries = gt_xrealloc(*entries, (*count + 1) * sizeof **entries);
		struct gt_cgroup_blkio *entry = &(*entries)[(*count)++];
		*entry = (struct gt_cgroup_blkio){ .major = major, .minor = minor, .value = value };
		memcpy(entry->op, op, sizeof op);
	}
}

int cgroup_v1_stats(struct gt_cgroup *cgroup, struct gt_cgroup_stats *stats, struct gt_error *err)
{
	(void)err;
	const int *dir = cgroup->dir;
	if (dir[MEMORY] >= 0)
		read_memory(dir[MEMORY], stats);
	if (dir[CPUACCT] >= 0)
		read_cpu(dir[CPUACCT], stats);
	if (dir[CPU] >= 0) {
		stats->throttle_periods = cgroup_keyed(dir[CPU], "cpu.stat", "nr_periods", 0);
		stats->throttled_periods = cgroup_keyed(dir[CPU], "cpu.stat", "nr_throttled", 0);
		stats->throttled_time = cgroup_keyed(dir[CPU], "cpu.stat", "throttled_time", 0);
	}
	if (dir[PIDS] >= 0) {
		stats->pids_current = number_of(dir[PIDS], "pids.current");
		stats->pids_limit = number_of(dir[PIDS], "pids.max"); /* "max" is no number: 0 */
	}
	if (dir[BLKIO] >= 0) {
		read_io(dir[BLKIO], "blkio.throttle.io_service_bytes_recursive", &stats->io_bytes, &stats->io_bytes_count);
		read_io(dir[BLKIO], "blkio.throttle.io_serviced_recursive", &stats->io_ops, &stats->io_ops_count);
	}
	return 0;
}
