/*
 * usage.c - what a layer has for itself: the data of files that it added or changed, as far as it is not the parent's too.
 *
 * A file's extents say whether others have them as well (FIEMAP_EXTENT_SHARED). Programs share data inside a layer too (cp does, by itself): what two new
 * files of the layer have in common is counted once. Compressed data counts whole, as `docker ps -s` tells the sizes of files.
 */
#include "btrfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define BATCH 64                /* extents asked for at a time */

struct count {
	struct btrfs *self;
	const struct gantry_call *call;
	struct gantry_error *err;
	int64_t bytes, inodes;
	void *links;            /* tsearch(3) of struct number: files with several names */
	void *shared;           /* and shared extents of new files */
};

struct number {
	uint64_t value;
	unsigned seen;
};

static int by_value(const void *a, const void *b)
{
	const struct number *x = a, *y = b;
	return x->value < y->value ? -1 : x->value > y->value;
}

/* How often it was seen, this time included; 0 for no memory. */
static unsigned see(void **set, uint64_t value)
{
	struct number *fresh = malloc(sizeof *fresh);
	if (!fresh)
		return 0;
	*fresh = (struct number){ .value = value };
	struct number **node = tsearch(fresh, set, by_value);
	if (!node || *node != fresh)
		free(fresh);
	return node ? ++(*node)->seen : 0;
}

/* Bytes of one extent that are the layer's own. */
static uint64_t own(struct count *count, const struct fiemap_extent *extent, bool new_file)
{
	if (!(extent->fe_flags & FIEMAP_EXTENT_SHARED))
		return extent->fe_length;
	return new_file && see(&count->shared, extent->fe_physical) == 2 ? extent->fe_length : 0;
}

/* Adds a file's own bytes, of which it has no more than its size. What cannot be looked at any more counts nothing. */
static int add_file(struct count *count, const struct change *change)
{
	union {
		struct fiemap map;
		char room[sizeof(struct fiemap) + BATCH * sizeof(struct fiemap_extent)];
	} ask;
	uint64_t bytes = 0, at = 0;
	bool last = false;
	int fd = openat(change->dirfd, change->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), rc = 0;
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		last = true;
	while (!last && rc == 0) {
		memset(&ask, 0, sizeof ask);
		ask.map.fm_start = at;
		ask.map.fm_length = FIEMAP_MAX_OFFSET - at;
		ask.map.fm_extent_count = BATCH;
		if (ioctl(fd, FS_IOC_FIEMAP, &ask) < 0) {
			rc = gantry_fail_errno(count->err, GANTRY_E_INTERNAL, errno, "count %.200s", change->path);
			break;
		}
		last = ask.map.fm_mapped_extents == 0;
		for (unsigned i = 0; i < ask.map.fm_mapped_extents; i++) {
			const struct fiemap_extent *extent = &ask.map.fm_extents[i];
			bytes += own(count, extent, !change->same_file);
			at = extent->fe_logical + extent->fe_length;
			last |= (extent->fe_flags & FIEMAP_EXTENT_LAST) != 0;
		}
		if (!last && count->self->host->cancelled(count->self->host, count->call))
			rc = gantry_fail(count->err, GANTRY_E_TIMEOUT, "counting was given up at %.200s", change->path);
	}
	if (fd >= 0)
		close(fd);
	count->bytes += bytes < (uint64_t)change->now->st_size ? (int64_t)bytes : change->now->st_size;
	return rc;
}

static int add_change(void *arg, const struct change *change)
{
	struct count *count = arg;
	if (change->kind == GANTRY_DELETED)
		return 0;
	if (change->now && !S_ISDIR(change->now->st_mode) && change->now->st_nlink > 1 && see(&count->links, change->now->st_ino) > 1)
		return 0;
	count->inodes++;
	if (!change->now || S_ISDIR(change->now->st_mode))
		return 0;
	if (S_ISREG(change->now->st_mode))
		return add_file(count, change);
	if (S_ISLNK(change->now->st_mode))
		count->bytes += change->now->st_size;
	return 0;
}

int layer_count(struct btrfs *self, const struct gantry_call *call, const char *id, int64_t *bytes, int64_t *inodes, struct gantry_error *err)
{
	struct count count = { .self = self, .call = call, .err = err };
	int rc = compare_layer(self, call, id, add_change, &count, err);
	*bytes = count.bytes;
	*inodes = count.inodes;
	tdestroy(count.links, free);
	tdestroy(count.shared, free);
	return rc;
}
