/*
 * @NAME@.c - layers as directories, stacked by overlayfs.
 *
 * A start to build on: it keeps every rule of <gantry/plugin.h>, as `make check` shows. Of a layer there is, below the state directory:
 *
 *     ID/about    "image PARENT" or "writable PARENT"; PARENT is missing for a base layer
 *     ID/diff     what it adds, changes and deletes (deletions as overlayfs has them)
 *     ID/work     overlayfs's own
 *     ID/sealed   once an image layer is finished
 *
 * A layer appears and goes by one rename(); names that begin with "." are half made or half removed, and are swept at open().
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <gantry/plugin.h>

enum { MAX_PARENTS = 128, ID_ROOM = 256 };

struct driver {
	const struct gantry_host *host;
	int layers;             /* the state directory, open */
};

static int fail(struct gantry_error *err, const char *id, const char *what)
{
	return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "layer %s: %s", id, what);
}

/* ---- trees; what is in them is never followed ---- */

static int remove_tree(int parent, const char *name)
{
	if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
		return 0;
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return -1;
	int rc = 0;
	for (struct dirent *entry; rc == 0 && (entry = readdir(dir));) {
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			rc = remove_tree(fd, entry->d_name);
	}
	closedir(dir);
	return rc == 0 && unlinkat(parent, name, AT_REMOVEDIR) == 0 ? 0 : -1;
}

static void measure(int parent, const char *name, struct gantry_usage *usage)
{
	struct stat info;
	if (fstatat(parent, name, &info, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	usage->bytes += info.st_blocks * 512;
	usage->inodes++;
	int fd = S_ISDIR(info.st_mode) ? openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	for (struct dirent *entry; dir && (entry = readdir(dir));) {
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			measure(fd, entry->d_name, usage);
	}
	if (dir)
		closedir(dir);
}

/* ---- one layer ---- */

struct about {
	bool image;
	char parent[ID_ROOM];   /* "": a base layer */
};

static bool is_sealed(const struct driver *driver, const char *id)
{
	char path[ID_ROOM + 16];
	snprintf(path, sizeof path, "%s/sealed", id);
	return faccessat(driver->layers, path, F_OK, 0) == 0;
}

static int read_about(const struct driver *driver, const char *id, struct about *about, struct gantry_error *err)
{
	char path[ID_ROOM + 16], text[ID_ROOM + 16], kind[16] = "";
	snprintf(path, sizeof path, "%s/about", id);
	int fd = openat(driver->layers, path, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	int failure = errno;
	if (fd >= 0)
		close(fd);
	if (len < 0)
		return failure == ENOENT ? gantry_fail(err, GANTRY_E_NOT_FOUND, "layer %s: there is none of that id", id) :
					   gantry_fail_errno(err, GANTRY_E_INTERNAL, failure, "layer %s: read its file about", id);
	text[len] = '\0';
	about->parent[0] = '\0';
	sscanf(text, "%15s %255s", kind, about->parent);
	about->image = strcmp(kind, "image") == 0;
	return 0;
}

/* A directory with all that belongs to it, under a name that is not a layer's yet. */
static int make_aside(int layers, const char *aside, const struct about *about)
{
	if (remove_tree(layers, aside) < 0 || mkdirat(layers, aside, 0700) < 0)
		return -1;
	int dir = openat(layers, aside, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int file = dir < 0 ? -1 : openat(dir, "about", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int rc = file < 0 || dprintf(file, "%s %s\n", about->image ? "image" : "writable", about->parent) < 0 || fsync(file) < 0 ||
				 mkdirat(dir, "diff", 0755) < 0 || mkdirat(dir, "work", 0700) < 0 ?
			 -1 :
			 0;
	if (file >= 0)
		close(file);
	if (dir >= 0)
		close(dir);
	return rc;
}

static int begin(struct driver *driver, const char *id, const struct about *about, struct gantry_error *err)
{
	char aside[ID_ROOM + 16];
	snprintf(aside, sizeof aside, ".new-%s", id);
	if (make_aside(driver->layers, aside, about) == 0 && renameat(driver->layers, aside, driver->layers, id) == 0 && fsync(driver->layers) == 0)
		return 0;
	fail(err, id, "make its directory");
	remove_tree(driver->layers, aside);
	return -1;
}

/* First out of sight, then removed. */
static int vanish(struct driver *driver, const char *id, struct gantry_error *err)
{
	char aside[ID_ROOM + 16];
	snprintf(aside, sizeof aside, ".gone-%s", id);
	if (remove_tree(driver->layers, aside) < 0 || (renameat(driver->layers, id, driver->layers, aside) < 0 && errno != ENOENT) ||
	    remove_tree(driver->layers, aside) < 0)
		return fail(err, id, "remove its directory");
	return 0;
}

static int layer_prepare(void *context, const struct gantry_call *call, int kind, const char *id, const char *parent,
			 const struct gantry_options *options, struct gantry_error *err)
{
	struct driver *driver = context;
	struct about wanted = { .image = kind == GANTRY_LAYER_IMAGE }, there;
	(void)call;
	for (uint32_t i = 0; options && i < options->count; i++)
		return gantry_fail(err, GANTRY_E_INVALID, "layer %s: unknown option \"%s\" (there are none)", id, options->items[i].key);
	snprintf(wanted.parent, sizeof wanted.parent, "%s", parent ? parent : "");
	struct gantry_error ignored = { .size = sizeof ignored };
	if (read_about(driver, id, &there, &ignored) == 0) {
		if (strcmp(there.parent, wanted.parent))
			return gantry_fail(err, GANTRY_E_CONFLICT, "layer %s: it is there already, on another parent", id);
		if (!there.image || is_sealed(driver, id))
			return 0;
		if (vanish(driver, id, err) < 0)
			return -1;
	}
	return parent && read_about(driver, parent, &there, err) < 0 ? -1 : begin(driver, id, &wanted, err);
}

static int layer_dir(void *context, const struct gantry_call *call, const char *id, struct gantry_layer_dir *dir, struct gantry_error *err)
{
	struct driver *driver = context;
	struct about about;
	(void)call;
	if (read_about(driver, id, &about, err) < 0)
		return -1;
	dir->whiteouts = GANTRY_WHITEOUT_OVERLAY;
	snprintf(dir->path, sizeof dir->path, "%s/%s/diff", driver->host->state_dir, id);
	return 0;
}

static int layer_commit(void *context, const struct gantry_call *call, const char *id, struct gantry_error *err)
{
	struct driver *driver = context;
	struct about about;
	char path[ID_ROOM + 16];
	(void)call;
	if (read_about(driver, id, &about, err) < 0)
		return -1;
	snprintf(path, sizeof path, "%s/sealed", id);
	/* All of its bytes before the mark that says so. */
	int fd = syncfs(driver->layers) < 0 ? -1 : openat(driver->layers, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	int rc = fd < 0 || fsync(fd) < 0 || syncfs(driver->layers) < 0 ? fail(err, id, "seal it") : 0;
	if (fd >= 0)
		close(fd);
	return rc;
}

static int layer_lookup(void *context, const struct gantry_call *call, const char *id, int *sealed, struct gantry_error *err)
{
	struct driver *driver = context;
	struct about about;
	(void)call;
	if (read_about(driver, id, &about, err) < 0)
		return -1;
	*sealed = is_sealed(driver, id);
	return 0;
}

/* ---- mounts ---- */

/* Appends ":DIR" of each layer from `id` down. */
static int add_lower(const struct driver *driver, const char *id, char *out, size_t room, struct gantry_error *err)
{
	struct about about;
	char at[ID_ROOM];
	size_t len = 0;
	snprintf(at, sizeof at, "%s", id);
	out[0] = '\0';
	for (int depth = 0; at[0]; depth++) {
		if (read_about(driver, at, &about, err) < 0)
			return -1;
		len += (size_t)snprintf(out + len, room - len, "%s%s/%s/diff", depth ? ":" : "", driver->host->state_dir, at);
		if (depth == MAX_PARENTS || len >= room)
			return gantry_fail(err, GANTRY_E_UNSUPPORTED, "layer %s: it has more than %d parents", id, MAX_PARENTS);
		snprintf(at, sizeof at, "%s", about.parent);
	}
	return 0;
}

static int layer_mount(void *context, const struct gantry_call *call, const char *id, int read_only, struct gantry_mount *mount,
		       struct gantry_error *err)
{
	struct driver *driver = context;
	const char *state = driver->host->state_dir;
	struct about about;
	(void)call;
	if (read_about(driver, id, &about, err) < 0)
		return -1;
	char *lower = malloc(GANTRY_MOUNT_OPTIONS_MAX);
	if (!lower)
		return fail(err, id, "memory for its mount");
	int rc = add_lower(driver, read_only ? id : about.parent, lower, GANTRY_MOUNT_OPTIONS_MAX, err);
	snprintf(mount->type, sizeof mount->type, "overlay");
	snprintf(mount->source, sizeof mount->source, "overlay");
	int len = 0;
	/* ".empty" stands for what overlayfs wants and a base layer has not: a second lower directory, or one at all. */
	if (rc == 0 && read_only)
		len = snprintf(mount->options, sizeof mount->options, "ro,lowerdir=%s:%s/.empty", lower, state);
	else if (rc == 0)
		len = snprintf(mount->options, sizeof mount->options, "lowerdir=%s%s%s/.empty,upperdir=%s/%s/diff,workdir=%s/%s/work", lower,
			       lower[0] ? ":" : "", state, state, id, state, id);
	free(lower);
	if (rc == 0 && len >= (int)sizeof mount->options)
		rc = gantry_fail(err, GANTRY_E_UNSUPPORTED, "layer %s: the options of its mount are too long", id);
	return rc;
}

/* ---- changes ---- */

struct walk {
	int lower[MAX_PARENTS];         /* the parents' directories, topmost first */
	int count;
	gantry_visit_change visit;
	void *arg;
	bool stopped;
	char path[GANTRY_PATH_MAX];
};

static bool is_whiteout(const struct stat *info)
{
	return S_ISCHR(info->st_mode) && info->st_rdev == makedev(0, 0);
}

static bool is_opaque(int dir)
{
	char value[2] = "";
	return fgetxattr(dir, "trusted.overlay.opaque", value, sizeof value) == 1 && value[0] == 'y';
}

/* path within a parent's directory, no symbolic link on the way. */
static int open_below(int dir, const char *path, int flags)
{
	struct open_how how = { .flags = (uint64_t)flags | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS };
	return (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
}

/* Whether the parents show something at walk->path, and what. */
static bool shown_below(const struct walk *walk, struct stat *info)
{
	for (int i = 0; i < walk->count; i++) {
		int fd = open_below(walk->lower[i], walk->path + 1, O_PATH | O_NOFOLLOW);
		if (fd < 0)
			continue;
		int rc = fstat(fd, info);
		close(fd);
		return rc == 0 && !is_whiteout(info);
	}
	return false;
}

static void tell(struct walk *walk, int kind)
{
	if (!walk->stopped)
		walk->stopped = walk->visit(walk->arg, kind, walk->path);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int no_dots(const struct dirent *entry)
{
	return strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
}

/* Names that an opaque directory hides: those of the parents which it has not itself. */
static void tell_hidden(struct walk *walk, int dir, size_t len)
{
	struct stat info;
	for (int i = 0; i < walk->count && !walk->stopped; i++) {
		walk->path[len] = '\0';
		int below = open_below(walk->lower[i], walk->path[1] ? walk->path + 1 : ".", O_RDONLY | O_DIRECTORY);
		struct dirent **names = NULL;
		int count = below < 0 ? 0 : scandirat(below, ".", &names, no_dots, by_name);
		for (int n = 0; n < count; n++) {
			bool own = fstatat(dir, names[n]->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0;
			if (!own && snprintf(walk->path + len, sizeof walk->path - len, "/%s", names[n]->d_name) < (int)(sizeof walk->path - len) &&
			    shown_below(walk, &info))
				tell(walk, GANTRY_DELETED);
			free(names[n]);
		}
		free(names);
		if (below >= 0)
			close(below);
	}
	walk->path[len] = '\0';
}

/* walk->path is the directory's, open as dir. told: it has been told already, else it is before the first change in it. */
static void compare(struct walk *walk, int dir, bool told);

static void compare_one(struct walk *walk, int dir, const char *name, bool *told, size_t len)
{
	struct stat own, below;
	if (snprintf(walk->path + len, sizeof walk->path - len, "/%s", name) >= (int)(sizeof walk->path - len) ||
	    fstatat(dir, name, &own, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	bool was = shown_below(walk, &below), same_dir = was && S_ISDIR(own.st_mode) && S_ISDIR(below.st_mode);
	int child = S_ISDIR(own.st_mode) ? openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
	bool changed = !same_dir || own.st_mode != below.st_mode || own.st_uid != below.st_uid || own.st_gid != below.st_gid;
	if (changed && !(is_whiteout(&own) && !was)) {
		walk->path[len] = '\0';
		if (!*told && len)
			tell(walk, GANTRY_MODIFIED);
		*told = true;
		walk->path[len] = '/';
		tell(walk, is_whiteout(&own) ? GANTRY_DELETED : was ? GANTRY_MODIFIED : GANTRY_ADDED);
	}
	if (child >= 0) {
		compare(walk, child, changed);
		close(child);
	}
}

static void compare(struct walk *walk, int dir, bool told)
{
	size_t len = strlen(walk->path);
	struct dirent **names = NULL;
	int count = scandirat(dir, ".", &names, no_dots, by_name);
	for (int i = 0; i < count; i++) {
		if (!walk->stopped)
			compare_one(walk, dir, names[i]->d_name, &told, len);
		free(names[i]);
	}
	free(names);
	walk->path[len] = '\0';
	if (is_opaque(dir))
		tell_hidden(walk, dir, len);
}

static int open_diff(const struct driver *driver, const char *id)
{
	char path[ID_ROOM + 16];
	snprintf(path, sizeof path, "%s/diff", id);
	return openat(driver->layers, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int layer_diff(void *context, const struct gantry_call *call, const char *id, gantry_visit_change visit, void *arg, struct gantry_error *err)
{
	struct driver *driver = context;
	struct about about;
	struct walk *walk = calloc(1, sizeof *walk);
	(void)call;
	if (!walk)
		return fail(err, id, "memory for its changes");
	walk->visit = visit;
	walk->arg = arg;
	int rc = read_about(driver, id, &about, err), own = rc == 0 ? open_diff(driver, id) : -1;
	while (rc == 0 && about.parent[0] && walk->count < MAX_PARENTS) {
		walk->lower[walk->count++] = open_diff(driver, about.parent);
		rc = read_about(driver, about.parent, &about, err);
	}
	if (rc == 0 && own >= 0)
		compare(walk, own, true);
	for (int i = 0; i < walk->count; i++)
		close(walk->lower[i]);
	if (own >= 0)
		close(own);
	free(walk);
	return rc;
}

/* ---- all layers ---- */

static int layer_list(void *context, const struct gantry_call *call, gantry_visit visit, void *arg, struct gantry_error *err)
{
	struct driver *driver = context;
	int fd = openat(driver->layers, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	(void)call;
	if (!dir) {
		if (fd >= 0)
			close(fd);
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "list the layers");
	}
	for (struct dirent *entry; (entry = readdir(dir));) {
		if (entry->d_name[0] != '.' && visit(arg, entry->d_name))
			break;
	}
	closedir(dir);
	return 0;
}

struct search {
	struct driver *driver;
	const char *parent;
	char child[ID_ROOM];
};

static int look_for_child(void *arg, const char *id)
{
	struct search *search = arg;
	struct about about;
	struct gantry_error ignored = { .size = sizeof ignored };
	if (read_about(search->driver, id, &about, &ignored) < 0 || strcmp(about.parent, search->parent))
		return 0;
	snprintf(search->child, sizeof search->child, "%s", id);
	return 1;
}

static int layer_remove(void *context, const struct gantry_call *call, const char *id, struct gantry_error *err)
{
	struct search search = { .driver = context, .parent = id };
	if (layer_list(context, call, look_for_child, &search, err) < 0)
		return -1;
	if (search.child[0])
		return gantry_fail(err, GANTRY_E_CONFLICT, "layer %s: layer %s has it as parent", id, search.child);
	return vanish(context, id, err);
}

static int layer_usage(void *context, const struct gantry_call *call, const char *id, struct gantry_usage *usage, struct gantry_error *err)
{
	struct driver *driver = context;
	struct about about;
	char path[ID_ROOM + 16];
	(void)call;
	if (read_about(driver, id, &about, err) < 0)
		return -1;
	snprintf(path, sizeof path, "%s/diff", id);
	usage->bytes = usage->inodes = 0;
	measure(driver->layers, path, usage);
	return 0;
}

/* ---- open and close ---- */

/* What an earlier life left half done; image layers that were not sealed are begun anew by the engine. */
static void sweep(struct driver *driver)
{
	struct dirent **names = NULL;
	int count = scandirat(driver->layers, ".", &names, no_dots, by_name);
	for (int i = 0; i < count; i++) {
		const char *name = names[i]->d_name;
		struct about about;
		struct gantry_error ignored = { .size = sizeof ignored };
		if (strncmp(name, ".new-", 5) == 0 || strncmp(name, ".gone-", 6) == 0)
			remove_tree(driver->layers, name);
		else if (name[0] != '.' && read_about(driver, name, &about, &ignored) == 0 && about.image && !is_sealed(driver, name))
			vanish(driver, name, &ignored);
		free(names[i]);
	}
	free(names);
}

static void driver_close(void *context)
{
	struct driver *driver = context;
	close(driver->layers);
	free(driver);
}

static int driver_open(const struct gantry_host *host, const char *name, void **context, struct gantry_error *err)
{
	(void)name;
	if (strpbrk(host->state_dir, ",:\\"))
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "%s: overlayfs takes no directory with , : or \\ in its name", host->state_dir);
	struct driver *driver = calloc(1, sizeof *driver);
	if (!driver)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "memory for the driver");
	driver->host = host;
	driver->layers = open(host->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (driver->layers < 0 || (mkdirat(driver->layers, ".empty", 0755) < 0 && errno != EEXIST)) {
		gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "open %s", host->state_dir);
		if (driver->layers >= 0)
			close(driver->layers);
		free(driver);
		return -1;
	}
	sweep(driver);
	*context = driver;
	return 0;
}

/* ---- what the engine sees ---- */

static const struct gantry_storage_ops OPS = {
	.size = sizeof OPS, .open = driver_open, .close = driver_close, .prepare = layer_prepare, .layer_dir = layer_dir, .commit = layer_commit,
	.lookup = layer_lookup, .mount = layer_mount, .diff = layer_diff, .remove = layer_remove, .usage = layer_usage, .list = layer_list,
};
static const struct gantry_driver DRIVERS[] = {
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_STORAGE, .name = "@NAME@", .ops = &OPS },
};
GANTRY_PLUGIN_EXPORT = {
	.size = sizeof(struct gantry_plugin), .abi_major = GANTRY_ABI_MAJOR, .abi_minor = GANTRY_ABI_MINOR,
	.name = "@NAME@", .version = "0.1", .description = "layers as directories, stacked by overlayfs",
	.drivers = DRIVERS, .driver_count = 1, .driver_size = sizeof DRIVERS[0],
};
