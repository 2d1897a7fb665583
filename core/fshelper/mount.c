/*
 * mount.c - performs a driver's mount description (struct gantry_mount) as a detached mount, in this process's private mount namespace.
 *
 * "bind" clones a tree with open_tree(2); any other type goes through fsopen(2)/fsconfig(2)/fsmount(2). An overlay's lowerdir list is passed layer by
 * layer where the kernel takes them so (base/overlay.h), else in one piece, by fsconfig where it is short, else by mount(2).
 */
#include <errno.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

/* <sys/mount.h> and <linux/mount.h> do not go together with this C library. */
int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data);
#define MS_REC_ 16384ul
#define MS_PRIVATE_ (1ul << 18)

#include "base/json.h"
#include "base/overlay.h"
#include "fs.h"

struct request {
	const char *type, *source;
	struct gt_strings options;      /* those of the file system, unescaped */
	uint64_t attr_set;
	bool recursive;
	char *subpath;                  /* NULL: all of it */
};

static const struct {
	const char *name;
	uint64_t attr;
} flags[] = {
	{ "ro", MOUNT_ATTR_RDONLY },      { "nosuid", MOUNT_ATTR_NOSUID },
	{ "nodev", MOUNT_ATTR_NODEV },    { "noexec", MOUNT_ATTR_NOEXEC },
	{ "noatime", MOUNT_ATTR_NOATIME }, { "nodiratime", MOUNT_ATTR_NODIRATIME },
	{ "strictatime", MOUNT_ATTR_STRICTATIME },
	/* without meaning for a private, short-lived mount, or the default */
	{ "rw", 0 },      { "suid", 0 },     { "dev", 0 },      { "exec", 0 },    { "relatime", 0 },
	{ "bind", 0 },    { "private", 0 },  { "rprivate", 0 }, { "shared", 0 },  { "rshared", 0 },
	{ "slave", 0 },   { "rslave", 0 },   { "unbindable", 0 }, { "runbindable", 0 }, { "defaults", 0 },
};

static bool take_flag(struct request *how, const char *word)
{
	if (strcmp(word, "rbind") == 0)
		return how->recursive = true;
	if (strncmp(word, "gantry.subpath=", 15) == 0) {
		free(how->subpath);
		how->subpath = gt_xstrdup(word + 15);
		return true;
	}
	for (size_t i = 0; i < GT_COUNT(flags); i++) {
		if (strcmp(flags[i].name, word) == 0) {
			how->attr_set |= flags[i].attr;
			return true;
		}
	}
	return false;
}

/* Splits at commas; "\," is a comma in a value, any other backslash stands for itself (overlay escapes ":" by it). */
static void parse_options(struct request *how, const char *text)
{
	AUTO_BUF struct gt_buf word = { 0 };
	for (const char *p = text;; p++) {
		if (p[0] == '\\' && p[1] == ',') {
			gt_buf_char(&word, *++p);
		} else if (*p == ',' || *p == '\0') {
			if (word.len && !take_flag(how, word.data))
				gt_strings_add(&how->options, word.data);
			gt_buf_reset(&word);
			if (*p == '\0')
				return;
		} else {
			gt_buf_char(&word, *p);
		}
	}
}

int fs_private_namespace(struct gt_error *err)
{
	if (unshare(CLONE_NEWNS) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "make a private mount namespace");
	if (mount(NULL, "/", NULL, MS_REC_ | MS_PRIVATE_, NULL) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "make the mounts private");
	return 0;
}

static int set_attributes(int fd, const struct request *how, struct gt_error *err)
{
	struct mount_attr attr = { .attr_set = how->attr_set, .propagation = MS_PRIVATE_ };
	if (how->attr_set & (MOUNT_ATTR_NOATIME | MOUNT_ATTR_STRICTATIME))
		attr.attr_clr |= MOUNT_ATTR__ATIME;
	if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof attr) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "set the flags of the mount of %s", how->source);
	return 0;
}

/* Where only names that stay below lead. */
static int open_subpath(int fd, const struct request *how, struct gt_error *err)
{
	int below = gt_openat2(fd, how->subpath, O_PATH | O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
	return below >= 0 ? below : gt_fail_errno(err, errno, "the subpath %s of %s", how->subpath, how->source);
}

static int bind_mount(const struct request *how, struct gt_error *err)
{
	unsigned mode = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (how->recursive ? AT_RECURSIVE : 0);
	AUTO_CLOSE int source = open(how->source, O_PATH | O_CLOEXEC);
	AUTO_CLOSE int below = source >= 0 && how->subpath ? open_subpath(source, how, err) : -1;
	if (source >= 0 && how->subpath && below < 0)
		return -1;
	AUTO_CLOSE int fd = source < 0 ? -1 : (int)syscall(SYS_open_tree, below >= 0 ? below : source, "", mode | AT_EMPTY_PATH);
	if (fd < 0)
		return gt_fail_errno(err, errno, "bind %s", how->source);
	if (set_attributes(fd, how, err) < 0)
		return -1;
	return take_fd(fd);
}

/* The kernel explains a failed mount in the context's log: "e overlay: ...". */
static int explain(int context, const struct request *how, int errnum, const char *what, struct gt_error *err)
{
	char log[256];
	ssize_t n = read(context, log, sizeof log - 1);
	if (n <= 2)
		return gt_fail_sys(err, GT_INTERNAL, errnum, "mount %s (%s): %s", how->type, how->source, what);
	log[n] = '\0';
	log[strcspn(log, "\n")] = '\0';
	return gt_fail_sys(err, GT_INTERNAL, errnum, "mount %s (%s): %s: %s", how->type, how->source, what, log + 2);
}

static int set_string(int context, const char *key, const char *value)
{
	return (int)syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, key, value, 0);
}

/* One layer after the other. Returns 1 where the kernel knows no "lowerdir+". */
static int add_lower_dirs(int context, const char *list)
{
	AUTO_FREE char *copy = gt_xstrdup(list);
	char *from = copy;
	for (char *p = copy;; p++) {
		if (p[0] == '\\' && p[1]) {
			p++;
			continue;
		}
		if (*p != ':' && *p != '\0')
			continue;
		bool last = *p == '\0';
		*p = '\0';
		/* here a path stands alone: the escapes of the list form go */
		char *to = from;
		for (char *q = from; *q; q++) {
			if (q[0] == '\\' && q[1])
				q++;
			*to++ = *q;
		}
		*to = '\0';
		if (set_string(context, "lowerdir+", from) < 0)
			return from == copy && errno == EINVAL ? 1 : -1;
		if (last)
			return 0;
		from = p + 1;
	}
}

/* For kernels that take a long list by mount(2) alone. */
static int mount_classic(const struct request *how, struct gt_error *err)
{
	AUTO_CLOSE int fd = gt_overlay_mount_classic(&how->options, err);
	return fd < 0 || set_attributes(fd, how, err) < 0 ? -1 : take_fd(fd);
}

/* Returns 1 where the options do not fit this way. */
static int configure(int context, const struct request *how, struct gt_error *err)
{
	bool overlay = strcmp(how->type, "overlay") == 0, one_by_one = overlay && gt_overlay_checks_options();
	if (set_string(context, "source", how->source) < 0)
		return explain(context, how, errno, "source", err);
	for (size_t i = 0; i < how->options.count; i++) {
		AUTO_FREE char *key = gt_xstrdup(how->options.items[i]);
		char *value = strchr(key, '=');
		int rc;
		if (!value) {
			rc = (int)syscall(SYS_fsconfig, context, FSCONFIG_SET_FLAG, key, NULL, 0);
		} else {
			*value++ = '\0';
			bool lower = overlay && strcmp(key, "lowerdir") == 0;
			rc = lower && one_by_one ? add_lower_dirs(context, value) : lower;
			if (rc > 0 && strlen(value) > GT_OVERLAY_LIST_MAX)
				return 1;
			if (rc > 0 || !lower)
				rc = set_string(context, key, value);
		}
		if (rc < 0)
			return explain(context, how, errno, key, err);
	}
	return 0;
}

static int new_mount(const struct request *how, struct gt_error *err)
{
	AUTO_CLOSE int context = (int)syscall(SYS_fsopen, how->type, FSOPEN_CLOEXEC);
	if (context < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "mount %s: file system type %s", how->source, how->type);
	AUTO_CLOSE int claim = gt_overlay_claim(&how->options);
	int rc = configure(context, how, err);
	if (rc > 0)
		return mount_classic(how, err);
	if (rc < 0)
		return -1;
	if (syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return explain(context, how, errno, "create", err);
	AUTO_CLOSE int fd = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0);
	if (fd < 0)
		return explain(context, how, errno, "mount", err);
	if (set_attributes(fd, how, err) < 0)
		return -1;
	return take_fd(fd);
}

/* A part of a file system that is mounted nowhere. Takes whole over. */
static int below_mount(int whole, const struct request *how, struct gt_error *err)
{
	AUTO_CLOSE int root = whole;
	AUTO_CLOSE int below = open_subpath(root, how, err);
	if (below < 0)
		return -1;
	int fd = (int)syscall(SYS_open_tree, below, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	if (fd < 0 && errno == EINVAL)
		return gt_fail(err, GT_UNSUPPORTED, "a subpath of an image needs Linux 6.15 or newer");
	return fd >= 0 ? fd : gt_fail_errno(err, errno, "the subpath %s", how->subpath);
}

int fs_mount(const json_t *spec, struct gt_error *err)
{
	struct request how = { .type = "", .source = "" };
	const char *options = "";
	if (gt_json_string(spec, "type", &how.type, err) < 0 || gt_json_string(spec, "source", &how.source, err) < 0 ||
	    gt_json_string(spec, "options", &options, err) < 0)
		return -1;
	parse_options(&how, options);
	bool bind = strcmp(how.type, "bind") == 0;
	int fd = bind ? bind_mount(&how, err) : new_mount(&how, err);
	if (fd >= 0 && !bind && how.subpath)
		fd = below_mount(fd, &how, err);
	gt_strings_free(&how.options);
	free(how.subpath);
	return fd;
}
