/*
 * mount_secret.c - RUN --mount=type=secret and type=ssh: what the client brings along for one command.
 *
 * A secret's bytes come from the client as the command begins, lie in a file below <secret_dir>, which is in memory (/run), and go with the command. They are
 * no part of keys: a changed secret does not make a cached step run again. An agent is a socket below the same directory, behind which the engine
 * passes messages to and from the client's own agent.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/utf8.h"
#include "build/mounts.h"

static bool is_agent(const struct mount *mount)
{
	return strcmp(mount->type, "ssh") == 0;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

void secret_defaults(struct mount *mount, size_t index)
{
	if (!is_agent(mount) && strcmp(mount->type, "secret") != 0)
		return;
	if (mount->source) {
		free(mount->id);
		mount->id = take(mount->source);
	}
	if (!mount->id)
		mount->id = gt_xstrdup(is_agent(mount) ? "default" : base_name(mount->target));
	if (mount->target)
		return;
	if (is_agent(mount))
		mount->target = gt_xasprintf("/run/buildkit/ssh_agent.%zu", index);
	else if (!mount->env)
		mount->target = gt_xasprintf("/run/secrets/%s", base_name(mount->id));
}

static int owner_and_mode(const struct mount *mount, long standard, const char *path, struct gt_error *err)
{
	long mode, uid, gid;
	if (mount_number("mode", mount->mode, 8, 0777, standard, &mode, err) < 0 ||
	    mount_number("uid", mount->uid, 10, 0xfffffffel, 0, &uid, err) < 0 || mount_number("gid", mount->gid, 10, 0xfffffffel, 0, &gid, err) < 0)
		return -1;
	if (chown(path, (uid_t)uid, (gid_t)gid) < 0 || chmod(path, (mode_t)mode) < 0)
		return gt_fail_errno(err, errno, "make a file for --mount=type=%s", mount->type);
	return 0;
}

/* A path of its own, which secrets_end() removes. Borrowed. */
static const char *new_path(struct run *run, struct mounts *mounts)
{
	AUTO_FREE char *path = gt_xasprintf("%s/%d", run->build->options->secret_dir, atomic_fetch_add(&run->build->serial, 1));
	gt_strings_add(&mounts->files, path);
	return mounts->files.items[mounts->files.count - 1];
}

/* Where it is not required the command runs without it, as documented; but not unsaid. */
static int absent(struct run *run, const struct mount *mount, struct gt_error *err)
{
	AUTO_FREE char *text = is_agent(mount) ? gt_xasprintf("the client forwards no SSH agent \"%.60s\": gantry build --ssh %.60s", mount->id, mount->id) :
						 gt_xasprintf("the client has no secret \"%.60s\": gantry build --secret id=%.60s,src=FILE", mount->id,
							      mount->id);
	if (mount->required)
		return gt_fail(err, GT_NOT_FOUND, "%s", text);
	run_say(run, "[Warning] %s\n", text);
	return 0;
}

static bool is_text(const struct gt_buf *value)
{
	size_t len;
	for (size_t at = 0; at < value->len; at += len) {
		len = value->data[at] ? gt_utf8_sequence(value->data + at, value->len - at) : 0;
		if (len == 0)
			return false;
	}
	return true;
}

static int use_secret(struct run *run, const struct mount *mount, const struct gt_buf *value, struct mounts *mounts, struct gt_error *err)
{
	if (mount->env && !is_text(value))
		return gt_fail(err, GT_INVALID, "secret \"%.60s\" is not UTF-8 text, which a variable has to be: mount it as a file", mount->id);
	if (mount->env) {
		char *text = gt_xasprintf("%s=%s", mount->env, value->data ? value->data : "");
		gt_strings_add(&mounts->env, text);
		explicit_bzero(text, strlen(text));
		free(text);
	}
	if (!mount->target)
		return 0;
	const char *path = new_path(run, mounts);
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0400);
	if (fd < 0 || gt_write_full(fd, value->data, value->len) < 0)
		return gt_fail_errno(err, errno, "make a file for a secret");
	if (owner_and_mode(mount, 0400, path, err) < 0)
		return -1;
	mounts_bind(mounts, path, mount->target, true);
	return 0;
}

int mount_secret(struct run *run, const struct mount *mount, struct mounts *mounts, struct gt_error *err)
{
	const struct gt_build_host *host = run->build->host;
	struct gt_buf value = { 0 };
	int there = host->secret(host->arg, mount->id, &value, err);
	int rc = there > 0 ? use_secret(run, mount, &value, mounts, err) : there == 0 ? absent(run, mount, err) : -1;
	if (value.data)
		explicit_bzero(value.data, value.len);
	gt_buf_free(&value);
	return rc < 0 ? gt_context(err, "--mount=type=secret") : 0;
}

int mount_agent(struct run *run, const struct mount *mount, struct mounts *mounts, struct gt_error *err)
{
	const struct gt_build_host *host = run->build->host;
	const char *path = new_path(run, mounts);
	void *agent = NULL;
	int there = host->agent(host->arg, mount->id, path, &agent, err);
	if (there <= 0)
		return there < 0 || absent(run, mount, err) < 0 ? gt_context(err, "--mount=type=ssh") : 0;
	mounts->agents[mounts->agent_count++] = agent; /* no more than MAX_MOUNTS */
	if (owner_and_mode(mount, 0600, path, err) < 0)
		return -1;
	AUTO_FREE char *variable = gt_xasprintf("SSH_AUTH_SOCK=%s", mount->target);
	if (mounts->agent_count == 1)
		gt_strings_add(&mounts->env, variable);
	mounts_bind(mounts, path, mount->target, false);
	return 0;
}

void secrets_end(struct run *run, struct mounts *mounts)
{
	const struct gt_build_host *host = run->build->host;
	for (size_t i = 0; i < mounts->agent_count; i++)
		host->agent_end(host->arg, mounts->agents[i]);
	mounts->agent_count = 0;
	for (size_t i = 0; i < mounts->files.count; i++)
		unlink(mounts->files.items[i]);
	for (size_t i = 0; i < mounts->env.count; i++)
		explicit_bzero(mounts->env.items[i], strlen(mounts->env.items[i]));
	gt_strings_free(&mounts->files);
	gt_strings_free(&mounts->env);
}
