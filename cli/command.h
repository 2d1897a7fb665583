/*
 * command.h - the table of commands: what `gantry` can do, said once.
 *
 * Parsing (args.c), --help (help.c), manual pages (man.c) and shell completion (completion.c) are all made from
 * these rows, so they cannot disagree. The rows stand in commands.c; long lists of flags beside it in flags_*.c.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct cli;
struct args;

enum flag_type {
	FLAG_BOOL,
	FLAG_STRING,
	FLAG_INT,
	FLAG_UINT16,
	FLAG_BYTES,             /* "64m": a number and a unit of 1024 */
	FLAG_DURATION,          /* "1m30s" */
	FLAG_DECIMAL,           /* "0.5" */
	FLAG_LIST,              /* may be given again */
	FLAG_CSV,               /* may be given again, and takes several separated by commas */
	FLAG_MAP,               /* key=value, may be given again */
	FLAG_FILTER,            /* key=value, may be given again */
};

struct flag {
	const char *name;
	const char *initial;    /* the value where it is not given, as text; NULL: empty, 0, false */
	const char *doc;
	const char *type_name;  /* shown instead of the type's own word */
	const char *refuse;     /* not NULL: known but not offered, and why; not shown in help */
	const char *alias;      /* an old name of another flag; not shown */
	enum flag_type type;
	char letter;            /* 0: none */
	bool hidden;
};

/* What a command's positional arguments name, for shell completion. */
enum operand { OPERAND_NONE, OPERAND_CONTAINER, OPERAND_RUNNING, OPERAND_IMAGE, OPERAND_VOLUME, OPERAND_NETWORK, OPERAND_PLUGIN };

#define ANY_NUMBER (-1)

struct command {
	const char *path;               /* "container ls" */
	const char *aliases;            /* other paths, comma separated: "ps,container ps" */
	const char *usage;              /* what follows the path: "[OPTIONS] IMAGE [COMMAND] [ARG...]" */
	const char *summary;            /* one line */
	const char *details;            /* paragraphs for --help and the manual page, or NULL */
	const struct flag *flags;       /* closed by name == NULL; NULL: none */
	int min, max;                   /* positional arguments; max ANY_NUMBER */
	bool flags_first;               /* the first positional argument ends the flags */
	bool hidden;
	enum operand operand;
	/* Returns the exit status, or -1 with err, which is then printed. NULL: a family of commands. */
	int (*run)(struct cli *cli, struct args *args, struct gt_error *err);
};

extern const struct command commands[];         /* closed by path == NULL; families first */
extern const struct flag global_flags[];

/* The command of that path or alias, or NULL. */
const struct command *command_find(const char *path);
/* Calls visit for each path and alias below the family ("" for the top) with the last word of the path. */
void command_each(const char *family, void (*visit)(const struct command *command, const char *path, void *arg),
		  void *arg);
/* The name nearest to a mistyped word below a family, or NULL where nothing is near. Caller frees. */
char *command_nearest(const char *family, const char *word);

size_t flags_count(const struct flag *flags);
/* "string", "bytes", "list": the word after a flag's name in help; NULL for switches. */
const char *flag_type_name(const struct flag *flag);

/* help.c, man.c, completion.c */
void help_command(const struct command *command, const char *path);
void help_family(const char *family, const struct command *command);
void help_top(void);
int man_write_all(const char *dir, struct gt_error *err);
int completion_write(const char *shell, struct gt_error *err);
