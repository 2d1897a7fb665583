/*
 * known.c - what files of a build's context are, without a look into them: their digests were taken while they were written (node.c), and nobody writes to
 * them since.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "copy.h"

#define MAX_KNOWN (1ll << 30)

static int by_inode(const void *a, const void *b)
{
	const struct fs_digest *one = a, *two = b;
	return one->ino < two->ino ? -1 : one->ino > two->ino;
}

int copy_known_read(struct copier *copier, const char *path, struct gt_error *err)
{
	if (!path[0])
		return 0;
	if (gt_read_file(AT_FDCWD, path, MAX_KNOWN, &copier->known, err) < 0)
		return gt_context(err, "the digests of the context");
	if (copier->known.len % sizeof(struct fs_digest))
		return gt_fail(err, GT_INTERNAL, "the digests of the context are cut short");
	if (copier->known.len)
		qsort(copier->known.data, copier->known.len / sizeof(struct fs_digest), sizeof(struct fs_digest), by_inode);
	return 0;
}

const struct fs_digest *copy_known(const struct copier *copier, int fd, int64_t size)
{
	const struct fs_digest *all = (const void *)copier->known.data;
	size_t count = copier->known.len / sizeof *all;
	struct stat st;
	if (!copier->ignoring || count == 0 || fstat(fd, &st) < 0)
		return NULL;
	struct fs_digest key = { .ino = st.st_ino };
	const struct fs_digest *found = bsearch(&key, all, count, sizeof *all, by_inode);
	bool twice = found && ((found > all && found[-1].ino == key.ino) || (found + 1 < all + count && found[1].ino == key.ino));
	return found && !twice && found->size == (uint64_t)size && st.st_size == size ? found : NULL;
}
