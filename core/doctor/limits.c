/*
 * limits.c - numbers that run out with many containers, and the clock.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/timex.h>
#include <time.h>

#include "internal.h"

#define FEW_FILES 1024
#define SOME_FILES 16384
#define FEW_PIDS 32768          /* the kernel's own default on the smallest host */
#define FEW_KEYS 200            /* the kernel's default */
#define FEW_INSTANCES 128       /* the same */
#define FEW_WATCHES 8192
#define FIRST_YEAR 2025         /* before this software was */

static void check_files(struct report *report)
{
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return;
	unsigned long long max = files.rlim_max;
	const char *whose = report->drivers ? "the daemon" : "this shell (a unit has limits of its own)";
	const char *remedy = "set LimitNOFILE=1048576 in gantryd's unit";
	if (max < FEW_FILES)
		found(report, "limits.files", FAILED, remedy, "%s may open %llu files: a few for each container, and one for each client", whose, max);
	else if (max < SOME_FILES)
		found(report, "limits.files", WARNING, remedy, "%s may open %llu files, enough for a few hundred containers", whose, max);
	else
		found(report, "limits.files", FINE, "", "%s may open %llu files", whose, max);
}

static void check_processes(struct report *report)
{
	int64_t pids = number_in("/proc/sys/kernel/pid_max", FEW_PIDS), threads = number_in("/proc/sys/kernel/threads-max", INT64_MAX);
	int64_t room = pids < threads ? pids : threads;
	long long used = 0;
	AUTO_BUF struct gt_buf load = { 0 };
	if (gt_read_file(AT_FDCWD, "/proc/loadavg", 256, &load, NULL) == 0 && load.len)
		sscanf(load.data, "%*s %*s %*s %*d/%lld", &used);
	const char *remedy = "raise kernel.pid_max and kernel.threads-max (sysctl), and bound containers with --pids-limit";
	if (used * 10 > room * 9)
		found(report, "limits.processes", FAILED, remedy, "%lld threads run of %lld that there may be", used, (long long)room);
	else if (room < FEW_PIDS || used * 10 > room * 7)
		found(report, "limits.processes", WARNING, remedy, "%lld threads run of %lld that there may be", used, (long long)room);
	else
		found(report, "limits.processes", FINE, "", "%lld threads run of %lld that there may be", used, (long long)room);
}

/* proc_keys(5), /proc/key-users: "UID: usage all/instantiated keys/maxkeys bytes/maxbytes". */
static void check_keys(struct report *report)
{
	const char *remedy = "raise kernel.keys.maxkeys, root_maxkeys and maxbytes (sysctl)";
	int64_t max = number_in("/proc/sys/kernel/keys/maxkeys", FEW_KEYS);
	AUTO_BUF struct gt_buf users = { 0 };
	char *line, *rest;
	gt_read_file(AT_FDCWD, "/proc/key-users", 1 << 20, &users, NULL);
	rest = users.data;
	while (rest && (line = strsep(&rest, "\n")) != NULL) {
		unsigned uid;
		long long keys, most;
		if (sscanf(line, " %u: %*d %*d/%*d %lld/%lld", &uid, &keys, &most) == 3 && most > 0 && keys * 10 > most * 8) {
			found(report, "limits.keys", WARNING, remedy, "user %u has %lld of %lld kernel keys, which processes in containers count for too", uid, keys, most);
			return;
		}
	}
	if (max < FEW_KEYS)
		found(report, "limits.keys", WARNING, remedy, "each user may have %lld kernel keys, over all containers", (long long)max);
	else
		found(report, "limits.keys", FINE, "", "each user may have %lld kernel keys", (long long)max);
}

static void check_inotify(struct report *report)
{
	int64_t instances = number_in("/proc/sys/fs/inotify/max_user_instances", 0), watches = number_in("/proc/sys/fs/inotify/max_user_watches", 0);
	bool few = instances < FEW_INSTANCES || watches < FEW_WATCHES;
	found(report, "limits.inotify", few ? WARNING : FINE, "raise fs.inotify.max_user_instances and max_user_watches (sysctl)",
	      "each user may have %lld inotify instances and %lld watches, over all containers", (long long)instances, (long long)watches);
}

static void check_clock(struct report *report)
{
	struct timex clock = { 0 };
	struct tm now;
	time_t seconds = time(NULL);
	gmtime_r(&seconds, &now);
	if (now.tm_year + 1900 < FIRST_YEAR)
		found(report, "clock", FAILED, "set the clock: registries' certificates are not valid yet by it", "the clock says it is the year %d", now.tm_year + 1900);
	else if (adjtimex(&clock) == TIME_ERROR)
		found(report, "clock", WARNING, "run a time service such as systemd-timesyncd or chrony", "nobody keeps the clock in step with others");
	else
		found(report, "clock", FINE, "", "the clock is in step with others");
}

void check_limits(struct report *report)
{
	check_files(report);
	check_processes(report);
	check_keys(report);
	check_inotify(report);
	check_clock(report);
}
