/*
 * main.c - gantry-fs: one job on the files of a container or an image, in a process of its own.
 *
 * The daemon is the only caller (see fs.h for descriptors and protocol); run by hand it says so and ends. The process dies with the daemon's
 * calling thread, is not dumpable, can gain no privilege, and gives up those it does not need before it touches hostile names.
 */
#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/json.h"
#include "fs.h"

#ifdef GT_SANITIZED
/* The leak checker wants to trace the process, which is not dumpable; it ends after one job anyway. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}
#endif

#define REQUEST_MAX (64u << 20)

static const struct {
	const char *name;
	int (*run)(const json_t *request, json_t *reply, struct gt_error *err);
} jobs[] = {
	{ "stat", fs_job_stat },         { "archive", fs_job_archive },   { "extract", fs_job_extract },
	{ "export", fs_job_export },     { "copy_up", fs_job_copy_up },   { "unpack", fs_job_unpack },
	{ "diff_tar", fs_job_diff_tar }, { "rebuild", fs_job_rebuild },   { "settle", fs_job_settle },
	{ "context", fs_job_context },   { "copy", fs_job_copy },         { "clone", fs_job_clone },
	{ "squash", fs_job_squash },     { "same", fs_job_same },
};

static json_t *read_request(struct gt_error *err)
{
	AUTO_BUF struct gt_buf text = { 0 };
	for (;;) {
		char *end = gt_buf_reserve(&text, 65536);
		ssize_t n = gt_read_full(FS_CONTROL, end, 65536);
		if (n < 0) {
			gt_fail_errno(err, errno, "read the request");
			return NULL;
		}
		text.len += (size_t)n;
		if (text.len > REQUEST_MAX)
			return gt_fail_null(err, GT_TOO_LARGE, "the request is larger than %u bytes", REQUEST_MAX);
		if (n < 65536)
			break;
	}
	return gt_json_parse(text.data ? text.data : "", text.len, "request", err);
}

static int run(const json_t *request, json_t *reply, struct gt_error *err)
{
	const char *job = "";
	if (gt_json_string(request, "job", &job, err) < 0)
		return -1;
	for (size_t i = 0; i < GT_COUNT(jobs); i++) {
		if (strcmp(jobs[i].name, job) == 0)
			return jobs[i].run(request, reply, err);
	}
	return gt_fail(err, GT_UNSUPPORTED, "gantry-fs has no job \"%s\"", job);
}

static void confine(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_DUMPABLE, 0);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	signal(SIGPIPE, SIG_IGN);
	umask(0);
	/* File names are bytes; libarchive wants a UTF-8 locale to pass them through. */
	setlocale(LC_CTYPE, "C.UTF-8");
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max < 4096 ? files.rlim_max : 4096;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

int main(void)
{
	int type;
	socklen_t size = sizeof type;
	if (getsockopt(FS_CONTROL, SOL_SOCKET, SO_TYPE, &type, &size) < 0) {
		fputs("gantry-fs: works for gantryd alone, which hands it a control socket\n", stderr);
		return 2;
	}
	confine();
	struct gt_error err = { 0 };
	AUTO_JSON json_t *reply = json_object();
	AUTO_JSON json_t *request = read_request(&err);
	if (!request || run(request, reply, &err) < 0) {
		json_t *error = json_pack("{s:i, s:i, s:o}", "kind", (int)err.kind, "errno", err.errnum, "message",
					  json_string(err.message) ?: json_string("a file name that is not UTF-8"));
		json_object_clear(reply);
		json_object_set_new(reply, "error", error);
	}
	AUTO_FREE char *text = json_dumps(reply, JSON_COMPACT);
	if (!text || gt_write_full(FS_CONTROL, text, strlen(text)) < 0)
		return 1;
	return 0;
}
