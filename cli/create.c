#include "create.h"

#include <fcntl.h>
#include <string.h>

#include "api.h"
#include "base/fd.h"
#include "image.h"

/* The id file is made before the container, so that one that exists is refused in time. */
static int open_cidfile(const char *path, int *fd, struct gt_error *err)
{
	*fd = -1;
	if (!*path)
		return 0;
	*fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (*fd >= 0)
		return 0;
	if (errno == EEXIST)
		return gt_fail(err, GT_CONFLICT,
			       "container ID file found, make sure the other container isn't running or delete %s",
			       path);
	return gt_fail_errno(err, errno, "failed to create the container ID file %s", path);
}

static bool image_is_missing(const struct gt_error *err)
{
	return err->kind == GT_NOT_FOUND && (strstr(err->message, "image") || strstr(err->message, "manifest"));
}

static int post_create(struct cli *cli, const char *path, const json_t *body, const struct args *args, json_t **answer,
		       struct gt_error *err)
{
	const char *image = args->operands[0], *pull = arg_string(args, "pull"), *platform = arg_string(args, "platform");
	bool quiet = arg_bool(args, "quiet");
	if (strcmp(pull, "always") == 0) {
		if (pull_image(cli, image, platform, false, quiet, stderr, err) < 0)
			return -1;
		return api_call(cli, "POST", path, body, answer, err);
	}
	if (api_call(cli, "POST", path, body, answer, err) == 0)
		return 0;
	if (strcmp(pull, "missing") != 0 || !image_is_missing(err))
		return -1;
	AUTO_FREE char *name = NULL, *tag = NULL;
	split_reference(image, &name, &tag);
	if (!quiet)
		fprintf(stderr, "Unable to find image '%s%s' locally\n", image, tag ? "" : ":latest");
	gt_error_clear(err);
	if (pull_image(cli, image, platform, false, quiet, stderr, err) < 0)
		return -1;
	return api_call(cli, "POST", path, body, answer, err);
}

int create_container(struct cli *cli, const struct args *args, const json_t *body, char **id, struct gt_error *err)
{
	const char *pull = arg_string(args, "pull"), *cidfile = arg_string(args, "cidfile");
	if (strcmp(pull, "always") != 0 && strcmp(pull, "missing") != 0 && strcmp(pull, "never") != 0)
		return gt_fail(err, GT_INVALID,
			       "invalid pull option: '%s': must be one of \"always\", \"missing\" or \"never\"", pull);
	AUTO_CLOSE int fd = -1;
	if (open_cidfile(cidfile, &fd, err) < 0)
		return -1;
	AUTO_BUF struct gt_buf path = { 0 };
	AUTO_JSON json_t *answer = NULL;
	url_path(&path, "/containers/create");
	url_text(&path, "name", arg_string(args, "name"));
	url_text(&path, "platform", arg_string(args, "platform"));
	if (post_create(cli, path.data, body, args, &answer, err) < 0) {
		if (fd >= 0)
			unlink(cidfile);
		return -1;
	}
	cli_print_warnings(answer);
	*id = gt_xstrdup(js(answer, "Id"));
	if (fd >= 0 && gt_write_full(fd, *id, strlen(*id)) < 0)
		return gt_fail_errno(err, errno, "failed to write the container ID file %s", cidfile);
	return 0;
}

int command_create(struct cli *cli, struct args *args, struct gt_error *err)
{
	AUTO_JSON json_t *body = NULL;
	AUTO_FREE char *id = NULL;
	if (create_body(args, &body, err) < 0) {
		cli->failure_status = EXIT_DAEMON;
		cli->help_hint = true;
		return -1;
	}
	if (create_container(cli, args, body, &id, err) < 0)
		return -1;
	puts(id);
	return 0;
}
