/* Recipes that were damaged: whatever they say, only files of the layer are read, and the answer is bytes or an error. */
#include "fuzz.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../core/fshelper/fs.h"

#define MAGIC "gantry layer recipe 1\n"
#define SECRET_SIZE 3001        /* random: what has it in the output has it from the file */

static char work[] = "/dev/shm/gantry-fuzz-XXXXXX", secret[SECRET_SIZE];
static int root;

static void write_file(int top, const char *path, const char *bytes, size_t len)
{
	int fd = openat(top, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	MUST(fd >= 0 && gt_write_full(fd, bytes, len) == 0);
	close(fd);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	MUST(mkdtemp(work));
	AUTO_CLOSE int top = open(work, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	MUST(top >= 0 && mkdirat(top, "in", 0755) == 0 && mkdirat(top, "in/d", 0755) == 0);
	MUST(getrandom(secret, sizeof secret, 0) == (ssize_t)sizeof secret);
	write_file(top, "secret", secret, sizeof secret);
	write_file(top, "in/a", "four", 4);
	write_file(top, "in/d/b", "", 0);
	MUST(symlinkat("../secret", top, "in/s") == 0 && symlinkat("..", top, "in/up") == 0 && mkfifoat(top, "in/p", 0600) == 0);
	root = openat(top, "in", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gt_error err = { 0 };
	struct stat st;
	AUTO_CLOSE int recipe = memfd_create("recipe", MFD_CLOEXEC);
	AUTO_CLOSE int out = memfd_create("out", MFD_CLOEXEC);
	MUST(recipe >= 0 && out >= 0 && dup2(out, FS_OUT) == FS_OUT);
	MUST(gt_write_full(recipe, MAGIC, sizeof MAGIC - 1) == 0 && gt_write_full(recipe, data, size) == 0);
	int rc = fs_recipe_replay(root, recipe, &err);
	MUST(rc == 0 || err.message[0]);
	MUST(fstat(out, &st) == 0 && st.st_size <= (off_t)(size * (size + 64)));
	AUTO_FREE char *bytes = gt_xmalloc((size_t)st.st_size + 1);
	MUST(lseek(out, 0, SEEK_SET) == 0 && gt_read_full(out, bytes, (size_t)st.st_size) == st.st_size);
	MUST(!memmem(bytes, (size_t)st.st_size, secret, sizeof secret));
	return 0;
}
