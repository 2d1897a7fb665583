/*
 * spec_mounts.c - the mounts of a container: its root as the storage driver describes it, what every container has, the user's, and the three files below /etc
 * that follow the network.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/spec.h"

/* mount(8)'s options, "\," being a comma within a value, as a list. */
static json_t *split_options(const char *text)
{
	json_t *list = json_array();
	AUTO_BUF struct gt_buf word = { 0 };
	for (const char *p = text;; p++) {
		if (p[0] == '\\' && p[1] == ',') {
			gt_buf_char(&word, *++p);
		} else if (*p == ',' || !*p) {
			if (word.len)
				json_array_append_new(list, json_string(word.data));
			gt_buf_reset(&word);
			if (!*p)
				return list;
		} else {
			gt_buf_char(&word, *p);
		}
	}
}

json_t *gt_mount_to_oci(const struct gantry_mount *mount, const char *destination)
{
	return json_pack("{s:s s:s s:s s:o}", "destination", destination, "type", mount->type, "source", mount->source, "options",
			 split_options(mount->options));
}

static int add_root(const struct spec_context *context, json_t *mounts, struct gt_error *err)
{
	struct gt_container *ctr = context->ctr;
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	mount->size = sizeof *mount;
	if (gt_layer_mount(gt_images_storage(ctr->engine->images), ctr->id, false, mount, err) < 0)
		return gt_context(err, "the root file system of container %s", ctr->id);
	if (context->remap && !(mount->flags & GANTRY_MOUNT_IDMAP))
		return gt_fail(err, GT_UNSUPPORTED, "user namespaces (userns_remap) need a storage driver whose layers can be id-mapped");
	json_t *root = gt_mount_to_oci(mount, "/");
	if (context->remap && strcmp(mount->type, "bind") == 0) /* of any other the annotation idmap-root speaks */
		json_array_append_new(json_object_get(root, "options"), json_string("idmap"));
	json_array_append_new(mounts, root);
	return 0;
}

static bool is_taken(const json_t *mounts, const char *destination)
{
	size_t i;
	json_t *mount;
	json_array_foreach(mounts, i, mount) {
		if (strcmp(json_string_value(json_object_get(mount, "destination")), destination) == 0)
			return true;
	}
	return false;
}

static void add_default(json_t *mounts, const json_t *users, const char *destination, const char *type, json_t *options)
{
	if (is_taken(users, destination))
		json_decref(options);
	else
		json_array_append_new(mounts, json_pack("{s:s s:s s:s s:o}", "destination", destination, "type", type, "source", type, "options", options));
}

static void add_bind(json_t *mounts, const char *source, const char *destination, json_t *options)
{
	json_array_append_new(mounts, json_pack("{s:s s:s s:s s:o}", "destination", destination, "type", "bind", "source", source, "options", options));
}

static void add_shm(const struct spec_context *context, json_t *mounts, const json_t *users)
{
	const struct gt_host_config *host = &context->ctr->config.host;
	const char *mode = host->ipc_mode ? host->ipc_mode : "";
	if (strcmp(mode, "none") == 0 || is_taken(users, "/dev/shm"))
		return;
	if (context->host_ipc)
		add_bind(mounts, "/dev/shm", "/dev/shm", json_pack("[ssss]", "rbind", "nosuid", "noexec", "nodev"));
	else if (context->ipc_pid)
		add_bind(mounts, "/dev/shm", "/dev/shm", json_pack("[sssso]", "bind", "nosuid", "noexec", "nodev",
								   json_sprintf("gantry.namespace=/proc/%d/ns/mnt", context->ipc_pid)));
	else
		json_array_append_new(mounts, json_pack("{s:s s:s s:s s:[sssso]}", "destination", "/dev/shm", "type", "tmpfs", "source", "shm", "options",
							"nosuid", "noexec", "nodev", "mode=1777",
							json_sprintf("size=%lld", (long long)host->shm_size)));
}

static void add_defaults(const struct spec_context *context, json_t *mounts, const json_t *users)
{
	bool privileged = context->ctr->config.host.privileged;
	const char *access = privileged ? "rw" : "ro";
	add_default(mounts, users, "/proc", "proc", json_pack("[sss]", "nosuid", "noexec", "nodev"));
	add_default(mounts, users, "/dev", "tmpfs", json_pack("[ssss]", "nosuid", "strictatime", "mode=755", "size=65536k"));
	add_default(mounts, users, "/dev/pts", "devpts",
		    json_pack("[ssssss]", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"));
	if (!context->host_ipc || !context->remap) /* a user namespace may not mount the host's queues */
		add_default(mounts, users, "/dev/mqueue", "mqueue", json_pack("[sss]", "nosuid", "noexec", "nodev"));
	add_shm(context, mounts, users);
	if (context->remap && strcmp(context->netns, "new") && !is_taken(users, "/sys"))
		add_bind(mounts, "/sys", "/sys", json_pack("[sssss]", "rbind", "nosuid", "noexec", "nodev", "rro")); /* another's network: sysfs is not ours to mount */
	else
		add_default(mounts, users, "/sys", "sysfs", json_pack("[ssss]", "nosuid", "noexec", "nodev", access));
	add_default(mounts, users, "/sys/fs/cgroup", "cgroup", json_pack("[ssss]", "nosuid", "noexec", "nodev", access));
}

static void add_files(const struct spec_context *context, json_t *mounts, const json_t *users)
{
	static const char *const FILES[] = { "resolv.conf", "hostname", "hosts" };
	const struct gt_container *ctr = context->ctr;
	for (size_t i = 0; i < GT_COUNT(FILES); i++) {
		AUTO_FREE char *source = gt_xasprintf("%s/%s", ctr->dir, FILES[i]);
		AUTO_FREE char *destination = gt_xasprintf("/etc/%s", FILES[i]);
		json_t *options = json_pack("[sss]", "rbind", "rprivate", ctr->config.host.readonly_rootfs ? "ro" : "rw");
		if (context->remap)
			json_array_append_new(options, json_string("idmap"));
		if (is_taken(users, destination))
			json_decref(options);
		else
			add_bind(mounts, source, destination, options);
	}
}

/* A user's bind, volume or image is seen by the container's ids where these are mapped. */
static void map_ids(json_t *users)
{
	size_t i;
	json_t *mount;
	json_array_foreach(users, i, mount) {
		const char *type = json_string_value(json_object_get(mount, "type"));
		if (strcmp(type, "bind") == 0 || strcmp(type, "overlay") == 0)
			json_array_append_new(json_object_get(mount, "options"), json_string("idmap"));
	}
}

json_t *spec_mounts(const struct spec_context *context, struct gt_error *err)
{
	AUTO_JSON json_t *mounts = json_array();
	AUTO_JSON json_t *users = json_array();
	if (add_root(context, mounts, err) < 0 || gt_mounts_prepare(context->ctr, users, err) < 0)
		return NULL;
	if (context->remap)
		map_ids(users);
	add_defaults(context, mounts, users);
	json_array_extend(mounts, users);
	add_files(context, mounts, users); /* last, so that a volume at /etc does not hide them */
	return take(mounts);
}
