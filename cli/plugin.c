/*
 * plugin.c - plugins of the daemon: ls, enable, disable, reload; and what authors of drivers need: plugin new (a driver that builds at once) and plugin check
 * (the conformance kit).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api.h"
#include "base/fd.h"
#include "humanize.h"
#include "list.h"
#include "other.h"

enum { MAX_TEMPLATE = 1 << 20 };

/* ---- ls ---- */

static char *plugin_id_text(const struct row *row) { return gt_xstrdup(js(row->item, "Id")); } /* a name, for use in other commands */
static char *plugin_name_text(const struct row *row) { return gt_xstrdup(js(row->item, "Name")); }
static char *plugin_enabled_text(const struct row *row) { return gt_xstrdup(jb(row->item, "Enabled") ? "true" : "false"); }
static char *plugin_reference_text(const struct row *row) { return gt_xstrdup(js(row->item, "PluginReference")); }

static char *plugin_description_text(const struct row *row)
{
	return ellipsis(js(jo(row->item, "Config"), "Description"), row->list->no_trunc ? INT64_MAX : 45);
}

/* "running, 3 starts, the last end: was killed by signal 9 (Killed)"; "-" for drivers in the daemon itself. */
static char *plugin_process_text(const struct row *row)
{
	const json_t *process = jo(row->item, "Process");
	const char *end = js(process, "LastEnd");
	if (!process)
		return gt_xstrdup("-");
	long long starts = (long long)json_integer_value(json_object_get(process, "Starts"));
	if (!end[0])
		return gt_xstrdup(js(process, "State"));
	AUTO_FREE char *text = gt_xasprintf("%s, %lld starts, the last process %s", js(process, "State"), starts, end);
	return ellipsis(text, row->list->no_trunc ? INT64_MAX : 75);
}

static const struct column plugin_columns[] = {
	{ "Description", "DESCRIPTION", plugin_description_text }, { "Enabled", "ENABLED", plugin_enabled_text },
	{ "ID", "ID", plugin_id_text }, { "Name", "NAME", plugin_name_text },
	{ "PluginReference", "PLUGIN REFERENCE", plugin_reference_text }, { "Process", "PROCESS", plugin_process_text }, { NULL, NULL, NULL },
};

int command_plugin_ls(struct cli *cli, struct args *args, struct gt_error *err)
{
	struct list list = { .columns = plugin_columns,
			     .table = "{{.ID}}\t{{.Name}}\t{{.Description}}\t{{.Enabled}}\t{{.Process}}",
			     .quiet = "{{.ID}}",
			     .no_trunc = arg_bool(args, "no-trunc") };
	AUTO_BUF struct gt_buf path = { 0 };
	url_path(&path, "/plugins");
	url_filters(&path, arg_list(args, "filter"));
	AUTO_JSON json_t *plugins = api_get(cli, path.data, err);
	return plugins ? list_print(&list, arg_string(args, "format"), arg_bool(args, "quiet"), plugins, err) : -1;
}

/* ---- enable, disable, reload ---- */

static int enable_one(struct cli *cli, const char *name, void *arg, struct gt_error *err)
{
	(void)arg;
	AUTO_BUF struct gt_buf path = { 0 };
	url_path(&path, "/plugins/", name, "/enable");
	return api_call(cli, "POST", path.data, NULL, NULL, err);
}

static int disable_one(struct cli *cli, const char *name, void *arg, struct gt_error *err)
{
	(void)arg;
	AUTO_BUF struct gt_buf path = { 0 };
	url_path(&path, "/plugins/", name, "/disable");
	return api_call(cli, "POST", path.data, NULL, NULL, err);
}

static int reload_one(struct cli *cli, const char *name, void *arg, struct gt_error *err)
{
	AUTO_BUF struct gt_buf path = { 0 };
	url_path(&path, "/plugins/", name, "/reload");
	gt_buf_printf(&path, "?timeout=%lld", (long long)arg_int(arg, "timeout"));
	return api_call(cli, "POST", path.data, NULL, NULL, err);
}

int command_plugin_enable(struct cli *cli, struct args *args, struct gt_error *err)
{
	(void)err;
	return cli_for_each(cli, args, true, enable_one, args);
}

int command_plugin_disable(struct cli *cli, struct args *args, struct gt_error *err)
{
	(void)err;
	return cli_for_each(cli, args, true, disable_one, args);
}

int command_plugin_reload(struct cli *cli, struct args *args, struct gt_error *err)
{
	(void)err;
	return cli_for_each(cli, args, true, reload_one, args);
}

/* ---- check ---- */

int command_plugin_check(struct cli *cli, struct args *args, struct gt_error *err)
{
	(void)cli;
	AUTO_FREE char *kit = cli_own_file("libexec/gantry-plugin-check", GANTRY_LIBEXEC "/gantry-plugin-check");
	char **argv = gt_xcalloc((size_t)args->count + 2, sizeof *argv);
	argv[0] = kit;
	for (int i = 0; i < args->count; i++)
		argv[i + 1] = args->operands[i];
	execv(kit, argv);
	free(argv);
	return gt_fail_errno(err, errno, "run the conformance kit, %s", kit);
}

/* ---- new ---- */

static bool name_ok(const char *name)
{
	size_t len = strlen(name);
	return len && len <= 32 && name[0] != '-' && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

/* The text with each "@NAME@" replaced. The caller's. */
static char *fill_in(const char *text, const char *name)
{
	static const char MARK[] = "@NAME@";
	struct gt_buf out = { 0 };
	for (const char *at; (at = strstr(text, MARK)); text = at + strlen(MARK)) {
		gt_buf_add(&out, text, (size_t)(at - text));
		gt_buf_str(&out, name);
	}
	gt_buf_str(&out, text);
	return gt_buf_take(&out);
}

static int write_one(int from, const char *entry, const char *directory, const char *name, struct gt_error *err)
{
	AUTO_BUF struct gt_buf text = { 0 };
	AUTO_FREE char *file = fill_in(entry, name);
	AUTO_FREE char *path = gt_xasprintf("%s/%s", directory, file);
	if (gt_read_file(from, entry, MAX_TEMPLATE, &text, err) < 0)
		return gt_context(err, "read the template");
	gt_buf_char(&text, '\0');
	AUTO_FREE char *filled = fill_in(text.data, name);
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0 || gt_write_full(fd, filled, strlen(filled)) < 0)
		return gt_fail_errno(err, errno, "write %s", path);
	printf("%s\n", path);
	return 0;
}

static int write_all(DIR *from, const char *directory, const char *name, struct gt_error *err)
{
	int rc = 0;
	for (struct dirent *entry; rc == 0 && (entry = readdir(from));) {
		if (entry->d_name[0] != '.')
			rc = write_one(dirfd(from), entry->d_name, directory, name, err);
	}
	return rc;
}

int command_plugin_new(struct cli *cli, struct args *args, struct gt_error *err)
{
	(void)cli;
	const char *kind = args->operands[0], *name = args->operands[1];
	if (strcmp(kind, "volume") && strcmp(kind, "network") && strcmp(kind, "storage"))
		return gt_fail(err, GT_INVALID, "there is no kind of driver \"%s\": it is network, volume or storage", kind);
	if (!name_ok(name))
		return gt_fail(err, GT_INVALID, "a driver cannot be called \"%s\": use up to 32 of [a-z0-9-], not beginning with -", name);
	AUTO_FREE char *templates = cli_own_file("share/template", GANTRY_SHARE "/template");
	AUTO_FREE char *path = gt_xasprintf("%s/%s", templates, kind);
	DIR *from = opendir(path);
	if (!from)
		return gt_fail_errno(err, errno, "open the template %s", path);
	int rc = mkdir(name, 0755) < 0 ? gt_fail_errno(err, errno, "make the directory %s", name) : write_all(from, name, name, err);
	closedir(from);
	return rc;
}
