/*
 * shim_fixture.h - containers for tests of gantry-shim: a busybox root directory, a bundle, clients. Failures fail the test that runs.
 */
#pragma once

#include "testing.h"

#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/error.h"
#include "shim/client.h"

struct place {
	char *dir, *bundle, *log, *shim;
	int count;
};

extern struct gt_error why;     /* of the last call that failed */

#define MUST(call)                                                                     \
	do {                                                                           \
		if ((call) < 0)                                                        \
			fail_msg("%s: %s", #call, why.message);                        \
	} while (0)

/* *state is a struct place. The teardown fails where a shim lives on or had anything to say. */
int shim_setup(void **state);
int shim_teardown(void **state);
int remove_cgroups(void **state);                       /* of the group */
char *cgroup_path(const struct place *place);           /* freed by the caller */

/* A bundle that runs `sh -c script`. stdin_mode: "", "open", "once". */
void write_bundle(const struct place *place, const char *script, bool tty, const char *stdin_mode);
/* Sets a member of one of the objects of config.json; value is taken over. */
void change_bundle(const struct place *place, const char *object, const char *member, json_t *value);
json_t *process_of(const char *script, bool tty);

struct gt_shim *shim_spawn(const struct place *place, struct gt_shim_created *created);
struct gt_shim *shim_start(const struct place *place, const char *script, bool tty, const char *stdin_mode);
struct gt_shim_event next_event(struct gt_shim *shim);
struct gt_shim_event shim_finish(struct gt_shim *shim); /* the container's end, and the shim's */

/* Return the client's end. */
int shim_attach(struct gt_shim *shim, bool in, bool out, bool errs, bool mux, const char *keys);
int shim_exec(struct gt_shim *shim, const char *id, const char *script, bool tty, bool in, int *client);
void read_client(int fd, const char *stop, struct gt_buf *out); /* until the shim closes, or until `stop` has come */
void say(int fd, const char *text);
void read_log(const struct place *place, struct gt_buf *out);   /* text of all records */
/* Until the log's bytes hold text; at most 15 s. */
void await_log(const struct place *place, const char *text);
bool file_exists(const char *dir, const char *name);
