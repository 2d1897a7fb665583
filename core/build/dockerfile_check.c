/*
 * dockerfile_check.c - the table of instructions: which flags each takes, and what its arguments have to look like.
 */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/auto.h"
#include "base/buf.h"
#include "build/dockerfile.h"
#include "image/words.h"

/* Flags end with '+' where they may stand several times, and begin with '?' where they need no value. */
static const struct {
	const char *name;
	const char *flags[10];
	int least;              /* arguments */
} table[KW_COUNT] = {
	[KW_ADD] = { "ADD", { "?keep-git-dir", "checksum", "chown", "chmod", "?link", "?unpack", "exclude+" }, 2 },
	[KW_ARG] = { "ARG", { 0 }, 1 },
	[KW_CMD] = { "CMD", { 0 }, 0 },
	[KW_COPY] = { "COPY", { "from", "chown", "chmod", "?link", "?parents", "exclude+" }, 2 },
	[KW_ENTRYPOINT] = { "ENTRYPOINT", { 0 }, 0 },
	[KW_ENV] = { "ENV", { 0 }, 1 },
	[KW_EXPOSE] = { "EXPOSE", { 0 }, 1 },
	[KW_FROM] = { "FROM", { "platform" }, 1 },
	[KW_HEALTHCHECK] = { "HEALTHCHECK", { 0 }, 1 },
	[KW_LABEL] = { "LABEL", { 0 }, 1 },
	[KW_MAINTAINER] = { "MAINTAINER", { 0 }, 1 },
	[KW_ONBUILD] = { "ONBUILD", { 0 }, 1 },
	[KW_RUN] = { "RUN", { "mount+", "network", "security" }, 0 },
	[KW_SHELL] = { "SHELL", { 0 }, 1 },
	[KW_STOPSIGNAL] = { "STOPSIGNAL", { 0 }, 1 },
	[KW_USER] = { "USER", { 0 }, 1 },
	[KW_VOLUME] = { "VOLUME", { 0 }, 1 },
	[KW_WORKDIR] = { "WORKDIR", { 0 }, 1 },
};

const char *keyword_name(enum keyword keyword)
{
	return table[keyword].name;
}

/* Levenshtein distance of short words, for "did you mean". */
static size_t distance(const char *a, size_t a_len, const char *b)
{
	size_t row[32], b_len = strlen(b);
	for (size_t j = 0; j <= b_len; j++)
		row[j] = j;
	for (size_t i = 1; i <= a_len; i++) {
		size_t corner = row[0];
		row[0] = i;
		for (size_t j = 1; j <= b_len; j++) {
			size_t change = corner + (toupper((unsigned char)a[i - 1]) != b[j - 1]);
			corner = row[j];
			size_t less = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
			row[j] = change < less ? change : less;
		}
	}
	return row[b_len];
}

int keyword_find(const char *word, size_t len, enum keyword *keyword, struct gt_error *err)
{
	const char *near = NULL;
	size_t least = 3;
	for (int i = 0; i < KW_COUNT; i++) {
		if (strlen(table[i].name) == len && strncasecmp(table[i].name, word, len) == 0) {
			*keyword = (enum keyword)i;
			return 0;
		}
		size_t far = len > 0 && len < 24 ? distance(word, len, table[i].name) : least;
		if (len > 0 && far > 0 && toupper((unsigned char)*word) == table[i].name[0])
			far--; /* the first letter is seldom the wrong one */
		if (far < least) {
			least = far;
			near = table[i].name;
		}
	}
	int shown = len < 40 ? (int)len : 40;
	return near ? gt_fail(err, GT_INVALID, "unknown instruction: %.*s (did you mean %s?)", shown, word, near) :
		      gt_fail(err, GT_INVALID, "unknown instruction: %.*s", shown, word);
}

/* ---- flags ---- */

const char *instruction_flag(const struct instruction *item, const char *name)
{
	for (size_t i = 0; i < item->flag_count; i++) {
		if (strcmp(item->flags[i].name, name) == 0)
			return item->flags[i].value;
	}
	return NULL;
}

int instruction_switch(const struct instruction *item, const char *name, bool *value, struct gt_error *err)
{
	const char *text = instruction_flag(item, name);
	*value = text && (!*text || strcasecmp(text, "true") == 0 || strcmp(text, "1") == 0);
	if (!text || *value || strcasecmp(text, "false") == 0 || strcmp(text, "0") == 0)
		return 0;
	return gt_fail(err, GT_INVALID, "--%s=%.40s: expecting boolean value", name, text);
}

static int check_flag(const struct instruction *item, size_t index, struct gt_error *err)
{
	const char *name = item->flags[index].name;
	for (size_t i = 0; i < GT_COUNT(table[0].flags) && table[item->keyword].flags[i]; i++) {
		const char *row = table[item->keyword].flags[i];
		bool bare = *row == '?';
		row += bare;
		size_t len = strcspn(row, "+");
		if (strlen(name) != len || strncmp(name, row, len) != 0)
			continue;
		for (size_t k = 0; !row[len] && k < index; k++) {
			if (strcmp(item->flags[k].name, name) == 0)
				return gt_fail(err, GT_INVALID, "duplicate flag specified: --%s", name);
		}
		if (!bare && !item->flags[index].value[0])
			return gt_fail(err, GT_INVALID, "missing a value on flag: --%s", name);
		bool value;
		return bare ? instruction_switch(item, name, &value, err) : 0;
	}
	return gt_fail(err, GT_INVALID, "unknown flag: --%.40s for %s", name, table[item->keyword].name);
}

/* ---- shapes ---- */

static size_t count_words(const char *text)
{
	size_t count = 0;
	while (*(text = gt_skip_space(text))) {
		count++;
		text += strcspn(text, " \t\n\r");
	}
	return count;
}

/* NAME, or NAME AS STAGE. */
static int check_from(const struct instruction *item, struct gt_error *err)
{
	size_t words = count_words(item->args);
	const char *as = gt_skip_space(item->args);
	as = gt_skip_space(as + strcspn(as, " \t"));
	if (words == 1)
		return 0;
	if (words != 3 || strncasecmp(as, "AS", 2) != 0 || !isspace((unsigned char)as[2]))
		return gt_fail(err, GT_INVALID, "FROM requires either one or three arguments: FROM IMAGE, or FROM IMAGE AS STAGE");
	const char *name = gt_skip_space(as + 2);
	for (const char *p = name; *p; p++) {
		if (!isalnum((unsigned char)*p) && !(p > name && strchr("-_.", *p)))
			return gt_fail(err, GT_INVALID, "invalid name for build stage: \"%.60s\", name can't start with a number or contain symbols", name);
	}
	return isdigit((unsigned char)*name) ?
		       gt_fail(err, GT_INVALID, "invalid name for build stage: \"%.60s\", name can't start with a number or contain symbols", name) :
		       0;
}

static int check_trigger(const struct instruction *item, struct gt_error *err)
{
	size_t len = strcspn(item->args, " \t");
	enum keyword keyword;
	if (keyword_find(item->args, len, &keyword, err) < 0)
		return gt_context(err, "ONBUILD");
	if (keyword == KW_ONBUILD)
		return gt_fail(err, GT_INVALID, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
	if (keyword == KW_FROM || keyword == KW_MAINTAINER)
		return gt_fail(err, GT_INVALID, "%s isn't allowed as an ONBUILD trigger", table[keyword].name);
	struct dockerfile trigger;
	if (dockerfile_parse_trigger(item->args, '\\', &trigger, err) < 0)
		return -1;
	dockerfile_free(&trigger);
	return 0;
}

static int check_sources(const struct instruction *item, struct gt_error *err)
{
	struct gt_strings words = { 0 };
	size_t count = gt_words_json(item->args, &words) ? words.count : count_words(item->args);
	gt_strings_free(&words);
	if (count < 2)
		return gt_fail(err, GT_INVALID, "%s requires at least two arguments, but only %zu %s provided: a source and a destination",
			       table[item->keyword].name, count, count == 1 ? "was" : "were");
	return 0;
}

static int check_arg(const struct instruction *item, struct gt_error *err)
{
	for (const char *p = gt_skip_space(item->args); *p; p = gt_skip_space(p + strcspn(p, " \t"))) {
		if (*p == '=')
			return gt_fail(err, GT_INVALID, "ARG: a name is missing in front of \"%.40s\"", p);
		/* a quoted value may hold blanks: its words are read when it is executed */
		if (p[strcspn(p, "\"' \t")] == '"' || p[strcspn(p, "\"' \t")] == '\'')
			return 0;
	}
	return 0;
}

int instruction_check(const struct instruction *item, struct gt_error *err)
{
	for (size_t i = 0; i < item->flag_count; i++) {
		if (check_flag(item, i, err) < 0)
			return -1;
	}
	if (table[item->keyword].least > 0 && !item->args[0])
		return gt_fail(err, GT_INVALID, "%s requires at least one argument", table[item->keyword].name);
	switch (item->keyword) {
	case KW_FROM:
		return check_from(item, err);
	case KW_ONBUILD:
		return check_trigger(item, err);
	case KW_ADD:
	case KW_COPY:
		return check_sources(item, err);
	case KW_ARG:
		return check_arg(item, err);
	case KW_RUN:
		return item->args[0] ? 0 : gt_fail(err, GT_INVALID, "RUN requires a command");
	default:
		return 0;
	}
}
