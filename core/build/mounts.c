/*
 * mounts.c - RUN --mount: bind, cache and tmpfs.
 *
 * A read-only bind of the context is the context's own directory. Everything else that is bound is a copy in the build's directory: what a command
 * writes to it is gone with the build, as documented. Caches last: <cache_dir>/<digest of the id>, one for all builds of this daemon; `locked` and
 * `private` are kept apart by flock, so that a daemon that dies leaves none locked.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "build/internal.h"

#define LOOK_US 100000

struct mount {
	char *type, *target, *source, *from, *id, *sharing, *size, *mode, *uid, *gid;
	bool read_only, read_write;
};

static void mount_free(struct mount *mount)
{
	char **fields[] = { &mount->type, &mount->target, &mount->source, &mount->from, &mount->id, &mount->sharing,
			    &mount->size, &mount->mode,   &mount->uid,    &mount->gid };
	for (size_t i = 0; i < GT_COUNT(fields); i++)
		free(*fields[i]);
	*mount = (struct mount){ 0 };
}

/* ---- reading ---- */

static int read_switch(const char *name, const char *value, bool *on, struct gt_error *err)
{
	*on = !value || strcasecmp(value, "true") == 0 || strcmp(value, "1") == 0;
	return *on || strcasecmp(value, "false") == 0 || strcmp(value, "0") == 0 ?
		       0 :
		       gt_fail(err, GT_INVALID, "--mount: %s=%.40s is neither true nor false", name, value);
}

static int read_option(struct mount *mount, const char *name, const char *value, struct gt_error *err)
{
	const struct {
		const char *name;
		char **slot;
	} texts[] = { { "type", &mount->type }, { "target", &mount->target }, { "dst", &mount->target }, { "destination", &mount->target },
		      { "source", &mount->source }, { "src", &mount->source }, { "from", &mount->from }, { "id", &mount->id },
		      { "sharing", &mount->sharing }, { "size", &mount->size }, { "mode", &mount->mode }, { "uid", &mount->uid },
		      { "gid", &mount->gid } };
	if (strcasecmp(name, "ro") == 0 || strcasecmp(name, "readonly") == 0)
		return read_switch(name, value, &mount->read_only, err);
	if (strcasecmp(name, "rw") == 0 || strcasecmp(name, "readwrite") == 0)
		return read_switch(name, value, &mount->read_write, err);
	if (strcasecmp(name, "required") == 0 || strcasecmp(name, "env") == 0)
		return 0; /* of secrets and agents, which are refused as such */
	for (size_t i = 0; i < GT_COUNT(texts); i++) {
		if (strcasecmp(texts[i].name, name) != 0)
			continue;
		if (!value)
			return gt_fail(err, GT_INVALID, "--mount: %s needs a value", name);
		free(*texts[i].slot);
		*texts[i].slot = gt_xstrdup(value);
		return 0;
	}
	return gt_fail(err, GT_INVALID, "--mount: unexpected key '%.40s'", name);
}

static int check_type(const struct mount *mount, struct gt_error *err)
{
	const char *type = mount->type;
	if (strcmp(type, "secret") == 0 || strcmp(type, "ssh") == 0)
		return gt_fail(err, GT_UNSUPPORTED, "RUN --mount=type=%s is not supported: the build API carries no %s", type,
			       *type == 's' && type[1] == 'e' ? "secrets" : "SSH agent");
	if (strcmp(type, "bind") != 0 && strcmp(type, "cache") != 0 && strcmp(type, "tmpfs") != 0)
		return gt_fail(err, GT_INVALID, "--mount: unsupported mount type \"%.40s\"", type);
	if (!mount->target || !mount->target[0])
		return gt_fail(err, GT_INVALID, "--mount: a target is missing");
	if (mount->sharing && strcmp(mount->sharing, "shared") != 0 && strcmp(mount->sharing, "private") != 0 &&
	    strcmp(mount->sharing, "locked") != 0)
		return gt_fail(err, GT_INVALID, "--mount: sharing=%.40s is not one of shared, private, locked", mount->sharing);
	const struct {
		const char *name, *value, *type;
	} only[] = { { "id", mount->id, "cache" },     { "sharing", mount->sharing, "cache" }, { "mode", mount->mode, "cache" },
		     { "uid", mount->uid, "cache" },   { "gid", mount->gid, "cache" },         { "size", mount->size, "tmpfs" } };
	for (size_t i = 0; i < GT_COUNT(only); i++) {
		if (only[i].value && strcmp(type, only[i].type) != 0)
			return gt_fail(err, GT_INVALID, "--mount: %s belongs to type=%s", only[i].name, only[i].type);
	}
	if (strcmp(type, "tmpfs") == 0 && (mount->from || mount->source))
		return gt_fail(err, GT_INVALID, "--mount: a tmpfs has no source");
	return 0;
}

/* "k=v,k=v", where a value may be quoted. */
static int read_mount(struct run *run, const char *text, struct mount *mount, struct gt_error *err)
{
	struct gt_scope scope = run_scope(run);
	AUTO_FREE char *expanded = gt_words_value(&scope, text, err);
	if (!expanded)
		return -1;
	for (char *rest = expanded, *part; (part = strsep(&rest, ",")) != NULL;) {
		char *value = strchr(part, '=');
		if (value)
			*value++ = '\0';
		if (*part && read_option(mount, part, value, err) < 0)
			return -1;
	}
	if (!mount->type)
		mount->type = gt_xstrdup("bind");
	if (check_type(mount, err) < 0)
		return -1;
	if (mount->target[0] != '/') {
		const char *dir = run->config.working_dir && run->config.working_dir[0] ? run->config.working_dir : "";
		char *absolute = gt_xasprintf("%s/%s", dir, mount->target);
		free(mount->target);
		mount->target = absolute;
	}
	return 0;
}

static int read_number(const char *name, const char *text, int base, long most, long absent, long *value, struct gt_error *err)
{
	char *end;
	*value = absent;
	if (!text)
		return 0;
	*value = isdigit((unsigned char)*text) ? strtol(text, &end, base) : -1;
	return *value < 0 || *end || *value > most ? gt_fail(err, GT_INVALID, "--mount: %s=%.40s is not a number in range", name, text) : 0;
}

/* ---- bind ---- */

static void add_bind(struct mounts *mounts, const char *source, const char *target, bool read_only)
{
	json_array_append_new(mounts->list, json_pack("{s:s s:s s:s s:b}", "Type", "bind", "Source", source, "Target", target, "ReadOnly",
						      (int)read_only));
}

static int bind_copy(struct run *run, const struct mount *mount, struct gt_copy *copy, struct gt_error *err)
{
	const char *source = mount->source && mount->source[0] ? mount->source : "/";
	char id[72];
	gt_copy_add_source(copy, run->build->options->context_dir, NULL);
	if (mount->from && resolve_from(run, mount->from, id, err) < 0)
		return -1;
	if (mount->from)
		gt_copy_add_source(copy, NULL, id);
	gt_copy_add_item(copy, source, mount->from ? 1 : 0);
	copy->ignore = run->build->options->ignore;
	copy->dest = gt_xstrdup("/");
	copy->dest_is_dir = true;
	copy->uid = copy->gid = -1;
	copy->clamp = INT64_MAX;
	return 0;
}

/* The real path of something in the context, links followed inside it; NULL where it is not there. */
static char *context_path(const struct run *run, const char *source)
{
	char path[4096], link[64];
	AUTO_CLOSE int root = open(run->build->options->context_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	AUTO_CLOSE int fd = root < 0 ? -1 : gt_openat2(root, source, O_PATH, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
	if (fd < 0)
		return NULL;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t len = readlink(link, path, sizeof path - 1);
	return len > 0 ? gt_xstrndup(path, (size_t)len) : NULL;
}

static bool is_file(const char *path)
{
	struct stat st;
	return lstat(path, &st) == 0 && !S_ISDIR(st.st_mode);
}

static int mount_bind(struct run *run, const struct mount *mount, bool prepare, struct mounts *mounts, struct gt_error *err)
{
	struct gt_copy copy = { 0 };
	const char *source = mount->source && mount->source[0] ? mount->source : "/";
	char digest[65];
	int64_t count;
	int rc = bind_copy(run, mount, &copy, err);
	if (rc == 0 && !prepare) {
		rc = gt_image_copy_digest(run->build->images, NULL, &copy, digest, &count, err);
		if (rc == 0)
			gt_buf_printf(&mounts->key, " %s", digest);
	}
	bool direct = !mount->from && !mount->read_write && (!copy.ignore || copy.ignore->count == 0);
	if (rc == 0 && prepare && direct) {
		AUTO_FREE char *path = context_path(run, source);
		rc = path ? 0 : gt_fail(err, GT_NOT_FOUND, "%.200s is not in the context", source);
		if (path)
			add_bind(mounts, path, mount->target, true);
	} else if (rc == 0 && prepare) {
		AUTO_FREE char *dir = build_make_dir(run->build, "bind", err);
		rc = dir ? gt_image_copy_out(run->build->images, &copy, dir, err) : -1;
		const char *slash = strrchr(source, '/'), *base = slash ? slash + 1 : source;
		AUTO_FREE char *file = rc == 0 && base[0] ? gt_xasprintf("%s/%s", dir, base) : NULL;
		bool single = file && is_file(file);
		if (rc == 0)
			add_bind(mounts, single ? file : dir, mount->target, !mount->read_write);
	}
	gt_copy_free(&copy);
	return rc < 0 ? gt_context(err, "--mount=type=bind") : 0;
}

/* ---- cache ---- */

static void cache_name(const char *id, unsigned copy, char name[80])
{
	struct sha256_ctx state;
	uint8_t raw[SHA256_DIGEST_SIZE];
	sha256_init(&state);
	sha256_update(&state, strlen(id), (const uint8_t *)id);
	sha256_digest(&state, sizeof raw, raw);
	for (size_t i = 0; i < sizeof raw; i++)
		snprintf(name + 2 * i, 3, "%02x", raw[i]);
	if (copy)
		snprintf(name + 64, 16, "-%u", copy);
}

/* Locks <cache_dir>/NAME.lock; -1 with errno. */
static int lock_cache(struct run *run, const char *name, int how)
{
	AUTO_FREE char *path = gt_xasprintf("%s/%s.lock", run->build->options->cache_dir, name);
	AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || flock(fd, how) < 0)
		return -1;
	return take_fd(fd);
}

/* shared: used by many. locked: waits for its turn. private: another one where it is in use. */
static int take_cache(struct run *run, const struct mount *mount, const char *id, char name[80], struct gt_error *err)
{
	const char *sharing = mount->sharing ? mount->sharing : "shared";
	bool shared = strcmp(sharing, "shared") == 0, own = strcmp(sharing, "private") == 0;
	for (unsigned copy = 0;;) {
		cache_name(id, copy, name);
		int fd = lock_cache(run, name, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB);
		if (fd >= 0)
			return fd;
		if (errno != EWOULDBLOCK)
			return gt_fail_errno(err, errno, "open a cache of the build");
		if (build_stopped(run->build))
			return gt_fail(err, GT_CANCELLED, "the build was stopped");
		if (own && copy < 1000)
			copy++;
		else
			usleep(LOOK_US);
	}
}

static int fill_cache(struct run *run, const struct mount *mount, const char *path, struct gt_error *err)
{
	struct gt_copy copy = { 0 };
	int rc = 0;
	if (mount->from) {
		rc = bind_copy(run, mount, &copy, err);
		if (rc == 0)
			rc = gt_image_copy_out(run->build->images, &copy, path, err);
		gt_copy_free(&copy);
	}
	return rc;
}

static int make_cache(struct run *run, const struct mount *mount, const char *path, struct gt_error *err)
{
	long mode, uid, gid;
	if (read_number("mode", mount->mode, 8, 07777, 0755, &mode, err) < 0 || read_number("uid", mount->uid, 10, 0xfffffffel, 0, &uid, err) < 0 ||
	    read_number("gid", mount->gid, 10, 0xfffffffel, 0, &gid, err) < 0)
		return -1;
	if (access(path, F_OK) == 0)
		return 0;
	AUTO_FREE char *fresh = gt_xasprintf("%s.new", path);
	if (gt_remove_tree(AT_FDCWD, fresh, err) < 0)
		return -1;
	if (mkdir(fresh, 0700) < 0)
		return gt_fail_errno(err, errno, "make a cache of the build");
	if (fill_cache(run, mount, fresh, err) < 0)
		return -1;
	if (chown(fresh, (uid_t)uid, (gid_t)gid) < 0 || chmod(fresh, (mode_t)mode) < 0 || rename(fresh, path) < 0)
		return gt_fail_errno(err, errno, "make a cache of the build");
	return 0;
}

static int mount_cache(struct run *run, const struct mount *mount, bool prepare, struct mounts *mounts, struct gt_error *err)
{
	const char *id = mount->id && mount->id[0] ? mount->id : mount->target;
	char name[80];
	if (!prepare) /* what is in it does not count: that is its nature */
		return 0;
	AUTO_CLOSE int lock = take_cache(run, mount, id, name, err);
	AUTO_FREE char *path = gt_xasprintf("%s/%s", run->build->options->cache_dir, name);
	if (lock < 0 || make_cache(run, mount, path, err) < 0)
		return -1;
	utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW); /* last used */
	add_bind(mounts, path, mount->target, mount->read_only);
	mounts->locks[mounts->lock_count++] = take_fd(lock); /* there are no more mounts than flags: MAX_MOUNTS */
	return 0;
}

/* ---- tmpfs ---- */

static int mount_tmpfs(const struct mount *mount, bool prepare, struct mounts *mounts, struct gt_error *err)
{
	char *end = NULL;
	long long size = 0;
	if (mount->size) {
		size = isdigit((unsigned char)*mount->size) ? strtoll(mount->size, &end, 10) : -1;
		int shift = !end || !*end || strcasecmp(end, "b") == 0 ? 0 : tolower((unsigned char)*end) == 'k' ? 10 :
			    tolower((unsigned char)*end) == 'm'                                                  ? 20 :
			    tolower((unsigned char)*end) == 'g'                                                  ? 30 :
														   -1;
		if (size <= 0 || shift < 0 || size > (1ll << 50) >> shift)
			return gt_fail(err, GT_INVALID, "--mount: size=%.40s is no size", mount->size);
		size <<= shift;
	}
	if (prepare)
		json_array_append_new(mounts->list, json_pack("{s:s s:s s:{s:I}}", "Type", "tmpfs", "Target", mount->target, "TmpfsOptions",
							      "SizeBytes", (json_int_t)size));
	return 0;
}

/* ---- all of them ---- */

int mounts_read(struct run *run, bool prepare, struct mounts *mounts, struct gt_error *err)
{
	for (size_t i = 0; i < run->item->flag_count; i++) {
		const struct flag *flag = &run->item->flags[i];
		struct mount mount = { 0 };
		if (strcmp(flag->name, "mount") != 0)
			continue;
		int rc = read_mount(run, flag->value, &mount, err);
		if (rc == 0 && !prepare)
			gt_buf_printf(&mounts->key, "%zu:%s", strlen(flag->value), flag->value);
		if (rc == 0 && strcmp(mount.type, "bind") == 0)
			rc = mount_bind(run, &mount, prepare, mounts, err);
		else if (rc == 0 && strcmp(mount.type, "cache") == 0)
			rc = mount_cache(run, &mount, prepare, mounts, err);
		else if (rc == 0)
			rc = mount_tmpfs(&mount, prepare, mounts, err);
		mount_free(&mount);
		if (rc < 0)
			return -1;
	}
	return 0;
}

void mounts_end(struct mounts *mounts)
{
	for (size_t i = 0; i < mounts->lock_count; i++)
		close(mounts->locks[i]);
	gt_buf_free(&mounts->key);
	json_decref(mounts->list);
	*mounts = (struct mounts){ 0 };
}
