/*
 * trouble.c - a volume driver that works, and gets into trouble when asked: for drivers with a process of their own.
 *
 * create(WHAT): crash, abort, exit, hang, leak, descriptors, or harm (what no driver should be able to do: fails with what it could);
 * others are volumes, kept as state documents. inspect(NAME) tells the pid as mountpoint. list() has 3000 names. mount(WHAT) describes nonsense.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "broken.h"

static int trouble_open(const struct gantry_host *host, const char *driver_name, void **driver, struct gantry_error *err)
{
	(void)driver_name;
	(void)err;
	*driver = (void *)(uintptr_t)host;
	return 0;
}

/* Each of these must fail. */
static int harm(struct gantry_error *err)
{
	const char *done = kill(getppid(), SIGUSR2) == 0 ? "signal the daemon" :
			   kill(0, 0) == 0 ? "signal a group of processes" :
			   syscall(SYS_pidfd_open, getppid(), 0) >= 0 ? "take hold of the daemon" :
			   mount("none", "/mnt", "tmpfs", 0, NULL) == 0 ? "mount" :
			   unshare(CLONE_NEWUSER) == 0 ? "make a user namespace" :
			   syscall(SYS_bpf, 0, NULL, 0) >= 0 || errno != EPERM ? "reach bpf" :
			   chroot("/") == 0 ? "chroot" : NULL;
	return done ? gantry_fail(err, GANTRY_E_INTERNAL, "I can %s", done) : gantry_fail(err, GANTRY_E_DENIED, "I can do no harm");
}

static int leak(struct gantry_error *err)
{
	for (size_t had = 0;; had += 64u << 20) {
		char *room = malloc(64u << 20);
		if (!room)
			return gantry_fail(err, GANTRY_E_UNAVAILABLE, "out of memory");
		memset(room, 1, had < (256u << 20) ? 64u << 20 : 1);
		if (had > 8ull << 30)
			return gantry_fail(err, GANTRY_E_INTERNAL, "there is no end of memory");
	}
}

static int trouble_create(void *driver, const struct gantry_call *call, const char *name, const struct gantry_options *options,
			  struct gantry_error *err)
{
	const struct gantry_host *host = driver;
	(void)call;
	(void)options;
	if (strcmp(name, "crash") == 0)
		raise(SIGSEGV);
	if (strcmp(name, "abort") == 0)
		abort();
	if (strcmp(name, "exit") == 0)
		_exit(3);
	while (strcmp(name, "hang") == 0)
		nanosleep(&(struct timespec){ .tv_sec = 1 }, NULL);
	if (strcmp(name, "leak") == 0)
		return leak(err);
	if (strcmp(name, "harm") == 0)
		return harm(err);
	host->log(host, GANTRY_DEBUG, "a volume is made");
	host->event(host, name, "create", "");
	return host->state_put(host, name, "x", 1, err);
}

static int trouble_remove(void *driver, const struct gantry_call *call, const char *name, struct gantry_error *err)
{
	const struct gantry_host *host = driver;
	(void)call;
	return host->state_remove(host, name, err);
}

static int trouble_mount(void *driver, const struct gantry_call *call, const char *name, const char *container_id, int read_only,
			 struct gantry_mount *mount, struct gantry_error *err)
{
	const struct gantry_host *host = driver;
	(void)call;
	(void)container_id;
	(void)read_only;
	(void)err;
	snprintf(mount->type, sizeof mount->type, "bind");
	snprintf(mount->source, sizeof mount->source, "%s", strcmp(name, "relative") == 0 ? "somewhere" : host->state_dir);
	snprintf(mount->options, sizeof mount->options, "rbind");
	if (strcmp(name, "bytes") == 0)
		snprintf(mount->source, sizeof mount->source, "%s/\xff\xfe", host->state_dir);
	if (strcmp(name, "endless") == 0)
		memset(mount->options, 'x', sizeof mount->options);
	return 0;
}

static int trouble_list(void *driver, const struct gantry_call *call, gantry_visit visit, void *arg, struct gantry_error *err)
{
	char name[64];
	(void)driver;
	(void)call;
	(void)err;
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof name, "a-volume-with-a-name-of-some-length-%d", i);
		if (visit(arg, name) != 0)
			break;
	}
	return 0;
}

static int trouble_inspect(void *driver, const struct gantry_call *call, const char *name, struct gantry_volume_info *info,
			   struct gantry_error *err)
{
	(void)driver;
	(void)call;
	(void)name;
	(void)err;
	snprintf(info->mountpoint, sizeof info->mountpoint, "/%d", (int)getpid());
	return 0;
}

static const struct gantry_volume_ops ops = {
	.size = sizeof ops, .open = trouble_open, .close = nothing_close, .create = trouble_create, .remove = trouble_remove, .mount = trouble_mount,
	.release = nothing_release, .list = trouble_list, .inspect = trouble_inspect,
};

static const struct gantry_driver drivers[] = {
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_VOLUME, .name = "trouble", .ops = &ops },
};

GANTRY_PLUGIN_EXPORT = { NOTHING_PLUGIN("trouble", drivers) };
