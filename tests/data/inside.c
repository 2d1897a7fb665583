/*
 * inside.c - what a container's process can reach; run in one by tests/integration/test_inside.py. Static, as it is run on any root.
 *
 *   inside caps                 its capability sets, securebits and groups, as /proc tells them
 *   inside keyring              the serial numbers of its session keyring and, where it may, of a key put there
 *   inside calls                system calls that a container has no business with, each with what came of it
 *   inside overwrite SECONDS    tries to write to every /proc/PID/exe that it sees
 *   inside swap SECONDS PLACE TARGET    PLACE is a directory and a symbolic link to TARGET in turn
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int caps(void)
{
	char line[512];
	FILE *status = fopen("/proc/self/status", "r");
	while (status && fgets(line, sizeof line, status)) {
		if (strncmp(line, "Cap", 3) == 0 || strncmp(line, "Groups", 6) == 0 || strncmp(line, "NoNewPrivs", 10) == 0 || strncmp(line, "Seccomp:", 8) == 0)
			fputs(line, stdout);
	}
	printf("Securebits:\t%d\n", prctl(PR_GET_SECUREBITS));
	return 0;
}

static int keyring(void)
{
	long session = syscall(SYS_keyctl, 0 /* GET_KEYRING_ID */, -3 /* session */, 0);
	printf("session %ld %s\n", session, session < 0 ? strerror(errno) : "");
	long key = syscall(SYS_add_key, "user", "gantry-test", "x", 1, -3);
	printf("key %ld %s\n", key, key < 0 ? strerror(errno) : "");
	return 0;
}

static void tell(const char *name, long rc)
{
	printf("%s %s\n", name, rc < 0 ? strerror(errno) : "done");
}

static int calls(void)
{
	tell("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
	tell("umount-masked", umount2("/proc/kcore", MNT_DETACH));
	tell("remount-proc-sys", mount(NULL, "/proc/sys", NULL, MS_REMOUNT | MS_BIND, NULL));
	tell("unshare-user", unshare(CLONE_NEWUSER));
	tell("unshare-mount", unshare(CLONE_NEWNS));
	tell("setns", syscall(SYS_setns, open("/proc/self/ns/net", O_RDONLY), 0));
	tell("chroot-fd", syscall(SYS_open_by_handle_at, AT_FDCWD, NULL, O_RDONLY));
	tell("bpf", syscall(SYS_bpf, 0, NULL, 0));
	tell("perf", syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
	tell("keyctl", syscall(SYS_keyctl, 0, -3, 0));
	tell("kexec", syscall(SYS_kexec_load, 0, 0, NULL, 0));
	tell("module", syscall(SYS_init_module, NULL, 0, ""));
	tell("reboot", syscall(SYS_reboot, 0, 0, 0, NULL));
	tell("swapon", syscall(SYS_swapon, "/x", 0));
	tell("settime", clock_settime(CLOCK_REALTIME, &(struct timespec){ .tv_sec = -1 }));
	tell("iopl", syscall(SYS_iopl, 3));
	tell("personality-ok", syscall(SYS_personality, 0xffffffff));
	tell("ptrace-parent", ptrace(PTRACE_ATTACH, 1, NULL, NULL));
	return 0;
}

static int overwrite(int seconds)
{
	time_t end = time(NULL) + seconds;
	pid_t self = getpid();
	long tried = 0, foreign = 0, written = 0;
	while (time(NULL) < end) {
		DIR *proc = opendir("/proc");
		for (struct dirent *entry; proc && (entry = readdir(proc)) != NULL;) {
			char path[300], target[300] = "";
			pid_t pid = atoi(entry->d_name);
			if (pid <= 0 || pid == self)
				continue;
			snprintf(path, sizeof path, "/proc/%d/exe", pid);
			tried++;
			if (readlink(path, target, sizeof target - 1) > 0 && strstr(target, "gantry"))
				foreign++;
			int fd = open(path, O_RDONLY);
			if (fd < 0)
				continue;
			char reopened[64];
			snprintf(reopened, sizeof reopened, "/proc/self/fd/%d", fd);
			int out = strstr(target, "gantry") ? open(reopened, O_WRONLY) : -1;
			if (out >= 0) {
				written++;
				close(out);
			}
			close(fd);
		}
		if (proc)
			closedir(proc);
	}
	printf("tried %ld foreign %ld written %ld\n", tried, foreign, written);
	return 0;
}

static int swap(int seconds, const char *place, const char *target)
{
	char aside[300], link[300];
	time_t end = time(NULL) + seconds;
	snprintf(aside, sizeof aside, "%s.aside", place);
	snprintf(link, sizeof link, "%s.link", place);
	mkdir(place, 0755);
	symlink(target, link);
	while (time(NULL) < end) {
		rename(place, aside);
		rename(link, place);
		rename(place, link);
		rename(aside, place);
	}
	puts("swapped");
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!strcmp(what, "caps"))
		return caps();
	if (!strcmp(what, "keyring"))
		return keyring();
	if (!strcmp(what, "calls"))
		return calls();
	if (!strcmp(what, "overwrite") && argc == 3)
		return overwrite(atoi(argv[2]));
	if (!strcmp(what, "swap") && argc == 5)
		return swap(atoi(argv[2]), argv[3], argv[4]);
	return 2;
}
