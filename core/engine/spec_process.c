/*
 * spec_process.c - the OCI process object: command, environment, capabilities, limits.
 */
#include <stdio.h>
#include <string.h>

#include "engine/spec.h"

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static const char *const DEFAULT_CAPABILITIES[] = { "CAP_CHOWN",   "CAP_DAC_OVERRIDE", "CAP_FSETID",           "CAP_FOWNER",     "CAP_MKNOD", "CAP_NET_RAW",    "CAP_SETGID",
						    "CAP_SETUID",  "CAP_SETFCAP",      "CAP_SETPCAP",          "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE" };

/* Names in the list are known: they were checked. */
static bool names(const struct gt_strings *list, const char *capability)
{
	for (size_t i = 0; i < list->count; i++) {
		const char *name = config_capability(list->items[i]);
		if (name && strcmp(name, capability) == 0)
			return true;
	}
	return false;
}

static bool is_default(const char *capability)
{
	for (size_t i = 0; i < GT_COUNT(DEFAULT_CAPABILITIES); i++) {
		if (strcmp(DEFAULT_CAPABILITIES[i], capability) == 0)
			return true;
	}
	return false;
}

/* ALL among the added: everything but what is dropped; ALL among the dropped: what is added alone. */
json_t *spec_capabilities(const struct gt_host_config *host, bool privileged)
{
	json_t *list = json_array();
	bool add_all = names(&host->cap_add, "ALL"), drop_all = names(&host->cap_drop, "ALL");
	for (size_t i = 0; i < config_capability_count(); i++) {
		const char *capability = config_capability_at(i);
		bool added = names(&host->cap_add, capability), dropped = names(&host->cap_drop, capability);
		bool has = added || (!drop_all && !dropped && is_default(capability)) || (add_all && !dropped);
		if (privileged || has)
			json_array_append_new(list, json_string(capability));
	}
	return list;
}

/* Whether a list sets the variable that "NAME=VALUE" sets. */
static bool sets(const struct gt_strings *list, const char *variable)
{
	size_t len = strcspn(variable, "=") + 1;
	for (size_t i = 0; i < list->count; i++) {
		if (strncmp(list->items[i], variable, len) == 0)
			return true;
	}
	return false;
}

static json_t *environment(const struct gt_container *ctr)
{
	json_t *env = json_array();
	const struct gt_strings *own = &ctr->config.env;
	struct gt_strings linked = { 0 };
	bool path = false, hostname = false, term = false;
	for (size_t i = 0; i < own->count; i++) {
		path = path || strncmp(own->items[i], "PATH=", 5) == 0;
		hostname = hostname || strncmp(own->items[i], "HOSTNAME=", 9) == 0;
		term = term || strncmp(own->items[i], "TERM=", 5) == 0;
	}
	if (!path)
		json_array_append_new(env, json_string(DEFAULT_PATH));
	if (!hostname)
		json_array_append_new(env, json_sprintf("HOSTNAME=%s", ctr->config.hostname ? ctr->config.hostname : ""));
	if (!term && ctr->config.tty)
		json_array_append_new(env, json_string("TERM=xterm"));
	links_add_environment(ctr, &linked);
	for (size_t i = 0; i < linked.count; i++) {
		if (!sets(own, linked.items[i]))
			json_array_append_new(env, json_string(linked.items[i]));
	}
	gt_strings_free(&linked);
	for (size_t i = 0; i < own->count; i++)
		json_array_append_new(env, json_string(own->items[i]));
	for (size_t i = 0; i < ctr->secret_env.count; i++)
		json_array_append_new(env, json_string(ctr->secret_env.items[i]));
	return env;
}

/* ---- limits ---- */

static void add_limit(json_t *limits, const char *name, int64_t soft, int64_t hard)
{
	AUTO_FREE char *type = gt_xasprintf("RLIMIT_%s", name);
	for (char *p = type; *p; p++)
		*p = (char)(*p >= 'a' && *p <= 'z' ? *p - 32 : *p);
	size_t i;
	json_t *entry;
	json_array_foreach(limits, i, entry) {
		if (strcmp(json_string_value(json_object_get(entry, "type")), type) == 0) {
			json_array_remove(limits, i);
			break;
		}
	}
	/* -1 is "unlimited"; the OCI's numbers are unsigned, and this is what the kernel takes for infinity */
	json_array_append_new(limits, json_pack("{s:s s:I s:I}", "type", type, "soft", (json_int_t)(soft < 0 ? INT64_MAX : soft), "hard",
						(json_int_t)(hard < 0 ? INT64_MAX : hard)));
}

/* "nofile=1024:2048" */
static void add_configured(json_t *limits, const char *text)
{
	char name[32];
	long long soft, hard;
	int fields = sscanf(text, "%31[a-z]=%lld:%lld", name, &soft, &hard);
	if (fields >= 2)
		add_limit(limits, name, soft, fields == 3 ? hard : soft);
}

static json_t *limits_of(const struct gt_container *ctr)
{
	const struct gt_config *config = atomic_load(&ctr->engine->config);
	json_t *limits = json_array(), *entry;
	size_t i;
	for (i = 0; i < config->default_ulimits.count; i++)
		add_configured(limits, config->default_ulimits.items[i]);
	json_array_foreach(ctr->config.host.ulimits, i, entry) {
		const char *name = "";
		int64_t soft = 0, hard = 0;
		gt_json_string(entry, "Name", &name, NULL);
		gt_json_int(entry, "Soft", &soft, NULL);
		gt_json_int(entry, "Hard", &hard, NULL);
		add_limit(limits, name, soft, hard);
	}
	return limits;
}

json_t *spec_process(const struct spec_context *context)
{
	const struct gt_container *ctr = context->ctr;
	const struct gt_container_config *config = &ctr->config;
	json_t *args = json_array();
	json_array_append_new(args, json_string(ctr->path ? ctr->path : ""));
	for (size_t i = 0; i < ctr->args.count; i++)
		json_array_append_new(args, json_string(ctr->args.items[i]));
	json_t *caps = context->capabilities;
	json_t *process = json_pack("{s:b s:{s:i s:i} s:o s:o s:s s:{s:O s:O s:O} s:b s:I s:o}", "terminal", config->tty, "user", "uid", 0, "gid", 0,
				    "args", args, "env", environment(ctr), "cwd", config->working_dir && config->working_dir[0] ? config->working_dir : "/",
				    "capabilities", "bounding", caps, "effective", caps, "permitted", caps, "noNewPrivileges",
				    context->security.no_new_privileges, "oomScoreAdj", (json_int_t)config->host.oom_score_adj, "rlimits",
				    limits_of(ctr));
	if (context->apparmor && strcmp(context->apparmor, "unconfined"))
		json_object_set_new(process, "apparmorProfile", json_string(context->apparmor));
	const json_t *size = config->host.console_size;
	json_int_t rows = json_integer_value(json_array_get(size, 0)), cols = json_integer_value(json_array_get(size, 1));
	if (config->tty && rows > 0 && cols > 0)
		json_object_set_new(process, "consoleSize", json_pack("{s:I s:I}", "height", rows, "width", cols));
	return process;
}
