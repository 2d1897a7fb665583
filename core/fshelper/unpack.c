/*
 * unpack.c - tars into directories: a layer into a storage driver's fresh directory (unpack), and Docker's "cp in" (extract).
 *
 * libarchive reads the tar; the bytes pass through a tee on their way to it, which tells contents of files from everything else and so writes
 * the layer's recipe. The tee also gives back the exact names of entries: libarchive hands pax names through Unicode normalisation, and two
 * names that differ in bytes are two files here.
 *
 * Bounds: entries, bytes, length and depth of names, number and size of extended attributes; all are refused with the entry's name.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/json.h"
#include "fs.h"
#include "gantry/plugin.h"

#define BLOCK (1u << 20)
#define HEAD_MAX (4u << 20)
#define DEFAULT_MAX_ENTRIES 8000000
#define WHITEOUT ".wh."
#define OPAQUE ".wh..wh..opq"
#define AUFS_META ".wh..wh."

/* ---- the tee ---- */

struct tee {
	int fd;
	char *block;
	size_t len;
	int64_t at;                     /* offset of block[0] in the tar */
	int64_t told;                   /* all before is accounted for */
	int64_t content_from, content_to;
	char *content_path;             /* until its record is written */
	struct fs_recipe *recipe;       /* may be NULL */
	bool in_header;
	struct gt_buf head;             /* bytes since head_at that belong to the current entry's header */
	int64_t head_at;
};

static void tell_literal(struct tee *tee, int64_t from, int64_t to)
{
	if (from >= to)
		return;
	const char *bytes = tee->block + (from - tee->at);
	size_t len = (size_t)(to - from);
	if (tee->recipe)
		fs_recipe_literal(tee->recipe, bytes, len);
	if (tee->in_header && tee->head.len + len <= HEAD_MAX)
		gt_buf_add(&tee->head, bytes, len);
}

/* Accounts for everything up to offset `to`, which lies in the current block. A file's record goes out as its first byte is passed: after
 * its header, before its padding. */
static void tell(struct tee *tee, int64_t to)
{
	if (tee->told >= to)
		return;
	if (tee->content_path && tee->content_from < to) {
		tell_literal(tee, tee->told, tee->content_from);
		tee->told = tee->content_from;
		fs_recipe_file(tee->recipe, tee->content_path, tee->content_to - tee->content_from);
		free(take(tee->content_path));
	}
	if (tee->told >= tee->content_from && tee->told < tee->content_to)
		tee->told = tee->content_to < to ? tee->content_to : to;
	tell_literal(tee, tee->told, to);
	tee->told = to;
}

static ssize_t tee_read(struct archive *archive, void *arg, const void **bytes)
{
	struct tee *tee = arg;
	tell(tee, tee->at + (int64_t)tee->len);
	tee->at += (int64_t)tee->len;
	tee->len = 0;
	ssize_t n;
	do {
		n = read(tee->fd, tee->block, BLOCK);
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		archive_set_error(archive, errno, "read: %s", strerror(errno));
		return -1;
	}
	tee->len = (size_t)n;
	*bytes = tee->block;
	return n;
}

/* What follows the end of the archive belongs to the layer's bytes too. */
static int tee_drain(struct tee *tee, struct gt_error *err)
{
	for (;;) {
		tell(tee, tee->at + (int64_t)tee->len);
		tee->at += (int64_t)tee->len;
		tee->len = 0;
		ssize_t n = read(tee->fd, tee->block, BLOCK);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return gt_fail_errno(err, errno, "read the archive");
		if (n == 0)
			return 0;
		tee->len = (size_t)n;
	}
}

/* ---- exact names ---- */

static bool is_ascii(const char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text >= 0x80)
			return false;
	}
	return true;
}

/* One record of a pax header, "LENGTH KEY=VALUE\n": returns the allocated value of `key`, the last one. */
static char *pax_value(const char *bytes, size_t len, const char *key)
{
	char *value = NULL;
	size_t key_len = strlen(key);
	while (len > 0) {
		size_t digits = 0, size = 0;
		while (digits < len && digits < 9 && bytes[digits] >= '0' && bytes[digits] <= '9')
			size = size * 10 + (size_t)(bytes[digits++] - '0');
		if (digits == 0 || size > len || size < digits + 3 || bytes[digits] != ' ')
			break;
		const char *record = bytes + digits + 1;
		size_t record_len = size - digits - 2;
		if (record_len > key_len && memcmp(record, key, key_len) == 0 && record[key_len] == '=') {
			free(value);
			value = gt_xstrndup(record + key_len + 1, record_len - key_len - 1);
		}
		bytes += size;
		len -= size;
	}
	return value;
}

/* The value that the entry's own pax header, somewhere in the bytes of its header, has for key; NULL where it has none. */
static char *exact_name(const struct tee *tee, int64_t header_at, const char *key)
{
	char *value = NULL;
	for (int64_t at = header_at - tee->head_at; at >= 0 && at + 512 <= (int64_t)tee->head.len;) {
		const char *block = tee->head.data + at;
		char type = block[156], text[13];
		if (!strchr("xgXLK", type) || type == '\0')
			break;
		memcpy(text, block + 124, 12);
		text[12] = '\0';
		int64_t size = strtoll(text, NULL, 8);
		if (size < 0 || at + 512 + size > (int64_t)tee->head.len)
			break;
		if (type == 'x' || type == 'X') {
			char *found = pax_value(block + 512, (size_t)size, key);
			if (found) {
				free(value);
				value = found;
			}
		}
		at += 512 + (size + 511) / 512 * 512;
	}
	return value;
}

/* ---- whiteouts (OCI image-spec layer.md) ---- */

/* GANTRY_WHITEOUT_DELETE: removes what came from below; what this layer has unpacked stays. */
static int remove_lower(struct fs_sink *sink, int dirfd, const char *name, const char *path, int depth, struct gt_error *err);

static int remove_lower_children(struct fs_sink *sink, int fd, const char *path, int depth, struct gt_error *err)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	if (!dir) {
		int saved = errno;
		if (copy >= 0)
			close(copy);
		return gt_fail_errno(err, saved, "read directory %.200s", path);
	}
	int rc = 0;
	for (struct dirent *e; rc == 0 && (e = readdir(dir)) != NULL;) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		AUTO_FREE char *child = gt_xasprintf("%s%s%s", path, path[0] ? "/" : "", e->d_name);
		rc = remove_lower(sink, fd, e->d_name, child, depth + 1, err);
	}
	closedir(dir);
	return rc;
}

static int remove_lower(struct fs_sink *sink, int dirfd, const char *name, const char *path, int depth, struct gt_error *err)
{
	if (!gt_map_get(&sink->unpacked, path)) {
		fs_sink_forget_dirs(sink);
		return gt_remove_tree(dirfd, name, err) < 0 ? gt_context(err, "delete %.200s", path) : 0;
	}
	AUTO_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOTDIR || errno == ENOENT || errno == ELOOP ? 0 :
									       gt_fail_errno(err, errno, "open %.200s", path);
	if (depth > FS_MAX_DEPTH)
		return gt_fail(err, GT_INVALID, "%.200s: directories are nested too deeply", path);
	return remove_lower_children(sink, fd, path, depth, err);
}

static int hide_lower(struct fs_sink *sink, int dirfd, const char *name, const char *path, struct gt_error *err)
{
	if (sink->whiteouts == GANTRY_WHITEOUT_DELETE) {
		/* the descriptor may be one of the sink's directories, which removal closes */
		AUTO_CLOSE int dir = openat(dirfd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
		return dir < 0 ? gt_fail_errno(err, errno, "open the directory of %.200s", path) :
				 remove_lower(sink, dir, name, path, 0, err);
	}
	if (mknodat(dirfd, name, S_IFCHR, makedev(0, 0)) == 0)
		return 0;
	if (errno != EEXIST)
		return gt_fail_errno(err, errno, "write the whiteout of %.200s", path);
	/* What stands here is this layer's own and stays; a directory just hides the one below. */
	AUTO_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? 0 : fs_set_opaque(fd, path, err);
}

static int make_opaque(struct fs_sink *sink, const char *path, struct gt_error *err)
{
	char parent[FS_PATH_MAX];
	fs_split(path, parent);
	AUTO_CLOSE int fd = fs_open(sink->root, parent, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return gt_fail_errno(err, errno, "open directory %.200s", parent);
	if (sink->whiteouts == GANTRY_WHITEOUT_OVERLAY)
		return fs_set_opaque(fd, parent, err);
	return remove_lower_children(sink, fd, parent, 0, err);
}

/* Returns 1 where the entry was a whiteout and is dealt with. */
static int take_whiteout(struct fs_sink *sink, const char *path, struct gt_error *err)
{
	const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
	if (strncmp(base, WHITEOUT, sizeof WHITEOUT - 1) != 0)
		return 0;
	const char *name;
	int dirfd = fs_sink_parent(sink, path, &name, err);
	if (dirfd < 0)
		return -1;
	if (strcmp(base, OPAQUE) == 0)
		return make_opaque(sink, path, err) < 0 ? -1 : 1;
	if (strncmp(base, AUFS_META, sizeof AUFS_META - 1) == 0)
		return 1; /* bookkeeping of another storage system */
	const char *hidden = base + sizeof WHITEOUT - 1;
	if (!hidden[0] || strcmp(hidden, ".") == 0 || strcmp(hidden, "..") == 0)
		return gt_fail(err, GT_INVALID, "%.200s: a whiteout that names no file", path);
	AUTO_FREE char *target = gt_xasprintf("%.*s%s", (int)(base - path), path, hidden);
	return hide_lower(sink, dirfd, hidden, target, err) < 0 ? -1 : 1;
}

/* ---- the loop ---- */

static int take_entry(struct fs_sink *sink, struct tee *tee, struct archive *archive, struct archive_entry *entry,
		      struct gt_error *err)
{
	int64_t header_at = archive_read_header_position(archive), data_at = archive_filter_bytes(archive, 0);
	if (tee)
		tell(tee, data_at);
	struct fs_entry item = { .entry = entry, .data_at = data_at };
	AUTO_FREE char *exact = NULL, *exact_link = NULL;
	item.name = archive_entry_pathname(entry);
	if (tee && (!item.name || !is_ascii(item.name)) && (exact = exact_name(tee, header_at, "path")) != NULL)
		item.name = exact;
	item.link = archive_entry_hardlink(entry) ?: archive_entry_symlink(entry);
	if (tee && item.link && !is_ascii(item.link) && (exact_link = exact_name(tee, header_at, "linkpath")) != NULL)
		item.link = exact_link;
	if (!item.name)
		return gt_fail(err, GT_INVALID, "an entry of the archive has no usable name");
	if (++sink->entries > sink->max_entries)
		return gt_fail(err, GT_TOO_LARGE, "the archive has more than %lld entries", (long long)sink->max_entries);
	AUTO_FREE char *path = item.path = fs_sink_path(sink, item.name, err);
	if (!path)
		return -1;
	if (sink->layer) {
		int rc = take_whiteout(sink, path, err);
		if (rc != 0)
			return rc < 0 ? -1 : 0;
	}
	int64_t size = archive_entry_size(entry);
	if (size > INT64_MAX - data_at)
		return gt_fail(err, GT_INVALID, "%.200s: no file has %lld bytes", path, (long long)size);
	bool content = tee && sink->recipe && archive_entry_filetype(entry) == AE_IFREG && !item.link && size > 0 &&
		       archive_entry_sparse_count(entry) == 0;
	if (content) {
		tee->content_from = data_at;
		tee->content_to = data_at + size;
		tee->content_path = gt_xstrdup(path);
	}
	return fs_sink_add(sink, archive, &item, err);
}

static int archive_error(struct archive *archive, struct gt_error *err)
{
	const char *reason = archive_error_string(archive);
	return gt_fail(err, GT_INVALID, "the archive cannot be read: %s", reason ? reason : "it is damaged");
}

static int take_all(struct fs_sink *sink, struct tee *tee, struct archive *archive, bool exact, struct gt_error *err)
{
	struct archive_entry *entry;
	for (;;) {
		if (exact)
			tell(tee, archive_filter_bytes(archive, 0)); /* the entry before, with its padding */
		gt_buf_reset(&tee->head);
		tee->head_at = tee->told;
		tee->in_header = true;
		int rc = archive_read_next_header(archive, &entry);
		if (rc == ARCHIVE_EOF)
			break;
		if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN)
			return archive_error(archive, err);
		if (exact)
			tell(tee, archive_filter_bytes(archive, 0));
		tee->in_header = false;
		if (take_entry(sink, exact ? tee : NULL, archive, entry, err) < 0)
			return -1;
		rc = archive_read_data_skip(archive);
		if (rc != ARCHIVE_OK && rc != ARCHIVE_EOF && rc != ARCHIVE_WARN)
			return archive_error(archive, err);
	}
	return tee_drain(tee, err);
}

/* compressed: any filter libarchive knows may stand before the tar; names are then as libarchive gives them. */
int fs_read_tar(struct fs_sink *sink, bool compressed, struct gt_error *err)
{
	struct tee tee = { .fd = FS_IN, .block = gt_xmalloc(BLOCK), .recipe = sink->recipe };
	struct archive *archive = archive_read_new();
	archive_read_support_format_tar(archive);
	archive_read_support_format_empty(archive);
	if (compressed) {
		archive_read_support_filter_gzip(archive);
		archive_read_support_filter_bzip2(archive);
		archive_read_support_filter_xz(archive);
		archive_read_support_filter_zstd(archive);
	}
	int rc = archive_read_open2(archive, &tee, NULL, tee_read, NULL, NULL) == ARCHIVE_OK ? 0 : archive_error(archive, err);
	if (rc == 0)
		rc = take_all(sink, &tee, archive, archive_filter_count(archive) <= 1, err);
	if (rc == 0)
		rc = fs_sink_finish(sink, err);
	archive_read_free(archive);
	gt_buf_free(&tee.head);
	free(tee.content_path);
	free(tee.block);
	return rc;
}

int fs_job_unpack(const json_t *request, json_t *reply, struct gt_error *err)
{
	const char *dir = "";
	int64_t whiteouts = 0;
	bool keep_recipe = false;
	json_t *lower = NULL;
	struct fs_sink sink;
	fs_sink_init(&sink);
	sink.max_entries = DEFAULT_MAX_ENTRIES;
	if (gt_json_string(request, "dir", &dir, err) < 0 || gt_json_int(request, "whiteouts", &whiteouts, err) < 0 ||
	    gt_json_bool(request, "recipe", &keep_recipe, err) < 0 || gt_json_bool(request, "early", &sink.early, err) < 0 ||
	    gt_json_object(request, "lower", &lower, err) < 0 ||
	    gt_json_int(request, "max_bytes", &sink.max_bytes, err) < 0 ||
	    gt_json_int(request, "max_entries", &sink.max_entries, err) < 0)
		return -1;
	if (whiteouts != GANTRY_WHITEOUT_DELETE && whiteouts != GANTRY_WHITEOUT_OVERLAY)
		return gt_fail(err, GT_UNSUPPORTED, "the storage driver wants whiteouts of unknown kind %lld", (long long)whiteouts);
	sink.root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (sink.root < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "open the layer's directory %s", dir);
	sink.layer = true;
	sink.whiteouts = (int)whiteouts;
	sink.lower = lower;
	sink.recipe = keep_recipe ? fs_recipe_new(FS_RECIPE) : NULL;
	/* CAP_SYS_ADMIN: trusted.overlay.opaque, and the view of the layers below */
	int rc = fs_drop_privileges(true, err);
	if (rc == 0)
		rc = fs_read_tar(&sink, false, err);
	bool recipe = rc == 0 && keep_recipe && fs_recipe_finish(sink.recipe);
	json_object_set_new(reply, "size", json_integer(sink.bytes - sink.replaced));
	json_object_set_new(reply, "entries", json_integer(sink.entries));
	json_object_set_new(reply, "recipe", json_boolean(recipe));
	if (sink.owed.count > 0)
		json_object_set_new(reply, "owed", fs_owed_json(&sink));
	fs_recipe_free(sink.recipe);
	fs_sink_free(&sink);
	return rc;
}

/* ---- extract ---- */

static int refuse_read_only(const struct fs_view *view, int dirfd, struct gt_error *err)
{
	struct statvfs fs;
	struct statx sx;
	if (fstatvfs(dirfd, &fs) < 0 || statx(dirfd, "", AT_EMPTY_PATH, STATX_MNT_ID, &sx) < 0)
		return gt_fail_errno(err, errno, "look at the target directory");
	if (!(fs.f_flag & ST_RDONLY))
		return 0;
	if (sx.stx_mnt_id == view->mount_id)
		return gt_fail(err, GT_DENIED, "container rootfs is marked read-only");
	return gt_fail(err, GT_DENIED, "mounted volume is marked read-only");
}

int fs_job_extract(const json_t *request, json_t *reply, struct gt_error *err)
{
	(void)reply;
	const char *path = "";
	struct fs_view view;
	struct fs_sink sink;
	fs_sink_init(&sink);
	if (gt_json_string(request, "path", &path, err) < 0 || gt_json_bool(request, "no_overwrite", &sink.no_overwrite, err) < 0 ||
	    gt_json_int(request, "uid", &sink.uid, err) < 0 || gt_json_int(request, "gid", &sink.gid, err) < 0 ||
	    fs_view_open(gt_json_get(request, "root"), &view, err) < 0 || fs_drop_privileges(false, err) < 0)
		return -1;
	AUTO_FREE char *base = fs_clean_path(path, true, err);
	if (!base)
		return -1;
	AUTO_CLOSE int dir = fs_open(view.root, base, O_PATH);
	struct stat st;
	if (dir < 0 && errno == ENOENT)
		return gt_fail(err, GT_NOT_FOUND, "Could not find the file %.300s in container", path);
	if (dir < 0 || fstat(dir, &st) < 0)
		return gt_fail_errno(err, errno, "open %.300s", path);
	if (!S_ISDIR(st.st_mode))
		return gt_fail(err, GT_INVALID, "extraction point is not a directory");
	if (refuse_read_only(&view, dir, err) < 0)
		return -1;
	sink.root = view.root;
	sink.base = base;
	int rc = fs_read_tar(&sink, true, err);
	fs_sink_free(&sink);
	return rc;
}

/* ---- a build's context ---- */

int fs_job_context(const json_t *request, json_t *reply, struct gt_error *err)
{
	const char *dir = "";
	struct fs_sink sink;
	AUTO_BUF struct gt_buf digests = { 0 };
	bool wanted = false;
	fs_sink_init(&sink);
	if (gt_json_string(request, "dir", &dir, err) < 0 || gt_json_int(request, "max_bytes", &sink.max_bytes, err) < 0 ||
	    gt_json_int(request, "max_entries", &sink.max_entries, err) < 0 || gt_json_bool(request, "digests", &wanted, err) < 0)
		return -1;
	sink.root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (sink.root < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "open the context's directory %s", dir);
	sink.digests = wanted ? &digests : NULL;
	int rc = fs_drop_privileges(false, err);
	if (rc == 0)
		rc = fs_read_tar(&sink, true, err);
	if (rc == 0 && wanted && gt_write_full(FS_RECIPE, digests.data, digests.len) < 0)
		rc = gt_fail_errno(err, errno, "write the digests of the context");
	json_object_set_new(reply, "size", json_integer(sink.bytes));
	fs_sink_free(&sink);
	return rc;
}
