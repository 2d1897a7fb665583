/* An image's /etc/passwd and /etc/group: a wish, a NUL, the first file, a NUL, the second. */
#include "fuzz.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/internal.h"

static char work[] = "/dev/shm/gantry-fuzz-XXXXXX";

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	MUST(mkdtemp(work));
	return 0;
}

static void put(const char *name, const uint8_t *data, size_t size)
{
	AUTO_FREE char *path = gt_xasprintf("%s/etc/%s", work, name);
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	MUST(fd >= 0 && gt_write_full(fd, data, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct identity who = { 0 };
	struct gt_error err = { 0 };
	const uint8_t *first = memchr(data, 0, size), *second = first ? memchr(first + 1, 0, (size_t)(data + size - first - 1)) : NULL;
	if (!second)
		return 0;
	AUTO_CLOSE int before = open(".", O_PATH | O_CLOEXEC);
	AUTO_FREE char *etc = gt_xasprintf("%s/etc", work);
	mkdir(etc, 0700);
	put("passwd", first + 1, (size_t)(second - first - 1));
	put("group", second + 1, (size_t)(data + size - second - 1));
	MUST(chdir(work) == 0);
	if (user_find((const char *)data, (const char *)data, &who, &err) < 0)
		MUST(err.message[0]);
	MUST(who.group_count <= 1024 && memchr(who.home, 0, sizeof who.home));
	free(who.groups);
	MUST(fchdir(before) == 0);
	return 0;
}
