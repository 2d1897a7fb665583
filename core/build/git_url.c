/*
 * git_url.c - what is a git repository among sources and contexts: URL#REF:DIRECTORY, as Docker's documentation of build contexts has it.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/auto.h"
#include "build/build.h"

static bool begins(const char *text, const char *with)
{
	return strncasecmp(text, with, strlen(with)) == 0;
}

static bool is_web(const char *text)
{
	return begins(text, "http://") || begins(text, "https://");
}

bool gt_git_is_url(const char *text)
{
	size_t len = strcspn(text, "#?");
	if (begins(text, "git://") || begins(text, "ssh://") || begins(text, "github.com/") || (begins(text, "git@") && strchr(text, ':')))
		return true;
	return is_web(text) && len > 4 && strncmp(text + len - 4, ".git", 4) == 0;
}

int gt_git_url_read(const char *text, struct gt_git_url *url, struct gt_error *err)
{
	const char *fragment = strchr(text, '#');
	size_t len = fragment ? (size_t)(fragment - text) : strlen(text);
	const char *colon = fragment ? strchr(fragment + 1, ':') : NULL;
	*url = (struct gt_git_url){ 0 };
	if (begins(text, "ssh://") || begins(text, "git@"))
		return gt_fail(err, GT_UNSUPPORTED, "%.200s: git by ssh is not supported here: use the https URL of the repository", text);
	if (memchr(text, '?', len))
		return gt_fail(err, GT_UNSUPPORTED, "%.200s: a query is not supported in the URL of a git repository: use #REF:DIRECTORY", text);
	url->url = gt_xasprintf("%s%.*s", begins(text, "github.com/") ? "https://" : "", (int)len, text);
	url->ref = fragment ? gt_xstrndup(fragment + 1, colon ? (size_t)(colon - fragment - 1) : strlen(fragment + 1)) : gt_xstrdup("");
	url->directory = gt_xstrdup(colon ? colon + 1 : "");
	return 0;
}

void gt_git_url_free(struct gt_git_url *url)
{
	free(url->url);
	free(url->ref);
	free(url->directory);
	*url = (struct gt_git_url){ 0 };
}
