/*
 * credentials.c - credentials of registries: in config.json, or kept by a credential helper, as Docker's command line does it.
 *
 * A helper is the program docker-credential-NAME on PATH; NAME is config.json's credHelpers[registry], else its credsStore. It is told
 * one of get, store, erase, list, and speaks JSON on standard input and output.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/base64.h"
#include "base/fd.h"
#include "base/spawn.h"
#include "cli.h"

#define ANSWER_MAX (1u << 20)
#define IDENTITY_USER "<token>"         /* the user name of an identity token */

extern char **environ;

/* ---- helpers ---- */

static const char *helper_of(const json_t *config, const char *server)
{
	const char *own = js(jo(config, "credHelpers"), server);
	return *own ? own : js(config, "credsStore");
}

static char *find_program(const char *name)
{
	const char *path = getenv("PATH");
	for (const char *p = path ? path : "/usr/local/bin:/usr/bin:/bin"; *p;) {
		size_t len = strcspn(p, ":");
		AUTO_FREE char *file = gt_xasprintf("%.*s/%s", (int)len, p, name);
		if (len > 0 && access(file, X_OK) == 0)
			return take(file);
		p += len + (p[len] == ':');
	}
	return NULL;
}

static int read_answer(int fd, struct gt_buf *out, const char *name, struct gt_error *err)
{
	ssize_t got;
	do {
		got = gt_read_full(fd, gt_buf_reserve(out, 4096), 4096);
		if (got < 0)
			return gt_fail_errno(err, errno, "cannot read what %s says", name);
		out->len += (size_t)got;
		out->data[out->len] = '\0';
	} while (got > 0 && out->len < ANSWER_MAX);
	return 0;
}

/* Runs docker-credential-NAME VERB; *out is what it says. Returns its exit status, or -1 with err. */
static int run_helper(const char *helper, const char *verb, const char *input, struct gt_buf *out, struct gt_error *err)
{
	AUTO_FREE char *name = gt_xasprintf("docker-credential-%s", helper);
	AUTO_FREE char *path = strchr(helper, '/') ? NULL : find_program(name);
	int in[2], answer[2], status;
	AUTO_CLOSE int pidfd = -1;
	if (!path)
		return gt_fail(err, GT_UNAVAILABLE, "the credential helper %s, which config.json names, is not on PATH", name);
	if (pipe2(in, O_CLOEXEC) < 0)
		return gt_fail_errno(err, errno, "cannot make a pipe");
	AUTO_CLOSE int in_read = in[0], in_write = in[1];
	if (pipe2(answer, O_CLOEXEC) < 0)
		return gt_fail_errno(err, errno, "cannot make a pipe");
	AUTO_CLOSE int answer_read = answer[0], answer_write = answer[1];
	char *argv[] = { name, (char *)(uintptr_t)verb, NULL };
	int fds[] = { in_read, answer_write, 2 };
	struct gt_spawn how = { .path = path, .argv = argv, .envp = environ, .fds = fds, .nfds = GT_COUNT(fds) };
	if (gt_spawn(&how, NULL, &pidfd, err) < 0)
		return -1;
	close(take_fd(in_read));
	close(take_fd(answer_write));
	gt_write_full(in_write, input, strlen(input)); /* one that does not read it says why */
	close(take_fd(in_write));
	int rc = read_answer(answer_read, out, name, err);
	close(take_fd(answer_read));
	if (gt_reap(pidfd, &status, rc < 0 ? NULL : err) < 0 || rc < 0)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static int helper_failed(const char *helper, const struct gt_buf *said, struct gt_error *err)
{
	size_t len = said->data ? strcspn(said->data, "\r\n") : 0;
	return gt_fail(err, GT_UNAVAILABLE, "docker-credential-%s: %.*s", helper, len ? (int)(len < 300 ? len : 300) : 6,
		       len ? said->data : "failed");
}

static json_t *make(const char *user, const char *secret, const char *server)
{
	json_t *out = json_object();
	bool token = strcmp(user, IDENTITY_USER) == 0;
	if (!token)
		jset_str(out, "username", user);
	jset_str(out, token ? "identitytoken" : "password", secret);
	jset_str(out, "serveraddress", server);
	return out;
}

static int get_from_helper(const char *helper, const char *server, json_t **found, struct gt_error *err)
{
	AUTO_BUF struct gt_buf said = { 0 };
	int status = run_helper(helper, "get", server, &said, err);
	if (status < 0)
		return -1;
	if (status != 0)
		return said.data && strstr(said.data, "credentials not found") ? 0 : helper_failed(helper, &said, err);
	AUTO_JSON json_t *answer = gt_json_parse(said.data ? said.data : "", said.len, "the credential helper's answer", err);
	if (!answer)
		return -1;
	*found = make(js(answer, "Username"), js(answer, "Secret"), server);
	return 0;
}

/* ---- config.json ---- */

/* {"auth": base64 of "user:password", "identitytoken": ...} as {"username", "password", "serveraddress", ...}. */
static json_t *read_entry(const json_t *entry, const char *server)
{
	json_t *out = json_object();
	AUTO_BUF struct gt_buf pair = { 0 };
	const char *auth = js(entry, "auth");
	if (*auth && gt_base64_decode(auth, &pair) == 0 && pair.len > 0) {
		char *colon = strchr(pair.data, ':');
		if (colon) {
			*colon = '\0';
			jset_str(out, "username", pair.data);
			jset_str(out, "password", colon + 1);
		}
	} else {
		jset_str(out, "username", js(entry, "username"));
		jset_str(out, "password", js(entry, "password"));
	}
	jset_str(out, "identitytoken", js(entry, "identitytoken"));
	jset_str(out, "registrytoken", js(entry, "registrytoken"));
	jset_str(out, "serveraddress", server);
	return out;
}

/* What stands in the file for a registry, under any of the names that were used for it. */
static json_t *find_entry(const json_t *config, const char *server, const char **key)
{
	json_t *auths = jo(config, "auths"), *entry;
	const char *name;
	json_object_foreach(auths, name, entry)
	{
		const char *from = strstr(name, "://");
		from = from && strcmp(server, name) != 0 ? from + 3 : name;
		bool same = strcmp(server, name) == 0 || (strncmp(from, server, strlen(server)) == 0 &&
							  (from[strlen(server)] == '/' || !from[strlen(server)]));
		if (same) {
			*key = name;
			return entry;
		}
	}
	return NULL;
}

static int find(const json_t *config, const char *server, json_t **found, struct gt_error *err)
{
	const char *helper = helper_of(config, server), *key;
	*found = NULL;
	if (*helper)
		return get_from_helper(helper, server, found, err);
	const json_t *entry = find_entry(config, server, &key);
	*found = entry ? read_entry(entry, server) : NULL;
	return 0;
}

static char *encode(const json_t *json)
{
	AUTO_FREE char *text = json_dumps(json, JSON_COMPACT);
	return gt_base64_encode(text, strlen(text), true);
}

char *credentials_header(struct cli *cli, const char *reference, struct gt_error *err)
{
	const json_t *config = config_load(cli, err);
	AUTO_FREE char *server = registry_of(reference);
	AUTO_JSON json_t *found = NULL;
	if (!config || find(config, server, &found, err) < 0 || !found)
		return NULL;
	return encode(found);
}

static int add_stored(const json_t *config, const char *helper, json_t *all, struct gt_error *err)
{
	AUTO_BUF struct gt_buf said = { 0 };
	int status = run_helper(helper, "list", "", &said, err);
	if (status != 0)
		return status < 0 ? -1 : helper_failed(helper, &said, err);
	AUTO_JSON json_t *list = gt_json_parse(said.data ? said.data : "", said.len, "the credential helper's answer", err);
	if (!list)
		return -1;
	const char *server;
	json_t *user;
	json_object_foreach(list, server, user)
	{
		json_t *found = NULL;
		if (find(config, server, &found, err) < 0)
			return -1;
		if (found)
			json_object_set_new(all, server, found);
	}
	return 0;
}

char *credentials_all_header(struct cli *cli, struct gt_error *err)
{
	const json_t *config = config_load(cli, err);
	if (!config)
		return NULL;
	AUTO_JSON json_t *all = json_object();
	const char *server;
	json_t *entry;
	json_object_foreach(jo(config, "auths"), server, entry)
	{
		if (!*helper_of(config, server))
			json_object_set_new(all, server, read_entry(entry, server));
	}
	if (*js(config, "credsStore") && add_stored(config, js(config, "credsStore"), all, err) < 0)
		return NULL;
	json_object_foreach(jo(config, "credHelpers"), server, entry)
	{
		json_t *found = NULL;
		if (find(config, server, &found, err) < 0)
			return NULL;
		if (found)
			json_object_set_new(all, server, found);
	}
	return json_object_size(all) ? encode(all) : NULL;
}

/* ---- login and logout ---- */

static int store_with_helper(const char *helper, const char *server, const char *user, const char *secret, struct gt_error *err)
{
	AUTO_BUF struct gt_buf said = { 0 };
	AUTO_JSON json_t *entry = json_pack("{s:s, s:s, s:s}", "ServerURL", server, "Username", user, "Secret", secret);
	AUTO_FREE char *text = json_dumps(entry, JSON_COMPACT);
	int status = text ? run_helper(helper, "store", text, &said, err) : gt_fail(err, GT_INVALID, "the credentials are not UTF-8");
	return status > 0 ? helper_failed(helper, &said, err) : status;
}

int credentials_store(struct cli *cli, const char *server, const char *user, const char *password, const char *token, struct gt_error *err)
{
	json_t *config = config_load(cli, err);
	if (!config)
		return -1;
	const char *helper = helper_of(config, server);
	json_t *entry = json_object(), *auths = jo(config, "auths");
	if (*helper) {
		if (store_with_helper(helper, server, *token ? IDENTITY_USER : user, *token ? token : password, err) < 0) {
			json_decref(entry);
			return -1;
		}
	} else {
		AUTO_FREE char *pair = gt_xasprintf("%s:%s", user, *token ? "" : password);
		AUTO_FREE char *encoded = gt_base64_encode(pair, strlen(pair), false);
		jset_str(entry, "auth", encoded);
		jset_str(entry, "identitytoken", token);
	}
	if (!auths) {
		auths = json_object();
		json_object_set_new(config, "auths", auths);
	}
	json_object_set_new(auths, server, entry); /* empty with a helper, as Docker leaves it: a list of where one is logged in */
	return config_save(cli, err);
}

int credentials_erase(struct cli *cli, const char *server, bool *was, struct gt_error *err)
{
	json_t *config = config_load(cli, err);
	const char *key = NULL;
	AUTO_BUF struct gt_buf said = { 0 };
	if (!config)
		return -1;
	const char *helper = helper_of(config, server);
	json_t *entry = find_entry(config, server, &key);
	*was = entry != NULL;
	if (*helper) {
		int status = run_helper(helper, "erase", server, &said, err);
		if (status != 0 && (status < 0 || !said.data || !strstr(said.data, "credentials not found")))
			return status < 0 ? -1 : helper_failed(helper, &said, err);
		*was = *was || status == 0;
	}
	if (!entry)
		return 0;
	json_object_del(jo(config, "auths"), key);
	return config_save(cli, err);
}
