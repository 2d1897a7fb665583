#include "build_output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "api.h"
#include "container.h"
#include "image.h"
#include "tar.h"

/* ---- reading ---- */

static int read_kind(const char *type, struct build_output *output, struct gt_error *err)
{
	static const struct {
		const char *name;
		enum output_kind kind;
	} kinds[] = { { "image", OUTPUT_IMAGE },  { "docker", OUTPUT_IMAGE }, { "registry", OUTPUT_IMAGE }, { "tar", OUTPUT_TAR },
		      { "local", OUTPUT_LOCAL }, { "oci", OUTPUT_ARCHIVE }, { "cacheonly", OUTPUT_CACHE } };
	for (size_t i = 0; i < GT_COUNT(kinds); i++) {
		if (strcmp(kinds[i].name, type) != 0)
			continue;
		output->kind = kinds[i].kind;
		output->push |= strcmp(type, "registry") == 0;
		return 0;
	}
	return gt_fail(err, GT_INVALID, "--output: type=%s is not one of image, docker, registry, tar, local, oci, cacheonly", type);
}

static int read_part(const char *part, const char **type, struct build_output *output, struct gt_error *err)
{
	const char *value = strchr(part, '=');
	size_t len = value ? (size_t)(value - part) : strlen(part);
	char **slot = len == 4 && strncmp(part, "dest", 4) == 0 ? &output->dest : len == 4 && strncmp(part, "name", 4) == 0 ? &output->name : NULL;
	if (value && len == 4 && strncmp(part, "type", 4) == 0) {
		*type = value + 1;
	} else if (value && slot) {
		free(*slot);
		*slot = gt_xstrdup(value + 1);
	} else if (value && len == 4 && strncmp(part, "push", 4) == 0 && (strcmp(value, "=true") == 0 || strcmp(value, "=false") == 0)) {
		output->push |= strcmp(value, "=true") == 0;
	} else {
		return gt_fail(err, GT_UNSUPPORTED, "--output: \"%s\" is not one of type=, dest=, name=, push=", part);
	}
	return 0;
}

static int check(const char *type, struct build_output *output, struct gt_error *err)
{
	if (output->dest && strcmp(output->dest, "-") == 0)
		free(take(output->dest));
	else if (output->dest && output->kind == OUTPUT_IMAGE)
		output->kind = OUTPUT_ARCHIVE; /* type=docker,dest=FILE: the image as `save` writes it */
	if (output->kind == OUTPUT_LOCAL && !output->dest)
		return gt_fail(err, GT_INVALID, "--output: type=local needs dest=DIRECTORY");
	if (output->push && output->kind != OUTPUT_IMAGE)
		return gt_fail(err, GT_INVALID, "--output: type=%s cannot be pushed", type);
	if (output->name && output->kind != OUTPUT_IMAGE && output->kind != OUTPUT_ARCHIVE)
		return gt_fail(err, GT_INVALID, "--output: type=%s has no name", type);
	return 0;
}

int build_output_read(const struct args *args, struct build_output *output, struct gt_error *err)
{
	const struct gt_strings *given = arg_list(args, "output");
	*output = (struct build_output){ .kind = OUTPUT_IMAGE, .push = arg_bool(args, "push") };
	if (given->count > 1)
		return gt_fail(err, GT_UNSUPPORTED, "--output: one of them at a time: build again, which takes the steps from the cache");
	if (given->count == 0)
		return 0;
	const char *text = given->items[0], *type = "";
	if (!strchr(text, '=')) {
		output->kind = strcmp(text, "-") == 0 ? OUTPUT_TAR : OUTPUT_LOCAL;
		output->dest = gt_xstrdup(text);
		return check("", output, err);
	}
	struct gt_strings parts = { 0 };
	args_split_csv(text, &parts);
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < parts.count; i++)
		rc = read_part(parts.items[i], &type, output, err);
	if (rc == 0)
		rc = *type ? read_kind(type, output, err) : gt_fail(err, GT_INVALID, "--output: a type is missing in \"%s\"", text);
	if (rc == 0)
		rc = check(type, output, err);
	gt_strings_free(&parts);
	return rc;
}

void build_output_free(struct build_output *output)
{
	free(output->dest);
	free(output->name);
}

bool build_output_is_files(const struct build_output *output)
{
	return output->kind == OUTPUT_TAR || output->kind == OUTPUT_LOCAL || output->kind == OUTPUT_CACHE;
}

bool build_output_to_stdout(const struct build_output *output)
{
	return (output->kind == OUTPUT_TAR || output->kind == OUTPUT_ARCHIVE) && !output->dest;
}

/* ---- writing ---- */

static int write_tar(struct cli *cli, const struct build_output *output, const char *id, struct gt_error *err)
{
	AUTO_BUF struct gt_buf url = { 0 };
	url_path(&url, "/build/files");
	url_param(&url, "image", id);
	return output_download(cli, url.data, output->dest ? output->dest : "", "build --output", err);
}

static int write_local(struct cli *cli, const struct build_output *output, const char *id, struct gt_error *err)
{
	AUTO_BUF struct gt_buf url = { 0 };
	if (mkdir(output->dest, 0777) < 0 && errno != EEXIST)
		return gt_fail_errno(err, errno, "cannot make the directory %s", output->dest);
	AUTO_CLOSE int dir = open(output->dest, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return gt_fail_errno(err, errno, "cannot open the directory %s", output->dest);
	url_path(&url, "/build/files");
	url_param(&url, "image", id);
	struct http_request request = { .method = "GET", .path = url.data };
	AUTO_RESPONSE struct http_response *response = api_open(cli, &request, err);
	struct tar_target target = { .dirfd = dir };
	return response ? tar_extract(response, &target, err) : -1;
}

/* By its first tag, so that the archive has that name. */
static int write_archive(struct cli *cli, const struct build_output *output, const char *id, const struct gt_strings *tags, struct gt_error *err)
{
	AUTO_BUF struct gt_buf url = { 0 };
	if (tags->count <= 1) {
		url_image(&url, "/images/", tags->count ? tags->items[0] : id, "/get");
	} else {
		url_path(&url, "/images/get");
		for (size_t i = 0; i < tags->count; i++)
			url_param(&url, "names", tags->items[i]);
	}
	return output_download(cli, url.data, output->dest ? output->dest : "", "build --output", err);
}

static int push_all(struct cli *cli, const struct gt_strings *tags, struct gt_error *err)
{
	if (tags->count == 0)
		return gt_fail(err, GT_INVALID, "what is pushed needs a name: --tag NAME");
	for (size_t i = 0; i < tags->count; i++) {
		if (push_image(cli, tags->items[i], "", false, false, err) < 0)
			return -1;
	}
	return 0;
}

int build_output_write(struct cli *cli, const struct build_output *output, const char *id, const struct gt_strings *tags, struct gt_error *err)
{
	switch (output->kind) {
	case OUTPUT_TAR:
		return write_tar(cli, output, id, err);
	case OUTPUT_LOCAL:
		return write_local(cli, output, id, err);
	case OUTPUT_ARCHIVE:
		return write_archive(cli, output, id, tags, err);
	case OUTPUT_CACHE:
		return 0;
	case OUTPUT_IMAGE:
		break;
	}
	return output->push ? push_all(cli, tags, err) : 0;
}
