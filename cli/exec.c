/*
 * exec.c - `gantry exec`: a further process in a running container.
 */
#include "api.h"
#include "container.h"
#include "session.h"
#include "spec.h"

static json_t *exec_body(const struct args *args, struct gt_error *err)
{
	AUTO_JSON json_t *body = json_object();
	json_t *command = json_array();
	bool attach = !arg_bool(args, "detach"), tty = arg_bool(args, "tty");
	struct gt_strings env = { 0 };
	unsigned rows, cols;
	json_object_set_new(body, "Cmd", command);
	for (int i = 1; i < args->count; i++)
		json_array_append_new(command, json_string(args->operands[i]));
	json_object_set_new(body, "AttachStdin", json_boolean(attach && arg_bool(args, "interactive")));
	json_object_set_new(body, "AttachStdout", json_boolean(attach));
	json_object_set_new(body, "AttachStderr", json_boolean(attach));
	json_object_set_new(body, "Tty", json_boolean(tty));
	json_object_set_new(body, "Privileged", json_boolean(arg_bool(args, "privileged")));
	jset_str(body, "User", arg_string(args, "user"));
	jset_str(body, "WorkingDir", arg_string(args, "workdir"));
	jset_str(body, "DetachKeys", arg_string(args, "detach-keys"));
	if (tty && attach && terminal_size(1, &rows, &cols))
		json_object_set_new(body, "ConsoleSize", json_pack("[ii]", (int)rows, (int)cols));
	int done = spec_environment(arg_list(args, "env-file"), arg_list(args, "env"), &env, err);
	jset(body, "Env", jlist(&env));
	gt_strings_free(&env);
	return done < 0 ? NULL : json_incref(body);
}

static json_t *start_body(const json_t *created, bool detach)
{
	json_t *body = json_pack("{s:b,s:b}", "Detach", detach, "Tty", jb(created, "Tty"));
	json_t *size = jo(created, "ConsoleSize");
	if (size)
		json_object_set(body, "ConsoleSize", size);
	return body;
}

static int exec_status(struct cli *cli, const char *id, struct gt_error *err)
{
	AUTO_BUF struct gt_buf path = { 0 };
	url_path(&path, "/exec/", id, "/json");
	AUTO_JSON json_t *state = api_get(cli, path.data, err);
	return state ? (int)ji(state, "ExitCode") : -1;
}

static int exec_attached(struct cli *cli, struct session *session, const char *id, const json_t *created,
			 struct gt_error *err)
{
	AUTO_JSON json_t *body = start_body(created, false);
	AUTO_BUF struct gt_buf path = { 0 }, resize = { 0 };
	url_path(&path, "/exec/", id, "/start");
	url_path(&resize, "/exec/", id, "/resize");
	session->resize_path = gt_buf_take(&resize);
	if (session_open(session, path.data, body, err) < 0 || session_begin(session, err) < 0)
		return -1;
	session_resize(session);
	int how = session_run(session, err);
	session_end(session);
	if (how == SESSION_DETACHED)
		return session_detached();
	if (how == SESSION_SIGNALLED)
		return 128 + session->ended_by;
	return how < 0 ? -1 : exec_status(cli, id, err);
}

int command_exec(struct cli *cli, struct args *args, struct gt_error *err)
{
	AUTO_SESSION struct session session;
	bool detach = arg_bool(args, "detach");
	session_init(&session, cli, arg_bool(args, "tty"), arg_bool(args, "interactive"), true, true);
	session.detach_keys = session_keys(cli, args);
	if (!detach && session_check_tty(&session, err) < 0)
		return -1;
	AUTO_JSON json_t *body = exec_body(args, err);
	AUTO_BUF struct gt_buf path = { 0 };
	AUTO_JSON json_t *answer = NULL;
	url_path(&path, "/containers/", args->operands[0], "/exec");
	if (!body || api_call(cli, "POST", path.data, body, &answer, err) < 0)
		return -1;
	const char *id = js(answer, "Id");
	if (!detach)
		return exec_attached(cli, &session, id, body, err);
	AUTO_JSON json_t *start = start_body(body, true);
	AUTO_BUF struct gt_buf start_path = { 0 };
	url_path(&start_path, "/exec/", id, "/start");
	return api_call(cli, "POST", start_path.data, start, NULL, err);
}
