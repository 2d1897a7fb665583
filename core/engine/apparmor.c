/*
 * apparmor.c - profiles of AppArmor, through the kernel's own files: no tool of AppArmor is needed where the engine runs.
 */
#include "engine/apparmor.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/config_check.h"

#define FILES "/sys/kernel/security/apparmor/"
#define MAX_LIST (8u << 20)     /* the list of all profiles */
#define MAX_NAME 255

/* Compiled from apparmor.profile: see the Makefile. */
__asm__(".section .rodata\n"
	".global gt_apparmor_begin\n"
	"gt_apparmor_begin:\n"
	".incbin \"apparmor.policy\"\n"
	".global gt_apparmor_end\n"
	"gt_apparmor_end:\n"
	".byte 0\n"
	".previous\n");
extern const char gt_apparmor_begin[], gt_apparmor_end[];

bool gt_apparmor_on(void)
{
	AUTO_BUF struct gt_buf enabled = { 0 };
	return gt_read_file(AT_FDCWD, "/sys/module/apparmor/parameters/enabled", 16, &enabled, NULL) == 0 && enabled.len && enabled.data[0] == 'Y' &&
	       access(FILES ".replace", W_OK) == 0;
}

const char *gt_apparmor_profile(const struct gt_host_config *host, const struct security *security)
{
	/* Docker's name for its default means the default here too. */
	if (security->apparmor)
		return strcmp(security->apparmor, "docker-default") == 0 ? GT_APPARMOR_DEFAULT : security->apparmor;
	return !gt_apparmor_on() ? NULL : host->privileged ? "unconfined" : GT_APPARMOR_DEFAULT;
}

/* 1: the kernel has a profile of that name, 0: it has not, -1. The list has lines "NAME (MODE)"; names may have blanks. */
static int is_loaded(const char *profile, struct gt_error *err)
{
	AUTO_BUF struct gt_buf list = { 0 };
	if (gt_read_file(AT_FDCWD, FILES "profiles", MAX_LIST, &list, err) < 0)
		return -1;
	size_t len = strlen(profile);
	for (const char *line = list.data; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		if (strncmp(line, profile, len) == 0 && strncmp(line + len, " (", 2) == 0)
			return 1;
	}
	return 0;
}

int gt_apparmor_check(const char *profile, struct gt_error *err)
{
	if (strcmp(profile, "unconfined") == 0)
		return 0;
	size_t len = strlen(profile);
	if (len == 0 || len > MAX_NAME || strcspn(profile, "\n\r\t") != len)
		return gt_fail(err, GT_INVALID, "--security-opt apparmor=: a profile's name has 1 to %d characters and no line breaks", MAX_NAME);
	if (!gt_apparmor_on())
		return gt_fail(err, GT_UNSUPPORTED, "--security-opt apparmor=%.255s: AppArmor is off on this host; leave the option out, or say apparmor=unconfined",
			       profile);
	if (strcmp(profile, GT_APPARMOR_DEFAULT) == 0 || strcmp(profile, "docker-default") == 0)
		return 0;
	int loaded = is_loaded(profile, err);
	if (loaded == 0)
		return gt_fail(err, GT_INVALID, "--security-opt apparmor=%.255s: the kernel has no such profile; load it first (apparmor_parser -r FILE)", profile);
	return loaded < 0 ? -1 : 0;
}

int gt_apparmor_load(bool replace, struct gt_error *err)
{
	if (!gt_apparmor_on())
		return 0;
	int loaded = replace ? 0 : is_loaded(GT_APPARMOR_DEFAULT, err);
	if (loaded)
		return loaded < 0 ? -1 : 0;
	size_t len = (uintptr_t)gt_apparmor_end - (uintptr_t)gt_apparmor_begin; /* two symbols, but one object */
	AUTO_CLOSE int file = open(FILES ".replace", O_WRONLY | O_CLOEXEC);
	/* One write is one policy: the kernel takes it whole or not at all. */
	ssize_t written = file < 0 ? -1 : write(file, gt_apparmor_begin, len);
	if (written != (ssize_t)len)
		return gt_fail_errno(err, written < 0 ? errno : EIO, "load the AppArmor profile " GT_APPARMOR_DEFAULT);
	return 0;
}
