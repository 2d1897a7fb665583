/*
 * recipe.c - how to rebuild a layer's tar byte for byte out of the unpacked layer.
 *
 * A recipe is the tar with the contents of its files taken out: literal bytes (headers, padding, the end), and references to files of the
 * layer. The daemon keeps it compressed; `save` replays it and checks the digest. Records, little endian:
 *
 *   'L' u32 length, bytes                              literal
 *   'F' u64 size, u64 kept, u16 length, path           the content of the layer's file `path`
 *   'E' (the same)                                     ... which a later entry replaced: its content is at offset `kept`
 *   'K' u64 size, bytes                                content kept for an 'E'; stands for nothing where it is met
 *
 * Where an archive plays games (thousands of replaced files) the recipe is dropped, and with it the means to save that layer again.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "base/json.h"
#include "fs.h"

#define BUFFER (256u * 1024)
#define LITERAL_MAX (1ll << 30)
#define KEEP_MAX 64             /* each costs a walk through the recipe */
#define MAGIC "gantry layer recipe 1\n"

struct __attribute__((packed)) file_record {
	uint8_t type;
	uint64_t size, kept;
	uint16_t path_len;
};

struct fs_recipe {
	int fd;
	bool dropped;
	int64_t written;        /* bytes in the file, without the buffer */
	int64_t literals;
	int kept;
	size_t used;
	char buffer[BUFFER];
};

static void flush_buffer(struct fs_recipe *recipe)
{
	if (!recipe->dropped && gt_write_full(recipe->fd, recipe->buffer, recipe->used) < 0)
		recipe->dropped = true;
	recipe->written += (int64_t)recipe->used;
	recipe->used = 0;
}

static void put(struct fs_recipe *recipe, const void *bytes, size_t len)
{
	if (recipe->used + len > BUFFER)
		flush_buffer(recipe);
	if (len > BUFFER / 2) {
		if (!recipe->dropped && gt_write_full(recipe->fd, bytes, len) < 0)
			recipe->dropped = true;
		recipe->written += (int64_t)len;
		return;
	}
	memcpy(recipe->buffer + recipe->used, bytes, len);
	recipe->used += len;
}

struct fs_recipe *fs_recipe_new(int fd)
{
	struct fs_recipe *recipe = gt_xmalloc(sizeof *recipe);
	memset(recipe, 0, offsetof(struct fs_recipe, buffer));
	recipe->fd = fd;
	put(recipe, MAGIC, sizeof MAGIC - 1);
	return recipe;
}

void fs_recipe_free(struct fs_recipe *recipe)
{
	free(recipe);
}

void fs_recipe_drop(struct fs_recipe *recipe)
{
	if (recipe)
		recipe->dropped = true;
}

void fs_recipe_literal(struct fs_recipe *recipe, const void *bytes, size_t len)
{
	recipe->literals += (int64_t)len;
	if (recipe->literals > LITERAL_MAX)
		recipe->dropped = true;
	for (const char *from = bytes; len > 0 && !recipe->dropped;) {
		uint32_t part = len < (1u << 30) ? (uint32_t)len : 1u << 30, le = htole32(part);
		put(recipe, "L", 1);
		put(recipe, &le, sizeof le);
		put(recipe, from, part);
		from += part;
		len -= part;
	}
}

void fs_recipe_file(struct fs_recipe *recipe, const char *path, int64_t size)
{
	size_t len = strlen(path);
	struct file_record record = { 'F', htole64((uint64_t)size), 0, htole16((uint16_t)len) };
	if (recipe->dropped)
		return;
	put(recipe, &record, sizeof record);
	put(recipe, path, len);
}

/* Walks the records from the start; returns the offset of the last 'F' for path, or -1. */
static int64_t find_file(const struct fs_recipe *recipe, const char *path, struct file_record *found)
{
	int64_t result = -1, end = recipe->written;
	size_t path_len = strlen(path);
	char *map = mmap(NULL, (size_t)end, PROT_READ, MAP_SHARED, recipe->fd, 0);
	if (map == MAP_FAILED)
		return -1;
	for (int64_t at = sizeof MAGIC - 1; at + (int64_t)sizeof(struct file_record) <= end;) {
		struct file_record record;
		uint32_t literal;
		memcpy(&record, map + at, sizeof record);
		if (record.type == 'L') {
			memcpy(&literal, map + at + 1, sizeof literal);
			at += 5 + (int64_t)le32toh(literal);
			continue;
		}
		if (record.type == 'K') {
			at += 9 + (int64_t)le64toh(record.size);
			continue;
		}
		size_t len = le16toh(record.path_len);
		int64_t name = at + (int64_t)sizeof record;
		if (record.type == 'F' && len == path_len && name + (int64_t)len <= end && memcmp(map + name, path, len) == 0) {
			result = at;
			*found = record;
		}
		at = name + (int64_t)len;
	}
	munmap(map, (size_t)end);
	return result;
}

void fs_recipe_keep(struct fs_recipe *recipe, const char *path, int fd)
{
	if (!recipe || recipe->dropped)
		return;
	flush_buffer(recipe);
	if (recipe->dropped)
		return;
	struct file_record record;
	struct stat st;
	int64_t at = find_file(recipe, path, &record);
	if (at < 0)
		return; /* an empty file, or a link: nothing refers to its content */
	if (++recipe->kept > KEEP_MAX || fstat(fd, &st) < 0 || (uint64_t)st.st_size != le64toh(record.size)) {
		recipe->dropped = true;
		return;
	}
	uint64_t size = htole64((uint64_t)st.st_size);
	put(recipe, "K", 1);
	put(recipe, &size, sizeof size);
	record.type = 'E';
	record.kept = htole64((uint64_t)(recipe->written + (int64_t)recipe->used));
	for (int64_t left = st.st_size; left > 0 && !recipe->dropped;) {
		char chunk[65536];
		ssize_t n = gt_read_full(fd, chunk, left < (int64_t)sizeof chunk ? (size_t)left : sizeof chunk);
		if (n <= 0) {
			recipe->dropped = true;
			return;
		}
		put(recipe, chunk, (size_t)n);
		left -= n;
	}
	if (pwrite(recipe->fd, &record, sizeof record, at) != (ssize_t)sizeof record)
		recipe->dropped = true;
}

bool fs_recipe_finish(struct fs_recipe *recipe)
{
	flush_buffer(recipe);
	return !recipe->dropped;
}

/* ---- replay ---- */

struct replay {
	int root, recipe;
	size_t have, at;        /* of buffer: bytes read, and used */
	int64_t offset;         /* file offset behind the buffer */
	size_t out_used;
	char buffer[BUFFER], out[BUFFER];
};

static int corrupt(struct gt_error *err)
{
	return gt_fail(err, GT_INTERNAL, "the layer's recipe is damaged");
}

static int flush_out(struct replay *replay, struct gt_error *err)
{
	if (gt_write_full(FS_OUT, replay->out, replay->out_used) < 0)
		return gt_fail_sys(err, errno == EPIPE ? GT_CANCELLED : GT_INTERNAL, errno, "write a layer");
	replay->out_used = 0;
	return 0;
}

static int emit(struct replay *replay, const char *bytes, size_t len, struct gt_error *err)
{
	while (len > 0) {
		if (replay->out_used == BUFFER && flush_out(replay, err) < 0)
			return -1;
		size_t part = BUFFER - replay->out_used < len ? BUFFER - replay->out_used : len;
		memcpy(replay->out + replay->out_used, bytes, part);
		replay->out_used += part;
		bytes += part;
		len -= part;
	}
	return 0;
}

/* Returns 1 and the next len bytes, 0 at a clean end, -1. With bytes NULL they are emitted. */
static int next(struct replay *replay, void *bytes, uint64_t len, struct gt_error *err)
{
	for (uint64_t done = 0; done < len;) {
		if (replay->at == replay->have) {
			ssize_t n = pread(replay->recipe, replay->buffer, BUFFER, replay->offset);
			if (n < 0)
				return gt_fail_errno(err, errno, "read a layer's recipe");
			if (n == 0)
				return done == 0 ? 0 : corrupt(err);
			replay->offset += n;
			replay->have = (size_t)n;
			replay->at = 0;
		}
		uint64_t part = replay->have - replay->at < len - done ? replay->have - replay->at : len - done;
		if (bytes)
			memcpy((char *)bytes + done, replay->buffer + replay->at, part);
		else if (emit(replay, replay->buffer + replay->at, part, err) < 0)
			return -1;
		replay->at += part;
		done += part;
	}
	return 1;
}

static int must(struct replay *replay, void *bytes, uint64_t len, struct gt_error *err)
{
	int rc = next(replay, bytes, len, err);
	return rc > 0 || len == 0 ? 0 : rc < 0 ? -1 : corrupt(err);
}

static int skip(struct replay *replay, uint64_t len, struct gt_error *err)
{
	uint64_t here = replay->have - replay->at;
	if (len <= here) {
		replay->at += len;
		return 0;
	}
	if (len - here > (uint64_t)(INT64_MAX - replay->offset))
		return corrupt(err);
	replay->offset += (int64_t)(len - here);
	replay->at = replay->have = 0;
	return 0;
}

/* Small files gather in the buffer; large ones go from page cache to pipe. */
static int emit_content(struct replay *replay, int fd, off_t at, uint64_t size, const char *path, struct gt_error *err)
{
	if (size >= BUFFER && flush_out(replay, err) < 0)
		return -1;
	while (size > 0) {
		ssize_t n;
		if (size >= 65536 && replay->out_used == 0) {
			n = sendfile(FS_OUT, fd, &at, size < (1u << 30) ? size : 1u << 30);
		} else {
			if (replay->out_used == BUFFER && flush_out(replay, err) < 0)
				return -1;
			size_t room = BUFFER - replay->out_used;
			n = pread(fd, replay->out + replay->out_used, size < room ? size : room, at);
			at += n > 0 ? n : 0;
			replay->out_used += n > 0 ? (size_t)n : 0;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return gt_fail_sys(err, errno == EPIPE ? GT_CANCELLED : GT_INTERNAL, errno, "copy %.200s of a layer",
					   path);
		if (n == 0)
			return gt_fail(err, GT_INTERNAL, "%.200s of a layer has shrunk", path);
		size -= (uint64_t)n;
	}
	return 0;
}

static int replay_file(struct replay *replay, uint8_t type, struct gt_error *err)
{
	struct file_record record;
	char path[FS_PATH_MAX];
	if (must(replay, (char *)&record + 1, sizeof record - 1, err) < 0)
		return -1;
	size_t len = le16toh(record.path_len);
	if (len == 0 || len >= sizeof path)
		return corrupt(err);
	if (must(replay, path, len, err) < 0)
		return -1;
	path[len] = '\0';
	if (type == 'E')
		return emit_content(replay, replay->recipe, (off_t)le64toh(record.kept), le64toh(record.size), path, err);
	AUTO_CLOSE int fd = fs_open(replay->root, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "open %.200s of a layer", path);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != le64toh(record.size))
		return gt_fail(err, GT_INTERNAL, "%.200s of a layer is not the file that was unpacked", path);
	return emit_content(replay, fd, 0, le64toh(record.size), path, err);
}

static int replay_all(struct replay *replay, struct gt_error *err)
{
	char magic[sizeof MAGIC - 1];
	if (must(replay, magic, sizeof magic, err) < 0)
		return -1;
	if (memcmp(magic, MAGIC, sizeof magic) != 0)
		return corrupt(err);
	uint8_t type;
	int rc;
	while ((rc = next(replay, &type, 1, err)) > 0) {
		uint32_t literal;
		uint64_t kept;
		switch (type) {
		case 'L':
			if (must(replay, &literal, sizeof literal, err) < 0 || must(replay, NULL, le32toh(literal), err) < 0)
				return -1;
			break;
		case 'K':
			if (must(replay, &kept, sizeof kept, err) < 0 || skip(replay, le64toh(kept), err) < 0)
				return -1;
			break;
		case 'F':
		case 'E':
			if (replay_file(replay, type, err) < 0)
				return -1;
			break;
		default:
			return corrupt(err);
		}
	}
	return rc < 0 ? -1 : flush_out(replay, err);
}

int fs_recipe_replay(int root, int recipe, struct gt_error *err)
{
	AUTO_FREE struct replay *replay = gt_xmalloc(sizeof *replay);
	memset(replay, 0, offsetof(struct replay, buffer));
	replay->root = root;
	replay->recipe = recipe;
	return replay_all(replay, err);
}

int fs_job_rebuild(const json_t *request, json_t *reply, struct gt_error *err)
{
	(void)reply;
	const char *dir = "";
	if (gt_json_string(request, "dir", &dir, err) < 0)
		return -1;
	AUTO_CLOSE int root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "open the layer's directory %s", dir);
	return fs_drop_privileges(false, err) < 0 ? -1 : fs_recipe_replay(root, FS_RECIPE, err);
}
