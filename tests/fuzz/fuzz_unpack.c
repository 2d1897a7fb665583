/* A layer's tar, unpacked into a directory: nothing outside of it changes, bounds hold, and the recipe gives the same bytes again. */
#include "fuzz.h"

#include <ftw.h>
#include <locale.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../core/fshelper/fs.h"
#include "gantry/plugin.h"

#define MAX_BYTES (4 << 20)

static char work[] = "/dev/shm/gantry-fuzz-XXXXXX", inside[64], guard[64];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	setlocale(LC_CTYPE, "C.UTF-8");
	umask(0);
	MUST(mkdtemp(work));
	snprintf(inside, sizeof inside, "%s/in", work);
	snprintf(guard, sizeof guard, "%s/guard", work);
	MUST(mkdir(guard, 0700) == 0);
	return 0;
}

static int64_t seen_bytes;

static int look(const char *path, const struct stat *info, int kind, struct FTW *at)
{
	(void)path;
	(void)kind;
	(void)at;
	if (S_ISREG(info->st_mode) && info->st_nlink == 1)
		seen_bytes += info->st_size;
	return 0;
}

/* What the recipe makes of the unpacked layer is the tar it came from. */
static void rebuild(int root, int recipe, const uint8_t *bytes, size_t size)
{
	struct gt_error err = { 0 };
	AUTO_CLOSE int out = memfd_create("out", MFD_CLOEXEC);
	AUTO_FREE uint8_t *found = gt_xmalloc(size + 1);
	MUST(out >= 0 && dup2(out, FS_OUT) == FS_OUT);
	if (fs_recipe_replay(root, recipe, &err) < 0) {
		fprintf(stderr, "%s\n", err.message);
		abort();
	}
	MUST(lseek(out, 0, SEEK_SET) == 0 && gt_read_full(out, found, size + 1) == (ssize_t)size && memcmp(found, bytes, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gt_error err = { 0 };
	struct fs_sink sink;
	struct stat info;
	if (size < 2)
		return 0;
	uint8_t flags = data[0];
	size_t len = (size - 1) / 512 * 512; /* whole blocks are mended */
	AUTO_FREE uint8_t *bytes = gt_xmalloc(size);
	memcpy(bytes, data + 1, size - 1);
	mend_tar(bytes, len);
	AUTO_CLOSE int tar = memfd_create("tar", MFD_CLOEXEC);
	MUST(tar >= 0 && gt_write_full(tar, bytes, size - 1) == 0 && lseek(tar, 0, SEEK_SET) == 0 && dup2(tar, FS_IN) == FS_IN);
	MUST(gt_remove_tree(AT_FDCWD, inside, &err) == 0 && mkdir(inside, 0755) == 0);
	AUTO_CLOSE int dir = open(inside, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_CLOSE int recipe = memfd_create("recipe", MFD_CLOEXEC);
	fs_sink_init(&sink);
	sink.root = dir;
	sink.base = "";
	sink.layer = flags & 1;
	sink.early = sink.layer && flags & 16;
	sink.no_overwrite = !sink.layer && flags & 2;
	sink.whiteouts = flags >> 2 & 1 ? GANTRY_WHITEOUT_DELETE : GANTRY_WHITEOUT_OVERLAY;
	sink.max_bytes = MAX_BYTES;
	sink.max_entries = 64;
	sink.recipe = sink.layer && flags & 8 ? fs_recipe_new(recipe) : NULL;
	int rc = fs_read_tar(&sink, !sink.layer, &err);
	MUST(rc == 0 || err.message[0]);
	MUST(sink.entries <= 65 && sink.bytes <= MAX_BYTES + (1 << 20));
	if (sink.recipe && fs_recipe_finish(sink.recipe) && rc == 0)
		rebuild(dir, recipe, bytes, size - 1);
	fs_recipe_free(sink.recipe);
	fs_sink_free(&sink);
	seen_bytes = 0;
	nftw(inside, look, 32, FTW_PHYS);
	MUST(seen_bytes <= 64ll * MAX_BYTES);
	MUST(stat(guard, &info) == 0 && info.st_nlink == 2 && (info.st_mode & 07777) == 0700 && rmdir(guard) == 0 && mkdir(guard, 0700) == 0);
	return 0;
}
