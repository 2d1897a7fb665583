#include "engine/cdi.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define MAX_DEVICES 256

/* One look at the files, and what has been chosen of them. */
struct choice {
	json_t *specs;
	json_t *edits;          /* array of containerEdits, those of a file before those of its devices */
	json_t *used;           /* qualified names and kinds that are among them already */
};

static const char *text_of(const json_t *object, const char *name)
{
	const char *text = json_string_value(gt_json_get(object, name));
	return text ? text : "";
}

/* ---- choosing ---- */

static void add_edits(struct choice *choice, const char *name, const json_t *owner)
{
	json_t *edits = gt_json_get(owner, "containerEdits");
	if (json_object_get(choice->used, name))
		return;
	json_object_set_new(choice->used, name, json_true());
	if (json_is_object(edits))
		json_array_append(choice->edits, edits);
}

/* The first file that has the device: those of greater weight come first. */
static int choose(struct choice *choice, const char *kind, const char *device, struct gt_error *err)
{
	size_t i, j;
	json_t *spec, *entry;
	json_array_foreach(choice->specs, i, spec) {
		if (strcmp(text_of(spec, "kind"), kind))
			continue;
		json_array_foreach(gt_json_get(spec, "devices"), j, entry) {
			if (strcmp(text_of(entry, "name"), device))
				continue;
			AUTO_FREE char *file = gt_xasprintf("%zu %s", i, kind);
			AUTO_FREE char *name = gt_xasprintf("%s=%s", kind, device);
			add_edits(choice, file, spec);
			add_edits(choice, name, entry);
			return 0;
		}
	}
	return gt_fail(err, GT_INVALID, "CDI device injection failed: unresolvable CDI devices %.128s=%.128s", kind, device);
}

static int choose_qualified(struct choice *choice, const char *name, struct gt_error *err)
{
	AUTO_FREE char *kind = gt_xstrdup(name);
	char *device = strchr(kind, '=');
	if (!device || !strchr(kind, '/') || !device[1])
		return gt_fail(err, GT_INVALID, "%.255s is not the name of a CDI device (VENDOR/CLASS=DEVICE)", name);
	*device++ = '\0';
	return choose(choice, kind, device, err);
}

/* How many of a kind: "all" is a device of its own where there is one. */
static int choose_count(struct choice *choice, const char *kind, int64_t count, struct gt_error *err)
{
	size_t i, j;
	json_t *spec, *entry;
	int64_t found = 0;
	if (count < 0 && choose(choice, kind, "all", NULL) == 0)
		return 0;
	json_array_foreach(choice->specs, i, spec) {
		if (strcmp(text_of(spec, "kind"), kind))
			continue;
		json_array_foreach(gt_json_get(spec, "devices"), j, entry) {
			const char *name = text_of(entry, "name");
			if (strcmp(name, "all") == 0 || (count >= 0 && found == count))
				continue;
			if (choose(choice, kind, name, err) < 0)
				return -1;
			found++;
		}
	}
	return found > 0 && found >= count ? 0 :
					     gt_fail(err, GT_INVALID, "%lld devices of the kind %s are asked for, there are %lld", (long long)count, kind,
						     (long long)found);
}

/* The kind of devices that have a capability: --gpus asks for "gpu". NULL: none. */
static const char *kind_with(const struct choice *choice, const char *driver, const json_t *capabilities)
{
	size_t i, j, k;
	json_t *all, *word, *spec;
	json_array_foreach(capabilities, i, all) {
		json_array_foreach(all, j, word) {
			const char *class = json_string_value(word);
			json_array_foreach(choice->specs, k, spec) {
				const char *kind = text_of(spec, "kind"), *slash = strchr(kind, '/');
				size_t vendor = driver[0] ? strlen(driver) : 0;
				if (class && strcmp(slash + 1, class) == 0 && strncmp(kind, driver, vendor) == 0 &&
				    (!vendor || kind[vendor] == '.' || kind[vendor] == '/'))
					return kind;
			}
		}
	}
	return NULL;
}

static int choose_request(struct choice *choice, const json_t *request, struct gt_error *err)
{
	const char *driver = "";
	json_t *ids = NULL, *capabilities = NULL, *options = NULL, *id;
	int64_t count = 0;
	size_t i;
	if (gt_json_string(request, "Driver", &driver, err) < 0 || gt_json_array(request, "DeviceIDs", &ids, err) < 0 ||
	    gt_json_int(request, "Count", &count, err) < 0 || gt_json_array(request, "Capabilities", &capabilities, err) < 0 ||
	    gt_json_object(request, "Options", &options, err) < 0)
		return -1;
	if (json_object_size(options))
		return gt_fail(err, GT_UNSUPPORTED, "DeviceRequests: Options are not supported: CDI has none");
	if (count && json_array_size(ids))
		return gt_fail(err, GT_INVALID, "DeviceRequests: cannot set both Count and DeviceIDs");
	if (json_array_size(ids) > MAX_DEVICES || count > MAX_DEVICES)
		return gt_fail(err, GT_TOO_LARGE, "DeviceRequests: more than %d devices", MAX_DEVICES);
	bool cdi = strcmp(driver, "cdi") == 0;
	const char *kind = cdi ? "" : kind_with(choice, driver, capabilities);
	if (!kind) {
		AUTO_FREE char *text = capabilities ? json_dumps(capabilities, JSON_COMPACT) : NULL;
		return gt_fail(err, GT_INVALID, "could not select device driver \"%.64s\" with capabilities: %.255s: no CDI file of cdi_spec_dirs has such devices",
			       driver, text ? text : "[]");
	}
	if (cdi && !json_array_size(ids))
		return gt_fail(err, GT_INVALID, "DeviceRequests: the driver cdi needs DeviceIDs");
	if (!json_array_size(ids))
		return choose_count(choice, kind, count ? count : -1, err);
	json_array_foreach(ids, i, id) {
		const char *name = json_string_value(id);
		if (!name)
			return gt_fail(err, GT_INVALID, "DeviceRequests: a device's id is not a string");
		if ((cdi || strchr(name, '=') ? choose_qualified(choice, name, err) : choose(choice, kind, name, err)) < 0)
			return -1;
	}
	return 0;
}

/* ---- edits ---- */

static int check_edits(const json_t *edits, struct gt_error *err)
{
	static const char *const REFUSED[] = { "hooks", "intelRdt", "netDevices" };
	for (size_t i = 0; i < GT_COUNT(REFUSED); i++) {
		json_t *wish = gt_json_get(edits, REFUSED[i]);
		if (json_array_size(wish) || json_object_size(wish))
			return gt_fail(err, GT_UNSUPPORTED, "the CDI file asks for %s, which are not supported%s", REFUSED[i],
				       i ? "" : ": make the file without (nvidia-ctk cdi generate --disable-hook=all)");
	}
	return 0;
}

static int choose_all(struct gt_engine *engine, const json_t *requests, struct choice *choice, struct gt_error *err)
{
	const struct gt_config *config = atomic_load(&engine->config);
	size_t i;
	json_t *request, *edits;
	*choice = (struct choice){ .specs = cdi_files_read(&config->cdi_spec_dirs), .edits = json_array(), .used = json_object() };
	json_array_foreach(requests, i, request) {
		if (choose_request(choice, request, err) < 0)
			return -1;
	}
	json_array_foreach(choice->edits, i, edits) {
		if (check_edits(edits, err) < 0)
			return -1;
	}
	return 0;
}

static void choice_free(struct choice *choice)
{
	json_decref(choice->specs);
	json_decref(choice->edits);
	json_decref(choice->used);
}

/* A node's own numbers win over those of the host's node. */
static int add_node(const json_t *node, json_t *devices, json_t *rules, struct gt_error *err)
{
	const char *path = "", *host = "", *type = "", *access = "rwm";
	struct stat info = { 0 };
	int64_t major_number = -1, minor_number = -1, mode = 0666, uid = 0, gid = 0;
	if (gt_json_string(node, "path", &path, err) < 0 || gt_json_string(node, "hostPath", &host, err) < 0 || gt_json_string(node, "type", &type, err) < 0 ||
	    gt_json_string(node, "permissions", &access, err) < 0)
		return -1;
	if (path[0] != '/')
		return gt_fail(err, GT_INVALID, "the CDI file has a device node without an absolute path");
	if (stat(host[0] ? host : path, &info) == 0 && (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode))) {
		type = type[0] ? type : S_ISBLK(info.st_mode) ? "b" : "c";
		major_number = major(info.st_rdev);
		minor_number = minor(info.st_rdev);
		mode = info.st_mode & 0777;
		uid = info.st_uid;
		gid = info.st_gid;
	}
	if (gt_json_int(node, "major", &major_number, err) < 0 || gt_json_int(node, "minor", &minor_number, err) < 0 ||
	    gt_json_int(node, "fileMode", &mode, err) < 0 || gt_json_int(node, "uid", &uid, err) < 0 || gt_json_int(node, "gid", &gid, err) < 0)
		return -1;
	if (major_number < 0 || minor_number < 0 || (strcmp(type, "b") && strcmp(type, "c")) || strspn(access, "rwm") != strlen(access))
		return gt_fail(err, GT_INVALID, "the device node %.255s of the CDI file is not on this host, and the file does not say what it is", path);
	json_array_append_new(devices, json_pack("{s:s s:s s:I s:I s:I s:I s:I}", "path", path, "type", type, "major", (json_int_t)major_number, "minor",
						 (json_int_t)minor_number, "fileMode", (json_int_t)(mode & 0777), "uid", (json_int_t)uid, "gid",
						 (json_int_t)gid));
	json_array_append_new(rules, json_pack("{s:b s:s s:I s:I s:s}", "allow", 1, "type", type, "major", (json_int_t)major_number, "minor",
					       (json_int_t)minor_number, "access", access[0] ? access : "rwm"));
	return 0;
}

static int add_mount(const json_t *mount, json_t *mounts, struct gt_error *err)
{
	const char *from = "", *to = "", *type = "";
	json_t *options = NULL, *option;
	size_t i;
	bool bind = false;
	if (gt_json_string(mount, "hostPath", &from, err) < 0 || gt_json_string(mount, "containerPath", &to, err) < 0 ||
	    gt_json_string(mount, "type", &type, err) < 0 || gt_json_array(mount, "options", &options, err) < 0)
		return -1;
	if (from[0] != '/' || to[0] != '/')
		return gt_fail(err, GT_INVALID, "the CDI file has a mount without absolute paths");
	json_t *list = options ? json_deep_copy(options) : json_array();
	json_array_foreach(list, i, option)
		bind = bind || (json_is_string(option) && strstr(json_string_value(option), "bind"));
	if (!type[0] && !bind)
		json_array_append_new(list, json_string("rbind"));
	json_array_append_new(mounts, json_pack("{s:s s:s s:s s:o}", "destination", to, "type", type[0] ? type : "bind", "source", from, "options", list));
	return 0;
}

/* The shim looks users up: its groups are an annotation. */
static void add_groups(const json_t *groups, json_t *annotations)
{
	size_t i;
	json_t *group;
	json_array_foreach(groups, i, group) {
		const char *before = json_string_value(json_object_get(annotations, "org.gantry.group-add"));
		if (json_integer_value(group) > 0)
			json_object_set_new(annotations, "org.gantry.group-add",
					    json_sprintf("%s%s%lld", before ? before : "", before ? "," : "", (long long)json_integer_value(group)));
	}
}

static int apply_one(const json_t *edits, json_t *config, struct gt_error *err)
{
	json_t *linux_part = json_object_get(config, "linux"), *devices = json_object_get(linux_part, "devices");
	json_t *rules = json_object_get(json_object_get(linux_part, "resources"), "devices");
	json_t *list = NULL, *entry;
	size_t i;
	if (gt_json_array(edits, "env", &list, err) < 0)
		return -1;
	json_array_foreach(list, i, entry) {
		if (!json_is_string(entry) || !strchr(json_string_value(entry), '='))
			return gt_fail(err, GT_INVALID, "the CDI file has a variable that is not NAME=VALUE");
		json_array_append(json_object_get(json_object_get(config, "process"), "env"), entry);
	}
	list = NULL;
	if (gt_json_array(edits, "deviceNodes", &list, err) < 0)
		return -1;
	json_array_foreach(list, i, entry) {
		if (add_node(entry, devices, rules, err) < 0)
			return -1;
	}
	list = NULL;
	if (gt_json_array(edits, "mounts", &list, err) < 0)
		return -1;
	json_array_foreach(list, i, entry) {
		if (add_mount(entry, json_object_get(config, "mounts"), err) < 0)
			return -1;
	}
	add_groups(gt_json_get(edits, "additionalGIDs"), json_object_get(config, "annotations"));
	return 0;
}

int cdi_check(struct gt_engine *engine, const json_t *requests, struct gt_error *err)
{
	struct choice choice;
	if (requests && !json_is_null(requests) && !json_is_array(requests))
		return gt_fail(err, GT_INVALID, "DeviceRequests is not a list");
	if (!json_array_size(requests))
		return 0;
	int rc = choose_all(engine, requests, &choice, err);
	choice_free(&choice);
	return rc;
}

int cdi_apply(struct gt_engine *engine, const json_t *requests, json_t *config, struct gt_error *err)
{
	struct choice choice;
	size_t i;
	json_t *edits;
	if (!json_array_size(requests))
		return 0;
	int rc = choose_all(engine, requests, &choice, err);
	json_array_foreach(choice.edits, i, edits)
		rc = rc == 0 ? apply_one(edits, config, err) : rc;
	choice_free(&choice);
	return rc;
}
