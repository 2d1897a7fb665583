/*
 * mounts.c - RUN --mount: what the flags say; bind and tmpfs.
 *
 * A read-only bind of the context is the context's own directory. Everything else that is bound is a copy in the build's directory: what a command
 * writes to it is gone with the build, as documented.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "build/mounts.h"

static void mount_free(struct mount *mount)
{
	char **fields[] = { &mount->type, &mount->target, &mount->source, &mount->from, &mount->id, &mount->sharing,
			    &mount->size, &mount->mode,   &mount->uid,    &mount->gid,  &mount->env };
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
		      { "gid", &mount->gid }, { "env", &mount->env } };
	if (strcasecmp(name, "ro") == 0 || strcasecmp(name, "readonly") == 0)
		return read_switch(name, value, &mount->read_only, err);
	if (strcasecmp(name, "rw") == 0 || strcasecmp(name, "readwrite") == 0)
		return read_switch(name, value, &mount->read_write, err);
	if (strcasecmp(name, "required") == 0)
		return read_switch(name, value, &mount->required, err);
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

/* Which types of mount know an option. */
static int check_options(const struct mount *mount, struct gt_error *err)
{
	const struct {
		const char *name;
		bool given;
		const char *types;
	} only[] = { { "id", mount->id, "cache secret ssh" },
		     { "sharing", mount->sharing, "cache" },
		     { "mode", mount->mode, "cache secret ssh" },
		     { "uid", mount->uid, "cache secret ssh" },
		     { "gid", mount->gid, "cache secret ssh" },
		     { "size", mount->size, "tmpfs" },
		     { "env", mount->env, "secret" },
		     { "required", mount->required, "secret ssh" },
		     { "from", mount->from, "bind cache" },
		     { "source", mount->source, "bind cache secret ssh" },
		     { "rw", mount->read_write, "bind cache" },
		     { "ro", mount->read_only, "bind cache" } };
	for (size_t i = 0; i < GT_COUNT(only); i++) {
		if (only[i].given && !strstr(only[i].types, mount->type))
			return gt_fail(err, GT_INVALID, "--mount: %s belongs to type=%s, not to type=%s", only[i].name, only[i].types, mount->type);
	}
	return 0;
}

static int check_type(const struct mount *mount, struct gt_error *err)
{
	static const char *const types[] = { "bind", "cache", "tmpfs", "secret", "ssh" };
	bool known = false;
	for (size_t i = 0; i < GT_COUNT(types); i++)
		known |= strcmp(mount->type, types[i]) == 0;
	if (!known)
		return gt_fail(err, GT_INVALID, "--mount: unsupported mount type \"%.40s\"", mount->type);
	if (mount->sharing && strcmp(mount->sharing, "shared") != 0 && strcmp(mount->sharing, "private") != 0 &&
	    strcmp(mount->sharing, "locked") != 0)
		return gt_fail(err, GT_INVALID, "--mount: sharing=%.40s is not one of shared, private, locked", mount->sharing);
	if (check_options(mount, err) < 0)
		return -1;
	bool needs_target = strcmp(mount->type, "secret") != 0 && strcmp(mount->type, "ssh") != 0;
	if (needs_target ? !mount->target || !mount->target[0] : mount->target && !mount->target[0])
		return gt_fail(err, GT_INVALID, "--mount: a target is missing");
	if (strcmp(mount->type, "secret") == 0 && !mount->id && !mount->source && !mount->target)
		return gt_fail(err, GT_INVALID, "--mount=type=secret: an id or a target is missing");
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
	return check_type(mount, err);
}

static void make_absolute(const struct run *run, struct mount *mount)
{
	const char *dir = run->config.working_dir && run->config.working_dir[0] ? run->config.working_dir : "";
	if (!mount->target || mount->target[0] == '/')
		return;
	char *absolute = gt_xasprintf("%s/%s", dir, mount->target);
	free(mount->target);
	mount->target = absolute;
}

int mounts_read(struct run *run, struct mounts *mounts, struct gt_error *err)
{
	size_t agents = 0;
	for (size_t i = 0; i < run->item->flag_count; i++) {
		const struct flag *flag = &run->item->flags[i];
		if (strcmp(flag->name, "mount") != 0)
			continue;
		if (mounts->count == MAX_MOUNTS)
			return gt_fail(err, GT_TOO_LARGE, "more than %d mounts", MAX_MOUNTS);
		mounts->items = gt_xrealloc(mounts->items, (mounts->count + 1) * sizeof *mounts->items);
		struct mount *mount = &mounts->items[mounts->count++];
		*mount = (struct mount){ 0 };
		if (read_mount(run, flag->value, mount, err) < 0)
			return -1;
		secret_defaults(mount, agents);
		agents += strcmp(mount->type, "ssh") == 0;
		make_absolute(run, mount);
		gt_buf_printf(&mounts->key, "%zu:%s", strlen(flag->value), flag->value);
	}
	return 0;
}

int mount_number(const char *name, const char *text, int base, long most, long absent, long *value, struct gt_error *err)
{
	char *end;
	*value = absent;
	if (!text)
		return 0;
	*value = isdigit((unsigned char)*text) ? strtol(text, &end, base) : -1;
	return *value < 0 || *end || *value > most ? gt_fail(err, GT_INVALID, "--mount: %s=%.40s is not a number in range", name, text) : 0;
}

/* ---- bind ---- */

void mounts_bind(struct mounts *mounts, const char *source, const char *target, bool read_only)
{
	json_array_append_new(mounts->list, json_pack("{s:s s:s s:s s:b}", "Type", "bind", "Source", source, "Target", target, "ReadOnly",
						      (int)read_only));
}

int mount_files(struct run *run, const struct mount *mount, struct gt_copy *copy, struct gt_error *err)
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
	copy->known = run->build->options->digests;
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

static int bind_key(struct run *run, const struct mount *mount, struct mounts *mounts, struct gt_error *err)
{
	struct gt_copy copy = { 0 };
	char digest[65];
	int64_t count;
	int rc = mount_files(run, mount, &copy, err);
	if (rc == 0)
		rc = gt_image_copy_digest(run->build->images, NULL, &copy, digest, &count, err);
	if (rc == 0)
		gt_buf_printf(&mounts->key, " %s", digest);
	gt_copy_free(&copy);
	return rc < 0 ? gt_context(err, "--mount=type=bind") : 0;
}

static int bind_directly(struct run *run, const char *source, const struct mount *mount, struct mounts *mounts, struct gt_error *err)
{
	AUTO_FREE char *path = context_path(run, source);
	if (!path)
		return gt_fail(err, GT_NOT_FOUND, "%.200s is not in the context", source);
	mounts_bind(mounts, path, mount->target, true);
	return 0;
}

static int mount_bind(struct run *run, const struct mount *mount, struct mounts *mounts, struct gt_error *err)
{
	struct gt_copy copy = { 0 };
	const char *source = mount->source && mount->source[0] ? mount->source : "/";
	int rc = mount_files(run, mount, &copy, err);
	bool direct = !mount->from && !mount->read_write && (!copy.ignore || copy.ignore->count == 0);
	if (rc == 0 && direct) {
		rc = bind_directly(run, source, mount, mounts, err);
	} else if (rc == 0) {
		AUTO_FREE char *dir = build_make_dir(run->build, "bind", err);
		rc = dir ? gt_image_copy_out(run->build->images, &copy, dir, err) : -1;
		const char *slash = strrchr(source, '/'), *base = slash ? slash + 1 : source;
		AUTO_FREE char *file = rc == 0 && base[0] ? gt_xasprintf("%s/%s", dir, base) : NULL;
		bool single = file && is_file(file);
		if (rc == 0)
			mounts_bind(mounts, single ? file : dir, mount->target, !mount->read_write);
	}
	gt_copy_free(&copy);
	return rc < 0 ? gt_context(err, "--mount=type=bind") : 0;
}

/* ---- tmpfs ---- */

static int tmpfs_size(const struct mount *mount, long long *size, struct gt_error *err)
{
	static const char units[] = "bkmg";
	char *end = NULL;
	*size = 0;
	if (!mount->size)
		return 0;
	*size = isdigit((unsigned char)*mount->size) ? strtoll(mount->size, &end, 10) : -1;
	const char *unit = end && *end && !end[1] ? strchr(units, tolower((unsigned char)*end)) : NULL;
	int shift = unit ? 10 * (int)(unit - units) : 0;
	if (*size <= 0 || (*end && !unit) || *size > (1ll << 50) >> shift)
		return gt_fail(err, GT_INVALID, "--mount: size=%.40s is no size", mount->size);
	*size <<= shift;
	return 0;
}

static int mount_tmpfs(const struct mount *mount, struct mounts *mounts, struct gt_error *err)
{
	long long size;
	if (tmpfs_size(mount, &size, err) < 0)
		return -1;
	json_array_append_new(mounts->list, json_pack("{s:s s:s s:{s:I}}", "Type", "tmpfs", "Target", mount->target, "TmpfsOptions", "SizeBytes",
						      (json_int_t)size));
	return 0;
}

/* ---- all of them ---- */

int mounts_key(struct run *run, struct mounts *mounts, struct gt_error *err)
{
	long long size;
	for (size_t i = 0; i < mounts->count; i++) {
		const struct mount *mount = &mounts->items[i];
		if (strcmp(mount->type, "bind") == 0 && bind_key(run, mount, mounts, err) < 0)
			return -1;
		if (tmpfs_size(mount, &size, err) < 0)
			return -1;
	}
	return 0;
}

static int prepare(struct run *run, const struct mount *mount, struct mounts *mounts, struct gt_error *err)
{
	switch (mount->type[0]) {
	case 'b':
		return mount_bind(run, mount, mounts, err);
	case 'c':
		return mount_cache(run, mount, mounts, err);
	case 't':
		return mount_tmpfs(mount, mounts, err);
	default:
		return mount->type[1] == 'e' ? mount_secret(run, mount, mounts, err) : mount_agent(run, mount, mounts, err);
	}
}

int mounts_prepare(struct run *run, struct mounts *mounts, struct gt_error *err)
{
	if (caches_lock(run, mounts, err) < 0)
		return -1;
	for (size_t i = 0; i < mounts->count; i++) {
		if (prepare(run, &mounts->items[i], mounts, err) < 0)
			return -1;
		if (mounts->items[i].target)
			gt_strings_add(&mounts->points, mounts->items[i].target);
	}
	return 0;
}

void mounts_end(struct run *run, struct mounts *mounts)
{
	caches_unlock(mounts);
	secrets_end(run, mounts);
	for (size_t i = 0; i < mounts->count; i++)
		mount_free(&mounts->items[i]);
	free(mounts->items);
	gt_buf_free(&mounts->key);
	gt_strings_free(&mounts->points);
	json_decref(mounts->list);
	*mounts = (struct mounts){ 0 };
}
