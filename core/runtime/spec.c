/*
 * spec.c - config.json (OCI runtime-spec config.md, config-linux.md) as structs, with bounds. What is not supported is refused by name.
 */
#include <linux/mount.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/internal.h"

#define MAX_MAJOR 4095
#define MAX_MINOR 1048575
#define MS_REC_ 16384ul
#define MS_UNBINDABLE_ (1ul << 17)
#define MS_PRIVATE_ (1ul << 18)
#define MS_SLAVE_ (1ul << 19)
#define MS_SHARED_ (1ul << 20)

static const struct flag_word {
	const char *word;
	uint64_t set, clear;
} FLAGS[] = {
	{ "ro", MOUNT_ATTR_RDONLY, 0 },
	{ "rw", 0, MOUNT_ATTR_RDONLY },
	{ "nosuid", MOUNT_ATTR_NOSUID, 0 },
	{ "suid", 0, MOUNT_ATTR_NOSUID },
	{ "nodev", MOUNT_ATTR_NODEV, 0 },
	{ "dev", 0, MOUNT_ATTR_NODEV },
	{ "noexec", MOUNT_ATTR_NOEXEC, 0 },
	{ "exec", 0, MOUNT_ATTR_NOEXEC },
	{ "nodiratime", MOUNT_ATTR_NODIRATIME, 0 },
	{ "diratime", 0, MOUNT_ATTR_NODIRATIME },
	{ "nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0 },
	{ "symfollow", 0, MOUNT_ATTR_NOSYMFOLLOW },
	{ "noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME },
	{ "strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME },
	{ "relatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME },
	{ "defaults", 0, 0 },
};

static const struct {
	const char *word;
	uint64_t propagation;
} PROPAGATIONS[] = {
	{ "private", MS_PRIVATE_ },       { "rprivate", MS_PRIVATE_ | MS_REC_ },       { "slave", MS_SLAVE_ },
	{ "rslave", MS_SLAVE_ | MS_REC_ }, { "shared", MS_SHARED_ },                    { "rshared", MS_SHARED_ | MS_REC_ },
	{ "unbindable", MS_UNBINDABLE_ }, { "runbindable", MS_UNBINDABLE_ | MS_REC_ },
};

static bool read_propagation(const char *word, uint64_t *propagation)
{
	for (size_t i = 0; i < GT_COUNT(PROPAGATIONS); i++) {
		if (strcmp(word, PROPAGATIONS[i].word) == 0) {
			*propagation = PROPAGATIONS[i].propagation;
			return true;
		}
	}
	return false;
}

static bool read_flag(struct spec_mount *mount, const char *word)
{
	for (size_t i = 0; i < GT_COUNT(FLAGS); i++) {
		if (strcmp(word, FLAGS[i].word) == 0) {
			mount->attr_set = (mount->attr_set & ~FLAGS[i].clear) | FLAGS[i].set;
			mount->attr_clear = (mount->attr_clear & ~FLAGS[i].set) | FLAGS[i].clear;
			return true;
		}
		if (word[0] == 'r' && strcmp(word + 1, FLAGS[i].word) == 0) {
			mount->attr_set_all = (mount->attr_set_all & ~FLAGS[i].clear) | FLAGS[i].set;
			mount->attr_clear_all = (mount->attr_clear_all & ~FLAGS[i].set) | FLAGS[i].clear;
			return true;
		}
	}
	return false;
}

static void read_option(struct spec_mount *mount, const char *word)
{
	if (strcmp(word, "bind") == 0)
		mount->bind = true;
	else if (strcmp(word, "rbind") == 0)
		mount->bind = mount->recursive = true;
	else if (strcmp(word, "idmap") == 0 || strcmp(word, "ridmap") == 0)
		mount->idmap = true;
	else if (strncmp(word, "gantry.subpath=", 15) == 0)
		mount->subpath = word + 15;
	else if (strncmp(word, "gantry.namespace=", 17) == 0)
		mount->namespace = word + 17;
	else if (!read_propagation(word, &mount->propagation) && !read_flag(mount, word) && *word)
		gt_strings_add(&mount->data, word);
}

static int read_mount(const json_t *json, struct spec_mount *mount, struct gt_error *err)
{
	json_t *options = NULL, *option;
	size_t i;
	*mount = (struct spec_mount){ .type = "", .source = "" };
	if (gt_json_string(json, "destination", &mount->destination, err) < 0 || gt_json_string(json, "type", &mount->type, err) < 0 ||
	    gt_json_string(json, "source", &mount->source, err) < 0 || gt_json_array(json, "options", &options, err) < 0)
		return -1;
	if (!mount->destination || mount->destination[0] != '/')
		return gt_fail(err, GT_INVALID, "a mount's destination is not an absolute path: %s", mount->destination ? mount->destination : "(none)");
	mount->bind = strcmp(mount->type, "bind") == 0;
	json_array_foreach(options, i, option) {
		if (!json_is_string(option))
			return gt_fail(err, GT_INVALID, "the options of the mount on %s are not strings", mount->destination);
		read_option(mount, json_string_value(option));
	}
	mount->idmap = mount->idmap || json_array_size(gt_json_get(json, "uidMappings"));
	if (mount->bind && mount->data.count)
		return gt_fail(err, GT_INVALID, "the bind mount on %s has an option that is not known: %s", mount->destination, mount->data.items[0]);
	return 0;
}

static int read_mounts(const json_t *config, struct spec *spec, struct gt_error *err)
{
	json_t *list = NULL;
	if (gt_json_array(config, "mounts", &list, err) < 0)
		return -1;
	size_t count = json_array_size(list);
	if (count < 1 || count > MAX_MOUNTS)
		return gt_fail(err, GT_INVALID, "a bundle has 1 to %d mounts, this one %zu", MAX_MOUNTS, count);
	spec->mounts = gt_xcalloc(count, sizeof *spec->mounts);
	while (spec->mount_count < count) {
		size_t i = spec->mount_count++; /* counted before: what it has when it fails is released with the rest */
		if (read_mount(json_array_get(list, i), &spec->mounts[i], err) < 0)
			return -1;
	}
	if (strcmp(spec->mounts[0].destination, "/"))
		return gt_fail(err, GT_INVALID, "the first mount of the bundle is not the root file system");
	return 0;
}

static int read_namespaces(const json_t *linux_part, struct spec *spec, struct gt_error *err)
{
	static const struct {
		const char *type;
		int flag;
	} TYPES[] = { { "pid", CLONE_NEWPID }, { "network", CLONE_NEWNET }, { "mount", CLONE_NEWNS },      { "ipc", CLONE_NEWIPC },
		      { "uts", CLONE_NEWUTS }, { "user", CLONE_NEWUSER },   { "cgroup", CLONE_NEWCGROUP } };
	size_t i;
	json_t *entry;
	json_array_foreach(gt_json_get(linux_part, "namespaces"), i, entry) {
		const char *type = NULL, *path = NULL;
		if (gt_json_string(entry, "type", &type, err) < 0 || gt_json_string(entry, "path", &path, err) < 0)
			return -1;
		size_t t = 0;
		while (t < GT_COUNT(TYPES) && (!type || strcmp(type, TYPES[t].type)))
			t++;
		if (t == GT_COUNT(TYPES) || spec_namespace(spec, TYPES[t].flag))
			return gt_fail(err, GT_INVALID, "the namespace %s is not known or stands twice", type ? type : "(none)");
		if (path && path[0] && (TYPES[t].flag == CLONE_NEWNS || TYPES[t].flag == CLONE_NEWUSER))
			return gt_fail(err, GT_UNSUPPORTED, "joining another's %s namespace is not supported", type);
		spec->namespaces[spec->namespace_count++] = (struct spec_namespace){ TYPES[t].flag, path && path[0] ? path : NULL };
	}
	if (!spec_namespace(spec, CLONE_NEWNS))
		return gt_fail(err, GT_INVALID, "the bundle has no mount namespace of its own");
	return 0;
}

const struct spec_namespace *spec_namespace(const struct spec *spec, int flag)
{
	for (size_t i = 0; i < spec->namespace_count; i++) {
		if (spec->namespaces[i].flag == flag)
			return &spec->namespaces[i];
	}
	return NULL;
}

static int read_map(const json_t *list, struct idmap *map, size_t *count, struct gt_error *err)
{
	size_t i;
	json_t *entry;
	json_array_foreach(list, i, entry) {
		struct idmap *row = &map[*count];
		if (*count == 32)
			return gt_fail(err, GT_TOO_LARGE, "more than 32 id mappings");
		if (gt_json_int(entry, "containerID", &row->inside, err) < 0 || gt_json_int(entry, "hostID", &row->outside, err) < 0 ||
		    gt_json_int(entry, "size", &row->size, err) < 0)
			return -1;
		++*count;
	}
	return 0;
}

static int read_device(const json_t *json, struct spec_device *device, struct gt_error *err)
{
	const char *type = "c";
	int64_t mode = 0666, uid = 0, gid = 0;
	if (gt_json_string(json, "path", &device->path, err) < 0 || gt_json_string(json, "type", &type, err) < 0 ||
	    gt_json_int(json, "major", &device->major, err) < 0 || gt_json_int(json, "minor", &device->minor, err) < 0 ||
	    gt_json_int(json, "fileMode", &mode, err) < 0 || gt_json_int(json, "uid", &uid, err) < 0 || gt_json_int(json, "gid", &gid, err) < 0)
		return -1;
	if (!device->path || device->path[0] != '/')
		return gt_fail(err, GT_INVALID, "a device has no absolute path");
	mode_t kind = type[0] == 'b' ? S_IFBLK : type[0] == 'p' ? S_IFIFO : type[0] == 'c' || type[0] == 'u' ? S_IFCHR : 0;
	if (!kind)
		return gt_fail(err, GT_INVALID, "the device %s has the unknown type %.8s", device->path, type);
	if (device->major < 0 || device->major > MAX_MAJOR || device->minor < 0 || device->minor > MAX_MINOR)
		return gt_fail(err, GT_INVALID, "the device %s has numbers that Linux does not know: %lld:%lld", device->path, (long long)device->major,
			       (long long)device->minor);
	device->mode = kind | ((mode_t)mode & 07777);
	device->uid = (uid_t)uid;
	device->gid = (gid_t)gid;
	return 0;
}

static int read_devices(const json_t *linux_part, struct spec *spec, struct gt_error *err)
{
	json_t *list = NULL;
	if (gt_json_array(linux_part, "devices", &list, err) < 0)
		return -1;
	size_t count = json_array_size(list);
	if (count > MAX_MOUNTS)
		return gt_fail(err, GT_TOO_LARGE, "more than %d devices", MAX_MOUNTS);
	spec->devices = gt_xcalloc(count + 1, sizeof *spec->devices);
	for (size_t i = 0; i < count; i++, spec->device_count++) {
		if (read_device(json_array_get(list, i), &spec->devices[i], err) < 0)
			return -1;
	}
	return 0;
}

static int read_paths(const json_t *linux_part, const char *name, struct gt_strings *paths, struct gt_error *err)
{
	size_t i;
	json_t *path;
	json_array_foreach(gt_json_get(linux_part, name), i, path) {
		if (!json_is_string(path) || json_string_value(path)[0] != '/' || paths->count >= MAX_MOUNTS)
			return gt_fail(err, GT_INVALID, "%s holds something that is not an absolute path, or too much", name);
		gt_strings_add(paths, json_string_value(path));
	}
	return 0;
}

static int read_linux(struct spec *spec, struct gt_error *err)
{
	const json_t *part = spec->linux_part;
	const char *propagation = NULL;
	json_t *resources = NULL, *seccomp = NULL, *sysctl = NULL;
	if (read_namespaces(part, spec, err) < 0 || read_map(gt_json_get(part, "uidMappings"), spec->uid_map, &spec->uid_map_count, err) < 0 ||
	    read_map(gt_json_get(part, "gidMappings"), spec->gid_map, &spec->gid_map_count, err) < 0 || read_devices(part, spec, err) < 0 ||
	    read_paths(part, "maskedPaths", &spec->masked, err) < 0 || read_paths(part, "readonlyPaths", &spec->readonly, err) < 0 ||
	    gt_json_string(part, "cgroupsPath", &spec->cgroup, err) < 0 || gt_json_string(part, "rootfsPropagation", &propagation, err) < 0 ||
	    gt_json_object(part, "resources", &resources, err) < 0 || gt_json_object(part, "seccomp", &seccomp, err) < 0 ||
	    gt_json_object(part, "sysctl", &sysctl, err) < 0)
		return -1;
	if (propagation && propagation[0] && !read_propagation(propagation, &spec->root_propagation))
		return gt_fail(err, GT_INVALID, "rootfsPropagation %.32s is not known", propagation);
	spec->resources = resources;
	spec->seccomp = seccomp;
	spec->sysctl = sysctl;
	return 0;
}

static void read_annotations(const json_t *config, struct spec *spec)
{
	const json_t *annotations = gt_json_get(config, "annotations");
	spec->user = json_string_value(json_object_get(annotations, "org.gantry.user"));
	spec->group_add = json_string_value(json_object_get(annotations, "org.gantry.group-add"));
	spec->init = json_string_value(json_object_get(annotations, "org.gantry.init"));
	const char *idmap = json_string_value(json_object_get(annotations, "org.gantry.idmap-root"));
	spec->idmap_root = idmap && strcmp(idmap, "true") == 0;
}

int spec_read(const char *bundle, const json_t *config, struct spec *spec, struct gt_error *err)
{
	json_t *process = NULL, *linux_part = NULL, *root = NULL;
	*spec = (struct spec){ .bundle = bundle };
	if (gt_json_object(config, "process", &process, err) < 0 || gt_json_object(config, "linux", &linux_part, err) < 0 ||
	    gt_json_object(config, "root", &root, err) < 0 || gt_json_string(config, "hostname", &spec->hostname, err) < 0 ||
	    gt_json_string(config, "domainname", &spec->domainname, err) < 0 || gt_json_bool(root, "readonly", &spec->read_only, err) < 0 ||
	    gt_json_bool(process, "terminal", &spec->terminal, err) < 0 || gt_json_int(process, "oomScoreAdj", &spec->oom_score, err) < 0)
		return -1;
	if (!process || !linux_part)
		return gt_fail(err, GT_INVALID, "config.json has no process or no linux section");
	spec->process = process;
	spec->linux_part = linux_part;
	spec->has_oom_score = json_is_integer(gt_json_get(process, "oomScoreAdj"));
	read_annotations(config, spec);
	if (read_mounts(config, spec, err) == 0 && read_linux(spec, err) == 0)
		return 0;
	spec_release(spec);
	return -1;
}

void spec_release(struct spec *spec)
{
	for (size_t i = 0; i < spec->mount_count; i++)
		gt_strings_free(&spec->mounts[i].data);
	free(spec->mounts);
	free(spec->devices);
	gt_strings_free(&spec->masked);
	gt_strings_free(&spec->readonly);
	spec->mounts = NULL;
	spec->devices = NULL;
	spec->mount_count = spec->device_count = 0;
}
