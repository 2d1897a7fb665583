/*
 * cgroup_v2.c - OCI linux.resources to the control files of cgroup v2, and its figures. The conversions from v1's units are those of the OCI runtime-spec.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cgroup_internal.h"

static int read_number(const json_t *object, const char *name, bool *given, int64_t *value, struct gt_error *err)
{
	const json_t *json = gt_json_get(object, name);
	*given = json && !json_is_null(json);
	return *given ? gt_json_int(object, name, value, err) : 0;
}

/* A number, or "max" for what is not limited. */
static int set_or_max(struct gt_cgroup *cgroup, const char *file, int64_t value, struct gt_error *err)
{
	return value < 0 ? cgroup_set(cgroup, UNIFIED, file, "max", err) : cgroup_set_number(cgroup, UNIFIED, file, value, err);
}

static int apply_memory(struct gt_cgroup *cgroup, const json_t *memory, struct gt_error *err)
{
	int64_t limit = -1, swap = 0, reservation = 0;
	bool has_limit, has_swap, has_reservation, no_killer = false;
	if (read_number(memory, "limit", &has_limit, &limit, err) < 0 || read_number(memory, "swap", &has_swap, &swap, err) < 0 ||
	    read_number(memory, "reservation", &has_reservation, &reservation, err) < 0 ||
	    gt_json_bool(memory, "disableOOMKiller", &no_killer, err) < 0)
		return -1;
	if (no_killer)
		return gt_fail(err, GT_UNSUPPORTED, "cgroup v2 cannot disable the OOM killer");
	if (has_limit && set_or_max(cgroup, "memory.max", limit, err) < 0)
		return -1;
	/* v1 counts memory and swap together, v2 swap alone */
	if (has_swap && swap > 0 && (!has_limit || limit <= 0 || swap < limit))
		return gt_fail(err, GT_INVALID, "Minimum memoryswap limit should be larger than memory limit, see usage");
	if (has_swap && set_or_max(cgroup, "memory.swap.max", swap < 0 ? -1 : swap == 0 ? 0 : swap - limit, err) < 0)
		return -1;
	return has_reservation ? set_or_max(cgroup, "memory.low", reservation, err) : 0;
}

static int apply_bandwidth(struct gt_cgroup *cgroup, const json_t *cpu, struct gt_error *err)
{
	int64_t quota = 0, period = 100000;
	bool has_quota, has_period;
	char text[64];
	if (read_number(cpu, "quota", &has_quota, &quota, err) < 0 || read_number(cpu, "period", &has_period, &period, err) < 0)
		return -1;
	if (!has_quota && !has_period)
		return 0;
	if (has_period && period == 0)
		period = 100000;
	if (quota > 0)
		snprintf(text, sizeof text, "%lld %lld", (long long)quota, (long long)period);
	else
		snprintf(text, sizeof text, "max %lld", (long long)period);
	return cgroup_set(cgroup, UNIFIED, "cpu.max", text, err);
}

static int apply_cpu(struct gt_cgroup *cgroup, const json_t *cpu, struct gt_error *err)
{
	static const char *const REAL_TIME[] = { "realtimePeriod", "realtimeRuntime" };
	const char *cpus = NULL, *mems = NULL;
	int64_t value = 0;
	bool given;
	for (size_t i = 0; i < GT_COUNT(REAL_TIME); i++) {
		if (read_number(cpu, REAL_TIME[i], &given, &value, err) < 0)
			return -1;
		if (given && value)
			return gt_fail(err, GT_UNSUPPORTED, "cgroup v2 has no real-time limits (%s)", REAL_TIME[i]);
	}
	if (read_number(cpu, "shares", &given, &value, err) < 0)
		return -1;
	if (given && value) {
		int64_t shares = value < 2 ? 2 : value > 262144 ? 262144 : value;
		if (cgroup_set_number(cgroup, UNIFIED, "cpu.weight", 1 + (shares - 2) * 9999 / 262142, err) < 0)
			return -1;
	}
	if (apply_bandwidth(cgroup, cpu, err) < 0 || read_number(cpu, "burst", &given, &value, err) < 0 ||
	    (given && cgroup_set_number(cgroup, UNIFIED, "cpu.max.burst", value, err) < 0) ||
	    read_number(cpu, "idle", &given, &value, err) < 0 || (given && cgroup_set_number(cgroup, UNIFIED, "cpu.idle", value, err) < 0) ||
	    gt_json_string(cpu, "cpus", &cpus, err) < 0 || gt_json_string(cpu, "mems", &mems, err) < 0)
		return -1;
	if (cpus && cpus[0] && cgroup_set(cgroup, UNIFIED, "cpuset.cpus", cpus, err) < 0)
		return -1;
	return mems && mems[0] ? cgroup_set(cgroup, UNIFIED, "cpuset.mems", mems, err) : 0;
}

struct io_limit {
	struct gt_cgroup *cgroup;
	const char *file, *key;
};

/* v1's 10-1000 to 1-10000, where BFQ is not there to take it as it is. */
static int64_t io_weight(int64_t weight, bool bfq)
{
	return bfq || weight < 10 ? weight : 1 + (weight - 10) * 9999 / 990;
}

static int set_device(void *arg, int64_t major, int64_t minor, int64_t value, struct gt_error *err)
{
	const struct io_limit *limit = arg;
	char text[96];
	if (!limit->key[0])
		value = io_weight(value, strcmp(limit->file, "io.weight") != 0);
	snprintf(text, sizeof text, "%lld:%lld %s%lld", (long long)major, (long long)minor, limit->key, (long long)value);
	return cgroup_set(limit->cgroup, UNIFIED, limit->file, text, err);
}

static int apply_io(struct gt_cgroup *cgroup, const json_t *io, struct gt_error *err)
{
	static const char *const LISTS[][2] = { { "throttleReadBpsDevice", "rbps=" }, { "throttleWriteBpsDevice", "wbps=" },
						{ "throttleReadIOPSDevice", "riops=" }, { "throttleWriteIOPSDevice", "wiops=" } };
	int64_t weight = 0;
	bool given, bfq = cgroup_file(cgroup, UNIFIED, "io.bfq.weight");
	if (read_number(io, "weight", &given, &weight, err) < 0)
		return -1;
	if (given && weight && cgroup_set_number(cgroup, UNIFIED, bfq ? "io.bfq.weight" : "io.weight", io_weight(weight, bfq), err) < 0)
		return -1;
	struct io_limit weights = { cgroup, bfq ? "io.bfq.weight" : "io.weight", "" };
	if (cgroup_each_device(gt_json_get(io, "weightDevice"), "weight", set_device, &weights, err) < 0)
		return -1;
	for (size_t i = 0; i < GT_COUNT(LISTS); i++) {
		struct io_limit limit = { cgroup, "io.max", LISTS[i][1] };
		if (cgroup_each_device(gt_json_get(io, LISTS[i][0]), "rate", set_device, &limit, err) < 0)
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
		AUTO_FREE char *file = gt_xasprintf("hugetlb.%s.max", size);
		if (cgroup_set_number(cgroup, UNIFIED, file, limit, err) < 0)
			return -1;
	}
	return 0;
}

/* Raw control files by name. */
static int apply_unified(struct gt_cgroup *cgroup, const json_t *unified, struct gt_error *err)
{
	const char *file;
	json_t *value;
	json_object_foreach((json_t *)unified, file, value) {
		if (strchr(file, '/') || strstr(file, "..") || strncmp(file, "cgroup.", 7) == 0 || !json_is_string(value))
			return gt_fail(err, GT_INVALID, "linux.resources.unified: %.64s is not a control file that may be set", file);
		if (cgroup_set(cgroup, UNIFIED, file, json_string_value(value), err) < 0)
			return -1;
	}
	return 0;
}

int cgroup_v2_apply(struct gt_cgroup *cgroup, const json_t *resources, struct gt_error *err)
{
	int64_t limit = 0;
	bool given;
	if (json_object_size(gt_json_get(resources, "network")))
		return gt_fail(err, GT_UNSUPPORTED, "linux.resources.network (class id, priorities) is not supported");
	if (cgroup->dir[UNIFIED] < 0)
		return gt_fail(err, GT_UNSUPPORTED, "this host has no cgroups: limits cannot be set");
	if (apply_memory(cgroup, gt_json_get(resources, "memory"), err) < 0 || apply_cpu(cgroup, gt_json_get(resources, "cpu"), err) < 0 ||
	    read_number(gt_json_get(resources, "pids"), "limit", &given, &limit, err) < 0 ||
	    (given && set_or_max(cgroup, "pids.max", limit > 0 ? limit : -1, err) < 0) ||
	    apply_io(cgroup, gt_json_get(resources, "blockIO"), err) < 0 ||
	    apply_huge_pages(cgroup, gt_json_get(resources, "hugepageLimits"), err) < 0 ||
	    apply_unified(cgroup, gt_json_get(resources, "unified"), err) < 0)
		return -1;
	const json_t *devices = gt_json_get(resources, "devices");
	return json_array_size(devices) ? cgroup_v2_devices(cgroup, devices, err) : 0;
}

/* ---- figures ---- */

/* "max" and what is missing give `fallback`. */
static uint64_t number_of(int dir, const char *file, uint64_t fallback)
{
	AUTO_BUF struct gt_buf text = { 0 };
	if (gt_read_file(dir, file, 4096, &text, NULL) < 0 || !text.data || text.data[0] < '0' || text.data[0] > '9')
		return fallback;
	return strtoull(text.data, NULL, 10);
}

static void add_io(struct gt_cgroup_blkio **list, size_t *count, unsigned long long major, unsigned long long minor, const char *op, uint64_t value)
{
	*list = gt_xrealloc(*list, (*count + 1) * sizeof **list);
	struct gt_cgroup_blkio *entry = &(*list)[(*count)++];
	*entry = (struct gt_cgroup_blkio){ .major = major, .minor = minor, .value = value };
	snprintf(entry->op, sizeof entry->op, "%s", op);
}

/* Lines "MAJOR:MINOR rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6". */
static void read_io(int dir, struct gt_cgroup_stats *stats)
{
	AUTO_BUF struct gt_buf text = { 0 };
	if (gt_read_file(dir, "io.stat", 1 << 20, &text, NULL) < 0 || !text.data)
		return;
	char *rest = text.data;
	for (char *line; (line = strsep(&rest, "\n")) != NULL && stats->io_bytes_count < 1024;) {
		unsigned long long major, minor, v[4];
		if (sscanf(line, "%llu:%llu rbytes=%llu wbytes=%llu rios=%llu wios=%llu", &major, &minor, &v[0], &v[1], &v[2], &v[3]) != 6)
			continue;
		add_io(&stats->io_bytes, &stats->io_bytes_count, major, minor, "read", v[0]);
		add_io(&stats->io_bytes, &stats->io_bytes_count, major, minor, "write", v[1]);
		add_io(&stats->io_ops, &stats->io_ops_count, major, minor, "read", v[2]);
		add_io(&stats->io_ops, &stats->io_ops_count, major, minor, "write", v[3]);
	}
}

int cgroup_v2_stats(struct gt_cgroup *cgroup, struct gt_cgroup_stats *stats, struct gt_error *err)
{
	int dir = cgroup->dir[UNIFIED];
	if (dir < 0)
		return gt_fail(err, GT_UNSUPPORTED, "this host has no cgroups: there are no figures");
	stats->memory_usage = number_of(dir, "memory.current", 0);
	stats->memory_max_usage = number_of(dir, "memory.peak", 0);
	stats->memory_limit = number_of(dir, "memory.max", UINT64_MAX);
	stats->memory_failcnt = cgroup_keyed(dir, "memory.events", "max", 0);
	stats->memory_stat = cgroup_flat_stat(dir, "memory.stat");
	stats->cpu_total = cgroup_keyed(dir, "cpu.stat", "usage_usec", 0) * 1000;
	stats->cpu_user = cgroup_keyed(dir, "cpu.stat", "user_usec", 0) * 1000;
	stats->cpu_system = cgroup_keyed(dir, "cpu.stat", "system_usec", 0) * 1000;
	stats->throttle_periods = cgroup_keyed(dir, "cpu.stat", "nr_periods", 0);
	stats->throttled_periods = cgroup_keyed(dir, "cpu.stat", "nr_throttled", 0);
	stats->throttled_time = cgroup_keyed(dir, "cpu.stat", "throttled_usec", 0) * 1000;
	stats->pids_current = number_of(dir, "pids.current", 0);
	stats->pids_limit = number_of(dir, "pids.max", 0);
	read_io(dir, stats);
	return 0;
}
