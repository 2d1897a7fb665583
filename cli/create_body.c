/*
 * create_body.c - the create request as the flags ask for it: Docker's ContainerConfig, HostConfig, NetworkingConfig.
 *
 * Fields that nobody asked for are left out; the daemon's defaults hold for them.
 */
#include <string.h>

#include "create.h"
#include "spec.h"

struct draft {
	const struct args *args;
	json_t *config, *host, *networking;
	struct gt_error *err;
};

/* Flags whose value goes to a field as it is. */
struct plain {
	const char *flag, *field;
};

static void set_texts(const struct args *args, json_t *to, const struct plain *rows)
{
	for (; rows->flag; rows++) {
		if (arg_given(args, rows->flag))
			json_object_set_new(to, rows->field, json_string(arg_string(args, rows->flag)));
	}
}

static void set_numbers(const struct args *args, json_t *to, const struct plain *rows)
{
	for (; rows->flag; rows++) {
		if (arg_given(args, rows->flag))
			json_object_set_new(to, rows->field, json_integer(arg_int(args, rows->flag)));
	}
}

static void set_switches(const struct args *args, json_t *to, const struct plain *rows)
{
	for (; rows->flag; rows++) {
		if (arg_given(args, rows->flag))
			json_object_set_new(to, rows->field, json_boolean(arg_bool(args, rows->flag)));
	}
}

static void set_lists(const struct args *args, json_t *to, const struct plain *rows)
{
	for (; rows->flag; rows++)
		jset(to, rows->field, jlist(arg_list(args, rows->flag)));
}

static void set_maps(const struct args *args, json_t *to, const struct plain *rows)
{
	for (; rows->flag; rows++)
		jset(to, rows->field, jmap(arg_list(args, rows->flag)));
}

/* A list flag each of whose values a parser turns into an element. */
static int set_parsed(const struct args *args, const char *flag, json_t *to, const char *field,
		      json_t *(*parse)(const char *text, struct gt_error *err), struct gt_error *err)
{
	const struct gt_strings *values = arg_list(args, flag);
	if (values->count == 0)
		return 0;
	json_t *list = json_array();
	json_object_set_new(to, field, list);
	for (size_t i = 0; i < values->count; i++) {
		json_t *item = parse(values->items[i], err);
		if (!item)
			return -1;
		json_array_append_new(list, item);
	}
	return 0;
}

static json_t *rate_bytes(const char *text, struct gt_error *err)
{
	return spec_rate_device(text, true, err);
}

static json_t *rate_operations(const char *text, struct gt_error *err)
{
	return spec_rate_device(text, false, err);
}

int create_resources(const struct args *args, json_t *host, struct gt_error *err)
{
	static const struct plain numbers[] = {
		{ "memory", "Memory" },
		{ "memory-reservation", "MemoryReservation" },
		{ "memory-swap", "MemorySwap" },
		{ "cpu-shares", "CpuShares" },
		{ "cpu-period", "CpuPeriod" },
		{ "cpu-quota", "CpuQuota" },
		{ "pids-limit", "PidsLimit" },
		{ "blkio-weight", "BlkioWeight" },
		{ NULL, NULL },
	};
	static const struct plain texts[] = { { "cpuset-cpus", "CpusetCpus" },
					      { "cpuset-mems", "CpusetMems" },
					      { NULL, NULL } };
	set_numbers(args, host, numbers);
	set_texts(args, host, texts);
	if (arg_given(args, "cpus"))
		json_object_set_new(host, "NanoCpus", json_integer((json_int_t)(arg_decimal(args, "cpus") * 1e9 + 0.5)));
	if (arg_given(args, "restart")) {
		json_t *policy = spec_restart(arg_string(args, "restart"), err);
		if (!policy)
			return -1;
		json_object_set_new(host, "RestartPolicy", policy);
	}
	return 0;
}

/* ---- the process ---- */

static json_t *words(char **items, int count)
{
	json_t *list = json_array();
	for (int i = 0; i < count; i++)
		json_array_append_new(list, json_string(items[i]));
	return list;
}

static int set_attach(struct draft *draft)
{
	const struct gt_strings *list = arg_list(draft->args, "attach");
	bool in = false, out = false, error = false;
	bool detach = arg_has_flag(draft->args, "detach") && arg_bool(draft->args, "detach");
	for (size_t i = 0; i < list->count; i++) {
		const char *name = list->items[i];
		if (strcasecmp(name, "stdin") == 0)
			in = true;
		else if (strcasecmp(name, "stdout") == 0)
			out = true;
		else if (strcasecmp(name, "stderr") == 0)
			error = true;
		else
			return gt_fail(draft->err, GT_INVALID, "invalid argument \"%.100s\" for \"-a, --attach\" flag: "
				       "it is stdin, stdout or stderr", name);
	}
	bool interactive = arg_bool(draft->args, "interactive");
	if (list->count == 0 && !detach) {
		out = error = true;
		in = interactive;
	}
	json_object_set_new(draft->config, "AttachStdin", json_boolean(in));
	json_object_set_new(draft->config, "AttachStdout", json_boolean(out));
	json_object_set_new(draft->config, "AttachStderr", json_boolean(error));
	json_object_set_new(draft->config, "OpenStdin", json_boolean(interactive));
	json_object_set_new(draft->config, "StdinOnce", json_boolean(interactive && in));
	json_object_set_new(draft->config, "Tty", json_boolean(arg_bool(draft->args, "tty")));
	return 0;
}

static int set_health(struct draft *draft)
{
	const struct args *args = draft->args;
	static const struct plain durations[] = {
		{ "health-interval", "Interval" },
		{ "health-timeout", "Timeout" },
		{ "health-start-period", "StartPeriod" },
		{ "health-start-interval", "StartInterval" },
		{ "health-retries", "Retries" },
		{ NULL, NULL },
	};
	AUTO_JSON json_t *health = json_object();
	set_numbers(args, health, durations);
	if (arg_given(args, "health-cmd") && *arg_string(args, "health-cmd"))
		json_object_set_new(health, "Test", json_pack("[ss]", "CMD-SHELL", arg_string(args, "health-cmd")));
	const char *key;
	json_t *value;
	json_object_foreach(health, key, value)
	{
		if (json_is_integer(value) && json_integer_value(value) < 0)
			return gt_fail(draft->err, GT_INVALID, "%s of the health check cannot be negative", key);
	}
	if (arg_bool(args, "no-healthcheck")) {
		if (json_object_size(health) > 0)
			return gt_fail(draft->err, GT_INVALID, "--no-healthcheck conflicts with --health-* options");
		json_object_set_new(health, "Test", json_pack("[s]", "NONE"));
	}
	if (json_object_size(health) > 0)
		json_object_set(draft->config, "Healthcheck", health);
	return 0;
}

static int set_process(struct draft *draft)
{
	const struct args *args = draft->args;
	static const struct plain texts[] = {
		{ "hostname", "Hostname" },     { "domainname", "Domainname" }, { "user", "User" },
		{ "workdir", "WorkingDir" },    { "stop-signal", "StopSignal" }, { NULL, NULL },
	};
	static const struct plain numbers[] = { { "stop-timeout", "StopTimeout" }, { NULL, NULL } };
	struct gt_strings env = { 0 };
	AUTO_JSON json_t *labels = json_object();
	set_texts(args, draft->config, texts);
	set_numbers(args, draft->config, numbers);
	json_object_set_new(draft->config, "Image", json_string(args->operands[0]));
	if (args->count > 1)
		json_object_set_new(draft->config, "Cmd", words(args->operands + 1, args->count - 1));
	if (arg_given(args, "entrypoint"))
		json_object_set_new(draft->config, "Entrypoint", json_pack("[s]", arg_string(args, "entrypoint")));
	int done = spec_environment(arg_list(args, "env-file"), arg_list(args, "env"), &env, draft->err);
	jset(draft->config, "Env", jlist(&env));
	gt_strings_free(&env);
	if (done < 0 || spec_labels(arg_list(args, "label-file"), arg_list(args, "label"), labels, draft->err) < 0)
		return -1;
	if (json_object_size(labels) > 0)
		json_object_set(draft->config, "Labels", labels);
	return set_attach(draft) < 0 || set_health(draft) < 0 ? -1 : 0;
}

/* ---- mounts, ports, devices ---- */

static void set_if_any(json_t *object, const char *name, json_t *value)
{
	if (json_object_size(value) > 0 || json_array_size(value) > 0)
		json_object_set(object, name, value);
}

static int set_mounts(struct draft *draft)
{
	const struct gt_strings *volumes = arg_list(draft->args, "volume"), *tmpfs = arg_list(draft->args, "tmpfs");
	AUTO_JSON json_t *binds = json_array();
	AUTO_JSON json_t *anonymous = json_object();
	AUTO_JSON json_t *memory = json_object();
	for (size_t i = 0; i < volumes->count; i++) {
		if (spec_volume(volumes->items[i], binds, anonymous, draft->err) < 0)
			return -1;
	}
	for (size_t i = 0; i < tmpfs->count; i++) {
		if (spec_tmpfs(tmpfs->items[i], memory, draft->err) < 0)
			return -1;
	}
	set_if_any(draft->host, "Binds", binds);
	set_if_any(draft->config, "Volumes", anonymous);
	set_if_any(draft->host, "Tmpfs", memory);
	return set_parsed(draft->args, "mount", draft->host, "Mounts", spec_mount, draft->err);
}

static int set_ports(struct draft *draft)
{
	const struct gt_strings *published = arg_list(draft->args, "publish"), *exposed = arg_list(draft->args, "expose");
	AUTO_JSON json_t *ports = json_object();
	AUTO_JSON json_t *bindings = json_object();
	for (size_t i = 0; i < exposed->count; i++) {
		if (spec_expose(exposed->items[i], ports, draft->err) < 0)
			return -1;
	}
	for (size_t i = 0; i < published->count; i++) {
		if (spec_publish(published->items[i], ports, bindings, draft->err) < 0)
			return -1;
	}
	set_if_any(draft->config, "ExposedPorts", ports);
	set_if_any(draft->host, "PortBindings", bindings);
	return 0;
}

/* VENDOR/CLASS=NAME, as the Container Device Interface has it; files of the host begin with a slash. */
static bool is_cdi_name(const char *text)
{
	const char *slash = strchr(text, '/');
	return slash && slash != text && strchr(slash, '=');
}

static int set_host_devices(struct draft *draft, json_t *requests)
{
	const struct gt_strings *devices = arg_list(draft->args, "device");
	AUTO_JSON json_t *files = json_array();
	AUTO_JSON json_t *names = json_array();
	for (size_t i = 0; i < devices->count; i++) {
		if (is_cdi_name(devices->items[i])) {
			json_array_append_new(names, json_string(devices->items[i]));
		} else {
			json_t *file = spec_device(devices->items[i], draft->err);
			if (!file)
				return -1;
			json_array_append_new(files, file);
		}
	}
	set_if_any(draft->host, "Devices", files);
	if (json_array_size(names))
		json_array_append_new(requests, json_pack("{s:s,s:i,s:O,s:[],s:{}}", "Driver", "cdi", "Count", 0, "DeviceIDs", names, "Capabilities", "Options"));
	return 0;
}

static int set_devices(struct draft *draft)
{
	static const struct {
		const char *flag, *field;
		json_t *(*parse)(const char *text, struct gt_error *err);
	} rows[] = {
		{ "ulimit", "Ulimits", spec_ulimit },
		{ "blkio-weight-device", "BlkioWeightDevice", spec_weight_device },
		{ "device-read-bps", "BlkioDeviceReadBps", rate_bytes },
		{ "device-write-bps", "BlkioDeviceWriteBps", rate_bytes },
		{ "device-read-iops", "BlkioDeviceReadIOps", rate_operations },
		{ "device-write-iops", "BlkioDeviceWriteIOps", rate_operations },
	};
	for (size_t i = 0; i < GT_COUNT(rows); i++) {
		if (set_parsed(draft->args, rows[i].flag, draft->host, rows[i].field, rows[i].parse, draft->err) < 0)
			return -1;
	}
	AUTO_JSON json_t *requests = json_array();
	if (arg_given(draft->args, "gpus")) {
		json_t *request = spec_gpus(arg_string(draft->args, "gpus"), draft->err);
		if (!request)
			return -1;
		json_array_append_new(requests, request);
	}
	if (set_host_devices(draft, requests) < 0)
		return -1;
	set_if_any(draft->host, "DeviceRequests", requests);
	return 0;
}

static int set_security(struct draft *draft)
{
	const struct gt_strings *options = arg_list(draft->args, "security-opt"), *hosts = arg_list(draft->args, "add-host");
	AUTO_JSON json_t *list = json_array();
	AUTO_JSON json_t *extra = json_array();
	for (size_t i = 0; i < options->count; i++) {
		if (spec_security(options->items[i], list, draft->host, draft->err) < 0)
			return -1;
	}
	for (size_t i = 0; i < hosts->count; i++) {
		if (spec_add_host(hosts->items[i], extra, draft->err) < 0)
			return -1;
	}
	set_if_any(draft->host, "SecurityOpt", list);
	set_if_any(draft->host, "ExtraHosts", extra);
	return 0;
}

/* ---- networks ---- */

/* --ip, --network-alias and their like belong to the first network. */
static int set_first_network(struct draft *draft, const char *name, json_t *endpoint)
{
	const struct args *args = draft->args;
	AUTO_JSON json_t *ipam = json_object();
	jset_str(ipam, "IPv4Address", arg_string(args, "ip"));
	jset_str(ipam, "IPv6Address", arg_string(args, "ip6"));
	jset(ipam, "LinkLocalIPs", jlist(arg_list(args, "link-local-ip")));
	bool own = strcmp(name, "host") != 0 && strcmp(name, "none") != 0 && strncmp(name, "container:", 10) != 0;
	if (!own && (json_object_size(ipam) > 0 || arg_list(args, "network-alias")->count > 0 ||
		     *arg_string(args, "mac-address")))
		return gt_fail(draft->err, GT_INVALID, "addresses and aliases cannot be set on network %s", name);
	set_if_any(endpoint, "IPAMConfig", ipam);
	jset(endpoint, "Aliases", jlist(arg_list(args, "network-alias")));
	bool user_defined = own && strcmp(name, "default") != 0 && strcmp(name, "bridge") != 0;
	if (user_defined)
		jset(endpoint, "Links", jlist(arg_list(args, "link")));
	jset_str(endpoint, "MacAddress", arg_string(args, "mac-address"));
	return 0;
}

static int set_networks(struct draft *draft)
{
	const struct gt_strings *networks = arg_list(draft->args, "network");
	AUTO_JSON json_t *endpoints = json_object();
	size_t count = networks->count ? networks->count : 1;
	for (size_t i = 0; i < count; i++) {
		AUTO_FREE char *name = NULL;
		json_t *endpoint;
		if (spec_network(networks->count ? networks->items[i] : "default", &name, &endpoint, draft->err) < 0)
			return -1;
		bool special = strcmp(name, "host") == 0 || strcmp(name, "none") == 0 || strncmp(name, "container:", 10) == 0;
		if (json_object_get(endpoints, name) || (special && count > 1)) {
			json_decref(endpoint);
			return gt_fail(draft->err, GT_INVALID, special ? "network %s cannot be joined together with others"
								       : "network %s is given twice", name);
		}
		if (i == 0) {
			json_object_set_new(draft->host, "NetworkMode", json_string(name));
			if (set_first_network(draft, name, endpoint) < 0) {
				json_decref(endpoint);
				return -1;
			}
		}
		if (json_object_size(endpoint) > 0 || (count > 1 && !special))
			json_object_set_new(endpoints, name, endpoint);
		else
			json_decref(endpoint);
	}
	if (json_object_size(endpoints) > 0)
		json_object_set(draft->networking, "EndpointsConfig", endpoints);
	return 0;
}

/* ---- the rest of HostConfig ---- */

static int set_host(struct draft *draft)
{
	static const struct plain texts[] = {
		{ "cgroup-parent", "CgroupParent" }, { "cgroupns", "CgroupnsMode" }, { "ipc", "IpcMode" },
		{ "pid", "PidMode" },                { "userns", "UsernsMode" },     { "uts", "UTSMode" },
		{ "runtime", "Runtime" },            { "volume-driver", "VolumeDriver" }, { "cidfile", "ContainerIDFile" },
		{ NULL, NULL },
	};
	static const struct plain numbers[] = {
		{ "memory-swappiness", "MemorySwappiness" }, { "oom-score-adj", "OomScoreAdj" }, { "shm-size", "ShmSize" },
		{ "cpu-rt-period", "CpuRealtimePeriod" },    { "cpu-rt-runtime", "CpuRealtimeRuntime" }, { NULL, NULL },
	};
	static const struct plain switches[] = {
		{ "init", "Init" },
		{ "oom-kill-disable", "OomKillDisable" },
		{ "privileged", "Privileged" },
		{ "publish-all", "PublishAllPorts" },
		{ "read-only", "ReadonlyRootfs" },
		{ "rm", "AutoRemove" },
		{ NULL, NULL },
	};
	static const struct plain lists[] = {
		{ "cap-add", "CapAdd" },
		{ "cap-drop", "CapDrop" },
		{ "dns", "Dns" },
		{ "dns-option", "DnsOptions" },
		{ "dns-search", "DnsSearch" },
		{ "group-add", "GroupAdd" },
		{ "link", "Links" },
		{ "volumes-from", "VolumesFrom" },
		{ "device-cgroup-rule", "DeviceCgroupRules" },
		{ NULL, NULL },
	};
	static const struct plain maps[] = { { "sysctl", "Sysctls" },
					     { "storage-opt", "StorageOpt" },
					     { "annotation", "Annotations" },
					     { NULL, NULL } };
	const struct args *args = draft->args;
	set_texts(args, draft->host, texts);
	set_numbers(args, draft->host, numbers);
	set_switches(args, draft->host, switches);
	set_lists(args, draft->host, lists);
	set_maps(args, draft->host, maps);
	if (arg_given(args, "log-driver") || arg_list(args, "log-opt")->count > 0) {
		json_t *options = jmap(arg_list(args, "log-opt"));
		json_object_set_new(draft->host, "LogConfig",
				    json_pack("{s:s,s:o}", "Type", arg_string(args, "log-driver"), "Config",
					      options ? options : json_object()));
	}
	return create_resources(args, draft->host, draft->err);
}

static int check(struct draft *draft)
{
	const struct args *args = draft->args;
	int64_t swappiness = arg_int(args, "memory-swappiness");
	if (swappiness < -1 || swappiness > 100)
		return gt_fail(draft->err, GT_INVALID, "invalid value: %lld. Valid memory swappiness range is 0-100",
			       (long long)swappiness);
	if (arg_given(args, "oom-score-adj") &&
	    (arg_int(args, "oom-score-adj") < -1000 || arg_int(args, "oom-score-adj") > 1000))
		return gt_fail(draft->err, GT_INVALID, "invalid value for --oom-score-adj: it lies between -1000 and 1000");
	const char *restart = js(jo(draft->host, "RestartPolicy"), "Name");
	if (arg_bool(args, "rm") && *restart && strcmp(restart, "no") != 0)
		return gt_fail(draft->err, GT_INVALID, "conflicting options: cannot specify both --restart and --rm");
	return 0;
}

int create_body(const struct args *args, json_t **body, struct gt_error *err)
{
	struct draft draft = { args, json_object(), json_object(), json_object(), err };
	*body = draft.config;
	json_object_set_new(draft.config, "HostConfig", draft.host);
	json_object_set_new(draft.config, "NetworkingConfig", draft.networking);
	if (set_process(&draft) == 0 && set_host(&draft) == 0 && set_mounts(&draft) == 0 && set_ports(&draft) == 0 &&
	    set_devices(&draft) == 0 && set_security(&draft) == 0 && set_networks(&draft) == 0 && check(&draft) == 0)
		return 0;
	json_decref(draft.config);
	*body = NULL;
	return -1;
}
