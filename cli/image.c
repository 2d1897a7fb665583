/*
 * image.c - images: list, history, tag, remove, prune; pull, push, save, load, import.
 */
#include "image.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "api.h"
#include "base/clock.h"
#include "container.h"
#include "humanize.h"
#include "list.h"
#include "other.h"
#include "progress.h"

void split_reference(const char *reference, char **name, char **tag)
{
	const char *digest = strchr(reference, '@');
	const char *slash = strrchr(reference, '/');
	const char *colon = digest ? NULL : strrchr(slash ? slash : reference, ':');
	const char *cut = digest ? digest : colon;
	*name = cut ? gt_xstrndup(reference, (size_t)(cut - reference)) : gt_xstrdup(reference);
	*tag = cut ? gt_xstrdup(cut + 1) : NULL;
}

/* ---- the list ---- */

/* One line: an image under one of its names. */
struct line {
	char *repository, *tag, *digest;
};

static char *id_text(const struct row *row) { return short_id(js(row->item, "Id"), row->list->no_trunc); }
static char *repository_text(const struct row *row) { return gt_xstrdup(((const struct line *)row->extra)->repository); }
static char *tag_text(const struct row *row) { return gt_xstrdup(((const struct line *)row->extra)->tag); }
static char *digest_text(const struct row *row) { return gt_xstrdup(((const struct line *)row->extra)->digest); }
static char *created_text(const struct row *row) { return human_time(ji(row->item, "Created")); }
static char *since_text(const struct row *row) { return human_ago(ji(row->item, "Created")); }
static char *size_text(const struct row *row) { return human_size(jd(row->item, "Size"), 3); }
static char *virtual_text(const struct row *row) { return human_size(jd(row->item, "Size"), 4); }

static char *containers_text(const struct row *row)
{
	int64_t count = ji(row->item, "Containers");
	return count < 0 ? gt_xstrdup("N/A") : gt_xasprintf("%lld", (long long)count);
}

static char *shared_text(const struct row *row)
{
	double shared = jd(row->item, "SharedSize");
	return shared < 0 ? gt_xstrdup("N/A") : human_size(shared, 3);
}

static char *unique_text(const struct row *row)
{
	double shared = jd(row->item, "SharedSize");
	return shared < 0 ? gt_xstrdup("N/A") : human_size(jd(row->item, "Size") - shared, 3);
}

static const struct column columns[] = {
	{ "Containers", "CONTAINERS", containers_text }, { "CreatedAt", "CREATED AT", created_text },
	{ "CreatedSince", "CREATED", since_text },       { "Digest", "DIGEST", digest_text },
	{ "ID", "IMAGE ID", id_text },                   { "Repository", "REPOSITORY", repository_text },
	{ "SharedSize", "SHARED SIZE", shared_text },    { "Size", "SIZE", size_text },
	{ "Tag", "TAG", tag_text },                      { "UniqueSize", "UNIQUE SIZE", unique_text },
	{ "VirtualSize", "SIZE", virtual_text },            { NULL, NULL, NULL },
};

struct naming {
	struct printer *printer;
	const json_t *image;
	bool digests;
	struct gt_error *err;
};

static int add_line(const struct naming *naming, const char *repository, const char *tag, const char *digest)
{
	struct line line = { (char *)(uintptr_t)repository, (char *)(uintptr_t)tag, (char *)(uintptr_t)digest };
	return printer_add(naming->printer, naming->image, &line, naming->err);
}

/* A tag, once for each digest of its repository where digests are shown. */
static int add_tag(const struct naming *naming, const char *reference)
{
	AUTO_FREE char *name = NULL, *tag = NULL;
	size_t i, shown = 0;
	json_t *item;
	split_reference(reference, &name, &tag);
	json_array_foreach(naming->digests ? jo(naming->image, "RepoDigests") : NULL, i, item)
	{
		AUTO_FREE char *of = NULL, *digest = NULL;
		split_reference(jv(item), &of, &digest);
		if (strcmp(of, name) != 0)
			continue;
		if (add_line(naming, name, tag ? tag : "<none>", digest ? digest : "<none>") < 0)
			return -1;
		shown++;
	}
	return shown > 0 ? 0 : add_line(naming, name, tag ? tag : "<none>", "<none>");
}

/* Whether one of the first `count` references is of this repository. */
static bool is_named(const json_t *references, size_t count, const char *repository)
{
	for (size_t i = 0; i < count; i++) {
		AUTO_FREE char *name = NULL, *rest = NULL;
		split_reference(jv(json_array_get(references, i)), &name, &rest);
		if (strcmp(name, repository) == 0)
			return true;
	}
	return false;
}

/* A repository without a tag is shown by its digest: one line, or where digests are shown one for each. */
static int add_image(const struct naming *naming)
{
	const json_t *tags = jo(naming->image, "RepoTags"), *digests = jo(naming->image, "RepoDigests");
	size_t i, named = 0;
	json_t *item;
	json_array_foreach(tags, i, item)
	{
		if (strcmp(jv(item), "<none>:<none>") == 0)
			continue;
		named++;
		if (add_tag(naming, jv(item)) < 0)
			return -1;
	}
	json_array_foreach(digests, i, item)
	{
		AUTO_FREE char *of = NULL, *digest = NULL;
		if (strcmp(jv(item), "<none>@<none>") == 0)
			continue;
		split_reference(jv(item), &of, &digest);
		if (is_named(tags, json_array_size(tags), of) || (!naming->digests && is_named(digests, i, of)))
			continue;
		named++;
		if (add_line(naming, of, "<none>", digest ? digest : "<none>") < 0)
			return -1;
	}
	return named > 0 ? 0 : add_line(naming, "<none>", "<none>", "<none>");
}

static json_t *image_list(struct cli *cli, const struct args *args, const char *format, struct gt_error *err)
{
	AUTO_BUF struct gt_buf path = { 0 };
	AUTO_JSON json_t *filters = filters_json(arg_list(args, "filter"));
	if (args->count == 1)
		json_object_set_new(filters, "reference", json_pack("{s:b}", args->operands[0], 1));
	url_path(&path, "/images/json");
	url_flag(&path, "all", arg_bool(args, "all"));
	url_flag(&path, "shared-size", strstr(format, "SharedSize") || strstr(format, "UniqueSize"));
	url_filters_json(&path, filters);
	return api_get(cli, path.data, err);
}

#define TABLE_END "{{.ID}}\t{{if .CreatedSince}}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}"

int command_images(struct cli *cli, struct args *args, struct gt_error *err)
{
	const char *format = arg_string(args, "format");
	bool quiet = arg_bool(args, "quiet");
	if (!*format && !quiet)
		format = js(config_load(cli, NULL), "imagesFormat");
	struct naming naming = { .digests = arg_bool(args, "digests") || strstr(format, ".Digest"), .err = err };
	struct list list = {
		.columns = columns,
		.table = arg_bool(args, "digests") ? "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t" TABLE_END
						   : "{{.Repository}}\t{{.Tag}}\t" TABLE_END,
		.quiet = "{{.ID}}",
		.no_trunc = arg_bool(args, "no-trunc"),
	};
	naming.printer = printer_new(&list, format, quiet, err);
	AUTO_JSON json_t *images = naming.printer ? image_list(cli, args, format, err) : NULL;
	int done = images ? 0 : -1;
	for (size_t i = 0; done == 0 && i < json_array_size(images); i++) {
		naming.image = json_array_get(images, i);
		done = add_image(&naming);
	}
	if (done == 0)
		done = printer_end(naming.printer, err);
	printer_free(naming.printer);
	return done;
}

/* ---- history ---- */

static char *layer_text(const struct row *row) { return short_id(js(row->item, "Id"), row->list->no_trunc); }
static char *comment_text(const struct row *row) { return gt_xstrdup(js(row->item, "Comment")); }

static bool history_human(const struct row *row)
{
	return !row->extra || *(const bool *)row->extra;
}

static char *by_text(const struct row *row)
{
	AUTO_FREE char *text = gt_xstrdup(js(row->item, "CreatedBy"));
	for (char *p = text; *p; p++) {
		if (*p == '\t' || *p == '\n')
			*p = ' ';
	}
	return ellipsis(text, row->list->no_trunc ? INT64_MAX : 45);
}

static char *history_created_text(const struct row *row)
{
	char text[36];
	gt_time_format_fixed(ji(row->item, "Created") * GT_SECOND, text);
	return gt_xasprintf("%.19sZ", text);
}

static char *history_since_text(const struct row *row)
{
	if (!history_human(row))
		return history_created_text(row);
	return ji(row->item, "Created") > 0 ? human_ago(ji(row->item, "Created")) : gt_xstrdup("N/A");
}

static char *history_size_text(const struct row *row)
{
	return history_human(row) ? human_size(jd(row->item, "Size"), 3)
				  : gt_xasprintf("%lld", (long long)ji(row->item, "Size"));
}

static const struct column history_columns[] = {
	{ "Comment", "COMMENT", comment_text },       { "CreatedAt", "CREATED AT", history_created_text },
	{ "CreatedBy", "CREATED BY", by_text },       { "CreatedSince", "CREATED", history_since_text },
	{ "ID", "IMAGE", layer_text },                { "Size", "SIZE", history_size_text },
	{ NULL, NULL, NULL },
};

int command_history(struct cli *cli, struct args *args, struct gt_error *err)
{
	bool human = arg_bool(args, "human");
	static const char table[] = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
	static const char exact[] = "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
	struct list list = { .columns = history_columns, .quiet = "{{.ID}}", .no_trunc = arg_bool(args, "no-trunc"),
			     .table = human ? table : exact };
	AUTO_BUF struct gt_buf path = { 0 };
	url_image(&path, "/images/", args->operands[0], "/history");
	if (url_platform(&path, arg_string(args, "platform"), err) < 0)
		return -1;
	AUTO_JSON json_t *layers = api_get(cli, path.data, err);
	struct printer *printer =
		layers ? printer_new(&list, arg_string(args, "format"), arg_bool(args, "quiet"), err) : NULL;
	int done = printer ? 0 : -1;
	for (size_t i = 0; done == 0 && i < json_array_size(layers); i++)
		done = printer_add(printer, json_array_get(layers, i), &human, err);
	if (done == 0)
		done = printer_end(printer, err);
	printer_free(printer);
	return done;
}

/* ---- tag, remove, prune ---- */

int command_tag(struct cli *cli, struct args *args, struct gt_error *err)
{
	AUTO_FREE char *name = NULL, *tag = NULL;
	AUTO_BUF struct gt_buf path = { 0 };
	if (strchr(args->operands[1], '@'))
		return gt_fail(err, GT_INVALID, "refusing to create a tag with a digest reference");
	split_reference(args->operands[1], &name, &tag);
	url_image(&path, "/images/", args->operands[0], "/tag");
	url_param(&path, "repo", name);
	url_text(&path, "tag", tag);
	return api_call(cli, "POST", path.data, NULL, NULL, err);
}

static int remove_image(struct cli *cli, const char *name, void *arg, struct gt_error *err)
{
	const struct args *args = arg;
	AUTO_BUF struct gt_buf path = { 0 };
	AUTO_JSON json_t *answer = NULL;
	size_t i;
	json_t *item;
	url_image(&path, "/images/", name, "");
	url_flag(&path, "force", arg_bool(args, "force"));
	url_flag(&path, "noprune", arg_bool(args, "no-prune"));
	if (api_call(cli, "DELETE", path.data, NULL, &answer, err) < 0) {
		if (err->kind != GT_NOT_FOUND || !arg_bool(args, "force"))
			return -1;
		cli_print_error(cli, err);
		return 0;
	}
	json_array_foreach(answer, i, item)
	{
		if (*js(item, "Deleted"))
			printf("Deleted: %s\n", js(item, "Deleted"));
		else
			printf("Untagged: %s\n", js(item, "Untagged"));
	}
	return 0;
}

int command_rmi(struct cli *cli, struct args *args, struct gt_error *err)
{
	(void)err;
	return cli_for_each(cli, args, false, remove_image, args);
}

void print_deleted_images(const json_t *deleted)
{
	size_t i;
	json_t *item;
	if (json_array_size(deleted) > 0)
		puts("Deleted Images:");
	json_array_foreach(deleted, i, item)
	{
		bool untagged = *js(item, "Untagged");
		printf("%s: %s\n", untagged ? "untagged" : "deleted", js(item, untagged ? "Untagged" : "Deleted"));
	}
	if (i > 0)
		putchar('\n');
}

int command_image_prune(struct cli *cli, struct args *args, struct gt_error *err)
{
	bool all = arg_bool(args, "all");
	if (!arg_bool(args, "force") &&
	    !cli_confirm(all ? "WARNING! This will remove all images without at least one container associated to them.\n"
			       "Are you sure you want to continue?"
			     : "WARNING! This will remove all dangling images.\nAre you sure you want to continue?"))
		return gt_fail(err, GT_CANCELLED, "image prune has been cancelled");
	AUTO_BUF struct gt_buf path = { 0 };
	AUTO_JSON json_t *answer = NULL;
	AUTO_JSON json_t *filters = filters_json(arg_list(args, "filter"));
	json_object_set_new(filters, "dangling", json_pack("{s:b}", all ? "false" : "true", 1));
	url_path(&path, "/images/prune");
	url_filters_json(&path, filters);
	if (api_call(cli, "POST", path.data, NULL, &answer, err) < 0)
		return -1;
	print_deleted_images(jo(answer, "ImagesDeleted"));
	return print_reclaimed(answer);
}

/* ---- pull and push ---- */

static int add_auth(struct cli *cli, const char *reference, struct gt_strings *headers, struct gt_error *err)
{
	gt_error_clear(err);
	AUTO_FREE char *auth = credentials_header(cli, reference, err);
	if (!auth)
		return err && err->kind ? -1 : 0;
	AUTO_FREE char *line = gt_xasprintf("X-Registry-Auth: %s", auth);
	gt_strings_add(headers, line);
	return 0;
}

static int transfer(struct cli *cli, const char *path, const char *reference, bool quiet, FILE *out, struct gt_error *err)
{
	struct gt_strings headers = { 0 };
	struct http_request request = { .method = "POST", .path = path, .headers = &headers };
	struct http_response *response = NULL;
	if (add_auth(cli, reference, &headers, err) == 0)
		response = api_open(cli, &request, err);
	int done = response ? progress_show(response, out, quiet, NULL, err) : -1;
	http_close(response);
	gt_strings_free(&headers);
	return done;
}

int pull_image(struct cli *cli, const char *reference, const char *platform, bool all_tags, bool quiet, FILE *out,
	       struct gt_error *err)
{
	AUTO_FREE char *name = NULL, *tag = NULL;
	AUTO_BUF struct gt_buf path = { 0 };
	split_reference(reference, &name, &tag);
	if (all_tags && tag)
		return gt_fail(err, GT_INVALID, "tag can't be used with --all-tags/-a");
	url_path(&path, "/images/create");
	url_param(&path, "fromImage", name);
	if (!all_tags)
		url_param(&path, "tag", tag ? tag : "latest");
	url_text(&path, "platform", platform);
	return transfer(cli, path.data, reference, quiet, out, err);
}

int command_pull(struct cli *cli, struct args *args, struct gt_error *err)
{
	const char *reference = args->operands[0];
	bool all = arg_bool(args, "all-tags"), quiet = arg_bool(args, "quiet");
	AUTO_FREE char *name = NULL, *tag = NULL;
	split_reference(reference, &name, &tag);
	if (!tag && !all && !quiet)
		puts("Using default tag: latest");
	if (pull_image(cli, reference, arg_string(args, "platform"), all, quiet, stdout, err) < 0)
		return -1;
	const char *host = strchr(name, '/');
	AUTO_FREE char *first = host ? gt_xstrndup(name, (size_t)(host - name)) : gt_xstrdup("");
	const char *before = strpbrk(first, ".:") || strcmp(first, "localhost") == 0 ? ""
			     : host						     ? "docker.io/"
										     : "docker.io/library/";
	printf("%s%s%s%s\n", before, name, strchr(reference, '@') ? "@" : ":", tag ? tag : "latest");
	return 0;
}

int push_image(struct cli *cli, const char *reference, const char *platform, bool all, bool quiet, struct gt_error *err)
{
	AUTO_FREE char *name = NULL, *tag = NULL;
	AUTO_BUF struct gt_buf path = { 0 };
	split_reference(reference, &name, &tag);
	if (all && tag)
		return gt_fail(err, GT_INVALID, "tag can't be used with --all-tags/-a");
	if (!tag && !all && !quiet)
		puts("Using default tag: latest");
	url_image(&path, "/images/", name, "/push");
	if (!all)
		url_param(&path, "tag", tag ? tag : "latest");
	if (url_platform(&path, platform, err) < 0)
		return -1;
	/* The daemon wants the header even where there are no credentials. */
	struct gt_strings headers = { 0 };
	int done = add_auth(cli, reference, &headers, err);
	if (done == 0 && headers.count == 0)
		gt_strings_add(&headers, "X-Registry-Auth: e30=");
	struct http_request request = { .method = "POST", .path = path.data, .headers = &headers };
	struct http_response *response = done == 0 ? api_open(cli, &request, err) : NULL;
	done = response ? progress_show(response, stdout, quiet, NULL, err) : -1;
	http_close(response);
	gt_strings_free(&headers);
	return done;
}

int command_push(struct cli *cli, struct args *args, struct gt_error *err)
{
	bool quiet = arg_bool(args, "quiet");
	int done = push_image(cli, args->operands[0], arg_string(args, "platform"), arg_bool(args, "all-tags"), quiet, err);
	if (done == 0 && quiet)
		puts(args->operands[0]);
	return done;
}

/* ---- archives ---- */

int command_save(struct cli *cli, struct args *args, struct gt_error *err)
{
	AUTO_BUF struct gt_buf url = { 0 };
	if (args->count == 1) {
		url_image(&url, "/images/", args->operands[0], "/get");
	} else {
		url_path(&url, "/images/get");
		for (int i = 0; i < args->count; i++)
			url_param(&url, "names", args->operands[i]);
	}
	if (url_platform(&url, arg_string(args, "platform"), err) < 0)
		return -1;
	return output_download(cli, url.data, arg_string(args, "output"), "save", err);
}

struct file_source {
	int fd;
	char bytes[128 << 10];
};

static ssize_t read_source(void *arg, const char **bytes, struct gt_error *err)
{
	struct file_source *source = arg;
	ssize_t got;
	do
		got = read(source->fd, source->bytes, sizeof source->bytes);
	while (got < 0 && errno == EINTR);
	*bytes = source->bytes;
	return got < 0 ? gt_fail_errno(err, errno, "cannot read the archive") : got;
}

static int upload(struct cli *cli, const char *url, int fd, FILE *out, bool quiet, struct gt_error *err)
{
	struct file_source *source = gt_xmalloc(sizeof *source);
	source->fd = fd;
	struct http_request request = { .method = "POST", .path = url, .source = read_source, .source_arg = source };
	struct http_response *response = api_open(cli, &request, err);
	int done = response ? progress_show(response, out, quiet, NULL, err) : -1;
	http_close(response);
	free(source);
	return done;
}

int command_load(struct cli *cli, struct args *args, struct gt_error *err)
{
	const char *input = arg_string(args, "input");
	AUTO_CLOSE int opened = -1;
	AUTO_BUF struct gt_buf url = { 0 };
	if (*input && strcmp(input, "-") != 0) {
		opened = open(input, O_RDONLY | O_CLOEXEC);
		if (opened < 0)
			return gt_fail_errno(err, errno, "cannot open %s", input);
	} else if (isatty(0)) {
		return gt_fail(err, GT_INVALID, "requested load from stdin, but stdin is empty");
	}
	bool quiet = arg_bool(args, "quiet");
	url_path(&url, "/images/load");
	url_param(&url, "quiet", quiet || !isatty(1) ? "1" : "0");
	if (url_platform(&url, arg_string(args, "platform"), err) < 0)
		return -1;
	return upload(cli, url.data, opened >= 0 ? opened : 0, stdout, false, err);
}

int command_import(struct cli *cli, struct args *args, struct gt_error *err)
{
	const char *source = args->operands[0];
	const struct gt_strings *changes = arg_list(args, "change");
	bool remote = strncmp(source, "http://", 7) == 0 || strncmp(source, "https://", 8) == 0;
	AUTO_FREE char *name = NULL, *tag = NULL;
	AUTO_CLOSE int opened = -1;
	AUTO_BUF struct gt_buf url = { 0 };
	url_path(&url, "/images/create");
	url_param(&url, "fromSrc", remote ? source : "-");
	if (args->count > 1) {
		split_reference(args->operands[1], &name, &tag);
		url_param(&url, "repo", name);
		url_text(&url, "tag", tag);
	}
	url_text(&url, "message", arg_string(args, "message"));
	url_text(&url, "platform", arg_string(args, "platform"));
	for (size_t i = 0; i < changes->count; i++)
		url_param(&url, "changes", changes->items[i]);
	if (remote) {
		struct http_request request = { .method = "POST", .path = url.data };
		AUTO_RESPONSE struct http_response *response = api_open(cli, &request, err);
		return response ? progress_show(response, stdout, false, NULL, err) : -1;
	}
	if (strcmp(source, "-") != 0) {
		opened = open(source, O_RDONLY | O_CLOEXEC);
		if (opened < 0)
			return gt_fail_errno(err, errno, "cannot open %s", source);
	}
	return upload(cli, url.data, opened >= 0 ? opened : 0, stdout, false, err);
}
