/*
 * update.c - POST /containers/{id}/update: limits and the restart policy of a container, living or not.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/config_check.h"
#include "runtime/cgroup.h"

/* What may be changed; everything else in the body is refused by name. */
static const char *const CHANGEABLE[] = { "CpuShares",         "Memory",            "CgroupParent",      "BlkioWeight",   "BlkioWeightDevice",    "BlkioDeviceReadBps",
					  "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps", "CpuPeriod", "CpuQuota",          "CpuRealtimePeriod",
					  "CpuRealtimeRuntime", "CpusetCpus",       "CpusetMems",        "Devices",       "DeviceCgroupRules",    "DeviceRequests",
					  "KernelMemory",      "KernelMemoryTCP",   "MemoryReservation", "MemorySwap",    "MemorySwappiness",     "NanoCpus",
					  "OomKillDisable",    "Init",              "PidsLimit",         "Ulimits",       "CpuCount",             "CpuPercent",
					  "IOMaximumIOps",     "IOMaximumBandwidth", "RestartPolicy",    "NanoCPUs" };
/* Of these, those that have no effect on a living container, or none here. */
static const char *const FIXED[] = { "CgroupParent", "Devices", "DeviceCgroupRules", "DeviceRequests", "KernelMemory", "KernelMemoryTCP", "OomKillDisable", "Init",
				     "Ulimits",      "CpuCount", "CpuPercent",       "IOMaximumIOps", "IOMaximumBandwidth" };

static bool in_list(const char *const *list, size_t count, const char *word)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(list[i], word) == 0)
			return true;
	}
	return false;
}

static bool is_zero(const json_t *value)
{
	return json_is_null(value) || json_is_false(value) || (json_is_integer(value) && json_integer_value(value) == 0) ||
	       (json_is_string(value) && !json_string_length(value)) || (json_is_array(value) && !json_array_size(value)) ||
	       (json_is_object(value) && !json_object_size(value));
}

/* Clients send every field; zero means "as it is". */
static json_t *wished(const json_t *body, struct gt_error *err)
{
	json_t *wish = json_object(), *value;
	const char *key;
	json_object_foreach((json_t *)body, key, value) {
		if (is_zero(value))
			continue;
		bool known = in_list(CHANGEABLE, GT_COUNT(CHANGEABLE), key);
		if (!known || in_list(FIXED, GT_COUNT(FIXED), key)) {
			json_decref(wish);
			return gt_fail_null(err, GT_INVALID, "%.64s cannot be changed by an update", key);
		}
		if (strcmp(key, "RestartPolicy") == 0 && !json_string_length(gt_json_get(value, "Name")))
			continue;
		json_object_set(wish, key, value);
	}
	return wish;
}

/* A copy of the host configuration with the wishes in it. */
static int changed_host(const struct gt_container *ctr, const json_t *wish, struct gt_host_config *host, json_t *warnings, struct gt_error *err)
{
	AUTO_JSON json_t *now = gt_json_encode(gt_host_config_fields, &ctr->config.host);
	const char *name = "";
	json_object_update(now, (json_t *)wish);
	if (json_object_get(wish, "NanoCpus") && ctr->config.host.cpu_quota)
		return gt_fail(err, GT_CONFLICT, "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set");
	if (json_object_get(wish, "CpuQuota") && ctr->config.host.nano_cpus)
		return gt_fail(err, GT_CONFLICT, "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set");
	if (gt_json_decode(now, gt_host_config_fields, host, err) < 0 || config_check_resources(host, warnings, err) < 0 ||
	    config_check_restart(host, err) < 0)
		return -1;
	gt_json_string(host->restart_policy, "Name", &name, NULL);
	if (host->auto_remove && name[0] && strcmp(name, "no"))
		return gt_fail(err, GT_INVALID, "Restart policy cannot be updated because AutoRemove is enabled for the container");
	return 0;
}

int gt_update_apply(struct gt_container *ctr, struct gt_error *err)
{
	struct gt_cgroup *cgroup = NULL;
	AUTO_JSON json_t *resources = gt_spec_resources(ctr, err);
	if (!resources || gt_cgroup_open(ctr->cgroup, &cgroup, err) < 0)
		return -1;
	int rc = gt_cgroup_update(cgroup, resources, err);
	gt_cgroup_free(cgroup);
	return rc;
}

static void swap_host(struct gt_container *ctr, struct gt_host_config *host)
{
	LOCKED(&ctr->lock);
	struct gt_host_config old = ctr->config.host;
	ctr->config.host = *host;
	*host = old;
}

/* Stored first, so that after a crash there is something to be put in force. */
static int save_and_apply(struct gt_container *ctr, struct gt_error *err)
{
	if (!gt_container_is_running(ctr))
		return gt_container_save(ctr, err);
	if (gt_container_unsettle(ctr, err) < 0 || gt_container_save(ctr, err) < 0)
		return -1;
	if (gt_update_apply(ctr, err) < 0 && !gt_exit_await(ctr, GT_ENDING)) /* one that has ended meanwhile gets its limits at the next start */
		return -1;
	return gt_container_settle(ctr, err);
}

static void take_back(struct gt_container *ctr, struct gt_host_config *host)
{
	struct gt_error err = { 0 };
	swap_host(ctr, host);
	ctr->unsettled = false; /* the cgroup has put its old values back */
	if (gt_container_save(ctr, &err) < 0)
		gt_warn("a failed update of a container could not be taken back", "id", ctr->id, "error", err.message);
}

json_t *gt_container_update(struct gt_engine *engine, const char *ref, const json_t *body, struct gt_error *err)
{
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, ref, err);
	AUTO_JSON json_t *wish = ctr ? wished(body, err) : NULL;
	if (!wish)
		return NULL;
	AUTO_JSON json_t *warnings = json_array();
	struct gt_host_config host = { 0 };
	LOCKED(&ctr->op);
	gt_exit_settle(ctr);
	int rc = -1;
	if (ctr->removed || ctr->status == GT_REMOVING || ctr->status == GT_DEAD)
		gt_fail(err, GT_CONFLICT, "Container is marked for removal and cannot be \"update\".");
	else
		rc = changed_host(ctr, wish, &host, warnings, err);
	if (rc == 0) {
		swap_host(ctr, &host);
		rc = save_and_apply(ctr, err);
		if (rc < 0)
			take_back(ctr, &host);
	}
	gt_json_release(gt_host_config_fields, &host);
	if (rc < 0) {
		gt_context(err, "Cannot update container %s", ref);
		return NULL;
	}
	gt_container_event(ctr, "update", NULL);
	return json_pack("{s:O}", "Warnings", warnings);
}
