/*
 * run.c - `gantry run`: create, join the streams, arm the wait for the exit, start, and leave with the container's code.
 */
#include <string.h>

#include "api.h"
#include "create.h"
#include "session.h"

/* Docker's exit status for a process that could not be started. */
static int start_failure(const struct gt_error *err)
{
	const char *text = err->message;
	if (strstr(text, "executable file not found") || strstr(text, "no such file or directory"))
		return EXIT_NOT_FOUND;
	if (strcasestr(text, "permission denied") || strcasestr(text, "is a directory"))
		return EXIT_NOT_EXECUTABLE;
	return EXIT_DAEMON;
}

static int start(struct cli *cli, const char *id, const char *detach_keys, struct gt_error *err)
{
	AUTO_BUF struct gt_buf path = { 0 };
	url_path(&path, "/containers/", id, "/start");
	url_text(&path, "detachKeys", detach_keys);
	return api_call(cli, "POST", path.data, NULL, NULL, err);
}

static int run_detached(struct cli *cli, const char *id, struct gt_error *err)
{
	puts(id);
	fflush(stdout);
	if (start(cli, id, "", err) < 0) {
		cli->failure_status = start_failure(err);
		return -1;
	}
	return 0;
}

/* A container with --rm that could not start is removed by the daemon: leave when it is gone. */
static void wait_for_removal(struct http_response *waiting)
{
	const char *bytes;
	bool idle;
	http_next_timed(waiting, &bytes, 10000, &idle, NULL);
}

static int run_attached(struct cli *cli, const struct args *args, struct session *session, const char *id,
			struct gt_error *err)
{
	bool remove = arg_bool(args, "rm"), any = session->in || session->out || session->err;
	AUTO_FREE char *path = session_attach_path(session, id, false);
	session_target(session, id);
	if (!session->out && !session->err)
		puts(id);
	if (any && session_open(session, path, NULL, err) < 0)
		return -1;
	AUTO_RESPONSE struct http_response *waiting = exit_wait(cli, id, remove ? "removed" : "next-exit", err);
	if (!waiting || session_begin(session, err) < 0)
		return -1;
	if (start(cli, id, session->detach_keys, err) < 0) {
		session_end(session);
		cli->failure_status = start_failure(err);
		if (remove)
			wait_for_removal(waiting);
		return -1;
	}
	session_resize(session);
	int how = any ? session_run(session, err) : SESSION_OVER;
	session_end(session);
	if (how == SESSION_DETACHED)
		return 0;
	if (how == SESSION_SIGNALLED)
		return 128 + session->ended_by;
	return how < 0 ? -1 : exit_status_of(waiting, err);
}

static void set_console_size(json_t *body)
{
	unsigned rows, cols;
	if (terminal_size(1, &rows, &cols))
		json_object_set_new(jo(body, "HostConfig"), "ConsoleSize", json_pack("[ii]", (int)rows, (int)cols));
}

int command_run(struct cli *cli, struct args *args, struct gt_error *err)
{
	AUTO_JSON json_t *body = NULL;
	AUTO_FREE char *id = NULL;
	AUTO_SESSION struct session session;
	session_init(&session, cli, false, false, false, false);
	if (arg_bool(args, "detach") && arg_list(args, "attach")->count > 0)
		return gt_fail(err, GT_INVALID, "conflicting options: cannot specify both --attach and --detach");
	cli->failure_status = EXIT_DAEMON;
	cli->help_hint = true;
	if (create_body(args, &body, err) < 0)
		return -1;
	bool detach = arg_bool(args, "detach");
	session.tty = jb(body, "Tty");
	session.in = jb(body, "AttachStdin");
	session.out = jb(body, "AttachStdout");
	session.err = jb(body, "AttachStderr");
	session.sig_proxy = arg_bool(args, "sig-proxy");
	session.detach_keys = session_keys(cli, args);
	if (!detach && session_check_tty(&session, err) < 0) {
		cli->failure_status = 1;
		cli->help_hint = false;
		return -1;
	}
	if (session.tty)
		set_console_size(body);
	struct keys keys;
	if (*session.detach_keys && keys_parse(&keys, session.detach_keys, err) < 0)
		return -1;
	if (create_container(cli, args, body, &id, err) < 0)
		return -1;
	return detach ? run_detached(cli, id, err) : run_attached(cli, args, &session, id, err);
}
