/*
 * main.c - gantry-plugin-check FILE.so [KEY=VALUE...]: the conformance kit's command. `gantry plugin check` runs it.
 *
 * Exit status: 0 all rules kept, 1 some not, 2 the plugin cannot be loaded or the kit cannot work here.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <libgen.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "kit.h"

#define PATIENCE (10 * GT_SECOND)

enum { MAX_THREADS = 64 };

/* ---- a place of its own ---- */

static int write_text(const char *path, const char *text)
{
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd >= 0 && write(fd, text, strlen(text)) > 0 ? 0 : -1;
}

/* A person who is not root is root in a user namespace, where mounts and links are allowed too. */
static int become_root(struct gt_error *err)
{
	char uids[32], gids[32];
	snprintf(uids, sizeof uids, "0 %u 1", getuid());
	snprintf(gids, sizeof gids, "0 %u 1", getgid());
	if (geteuid() == 0)
		return 0;
	if (unshare(CLONE_NEWUSER) < 0)
		return gt_fail_errno(err, errno, "make a user namespace (run the check as root instead)");
	if (write_text("/proc/self/setgroups", "deny") < 0 || write_text("/proc/self/uid_map", uids) < 0 || write_text("/proc/self/gid_map", gids) < 0)
		return gt_fail_errno(err, errno, "map the user namespace's ids");
	return 0;
}

static void loopback_up(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	AUTO_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		ioctl(fd, SIOCSIFFLAGS, &request);
}

/* Mounts and links of a driver's reach nobody: they go with the namespaces. */
static int settle_apart(struct gt_error *err)
{
	if (become_root(err) < 0)
		return -1;
	if (unshare(CLONE_NEWNS | CLONE_NEWNET) < 0)
		return gt_fail_errno(err, errno, "make namespaces for the check");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return gt_fail_errno(err, errno, "make the check's mounts private");
	loopback_up();
	return 0;
}

/* ---- the plugin, as the daemon would have it ---- */

static char *plugin_name(const char *file)
{
	AUTO_FREE char *copy = gt_xstrdup(file);
	char *name = gt_xstrdup(basename(copy)), *dot = strrchr(name, '.');
	if (dot && strcmp(dot, ".so") == 0)
		*dot = '\0';
	return name;
}

/* Where this program is, and gantry-plugin-host beside it. The caller's. */
static char *own_dir(void)
{
	char self[4096];
	ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
	self[len > 0 ? len : 0] = '\0';
	return gt_xstrdup(len > 0 ? dirname(self) : GANTRY_LIBEXEC);
}

/* An INI file with directories of the kit's own, and no plugin but this. */
static int configure(struct kit *kit, char *const settings[], struct gt_error *err)
{
	AUTO_FREE char *path = gt_xasprintf("%s/gantryd.ini", kit->work);
	AUTO_FREE char *none = gt_xasprintf("%s/plugins", kit->work);
	FILE *file = fopen(path, "we");
	if (!file || mkdir(none, 0755) < 0) {
		if (file)
			fclose(file);
		return gt_fail_errno(err, errno, "write %s", path);
	}
	AUTO_FREE char *beside = own_dir();
	fprintf(file, "[daemon]\nroot = %s/root\nrun = %s/run\nplugin_dir = %s\nlibexec_dir = %s\n[plugin.%s]\npath = %s\n", kit->work, kit->work, none,
		beside, kit->plugin, kit->file);
	for (size_t i = 0; settings[i]; i++)
		fprintf(file, "%s\n", settings[i]);
	if (fclose(file) != 0)
		return gt_fail_errno(err, errno, "write %s", path);
	return gt_config_load(path, true, &kit->config, err);
}

static int load(struct kit *kit, struct gt_error *err)
{
	if (gt_drivers_load(kit->config, NULL, NULL, NULL, &kit->drivers, err) < 0)
		return -1;
	kit->driver = kit->driver_name ? gt_driver_find(kit->drivers, kit->kind, kit->driver_name, err) : NULL;
	return kit->driver_name && !kit->driver ? -1 : 0;
}

static void unload(struct kit *kit)
{
	gt_drivers_free(kit->drivers);
	kit->drivers = NULL;
	kit->driver = NULL;
}

bool restart(struct kit *kit)
{
	struct gt_error err = { 0 };
	unload(kit);
	return check(kit, load(kit, &err) == 0, &err, "close, and open on the same state");
}

bool reload(struct kit *kit)
{
	struct gt_error err = { 0 };
	bool disturbed;
	int rc = gt_plugin_reload(kit->drivers, kit->config, kit->plugin, PATIENCE, &disturbed, &err);
	gt_plugin_tell_uses(kit->drivers, kit->plugin);
	return check(kit, rc == 0, &err, "a reload of the plugin: close, and open in the same process");
}

/* ---- threads ---- */

struct thread {
	struct kit *kit;
	unsigned number;
	bool (*fn)(struct kit *kit, unsigned number);
	bool ok;
	pthread_t id;
};

static void *run_thread(void *arg)
{
	struct thread *thread = arg;
	thread->ok = thread->fn(thread->kit, thread->number);
	return NULL;
}

bool at_once(struct kit *kit, unsigned count, bool (*fn)(struct kit *kit, unsigned number))
{
	struct thread threads[MAX_THREADS];
	unsigned started = 0;
	for (; started < count && started < MAX_THREADS; started++) {
		threads[started] = (struct thread){ .kit = kit, .number = started, .fn = fn };
		if (pthread_create(&threads[started].id, NULL, run_thread, &threads[started]))
			break;
	}
	bool ok = started == count;
	for (unsigned i = 0; i < started; i++) {
		pthread_join(threads[i].id, NULL);
		ok = ok && threads[i].ok;
	}
	return ok;
}

/* ---- suites ---- */

static int kind_of(const char *name)
{
	return strcmp(name, "network") == 0 ? GANTRY_NETWORK : strcmp(name, "volume") == 0 ? GANTRY_VOLUME : GANTRY_STORAGE;
}

static void run_suite(struct kit *kit, const char *kind, const char *name)
{
	struct gt_error err = { 0 };
	kit->driver_name = name;
	kit->kind = (enum gantry_kind)kind_of(kind);
	diagnose("%s driver %s", kind, name);
	if (check(kit, load(kit, &err) == 0, &err, "open")) {
		switch (kit->kind) {
		case GANTRY_NETWORK: check_network_driver(kit); break;
		case GANTRY_VOLUME: check_volume_driver(kit); break;
		case GANTRY_STORAGE: check_storage_driver(kit); break;
		}
	}
	unload(kit);
	kit->before = traces_check(kit, kit->before);
}

/* What the loader says of the plugin: its drivers, or why it is refused. */
static json_t *describe(struct kit *kit, struct gt_error *err)
{
	if (load(kit, err) < 0)
		return NULL;
	json_t *described = gt_drivers_describe(kit->drivers);
	unload(kit);
	return described;
}

static bool is_family(const json_t *driver)
{
	size_t i;
	json_t *capability;
	json_array_foreach(json_object_get(driver, "Capabilities"), i, capability) {
		if (strcmp(json_string_value(capability), "family") == 0)
			return true;
	}
	return false;
}

/* The suite for each driver that the family has now. */
static void run_family(struct kit *kit, const char *name)
{
	struct gt_error err = { 0 };
	size_t i;
	json_t *member;
	kit->driver_name = NULL;
	AUTO_JSON json_t *names = load(kit, &err) == 0 ? gt_driver_names(kit->drivers, GANTRY_VOLUME) : NULL;
	unload(kit);
	kit->driver_name = name;
	if (check(kit, names != NULL, &err, "open") && json_array_size(names) == 0)
		skip(kit, "the family has no driver now", "the rules for drivers of volumes");
	json_array_foreach(names, i, member)
		run_suite(kit, "volume", json_string_value(member));
}

static void run_driver(struct kit *kit, const json_t *driver)
{
	const char *kind = json_string_value(json_object_get(driver, "Kind")), *name = json_string_value(json_object_get(driver, "Name"));
	if (is_family(driver))
		run_family(kit, name);
	else
		run_suite(kit, kind, name);
}

static int run_suites(struct kit *kit, const json_t *described)
{
	size_t i;
	json_t *driver, *plugin = json_array_get(json_object_get(described, "Plugins"), 0);
	const char *reason = json_string_value(json_object_get(json_array_get(json_object_get(described, "Refused"), 0), "Reason"));
	if (!plugin) {
		printf("Bail out! %s\n", reason ? reason : "the plugin was not loaded");
		return 2;
	}
	diagnose("plugin %s %s: %s", kit->plugin, json_string_value(json_object_get(plugin, "Version")), json_string_value(json_object_get(plugin, "Description")));
	json_array_foreach(json_object_get(plugin, "Drivers"), i, driver)
		run_driver(kit, driver);
	printf("1..%u\n", kit->tests);
	diagnose("%u rules, %u not kept", kit->tests, kit->failed);
	return kit->failed ? 1 : 0;
}

/* ---- the command ---- */

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *where)
{
	(void)info, (void)type, (void)where;
	return remove(path);
}

static int run(struct kit *kit, char *const settings[])
{
	struct gt_error err = { 0 };
	if (settle_apart(&err) < 0) {
		printf("Bail out! %s\n", err.message);
		return 2;
	}
	kit->before = traces_take();
	AUTO_JSON json_t *described = configure(kit, settings, &err) < 0 ? NULL : describe(kit, &err);
	int status = 2;
	if (described)
		status = run_suites(kit, described);
	else
		printf("Bail out! %s\n", err.message);
	traces_free(kit->before);
	gt_config_free(kit->config);
	return status;
}

/* A driver that crashes takes only this child along. */
static int run_in_child(struct kit *kit, char *const settings[])
{
	int status;
	pid_t pid = fork();
	if (pid == 0)
		exit(run(kit, settings));
	if (pid < 0 || waitpid(pid, &status, 0) < 0) {
		printf("Bail out! no process for the check: %s\n", strerror(errno));
		return 2;
	}
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	printf("not ok - the driver does not crash\n# signal %d: %s\nBail out! the driver crashed\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
	return 1;
}

int main(int argc, char *argv[])
{
	struct kit kit = { 0 };
	const char *tmp = getenv("TMPDIR");
	AUTO_FREE char *work = gt_xasprintf("%s/gantry-check-XXXXXX", tmp && tmp[0] == '/' ? tmp : "/var/tmp");
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 2 || argv[1][0] == '-') {
		fprintf(stderr, "usage: gantry-plugin-check FILE.so [KEY=VALUE...]\n"
				"Tries every rule of <gantry/plugin.h> on the drivers of a plugin; KEY=VALUE are lines of its INI section.\n"
				"It works in a directory of its own below $TMPDIR (/var/tmp), whose file system a storage driver has to do with.\n");
		return 2;
	}
	AUTO_FREE char *file = realpath(argv[1], NULL);
	if (!file || !mkdtemp(work)) {
		fprintf(stderr, "gantry-plugin-check: %s: %s\n", file ? work : argv[1], strerror(errno));
		return 2;
	}
	AUTO_FREE char *plugin = plugin_name(file);
	kit.file = file;
	kit.plugin = plugin;
	kit.work = work;
	printf("TAP version 13\n");
	int status = run_in_child(&kit, argv + 2);
	nftw(work, remove_entry, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	return status;
}
