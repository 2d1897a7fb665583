/*
 * spec.c - a container as an OCI bundle: config.json, rootfs/, seccomp.bpf. Source: OCI runtime-spec 1.2, with Docker's defaults.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/apparmor.h"
#include "engine/cdi.h"
#include "engine/seccomp.h"
#include "engine/spec.h"

static bool is(const char *mode, const char *word)
{
	return mode && strcmp(mode, word) == 0;
}

/* "START:COUNT" of the host's ids, from the configuration. */
static void read_remap(struct spec_context *context)
{
	const struct gt_config *config = atomic_load(&context->ctr->engine->config);
	const struct gt_host_config *host = &context->ctr->config.host;
	long long first, count;
	if (!config->userns_remap || sscanf(config->userns_remap, "%lld:%lld", &first, &count) != 2)
		return;
	context->remap = !host->privileged && !is(host->userns_mode, "host");
	context->remap_first = first;
	context->remap_count = count;
}

static int read_context(struct gt_container *ctr, struct spec_context *context, struct gt_error *err)
{
	const struct gt_host_config *host = &ctr->config.host;
	const struct gt_config *config = atomic_load(&ctr->engine->config);
	*context = (struct spec_context){ .ctr = ctr };
	if (config_read_security(&host->security_opt, &context->security, err) < 0)
		return -1;
	context->apparmor = gt_apparmor_profile(host, &context->security);
	if (is(context->apparmor, GT_APPARMOR_DEFAULT) && gt_apparmor_load(false, err) < 0)
		return -1;
	if (!context->security.no_new_privileges_given)
		context->security.no_new_privileges = config->no_new_privileges;
	context->host_ipc = is(host->ipc_mode, "host");
	context->new_uts = !is(host->uts_mode, "host");
	context->new_pid = !is(host->pid_mode, "host");
	context->new_cgroup = is(host->cgroupns_mode, "private");
	read_remap(context);
	context->capabilities = spec_capabilities(host, host->privileged);
	return 0;
}

/* ---- annotations for the shim ---- */

static void annotate(json_t *annotations, const char *name, const char *value)
{
	if (value)
		json_object_set_new(annotations, name, json_string(value));
}

static json_t *annotations_of(const struct spec_context *context, struct gt_error *err)
{
	const struct gt_container *ctr = context->ctr;
	const struct gt_config *config = atomic_load(&ctr->engine->config);
	const struct gt_container_config *own = &ctr->config;
	json_t *annotations = json_is_object(own->host.annotations) ? json_deep_copy(own->host.annotations) : json_object();
	AUTO_BUF struct gt_buf groups = { 0 };
	if (gt_log_annotate(ctr, annotations, err) < 0) {
		json_decref(annotations);
		return NULL;
	}
	if (own->open_stdin)
		annotate(annotations, "org.gantry.stdin", own->stdin_once ? "once" : "open");
	if (own->host.init.set ? own->host.init.value : config->init)
		annotate(annotations, "org.gantry.init", ctr->engine->init_path);
	if (context->remap)
		annotate(annotations, "org.gantry.idmap-root", "true");
	annotate(annotations, "org.gantry.user", own->user && own->user[0] ? own->user : "0");
	for (size_t i = 0; i < own->host.group_add.count; i++)
		gt_buf_printf(&groups, "%s%s", i ? "," : "", own->host.group_add.items[i]);
	annotate(annotations, "org.gantry.group-add", groups.len ? groups.data : NULL);
	return annotations;
}

/* ---- the bundle ---- */

static int add_seccomp(const struct spec_context *context, json_t *linux_part, struct gt_error *err)
{
	const struct gt_container *ctr = context->ctr;
	const char *profile = context->security.seccomp;
	AUTO_BUF struct gt_buf bpf = { 0 };
	json_t *seccomp = NULL;
	if (ctr->config.host.privileged || is(profile, "unconfined"))
		return 0;
	if (gt_engine_seccomp(ctr->engine, profile, context->capabilities, &seccomp, &bpf, err) < 0)
		return -1;
	json_object_set_new(linux_part, "seccomp", seccomp);
	AUTO_CLOSE int dir = open(ctr->bundle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_CLOSE int file = dir < 0 ? -1 : openat(dir, "seccomp.bpf", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (file < 0 || gt_write_full(file, bpf.data, bpf.len) < 0)
		return gt_fail_errno(err, errno, "write %s/seccomp.bpf", ctr->bundle);
	return 0;
}

static json_t *compose(const struct spec_context *context, struct gt_error *err)
{
	const struct gt_container *ctr = context->ctr;
	AUTO_JSON json_t *linux_part = spec_linux(context, err);
	if (!linux_part || add_seccomp(context, linux_part, err) < 0)
		return NULL;
	AUTO_JSON json_t *mounts = spec_mounts(context, err);
	AUTO_JSON json_t *annotations = mounts ? annotations_of(context, err) : NULL;
	if (!annotations)
		return NULL;
	json_t *config = json_pack("{s:s s:o s:{s:s s:b} s:O s:O s:O}", "ociVersion", "1.2.0", "process", spec_process(context), "root", "path", "rootfs",
				   "readonly", ctr->config.host.readonly_rootfs, "mounts", mounts, "linux", linux_part, "annotations",
				   annotations);
	if (!config)
		return gt_fail_null(err, GT_INTERNAL, "config.json of container %s cannot be composed", ctr->id);
	if (cdi_apply(ctr->engine, ctr->config.host.device_requests, config, err) < 0) {
		json_decref(config);
		return NULL;
	}
	if (context->new_uts && ctr->config.hostname && ctr->config.hostname[0])
		json_object_set_new(config, "hostname", json_string(ctr->config.hostname));
	if (context->new_uts && ctr->config.domainname && ctr->config.domainname[0])
		json_object_set_new(config, "domainname", json_string(ctr->config.domainname));
	return config;
}

static int write_config(const struct gt_container *ctr, const json_t *config, struct gt_error *err)
{
	AUTO_FREE char *text = json_dumps(config, JSON_COMPACT);
	AUTO_FREE char *rootfs = gt_xasprintf("%s/rootfs", ctr->bundle);
	AUTO_FREE char *path = gt_xasprintf("%s/config.json", ctr->bundle);
	if (!text)
		return gt_fail(err, GT_INTERNAL, "config.json of container %s cannot be written", ctr->id);
	if (mkdir(rootfs, 0755) < 0 && errno != EEXIST)
		return gt_fail_errno(err, errno, "make %s", rootfs);
	AUTO_CLOSE int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (file < 0 || gt_write_full(file, text, strlen(text)) < 0)
		return gt_fail_errno(err, errno, "write %s", path);
	return 0;
}

int gt_spec_write(struct gt_container *ctr, struct gt_error *err)
{
	struct spec_context context;
	if (read_context(ctr, &context, err) < 0)
		return -1;
	AUTO_FREE char *netns = gt_endpoints_netns(ctr, err);
	context.netns = netns;
	AUTO_JSON json_t *config = netns && spec_find_ipc(&context, err) == 0 ? compose(&context, err) : NULL;
	json_decref(context.capabilities);
	return config ? write_config(ctr, config, err) : -1;
}

json_t *gt_spec_exec(struct gt_container *ctr, const struct gt_exec_wish *wish, struct gt_error *err)
{
	struct spec_context context;
	if (read_context(ctr, &context, err) < 0)
		return NULL;
	if (wish->privileged) {
		json_decref(context.capabilities);
		context.capabilities = spec_capabilities(&ctr->config.host, true);
	}
	json_t *process = spec_process(&context);
	json_decref(context.capabilities);
	json_object_set_new(process, "args", gt_strings_to_json(wish->args));
	json_t *env = json_object_get(process, "env");
	for (size_t i = 0; wish->env && i < wish->env->count; i++)
		json_array_append_new(env, json_string(wish->env->items[i]));
	json_object_set_new(process, "terminal", json_boolean(wish->tty));
	json_object_del(process, "consoleSize");
	if (wish->rows && wish->cols)
		json_object_set_new(process, "consoleSize", json_pack("{s:i s:i}", "height", (int)wish->rows, "width", (int)wish->cols));
	if (wish->working_dir && wish->working_dir[0])
		json_object_set_new(process, "cwd", json_string(wish->working_dir));
	if (wish->user && wish->user[0])
		json_object_set_new(process, "gantryUser", json_string(wish->user));
	return process;
}
