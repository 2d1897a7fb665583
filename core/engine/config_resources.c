/*
 * config_resources.c - limits of a container, as Docker checks them, against what this host's cgroups can do.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/config_check.h"
#include "runtime/cgroup.h"

#define MIN_MEMORY (6 * 1024 * 1024)

static void warn(json_t *warnings, const char *text)
{
	if (warnings)
		json_array_append_new(warnings, json_string(text));
}

static int check_memory(struct gt_host_config *host, json_t *warnings, struct gt_error *err)
{
	if (host->memory < 0 || host->memory_reservation < 0)
		return gt_fail(err, GT_INVALID, "invalid memory limit: it cannot be negative");
	if (host->memory && host->memory < MIN_MEMORY)
		return gt_fail(err, GT_INVALID, "Minimum memory limit allowed is 6MB");
	if (host->memory && !gt_cgroup_has("memory")) {
		warn(warnings, "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.");
		host->memory = host->memory_swap = 0;
	}
	if (host->memory_swap && host->memory_swap != -1 && !host->memory)
		return gt_fail(err, GT_INVALID, "You should always set the Memory limit when using Memoryswap limit, see usage");
	if (host->memory_swap > 0 && host->memory_swap < host->memory)
		return gt_fail(err, GT_INVALID, "Minimum memoryswap limit should be larger than memory limit, see usage");
	if (host->memory && !gt_cgroup_has("swap")) {
		if (host->memory_swap > 0)
			warn(warnings, "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.");
		host->memory_swap = -1;
	}
	if (host->memory_reservation && host->memory_reservation < MIN_MEMORY)
		return gt_fail(err, GT_INVALID, "Minimum memory reservation allowed is 6MB");
	if (host->memory && host->memory_reservation > host->memory)
		return gt_fail(err, GT_INVALID, "Minimum memory limit can not be less than memory reservation limit, see usage");
	if (host->memory_swappiness.set && host->memory_swappiness.value == -1)
		host->memory_swappiness.set = false;
	if (host->memory_swappiness.set && (host->memory_swappiness.value < 0 || host->memory_swappiness.value > 100))
		return gt_fail(err, GT_INVALID, "Invalid value: %lld, valid memory swappiness range is 0-100", (long long)host->memory_swappiness.value);
	if (gt_cgroup_world() == GT_CGROUP_V2 && (host->memory_swappiness.set || (host->oom_kill_disable.set && host->oom_kill_disable.value))) {
		warn(warnings, "Your kernel does not support memory swappiness or OomKillDisable with cgroup v2: discarded.");
		host->memory_swappiness.set = host->oom_kill_disable.set = false;
	}
	if (host->oom_kill_disable.set && host->oom_kill_disable.value && !host->memory)
		warn(warnings, "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.");
	return 0;
}

static int check_cpu(const struct gt_host_config *host, struct gt_error *err)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	if (host->nano_cpus && (host->cpu_period || host->cpu_quota))
		return gt_fail(err, GT_INVALID, "Conflicting options: Nano CPUs and CPU %s cannot both be set.", host->cpu_period ? "Period" : "Quota");
	if (host->nano_cpus < 0 || host->nano_cpus > cpus * GT_SECOND)
		return gt_fail(err, GT_INVALID, "range of CPUs is from 0.01 to %ld.00, as there are only %ld CPUs available", cpus, cpus);
	if (host->cpu_period && (host->cpu_period < 1000 || host->cpu_period > 1000000))
		return gt_fail(err, GT_INVALID, "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
	if (host->cpu_quota > 0 && host->cpu_quota < 1000)
		return gt_fail(err, GT_INVALID, "CPU cfs quota can not be less than 1ms (i.e. 1000)");
	if (host->cpu_shares < 0)
		return gt_fail(err, GT_INVALID, "invalid CPU shares (%lld): value must be a positive integer", (long long)host->cpu_shares);
	if ((host->nano_cpus || host->cpu_period || host->cpu_quota || host->cpu_shares) && !gt_cgroup_has("cpu"))
		return gt_fail(err, GT_INVALID, "this host has no cpu controller: limits of CPU time cannot be set");
	if ((host->cpu_rt_period || host->cpu_rt_runtime) && (gt_cgroup_world() == GT_CGROUP_V2 || access("/sys/fs/cgroup/cpu/cpu.rt_runtime_us", F_OK) < 0))
		return gt_fail(err, GT_INVALID, "your kernel does not support CPU real-time scheduler limits");
	if (host->cpu_rt_period && host->cpu_rt_runtime > host->cpu_rt_period)
		return gt_fail(err, GT_INVALID, "cpu real-time runtime cannot be higher than cpu real-time period");
	return 0;
}

/* "0-3,5" within what the host has. */
static int check_list(const char *name, const char *what, const char *text, long available, struct gt_error *err)
{
	for (const char *p = text; p && *p;) {
		char *end;
		long from = strtol(p, &end, 10), to = from;
		bool good = end != p && from >= 0;
		if (good && *end == '-') {
			p = end + 1;
			to = strtol(p, &end, 10);
			good = end != p && to >= from;
		}
		if (!good || (*end && *end != ',') || (*end == ',' && !end[1]))
			return gt_fail(err, GT_INVALID, "Invalid value %.64s for %s", text, name);
		if (to >= available)
			return gt_fail(err, GT_INVALID, "Requested %s are not available - requested %.64s, available: 0-%ld", what, text, available - 1);
		p = *end ? end + 1 : end;
	}
	return 0;
}

static int check_block_io(struct gt_host_config *host, struct gt_error *err)
{
	if (host->blkio_weight && (host->blkio_weight < 10 || host->blkio_weight > 1000))
		return gt_fail(err, GT_INVALID, "Range of blkio weight is from 10 to 1000");
	const struct {
		const char *name;
		const json_t *list;
	} LISTS[] = { { "BlkioWeightDevice", host->blkio_weight_device },
		      { "BlkioDeviceReadBps", host->blkio_read_bps },
		      { "BlkioDeviceWriteBps", host->blkio_write_bps },
		      { "BlkioDeviceReadIOps", host->blkio_read_iops },
		      { "BlkioDeviceWriteIOps", host->blkio_write_iops } };
	for (size_t l = 0; l < GT_COUNT(LISTS); l++) {
		size_t i;
		json_t *entry;
		if (LISTS[l].list && !json_is_null(LISTS[l].list) && !json_is_array(LISTS[l].list))
			return gt_fail(err, GT_INVALID, "%s is not a list", LISTS[l].name);
		json_array_foreach(LISTS[l].list, i, entry) {
			const char *path = NULL;
			char type;
			int64_t major, minor, value = 0;
			if (gt_json_string(entry, "Path", &path, err) < 0 || gt_json_int(entry, l ? "Rate" : "Weight", &value, err) < 0)
				return -1;
			if (!path || config_device_number(path, &type, &major, &minor, err) < 0)
				return path ? -1 : gt_fail(err, GT_INVALID, "%s: an entry has no Path", LISTS[l].name);
			if (type != 'b' || value < 0)
				return gt_fail(err, GT_INVALID, "%s: %.255s is not a block device, or its value is negative", LISTS[l].name, path);
		}
	}
	return 0;
}

static int check_ulimits(const json_t *list, struct gt_error *err)
{
	if (list && !json_is_null(list) && !json_is_array(list))
		return gt_fail(err, GT_INVALID, "Ulimits is not a list");
	size_t i;
	json_t *entry;
	json_array_foreach(list, i, entry) {
		const char *name = NULL;
		int64_t soft = 0, hard = 0;
		if (gt_json_string(entry, "Name", &name, err) < 0 || gt_json_int(entry, "Soft", &soft, err) < 0 || gt_json_int(entry, "Hard", &hard, err) < 0)
			return -1;
		if (!name || !gt_ulimit_known(name))
			return gt_fail(err, GT_INVALID, "invalid ulimit type: %.32s", name ? name : "");
		if (hard != -1 && (soft == -1 || soft > hard))
			return gt_fail(err, GT_INVALID, "ulimit %s: soft limit must be less than or equal to hard limit: %lld > %lld", name, (long long)soft,
				       (long long)hard);
	}
	return 0;
}

int config_check_resources(struct gt_host_config *host, json_t *warnings, struct gt_error *err)
{
	if (check_memory(host, warnings, err) < 0 || check_cpu(host, err) < 0 ||
	    check_list("cpuset cpus", "CPUs", host->cpuset_cpus, sysconf(_SC_NPROCESSORS_CONF), err) < 0 ||
	    check_list("cpuset mems", "memory nodes", host->cpuset_mems, 1024, err) < 0 || check_block_io(host, err) < 0 || check_ulimits(host->ulimits, err) < 0)
		return -1;
	if (host->pids_limit.set && host->pids_limit.value > 0 && !gt_cgroup_has("pids")) {
		warn(warnings, "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.");
		host->pids_limit.set = false;
	}
	return 0;
}
