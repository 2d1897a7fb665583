/*
 * mounts_read.c - the forms in which users ask for mounts. Nothing is made here; sentences are Docker's where people know them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/mounts.h"

char *mount_clean_path(const char *path)
{
	if (path[0] != '/' || strlen(path) >= 4096)
		return NULL;
	AUTO_FREE char *copy = gt_xstrdup(path);
	char *clean = gt_xcalloc(1, strlen(path) + 2), *rest = copy, *part;
	size_t len = 0;
	while ((part = strsep(&rest, "/")) != NULL) {
		if (!*part || strcmp(part, ".") == 0)
			continue;
		if (strcmp(part, "..") == 0) {
			while (len > 0 && clean[--len] != '/')
				;
			clean[len] = '\0';
			continue;
		}
		clean[len++] = '/';
		memcpy(clean + len, part, strlen(part) + 1);
		len += strlen(part);
	}
	if (!len) {
		free(clean);
		return NULL;
	}
	return clean;
}

void mount_release(struct gt_container_mount *mount)
{
	char **const strings[] = { &mount->type, &mount->name, &mount->driver, &mount->source, &mount->destination,
				   &mount->mode, &mount->propagation, &mount->subpath, &mount->layer, &mount->tmpfs_options };
	for (size_t i = 0; i < GT_COUNT(strings); i++) {
		free(*strings[i]);
		*strings[i] = NULL;
	}
}

static int set_destination(struct gt_container_mount *mount, const char *path, const char *spec, struct gt_error *err)
{
	mount->destination = mount_clean_path(path);
	if (mount->destination)
		return 0;
	if (path[0] != '/')
		return gt_fail(err, GT_INVALID, "invalid volume specification: '%.255s': invalid mount path: '%.255s' mount path must be absolute", spec, path);
	return gt_fail(err, GT_INVALID, "invalid volume specification: '%.255s': invalid specification: destination can't be '/'", spec);
}

static bool is_one_of(const char *const *words, const char *word)
{
	while (*words && strcmp(*words, word))
		words++;
	return *words != NULL;
}

static bool is_propagation(const char *word)
{
	static const char *const WORDS[] = { "private", "rprivate", "shared", "rshared", "slave", "rslave", NULL };
	return is_one_of(WORDS, word);
}

/* Of effect between a host and its virtual machine alone: on Linux every one is "consistent". */
static bool is_consistency(const char *word)
{
	static const char *const WORDS[] = { "default", "consistent", "cached", "delegated", NULL };
	return is_one_of(WORDS, word);
}

/* ---- Binds ---- */

static int read_mode(struct gt_container_mount *mount, const char *mode, const char *spec, struct gt_error *err)
{
	AUTO_FREE char *copy = gt_xstrdup(mode);
	char *rest = copy, *word;
	bool bind = strcmp(mount->type, "bind") == 0;
	unsigned seen = 0;
	while ((word = strsep(&rest, ",")) != NULL) {
		enum { ACCESS = 1, LABEL = 2, COPY = 4, PROPAGATION = 8, CONSISTENCY = 16 } kind = 0;
		if (strcmp(word, "ro") == 0 || strcmp(word, "rw") == 0)
			kind = ACCESS;
		else if (strcmp(word, "z") == 0 || strcmp(word, "Z") == 0) /* without SELinux they have no effect, as in Docker */
			kind = LABEL;
		else if (strcmp(word, "nocopy") == 0 && !bind)
			kind = COPY;
		else if (is_propagation(word) && bind)
			kind = PROPAGATION;
		else if (is_consistency(word) && bind)
			kind = CONSISTENCY;
		if (!kind || seen & kind)
			return gt_fail(err, GT_INVALID, "invalid volume specification: '%.255s': invalid mode: %.64s", spec, mode);
		seen |= kind;
		mount->rw = kind == ACCESS ? word[1] == 'w' : mount->rw;
		mount->no_copy = mount->no_copy || kind == COPY;
		if (kind == PROPAGATION) {
			free(mount->propagation);
			mount->propagation = gt_xstrdup(word);
		}
	}
	return 0;
}

int mount_read_bind(const char *text, const char *volume_driver, struct mount_wish *wish, struct gt_error *err)
{
	struct gt_container_mount *mount = &wish->mount;
	AUTO_FREE char *copy = gt_xstrdup(text);
	char *rest = copy, *parts[3] = { 0 };
	size_t count = 0;
	*wish = (struct mount_wish){ .mount = { .rw = true, .tmpfs_size = -1, .tmpfs_mode = -1 } };
	do {
		char *part = strsep(&rest, ":");
		if (count == 3 || !*part)
			return gt_fail(err, GT_INVALID, "invalid volume specification: '%.255s'", text);
		parts[count++] = part;
	} while (rest);
	if (count == 1)
		return mount_read_volume(parts[0], volume_driver, wish, err);
	bool bind = parts[0][0] == '/';
	mount->type = gt_xstrdup(bind ? "bind" : "volume");
	mount->mode = gt_xstrdup(parts[2] ? parts[2] : bind ? "" : "z");
	if (set_destination(mount, parts[1], text, err) < 0)
		return -1;
	if (bind) {
		mount->source = mount_clean_path(parts[0]);
		if (!mount->source)
			mount->source = gt_xstrdup("/");
		mount->create_source = true;
		mount->propagation = gt_xstrdup("rprivate");
	} else {
		if (!gt_is_name(parts[0]))
			return gt_fail(err, GT_INVALID,
				       "create %.255s: \"%.255s\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are "
				       "allowed. If you intended to pass a host directory, use absolute path",
				       parts[0], parts[0]);
		mount->name = gt_xstrdup(parts[0]);
		mount->driver = gt_xstrdup(volume_driver);
	}
	return parts[2] ? read_mode(mount, parts[2], text, err) : 0;
}

/* ---- Volumes and Tmpfs ---- */

int mount_read_volume(const char *destination, const char *driver, struct mount_wish *wish, struct gt_error *err)
{
	*wish = (struct mount_wish){ .mount = { .type = gt_xstrdup("volume"), .driver = gt_xstrdup(driver), .mode = gt_xstrdup(""), .rw = true,
						.anonymous = true, .tmpfs_size = -1, .tmpfs_mode = -1 } };
	return set_destination(&wish->mount, destination, destination, err);
}

int mount_read_tmpfs(const char *destination, const char *options, struct mount_wish *wish, struct gt_error *err)
{
	*wish = (struct mount_wish){ .mount = { .type = gt_xstrdup("tmpfs"), .mode = gt_xstrdup(""), .tmpfs_options = gt_xstrdup(options),
						.rw = true, .tmpfs_size = -1, .tmpfs_mode = -1 } };
	AUTO_FREE char *copy = gt_xstrdup(options);
	char *rest = copy, *word;
	while ((word = strsep(&rest, ",")) != NULL) { /* the last word counts */
		if (strcmp(word, "ro") == 0 || strcmp(word, "rw") == 0)
			wish->mount.rw = word[1] == 'w';
	}
	if (strlen(options) > 1024)
		return gt_fail(err, GT_INVALID, "Tmpfs: the options of %.255s are longer than 1024 bytes", destination);
	return set_destination(&wish->mount, destination, destination, err);
}

/* ---- Mounts ---- */

static int fail_config(struct gt_error *err, const char *type, const char *why)
{
	return gt_fail(err, GT_INVALID, "invalid mount config for type \"%.32s\": %s", type, why);
}

static int read_bind_options(const json_t *options, struct gt_container_mount *mount, struct gt_error *err)
{
	const char *propagation = NULL;
	bool create = false, flat = false, force = false;
	struct stat info;
	if (gt_json_string(options, "Propagation", &propagation, err) < 0 || gt_json_bool(options, "NonRecursive", &mount->non_recursive, err) < 0 ||
	    gt_json_bool(options, "CreateMountpoint", &create, err) < 0 || gt_json_bool(options, "ReadOnlyNonRecursive", &flat, err) < 0 ||
	    gt_json_bool(options, "ReadOnlyForceRecursive", &force, err) < 0)
		return -1;
	if (propagation && propagation[0] && !is_propagation(propagation))
		return fail_config(err, "bind", "invalid propagation mode");
	if (flat && force)
		return fail_config(err, "bind", "ReadOnlyForceRecursive and ReadOnlyNonRecursive are contradictory options");
	if ((flat || force) && mount->rw)
		return fail_config(err, "bind", "ReadOnlyNonRecursive and ReadOnlyForceRecursive need ReadOnly");
	mount->propagation = gt_xstrdup(propagation && propagation[0] ? propagation : "rprivate");
	mount->create_source = create;
	free(mount->mode);
	mount->mode = gt_xstrdup(flat ? "ro-non-recursive" : "");
	if (!mount->source || mount->source[0] != '/')
		return fail_config(err, "bind", "invalid mount path: the source must be absolute");
	if (!create && lstat(mount->source, &info) < 0)
		return gt_fail(err, GT_INVALID, "invalid mount config for type \"bind\": bind source path does not exist: %s", mount->source);
	return 0;
}

static bool is_subpath(const char *path)
{
	return !path || (path[0] != '/' && !strstr(path, "..") && strlen(path) <= 1024);
}

static int read_volume_options(const json_t *options, struct mount_wish *wish, struct gt_error *err)
{
	struct gt_container_mount *mount = &wish->mount;
	const char *driver = NULL, *subpath = NULL;
	json_t *config = NULL, *driver_options = NULL, *labels = NULL;
	if (gt_json_bool(options, "NoCopy", &mount->no_copy, err) < 0 || gt_json_object(options, "Labels", &labels, err) < 0 ||
	    gt_json_object(options, "DriverConfig", &config, err) < 0 || gt_json_string(options, "Subpath", &subpath, err) < 0 ||
	    gt_json_string(config, "Name", &driver, err) < 0 || gt_json_object(config, "Options", &driver_options, err) < 0)
		return -1;
	if (!is_subpath(subpath))
		return fail_config(err, "volume", "the subpath must be a relative path within the volume");
	if (mount->source && mount->source[0]) {
		if (!gt_is_name(mount->source))
			return fail_config(err, "volume", "the source is not a volume's name (only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed)");
		mount->name = take(mount->source);
	}
	mount->anonymous = !mount->name;
	mount->driver = gt_xstrdup(driver);
	mount->subpath = subpath && subpath[0] ? gt_xstrdup(subpath) : NULL;
	if (mount->subpath && mount->anonymous)
		return fail_config(err, "volume", "must not set Subpath when using anonymous volumes");
	wish->volume_options = driver_options;
	wish->volume_labels = labels;
	return 0;
}

static int read_image_options(const json_t *options, struct gt_container_mount *mount, struct gt_error *err)
{
	const char *subpath = NULL;
	if (gt_json_string(options, "Subpath", &subpath, err) < 0)
		return -1;
	if (!is_subpath(subpath))
		return fail_config(err, "image", "the subpath must be a relative path within the image");
	if (!mount->source || !mount->source[0])
		return fail_config(err, "image", "field Source must not be empty");
	mount->subpath = subpath && subpath[0] ? gt_xstrdup(subpath) : NULL;
	mount->rw = false; /* as with Docker, whatever ReadOnly says */
	return 0;
}

/* TmpfsOptions.Options: [["exec"], ["size", "1m"]] */
static int read_tmpfs_options(const json_t *options, struct gt_container_mount *mount, struct gt_error *err)
{
	AUTO_BUF struct gt_buf text = { 0 };
	json_t *list = NULL, *pair;
	int64_t size = 0, mode = 0;
	size_t i;
	if (mount->source && mount->source[0])
		return fail_config(err, "tmpfs", "source is not allowed");
	if (gt_json_int(options, "SizeBytes", &size, err) < 0 || gt_json_int(options, "Mode", &mode, err) < 0 ||
	    gt_json_array(options, "Options", &list, err) < 0)
		return -1;
	if (size < 0 || mode < 0 || mode > 07777)
		return fail_config(err, "tmpfs", size < 0 ? "SizeBytes cannot be negative" : "Mode is not a file mode");
	mount->tmpfs_size = size ? size : -1; /* zero is "not given" to Docker's clients */
	mount->tmpfs_mode = mode ? mode : -1;
	json_array_foreach(list, i, pair) {
		const char *key = json_string_value(json_array_get(pair, 0)), *value = json_string_value(json_array_get(pair, 1));
		if (!key || text.len > 1024)
			return fail_config(err, "tmpfs", "Options is not a list of [name] or [name, value]");
		gt_buf_printf(&text, "%s%s%s%s", text.len ? "," : "", key, value ? "=" : "", value ? value : "");
	}
	mount->tmpfs_options = gt_xstrdup(text.len ? text.data : "");
	return 0;
}

int mount_read_object(const json_t *object, struct mount_wish *wish, struct gt_error *err)
{
	struct gt_container_mount *mount = &wish->mount;
	const char *type = "", *source = NULL, *target = "", *consistency = "default";
	json_t *bind = NULL, *volume = NULL, *tmpfs = NULL, *image = NULL;
	bool read_only = false;
	*wish = (struct mount_wish){ .mount = { .tmpfs_size = -1, .tmpfs_mode = -1 } };
	if (!json_is_object(object))
		return gt_fail(err, GT_INVALID, "Mounts holds something that is not an object");
	if (gt_json_string(object, "Type", &type, err) < 0 || gt_json_string(object, "Source", &source, err) < 0 ||
	    gt_json_string(object, "Target", &target, err) < 0 || gt_json_string(object, "Consistency", &consistency, err) < 0 || gt_json_bool(object, "ReadOnly", &read_only, err) < 0 ||
	    gt_json_object(object, "BindOptions", &bind, err) < 0 || gt_json_object(object, "VolumeOptions", &volume, err) < 0 ||
	    gt_json_object(object, "TmpfsOptions", &tmpfs, err) < 0 || gt_json_object(object, "ImageOptions", &image, err) < 0)
		return -1;
	bool is_bind = strcmp(type, "bind") == 0, is_volume = strcmp(type, "volume") == 0, is_tmpfs = strcmp(type, "tmpfs") == 0;
	bool is_image = strcmp(type, "image") == 0;
	if (!is_bind && !is_volume && !is_tmpfs && !is_image)
		return strcmp(type, "cluster") == 0 || strcmp(type, "npipe") == 0 ?
			       gt_fail(err, GT_UNSUPPORTED, "mounts of type \"%s\" are not supported", type) :
			       gt_fail(err, GT_INVALID, "mount type unknown: \"%.32s\"", type);
	if (!target[0])
		return fail_config(err, type, "field Target must not be empty");
	if (consistency[0] && !is_consistency(consistency))
		return fail_config(err, type, "invalid consistency: it is one of default, consistent, cached, delegated");
	if ((bind && !is_bind) || (volume && !is_volume) || (tmpfs && !is_tmpfs) || (image && !is_image))
		return fail_config(err, type, "options of another type of mount are given");
	mount->type = gt_xstrdup(type);
	mount->source = gt_xstrdup(source);
	mount->mode = gt_xstrdup("");
	mount->rw = !read_only;
	mount->destination = mount_clean_path(target);
	if (!mount->destination)
		return fail_config(err, type, "invalid mount path: the target must be an absolute path other than '/'");
	if (is_image)
		return read_image_options(image, mount, err);
	return is_bind ? read_bind_options(bind, mount, err) : is_volume ? read_volume_options(volume, wish, err) : read_tmpfs_options(tmpfs, mount, err);
}
