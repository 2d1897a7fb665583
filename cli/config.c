/*
 * config.c - the user's config.json, shared with Docker's command line: credentials of registries (credentials.c), formats, detach keys.
 *
 * Read when first wanted; written whole (login, logout). Secrets stay base64 in the file, as Docker keeps them where
 * no credential helper is set; the file is made 0600.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "cli.h"

json_t *config_load(struct cli *cli, struct gt_error *err)
{
	if (cli->config)
		return cli->config;
	AUTO_FREE char *path = gt_xasprintf("%s/config.json", cli->config_dir);
	AUTO_BUF struct gt_buf text = { 0 };
	if (access(path, F_OK) < 0)
		return cli->config = json_object();
	if (gt_read_file(AT_FDCWD, path, 1 << 20, &text, err) < 0)
		return NULL;
	cli->config = gt_json_parse(text.data ? text.data : "", text.len, path, err);
	if (cli->config && !json_is_object(cli->config)) {
		json_decref(cli->config);
		cli->config = NULL;
		return gt_fail_null(err, GT_INVALID, "%s does not hold a JSON object", path);
	}
	return cli->config;
}

int config_save(struct cli *cli, struct gt_error *err)
{
	AUTO_FREE char *text = json_dumps(cli->config, JSON_INDENT(8));
	if (gt_mkdirs(AT_FDCWD, cli->config_dir, 0700, err) < 0)
		return -1;
	AUTO_CLOSE int dir = open(cli->config_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return gt_fail_errno(err, errno, "cannot open %s", cli->config_dir);
	return gt_replace_file(dir, "config.json", text, strlen(text), 0600, true, err);
}

/* The first part of a reference is a registry where it looks like a host: it has a dot, a colon, or is localhost. */
char *registry_of(const char *reference)
{
	const char *slash = strchr(reference, '/');
	if (slash) {
		AUTO_FREE char *host = gt_xstrndup(reference, (size_t)(slash - reference));
		bool is_host = strpbrk(host, ".:") || strcmp(host, "localhost") == 0;
		if (is_host && strcmp(host, "docker.io") != 0 && strcmp(host, "index.docker.io") != 0)
			return take(host);
	}
	return gt_xstrdup("https://index.docker.io/v1/");
}
