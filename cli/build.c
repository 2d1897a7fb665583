/*
 * build.c - `gantry build`: the context as a tar stream to the daemon, its messages back; `gantry builder prune`.
 */
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "api.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/ignore.h"
#include "build_output.h"
#include "build_session.h"
#include "container.h"
#include "other.h"
#include "progress.h"
#include "spec.h"
#include "tar.h"

struct context {
	struct ignore ignore;
	char dockerfile[PATH_MAX];      /* its name in the context */
	struct tar_source *source;
	struct gt_buf peeked;           /* standard input: what was read to see what it is */
	bool peeked_sent, compress;
	char bytes[64 << 10];
};

struct build {
	struct context *context;
	const char *remote;             /* URL instead of a context; "" */
	struct build_output output;
	struct build_session *session;
	struct gt_strings tags;
};

/* ---- the query ---- */

static void add_json(struct gt_buf *url, const char *name, json_t *value)
{
	AUTO_JSON json_t *owned = value;
	AUTO_FREE char *text = value ? json_dumps(owned, JSON_COMPACT) : NULL;
	url_text(url, name, text);
}

/* "A=1", or "A" for the caller's value. */
static json_t *build_args(const struct gt_strings *list)
{
	json_t *all = json_object();
	for (size_t i = 0; i < list->count; i++) {
		const char *text = list->items[i];
		size_t len = strcspn(text, "=");
		AUTO_FREE char *name = gt_xstrndup(text, len);
		const char *value = text[len] ? text + len + 1 : getenv(name);
		json_object_set_new(all, name, value ? json_string(value) : json_null());
	}
	return all;
}

static int add_limits(struct gt_buf *url, const struct args *args, struct gt_error *err)
{
	static const struct {
		const char *flag, *param;
	} numbers[] = {
		{ "memory", "memory" }, { "memory-swap", "memswap" }, { "cpu-shares", "cpushares" }, { "cpu-period", "cpuperiod" },
		{ "cpu-quota", "cpuquota" }, { "shm-size", "shmsize" },
	}, texts[] = {
		{ "cpuset-cpus", "cpusetcpus" }, { "cpuset-mems", "cpusetmems" }, { "cgroup-parent", "cgroupparent" },
		{ "network", "networkmode" }, { "target", "target" }, { "platform", "platform" },
	};
	for (size_t i = 0; i < GT_COUNT(numbers); i++) {
		if (arg_given(args, numbers[i].flag))
			url_int(url, numbers[i].param, arg_int(args, numbers[i].flag));
	}
	for (size_t i = 0; i < GT_COUNT(texts); i++)
		url_text(url, texts[i].param, arg_string(args, texts[i].flag));
	const struct gt_strings *ulimits = arg_list(args, "ulimit"), *hosts = arg_list(args, "add-host");
	AUTO_JSON json_t *limits = json_array();
	AUTO_JSON json_t *extra = json_array();
	for (size_t i = 0; i < ulimits->count; i++) {
		json_t *limit = spec_ulimit(ulimits->items[i], err);
		if (!limit)
			return -1;
		json_array_append_new(limits, limit);
	}
	for (size_t i = 0; i < hosts->count; i++) {
		if (spec_add_host(hosts->items[i], extra, err) < 0)
			return -1;
		url_param(url, "extrahosts", jv(json_array_get(extra, i)));
	}
	if (json_array_size(limits) > 0)
		add_json(url, "ulimits", json_incref(limits));
	return 0;
}

static int build_url(struct gt_buf *url, const struct args *args, const struct build *build, struct gt_error *err)
{
	url_path(url, "/build");
	for (size_t i = 0; i < build->tags.count; i++)
		url_param(url, "t", build->tags.items[i]);
	url_text(url, "dockerfile", build->context->dockerfile);
	url_text(url, "remote", build->remote);
	url_text(url, "gantry-session", build_session_id(build->session));
	url_flag(url, "gantry-cache-only", build_output_is_files(&build->output));
	url_flag(url, "squash", arg_bool(args, "squash"));
	url_flag(url, "q", arg_bool(args, "quiet"));
	url_flag(url, "nocache", arg_bool(args, "no-cache"));
	url_flag(url, "pull", arg_bool(args, "pull"));
	url_param(url, "rm", arg_bool(args, "rm") ? "1" : "0");
	url_flag(url, "forcerm", arg_bool(args, "force-rm"));
	if (arg_list(args, "build-arg")->count > 0)
		add_json(url, "buildargs", build_args(arg_list(args, "build-arg")));
	add_json(url, "labels", jmap(arg_list(args, "label")));
	add_json(url, "cachefrom", jlist(arg_list(args, "cache-from")));
	url_param(url, "version", "1");
	return add_limits(url, args, err);
}

/* ---- the context ---- */

static bool keep(void *arg, const char *path, bool directory, bool *descend)
{
	const struct context *context = arg;
	size_t own = strlen(context->dockerfile);
	if (strcmp(path, context->dockerfile) == 0 || strcmp(path, ".dockerignore") == 0 ||
	    (own && strncmp(path, context->dockerfile, own) == 0 && strcmp(path + own, ".dockerignore") == 0))
		return true;
	if (!ignore_matches(&context->ignore, path))
		return true;
	/* A directory that is left out is looked into where a later line may take something back, or for the Dockerfile. */
	size_t len = strlen(path);
	*descend = directory && (context->ignore.exceptions ||
				 (strncmp(context->dockerfile, path, len) == 0 && context->dockerfile[len] == '/'));
	return false;
}

static int new_source(struct context *context, const char *path, tar_filter *filter, struct gt_error *err)
{
	context->source = tar_source_new(path, ".", filter, context, err);
	if (context->source && context->compress)
		tar_source_gzip(context->source);
	return context->source ? 0 : -1;
}

/* The Dockerfile lies elsewhere: it travels beside the context under a name of its own. */
static int add_foreign_dockerfile(struct context *context, int fd, bool own_ignore, struct gt_error *err)
{
	char id[GT_ID_LEN + 1];
	AUTO_BUF struct gt_buf text = { 0 };
	ssize_t got;
	while ((got = read(fd, context->bytes, sizeof context->bytes)) > 0 && text.len < 16 << 20)
		gt_buf_add(&text, context->bytes, (size_t)got);
	if (got < 0)
		return gt_fail_errno(err, errno, "cannot read the Dockerfile");
	gt_id_new(id);
	snprintf(context->dockerfile, sizeof context->dockerfile, ".dockerfile.%.20s", id);
	if (tar_source_add(context->source, context->dockerfile, text.data ? text.data : "", text.len, err) < 0)
		return -1;
	/* what it ignores has been left out already: to the daemon its list is empty, and no other counts */
	AUTO_FREE char *ignore = gt_xasprintf("%s.dockerignore", context->dockerfile);
	return own_ignore ? tar_source_add(context->source, ignore, "", 0, err) : 0;
}

static int open_directory_context(struct context *context, const char *path, const char *file, struct gt_error *err)
{
	char root[PATH_MAX], real[PATH_MAX];
	AUTO_CLOSE int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_CLOSE int foreign = -1;
	if (dir < 0 || !realpath(path, root))
		return gt_fail_errno(err, errno, "cannot open the build context %s", path);
	bool from_stdin = strcmp(file, "-") == 0;
	AUTO_FREE char *wanted = *file ? gt_xstrdup(file) : gt_xasprintf("%s/Dockerfile", root);
	if (!from_stdin && !realpath(wanted, real))
		return gt_fail_errno(err, errno, "cannot open the Dockerfile %s", wanted);
	size_t len = strcmp(root, "/") == 0 ? 0 : strlen(root);
	if (!from_stdin && strncmp(real, root, len) == 0 && real[len] == '/')
		snprintf(context->dockerfile, sizeof context->dockerfile, "%s", real + len + 1);
	else
		foreign = from_stdin ? fcntl(0, F_DUPFD_CLOEXEC, 3) : open(real, O_RDONLY | O_CLOEXEC);
	if (!context->dockerfile[0] && foreign < 0)
		return gt_fail_errno(err, errno, "cannot open the Dockerfile %s", file);
	AUTO_FREE char *own = from_stdin ? NULL : gt_xasprintf("%s.dockerignore", real);
	int ignored = own && access(own, F_OK) == 0 ? ignore_read(&context->ignore, AT_FDCWD, own, err) :
						      ignore_read(&context->ignore, dir, ".dockerignore", err);
	if (ignored < 0)
		return -1;
	if (new_source(context, root, keep, err) < 0)
		return -1;
	tar_source_anonymous(context->source);
	return foreign >= 0 ? add_foreign_dockerfile(context, foreign, own && access(own, F_OK) == 0, err) : 0;
}

static bool looks_like_archive(const struct gt_buf *head)
{
	static const struct {
		size_t at, len;
		const char *magic;
	} kinds[] = { { 257, 5, "ustar" },
		      { 0, 2, "\x1f\x8b" },
		      { 0, 3, "BZh" },
		      { 0, 5,
			"\xfd"
			"7zXZ" },
		      { 0, 4, "\x28\xb5\x2f\xfd" } };
	for (size_t i = 0; i < GT_COUNT(kinds); i++) {
		if (head->len >= kinds[i].at + kinds[i].len &&
		    memcmp(head->data + kinds[i].at, kinds[i].magic, kinds[i].len) == 0)
			return true;
	}
	return false;
}

static ssize_t read_stdin(void *arg, const char **bytes, struct gt_error *err)
{
	struct context *context = arg;
	if (!context->peeked_sent) {
		context->peeked_sent = true;
		*bytes = context->peeked.data;
		return (ssize_t)context->peeked.len;
	}
	ssize_t got = gt_read_full(0, context->bytes, sizeof context->bytes);
	*bytes = context->bytes;
	return got < 0 ? gt_fail_errno(err, errno, "cannot read standard input") : got;
}

/* An archive, or a Dockerfile without a context. */
static int open_stdin_context(struct context *context, const char *file, struct gt_error *err)
{
	if (strcmp(file, "-") == 0)
		return gt_fail(err, GT_INVALID, "invalid argument: can't use stdin for both build context and dockerfile");
	ssize_t got = gt_read_full(0, context->bytes, 1024);
	if (got <= 0)
		return got < 0 ? gt_fail_errno(err, errno, "cannot read standard input")
			       : gt_fail(err, GT_INVALID, "standard input is empty");
	gt_buf_add(&context->peeked, context->bytes, (size_t)got);
	if (looks_like_archive(&context->peeked)) {
		snprintf(context->dockerfile, sizeof context->dockerfile, "%s", *file ? file : "Dockerfile");
		return 0;
	}
	if (*file)
		return gt_fail(err, GT_INVALID, "--file has no meaning where standard input is a Dockerfile");
	while ((got = gt_read_full(0, context->bytes, sizeof context->bytes)) > 0 && context->peeked.len < 16 << 20)
		gt_buf_add(&context->peeked, context->bytes, (size_t)got);
	snprintf(context->dockerfile, sizeof context->dockerfile, "Dockerfile");
	if (new_source(context, "", NULL, err) < 0)
		return -1;
	return tar_source_add(context->source, "Dockerfile", context->peeked.data, context->peeked.len, err);
}

static bool is_url(const char *text)
{
	static const char *const starts[] = { "http://", "https://", "git://", "git@", "github.com/" };
	for (size_t i = 0; i < GT_COUNT(starts); i++) {
		if (strncmp(text, starts[i], strlen(starts[i])) == 0)
			return true;
	}
	return false;
}

/* ---- the command ---- */

static int write_iid(const char *file, const char *id, struct gt_error *err)
{
	AUTO_CLOSE int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0 || gt_write_full(fd, id, strlen(id)) < 0)
		return gt_fail_errno(err, errno, "cannot write %s", file);
	return 0;
}

static int finish(struct cli *cli, const struct args *args, const struct build *build, const json_t *aux, struct gt_error *err)
{
	const char *id = js(aux, "ID"), *file = arg_string(args, "iidfile");
	if (!*id)
		return gt_fail(err, GT_INTERNAL, "the daemon did not tell the image's ID");
	if (arg_bool(args, "quiet") && !build_output_to_stdout(&build->output))
		puts(id);
	if (*file && write_iid(file, id, err) < 0)
		return -1;
	return build_output_write(cli, &build->output, id, &build->tags, err);
}

static int send_build(struct cli *cli, const struct args *args, struct build *build, struct gt_error *err)
{
	struct context *context = build->context;
	AUTO_BUF struct gt_buf url = { 0 };
	AUTO_JSON json_t *aux = NULL;
	struct gt_strings headers = { 0 };
	if (build_url(&url, args, build, err) < 0)
		return -1;
	AUTO_FREE char *auths = credentials_all_header(cli, NULL);
	AUTO_FREE char *line = auths ? gt_xasprintf("X-Registry-Config: %s", auths) : NULL;
	if (line)
		gt_strings_add(&headers, line);
	struct http_request request = { .method = "POST", .path = url.data, .headers = &headers };
	if (!*build->remote) {
		request.source = context->source ? tar_source_read : read_stdin;
		request.source_arg = context->source ? (void *)context->source : (void *)context;
	}
	AUTO_RESPONSE struct http_response *response = api_open(cli, &request, err);
	gt_strings_free(&headers);
	if (!response)
		return -1;
	FILE *out = build_output_to_stdout(&build->output) ? stderr : stdout;
	if (progress_show(response, out, arg_bool(args, "quiet"), &aux, err) < 0) {
		int64_t code = ji(aux, "code"); /* of a RUN that failed */
		if (code > 0 && code < 256)
			cli->failure_status = (int)code;
		return -1;
	}
	return finish(cli, args, build, aux, err);
}

/* --tag, and --output's name=. */
static void collect_tags(const struct args *args, struct build *build)
{
	const struct gt_strings *given = arg_list(args, "tag");
	for (size_t i = 0; i < given->count; i++)
		gt_strings_add(&build->tags, given->items[i]);
	if (build->output.name)
		args_split_csv(build->output.name, &build->tags);
}

static int open_context(struct build *build, const char *where, const char *file, struct gt_error *err)
{
	struct context *context = build->context;
	build->remote = is_url(where) ? where : "";
	if (*build->remote) {
		snprintf(context->dockerfile, sizeof context->dockerfile, "%s", file);
		return 0;
	}
	return strcmp(where, "-") == 0 ? open_stdin_context(context, file, err) : open_directory_context(context, where, file, err);
}

int command_build(struct cli *cli, struct args *args, struct gt_error *err)
{
	struct build build = { .context = gt_xcalloc(1, sizeof *build.context) };
	build.context->compress = arg_bool(args, "compress");
	int done = build_output_read(args, &build.output, err);
	if (done == 0)
		done = open_context(&build, args->operands[0], arg_string(args, "file"), err);
	if (done == 0)
		done = build_session_open(cli, args, &build.session, err);
	collect_tags(args, &build);
	if (done == 0)
		done = send_build(cli, args, &build, err);
	build_session_close(build.session);
	build_output_free(&build.output);
	gt_strings_free(&build.tags);
	tar_source_free(build.context->source);
	ignore_free(&build.context->ignore);
	gt_buf_free(&build.context->peeked);
	free(build.context);
	return done;
}

/* ---- the cache ---- */

int prune_build_cache(struct cli *cli, bool all, const struct gt_strings *filters, json_t **answer, struct gt_error *err)
{
	AUTO_BUF struct gt_buf url = { 0 };
	url_path(&url, "/build/prune");
	url_flag(&url, "all", all);
	url_filters(&url, filters);
	return api_call(cli, "POST", url.data, NULL, answer, err);
}

int command_builder_prune(struct cli *cli, struct args *args, struct gt_error *err)
{
	bool all = arg_bool(args, "all");
	if (!arg_bool(args, "force") &&
	    !cli_confirm(all ? "WARNING! This will remove all build cache. Are you sure you want to continue?"
			     : "WARNING! This will remove all dangling build cache. Are you sure you want to continue?"))
		return gt_fail(err, GT_CANCELLED, "builder prune has been cancelled");
	AUTO_BUF struct gt_buf url = { 0 };
	AUTO_JSON json_t *answer = NULL;
	url_path(&url, "/build/prune");
	url_flag(&url, "all", all);
	if (arg_given(args, "keep-storage"))
		url_int(&url, "keep-storage", arg_int(args, "keep-storage"));
	url_filters(&url, arg_list(args, "filter"));
	if (api_call(cli, "POST", url.data, NULL, &answer, err) < 0)
		return -1;
	print_deleted("Deleted build cache objects:", jo(answer, "CachesDeleted"));
	return print_reclaimed(answer);
}
