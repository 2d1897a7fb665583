/*
 * build_run.c - a RUN of a build: one container, its output passed on as it comes, its end awaited.
 *
 * The container is created, attached, started and awaited by the engine's own functions, as a client would by the API. A build that is stopped kills it:
 * whatever happens, the caller removes it by its id.
 */
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "build/build.h"
#include "engine/internal.h"

#define LOOK_MS 200
#define FRAME_MAX (64u << 10)

static json_t *strings(const struct gt_strings *list)
{
	json_t *array = json_array();
	for (size_t i = 0; i < list->count; i++)
		json_array_append_new(array, json_string(list->items[i]) ?: json_string(""));
	return array;
}

static json_t *create_body(const json_t *host_config, const struct gt_build_run *run)
{
	json_t *host = json_deep_copy(host_config);
	json_object_set_new(host, "LogConfig", json_pack("{s:s}", "Type", "none"));
	if (run->mounts)
		json_object_set(host, "Mounts", run->mounts);
	if (run->network)
		json_object_set_new(host, "NetworkMode", json_string(run->network));
	return json_pack("{s:s, s:o, s:[s], s:o, s:{s:[s]}, s:b, s:b, s:o}", "Image", run->image, "Cmd", strings(run->argv), "Entrypoint", "", "Env",
			 strings(run->env), "Healthcheck", "Test", "NONE", "AttachStdout", 1, "AttachStderr", 1, "HostConfig", host);
}

/* ---- its output ---- */

struct frames {
	int fd;
	size_t left;                    /* of the frame at hand */
	uint8_t header[8];
	size_t header_len;
};

/* Takes the 8-byte headers out of what came. */
static void pass_on(struct frames *frames, const struct gt_build_run *run, const char *bytes, size_t len)
{
	while (len > 0) {
		if (frames->left == 0) {
			frames->header[frames->header_len++] = (uint8_t)*bytes++;
			len--;
			if (frames->header_len < sizeof frames->header)
				continue;
			uint32_t size;
			memcpy(&size, frames->header + 4, sizeof size);
			frames->left = be32toh(size);
			frames->header_len = 0;
			continue;
		}
		size_t part = len < frames->left ? len : frames->left;
		run->output(run->arg, bytes, part);
		bytes += part;
		len -= part;
		frames->left -= part;
	}
}

/* Until the shim closes the stream, at the end of the process. */
static int follow(struct frames *frames, const struct gt_build_run *run, struct gt_error *err)
{
	char bytes[FRAME_MAX];
	for (;;) {
		struct pollfd look = { .fd = frames->fd, .events = POLLIN };
		int ready = poll(&look, 1, LOOK_MS);
		if (run->stop(run->arg))
			return gt_fail(err, GT_CANCELLED, "the build was stopped");
		if (ready <= 0)
			continue;
		ssize_t n = read(frames->fd, bytes, sizeof bytes);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			return 0;
		pass_on(frames, run, bytes, (size_t)n);
	}
}

static int attach(struct gt_engine *engine, const char *id, int fd, struct gt_error *err)
{
	struct gt_attach_query query = { .stdout = true, .stderr = true, .stream = true };
	bool tty;
	struct gt_attach *attach = gt_attach_begin(engine, id, &query, &tty, err);
	if (!attach)
		return -1;
	int rc = gt_attach_connect(attach, fd, err);
	gt_attach_end(attach);
	return rc;
}

/* ---- its end ---- */

static int await_exit(struct gt_engine *engine, const struct gt_build_run *run, const char *id, int *exit_code, struct gt_error *err)
{
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, id, err);
	if (!ctr)
		return gt_context(err, "the container of the step was removed");
	for (;;) {
		if (run->stop(run->arg))
			return gt_fail(err, GT_CANCELLED, "the build was stopped");
		struct timespec until = gt_deadline(LOOK_MS * GT_MILLISECOND);
		LOCKED(&ctr->lock);
		if (ctr->removed)
			return gt_fail(err, GT_CONFLICT, "the container of the step was removed");
		if (ctr->exits > 0) {
			*exit_code = ctr->exit_code;
			return 0;
		}
		pthread_cond_timedwait(&ctr->changed, &ctr->lock, &until);
	}
}

int gt_build_execute(struct gt_engine *engine, const json_t *host_config, const struct gt_build_run *run, char container[65], int *exit_code,
		     struct gt_error *err)
{
	AUTO_JSON json_t *body = create_body(host_config, run);
	int pair[2];
	if (!body)
		return gt_fail(err, GT_INVALID, "the command is not UTF-8");
	if (gt_create_build_step(engine, body, run->secret_env, container, err) < 0)
		return -1;
	run->started(run->arg, container);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return gt_fail_errno(err, errno, "make a socket for a step's output");
	AUTO_CLOSE int ours = pair[0], theirs = pair[1];
	if (attach(engine, container, theirs, err) < 0)
		return -1;
	close(take_fd(theirs));
	if (gt_container_start(engine, container, NULL, err) < 0)
		return -1;
	struct frames frames = { .fd = ours };
	return follow(&frames, run, err) < 0 ? -1 : await_exit(engine, run, container, exit_code, err);
}
