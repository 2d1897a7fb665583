#include "base/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/fd.h"

/* <sys/mount.h> and <linux/mount.h> do not go together with this C library. */
int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data);
int umount2(const char *target, int flags);
#define MNT_DETACH_ 2

#define PAGE 4096

bool gt_overlay_checks_options(void)
{
	AUTO_CLOSE int context = (int)syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);
	return context < 0 || syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "gantry-none", "1", 0) < 0;
}

int gt_overlay_mount_classic(const struct gt_strings *options, struct gt_error *err)
{
	AUTO_BUF struct gt_buf data = { 0 };
	AUTO_FREE char *place = NULL;
	for (size_t i = 0; i < options->count; i++) {
		const char *option = options->items[i];
		gt_buf_printf(&data, "%s%s", i ? "," : "", option);
		if (!place && strncmp(option, "lowerdir=", 9) == 0)
			place = gt_xstrndup(option + 9, strcspn(option + 9, ":"));
	}
	if (!place)
		return gt_fail(err, GT_INVALID, "mount overlay: there is no lowerdir");
	if (data.len >= PAGE)
		return gt_fail(err, GT_UNSUPPORTED, "mount overlay: %zu bytes of options need Linux 6.8 or newer (older kernels take %d)", data.len, PAGE - 1);
	if (mount("overlay", place, "overlay", 0, data.data) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "mount overlay on %s", place);
	AUTO_CLOSE int fd = (int)syscall(SYS_open_tree, AT_FDCWD, place, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	int errnum = errno;
	umount2(place, MNT_DETACH_);
	return fd < 0 ? gt_fail_sys(err, GT_INTERNAL, errnum, "open the overlay on %s", place) : take_fd(fd);
}

int gt_overlay_claim(const struct gt_strings *options)
{
	AUTO_CLOSE int dir = -1;
	for (size_t i = 0; i < options->count && dir < 0; i++) {
		if (strncmp(options->items[i], "workdir=", 8) == 0)
			dir = open(options->items[i] + 8, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	while (dir >= 0 && flock(dir, LOCK_EX) < 0) {
		if (errno != EINTR)
			return -1;
	}
	return take_fd(dir);
}
