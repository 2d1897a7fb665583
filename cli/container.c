/*
 * container.c - what is done to containers: start, stop, kill, pause, remove, wait, rename, update, commit, export ...
 */
#include "container.h"

#include <fcntl.h>
#include <string.h>

#include "api.h"
#include "base/fd.h"
#include "create.h"
#include "humanize.h"
#include "session.h"

/* ---- one POST for each name ---- */

struct post {
	const char *action;             /* "/stop" */
	const char *signal;
	bool timed;
	int64_t timeout;
};

static int post_one(struct cli *cli, const char *name, void *arg, struct gt_error *err)
{
	const struct post *post = arg;
	AUTO_BUF struct gt_buf path = { 0 };
	url_path(&path, "/containers/", name, post->action);
	url_text(&path, "signal", post->signal);
	if (post->timed)
		url_int(&path, "t", post->timeout);
	return api_call(cli, "POST", path.data, NULL, NULL, err);
}

static int stop_or_restart(struct cli *cli, struct args *args, const char *action, struct gt_error *err)
{
	const char *flag = arg_given(args, "time") ? "time" : "timeout";
	struct post post = { action, arg_string(args, "signal"), arg_given(args, flag), arg_int(args, flag) };
	if (arg_given(args, "time") && arg_given(args, "timeout"))
		return gt_fail(err, GT_INVALID, "conflicting options: cannot specify both --timeout and --time");
	return cli_for_each(cli, args, true, post_one, &post);
}

int command_stop(struct cli *cli, struct args *args, struct gt_error *err)
{
	return stop_or_restart(cli, args, "/stop", err);
}

int command_restart(struct cli *cli, struct args *args, struct gt_error *err)
{
	return stop_or_restart(cli, args, "/restart", err);
}

int command_kill(struct cli *cli, struct args *args, struct gt_error *err)
{
	(void)err;
	struct post post = { .action = "/kill", .signal = arg_string(args, "signal") };
	return cli_for_each(cli, args, true, post_one, &post);
}

int command_pause(struct cli *cli, struct args *args, struct gt_error *err)
{
	(void)err;
	struct post post = { .action = "/pause" };
	return cli_for_each(cli, args, true, post_one, &post);
}

int command_unpause(struct cli *cli, struct args *args, struct gt_error *err)
{
	(void)err;
	struct post post = { .action = "/unpause" };
	return cli_for_each(cli, args, true, post_one, &post);
}

static int remove_one(struct cli *cli, const char *name, void *arg, struct gt_error *err)
{
	const struct args *args = arg;
	AUTO_BUF struct gt_buf path = { 0 };
	bool force = arg_bool(args, "force");
	while (*name == '/')
		name++;
	if (!*name)
		return gt_fail(err, GT_INVALID, "Container name cannot be empty");
	url_path(&path, "/containers/", name, "");
	url_flag(&path, "v", arg_bool(args, "volumes"));
	url_flag(&path, "link", arg_bool(args, "link"));
	url_flag(&path, "force", force);
	int done = api_call(cli, "DELETE", path.data, NULL, NULL, err);
	if (done < 0 && force && err->kind == GT_NOT_FOUND) {
		cli_print_error(cli, err); /* --force: what is not there is no failure */
		gt_error_clear(err);
		return 1;
	}
	return done;
}

int command_rm(struct cli *cli, struct args *args, struct gt_error *err)
{
	(void)err;
	int status = 0;
	for (int i = 0; i < args->count; i++) {
		struct gt_error why = { 0 };
		int done = remove_one(cli, args->operands[i], args, &why);
		if (done < 0) {
			cli_print_error(cli, &why);
			status = 1;
		} else if (done == 0) {
			puts(args->operands[i]);
		}
	}
	return status;
}

static int wait_one(struct cli *cli, const char *name, void *arg, struct gt_error *err)
{
	(void)arg;
	AUTO_RESPONSE struct http_response *waiting = exit_wait(cli, name, "", err);
	int status = waiting ? exit_status_of(waiting, err) : -1;
	if (status < 0)
		return -1;
	printf("%d\n", status);
	fflush(stdout);
	return 0;
}

int command_wait(struct cli *cli, struct args *args, struct gt_error *err)
{
	(void)err;
	return cli_for_each(cli, args, false, wait_one, NULL);
}

/* ---- start ---- */

json_t *container_inspect(struct cli *cli, const char *name, struct gt_error *err)
{
	AUTO_BUF struct gt_buf path = { 0 };
	url_path(&path, "/containers/", name, "/json");
	return api_get(cli, path.data, err);
}

static int start_attached(struct cli *cli, struct args *args, struct gt_error *err)
{
	AUTO_SESSION struct session session;
	if (args->count > 1)
		return gt_fail(err, GT_INVALID, "you cannot start and attach multiple containers at once");
	AUTO_JSON json_t *container = container_inspect(cli, args->operands[0], err);
	const json_t *config = jo(container, "Config");
	session_init(&session, cli, jb(config, "Tty"), arg_bool(args, "interactive") && jb(config, "OpenStdin"), true, true);
	if (!container || session_check_tty(&session, err) < 0)
		return -1;
	session.sig_proxy = arg_bool(args, "sig-proxy") && !session.tty;
	session.detach_keys = session_keys(cli, args);
	const char *id = js(container, "Id");
	bool remove = jb(jo(container, "HostConfig"), "AutoRemove");
	AUTO_FREE char *path = session_attach_path(&session, id, false);
	session_target(&session, id);
	if (session_open(&session, path, NULL, err) < 0)
		return -1;
	AUTO_RESPONSE struct http_response *waiting = exit_wait(cli, id, remove ? "removed" : "next-exit", err);
	if (!waiting || session_begin(&session, err) < 0)
		return -1;
	struct post post = { .action = "/start" };
	if (post_one(cli, id, &post, err) < 0)
		return -1;
	session_resize(&session);
	int how = session_run(&session, err);
	session_end(&session);
	if (how == SESSION_DETACHED)
		return 0;
	if (how == SESSION_SIGNALLED)
		return 128 + session.ended_by;
	return how < 0 ? -1 : exit_status_of(waiting, err);
}

int command_start(struct cli *cli, struct args *args, struct gt_error *err)
{
	if (arg_bool(args, "attach") || arg_bool(args, "interactive"))
		return start_attached(cli, args, err);
	struct post post = { .action = "/start" };
	return cli_for_each(cli, args, true, post_one, &post);
}

int command_attach(struct cli *cli, struct args *args, struct gt_error *err)
{
	AUTO_JSON json_t *container = container_inspect(cli, args->operands[0], err);
	AUTO_SESSION struct session session;
	const json_t *config = jo(container, "Config"), *state = jo(container, "State");
	session_init(&session, cli, jb(config, "Tty"), !arg_bool(args, "no-stdin") && jb(config, "OpenStdin"), true, true);
	if (!container)
		return -1;
	if (!jb(state, "Running"))
		return gt_fail(err, GT_CONFLICT, "cannot attach to a stopped container, start it first");
	if (jb(state, "Paused"))
		return gt_fail(err, GT_CONFLICT, "cannot attach to a paused container, unpause it first");
	if (jb(state, "Restarting"))
		return gt_fail(err, GT_CONFLICT, "cannot attach to a restarting container, wait until it is running");
	if (session_check_tty(&session, err) < 0)
		return -1;
	const char *id = js(container, "Id");
	session.sig_proxy = arg_bool(args, "sig-proxy") && !session.tty;
	session.detach_keys = session_keys(cli, args);
	AUTO_FREE char *path = session_attach_path(&session, id, false);
	session_target(&session, id);
	AUTO_RESPONSE struct http_response *waiting = exit_wait(cli, id, "", err);
	if (!waiting || session_open(&session, path, NULL, err) < 0 || session_begin(&session, err) < 0)
		return -1;
	session_redraw(&session);
	int how = session_run(&session, err);
	session_end(&session);
	if (how == SESSION_DETACHED)
		return session_detached();
	if (how == SESSION_SIGNALLED)
		return 128 + session.ended_by;
	return how < 0 ? -1 : exit_status_of(waiting, err);
}

/* ---- rename, update ---- */

int command_rename(struct cli *cli, struct args *args, struct gt_error *err)
{
	AUTO_BUF struct gt_buf path = { 0 };
	if (!*args->operands[0] || !*args->operands[1])
		return gt_fail(err, GT_INVALID, "neither old nor new names may be empty");
	url_path(&path, "/containers/", args->operands[0], "/rename");
	url_param(&path, "name", args->operands[1]);
	return api_call(cli, "POST", path.data, NULL, NULL, err);
}

static int update_one(struct cli *cli, const char *name, void *arg, struct gt_error *err)
{
	AUTO_BUF struct gt_buf path = { 0 };
	AUTO_JSON json_t *answer = NULL;
	url_path(&path, "/containers/", name, "/update");
	int done = api_call(cli, "POST", path.data, arg, &answer, err);
	cli_print_warnings(answer);
	return done;
}

int command_update(struct cli *cli, struct args *args, struct gt_error *err)
{
	AUTO_JSON json_t *body = json_object();
	if (create_resources(args, body, err) < 0)
		return -1;
	if (json_object_size(body) == 0)
		return gt_fail(err, GT_INVALID, "you must provide one or more flags when using this command");
	return cli_for_each(cli, args, true, update_one, body);
}

/* ---- commit, export ---- */

int command_commit(struct cli *cli, struct args *args, struct gt_error *err)
{
	AUTO_BUF struct gt_buf path = { 0 };
	AUTO_FREE char *name = NULL, *tag = NULL;
	AUTO_JSON json_t *answer = NULL;
	const struct gt_strings *changes = arg_list(args, "change");
	url_path(&path, "/commit");
	url_param(&path, "container", args->operands[0]);
	if (args->count > 1) {
		split_reference(args->operands[1], &name, &tag);
		url_param(&path, "repo", name);
		url_text(&path, "tag", tag);
	}
	url_text(&path, "author", arg_string(args, "author"));
	url_text(&path, "comment", arg_string(args, "message"));
	if (!arg_bool(args, "pause"))
		url_param(&path, "pause", "0");
	for (size_t i = 0; i < changes->count; i++)
		url_param(&path, "changes", changes->items[i]);
	if (api_call(cli, "POST", path.data, NULL, &answer, err) < 0)
		return -1;
	puts(js(answer, "Id"));
	return 0;
}

int output_open(const char *path, const char *what, struct gt_error *err)
{
	if (!*path) {
		if (isatty(1))
			return gt_fail(err, GT_INVALID,
				       "cowardly refusing to save to a terminal. Use the -o flag or redirect");
		return 1;
	}
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	return fd < 0 ? gt_fail_errno(err, errno, "failed to %s: cannot write %s", what, path) : fd;
}

int output_download(struct cli *cli, const char *url, const char *path, const char *what, struct gt_error *err)
{
	int fd = output_open(path, what, err);
	if (fd < 0)
		return -1;
	AUTO_CLOSE int owned = fd == 1 ? -1 : fd;
	struct http_request request = { .method = "GET", .path = url };
	AUTO_RESPONSE struct http_response *response = api_open(cli, &request, err);
	if (!response)
		return -1;
	/* Truncated only now, so that a refused request leaves an old file as it was. */
	if (owned >= 0 && ftruncate(owned, 0) < 0 && errno != EINVAL)
		return gt_fail_errno(err, errno, "cannot write %s", path);
	return api_copy_body(response, fd, err);
}

int command_export(struct cli *cli, struct args *args, struct gt_error *err)
{
	AUTO_BUF struct gt_buf url = { 0 };
	url_path(&url, "/containers/", args->operands[0], "/export");
	return output_download(cli, url.data, arg_string(args, "output"), "export", err);
}

/* ---- prune ---- */

int command_container_prune(struct cli *cli, struct args *args, struct gt_error *err)
{
	if (!arg_bool(args, "force") &&
	    !cli_confirm("WARNING! This will remove all stopped containers.\nAre you sure you want to continue?"))
		return gt_fail(err, GT_CANCELLED, "container prune has been cancelled");
	AUTO_BUF struct gt_buf path = { 0 };
	AUTO_JSON json_t *answer = NULL;
	url_path(&path, "/containers/prune");
	url_filters(&path, arg_list(args, "filter"));
	if (api_call(cli, "POST", path.data, NULL, &answer, err) < 0)
		return -1;
	print_deleted("Deleted Containers:", jo(answer, "ContainersDeleted"));
	return print_reclaimed(answer);
}

void print_deleted(const char *title, const json_t *names)
{
	size_t i;
	json_t *name;
	if (json_array_size(names) == 0)
		return;
	puts(title);
	json_array_foreach(names, i, name)
	{
		puts(jv(name));
	}
	putchar('\n');
}

int print_reclaimed(const json_t *answer)
{
	AUTO_FREE char *size = human_size(jd(answer, "SpaceReclaimed"), 4);
	printf("Total reclaimed space: %s\n", size);
	return 0;
}
