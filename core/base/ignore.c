#include "base/ignore.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/fd.h"

enum { MAX_PATTERNS = 10000, MAX_STEPS = 1 << 20 };

/* [a-z], [^a]; *end is behind the bracket. */
static bool match_class(const char *p, char c, const char **end)
{
	bool negated = *p == '^' || *p == '!', found = false;
	p += negated;
	for (bool first = true; *p && (*p != ']' || first); first = false) {
		char low = *p == '\\' && p[1] ? *++p : *p;
		char high = low;
		p++;
		if (*p == '-' && p[1] && p[1] != ']') {
			high = p[1] == '\\' && p[2] ? p[2] : p[1];
			p += p[1] == '\\' && p[2] ? 3 : 2;
		}
		found |= c >= low && c <= high;
	}
	*end = *p ? p + 1 : p;
	return found != negated;
}

/* Does the pattern match the path, or a directory on the way to it? steps bounds the work of hostile patterns. */
static bool match(const char *pattern, const char *path, int *steps)
{
	if (--*steps < 0)
		return false;
	for (; *pattern; pattern++) {
		if (pattern[0] == '*' && pattern[1] == '*') {
			const char *rest = pattern + 2;
			if (*rest == '/')
				rest++;
			if (*rest == '\0')
				return true;
			for (const char *at = path;; at++) {
				if ((at == path || at[-1] == '/' || pattern[2] != '/') && match(rest, at, steps))
					return true;
				if (*at == '\0')
					return false;
			}
		}
		if (*pattern == '*') {
			for (const char *at = path;; at++) {
				if (match(pattern + 1, at, steps))
					return true;
				if (*at == '\0' || *at == '/')
					return false;
			}
		}
		if (*path == '\0')
			return false;
		if (*pattern == '?') {
			if (*path == '/')
				return false;
		} else if (*pattern == '[') {
			const char *end;
			if (*path == '/' || !match_class(pattern + 1, *path, &end))
				return false;
			pattern = end - 1;
		} else {
			if (*pattern == '\\' && pattern[1])
				pattern++;
			if (*pattern != *path)
				return false;
		}
		path++;
	}
	return *path == '\0' || *path == '/';
}

void ignore_add(struct ignore *ignore, const char *line)
{
	AUTO_BUF struct gt_buf clean = { 0 };
	while (isspace((unsigned char)*line))
		line++;
	bool negated = *line == '!';
	for (line += negated; isspace((unsigned char)*line);)
		line++;
	/* The path, cleaned: no leading, doubled or trailing slash, no "." parts. */
	const char *end = line + strlen(line);
	while (end > line && isspace((unsigned char)end[-1]))
		end--;
	while (line < end) {
		size_t len = 0;
		while (line + len < end && line[len] != '/')
			len++;
		if (len > 0 && !(len == 1 && *line == '.')) {
			gt_buf_printf(&clean, "%s%.*s", clean.len ? "/" : "", (int)len, line);
		}
		line += len + (line + len < end);
	}
	if (clean.len == 0)
		return;
	AUTO_FREE char *stored = gt_xasprintf("%s%s", negated ? "!" : "", clean.data);
	gt_strings_add(&ignore->patterns, stored);
	ignore->exceptions |= negated;
}

/* A byte order mark. */
static char *skip_mark(char *text)
{
	return text && strncmp(text, "\xef\xbb\xbf", 3) == 0 ? text + 3 : text;
}

int ignore_read(struct ignore *ignore, int dirfd, const char *name, struct gt_error *err)
{
	AUTO_BUF struct gt_buf text = { 0 };
	if (faccessat(dirfd, name, F_OK, 0) < 0)
		return errno == ENOENT ? 0 : gt_fail_errno(err, errno, "cannot read %s", name);
	if (gt_read_file(dirfd, name, 1 << 20, &text, err) < 0)
		return -1;
	for (char *line = skip_mark(text.data); line && *line;) {
		char *end = strchrnul(line, '\n');
		bool last = *end == '\0';
		*end = '\0';
		if (*line != '#')
			ignore_add(ignore, line);
		if (ignore->patterns.count > MAX_PATTERNS)
			return gt_fail(err, GT_TOO_LARGE, "%s has more than %d patterns", name, MAX_PATTERNS);
		line = last ? end : end + 1;
	}
	return 0;
}

bool ignore_matches(const struct ignore *ignore, const char *path)
{
	bool ignored = false;
	for (size_t i = 0; i < ignore->patterns.count; i++) {
		const char *pattern = ignore->patterns.items[i];
		bool negated = *pattern == '!';
		int steps = MAX_STEPS;
		if (ignored == negated && match(pattern + negated, path, &steps))
			ignored = !negated;
	}
	return ignored;
}

void ignore_free(struct ignore *ignore)
{
	gt_strings_free(&ignore->patterns);
}
