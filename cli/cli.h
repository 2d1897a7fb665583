/*
 * cli.h - what every command of `gantry` is given, and the small helpers they share.
 *
 * A command reads its checked arguments, calls the Docker Engine API and prints. It returns the exit status, or -1
 * with an error; cli.c prints that error the way Docker's command line does.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "args.h"
#include "base/auto.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"
#include "command.h"
#include "http.h"

#define DAEMON_SAYS "Error response from daemon: "

enum exit_status {
	EXIT_DAEMON = 125,              /* of run and create: the container did not come to be; and wrong usage */
	EXIT_NOT_EXECUTABLE = 126,
	EXIT_NOT_FOUND = 127,
};

struct cli {
	struct http_client *http;
	const char *host;
	const char *config_dir;         /* of config.json: credentials, detach keys */
	json_t *config;                 /* config.json, read when first wanted */
	bool debug;
	const char *path;               /* the command as it was called */
	bool help_hint;                 /* errors end with "Run 'gantry ... --help'" and have exit status 125 */
	int failure_status;             /* exit status for an error; 1 unless the command says otherwise */
};

/* main.c: the whole program. */
int cli_main(int argc, char **argv);

/* Prints "gantry: ..." or, for the daemon's own words, those alone. */
void cli_print_error(const struct cli *cli, const struct gt_error *err);
void cli_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Calls act for each operand; prints the operand where it succeeded and `echo` is set, the error where not.
 * Returns 0, or 1 where any failed. */
int cli_for_each(struct cli *cli, const struct args *args, bool echo,
		 int (*act)(struct cli *cli, const char *name, void *arg, struct gt_error *err), void *arg);
/* A file that comes with this program: in the tree that was just built, or where `make install` puts it. The caller's. */
char *cli_own_file(const char *beside, const char *installed);
/* "Are you sure?" on the terminal, default no. End of input is no. */
bool cli_confirm(const char *question);
/* Prints the "Warnings" list of an answer to standard error. */
void cli_print_warnings(const json_t *answer);

/* ---- JSON with defaults: a missing or wrong field is "", 0, false, NULL ---- */
const char *js(const json_t *object, const char *name);
int64_t ji(const json_t *object, const char *name);
double jd(const json_t *object, const char *name);
bool jb(const json_t *object, const char *name);
json_t *jo(const json_t *object, const char *name);             /* any value, borrowed; NULL for null */
const char *jv(const json_t *string);                           /* "" where it is none */
void jset(json_t *object, const char *name, json_t *value);     /* takes the value */
void jset_str(json_t *object, const char *name, const char *text);      /* left out where NULL or "" */
json_t *jlist(const struct gt_strings *list);                   /* NULL where it is empty */
json_t *jmap(const struct gt_strings *list);                    /* "k=v" lines to an object; "k" to "" */

/* ---- config.c ---- */
json_t *config_load(struct cli *cli, struct gt_error *err);     /* borrowed; an empty object where there is no file */
int config_save(struct cli *cli, struct gt_error *err);
/* The registry a reference names: "docker.io" -> "https://index.docker.io/v1/". Caller frees. */
char *registry_of(const char *reference);

/* ---- credentials.c ---- */
/* What is known for a reference's registry, as the X-Registry-Auth header's value. Caller frees; NULL without an error where nothing is. */
char *credentials_header(struct cli *cli, const char *reference, struct gt_error *err);
/* All that is known, for X-Registry-Config. */
char *credentials_all_header(struct cli *cli, struct gt_error *err);
/* token "": none. */
int credentials_store(struct cli *cli, const char *server, const char *user, const char *password, const char *token, struct gt_error *err);
int credentials_erase(struct cli *cli, const char *server, bool *was, struct gt_error *err);
