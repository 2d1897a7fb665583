/*
 * container_config.c - the tables of Docker's ContainerConfig and HostConfig, and an image's configuration merged into a container's.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/config_check.h"

#define C(type, member, name) GT_JSON_FIELD(GT_JSON_##type, struct gt_container_config, member, name)
#define H(type, member, name) GT_JSON_FIELD(GT_JSON_##type, struct gt_host_config, member, name)
#define C_OPTIONAL(type, member, name) GT_JSON_OPTIONAL(GT_JSON_##type, struct gt_container_config, member, name)
#define H_OPTIONAL(type, member, name) GT_JSON_OPTIONAL(GT_JSON_##type, struct gt_host_config, member, name)

const struct gt_json_field gt_container_config_fields[] = {
	C(STRING, hostname, "Hostname"),
	C(STRING, domainname, "Domainname"),
	C(STRING, user, "User"),
	C(BOOL, attach_stdin, "AttachStdin"),
	C(BOOL, attach_stdout, "AttachStdout"),
	C(BOOL, attach_stderr, "AttachStderr"),
	C_OPTIONAL(RAW, exposed_ports, "ExposedPorts"),
	C(BOOL, tty, "Tty"),
	C(BOOL, open_stdin, "OpenStdin"),
	C(BOOL, stdin_once, "StdinOnce"),
	C(STRINGS, env, "Env"),
	C(STRING_OR_LIST, cmd, "Cmd"),
	C_OPTIONAL(RAW, healthcheck, "Healthcheck"),
	C_OPTIONAL(BOOL, args_escaped, "ArgsEscaped"),
	C(STRING, image, "Image"),
	C(RAW, volumes, "Volumes"),
	C(STRING, working_dir, "WorkingDir"),
	C(STRING_OR_LIST, entrypoint, "Entrypoint"),
	C_OPTIONAL(BOOL, network_disabled, "NetworkDisabled"),
	C_OPTIONAL(STRING, mac_address, "MacAddress"),
	C(STRINGS, on_build, "OnBuild"),
	C(RAW, labels, "Labels"),
	C_OPTIONAL(STRING, stop_signal, "StopSignal"),
	C_OPTIONAL(OPT_INT, stop_timeout, "StopTimeout"),
	C_OPTIONAL(STRINGS, shell, "Shell"),
	{ .name = NULL },
};

const struct gt_json_field gt_host_config_fields[] = {
	H(STRINGS, binds, "Binds"),
	H(STRING, container_id_file, "ContainerIDFile"),
	H(RAW, log_config, "LogConfig"),
	H(STRING, network_mode, "NetworkMode"),
	H(RAW, port_bindings, "PortBindings"),
	H(RAW, restart_policy, "RestartPolicy"),
	H(BOOL, auto_remove, "AutoRemove"),
	H(STRING, volume_driver, "VolumeDriver"),
	H(STRINGS, volumes_from, "VolumesFrom"),
	H(RAW, console_size, "ConsoleSize"),
	H_OPTIONAL(RAW, annotations, "Annotations"),
	H(STRINGS, cap_add, "CapAdd"),
	H(STRINGS, cap_drop, "CapDrop"),
	H(STRING, cgroupns_mode, "CgroupnsMode"),
	H(STRINGS, dns, "Dns"),
	H(STRINGS, dns_options, "DnsOptions"),
	H(STRINGS, dns_search, "DnsSearch"),
	H(STRINGS, extra_hosts, "ExtraHosts"),
	H(STRINGS, group_add, "GroupAdd"),
	H(STRING, ipc_mode, "IpcMode"),
	H(STRING, cgroup, "Cgroup"),
	H(STRINGS, links, "Links"),
	H(INT, oom_score_adj, "OomScoreAdj"),
	H(STRING, pid_mode, "PidMode"),
	H(BOOL, privileged, "Privileged"),
	H(BOOL, publish_all_ports, "PublishAllPorts"),
	H(BOOL, readonly_rootfs, "ReadonlyRootfs"),
	H(STRINGS, security_opt, "SecurityOpt"),
	H_OPTIONAL(RAW, storage_opt, "StorageOpt"),
	H_OPTIONAL(RAW, tmpfs, "Tmpfs"),
	H(STRING, uts_mode, "UTSMode"),
	H(STRING, userns_mode, "UsernsMode"),
	H(INT, shm_size, "ShmSize"),
	H_OPTIONAL(RAW, sysctls, "Sysctls"),
	H(STRING, runtime, "Runtime"),
	H(STRING, isolation, "Isolation"),
	H(INT, cpu_shares, "CpuShares"),
	H(INT, memory, "Memory"),
	H(INT, nano_cpus, "NanoCpus"),
	H(STRING, cgroup_parent, "CgroupParent"),
	H(INT, blkio_weight, "BlkioWeight"),
	H(RAW, blkio_weight_device, "BlkioWeightDevice"),
	H(RAW, blkio_read_bps, "BlkioDeviceReadBps"),
	H(RAW, blkio_write_bps, "BlkioDeviceWriteBps"),
	H(RAW, blkio_read_iops, "BlkioDeviceReadIOps"),
	H(RAW, blkio_write_iops, "BlkioDeviceWriteIOps"),
	H(INT, cpu_period, "CpuPeriod"),
	H(INT, cpu_quota, "CpuQuota"),
	H(INT, cpu_rt_period, "CpuRealtimePeriod"),
	H(INT, cpu_rt_runtime, "CpuRealtimeRuntime"),
	H(STRING, cpuset_cpus, "CpusetCpus"),
	H(STRING, cpuset_mems, "CpusetMems"),
	H(RAW, devices, "Devices"),
	H(STRINGS, device_cgroup_rules, "DeviceCgroupRules"),
	H(RAW, device_requests, "DeviceRequests"),
	H(INT, kernel_memory, "KernelMemory"),
	H(INT, kernel_memory_tcp, "KernelMemoryTCP"),
	H(INT, memory_reservation, "MemoryReservation"),
	H(INT, memory_swap, "MemorySwap"),
	H(OPT_INT, memory_swappiness, "MemorySwappiness"),
	H(OPT_BOOL, oom_kill_disable, "OomKillDisable"),
	H(OPT_INT, pids_limit, "PidsLimit"),
	H(RAW, ulimits, "Ulimits"),
	H(INT, cpu_count, "CpuCount"),
	H(INT, cpu_percent, "CpuPercent"),
	H(INT, io_max_iops, "IOMaximumIOps"),
	H(INT, io_max_bandwidth, "IOMaximumBandwidth"),
	H_OPTIONAL(RAW, mounts, "Mounts"),
	H(STRINGS, masked_paths, "MaskedPaths"),
	H(STRINGS, readonly_paths, "ReadonlyPaths"),
	H_OPTIONAL(OPT_BOOL, init, "Init"),
	{ .name = NULL },
};

void gt_container_config_release(struct gt_container_config *config)
{
	gt_json_release(gt_container_config_fields, config);
	gt_json_release(gt_host_config_fields, &config->host);
}

int gt_container_config_read(struct gt_engine *engine, const json_t *body, struct gt_container_config *config, json_t *warnings,
			     struct gt_error *err)
{
	json_t *host = NULL;
	if (!json_is_object(body))
		return gt_fail(err, GT_INVALID, "the request's body is not a container's configuration (a JSON object)");
	if (gt_json_object(body, "HostConfig", &host, err) < 0 || gt_json_decode(body, gt_container_config_fields, config, err) < 0 ||
	    (host && gt_json_decode(host, gt_host_config_fields, &config->host, err) < 0))
		return -1;
	return config_check(engine, config, warnings, err);
}

/* ---- the image's part ---- */

static bool has_variable(const struct gt_strings *env, const char *variable)
{
	size_t len = strcspn(variable, "=");
	for (size_t i = 0; i < env->count; i++) {
		if (strncmp(env->items[i], variable, len) == 0 && (env->items[i][len] == '=' || !env->items[i][len]))
			return true;
	}
	return false;
}

/* The user's variables, then those of the image that the user's do not name. One without "=" takes the image's away. */
static void merge_env(struct gt_strings *env, const struct gt_strings *image)
{
	struct gt_strings merged = { .set = true };
	for (size_t i = 0; i < env->count; i++) {
		if (strchr(env->items[i], '='))
			gt_strings_add(&merged, env->items[i]);
	}
	for (size_t i = 0; i < image->count; i++) {
		if (!has_variable(env, image->items[i]))
			gt_strings_add(&merged, image->items[i]);
	}
	gt_strings_free(env);
	*env = merged;
}

static void merge_object(json_t **own, const json_t *image)
{
	if (!json_is_object(image) || !json_object_size(image))
		return;
	if (!json_is_object(*own)) {
		json_decref(*own);
		*own = json_object();
	}
	json_object_update_missing(*own, (json_t *)image);
}

static void merge_string(char **own, const char *image)
{
	if ((*own && **own) || !image)
		return;
	free(*own);
	*own = gt_xstrdup(image);
}

/* A test of ["NONE"] is the user's; missing members come from the image. */
static void merge_health(json_t **own, const json_t *image)
{
	if (!json_is_object(image))
		return;
	if (!json_is_object(*own)) {
		json_decref(*own);
		*own = json_deep_copy(image);
		return;
	}
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)image, key, value) {
		json_t *mine = json_object_get(*own, key);
		bool empty = !mine || json_is_null(mine) || (json_is_integer(mine) && !json_integer_value(mine)) ||
			     (json_is_array(mine) && !json_array_size(mine));
		if (empty)
			json_object_set(*own, key, value);
	}
}

void gt_container_config_merge(struct gt_container_config *config, const struct gt_image_config *image)
{
	merge_env(&config->env, &image->env);
	bool own_entrypoint = config->entrypoint.count > 0;
	if (!config->cmd.count && !own_entrypoint) {
		gt_strings_copy(&config->cmd, &image->cmd);
		config->args_escaped = image->args_escaped;
	}
	if (!config->entrypoint.set) /* [] is a wish as well: none */
		gt_strings_copy(&config->entrypoint, &image->entrypoint);
	else if (config->entrypoint.count == 1 && !config->entrypoint.items[0][0]) /* so is [""], as the CLI sends it */
		gt_strings_free(&config->entrypoint);
	merge_string(&config->user, image->user);
	merge_string(&config->working_dir, image->working_dir);
	merge_string(&config->stop_signal, image->stop_signal);
	if (!config->shell.count && image->shell.count)
		gt_strings_copy(&config->shell, &image->shell);
	merge_object(&config->exposed_ports, image->exposed_ports);
	merge_object(&config->volumes, image->volumes);
	merge_object(&config->labels, image->labels);
	if (!json_is_object(config->labels)) {
		json_decref(config->labels);
		config->labels = json_object();
	}
	merge_health(&config->healthcheck, image->healthcheck);
}
