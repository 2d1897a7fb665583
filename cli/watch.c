/*
 * watch.c - what a container says and does: logs, top, port, diff.
 */
#include <string.h>

#include "api.h"
#include "container.h"
#include "demux.h"
#include "list.h"

/* ---- logs ---- */

int command_logs(struct cli *cli, struct args *args, struct gt_error *err)
{
	AUTO_JSON json_t *container = container_inspect(cli, args->operands[0], err);
	AUTO_BUF struct gt_buf path = { 0 };
	if (!container)
		return -1;
	url_path(&path, "/containers/", js(container, "Id"), "/logs");
	url_param(&path, "stdout", "1");
	url_param(&path, "stderr", "1");
	if (url_time(&path, "since", arg_string(args, "since"), err) < 0 ||
	    url_time(&path, "until", arg_string(args, "until"), err) < 0)
		return -1;
	url_flag(&path, "timestamps", arg_bool(args, "timestamps"));
	url_flag(&path, "follow", arg_bool(args, "follow"));
	url_flag(&path, "details", arg_bool(args, "details"));
	url_text(&path, "tail", arg_string(args, "tail"));
	struct http_request request = { .method = "GET", .path = path.data };
	AUTO_RESPONSE struct http_response *response = api_open(cli, &request, err);
	if (!response)
		return -1;
	struct demux demux = { .raw = jb(jo(container, "Config"), "Tty"), .out = 1, .err = 2 };
	const char *bytes;
	ssize_t got;
	int done = 0;
	while (done == 0 && (got = http_next(response, &bytes, err)) != 0)
		done = got < 0 ? -1 : demux_feed(&demux, bytes, (size_t)got, err);
	demux_free(&demux);
	return done;
}

/* ---- top ---- */

int command_top(struct cli *cli, struct args *args, struct gt_error *err)
{
	AUTO_BUF struct gt_buf path = { 0 }, ps_args = { 0 }, lines = { 0 };
	for (int i = 1; i < args->count; i++)
		gt_buf_printf(&ps_args, "%s%s", i > 1 ? " " : "", args->operands[i]);
	url_path(&path, "/containers/", args->operands[0], "/top");
	url_text(&path, "ps_args", ps_args.data);
	AUTO_JSON json_t *answer = api_get(cli, path.data, err);
	size_t i, j;
	json_t *cell, *process;
	if (!answer)
		return -1;
	json_array_foreach(jo(answer, "Titles"), i, cell)
	{
		gt_buf_printf(&lines, "%s%s", i ? "\t" : "", jv(cell));
	}
	gt_buf_char(&lines, '\n');
	json_array_foreach(jo(answer, "Processes"), i, process)
	{
		json_array_foreach(process, j, cell)
		{
			gt_buf_printf(&lines, "%s%s", j ? "\t" : "", jv(cell));
		}
		gt_buf_char(&lines, '\n');
	}
	return table_print_wide(lines.data, 17, err);
}

/* ---- port ---- */

static void print_binding(const char *prefix, const json_t *binding)
{
	const char *address = js(binding, "HostIp");
	printf(strchr(address, ':') ? "%s[%s]:%s\n" : "%s%s:%s\n", prefix, *address ? address : "0.0.0.0",
	       js(binding, "HostPort"));
}

static int by_port(const void *a, const void *b)
{
	const char *x = *(const char *const *)a, *y = *(const char *const *)b;
	long p = strtol(x, NULL, 10), q = strtol(y, NULL, 10);
	return p != q ? (p > q) - (p < q) : strcmp(x, y);
}

static void print_ports(json_t *ports)
{
	size_t count = json_object_size(ports), i = 0, j;
	const char **keys = gt_xcalloc(count + 1, sizeof *keys), *key;
	json_t *bindings, *binding;
	json_object_foreach(ports, key, bindings)
	{
		keys[i++] = key;
	}
	qsort(keys, count, sizeof *keys, by_port);
	for (i = 0; i < count; i++) {
		AUTO_FREE char *prefix = gt_xasprintf("%s -> ", keys[i]);
		json_array_foreach(json_object_get(ports, keys[i]), j, binding)
		{
			print_binding(prefix, binding);
		}
	}
	free(keys);
}

int command_port(struct cli *cli, struct args *args, struct gt_error *err)
{
	AUTO_JSON json_t *container = container_inspect(cli, args->operands[0], err);
	json_t *ports = jo(jo(container, "NetworkSettings"), "Ports"), *binding;
	size_t i;
	if (!container)
		return -1;
	if (args->count == 1) {
		print_ports(ports);
		return 0;
	}
	const char *wanted = args->operands[1];
	AUTO_FREE char *key = strchr(wanted, '/') ? gt_xstrdup(wanted) : gt_xasprintf("%s/tcp", wanted);
	const json_t *bindings = jo(ports, key);
	if (json_array_size(bindings) == 0)
		return gt_fail(err, GT_NOT_FOUND, "Error: No public port '%s' published for %s", wanted, args->operands[0]);
	json_array_foreach(bindings, i, binding)
	{
		print_binding("", binding);
	}
	return 0;
}

/* ---- diff ---- */

static char *kind_text(const struct row *row)
{
	static const char *const kinds[] = { "C", "A", "D" };
	int64_t kind = ji(row->item, "Kind");
	return gt_xstrdup(kind >= 0 && kind <= 2 ? kinds[kind] : "?");
}

static char *path_text(const struct row *row)
{
	return gt_xstrdup(js(row->item, "Path"));
}

static const struct column diff_columns[] = { { "Type", "CHANGE TYPE", kind_text },
					      { "Path", "PATH", path_text },
					      { NULL, NULL, NULL } };

int command_diff(struct cli *cli, struct args *args, struct gt_error *err)
{
	static const struct list list = { .columns = diff_columns, .table = "{{.Type}}\t{{.Path}}" };
	AUTO_BUF struct gt_buf path = { 0 };
	url_path(&path, "/containers/", args->operands[0], "/changes");
	AUTO_JSON json_t *changes = NULL;
	if (api_call(cli, "GET", path.data, NULL, &changes, err) < 0)
		return -1;
	return list_print(&list, "{{.Type}} {{.Path}}", false, changes, err);
}
