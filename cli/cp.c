/*
 * cp.c - `gantry cp`: files between a container and here, by tar streams.
 *
 * Where things land follows cp(1): into an existing directory under their own name; as the destination's name where
 * that does not exist; "DIR/." means the contents of DIR; a trailing slash says "this must be a directory".
 */
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "api.h"
#include "base/base64.h"
#include "container.h"
#include "humanize.h"
#include "tar.h"

#define GO_MODE_DIR (1LL << 31)
#define GO_MODE_LINK (1LL << 27)

/* "web:/etc/x" -> container "web", path "/etc/x". A local path has no colon, or begins with "/" or ".". */
static bool split_operand(const char *text, char **container, const char **path)
{
	const char *colon = strchr(text, ':');
	*container = NULL;
	*path = text;
	if (!colon || *text == '/' || *text == '.' || colon == text)
		return false;
	*container = gt_xstrndup(text, (size_t)(colon - text));
	*path = colon + 1;
	return true;
}

static bool ends_with_slash(const char *path)
{
	size_t len = strlen(path);
	return len > 0 && path[len - 1] == '/';
}

/* "dir/." or ".": the contents. */
static bool means_contents(const char *path)
{
	size_t len = strlen(path);
	return strcmp(path, ".") == 0 || (len >= 2 && strcmp(path + len - 2, "/.") == 0);
}

/* Splits off the last part, without trailing slashes: "/a/b/" -> "/a", "b". */
static void split_path(const char *path, char **dir, char **base)
{
	size_t end = strlen(path);
	while (end > 1 && path[end - 1] == '/')
		end--;
	size_t from = end;
	while (from > 0 && path[from - 1] != '/')
		from--;
	*base = gt_xstrndup(path + from, end - from);
	size_t dir_end = from;
	while (dir_end > 1 && path[dir_end - 1] == '/')
		dir_end--;
	*dir = from == 0 ? gt_xstrdup(".") : gt_xstrndup(path, dir_end ? dir_end : 1);
}

static char *archive_url(const char *container, const char *path)
{
	struct gt_buf url = { 0 };
	url_path(&url, "/containers/", container, "/archive");
	url_param(&url, "path", *path ? path : "/");
	return gt_buf_take(&url);
}

static json_t *stat_of(struct http_response *response, struct gt_error *err)
{
	const char *header = http_header(response, "X-Docker-Container-Path-Stat");
	AUTO_BUF struct gt_buf text = { 0 };
	if (!header || gt_base64_decode(header, &text) < 0 || text.len == 0)
		return gt_fail_null(err, GT_INTERNAL, "the daemon did not say what kind of file it is");
	return gt_json_parse(text.data, text.len, "the daemon's description of the file", err);
}

/* The stat of a path in a container. A HEAD's error has no body: the words are made here. */
static json_t *stat_in(struct cli *cli, const char *container, const char *path, struct gt_error *err)
{
	AUTO_FREE char *url = archive_url(container, path);
	struct http_request request = { .method = "HEAD", .path = url };
	AUTO_RESPONSE struct http_response *response = http_send(cli->http, &request, err);
	if (!response)
		return NULL;
	if (http_status(response) == 404)
		return gt_fail_null(err, GT_NOT_FOUND, DAEMON_SAYS "Could not find the file %s in container %s", path,
				    container);
	if (http_status(response) >= 400)
		return gt_fail_null(err, GT_INTERNAL, DAEMON_SAYS "status %d for %s in container %s",
				    http_status(response), path, container);
	return stat_of(response, err);
}

/* Where the link at path leads, as a path in the container. */
static char *link_target(const char *path, const json_t *stat)
{
	const char *target = js(stat, "linkTarget");
	if (*target == '/')
		return gt_xstrdup(target);
	AUTO_FREE char *dir = NULL, *base = NULL;
	split_path(path, &dir, &base);
	return gt_xasprintf("%s/%s", dir, target);
}

static bool is_link(const json_t *stat)
{
	return (ji(stat, "mode") & GO_MODE_LINK) != 0;
}

static bool is_dir(const json_t *stat)
{
	return (ji(stat, "mode") & GO_MODE_DIR) != 0;
}

static void say_copied(const struct args *args, int64_t bytes, const char *to)
{
	if (arg_bool(args, "quiet") || !isatty(2))
		return;
	AUTO_FREE char *size = human_size((double)bytes, 3);
	fprintf(stderr, "Successfully copied %s to %s\n", size, to);
}

/* ---- out of a container ---- */

/* Decides where the archive goes: target->dirfd and target->rename (kept in *name). */
static int local_target(const char *to, bool source_is_dir, struct tar_target *target, char **name, struct gt_error *err)
{
	struct stat st;
	bool exists = stat(to, &st) == 0, into_dir = exists && S_ISDIR(st.st_mode);
	if (exists && !into_dir && (source_is_dir || ends_with_slash(to)))
		return gt_fail(err, GT_CONFLICT,
			       source_is_dir ? "cannot copy a directory over the file %s" : "%s is not a directory",
			       to);
	if (!exists && ends_with_slash(to) && !source_is_dir)
		return gt_fail(err, GT_NOT_FOUND, "no such directory: %s", to);
	AUTO_FREE char *dir = NULL, *real = NULL;
	if (into_dir) {
		dir = gt_xstrdup(to);
	} else {
		/* A link to a file is followed: the file behind it is replaced. */
		real = exists ? realpath(to, NULL) : NULL;
		split_path(real ? real : to, &dir, name);
		target->rename = *name;
	}
	target->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (target->dirfd < 0)
		return gt_fail_errno(err, errno, "cannot open the directory %s", dir);
	return 0;
}

static int copy_out(struct cli *cli, const struct args *args, const char *container, const char *from, const char *to,
		    struct gt_error *err)
{
	AUTO_FREE char *resolved = NULL, *name = NULL;
	if (arg_bool(args, "follow-link")) {
		AUTO_JSON json_t *stat = stat_in(cli, container, from, err);
		if (!stat)
			return -1;
		if (is_link(stat))
			resolved = link_target(from, stat);
		if (resolved)
			from = resolved;
	}
	AUTO_FREE char *url = archive_url(container, from);
	struct http_request request = { .method = "GET", .path = url };
	AUTO_RESPONSE struct http_response *response = api_open(cli, &request, err);
	if (!response)
		return -1;
	if (strcmp(to, "-") == 0) {
		if (isatty(1))
			return gt_fail(err, GT_INVALID,
				       "cowardly refusing to write an archive to a terminal: redirect the output");
		return api_copy_body(response, 1, err);
	}
	AUTO_JSON json_t *stat = stat_of(response, err);
	if (!stat)
		return -1;
	struct tar_target target = { .dirfd = -1, .keep_owner = arg_bool(args, "archive") };
	target.has_base = !means_contents(from) && strcmp(from, "/") != 0 && *from;
	int done = local_target(to, is_dir(stat), &target, &name, err);
	if (done == 0)
		done = tar_extract(response, &target, err);
	if (target.dirfd >= 0)
		close(target.dirfd);
	if (done == 0)
		say_copied(args, target.bytes, to);
	return done;
}

/* ---- into a container ---- */

struct remote {
	char *path;                     /* links followed */
	bool exists, dir;
};

static int look_at_remote(struct cli *cli, const char *container, const char *path, struct remote *remote,
			  struct gt_error *err)
{
	remote->path = gt_xstrdup(*path ? path : "/");
	for (int hops = 0; hops < 40; hops++) {
		AUTO_JSON json_t *stat = stat_in(cli, container, remote->path, err);
		if (!stat) {
			bool missing = err->kind == GT_NOT_FOUND;
			if (missing)
				gt_error_clear(err);
			return missing ? 0 : -1;
		}
		remote->exists = true;
		remote->dir = is_dir(stat);
		if (!is_link(stat))
			return 0;
		remote->exists = false;
		char *next = link_target(remote->path, stat);
		free(remote->path);
		remote->path = next;
	}
	return gt_fail(err, GT_INVALID, "too many links at %s in container %s", path, container);
}

static ssize_t read_stdin(void *arg, const char **bytes, struct gt_error *err)
{
	char *room = arg;
	ssize_t got;
	do
		got = read(0, room, 64 << 10);
	while (got < 0 && errno == EINTR);
	*bytes = room;
	return got < 0 ? gt_fail_errno(err, errno, "cannot read standard input") : got;
}

static int put_archive(struct cli *cli, const struct args *args, const char *container, const char *dir,
		       ssize_t (*source)(void *, const char **, struct gt_error *), void *arg, struct gt_error *err)
{
	AUTO_BUF struct gt_buf url = { 0 };
	AUTO_FREE char *path = archive_url(container, dir);
	gt_buf_str(&url, path);
	url_param(&url, "noOverwriteDirNonDir", "true");
	url_flag(&url, "copyUIDGID", arg_bool(args, "archive"));
	struct http_request request = { .method = "PUT", .path = url.data, .source = source, .source_arg = arg };
	AUTO_RESPONSE struct http_response *response = api_open(cli, &request, err);
	return response ? 0 : -1;
}

static int put_stdin(struct cli *cli, const struct args *args, const char *container, const struct remote *remote,
		     struct gt_error *err)
{
	if (!remote->exists || !remote->dir)
		return gt_fail(err, GT_INVALID, "destination \"%s:%s\" must be a directory", container, remote->path);
	AUTO_FREE char *room = gt_xmalloc(64 << 10);
	return put_archive(cli, args, container, remote->path, read_stdin, room, err);
}

/* Under which name, in which directory of the container, the source arrives. */
static int remote_target(const char *from, const char *to, bool source_is_dir, const struct remote *remote, char **dir,
			 char **name, struct gt_error *err)
{
	AUTO_FREE char *from_dir = NULL, *from_base = NULL;
	split_path(from, &from_dir, &from_base);
	if (remote->exists && remote->dir) {
		*dir = gt_xstrdup(remote->path);
		*name = means_contents(from) || strcmp(from_base, "/") == 0 ? gt_xstrdup(".") : gt_xstrdup(from_base);
		return 0;
	}
	if (remote->exists && (source_is_dir || ends_with_slash(to)))
		return gt_fail(err, GT_CONFLICT,
			       source_is_dir ? "cannot copy a directory over the file %s" : "%s is not a directory",
			       to);
	if (!remote->exists && ends_with_slash(to) && !source_is_dir)
		return gt_fail(err, GT_NOT_FOUND, "no such directory: %s", to);
	split_path(remote->path, dir, name);
	return 0;
}

static int copy_in(struct cli *cli, const struct args *args, const char *from, const char *container, const char *to,
		   struct gt_error *err)
{
	AUTO_FREE char *dir = NULL, *name = NULL, *real = NULL;
	struct remote remote = { 0 };
	struct stat st;
	struct tar_source *source = NULL;
	bool follow = arg_bool(args, "follow-link") || ends_with_slash(from) || means_contents(from);
	if (look_at_remote(cli, container, to, &remote, err) < 0) {
		free(remote.path);
		return -1;
	}
	AUTO_FREE char *owned = remote.path;
	(void)owned;
	if (strcmp(from, "-") == 0)
		return put_stdin(cli, args, container, &remote, err);
	if ((follow ? stat(from, &st) : lstat(from, &st)) < 0)
		return gt_fail_errno(err, errno, "cannot stat %s", from);
	if (remote_target(from, to, S_ISDIR(st.st_mode), &remote, &dir, &name, err) < 0 || !dir)
		return -1;
	real = follow ? realpath(from, NULL) : gt_xstrdup(from);
	source = real ? tar_source_new(real, name, NULL, NULL, err) : NULL;
	if (!source)
		return -1;
	int done = put_archive(cli, args, container, dir, tar_source_read, source, err);
	if (done == 0) {
		AUTO_FREE char *where = gt_xasprintf("%s:%s", container, to);
		say_copied(args, tar_source_size(source), where);
	}
	tar_source_free(source);
	return done;
}

int command_cp(struct cli *cli, struct args *args, struct gt_error *err)
{
	AUTO_FREE char *from_container = NULL, *to_container = NULL;
	const char *from, *to;
	bool out = split_operand(args->operands[0], &from_container, &from);
	bool in = split_operand(args->operands[1], &to_container, &to);
	if (!*args->operands[0] || !*args->operands[1])
		return gt_fail(err, GT_INVALID, "source and destination cannot be empty");
	if (out && in)
		return gt_fail(err, GT_UNSUPPORTED, "copying between containers is not supported");
	if (!out && !in)
		return gt_fail(err, GT_INVALID, "must specify at least one container source");
	if (out)
		return copy_out(cli, args, from_container, from, to, err);
	return copy_in(cli, args, from, to_container, to, err);
}
