/*
 * logs_files.c - the files of one log: PATH, PATH.1, PATH.2.gz ..., opened from the newest to the oldest so that a rotation meanwhile loses none, read from the
 * oldest to the newest.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/logs.h"

#define MAX_FILES 1000
#define BLOCK 65536

static void close_file(struct log_file *file)
{
	if (file->gz)
		gzclose(file->gz);
	else if (file->fd >= 0)
		close(file->fd);
}

/* 0, or -1 with errno. */
static int open_file(const char *path, bool compressed, struct log_file *file)
{
	struct stat info;
	*file = (struct log_file){ .fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) };
	if (file->fd < 0 || fstat(file->fd, &info) < 0)
		return -1;
	file->dev = info.st_dev;
	file->ino = info.st_ino;
	if (!compressed)
		return 0;
	file->gz = gzdopen(file->fd, "rb");
	if (file->gz)
		file->fd = -1;
	return file->gz ? 0 : -1;
}

/* PATH.n, or PATH.n.gz. */
static int open_rotated(const char *path, size_t n, struct log_file *file)
{
	AUTO_FREE char *plain = n ? gt_xasprintf("%s.%zu", path, n) : gt_xstrdup(path);
	if (open_file(plain, false, file) == 0)
		return 0;
	if (!n || errno != ENOENT)
		return -1;
	AUTO_FREE char *compressed = gt_xasprintf("%s.gz", plain);
	return open_file(compressed, true, file);
}

static bool same(const struct log_file *a, const struct log_file *b)
{
	return a->dev == b->dev && a->ino == b->ino;
}

static void push_oldest(struct log_files *files, struct log_file file)
{
	files->items = gt_xrealloc(files->items, (files->count + 1) * sizeof *files->items);
	memmove(files->items + 1, files->items, files->count * sizeof *files->items);
	files->items[0] = file;
	files->count++;
}

static ssize_t read_file(struct log_file *file, void *bytes, size_t room)
{
	for (;;) {
		ssize_t n = file->gz ? gzread(file->gz, bytes, (unsigned)room) : read(file->fd, bytes, room);
		if (n >= 0 || file->gz || errno != EINTR)
			return n;
	}
}

/* ---- tail ---- */

/* From the end of a plain json-file back to before its last *wanted lines. Sets the file's offset; *wanted is what is still missing. */
static int seek_back(struct log_file *file, uint64_t *wanted)
{
	off_t end = lseek(file->fd, 0, SEEK_END);
	AUTO_FREE char *block = gt_xmalloc(BLOCK);
	bool last = true; /* the newline that ends the file ends its last line */
	while (end > 0) {
		size_t n = end < BLOCK ? (size_t)end : BLOCK;
		if (pread(file->fd, block, n, end - (off_t)n) != (ssize_t)n)
			return -1;
		for (size_t i = n; i > 0; i--) {
			if (block[i - 1] != '\n')
				continue;
			if (last) {
				last = false;
				continue;
			}
			if (--*wanted == 0)
				return lseek(file->fd, end - (off_t)n + (off_t)i, SEEK_SET) < 0 ? -1 : 0;
		}
		end -= (off_t)n;
	}
	if (!last)
		--*wanted;
	return lseek(file->fd, 0, SEEK_SET) < 0 ? -1 : 0;
}

/* Records of a file that cannot be read backwards. Rewinds it. */
static uint64_t count_records(struct log_file *file, bool local)
{
	AUTO_BUF struct gt_buf bytes = { 0 }, scratch = { 0 };
	struct log_record record;
	uint64_t count = 0;
	for (;;) {
		ssize_t n = read_file(file, gt_buf_reserve(&bytes, BLOCK), BLOCK);
		if (n <= 0)
			break;
		bytes.len += (size_t)n;
		size_t done = 0, taken;
		while ((taken = log_record_take(local, bytes.data + done, bytes.len - done, false, &record, &scratch)) > 0) {
			done += taken;
			count += record.stream != 0;
		}
		gt_buf_consume(&bytes, done);
	}
	if (file->gz)
		gzrewind(file->gz);
	else
		lseek(file->fd, 0, SEEK_SET);
	return count;
}

/* Leaves out what lies before the last `wanted` records of the oldest file so far. Returns true where older files are needed. */
static bool cut_to_tail(struct log_files *files, uint64_t *wanted)
{
	struct log_file *file = &files->items[0];
	if (!files->local && !file->gz) {
		if (seek_back(file, wanted) < 0)
			*wanted = 0;
		return *wanted > 0;
	}
	uint64_t count = count_records(file, files->local);
	files->skip = count > *wanted ? count - *wanted : 0;
	*wanted -= count < *wanted ? count : *wanted;
	return *wanted > 0;
}

int log_files_open(struct log_files *files, const char *path, bool local, int64_t tail, struct gt_error *err)
{
	*files = (struct log_files){ .path = gt_xstrdup(path), .local = local };
	uint64_t wanted = tail < 0 ? UINT64_MAX : (uint64_t)tail;
	for (size_t n = 0; n < MAX_FILES; n++) {
		struct log_file file;
		if (open_rotated(path, n, &file) < 0) {
			if (errno != ENOENT) {
				gt_fail_errno(err, errno, "open the log %s", path);
				log_files_close(files);
				return -1;
			}
			if (n > 0)
				break;
			continue;
		}
		if (files->count && same(&file, &files->items[0])) {
			close_file(&file); /* it was rotated since we opened it under its earlier name */
			continue;
		}
		push_oldest(files, file);
		if (tail == 0) { /* only what comes from now on */
			if (file.fd >= 0)
				lseek(file.fd, 0, SEEK_END);
			break;
		}
		if (tail > 0 && !cut_to_tail(files, &wanted))
			break;
	}
	return 0;
}

ssize_t log_files_read(struct log_files *files, void *bytes, size_t room)
{
	return files->at < files->count ? read_file(&files->items[files->at], bytes, room) : 0;
}

/* Files newer than the last one we have. */
static void find_newer(struct log_files *files)
{
	struct log_file newest, *last = files->count ? &files->items[files->count - 1] : NULL;
	struct log_files fresh = { 0 };
	for (size_t n = 0; n < MAX_FILES; n++) {
		if (open_rotated(files->path, n, &newest) < 0)
			break;
		if (last && same(&newest, last)) {
			close_file(&newest);
			break;
		}
		push_oldest(&fresh, newest);
		if (!last)
			break;
	}
	for (size_t i = 0; i < fresh.count; i++) {
		files->items = gt_xrealloc(files->items, (files->count + 1) * sizeof *files->items);
		files->items[files->count++] = fresh.items[i];
	}
	free(fresh.items);
}

/* A file that was read to its end is kept until there is a newer one, as it may still grow. */
bool log_files_next(struct log_files *files, bool follow)
{
	bool none = files->count == 0;
	if (files->at + 1 >= files->count && follow)
		find_newer(files);
	if (none)
		return files->count > 0; /* the first has come */
	if (files->at + 1 >= files->count)
		return false;
	close_file(&files->items[files->at]);
	files->items[files->at] = (struct log_file){ .fd = -1 };
	files->at++;
	files->skip = 0;
	return true;
}

void log_files_close(struct log_files *files)
{
	for (size_t i = files->at; i < files->count; i++)
		close_file(&files->items[i]);
	free(files->items);
	free(files->path);
	*files = (struct log_files){ 0 };
}
