/*
 * dockerfile.h - a Dockerfile's text as instructions.
 *
 * The language is Docker's as its reference documents it: parser directives (syntax, escape, check), comments, continued lines, here-documents, flags.
 * What an instruction's words mean is left to the executor; here each one's keyword, flags and shape are checked, so that a mistake in the last
 * line costs no build. The text is hostile: its size, the number of instructions, flags and here-documents are bounded.
 *
 * Errors read "NAME:LINE: what is wrong", and show the line.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/json.h"

#define DOCKERFILE_MAX (4u << 20)       /* bytes */
#define DOCKERFILE_MAX_INSTRUCTIONS 4096

enum keyword {
	KW_ADD, KW_ARG, KW_CMD, KW_COPY, KW_ENTRYPOINT, KW_ENV, KW_EXPOSE, KW_FROM, KW_HEALTHCHECK, KW_LABEL, KW_MAINTAINER, KW_ONBUILD,
	KW_RUN, KW_SHELL, KW_STOPSIGNAL, KW_USER, KW_VOLUME, KW_WORKDIR, KW_COUNT
};
const char *keyword_name(enum keyword keyword);

struct heredoc {
	char *name;
	char *content;                  /* with its newlines */
	bool expand;                    /* its name was not quoted */
};

struct flag {
	char *name, *value;             /* "chown", "1:2"; without "=": "" */
};

struct instruction {
	enum keyword keyword;
	int line, last_line;            /* from 1 */
	char *args;                     /* behind the flags; continued lines joined */
	char *shown;                    /* the whole instruction as steps show it */
	struct flag *flags;
	size_t flag_count;
	struct heredoc *heredocs;
	size_t heredoc_count;
};

struct dockerfile {
	char *name;                     /* for messages */
	char escape;
	struct instruction *items;
	size_t count;
	char *check;                    /* of the directive; NULL */
	struct gt_strings warnings;     /* of dockerfile_lint() */
	int *empty_lines;               /* inside continued instructions */
	size_t empty_count;
	char **lines;                   /* of the text, for messages */
	size_t line_count;
};

/* name: as users know it ("Dockerfile"). On failure nothing is to be freed. */
int dockerfile_parse(const char *name, const char *text, size_t len, struct dockerfile *file, struct gt_error *err);
/* One instruction of ONBUILD. */
int dockerfile_parse_trigger(const char *text, char escape, struct dockerfile *file, struct gt_error *err);
void dockerfile_free(struct dockerfile *file);

/* The value of a flag; NULL where it is not given. */
const char *instruction_flag(const struct instruction *item, const char *name);
/* A flag without value, or with true or false. */
int instruction_switch(const struct instruction *item, const char *name, bool *value, struct gt_error *err);
/* "NAME:LINE: " in front of err's message, the line behind it. Returns -1. */
int dockerfile_blame(const struct dockerfile *file, int line, struct gt_error *err);

/* dockerfile_check.c: keyword, flags and shape of one instruction. */
int keyword_find(const char *word, size_t len, enum keyword *keyword, struct gt_error *err);
int instruction_check(const struct instruction *item, struct gt_error *err);
/* dockerfile_heredoc.c: here-documents that the arguments name; without contents. */
int heredocs_find(const char *args, char escape, struct instruction *item, bool **chomp, struct gt_error *err);
