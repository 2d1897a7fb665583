/*
 * keyring.c - the session keyring of a container's processes, so that none has the daemon's, or that of whoever started the daemon.
 */
#include <errno.h>
#include <linux/keyctl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/internal.h"

/* Of the kernel's linux/key.h, which user space has no copy of. */
#define POSSESSOR_ALL 0x3f000000l
#define USER_SEARCH 0x00080000l

int keyring_join(const struct spec *spec, struct gt_error *err)
{
	char name[80];
	const char *slash = strrchr(spec->bundle, '/');
	snprintf(name, sizeof name, "_ses.%.64s", slash ? slash + 1 : spec->bundle);
	long key = syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name);
	if (key < 0 && (errno == ENOSYS || errno == EPERM))      /* no keys in this kernel, or none within reach */
		return 0;
	if (key < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "make the session keyring of the container (/proc/sys/kernel/keys/root_maxkeys says how many there may be)");
	/* So that an exec finds it. Where it is there already this has been done, and is not ours to do. */
	syscall(SYS_keyctl, KEYCTL_SETPERM, key, POSSESSOR_ALL | USER_SEARCH);
	return 0;
}
