/*
 * doctor.c - system doctor: what the daemon finds on its host; without a daemon, what gantryd finds when it is run just for that.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api.h"
#include "base/fd.h"
#include "base/spawn.h"
#include "other.h"

enum { MAX_REPORT = 1 << 20 };

extern char **environ;

static json_t *row(const char *name, const char *status, const char *message, const char *remedy)
{
	return json_pack("{s:s,s:s,s:s,s:s}", "Name", name, "Status", status, "Message", message, "Remedy", remedy);
}

/* ---- without a daemon ---- */

static int read_pipe(int fd, struct gt_buf *out, struct gt_error *err)
{
	char bytes[4096];
	for (ssize_t got; (got = read(fd, bytes, sizeof bytes)) != 0;) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return gt_fail_errno(err, errno, "read what gantryd says");
		if (out->len + (size_t)got > MAX_REPORT)
			return gt_fail(err, GT_TOO_LARGE, "gantryd says more than %d bytes", MAX_REPORT);
		gt_buf_add(out, bytes, (size_t)got);
	}
	return 0;
}

/* Its standard output, and what it complains of. */
static int run_gantryd(const char *config, struct gt_buf *out, struct gt_buf *complaint, struct gt_error *err)
{
	AUTO_FREE char *path = cli_own_file("bin/gantryd", GANTRY_LIBEXEC "/../../bin/gantryd");
	char *argv[] = { path, "--check-host", *config ? "--config" : NULL, (char *)(uintptr_t)config, NULL };
	int said[2], failed[2], pidfd, status;
	if (pipe2(said, O_CLOEXEC) < 0)
		return gt_fail_errno(err, errno, "make a pipe");
	if (pipe2(failed, O_CLOEXEC) < 0) {
		close(said[0]);
		close(said[1]);
		return gt_fail_errno(err, errno, "make a pipe");
	}
	const int fds[] = { -1, said[1], failed[1] };
	struct gt_spawn how = { .path = path, .argv = argv, .envp = environ, .fds = fds, .nfds = 3 };
	int rc = gt_spawn(&how, NULL, &pidfd, err);
	close(said[1]);
	close(failed[1]);
	if (rc == 0) {
		rc = read_pipe(said[0], out, err) < 0 || read_pipe(failed[0], complaint, err) < 0 ? -1 : 0;
		close(said[0]);
		said[0] = -1;
		if (gt_reap(pidfd, &status, rc < 0 ? NULL : err) < 0)
			rc = -1;
		close(pidfd);
	}
	if (said[0] >= 0)
		close(said[0]);
	close(failed[0]);
	return rc < 0 ? gt_context(err, "run %s", path) : 0;
}

static json_t *look_locally(const char *config)
{
	AUTO_BUF struct gt_buf out = { 0 }, complaint = { 0 };
	struct gt_error err = { 0 };
	json_t *report = NULL;
	if (run_gantryd(config, &out, &complaint, &err) == 0)
		report = gt_json_parse(out.data ? out.data : "", out.len, "what gantryd says", complaint.len ? NULL : &err);
	if (json_is_array(json_object_get(report, "Checks")))
		return report;
	json_decref(report);
	const char *why = complaint.len ? complaint.data : err.message;
	AUTO_FREE char *first = gt_xstrndup(why, strcspn(why, "\n"));
	return json_pack("{s:[o]}", "Checks", row("gantryd", "failed", first, "mend that: it would keep the daemon from starting too"));
}

/* ---- both ---- */

/* The report, with a row about the daemon itself at its head. */
static json_t *look(struct cli *cli, struct args *args)
{
	AUTO_BUF struct gt_buf path = { 0 };
	struct gt_error err = { 0 };
	const struct gt_strings *registries = arg_list(args, "registry");
	bool local = strncmp(cli->host, "unix://", 7) == 0;
	url_path(&path, "/system/doctor");
	for (size_t i = 0; i < registries->count; i++)
		url_param(&path, "registry", registries->items[i]);
	json_t *report = api_get(cli, path.data, &err), *head;
	if (report) {
		AUTO_FREE char *text = gt_xasprintf("a daemon answers at %s", cli->host);
		head = row("daemon", "ok", text, "");
	} else if (strncmp(err.message, DAEMON_SAYS, strlen(DAEMON_SAYS)) == 0) {
		head = row("daemon", "failed", err.message, err.kind == GT_NOT_FOUND ? "that daemon is no gantryd, or an older one: see gantry version" : "see the daemon's log");
	} else {
		head = row("daemon", "failed", err.message,
			   local ? "start it (systemctl start gantryd), see why it ended (journalctl -u gantryd), or use root or group gantry"
				 : "see whether it runs there and whether the address and certificates are right");
		if (local)
			report = look_locally(arg_string(args, "daemon-config"));
		for (size_t i = 0; report && i < registries->count; i++)
			json_array_append_new(jo(report, "Checks"), row("registry", "warning", "registries are asked by the daemon, which does not run", "start it"));
	}
	if (!report)
		report = json_pack("{s:[]}", "Checks");
	json_array_insert_new(jo(report, "Checks"), 0, head);
	return report;
}

static void print_report(const json_t *checks, bool quiet)
{
	size_t i, counts[3] = { 0 };
	json_t *check;
	json_array_foreach(checks, i, check)
	{
		const char *status = js(check, "Status");
		size_t kind = strcmp(status, "ok") == 0 ? 0 : strcmp(status, "warning") == 0 ? 1 : 2;
		counts[kind]++;
		if (quiet && kind == 0)
			continue;
		printf("%-8s %s: %s\n", status, js(check, "Name"), js(check, "Message"));
		if (*js(check, "Remedy"))
			printf("         - %s\n", js(check, "Remedy"));
	}
	if (!quiet)
		printf("\n%zu checks: %zu ok, %zu to be warned of, %zu failed\n", i, counts[0], counts[1], counts[2]);
}

int command_doctor(struct cli *cli, struct args *args, struct gt_error *err)
{
	const char *format = arg_string(args, "format");
	AUTO_JSON json_t *report = look(cli, args);
	size_t i;
	json_t *check;
	int status = 0;
	json_array_foreach(jo(report, "Checks"), i, check)
	{
		if (strcmp(js(check, "Status"), "failed") == 0)
			status = 1;
	}
	if (*format)
		return print_formatted(format, report, err) < 0 ? -1 : status;
	print_report(jo(report, "Checks"), arg_bool(args, "quiet"));
	return status;
}
