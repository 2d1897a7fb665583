/*
 * config_check.h - private to the checks of a create or update request. Each returns 0, or -1 with the sentence for the user; what is merely of no
 * effect on this host is a warning and is put to its default.
 */
#pragma once

#include "engine/internal.h"

int config_check(struct gt_engine *engine, struct gt_container_config *config, json_t *warnings, struct gt_error *err);
/* Memory, CPUs, pids, block I/O; also of an update. */
int config_check_resources(struct gt_host_config *host, json_t *warnings, struct gt_error *err);
/* log_config.c: LogConfig, whose default is filled in. */
int config_check_log(struct gt_engine *engine, struct gt_host_config *host, struct gt_error *err);
int config_check_restart(const struct gt_host_config *host, struct gt_error *err);
/* Capabilities, security options, sysctls, devices, namespaces. */
int config_check_security(const struct gt_container_config *config, struct gt_error *err);

/* security_opt, taken apart. Strings are borrowed. */
struct security {
	const char *seccomp;            /* NULL: the default; "unconfined"; or a profile's JSON */
	const char *apparmor;           /* NULL: the default */
	const char *selinux;            /* NULL: none */
	bool no_new_privileges, no_new_privileges_given, systempaths_unconfined;
};
int config_read_security(const struct gt_strings *options, struct security *security, struct gt_error *err);
/* "SYS_ADMIN", "cap_sys_admin" -> "CAP_SYS_ADMIN"; NULL where it is none. "ALL" is itself. */
const char *config_capability(const char *name);
size_t config_capability_count(void);
const char *config_capability_at(size_t i);
/* Of a device node on the host. */
int config_device_number(const char *path, char *type, int64_t *major, int64_t *minor, struct gt_error *err);
/* One of DeviceCgroupRules: "c 1:3 rw", "b 8:* m". */
struct device_rule {
	char type, access[4];
	int64_t major, minor;           /* -1: any */
};
int config_device_rule(const char *text, struct device_rule *rule, struct gt_error *err);
/* Whether a mode like "container:NAME" names a container; NULL or the name. */
const char *config_container_mode(const char *mode);
