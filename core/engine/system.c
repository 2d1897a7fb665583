/*
 * system.c - GET /info and /version: this engine and the host it runs on. Values are read when asked.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "doctor/doctor.h"
#include "engine/apparmor.h"
#include "engine/internal.h"
#include "runtime/cgroup.h"

#define API_VERSION "1.50"
#define MIN_API_VERSION "1.24"

static const char *docker_arch(const char *machine)
{
	static const char *const NAMES[][2] = { { "x86_64", "amd64" }, { "aarch64", "arm64" }, { "armv7l", "arm" }, { "i686", "386" } };
	for (size_t i = 0; i < GT_COUNT(NAMES); i++) {
		if (strcmp(machine, NAMES[i][0]) == 0)
			return NAMES[i][1];
	}
	return machine;
}

/* The value of a key of /etc/os-release without quotes; "" where absent. The caller's. */
static char *os_release(const char *key)
{
	AUTO_BUF struct gt_buf text = { 0 };
	if (gt_read_file(AT_FDCWD, "/etc/os-release", 65536, &text, NULL) < 0 || !text.data)
		return gt_xstrdup("");
	size_t key_len = strlen(key);
	char *rest = text.data;
	for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
		if (strncmp(line, key, key_len) || line[key_len] != '=')
			continue;
		char *value = line + key_len + 1;
		size_t len = strlen(value);
		if (len >= 2 && (value[0] == '"' || value[0] == '\'') && value[len - 1] == value[0])
			return gt_xstrndup(value + 1, len - 2);
		return gt_xstrdup(value);
	}
	return gt_xstrdup("");
}

static size_t count_fds(void)
{
	size_t count = 0;
	for (int fd = 0; fd < 65536; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void add_counts(struct gt_engine *engine, json_t *info)
{
	size_t total, running = 0, paused = 0;
	struct gt_container **all = gt_containers_all(engine, &total);
	for (size_t i = 0; i < total; i++) {
		LOCKED(&all[i]->lock);
		running += all[i]->status == GT_RUNNING || all[i]->status == GT_RESTARTING;
		paused += all[i]->status == GT_PAUSED;
	}
	gt_containers_put(all);
	json_object_update_new(info, json_pack("{s:I s:I s:I s:I s:I}", "Containers", (json_int_t)total, "ContainersRunning", (json_int_t)running,
					       "ContainersPaused", (json_int_t)paused, "ContainersStopped",
					       (json_int_t)(total - running - paused), "Images", (json_int_t)gt_images_count(engine->images)));
}

static bool is_on(const char *path)
{
	int64_t value = 0;
	return gt_read_number(AT_FDCWD, path, &value, NULL) == 0 && value > 0;
}

/* What the kernel offers, and a warning for each thing it does not. */
static void add_abilities(json_t *info)
{
	static const struct {
		const char *field, *resource, *warning;
	} ABILITIES[] = {
		{ "MemoryLimit", "memory", "WARNING: No memory limit support" },
		{ "SwapLimit", "swap", "WARNING: No swap limit support" },
		{ "CpuCfsPeriod", "cpu", "WARNING: No cpu cfs period support" },
		{ "CpuCfsQuota", "cpu", "WARNING: No cpu cfs quota support" },
		{ "CPUShares", "cpu", "WARNING: No cpu shares support" },
		{ "CPUSet", "cpuset", "WARNING: No cpuset support" },
		{ "PidsLimit", "pids", "WARNING: No pids limit support" },
		{ NULL, "blkio", "WARNING: No blkio limit support" },
	};
	json_t *warnings = json_array();
	for (size_t i = 0; i < GT_COUNT(ABILITIES); i++) {
		bool has = gt_cgroup_has(ABILITIES[i].resource);
		if (ABILITIES[i].field)
			json_object_set_new(info, ABILITIES[i].field, json_boolean(has));
		if (!has)
			json_array_append_new(warnings, json_string(ABILITIES[i].warning));
	}
	bool forwarding = is_on("/proc/sys/net/ipv4/ip_forward");
	if (!forwarding)
		json_array_append_new(warnings, json_string("WARNING: IPv4 forwarding is disabled"));
	json_object_set_new(info, "IPv4Forwarding", json_boolean(forwarding));
	json_object_set_new(info, "OomKillDisable", json_boolean(gt_cgroup_world() != GT_CGROUP_V2 && gt_cgroup_has("memory")));
	json_object_set_new(info, "KernelMemoryTCP", json_false());
	json_object_set_new(info, "Warnings", warnings);
}

static json_t *security_options(const struct gt_config *config)
{
	json_t *options = json_array();
	if (gt_apparmor_on())
		json_array_append_new(options, json_string("name=apparmor"));
	bool own_profile = config->seccomp_profile && config->seccomp_profile[0];
	json_array_append_new(options, json_sprintf("name=seccomp,profile=%s", own_profile ? config->seccomp_profile : "builtin"));
	if (config->userns_remap && config->userns_remap[0])
		json_array_append_new(options, json_string("name=userns"));
	if (gt_cgroup_world() == GT_CGROUP_V2)
		json_array_append_new(options, json_string("name=cgroupns"));
	if (config->no_new_privileges)
		json_array_append_new(options, json_string("name=no-new-privileges"));
	return options;
}

static void add_host(struct gt_engine *engine, json_t *info)
{
	struct utsname uts;
	struct sysinfo memory;
	char now[36];
	uname(&uts);
	sysinfo(&memory);
	gt_time_format(gt_now(), now);
	AUTO_FREE char *pretty = os_release("PRETTY_NAME");
	AUTO_FREE char *version = os_release("VERSION_ID");
	json_object_update_new(
		info, json_pack("{s:s s:s s:s s:s s:s s:s s:s s:i s:I s:I s:s s:i s:i}", "ID", engine->engine_id, "Name", uts.nodename,
				"KernelVersion", uts.release, "OperatingSystem", pretty, "OSVersion", version, "OSType", "linux", "Architecture",
				uts.machine, "NCPU", (int)sysconf(_SC_NPROCESSORS_ONLN), "MemTotal",
				(json_int_t)memory.totalram * (json_int_t)memory.mem_unit, "NFd", (json_int_t)count_fds(), "SystemTime", now,
				"NGoroutines", 0, "NEventsListener", gt_events_listeners(engine)));
}

static json_t *address_pools(const struct gt_config *config)
{
	json_t *pools = json_array();
	for (size_t i = 0; i < config->address_pools.count; i++) {
		char base[64];
		unsigned size;
		if (sscanf(config->address_pools.items[i], "%63s size %u", base, &size) == 2)
			json_array_append_new(pools, json_pack("{s:s s:i}", "Base", base, "Size", (int)size));
	}
	return pools;
}

static void add_settings(struct gt_engine *engine, const struct gt_config *config, json_t *info)
{
	json_object_update_new(
		info, json_pack("{s:s s:[] s:s s:{s:o s:o s:n s:[sssss]} s:s s:s s:s s:b s:o s:s s:b}", "Driver",
				gt_driver_name(gt_images_storage(engine->images)), "DriverStatus", "DockerRootDir", config->root, "Plugins",
				"Volume", gt_driver_names(engine->drivers, GANTRY_VOLUME), "Network",
				gt_driver_names(engine->drivers, GANTRY_NETWORK), "Authorization", "Log", "json-file", "local", "journald", "syslog", "none",
				"LoggingDriver", config->log_driver, "CgroupDriver", "cgroupfs", "CgroupVersion",
				gt_cgroup_world() == GT_CGROUP_V2 ? "2" : "1", "Debug", config->log_level == GT_DEBUG, "Labels",
				config->labels.count ? gt_strings_to_json(&config->labels) : json_array(), "ServerVersion", GANTRY_VERSION, "ExperimentalBuild", 0));
	json_object_update_new(
		info, json_pack("{s:{s:{s:s}} s:s s:b s:s s:s s:o s:[] s:s s:{s:s s:s s:b s:s s:n s:n}}", "Runtimes", "gantry", "path",
				engine->shim_path, "DefaultRuntime", "gantry", "LiveRestoreEnabled", 1, "Isolation", "", "InitBinary",
				"gantry-init", "SecurityOptions", security_options(config), "CDISpecDirs", "IndexServerAddress", "", "Swarm",
				"NodeID", "", "LocalNodeState", "inactive", "ControlAvailable", 0, "Error", "", "RemoteManagers", "Cluster"));
	json_object_set_new(info, "CDISpecDirs", gt_strings_to_json(&config->cdi_spec_dirs));
	json_object_set_new(info, "DefaultAddressPools", address_pools(config));
	json_object_set_new(info, "FirewallBackend", json_pack("{s:s}", "Driver", "nftables"));
	for (size_t i = 0; i < 3; i++) {
		static const char *const COMMITS[] = { "ContainerdCommit", "RuncCommit", "InitCommit" };
		json_object_set_new(info, COMMITS[i], json_pack("{s:s}", "ID", i ? GANTRY_VERSION : "")); /* the runtime and init are our own */
	}
	json_object_update_new(info, json_pack("{s:s s:s s:s s:n s:{s:[] s:{} s:[]}}", "HttpProxy", "", "HttpsProxy", "", "NoProxy", "",
					       "GenericResources", "RegistryConfig", "InsecureRegistryCIDRs", "IndexConfigs", "Mirrors"));
}

json_t *gt_system_info(struct gt_engine *engine, struct gt_error *err)
{
	const struct gt_config *config = atomic_load(&engine->config);
	json_t *info = json_object();
	add_counts(engine, info);
	add_host(engine, info);
	add_settings(engine, config, info);
	add_abilities(info);
	if (!json_object_get(info, "Driver") || !json_object_get(info, "ID") || !json_object_get(info, "DefaultRuntime")) {
		json_decref(info);
		return gt_fail_null(err, GT_INTERNAL, "the state of the engine cannot be written as JSON");
	}
	return info;
}

json_t *gt_system_version(struct gt_engine *engine, struct gt_error *err)
{
	(void)engine;
	struct utsname uts;
	uname(&uts);
	const char *arch = docker_arch(uts.machine);
	json_t *version = json_pack("{s:{s:s} s:s s:s s:s s:s s:s s:s s:s s:s s:b s:s}", "Platform", "Name", "Gantry " GANTRY_VERSION, "Version",
				    GANTRY_VERSION, "ApiVersion", API_VERSION, "MinAPIVersion", MIN_API_VERSION, "GitCommit", "", "GoVersion",
				    "", "Os", "linux", "Arch", arch, "KernelVersion", uts.release, "Experimental", 0, "BuildTime", "");
	json_t *components =
		json_pack("[{s:s s:s s:{s:s s:s s:s s:s s:s s:s}}]", "Name", "Engine", "Version", GANTRY_VERSION, "Details", "ApiVersion",
			  API_VERSION, "MinAPIVersion", MIN_API_VERSION, "Os", "linux", "Arch", arch, "KernelVersion", uts.release,
			  "Experimental", "false");
	if (!version || !components || json_object_set(version, "Components", components) < 0) {
		json_decref(version);
		json_decref(components);
		return gt_fail_null(err, GT_INTERNAL, "the version cannot be written as JSON");
	}
	json_decref(components);
	return version;
}

/* Being refused without credentials is an answer too. */
static void ask_registry(struct gt_engine *engine, const char *host, json_t *report)
{
	struct gt_error err = { 0 };
	AUTO_JSON json_t *auth = json_pack("{s:s}", "serveraddress", host);
	AUTO_JSON json_t *answer = gt_registry_login(engine->images, auth, NULL, &err);
	AUTO_FREE char *name = gt_xasprintf("registry.%s", host);
	bool answers = answer || err.kind == GT_UNAUTHORIZED || err.kind == GT_DENIED;
	AUTO_FREE char *message = answers ? gt_xasprintf("registry %s answers", host) : gt_xstrdup(err.message);
	gt_doctor_add(report, name, answers ? "ok" : "failed", message, answers ? "" : "check the network, name servers and [registry] proxies of this host");
}

json_t *gt_engine_doctor(struct gt_engine *engine, const struct gt_strings *registries, struct gt_error *err)
{
	if (registries && registries->count > 16)
		return gt_fail_null(err, GT_INVALID, "%zu registries are too many to ask at once: at most 16", registries->count);
	json_t *report = gt_doctor(atomic_load(&engine->config), engine->drivers);
	for (size_t i = 0; registries && i < registries->count; i++)
		ask_registry(engine, registries->items[i], report);
	return report;
}
