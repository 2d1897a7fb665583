/*
 * args.h - a command line, parsed by a command's row in the table.
 *
 * The grammar is that of Docker's command line: --flag value, --flag=value, -f value, -fvalue, -f=value, joined
 * switches (-it), flags given again, "--" ends the flags. Values are checked against the flag's type while parsing,
 * so a command reads checked values by the flag's name. Asking for a flag that the table does not have is a
 * mistake in the program and aborts.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "command.h"

struct arg_value {
	bool given;
	bool yes;
	int64_t number;                 /* INT, UINT16, BYTES, DURATION (ns) */
	double decimal;
	char *text;                     /* the last value given */
	struct gt_strings list;
};

struct args {
	const struct command *command;
	const char *path;               /* as it was called: "ps" or "container ls" */
	const struct flag *flags;
	struct arg_value *values;       /* one for each flag */
	char **operands;                /* borrowed from argv */
	int count;
	bool help;
};

/* argv[0] is the first word after the command's name. Fails with GT_INVALID. Free args in either case. */
int args_parse(struct args *args, const struct flag *flags, bool flags_first, int argc, char **argv,
	       struct gt_error *err);
/* Checks how many operands there are; the message is Docker's. */
int args_check_count(const struct args *args, struct gt_error *err);
void args_free(struct args *args);

bool arg_has_flag(const struct args *args, const char *name);   /* is it in the table at all? */
bool arg_given(const struct args *args, const char *name);
bool arg_bool(const struct args *args, const char *name);
int64_t arg_int(const struct args *args, const char *name);
double arg_decimal(const struct args *args, const char *name);
const char *arg_string(const struct args *args, const char *name);      /* "" where not given and no default */
const struct gt_strings *arg_list(const struct args *args, const char *name);

/* Number readers, also of use elsewhere. */
int parse_int(const char *text, int64_t *value);                /* -1: not a whole number that fits */
int parse_bytes(const char *text, int64_t *value);              /* "1.5g", "64m", "10"; -1: not a size */
/* Values separated by commas; a value in double quotes may hold commas. */
void args_split_csv(const char *text, struct gt_strings *list);
