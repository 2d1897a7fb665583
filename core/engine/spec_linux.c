/*
 * spec_linux.c - the OCI linux object: namespaces, resources, devices, sysctls, masked paths.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "engine/spec.h"

#define MAX_HOST_DEVICES 1000

/* ---- resources ---- */

static void set_number(json_t *object, const char *name, int64_t value)
{
	if (value)
		json_object_set_new(object, name, json_integer(value));
}

static json_t *memory_of(const struct gt_host_config *host)
{
	json_t *memory = json_object();
	set_number(memory, "limit", host->memory);
	set_number(memory, "reservation", host->memory_reservation);
	set_number(memory, "swap", host->memory_swap);
	if (host->memory_swappiness.set)
		json_object_set_new(memory, "swappiness", json_integer(host->memory_swappiness.value));
	if (host->oom_kill_disable.set && host->oom_kill_disable.value)
		json_object_set_new(memory, "disableOOMKiller", json_true());
	return memory;
}

static json_t *cpu_of(const struct gt_host_config *host)
{
	json_t *cpu = json_object();
	set_number(cpu, "shares", host->cpu_shares);
	set_number(cpu, "period", host->nano_cpus ? 100000 : host->cpu_period);
	set_number(cpu, "quota", host->nano_cpus ? host->nano_cpus / 10000 : host->cpu_quota);
	set_number(cpu, "realtimePeriod", host->cpu_rt_period);
	set_number(cpu, "realtimeRuntime", host->cpu_rt_runtime);
	if (host->cpuset_cpus && host->cpuset_cpus[0])
		json_object_set_new(cpu, "cpus", json_string(host->cpuset_cpus));
	if (host->cpuset_mems && host->cpuset_mems[0])
		json_object_set_new(cpu, "mems", json_string(host->cpuset_mems));
	return cpu;
}

/* [{"Path","Rate"}] -> [{"major","minor","rate"}] */
static int add_devices(json_t *io, const char *name, const json_t *list, const char *from, const char *to, struct gt_error *err)
{
	size_t i;
	json_t *entry;
	if (!json_array_size(list))
		return 0;
	json_t *out = json_array();
	json_object_set_new(io, name, out);
	json_array_foreach(list, i, entry) {
		const char *path = "";
		char type;
		int64_t major_number, minor_number, value = 0;
		if (gt_json_string(entry, "Path", &path, err) < 0 || gt_json_int(entry, from, &value, err) < 0 ||
		    config_device_number(path, &type, &major_number, &minor_number, err) < 0)
			return -1;
		json_array_append_new(out, json_pack("{s:I s:I s:I}", "major", (json_int_t)major_number, "minor", (json_int_t)minor_number, to,
						     (json_int_t)value));
	}
	return 0;
}

static int add_block_io(const struct gt_host_config *host, json_t *resources, struct gt_error *err)
{
	json_t *io = json_object();
	json_object_set_new(resources, "blockIO", io);
	set_number(io, "weight", host->blkio_weight);
	if (add_devices(io, "weightDevice", host->blkio_weight_device, "Weight", "weight", err) < 0 ||
	    add_devices(io, "throttleReadBpsDevice", host->blkio_read_bps, "Rate", "rate", err) < 0 ||
	    add_devices(io, "throttleWriteBpsDevice", host->blkio_write_bps, "Rate", "rate", err) < 0 ||
	    add_devices(io, "throttleReadIOPSDevice", host->blkio_read_iops, "Rate", "rate", err) < 0 ||
	    add_devices(io, "throttleWriteIOPSDevice", host->blkio_write_iops, "Rate", "rate", err) < 0)
		return -1;
	if (!json_object_size(io))
		json_object_del(resources, "blockIO");
	return 0;
}

json_t *gt_spec_resources(const struct gt_container *ctr, struct gt_error *err)
{
	const struct gt_host_config *host = &ctr->config.host;
	json_t *resources = json_pack("{s:o s:o}", "memory", memory_of(host), "cpu", cpu_of(host));
	if (host->pids_limit.set && host->pids_limit.value)
		json_object_set_new(resources, "pids", json_pack("{s:I}", "limit", (json_int_t)(host->pids_limit.value > 0 ? host->pids_limit.value : -1)));
	if (add_block_io(host, resources, err) == 0)
		return resources;
	json_decref(resources);
	return NULL;
}

/* ---- devices ---- */

static void add_rule(json_t *rules, bool allow, const char *type, int64_t major_number, int64_t minor_number, const char *access)
{
	json_t *rule = json_pack("{s:b s:s s:s}", "allow", allow, "type", type, "access", access);
	if (major_number >= 0)
		json_object_set_new(rule, "major", json_integer(major_number));
	if (minor_number >= 0)
		json_object_set_new(rule, "minor", json_integer(minor_number));
	json_array_append_new(rules, rule);
}

static void add_device(json_t *devices, const char *path, const struct stat *info)
{
	const char *type = S_ISBLK(info->st_mode) ? "b" : "c";
	json_array_append_new(devices, json_pack("{s:s s:s s:I s:I s:i s:I s:I}", "path", path, "type", type, "major", (json_int_t)major(info->st_rdev),
						 "minor", (json_int_t)minor(info->st_rdev), "fileMode", (int)(info->st_mode & 0777), "uid",
						 (json_int_t)info->st_uid, "gid", (json_int_t)info->st_gid));
}

/* A privileged container sees every device of the host. */
static void add_host_devices(json_t *devices, const char *dir, int depth)
{
	static const char *const SKIPPED[] = { "pts", "shm", "fd", "mqueue", "console", "ptmx", "null", "zero", "full", "random", "urandom", "tty" };
	DIR *stream = depth < 8 ? opendir(dir) : NULL;
	for (struct dirent *entry; stream && (entry = readdir(stream)) != NULL && json_array_size(devices) < MAX_HOST_DEVICES;) {
		bool skipped = entry->d_name[0] == '.';
		for (size_t i = 0; !skipped && depth == 0 && i < GT_COUNT(SKIPPED); i++)
			skipped = strcmp(entry->d_name, SKIPPED[i]) == 0;
		AUTO_FREE char *path = gt_xasprintf("%s/%s", dir, entry->d_name);
		struct stat info;
		if (skipped || lstat(path, &info) < 0)
			continue;
		if (S_ISDIR(info.st_mode))
			add_host_devices(devices, path, depth + 1);
		else if (S_ISBLK(info.st_mode) || S_ISCHR(info.st_mode))
			add_device(devices, path, &info);
	}
	if (stream)
		closedir(stream);
}

/* One of HostConfig.Devices: a node, or a directory of nodes. */
static int add_wished(const json_t *wish, json_t *devices, json_t *rules, struct gt_error *err)
{
	const char *from = "", *to = NULL, *access = NULL;
	struct stat info;
	if (gt_json_string(wish, "PathOnHost", &from, err) < 0 || gt_json_string(wish, "PathInContainer", &to, err) < 0 ||
	    gt_json_string(wish, "CgroupPermissions", &access, err) < 0)
		return -1;
	to = to && to[0] ? to : from;
	access = access && access[0] ? access : "rwm";
	if (stat(from, &info) < 0)
		return gt_fail(err, GT_INVALID, "error gathering device information while adding custom device \"%.255s\": no such file or directory", from);
	AUTO_JSON json_t *found = json_array();
	if (S_ISDIR(info.st_mode))
		add_host_devices(found, from, 1);
	else if (S_ISBLK(info.st_mode) || S_ISCHR(info.st_mode))
		add_device(found, from, &info);
	else
		return gt_fail(err, GT_INVALID, "error gathering device information while adding custom device \"%.255s\": not a device node", from);
	size_t i;
	json_t *device;
	json_array_foreach(found, i, device) {
		const char *path = json_string_value(json_object_get(device, "path"));
		json_object_set_new(device, "path", json_sprintf("%s%s", to, path + strlen(from)));
		json_array_append(devices, device);
		add_rule(rules, true, json_string_value(json_object_get(device, "type")), json_integer_value(json_object_get(device, "major")),
			 json_integer_value(json_object_get(device, "minor")), access);
	}
	return 0;
}

/* What every container may use: nodes may be made, but only these be opened. */
static void add_default_rules(json_t *rules)
{
	static const struct {
		int major, minor;
	} ALLOWED[] = { { 1, 3 }, { 1, 5 }, { 1, 7 }, { 1, 8 }, { 1, 9 }, { 5, 0 }, { 5, 1 }, { 5, 2 }, { 136, -1 } };
	add_rule(rules, false, "a", -1, -1, "rwm");
	add_rule(rules, true, "c", -1, -1, "m");
	add_rule(rules, true, "b", -1, -1, "m");
	for (size_t i = 0; i < GT_COUNT(ALLOWED); i++)
		add_rule(rules, true, "c", ALLOWED[i].major, ALLOWED[i].minor, "rwm");
}

static int add_all_devices(const struct gt_container *ctr, json_t *devices, json_t *rules, struct gt_error *err)
{
	const struct gt_host_config *host = &ctr->config.host;
	size_t i;
	json_t *wish;
	if (host->privileged) {
		add_rule(rules, true, "a", -1, -1, "rwm");
		add_host_devices(devices, "/dev", 0);
		return 0;
	}
	add_default_rules(rules);
	json_array_foreach(host->devices, i, wish) {
		if (add_wished(wish, devices, rules, err) < 0)
			return -1;
	}
	for (i = 0; i < host->device_cgroup_rules.count; i++) {
		struct device_rule rule;
		if (config_device_rule(host->device_cgroup_rules.items[i], &rule, err) < 0)
			return -1;
		add_rule(rules, true, (char[]){ rule.type, '\0' }, rule.major, rule.minor, rule.access);
	}
	return 0;
}

/* ---- namespaces ---- */

static void add_namespace(json_t *namespaces, const char *type, const char *path)
{
	json_t *entry = json_pack("{s:s}", "type", type);
	if (path)
		json_object_set_new(entry, "path", json_string(path));
	json_array_append_new(namespaces, entry);
}

/* The init of a container whose namespace is to be shared. */
static int find_init(const struct spec_context *context, struct gt_container *other, const char *type, pid_t *pid, struct gt_error *err)
{
	if (context->remap)
		return gt_fail(err, GT_UNSUPPORTED, "the %s namespace of container %s belongs to a user namespace of its own (userns_remap): use --userns=host for both",
			       type, other->name);
	LOCKED(&other->lock);
	if ((other->status != GT_RUNNING && other->status != GT_PAUSED) || !other->pid)
		return gt_fail(err, GT_CONFLICT, "cannot join %s namespace of a non running container: container %s is %s", type, other->name,
			       gt_status_name(other->status));
	*pid = other->pid;
	return 0;
}

int spec_find_ipc(struct spec_context *context, struct gt_error *err)
{
	struct gt_container *ctr = context->ctr;
	const char *name = config_container_mode(ctr->config.host.ipc_mode);
	AUTO_CONTAINER struct gt_container *other = name ? gt_container_get(ctr->engine, name, err) : NULL;
	if (!name)
		return 0;
	if (!other)
		return -1;
	const char *mode = other->config.host.ipc_mode;
	if (strcmp(mode, "private") == 0 || strcmp(mode, "none") == 0)
		return gt_fail(err, GT_CONFLICT, "can't join IPC of container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
			       name);
	return find_init(context, other, "ipc", &context->ipc_pid, err);
}

static void add_shared(json_t *namespaces, const char *type, pid_t pid)
{
	AUTO_FREE char *path = pid ? gt_xasprintf("/proc/%d/ns/%s", pid, type) : NULL;
	add_namespace(namespaces, type, path);
}

static int add_namespaces(const struct spec_context *context, json_t *namespaces, struct gt_error *err)
{
	const char *name = config_container_mode(context->ctr->config.host.pid_mode);
	AUTO_CONTAINER struct gt_container *other = name ? gt_container_get(context->ctr->engine, name, err) : NULL;
	pid_t pid = 0;
	if (name && (!other || find_init(context, other, "pid", &pid, err) < 0))
		return -1;
	add_namespace(namespaces, "mount", NULL);
	if (context->new_pid)
		add_shared(namespaces, "pid", pid);
	if (!context->host_ipc)
		add_shared(namespaces, "ipc", context->ipc_pid);
	if (context->new_uts)
		add_namespace(namespaces, "uts", NULL);
	if (context->new_cgroup)
		add_namespace(namespaces, "cgroup", NULL);
	if (strcmp(context->netns, "host"))
		add_namespace(namespaces, "network", strcmp(context->netns, "new") ? context->netns : NULL);
	if (context->remap)
		add_namespace(namespaces, "user", NULL);
	return 0;
}

static json_t *sysctls_of(const struct spec_context *context)
{
	const json_t *own = context->ctr->config.host.sysctls;
	json_t *sysctls = json_is_object(own) ? json_deep_copy(own) : json_object();
	if (strcmp(context->netns, "new") == 0) { /* as Docker: no capability is needed for low ports and for ping */
		if (!json_object_get(sysctls, "net.ipv4.ip_unprivileged_port_start"))
			json_object_set_new(sysctls, "net.ipv4.ip_unprivileged_port_start", json_string("0"));
		if (!json_object_get(sysctls, "net.ipv4.ping_group_range") && !context->remap)
			json_object_set_new(sysctls, "net.ipv4.ping_group_range", json_string("0 2147483647"));
	}
	return sysctls;
}

json_t *spec_linux(const struct spec_context *context, struct gt_error *err)
{
	const struct gt_container *ctr = context->ctr;
	AUTO_JSON json_t *resources = gt_spec_resources(ctr, err);
	AUTO_JSON json_t *namespaces = json_array();
	AUTO_JSON json_t *devices = json_array();
	AUTO_JSON json_t *rules = json_array();
	if (!resources || add_all_devices(ctr, devices, rules, err) < 0 || add_namespaces(context, namespaces, err) < 0)
		return NULL;
	json_object_set(resources, "devices", rules);
	json_t *part = json_pack("{s:O s:O s:O s:s s:o s:o s:o}", "namespaces", namespaces, "resources", resources, "devices", devices, "cgroupsPath",
				 ctr->cgroup, "sysctl", sysctls_of(context), "maskedPaths", gt_strings_to_json(&ctr->config.host.masked_paths),
				 "readonlyPaths", gt_strings_to_json(&ctr->config.host.readonly_paths));
	if (!part)
		return gt_fail_null(err, GT_INTERNAL, "the linux part of config.json cannot be composed");
	if (context->remap) {
		json_t *map = json_pack("[{s:i s:I s:I}]", "containerID", 0, "hostID", (json_int_t)context->remap_first, "size",
					(json_int_t)context->remap_count);
		json_object_set(part, "uidMappings", map);
		json_object_set_new(part, "gidMappings", map);
	}
	return part;
}
