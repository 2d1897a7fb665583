/*
 * traces.c - what must be as it was once a driver is closed: drivers share the daemon's process.
 */
#include <dirent.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/json.h"
#include "kit.h"

enum { SIGNALS = 65 };

struct traces {
	struct gt_strings fds, mounts, links;
	unsigned threads;
	mode_t mask;
	char directory[4096];
	struct sigaction actions[SIGNALS];
	sigset_t blocked;
};

/* "7 -> /a/file": the number may be used again by another, so both count. */
static void list_fds(struct gt_strings *out)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	while (dir && (entry = readdir(dir))) {
		char target[4096];
		ssize_t len = readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1);
		if (len < 0 || atoi(entry->d_name) == dirfd(dir))
			continue;
		target[len] = '\0';
		AUTO_FREE char *line = gt_xasprintf("%s -> %s", entry->d_name, target);
		gt_strings_add(out, line);
	}
	if (dir)
		closedir(dir);
}

static unsigned count_threads(void)
{
	unsigned count = 0;
	DIR *dir = opendir("/proc/self/task");
	struct dirent *entry;
	while (dir && (entry = readdir(dir)))
		count += entry->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return count;
}

static void list_mounts(struct gt_strings *out)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t room = 0;
	while (file && getline(&line, &room, file) > 0) {
		line[strcspn(line, "\n")] = '\0';
		const char *place = line; /* the fifth word */
		for (int word = 0; word < 4 && *place; word++)
			place += strcspn(place, " ") + 1;
		char copy[4096];
		snprintf(copy, sizeof copy, "%.*s", (int)strcspn(place, " "), place);
		gt_strings_add(out, copy);
	}
	free(line);
	if (file)
		fclose(file);
}

static void list_links(struct gt_strings *out)
{
	struct if_nameindex *links = if_nameindex();
	for (struct if_nameindex *link = links; link && link->if_index; link++)
		gt_strings_add(out, link->if_name);
	if_freenameindex(links);
}

struct traces *traces_take(void)
{
	struct traces *traces = gt_xcalloc(1, sizeof *traces);
	list_fds(&traces->fds);
	list_mounts(&traces->mounts);
	list_links(&traces->links);
	traces->threads = count_threads();
	traces->mask = umask(022);
	umask(traces->mask);
	if (!getcwd(traces->directory, sizeof traces->directory))
		traces->directory[0] = '\0';
	for (int signo = 1; signo < SIGNALS; signo++)
		sigaction(signo, NULL, &traces->actions[signo]);
	pthread_sigmask(SIG_SETMASK, NULL, &traces->blocked);
	return traces;
}

static bool holds(const struct gt_strings *list, const char *item)
{
	for (size_t i = 0; i < list->count; i++) {
		if (strcmp(list->items[i], item) == 0)
			return true;
	}
	return false;
}

void traces_free(struct traces *traces)
{
	gt_strings_free(&traces->fds);
	gt_strings_free(&traces->mounts);
	gt_strings_free(&traces->links);
	free(traces);
}

static void compare(struct kit *kit, const char *what, const struct gt_strings *before, const struct gt_strings *after)
{
	bool clean = true;
	for (size_t i = 0; i < after->count && clean; i++)
		clean = holds(before, after->items[i]);
	check(kit, clean, NULL, "no %s is left behind", what);
	for (size_t i = 0; i < after->count; i++) {
		if (!holds(before, after->items[i]))
			diagnose("left: %s", after->items[i]);
	}
}

static bool same_actions(const struct traces *a, const struct traces *b)
{
	for (int signo = 1; signo < SIGNALS; signo++) {
		if (a->actions[signo].sa_handler != b->actions[signo].sa_handler)
			return false;
	}
	return true;
}

struct traces *traces_check(struct kit *kit, struct traces *before)
{
	struct traces *after = traces_take();
	for (int tries = 0; after->threads > before->threads && tries < 50; tries++) { /* an ended thread is listed for a moment */
		usleep(20000);
		after->threads = count_threads();
	}
	compare(kit, "file descriptor", &before->fds, &after->fds);
	compare(kit, "mount", &before->mounts, &after->mounts);
	compare(kit, "link", &before->links, &after->links);
	check(kit, after->threads <= before->threads, NULL, "no thread is left behind");
	check(kit, after->mask == before->mask && strcmp(after->directory, before->directory) == 0, NULL, "umask and working directory are as before");
	check(kit, same_actions(before, after) && memcmp(&before->blocked, &after->blocked, sizeof before->blocked) == 0, NULL,
	      "signal handlers and masks are as before");
	traces_free(before);
	return after;
}
