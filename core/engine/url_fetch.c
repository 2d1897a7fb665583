/*
 * url_fetch.c - files from URLs, for ADD, remote contexts and imports: by libcurl, which is loaded at its first use.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "engine/internal.h"
#include "image/registry/curl.h"

#define LOW_SPEED_S 60

struct transfer {
	int fd;
	int64_t room;
	bool too_large;
	bool (*stop)(void *arg);
	void *arg;
};

static size_t on_bytes(char *bytes, size_t size, size_t count, void *arg)
{
	struct transfer *transfer = arg;
	size_t len = size * count;
	transfer->too_large = (int64_t)len > transfer->room;
	if (transfer->too_large || gt_write_full(transfer->fd, bytes, len) < 0)
		return 0;
	transfer->room -= (int64_t)len;
	return len;
}

static int on_progress(void *arg, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up)
{
	const struct transfer *transfer = arg;
	(void)total;
	(void)now;
	(void)up_total;
	(void)up;
	return transfer->stop(transfer->arg);
}

static void set_options(const struct curl_calls *calls, CURL *curl, const char *url, struct transfer *transfer)
{
	calls->curl_easy_setopt(curl, CURLOPT_URL, url);
	calls->curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1l);
	calls->curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	calls->curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
	calls->curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1l);
	calls->curl_easy_setopt(curl, CURLOPT_MAXREDIRS, 10l);
	calls->curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1l);
	calls->curl_easy_setopt(curl, CURLOPT_FILETIME, 1l);
	calls->curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 30l);
	calls->curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1l);
	calls->curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)LOW_SPEED_S);
	calls->curl_easy_setopt(curl, CURLOPT_USERAGENT, "gantry/" GANTRY_VERSION);
	calls->curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
	calls->curl_easy_setopt(curl, CURLOPT_WRITEDATA, transfer);
	calls->curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
	calls->curl_easy_setopt(curl, CURLOPT_XFERINFODATA, transfer);
	calls->curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0l);
}

int gt_url_fetch(const char *url, int fd, int64_t max, bool (*stop)(void *arg), void *arg, int64_t *modified, struct gt_error *err)
{
	struct transfer transfer = { .fd = fd, .room = max, .stop = stop, .arg = arg };
	long status = 0, when = -1;
	const struct curl_calls *calls = curl_load(err);
	CURL *curl = calls ? calls->curl_easy_init() : NULL;
	if (!curl)
		return calls ? gt_fail(err, GT_INTERNAL, "fetch %.200s: no memory", url) : gt_context(err, "fetch %.200s", url);
	set_options(calls, curl, url, &transfer);
	CURLcode code = calls->curl_easy_perform(curl);
	calls->curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	calls->curl_easy_getinfo(curl, CURLINFO_FILETIME, &when);
	calls->curl_easy_cleanup(curl);
	*modified = when > 0 ? when : 0;
	if (code == CURLE_OK)
		return 0;
	if (transfer.too_large)
		return gt_fail(err, GT_TOO_LARGE, "fetch %.200s: it is larger than %lld bytes", url, (long long)max);
	if (code == CURLE_ABORTED_BY_CALLBACK)
		return gt_fail(err, GT_CANCELLED, "fetch %.200s: it was stopped", url);
	if (code == CURLE_HTTP_RETURNED_ERROR)
		return gt_fail(err, GT_NOT_FOUND, "fetch %.200s: the server answered with status %ld", url, status);
	return gt_fail(err, GT_UNAVAILABLE, "fetch %.200s: %s", url, calls->curl_easy_strerror(code));
}

bool gt_url_is_web(const char *url)
{
	return strncasecmp(url, "http://", 7) == 0 || strncasecmp(url, "https://", 8) == 0;
}

int gt_url_spool(const char *dir, const char *url, int64_t max, bool (*stop)(void *arg), void *arg, struct gt_error *err)
{
	int64_t modified;
	AUTO_CLOSE int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return gt_fail_errno(err, errno, "make a file for %.200s", url);
	if (gt_url_fetch(url, fd, max, stop, arg, &modified, err) < 0)
		return -1;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return gt_fail_errno(err, errno, "read what was fetched");
	return take_fd(fd);
}
