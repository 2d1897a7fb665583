/*
 * owner.c - what --chown and --chmod of a build say: names are looked up in the image's own /etc/passwd and /etc/group, which are hostile.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "copy.h"

#define DATABASE_MAX (4u << 20)

static bool number(const char *text, int64_t *value)
{
	char *end;
	if (!isdigit((unsigned char)*text))
		return false;
	errno = 0;
	long long n = strtoll(text, &end, 10);
	if (*end || errno || n > 0xfffffffell)
		return false;
	*value = n;
	return true;
}

/* The line "NAME:x:A:B:..." of a file of the image; first and second are A and B. */
static int look_up(int root, const char *file, const char *name, int64_t *first, int64_t *second, struct gt_error *err)
{
	AUTO_BUF struct gt_buf text = { 0 };
	AUTO_CLOSE int fd = root < 0 ? -1 : fs_open(root, file, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	size_t len = strlen(name);
	while (fd >= 0 && text.len < DATABASE_MAX) {
		char *end = gt_buf_reserve(&text, 65536);
		ssize_t n = gt_read_full(fd, end, 65536);
		if (n <= 0)
			break;
		text.len += (size_t)n;
	}
	gt_buf_add(&text, "", 1);
	for (char *line = text.data, *next; line && *line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (strncmp(line, name, len) != 0 || line[len] != ':')
			continue;
		long long a = -1, b = -1;
		if (sscanf(line + len, ":%*[^:]:%lld:%lld", &a, &b) < 1 && sscanf(line + len, "::%lld:%lld", &a, &b) < 1)
			continue;
		*first = a;
		*second = b;
		return 0;
	}
	return gt_fail(err, GT_INVALID, "--chown: the image has no %s \"%.60s\" in /%s", strstr(file, "group") ? "group" : "user", name, file);
}

int fs_owner_read(int root, const char *text, int64_t *uid, int64_t *gid, struct gt_error *err)
{
	AUTO_FREE char *user = gt_xstrdup(text);
	char *group = strchr(user, ':');
	int64_t ignored;
	if (group)
		*group++ = '\0';
	if (!*user || (group && !*group))
		return gt_fail(err, GT_INVALID, "--chown=%.60s is not USER, USER:GROUP, UID or UID:GID", text);
	if (number(user, uid))
		*gid = *uid;
	else if (look_up(root, "etc/passwd", user, uid, gid, err) < 0)
		return -1;
	if (group && !number(group, gid) && look_up(root, "etc/group", group, gid, &ignored, err) < 0)
		return -1;
	if (*uid < 0 || *gid < 0 || *uid > 0xfffffffell || *gid > 0xfffffffell)
		return gt_fail(err, GT_INVALID, "--chown=%.60s: the image's id for it is out of range", text);
	return 0;
}

/* ---- modes ---- */

static unsigned letters(const char **p, bool *conditional)
{
	unsigned bits = 0;
	*conditional = false;
	for (; **p && strchr("rwxXst", **p); (*p)++) {
		switch (**p) {
		case 'r':
			bits |= 0444;
			break;
		case 'w':
			bits |= 0222;
			break;
		case 'X':
			*conditional = true;
			break;
		case 'x':
			bits |= 0111;
			break;
		case 's':
			bits |= 06000;
			break;
		default:
			bits |= 01000;
		}
	}
	return bits;
}

/* One clause "ug+rx" applied; *p moves behind it. */
static int clause(const char **p, mode_t *mode, bool directory)
{
	unsigned who = 0;
	for (; **p && strchr("ugoa", **p); (*p)++)
		who |= **p == 'u' ? 04700 : **p == 'g' ? 02070 : **p == 'o' ? 01007 : 07777;
	if (!who)
		who = 07777;
	if (!**p || !strchr("+-=", **p))
		return -1;
	while (**p && strchr("+-=", **p)) {
		char op = *(*p)++;
		bool conditional;
		unsigned bits = letters(p, &conditional);
		if (conditional && (directory || *mode & 0111))
			bits |= 0111;
		bits &= who | 01000;
		if (op == '=')
			*mode = (*mode & ~who) | bits;
		else
			*mode = op == '+' ? *mode | bits : *mode & ~bits;
	}
	return 0;
}

int fs_mode_apply(const char *text, mode_t *mode, bool directory, struct gt_error *err)
{
	const char *p = text;
	size_t digits = strspn(text, "01234567");
	if (digits >= 1 && digits <= 5 && !text[digits] && strtoul(text, NULL, 8) <= 07777) {
		*mode = (mode_t)strtoul(text, NULL, 8);
		return 0;
	}
	while (*p) {
		if (clause(&p, mode, directory) < 0 || (*p && *p != ',') || (*p == ',' && !*++p))
			return gt_fail(err, GT_INVALID, "--chmod=%.60s is neither an octal mode nor of the form u=rwX,go=rX", text);
	}
	return *text ? 0 : gt_fail(err, GT_INVALID, "--chmod is empty");
}
