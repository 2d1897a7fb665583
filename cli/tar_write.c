#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/map.h"
#include "tar.h"

enum { CHUNK = 64 << 10, MAX_NESTING = 512 };

int tar_load(struct tar_library *lib, struct gt_error *err)
{
	void *handle = dlopen("libarchive.so.13", RTLD_NOW | RTLD_LOCAL);
	if (!handle)
		return gt_fail(err, GT_UNAVAILABLE, "this command needs libarchive (package libarchive13): %s", dlerror());
#define FIND(name)                                                                                                \
	lib->name = (__typeof__(lib->name))dlsym(handle, #name);                                                  \
	if (!lib->name)                                                                                           \
		return gt_fail(err, GT_UNAVAILABLE, "libarchive.so.13 lacks %s", #name);
	TAR_CALLS(FIND)
#undef FIND
	return 0;
}

/* A directory on the way down. */
struct level {
	DIR *dir;
	size_t path_len, name_len;      /* how long the two paths were before it */
};

struct tar_source {
	struct tar_library lib;
	struct archive *archive;
	struct archive_entry *entry;
	struct gt_buf out;              /* made, not yet handed out */
	struct gt_buf handed;           /* the piece handed out last */
	int64_t size;
	struct gt_buf path, name;       /* where we are: on disk, in the archive */
	struct level levels[MAX_NESTING];
	size_t depth;
	int file;                       /* being copied, or -1 */
	int64_t left;                   /* of it */
	struct gt_map links;            /* "dev:ino" -> name in the archive, of files with several names */
	tar_filter *filter;
	void *arg;
	size_t root_len;                /* of name: what a filter does not see */
	bool begun, over, anonymous, opened;
};

static ssize_t collect(struct archive *archive, void *arg, const void *bytes, size_t len)
{
	struct tar_source *source = arg;
	(void)archive;
	gt_buf_add(&source->out, bytes, len);
	source->size += (int64_t)len;
	return (ssize_t)len;
}

static int fail(struct tar_source *source, const char *what, struct gt_error *err)
{
	const char *why = source->lib.archive_error_string(source->archive);
	return gt_fail(err, GT_INTERNAL, "cannot archive %s: %s", what, why ? why : "unknown reason");
}

struct tar_source *tar_source_new(const char *path, const char *name, tar_filter *filter, void *arg, struct gt_error *err)
{
	struct tar_source *source = gt_xcalloc(1, sizeof *source);
	source->file = -1;
	source->filter = filter;
	source->arg = arg;
	if (tar_load(&source->lib, err) < 0) {
		free(source);
		return NULL;
	}
	gt_buf_str(&source->path, path);
	gt_buf_str(&source->name, strcmp(name, ".") == 0 ? "" : name);
	source->root_len = source->name.len;
	source->archive = source->lib.archive_write_new();
	source->entry = source->lib.archive_entry_new();
	source->lib.archive_write_set_format_pax_restricted(source->archive);
	source->lib.archive_write_set_bytes_per_block(source->archive, 0);
	return source;
}

void tar_source_gzip(struct tar_source *source)
{
	source->lib.archive_write_add_filter_gzip(source->archive);
}

void tar_source_anonymous(struct tar_source *source)
{
	source->anonymous = true;
}

static int open_archive(struct tar_source *source, struct gt_error *err)
{
	if (source->opened)
		return 0;
	source->opened = true;
	if (source->lib.archive_write_open(source->archive, source, NULL, collect, NULL) != ARCHIVE_OK)
		return fail(source, "", err);
	return 0;
}

int tar_source_add(struct tar_source *source, const char *name, const void *bytes, size_t len, struct gt_error *err)
{
	struct tar_library *lib = &source->lib;
	if (open_archive(source, err) < 0)
		return -1;
	lib->archive_entry_clear(source->entry);
	lib->archive_entry_set_pathname(source->entry, name);
	lib->archive_entry_set_filetype(source->entry, AE_IFREG);
	lib->archive_entry_set_mode(source->entry, S_IFREG | 0600);
	lib->archive_entry_set_size(source->entry, (int64_t)len);
	lib->archive_entry_set_mtime(source->entry, 0, 0);
	if (lib->archive_write_header(source->archive, source->entry) != ARCHIVE_OK ||
	    lib->archive_write_data(source->archive, bytes, len) != (ssize_t)len ||
	    lib->archive_write_finish_entry(source->archive) != ARCHIVE_OK)
		return fail(source, name, err);
	return 0;
}

/* A further name of a file that is in the archive already. */
static bool known_link(struct tar_source *source, const struct stat *st)
{
	if (!S_ISREG(st->st_mode) || st->st_nlink < 2)
		return false;
	char key[64];
	snprintf(key, sizeof key, "%llx:%llx", (unsigned long long)st->st_dev, (unsigned long long)st->st_ino);
	const char *first = gt_map_get(&source->links, key);
	if (!first) {
		gt_map_set(&source->links, key, gt_xstrdup(source->name.data));
		return false;
	}
	source->lib.archive_entry_set_hardlink(source->entry, first);
	source->lib.archive_entry_set_size(source->entry, 0);
	return true;
}

static int describe(struct tar_source *source, const struct stat *st, struct gt_error *err)
{
	struct tar_library *lib = &source->lib;
	char target[PATH_MAX];
	struct stat shown = *st;
	if (source->anonymous)
		shown.st_uid = shown.st_gid = 0;
	lib->archive_entry_clear(source->entry);
	lib->archive_entry_copy_stat(source->entry, &shown);
	if (S_ISDIR(st->st_mode)) {
		AUTO_FREE char *slashed = gt_xasprintf("%s/", source->name.len ? source->name.data : ".");
		lib->archive_entry_set_pathname(source->entry, slashed);
	} else {
		lib->archive_entry_set_pathname(source->entry, source->name.data);
	}
	if (S_ISLNK(st->st_mode)) {
		ssize_t len = readlink(source->path.data, target, sizeof target - 1);
		if (len < 0)
			return gt_fail_errno(err, errno, "cannot read the link %s", source->path.data);
		target[len] = '\0';
		lib->archive_entry_set_symlink(source->entry, target);
	}
	char capability[256];
	ssize_t len = S_ISREG(st->st_mode)
			      ? lgetxattr(source->path.data, "security.capability", capability, sizeof capability)
			      : -1;
	if (len > 0)
		lib->archive_entry_xattr_add_entry(source->entry, "security.capability", capability, (size_t)len);
	return 0;
}

/* The entry at the current path; an open file's content follows in later steps. */
static int add_entry(struct tar_source *source, const struct stat *st, struct gt_error *err)
{
	if (describe(source, st, err) < 0)
		return -1;
	bool content = S_ISREG(st->st_mode) && !known_link(source, st);
	AUTO_CLOSE int fd = -1;
	if (content) {
		fd = open(source->path.data, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			return gt_fail_errno(err, errno, "cannot open %s", source->path.data);
	}
	if (source->lib.archive_write_header(source->archive, source->entry) < ARCHIVE_WARN)
		return fail(source, source->path.data, err);
	source->left = content ? st->st_size : 0;
	if (content && st->st_size > 0)
		source->file = take_fd(fd);
	return 0;
}

/* A piece of the open file; one that shrinks meanwhile is filled up with zeros, so that the archive stays whole. */
static int copy_piece(struct tar_source *source, struct gt_error *err)
{
	char bytes[CHUNK] = { 0 };
	size_t want = source->left < CHUNK ? (size_t)source->left : CHUNK;
	ssize_t got = gt_read_full(source->file, bytes, want);
	if (got < 0)
		return gt_fail_errno(err, errno, "cannot read %s", source->path.data);
	if (source->lib.archive_write_data(source->archive, bytes, want) < 0)
		return fail(source, source->path.data, err);
	source->left -= (int64_t)want;
	if (source->left == 0) {
		close(take_fd(source->file));
		source->lib.archive_write_finish_entry(source->archive);
	}
	return 0;
}

static int enter(struct tar_source *source, struct gt_error *err)
{
	if (source->depth == MAX_NESTING)
		return gt_fail(err, GT_INVALID, "%s: directories are nested deeper than %d levels", source->path.data,
			       MAX_NESTING);
	DIR *dir = opendir(source->path.data);
	if (!dir)
		return gt_fail_errno(err, errno, "cannot open the directory %s", source->path.data);
	source->levels[source->depth++] = (struct level){ dir, source->path.len, source->name.len };
	return 0;
}

static void cut(struct gt_buf *buf, size_t len)
{
	buf->len = len;
	buf->data[len] = '\0';
}

/* Adds what is at the current path, if the filter keeps it, and goes down into a directory. */
static int visit(struct tar_source *source, struct gt_error *err)
{
	struct stat st;
	bool keep = true, descend = true;
	if (lstat(source->path.data, &st) < 0)
		return gt_fail_errno(err, errno, "cannot stat %s", source->path.data);
	if (S_ISSOCK(st.st_mode))
		return 0; /* tar has no sockets */
	const char *seen = source->name.data ? source->name.data + source->root_len : "";
	seen += *seen == '/';
	if (source->filter && *seen)
		keep = source->filter(source->arg, seen, S_ISDIR(st.st_mode), &descend);
	if (keep && add_entry(source, &st, err) < 0)
		return -1;
	return S_ISDIR(st.st_mode) && descend ? enter(source, err) : 0;
}

static int step(struct tar_source *source, struct gt_error *err)
{
	if (source->file >= 0)
		return copy_piece(source, err);
	if (!source->begun) {
		source->begun = true;
		if (open_archive(source, err) < 0)
			return -1;
		return source->path.len ? visit(source, err) : 0;
	}
	if (source->depth == 0) {
		source->over = true;
		if (source->lib.archive_write_close(source->archive) != ARCHIVE_OK)
			return fail(source, "", err);
		return 0;
	}
	struct level *level = &source->levels[source->depth - 1];
	cut(&source->path, level->path_len);
	if (source->name.data)
		cut(&source->name, level->name_len);
	struct dirent *item = readdir(level->dir);
	if (!item) {
		closedir(level->dir);
		source->depth--;
		return 0;
	}
	if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0)
		return 0;
	gt_buf_printf(&source->path, "%s%s", source->path.data[source->path.len - 1] == '/' ? "" : "/", item->d_name);
	gt_buf_printf(&source->name, "%s%s", source->name.len ? "/" : "", item->d_name);
	return visit(source, err);
}

ssize_t tar_source_read(void *arg, const char **bytes, struct gt_error *err)
{
	struct tar_source *source = arg;
	while (source->out.len < CHUNK && !source->over) {
		if (step(source, err) < 0)
			return -1;
	}
	struct gt_buf ready = source->out;
	gt_buf_reset(&source->handed);
	source->out = source->handed;
	source->handed = ready;
	*bytes = ready.data;
	return (ssize_t)ready.len;
}

int64_t tar_source_size(const struct tar_source *source)
{
	return source->size;
}

void tar_source_free(struct tar_source *source)
{
	if (!source)
		return;
	while (source->depth > 0)
		closedir(source->levels[--source->depth].dir);
	if (source->file >= 0)
		close(source->file);
	struct gt_map_slot *slot;
	for (size_t i = 0; (slot = gt_map_next(&source->links, &i)) != NULL;)
		free(slot->value);
	gt_map_free(&source->links);
	source->lib.archive_entry_free(source->entry);
	source->lib.archive_write_free(source->archive);
	gt_buf_free(&source->out);
	gt_buf_free(&source->handed);
	gt_buf_free(&source->path);
	gt_buf_free(&source->name);
	free(source);
}
