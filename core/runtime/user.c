/*
 * user.c - users and groups as the container's own /etc/passwd and /etc/group tell them. Both files are hostile: size, line length and counts are bounded.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/internal.h"

#define MAX_FILE (4u << 20)
#define MAX_GROUPS 1024

/* Fields of one line; returns how many there are. */
static size_t split(char *line, char *fields[7])
{
	size_t count = 0;
	for (char *rest = line, *field; count < 7 && (field = strsep(&rest, ":")) != NULL;)
		fields[count++] = field;
	return count;
}

/* An id of 0 to 2^31-1, or -1. */
static int64_t number_of(const char *text)
{
	char *end;
	if (text[0] < '0' || text[0] > '9')
		return -1;
	errno = 0;
	long long value = strtoll(text, &end, 10);
	return *end || errno || value > INT_MAX ? -1 : value;
}

/* A file that is missing or is not a regular one is empty. */
static char *read_text(const char *path, struct gt_buf *text)
{
	AUTO_CLOSE int fd = gt_openat2(AT_FDCWD, path + 1, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
	while (fd >= 0 && text->len < MAX_FILE) {
		ssize_t n = read(fd, gt_buf_reserve(text, 16384), 16384);
		if (n <= 0)
			break;
		text->len += (size_t)n;
		text->data[text->len] = '\0';
	}
	return text->data;
}

/* By name or number. Fills uid, gid, home. */
static bool find_user(const char *wanted, struct identity *identity, char name[256])
{
	AUTO_BUF struct gt_buf text = { 0 };
	int64_t number = number_of(wanted);
	char *rest = read_text("/etc/passwd", &text);
	for (char *line; rest && (line = strsep(&rest, "\n")) != NULL;) {
		char *fields[7];
		if (split(line, fields) < 6)
			continue;
		int64_t uid = number_of(fields[2]), gid = number_of(fields[3]);
		if (uid < 0 || gid < 0 || (strcmp(fields[0], wanted) && (number < 0 || uid != number)))
			continue;
		identity->uid = (uid_t)uid;
		identity->gid = (gid_t)gid;
		snprintf(identity->home, sizeof identity->home, "%s", fields[5]);
		snprintf(name, 256, "%s", fields[0]);
		return true;
	}
	return false;
}

static void add_group(struct identity *identity, gid_t gid)
{
	for (size_t i = 0; i < identity->group_count; i++) {
		if (identity->groups[i] == gid)
			return;
	}
	if (identity->group_count >= MAX_GROUPS)
		return;
	identity->groups = gt_xrealloc(identity->groups, (identity->group_count + 1) * sizeof(gid_t));
	identity->groups[identity->group_count++] = gid;
}

static int64_t find_group(const char *wanted)
{
	AUTO_BUF struct gt_buf text = { 0 };
	int64_t number = number_of(wanted);
	char *rest = read_text("/etc/group", &text);
	for (char *line; rest && (line = strsep(&rest, "\n")) != NULL;) {
		char *fields[7];
		if (split(line, fields) >= 3 && number_of(fields[2]) >= 0 && strcmp(fields[0], wanted) == 0)
			return number_of(fields[2]);
	}
	return number;
}

/* Groups that list the user as a member. */
static void add_memberships(struct identity *identity, const char *name)
{
	AUTO_BUF struct gt_buf text = { 0 };
	char *rest = read_text("/etc/group", &text);
	for (char *line; rest && (line = strsep(&rest, "\n")) != NULL;) {
		char *fields[7];
		if (split(line, fields) < 4)
			continue;
		int64_t gid = number_of(fields[2]);
		for (char *members = fields[3], *member; gid >= 0 && (member = strsep(&members, ",")) != NULL;) {
			if (strcmp(member, name) == 0)
				add_group(identity, (gid_t)gid);
		}
	}
}

static int add_extra(struct identity *identity, const char *list, struct gt_error *err)
{
	AUTO_FREE char *copy = gt_xstrdup(list);
	char *rest = copy;
	for (char *word; (word = strsep(&rest, ",")) != NULL;) {
		int64_t gid = *word ? find_group(word) : 0;
		if (gid < 0)
			return gt_fail(err, GT_INVALID, "Unable to find group %.255s: no matching entries in group file", word);
		if (*word)
			add_group(identity, (gid_t)gid);
	}
	return 0;
}

/* A number that is no uid or gid is told apart from a name that nobody has. */
static int fail_unknown(const char *what, const char *wanted, struct gt_error *err)
{
	if (wanted[strspn(wanted, "0123456789")] == '\0')
		return gt_fail(err, GT_INVALID, "uids and gids must be in range 0-%d", INT_MAX);
	return gt_fail(err, GT_INVALID, "unable to find %s %.255s: no matching entries in %s file", what, wanted, strcmp(what, "user") == 0 ? "passwd" : "group");
}

/* The primary group is among the supplementary ones, so that a process cannot get rid of what is denied to that group (CVE-2022-36109). */
int user_find(const char *user, const char *group_add, struct identity *identity, struct gt_error *err)
{
	AUTO_FREE char *copy = gt_xstrdup(user && user[0] ? user : "0");
	char name[256] = "";
	char *group = strchr(copy, ':');
	if (group)
		*group++ = '\0';
	const char *wanted = copy[0] ? copy : "0";
	*identity = (struct identity){ 0 };
	if (!find_user(wanted, identity, name)) {
		int64_t number = number_of(wanted);
		if (number < 0)
			return fail_unknown("user", wanted, err);
		identity->uid = (uid_t)number;
	}
	bool named = group && *group;
	int64_t gid = named ? find_group(group) : 0;
	if (gid < 0)
		return fail_unknown("group", group, err);
	if (named)
		identity->gid = (gid_t)gid;
	add_group(identity, identity->gid);
	if (!named && name[0])
		add_memberships(identity, name);
	return group_add && group_add[0] ? add_extra(identity, group_add, err) : 0;
}
