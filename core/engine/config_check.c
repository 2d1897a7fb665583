/*
 * config_check.c - a create request against what this engine can do: names, restarts, health. Nothing that is asked for is quietly left out.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cdi.h"
#include "engine/config_check.h"

#define MAX_STRINGS 8192
#define MAX_STRING 131072

static int check_strings(const char *what, const struct gt_strings *list, struct gt_error *err)
{
	if (list->count > MAX_STRINGS)
		return gt_fail(err, GT_TOO_LARGE, "%s has more than %d entries", what, MAX_STRINGS);
	for (size_t i = 0; i < list->count; i++) {
		if (strlen(list->items[i]) > MAX_STRING)
			return gt_fail(err, GT_TOO_LARGE, "%s has an entry of more than %d bytes", what, MAX_STRING);
	}
	return 0;
}

static int check_env(const struct gt_strings *env, struct gt_error *err)
{
	for (size_t i = 0; i < env->count; i++) {
		if (!env->items[i][0] || env->items[i][0] == '=')
			return gt_fail(err, GT_INVALID, "invalid environment variable: %.64s", env->items[i]);
	}
	return check_strings("Env", env, err);
}

/* RFC 1123, as Docker has it. */
static int check_hostname(const char *name, const char *what, struct gt_error *err)
{
	size_t len = name ? strlen(name) : 0;
	if (!len)
		return 0;
	if (len > 63 && strcmp(what, "Hostname") == 0)
		return gt_fail(err, GT_INVALID, "invalid hostname: %.80s... has more than 63 characters", name);
	for (size_t i = 0; i < len; i++) {
		char c = name[i];
		bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
		if (!good || len > 253 || ((c == '-' || c == '.') && i == 0))
			return gt_fail(err, GT_INVALID, "invalid %s: %.253s", strcmp(what, "Hostname") ? "domain name" : "hostname format", name);
	}
	return 0;
}

/* ---- sizes ---- */

/* As Docker reads sizes: a number, maybe with a fraction, then maybe a unit of 1024s: b, k, kb, kib, m ... p. */
int gt_size_parse(const char *text, int64_t *bytes)
{
	static const char UNITS[] = "kmgtp";
	size_t digits = strspn(text, "0123456789"), len = digits;
	if (digits && text[len] == '.')
		len += 1 + strspn(text + len + 1, "0123456789");
	if (!digits || digits > 19 || len > 64)
		return -1;
	AUTO_FREE char *number = gt_xstrndup(text, len);
	const char *rest = text + len + (text[len] == ' ');
	const char *unit = *rest ? strchr(UNITS, *rest | 0x20) : NULL;
	double value = strtod(number, NULL);
	if (unit) {
		value *= (double)(1ll << 10 * (unit - UNITS + 1));
		rest += (rest[1] | 0x20) == 'i' && (rest[2] | 0x20) == 'b' ? 2 : 1;
	}
	if (*rest == 'b' || *rest == 'B')
		rest++;
	if (*rest || value > 9e18)
		return -1;
	*bytes = (int64_t)value;
	return 0;
}

/* ---- restarts and health ---- */

int config_check_restart(const struct gt_host_config *host, struct gt_error *err)
{
	const char *name = "";
	int64_t max = 0;
	if (!host->restart_policy || json_is_null(host->restart_policy))
		return 0;
	if (gt_json_string(host->restart_policy, "Name", &name, err) < 0 || gt_json_int(host->restart_policy, "MaximumRetryCount", &max, err) < 0)
		return -1;
	bool plain = strcmp(name, "always") == 0 || strcmp(name, "unless-stopped") == 0 || strcmp(name, "no") == 0 || !name[0];
	if (plain && max)
		return gt_fail(err, GT_INVALID, "invalid restart policy: maximum retry count can only be used with 'on-failure'");
	if (max < 0)
		return gt_fail(err, GT_INVALID, "invalid restart policy: maximum retry count cannot be negative");
	if (!plain && strcmp(name, "on-failure"))
		return gt_fail(err, GT_INVALID, "invalid restart policy: unknown policy '%.64s'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
			       name);
	return 0;
}

static int check_auto_remove(const struct gt_host_config *host, struct gt_error *err)
{
	const char *name = "";
	gt_json_string(host->restart_policy, "Name", &name, NULL);
	if (host->auto_remove && name[0] && strcmp(name, "no"))
		return gt_fail(err, GT_INVALID, "can't create 'AutoRemove' container with restart policy");
	return 0;
}

static int check_health(const json_t *health, struct gt_error *err)
{
	static const char *const TIMES[] = { "Interval", "Timeout", "StartPeriod", "StartInterval" };
	json_t *test = NULL, *word;
	int64_t retries = 0;
	size_t i;
	if (!health || json_is_null(health))
		return 0;
	if (!json_is_object(health))
		return gt_fail(err, GT_INVALID, "Healthcheck is not an object");
	if (gt_json_array(health, "Test", &test, err) < 0 || gt_json_int(health, "Retries", &retries, err) < 0)
		return -1;
	json_array_foreach(test, i, word) {
		const char *text = json_string_value(word);
		if (!text)
			return gt_fail(err, GT_INVALID, "Healthcheck.Test holds something that is not a string");
		if (i == 0 && text[0] && strcmp(text, "NONE") && strcmp(text, "CMD") && strcmp(text, "CMD-SHELL"))
			return gt_fail(err, GT_INVALID, "Unknown healthcheck type '%.64s' (expected 'CMD')", text);
	}
	for (i = 0; i < GT_COUNT(TIMES); i++) {
		int64_t ns = 0;
		if (gt_json_int(health, TIMES[i], &ns, err) < 0)
			return -1;
		if (ns < 0 || (ns > 0 && ns < GT_MILLISECOND))
			return gt_fail(err, GT_INVALID, "%s in Healthcheck cannot be less than 1ms", TIMES[i]);
	}
	return retries < 0 ? gt_fail(err, GT_INVALID, "Retries in Healthcheck cannot be negative") : 0;
}

/* ---- what is not for Linux, or not offered ---- */

static int check_unsupported(const struct gt_host_config *host, struct gt_error *err)
{
	if (host->isolation && host->isolation[0] && strcmp(host->isolation, "default"))
		return gt_fail(err, GT_INVALID, "invalid isolation '%.32s' on linux", host->isolation);
	if (host->cpu_count || host->cpu_percent)
		return gt_fail(err, GT_INVALID, "CpuCount and CpuPercent are options of Windows containers: use NanoCpus");
	if (host->io_max_iops || host->io_max_bandwidth)
		return gt_fail(err, GT_INVALID, "IOMaximumIOps and IOMaximumBandwidth are options of Windows containers: use BlkioDeviceReadIOps and its like");
	if (host->kernel_memory || host->kernel_memory_tcp)
		return gt_fail(err, GT_UNSUPPORTED, "KernelMemory and KernelMemoryTCP are not supported: kernels account for it within Memory");
	if (host->runtime && host->runtime[0] && strcmp(host->runtime, "gantry") && strcmp(host->runtime, "runc"))
		return gt_fail(err, GT_INVALID, "unknown or invalid runtime name: %.64s", host->runtime);
	if (host->cgroup && host->cgroup[0])
		return gt_fail(err, GT_UNSUPPORTED, "HostConfig.Cgroup (%.64s) is not supported: use CgroupnsMode", host->cgroup);
	if (host->volume_driver && host->volume_driver[0] && !gt_is_name(host->volume_driver))
		return gt_fail(err, GT_INVALID, "VolumeDriver %.64s is not a driver's name", host->volume_driver);
	return 0;
}

static int check_lists(const struct gt_container_config *config, struct gt_error *err)
{
	const struct gt_host_config *host = &config->host;
	const struct {
		const char *what;
		const struct gt_strings *list;
	} LISTS[] = { { "Cmd", &config->cmd },           { "Entrypoint", &config->entrypoint }, { "OnBuild", &config->on_build },
		      { "Shell", &config->shell },       { "Binds", &host->binds },             { "Dns", &host->dns },
		      { "DnsOptions", &host->dns_options }, { "DnsSearch", &host->dns_search }, { "ExtraHosts", &host->extra_hosts },
		      { "GroupAdd", &host->group_add },  { "Links", &host->links },             { "VolumesFrom", &host->volumes_from },
		      { "MaskedPaths", &host->masked_paths }, { "ReadonlyPaths", &host->readonly_paths } };
	for (size_t i = 0; i < GT_COUNT(LISTS); i++) {
		if (check_strings(LISTS[i].what, LISTS[i].list, err) < 0)
			return -1;
	}
	if (gt_json_check_string_map(config->labels, "Labels", MAX_STRINGS, err) < 0 ||
	    gt_json_check_string_map(host->annotations, "Annotations", MAX_STRINGS, err) < 0)
		return -1;
	const char *name;
	json_t *value;
	json_object_foreach(host->annotations, name, value) {
		if (strncmp(name, "org.gantry.", 11) == 0) /* these steer the shim */
			return gt_fail(err, GT_INVALID, "Annotations: %.128s is the engine's own", name);
	}
	return 0;
}

/* NAME:ADDRESS or NAME=ADDRESS, ADDRESS in brackets or not, or host-gateway. */
static int check_extra_hosts(const struct gt_strings *hosts, struct gt_error *err)
{
	for (size_t i = 0; i < hosts->count; i++) {
		const char *entry = hosts->items[i], *colon = entry + strcspn(entry, ":=");
		unsigned char parsed[sizeof(struct in6_addr)];
		if (colon == entry || !*colon || !colon[1] || strpbrk(entry, " \t\n\r"))
			return gt_fail(err, GT_INVALID, "bad format for add-host: \"%.255s\": NAME:ADDRESS is wanted", entry);
		size_t len = strlen(colon + 1);
		bool brackets = colon[1] == '[' && colon[len] == ']';
		AUTO_FREE char *address = gt_xasprintf("%.*s", (int)(len - 2 * brackets), colon + 1 + brackets);
		if (strcmp(address, "host-gateway") != 0 && inet_pton(AF_INET, address, parsed) != 1 && inet_pton(AF_INET6, address, parsed) != 1)
			return gt_fail(err, GT_INVALID, "invalid IP address in add-host: \"%.255s\"", colon + 1);
	}
	return 0;
}

int config_check(struct gt_engine *engine, struct gt_container_config *config, json_t *warnings, struct gt_error *err)
{
	int signo;
	if (check_lists(config, err) < 0 || check_env(&config->env, err) < 0 || check_hostname(config->hostname, "Hostname", err) < 0 ||
	    check_hostname(config->domainname, "Domainname", err) < 0 || check_unsupported(&config->host, err) < 0 ||
	    check_extra_hosts(&config->host.extra_hosts, err) < 0 || config_check_log(engine, &config->host, err) < 0 ||
	    cdi_check(engine, config->host.device_requests, err) < 0 || config_check_restart(&config->host, err) < 0 ||
	    check_auto_remove(&config->host, err) < 0 ||
	    check_health(config->healthcheck, err) < 0 || config_check_resources(&config->host, warnings, err) < 0 ||
	    config_check_security(config, err) < 0)
		return -1;
	if (config->stop_signal && config->stop_signal[0] && gt_signal_parse(config->stop_signal, &signo, err) < 0)
		return -1;
	if (config->working_dir && config->working_dir[0] && config->working_dir[0] != '/')
		return gt_fail(err, GT_INVALID, "the working directory '%.255s' is invalid, it needs to be an absolute path", config->working_dir);
	if (config->host.shm_size < 0)
		return gt_fail(err, GT_INVALID, "SHM size can not be less than 0");
	if (config->host.oom_score_adj < -1000 || config->host.oom_score_adj > 1000)
		return gt_fail(err, GT_INVALID, "Invalid value %lld, range for oom score adj is [-1000, 1000]", (long long)config->host.oom_score_adj);
	return 0;
}
