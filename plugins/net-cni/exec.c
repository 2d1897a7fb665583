/*
 * exec.c - one plugin's program. CNI's interface is a program to be run: its parameters are environment variables, its configuration comes on standard input, its
 * result goes to standard output. No shell is between. Standard input is a file in memory, so that nothing waits for a program that does not read.
 */
#include "cni.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_MAX (1u << 20)
#define WORDS_MAX 300
#define SLICE_MS 200

/* ---- the program ---- */

static bool usable(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & S_IXUSR) && st.st_uid == 0 && !(st.st_mode & S_IWOTH) &&
	       !((st.st_mode & S_IWGRP) && st.st_gid != 0);
}

int exec_find(const struct cni *self, const char *type, char path[GANTRY_PATH_MAX], struct gantry_error *err)
{
	const char *dirs = self->host->config(self->host, "bin_dirs"), *list = dirs;
	while (*list) {
		size_t len = strcspn(list, ":");
		if (len && list[0] == '/' && snprintf(path, GANTRY_PATH_MAX, "%.*s/%s", (int)len, list, type) < GANTRY_PATH_MAX && usable(path))
			return 0;
		list += len + (list[len] == ':');
	}
	return gantry_fail(err, GANTRY_E_UNAVAILABLE, "there is no CNI plugin %.128s in %.200s: a program of root's that nobody else can write (Debian's are in the package "
						      "containernetworking-plugins)", type, dirs);
}

/* ---- what it says ---- */

struct output {
	char *text;
	size_t len, room;
	bool cut;
};

static void take_bytes(struct output *output, int fd, bool *open)
{
	char bytes[16384];
	ssize_t n = read(fd, bytes, sizeof bytes);
	if (n <= 0) {
		*open = n < 0 && (errno == EINTR || errno == EAGAIN);
		return;
	}
	size_t fits = output->room - output->len < (size_t)n ? output->room - output->len : (size_t)n;
	memcpy(output->text + output->len, bytes, fits);
	output->len += fits;
	output->cut = output->cut || fits < (size_t)n;
}

/* One line, in bytes that JSON can carry. */
static void plain_words(const char *from, size_t len, char words[WORDS_MAX + 1])
{
	size_t at = 0;
	while (len && (unsigned char)from[len - 1] <= ' ')
		len--;
	for (size_t i = 0; i < len && at < WORDS_MAX; i++)
		words[at++] = (unsigned char)from[i] < ' ' || (unsigned char)from[i] >= 0x7f ? ' ' : from[i];
	words[at] = '\0';
}

/* ---- running ---- */

struct child {
	struct program program;
	int out, err;                   /* our ends */
};

static int make_input(const json_t *config, struct gantry_error *err)
{
	char *text = json_dumps(config, JSON_COMPACT);
	size_t len = text ? strlen(text) : 0, done = 0;
	int fd = text ? memfd_create("cni-config", MFD_CLOEXEC) : -1;
	while (fd >= 0 && done < len) {
		ssize_t n = write(fd, text + done, len - done);
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	free(text);
	if (fd < 0 || done < len || lseek(fd, 0, SEEK_SET) < 0) {
		gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "write the configuration of a CNI plugin");
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

static char *variable(const char *name, const char *value)
{
	char *text = NULL;
	return asprintf(&text, "%s=%s", name, value) < 0 ? NULL : text;
}

static void free_environment(char **environment)
{
	for (size_t i = 0; environment[i]; i++)
		free(environment[i]);
}

/* At most 8 and the NULL. */
static bool make_environment(const struct attachment *at, const char *command, char *environment[9])
{
	const char *container = json_string_value(json_object_get(at->record, "container")), *ifname = json_string_value(json_object_get(at->record, "ifname"));
	const char *const pairs[][2] = {
		{ "CNI_COMMAND", command }, { "CNI_CONTAINERID", container }, { "CNI_NETNS", at->netns }, { "CNI_IFNAME", ifname },
		{ "CNI_ARGS", "IgnoreUnknown=1" }, { "CNI_PATH", at->self->host->config(at->self->host, "bin_dirs") },
		{ "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" },
	};
	bool of_nobody = strcmp(command, "GC") == 0 || strcmp(command, "VERSION") == 0; /* without CNI_CONTAINERID to CNI_ARGS */
	size_t count = 0;
	for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
		if (!pairs[i][1] || (of_nobody && i >= 1 && i <= 4))
			continue;
		environment[count] = variable(pairs[i][0], pairs[i][1]);
		if (!environment[count])
			return false;
		count++;
	}
	return true;
}

static int start(const struct attachment *at, const char *command, const char *path, int in, struct child *child, struct gantry_error *err)
{
	char *environment[9] = { NULL };
	int out[2] = { -1, -1 }, errors[2] = { -1, -1 };
	int rc = pipe2(out, O_CLOEXEC) < 0 || pipe2(errors, O_CLOEXEC) < 0 ? errno : make_environment(at, command, environment) ? 0 : ENOMEM;
	if (rc == 0)
		rc = program_start(path, environment, (const int[]){ in, out[1], errors[1] }, &child->program);
	free_environment(environment);
	if (out[1] >= 0)
		close(out[1]);
	if (errors[1] >= 0)
		close(errors[1]);
	child->out = out[0];
	child->err = errors[0];
	if (rc == 0)
		return 0;
	if (out[0] >= 0)
		close(out[0]);
	if (errors[0] >= 0)
		close(errors[0]);
	return gantry_fail_errno(err, GANTRY_E_INTERNAL, rc, "run the CNI plugin %.300s", path);
}

/* Until it ends, or its time. What it started and left behind holds up nobody: the pipes are left as soon as it has ended. */
static bool attend(const struct attachment *at, struct child *child, struct output *out, struct output *errors)
{
	bool out_open = true, err_open = true;
	for (;;) {
		struct pollfd fds[] = { { .fd = out_open ? child->out : -1, .events = POLLIN }, { .fd = err_open ? child->err : -1, .events = POLLIN },
					{ .fd = child->program.pidfd, .events = POLLIN } };
		int64_t left = (at->until - chain_now()) / 1000000;
		if (left <= 0 || at->self->host->cancelled(at->self->host, at->call))
			return false;
		poll(fds, 3, left < SLICE_MS ? (int)left : SLICE_MS);
		if (fds[0].revents)
			take_bytes(out, child->out, &out_open);
		if (fds[1].revents)
			take_bytes(errors, child->err, &err_open);
		if (!fds[0].revents && !fds[1].revents && fds[2].revents)
			return true;
	}
}

/* Its exit status as waitpid() tells it; -1: it had to be killed. */
static int finish(struct child *child, bool ended)
{
	close(child->out);
	close(child->err);
	return program_end(&child->program, ended);
}

/* ---- the verdict ---- */

static int tell_failure(const struct attachment *at, const char *type, const char *command, const json_t *json, const struct output *errors, struct gantry_error *err)
{
	char words[WORDS_MAX + 1], more[WORDS_MAX + 1] = "";
	const char *message = json_string_value(json_object_get(json, "msg")), *details = json_string_value(json_object_get(json, "details"));
	json_int_t code = json_integer_value(json_object_get(json, "code"));
	int kind = code == 11 ? GANTRY_E_UNAVAILABLE : code == 4 || code == 7 ? GANTRY_E_INVALID : GANTRY_E_INTERNAL;
	if (message)
		plain_words(message, strlen(message), words);
	else
		plain_words(errors->text, errors->len, words);
	if (details)
		plain_words(details, strlen(details), more);
	return gantry_fail(err, kind, "network %.64s: the CNI plugin %.64s fails %s: %.220s%s%.100s", at->network, type, command,
			   words[0] ? words : "it does not say why", more[0] ? ": " : "", more);
}

static int judge(const struct attachment *at, const char *type, const char *command, int status, const struct output *out, const struct output *errors, json_t **output,
		 struct gantry_error *err)
{
	json_t *json = out->len && !out->cut ? json_loadb(out->text, out->len, 0, NULL) : NULL;
	int rc = 0;
	if (status == -1)
		rc = gantry_fail(err, GANTRY_E_TIMEOUT, "network %.64s: the CNI plugin %.64s did not end %s in time and was killed", at->network, type, command);
	else if (WIFSIGNALED(status))
		rc = gantry_fail(err, GANTRY_E_INTERNAL, "network %.64s: the CNI plugin %.64s was ended by signal %d at %s", at->network, type, WTERMSIG(status), command);
	else if (WEXITSTATUS(status) != 0)
		rc = tell_failure(at, type, command, json, errors, err);
	else if (out->cut)
		rc = gantry_fail(err, GANTRY_E_INTERNAL, "network %.64s: the CNI plugin %.64s answers %s with more than %u bytes", at->network, type, command, OUTPUT_MAX);
	else if (output && !json_is_object(json))
		rc = gantry_fail(err, GANTRY_E_INTERNAL, "network %.64s: the CNI plugin %.64s answers %s with something that is no JSON object", at->network, type, command);
	if (rc == 0 && output)
		*output = json;
	else
		json_decref(json);
	return rc;
}

int exec_plugin(const struct attachment *at, const char *command, const char *type, const json_t *config, json_t **output, struct gantry_error *err)
{
	char path[GANTRY_PATH_MAX], words[4096];
	struct child child = { 0 };
	struct output out = { .text = malloc(OUTPUT_MAX), .room = OUTPUT_MAX }, errors = { .text = words, .room = sizeof words };
	int in = -1;
	int rc = !out.text ? gantry_fail(err, GANTRY_E_INTERNAL, "out of memory") : exec_find(at->self, type, path, err);
	if (rc == 0 && (in = make_input(config, err)) < 0)
		rc = -1;
	if (rc == 0)
		rc = start(at, command, path, in, &child, err);
	if (in >= 0)
		close(in);
	if (rc == 0) {
		bool ended = attend(at, &child, &out, &errors);
		rc = judge(at, type, command, finish(&child, ended), &out, &errors, output, err);
	}
	free(out.text);
	return rc;
}
