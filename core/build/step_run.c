/*
 * step_run.c - RUN: a command in a container of the image so far, whose changes become a layer.
 *
 * A here-document is the command's own input (the shell reads it), or, standing alone, the script itself; one that begins with "#!" is a file that is
 * mounted and executed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "build/internal.h"

#define SCRIPT_DIR "/dev/pipes"

struct command {
	struct gt_strings argv, env;
	struct gt_buf shown;            /* created_by */
	struct mounts mounts;
	const char *network;
};

/* ---- the command ---- */

static void add_shell(const struct run *run, struct gt_strings *argv)
{
	for (size_t i = 0; i < run->config.shell.count; i++)
		gt_strings_add(argv, run->config.shell.items[i]);
	if (run->config.shell.count == 0) {
		gt_strings_add(argv, "/bin/sh");
		gt_strings_add(argv, "-c");
	}
}

/* RUN <<NAME alone. */
static bool is_script(const struct instruction *item)
{
	return item->heredoc_count == 1 && strncmp(item->args, "<<", 2) == 0 && !item->args[strcspn(item->args, " \t")];
}

static int mount_script(struct run *run, const struct heredoc *doc, struct command *command, struct gt_error *err)
{
	AUTO_FREE char *dir = build_make_dir(run->build, "script", err);
	AUTO_FREE char *path = dir ? gt_xasprintf("%s/%s", dir, doc->name) : NULL;
	AUTO_FREE char *target = gt_xasprintf(SCRIPT_DIR "/%s", doc->name);
	AUTO_CLOSE int fd = path ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0755) : -1;
	if (fd < 0 || fchmod(fd, 0755) < 0 || gt_write_full(fd, doc->content, strlen(doc->content)) < 0)
		return path ? gt_fail_errno(err, errno, "write a here-document") : -1;
	gt_strings_add(&command->argv, target);
	gt_strings_add(&command->mounts.points, target);
	json_array_append_new(command->mounts.list, json_pack("{s:s s:s s:s s:b}", "Type", "bind", "Source", path, "Target", target, "ReadOnly", 1));
	return 0;
}

/* The text for the shell: the line, and the here-documents behind it as it reads them. */
static char *shell_text(const struct instruction *item)
{
	struct gt_buf text = { 0 };
	gt_buf_str(&text, item->args);
	for (size_t i = 0; i < item->heredoc_count; i++)
		gt_buf_printf(&text, "\n%s%s%s", item->heredocs[i].content, item->heredocs[i].name, i + 1 == item->heredoc_count ? "\n" : "");
	return gt_buf_take(&text);
}

static int read_command(struct run *run, struct command *command, struct gt_error *err)
{
	const struct instruction *item = run->item;
	if (is_script(item)) {
		const struct heredoc *doc = &item->heredocs[0];
		if (strncmp(doc->content, "#!", 2) == 0)
			return mount_script(run, doc, command, err);
		add_shell(run, &command->argv);
		gt_strings_add(&command->argv, doc->content);
		return 0;
	}
	if (item->heredoc_count == 0 && gt_words_json(item->args, &command->argv))
		return command->argv.count ? 0 : gt_fail(err, GT_INVALID, "RUN requires a command");
	AUTO_FREE char *text = shell_text(item);
	add_shell(run, &command->argv);
	gt_strings_add(&command->argv, text);
	return 0;
}

static int read_flags(struct run *run, struct command *command, struct gt_error *err)
{
	const char *network = instruction_flag(run->item, "network"), *security = instruction_flag(run->item, "security");
	if (security && strcmp(security, "sandbox") != 0)
		return gt_fail(err, GT_UNSUPPORTED, "RUN --security=%.40s is not supported, only sandbox", security);
	if (network && strcmp(network, "default") != 0 && strcmp(network, "none") != 0 && strcmp(network, "host") != 0)
		return gt_fail(err, GT_INVALID, "RUN --network=%.40s: it is one of default, none, host", network);
	command->network = network && strcmp(network, "default") != 0 ? network : NULL;
	return 0;
}

static bool in_env(const struct gt_image_config *config, const char *name)
{
	size_t len = strlen(name);
	for (size_t i = 0; i < config->env.count; i++) {
		if (strncmp(config->env.items[i], name, len) == 0 && config->env.items[i][len] == '=')
			return true;
	}
	return false;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* ARGs are the command's environment and part of what is shown ("|1 A=b /bin/sh -c ..."); proxies are not shown. */
static void read_environment(struct run *run, struct command *command)
{
	const char *name;
	json_t *value;
	struct gt_strings shown = { 0 };
	for (size_t i = 0; i < run->args.names.count; i++) {
		name = run->args.names.items[i];
		if (!run->args.values[i] || in_env(&run->config, name))
			continue;
		AUTO_FREE char *text = gt_xasprintf("%s=%s", name, run->args.values[i]);
		gt_strings_add(&command->env, text);
		if (!arg_is_proxy(name))
			gt_strings_add(&shown, text);
	}
	json_object_foreach((json_t *)run->build->options->build_args, name, value) {
		if (!arg_is_proxy(name) || !json_is_string(value) || vars_declared(&run->args, name))
			continue;
		AUTO_FREE char *text = gt_xasprintf("%s=%s", name, json_string_value(value));
		gt_strings_add(&command->env, text);
	}
	if (shown.count) {
		qsort(shown.items, shown.count, sizeof *shown.items, by_text);
		gt_buf_printf(&command->shown, "|%zu ", shown.count);
	}
	for (size_t i = 0; i < shown.count; i++)
		gt_buf_printf(&command->shown, "%s ", shown.items[i]);
	gt_strings_free(&shown);
}

static void show_command(const struct run *run, struct command *command)
{
	const struct instruction *item = run->item;
	if (is_script(item) && command->mounts.list && command->argv.count == 1) {
		gt_buf_str(&command->shown, item->heredocs[0].content);
		return;
	}
	for (size_t i = 0; i < command->argv.count; i++)
		gt_buf_printf(&command->shown, "%s%s", i ? " " : "", command->argv.items[i]);
}

/* ---- its container ---- */

static void on_start(void *arg, const char *container)
{
	run_say(arg, " ---> Running in %.12s\n", container);
}

static void on_output(void *arg, const char *bytes, size_t len)
{
	struct run *run = arg;
	output_bytes(&run->build->output, run->stage->index, bytes, len);
}

static bool on_stop(void *arg)
{
	return build_stopped(((struct run *)arg)->build);
}

static int refuse(const struct command *command, int exit_code, struct gt_error *err)
{
	AUTO_BUF struct gt_buf text = { 0 };
	for (size_t i = 0; i < command->argv.count; i++)
		gt_buf_printf(&text, "%s%s", i ? " " : "", command->argv.items[i]);
	gt_fail(err, GT_INVALID, "The command '%.400s' returned a non-zero code: %d", text.data, exit_code);
	err->errnum = exit_code; /* clients exit with it */
	return -1;
}

static int execute(struct run *run, struct command *command, struct gt_image_step *step, struct gt_error *err)
{
	const struct gt_build_host *host = run->build->host;
	struct gt_build_run how = { .image = run->image, .argv = &command->argv, .env = &command->env, .mounts = command->mounts.list,
				    .secret_env = &command->mounts.env, .network = command->network, .started = on_start, .output = on_output, .stop = on_stop, .arg = run };
	char container[65] = "";
	int exit_code = 0;
	int rc = host->run(host->arg, &how, container, &exit_code, err);
	if (rc == 0 && exit_code != 0)
		rc = refuse(command, exit_code, err);
	step->container_layer = container;
	step->mount_points = &command->mounts.points;
	if (rc == 0)
		rc = step_make(run, step, err);
	if (container[0]) {
		host->run_end(host->arg, container);
		if (rc == 0)
			run_say(run, " ---> Removed intermediate container %.12s\n ---> %.12s\n", container, run->image + 7);
	}
	step->container_layer = NULL;
	step->mount_points = NULL;
	return rc;
}

/* A container needs an image to begin with, if an empty one. */
static int begin_empty(struct run *run, struct gt_error *err)
{
	struct gt_image_step step = step_begin(run, "/bin/sh -c #(nop)  FROM scratch");
	char id[72];
	step_key(run, step.key, step.created_by, NULL);
	if (gt_image_step_find(run->build->images, NULL, step.key, run->build->options->holder, run->image))
		return 0;
	if (gt_image_step(run->build->images, &step, run->build->options->holder, id, err) < 0)
		return -1;
	memcpy(run->image, id, sizeof id);
	return 0;
}

static int do_run(struct run *run, struct command *command, struct gt_error *err)
{
	if (read_flags(run, command, err) < 0 || (!run->image[0] && begin_empty(run, err) < 0) ||
	    mounts_read(run, &command->mounts, err) < 0 || mounts_key(run, &command->mounts, err) < 0 || read_command(run, command, err) < 0)
		return -1;
	read_environment(run, command);
	show_command(run, command);
	AUTO_FREE char *config = config_text(&run->config);
	struct gt_image_step step = step_begin(run, command->shown.data);
	step_key(run, step.key, command->shown.data, config, command->network ? command->network : "",
		 command->mounts.key.data ? command->mounts.key.data : "", NULL);
	if (step_cached(run, &step))
		return 0;
	if (mounts_prepare(run, &command->mounts, err) < 0)
		return -1;
	return execute(run, command, &step, err);
}

int step_run(struct run *run, struct gt_error *err)
{
	struct command command = { .mounts.list = json_array() };
	int rc = do_run(run, &command, err);
	mounts_end(run, &command.mounts);
	gt_strings_free(&command.argv);
	gt_strings_free(&command.env);
	gt_buf_free(&command.shown);
	return rc;
}
