/*
 * spec_mount.c - what a container mounts: -v, --mount, --tmpfs.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "args.h"
#include "cli.h"
#include "spec.h"

/* A path relative to the working directory, made absolute as text (it need not exist). */
static char *absolute(const char *path)
{
	char here[PATH_MAX];
	if (*path == '/' || !getcwd(here, sizeof here))
		return gt_xstrdup(path);
	char *real = realpath(path, NULL);
	if (real)
		return real;
	while (strncmp(path, "./", 2) == 0)
		path += 2;
	return gt_xasprintf("%s/%s", strcmp(here, "/") == 0 ? "" : here, strcmp(path, ".") == 0 ? "" : path);
}

int spec_volume(const char *text, json_t *binds, json_t *volumes, struct gt_error *err)
{
	const char *colon = strchr(text, ':');
	size_t parts = 1;
	for (const char *p = text; *p; p++)
		parts += *p == ':';
	if (parts > 3)
		return gt_fail(err, GT_INVALID, "invalid volume \"%.200s\": it reads [SOURCE:]TARGET[:OPTIONS]", text);
	if (!colon) {
		if (*text != '/')
			return gt_fail(err, GT_INVALID,
				       "invalid volume \"%.200s\": the path in the container must be absolute", text);
		json_object_set_new(volumes, text, json_object());
		return 0;
	}
	if (colon == text || colon[1] == '\0' || colon[1] == ':')
		return gt_fail(err, GT_INVALID, "invalid volume \"%.200s\": %s is empty", text,
			       colon == text ? "the source" : "the path in the container");
	AUTO_FREE char *source = gt_xstrndup(text, (size_t)(colon - text));
	if (*source != '.') {
		json_array_append_new(binds, json_string(text));
		return 0;
	}
	AUTO_FREE char *path = absolute(source);
	AUTO_FREE char *bind = gt_xasprintf("%s%s", path, colon);
	json_array_append_new(binds, json_string(bind));
	return 0;
}

int spec_tmpfs(const char *text, json_t *tmpfs, struct gt_error *err)
{
	size_t len = strcspn(text, ":");
	AUTO_FREE char *path = gt_xstrndup(text, len);
	if (*path != '/')
		return gt_fail(err, GT_INVALID, "invalid tmpfs \"%.200s\": the path in the container must be absolute", text);
	json_object_set_new(tmpfs, path, json_string(text[len] ? text + len + 1 : ""));
	return 0;
}

/* ---- --mount ---- */

struct mount_draft {
	json_t *mount;
	const char *text;
	struct gt_error *err;
};

static int bad_mount(const struct mount_draft *draft, const char *key, const char *why)
{
	return gt_fail(draft->err, GT_INVALID, "invalid mount \"%.200s\": %s %s", draft->text, key, why);
}

static json_t *part(const struct mount_draft *draft, const char *name)
{
	json_t *object = json_object_get(draft->mount, name);
	if (!object) {
		object = json_object();
		json_object_set_new(draft->mount, name, object);
	}
	return object;
}

static int parse_flag(const char *value, bool *yes)
{
	if (!value || strcmp(value, "true") == 0 || strcmp(value, "1") == 0)
		*yes = true;
	else if (strcmp(value, "false") == 0 || strcmp(value, "0") == 0)
		*yes = false;
	else
		return -1;
	return 0;
}

static int add_pair(const struct mount_draft *draft, json_t *object, const char *key, const char *value)
{
	size_t len = strcspn(value, "=");
	if (len == 0)
		return bad_mount(draft, key, "reads NAME=VALUE");
	AUTO_FREE char *name = gt_xstrndup(value, len);
	json_object_set_new(object, name, json_string(value[len] ? value + len + 1 : ""));
	return 0;
}

static json_t *sub(json_t *object, const char *name)
{
	json_t *inner = json_object_get(object, name);
	if (!inner) {
		inner = json_object();
		json_object_set_new(object, name, inner);
	}
	return inner;
}

static int set_bind_recursive(const struct mount_draft *draft, const char *value)
{
	json_t *options = part(draft, "BindOptions");
	if (strcmp(value, "enabled") == 0)
		return 0;
	if (strcmp(value, "disabled") == 0)
		json_object_set_new(options, "NonRecursive", json_true());
	else if (strcmp(value, "writable") == 0)
		json_object_set_new(options, "ReadOnlyNonRecursive", json_true());
	else if (strcmp(value, "readonly") == 0)
		json_object_set_new(options, "ReadOnlyForceRecursive", json_true());
	else
		return bad_mount(draft, "bind-recursive", "is enabled, disabled, writable or readonly");
	return 0;
}

/* Keys that may stand without a value. Returns 1 where key is none of them. */
static int set_switch(const struct mount_draft *draft, const char *key, const char *value)
{
	static const struct {
		const char *key, *part, *field;
	} switches[] = {
		{ "readonly", NULL, "ReadOnly" },
		{ "ro", NULL, "ReadOnly" },
		{ "volume-nocopy", "VolumeOptions", "NoCopy" },
		{ "bind-nonrecursive", "BindOptions", "NonRecursive" },
		{ "bind-create-src", "BindOptions", "CreateMountpoint" },
	};
	for (size_t i = 0; i < GT_COUNT(switches); i++) {
		bool yes;
		if (strcmp(switches[i].key, key) != 0)
			continue;
		if (parse_flag(value, &yes) < 0)
			return bad_mount(draft, key, "is true or false");
		json_object_set_new(switches[i].part ? part(draft, switches[i].part) : draft->mount, switches[i].field,
				    json_boolean(yes));
		return 0;
	}
	return 1;
}

static int set_tmpfs_option(const struct mount_draft *draft, const char *key, const char *value)
{
	if (strcmp(key, "tmpfs-size") == 0) {
		int64_t size;
		if (parse_bytes(value, &size) < 0)
			return bad_mount(draft, key, "is a size, such as 64m");
		json_object_set_new(part(draft, "TmpfsOptions"), "SizeBytes", json_integer(size));
		return 0;
	}
	char *end;
	long mode = strtol(value, &end, 8);
	if (*end || end == value || mode < 0 || mode > 07777)
		return bad_mount(draft, key, "is an octal mode, such as 1777");
	json_object_set_new(part(draft, "TmpfsOptions"), "Mode", json_integer(mode));
	return 0;
}

static int set_key(const struct mount_draft *draft, const char *key, const char *value)
{
	int done = set_switch(draft, key, value);
	if (done <= 0)
		return done;
	if (!value)
		return bad_mount(draft, key, "is not a key of --mount, or needs a value");
	if (strcmp(key, "type") == 0) {
		AUTO_FREE char *type = gt_xstrdup(value);
		jset_str(draft->mount, "Type", type);
	} else if (strcmp(key, "source") == 0 || strcmp(key, "src") == 0) {
		jset_str(draft->mount, "Source", value);
	} else if (strcmp(key, "target") == 0 || strcmp(key, "dst") == 0 || strcmp(key, "destination") == 0) {
		jset_str(draft->mount, "Target", value);
	} else if (strcmp(key, "consistency") == 0) {
		jset_str(draft->mount, "Consistency", value);
	} else if (strcmp(key, "bind-propagation") == 0) {
		jset_str(part(draft, "BindOptions"), "Propagation", value);
	} else if (strcmp(key, "bind-recursive") == 0) {
		return set_bind_recursive(draft, value);
	} else if (strcmp(key, "volume-subpath") == 0) {
		jset_str(part(draft, "VolumeOptions"), "Subpath", value);
	} else if (strcmp(key, "volume-label") == 0) {
		return add_pair(draft, sub(part(draft, "VolumeOptions"), "Labels"), key, value);
	} else if (strcmp(key, "volume-driver") == 0) {
		jset_str(sub(part(draft, "VolumeOptions"), "DriverConfig"), "Name", value);
	} else if (strcmp(key, "volume-opt") == 0) {
		return add_pair(draft, sub(sub(part(draft, "VolumeOptions"), "DriverConfig"), "Options"), key, value);
	} else if (strcmp(key, "image-subpath") == 0) {
		jset_str(part(draft, "ImageOptions"), "Subpath", value);
	} else if (strncmp(key, "tmpfs-", 6) == 0 && (strcmp(key, "tmpfs-size") == 0 || strcmp(key, "tmpfs-mode") == 0)) {
		return set_tmpfs_option(draft, key, value);
	} else {
		return bad_mount(draft, key, "is not a key of --mount");
	}
	return 0;
}

static int check_mount(const struct mount_draft *draft)
{
	static const struct {
		const char *options, *type;
	} belong[] = { { "BindOptions", "bind" },
		       { "VolumeOptions", "volume" },
		       { "TmpfsOptions", "tmpfs" },
		       { "ImageOptions", "image" } };
	if (!json_object_get(draft->mount, "Type"))
		json_object_set_new(draft->mount, "Type", json_string("volume"));
	const char *type = js(draft->mount, "Type");
	if (strcmp(type, "bind") != 0 && strcmp(type, "volume") != 0 && strcmp(type, "tmpfs") != 0 &&
	    strcmp(type, "image") != 0)
		return bad_mount(draft, "type", "is bind, volume, tmpfs or image");
	if (!*js(draft->mount, "Target"))
		return bad_mount(draft, "target", "is required");
	if (strcmp(type, "bind") == 0 && !*js(draft->mount, "Source"))
		return bad_mount(draft, "source", "is required for a bind mount");
	for (size_t i = 0; i < GT_COUNT(belong); i++) {
		if (json_object_get(draft->mount, belong[i].options) && strcmp(type, belong[i].type) != 0)
			return gt_fail(draft->err, GT_INVALID,
				       "invalid mount \"%.200s\": options of a %s mount on a mount of type %s",
				       draft->text, belong[i].type, type);
	}
	if (strcmp(type, "bind") == 0) {
		AUTO_FREE char *path = absolute(js(draft->mount, "Source"));
		json_object_set_new(draft->mount, "Source", json_string(path));
	}
	return 0;
}

json_t *spec_mount(const char *text, struct gt_error *err)
{
	struct mount_draft draft = { json_object(), text, err };
	struct gt_strings fields = { 0 };
	args_split_csv(text, &fields);
	int done = 0;
	for (size_t i = 0; i < fields.count && done == 0; i++) {
		char *equals = strchr(fields.items[i], '=');
		if (equals)
			*equals = '\0';
		done = set_key(&draft, fields.items[i], equals ? equals + 1 : NULL);
	}
	if (done == 0)
		done = check_mount(&draft);
	gt_strings_free(&fields);
	if (done == 0)
		return draft.mount;
	json_decref(draft.mount);
	return NULL;
}
