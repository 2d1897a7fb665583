#include "testing.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"

int scratch_make(void **state)
{
	char path[] = "/tmp/gantry-unit-XXXXXX";
	if (!mkdtemp(path))
		return -1;
	*state = gt_xstrdup(path);
	return 0;
}

int scratch_remove(void **state)
{
	struct gt_error err = { 0 };
	int rc = *state ? gt_remove_tree(AT_FDCWD, *state, &err) : 0;
	free(*state);
	*state = NULL;
	return rc;
}

char *built(const char *relative)
{
	const char *build = getenv("GT_BUILD");
	return gt_xasprintf("%s/%s", build ? build : "build/release", relative);
}

int open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;
	while (dir && readdir(dir))
		count++;
	closedir(dir);
	return count;
}

int open_fds_settled(int wanted)
{
	int count = open_fds();
	for (int i = 0; i < 3000 && count != wanted; i++, count = open_fds())
		usleep(10000);
	return count;
}
