#include "args.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/clock.h"

int parse_int(const char *text, int64_t *value)
{
	char *end;
	errno = 0;
	long long number = strtoll(text, &end, 10);
	if (end == text || *end != '\0' || errno != 0 || isspace((unsigned char)*text))
		return -1;
	*value = number;
	return 0;
}

int parse_bytes(const char *text, int64_t *value)
{
	char *end;
	if (!isdigit((unsigned char)*text) && *text != '.' && strcmp(text, "-1") != 0)
		return -1;
	double number = strtod(text, &end);
	if (end == text)
		return -1;
	while (*end == ' ')
		end++;
	double unit = 1;
	static const char letters[] = "kmgtp";
	const char *letter = *end ? strchr(letters, tolower((unsigned char)*end)) : NULL;
	if (letter) {
		unit = (double)(1LL << (10 * (letter - letters + 1)));
		end++;
		if (*end == 'i' || *end == 'I')
			end++;
	}
	if (tolower((unsigned char)*end) == 'b')
		end++;
	if (*end != '\0' || number * unit >= 9.2e18)
		return -1;
	*value = (int64_t)(number * unit);
	return 0;
}

static int parse_bool(const char *text, bool *value)
{
	static const char *const yes[] = { "1", "t", "T", "true", "TRUE", "True" };
	static const char *const no[] = { "0", "f", "F", "false", "FALSE", "False" };
	for (size_t i = 0; i < GT_COUNT(yes); i++) {
		if (strcmp(text, yes[i]) == 0) {
			*value = true;
			return 0;
		}
		if (strcmp(text, no[i]) == 0) {
			*value = false;
			return 0;
		}
	}
	return -1;
}

static const char *spelled(const struct flag *flag, char out[static 64])
{
	if (flag->letter)
		snprintf(out, 64, "-%c, --%.50s", flag->letter, flag->name);
	else
		snprintf(out, 64, "--%.50s", flag->name);
	return out;
}

static int bad_value(const struct flag *flag, const char *text, const char *wanted, struct gt_error *err)
{
	char name[64];
	return gt_fail(err, GT_INVALID, "invalid argument \"%.200s\" for \"%s\" flag: %s", text, spelled(flag, name),
		       wanted);
}


void args_split_csv(const char *text, struct gt_strings *list)
{
	AUTO_BUF struct gt_buf item = { 0 };
	bool quoted = false;
	for (const char *p = text;; p++) {
		if (*p == '"') {
			quoted = !quoted;
		} else if (*p == '\0' || (*p == ',' && !quoted)) {
			gt_strings_add(list, item.len > 0 ? item.data : "");
			gt_buf_reset(&item);
			if (*p == '\0')
				return;
		} else {
			gt_buf_char(&item, *p);
		}
	}
}

static int set_list(const struct flag *flag, struct arg_value *value, const char *text, struct gt_error *err)
{
	if (flag->type == FLAG_FILTER) {
		const char *equals = strchr(text, '=');
		if (*text == '\0')
			return 0;
		if (!equals || equals == text)
			return bad_value(flag, text, "a filter reads KEY=VALUE", err);
	}
	if (flag->type == FLAG_MAP && (*text == '=' || *text == '\0'))
		return bad_value(flag, text, "it reads KEY=VALUE", err);
	if (flag->type == FLAG_CSV)
		args_split_csv(text, &value->list);
	else
		gt_strings_add(&value->list, text);
	return 0;
}

static int set_value(const struct flag *flag, struct arg_value *value, const char *text, struct gt_error *err)
{
	switch (flag->type) {
	case FLAG_BOOL:
		if (parse_bool(text, &value->yes) < 0)
			return bad_value(flag, text, "it is true or false", err);
		break;
	case FLAG_INT:
		if (parse_int(text, &value->number) < 0)
			return bad_value(flag, text, "it is a whole number", err);
		break;
	case FLAG_UINT16:
		if (parse_int(text, &value->number) < 0 || value->number < 0 || value->number > 65535)
			return bad_value(flag, text, "it is a whole number from 0 to 65535", err);
		break;
	case FLAG_BYTES:
		if (parse_bytes(text, &value->number) < 0)
			return bad_value(flag, text, "it is a size: a number with b, k, m, g or nothing after it", err);
		break;
	case FLAG_DURATION:
		if (gt_duration_parse(text, &value->number, NULL) < 0)
			return bad_value(flag, text, "it is a duration, such as 1m30s or 500ms", err);
		break;
	case FLAG_DECIMAL: {
		char *end;
		value->decimal = strtod(text, &end);
		if (end == text || *end != '\0' || !(value->decimal >= 0 && value->decimal <= 1e6))
			return bad_value(flag, text, "it is a number, such as 1.5", err);
		break;
	}
	case FLAG_LIST:
	case FLAG_CSV:
	case FLAG_MAP:
	case FLAG_FILTER:
		if (set_list(flag, value, text, err) < 0)
			return -1;
		break;
	case FLAG_STRING:
		break;
	}
	free(value->text);
	value->text = gt_xstrdup(text);
	return 0;
}

static int give(struct args *args, size_t at, const char *text, struct gt_error *err)
{
	const struct flag *flag = &args->flags[at];
	if (flag->refuse)
		return gt_fail(err, GT_UNSUPPORTED, "--%s is not supported: %s", flag->name, flag->refuse);
	if (set_value(flag, &args->values[at], text, err) < 0)
		return -1;
	args->values[at].given = true;
	return 0;
}

static ssize_t find_long(const struct args *args, const char *name, size_t len)
{
	for (size_t i = 0; args->flags[i].name; i++) {
		const char *alias = args->flags[i].alias;
		if (strncmp(args->flags[i].name, name, len) == 0 && args->flags[i].name[len] == '\0')
			return alias ? find_long(args, alias, strlen(alias)) : (ssize_t)i;
	}
	return -1;
}

static ssize_t find_letter(const struct args *args, char letter)
{
	for (size_t i = 0; args->flags[i].name; i++) {
		if (args->flags[i].letter == letter)
			return (ssize_t)i;
	}
	return -1;
}

/* One word "--name[=value]"; *used is how many words it took. */
static int parse_long(struct args *args, int left, char **argv, int *used, struct gt_error *err)
{
	const char *name = argv[0] + 2;
	size_t len = strcspn(name, "=");
	*used = 1;
	if (len == 4 && strncmp(name, "help", 4) == 0) {
		args->help = true;
		return 0;
	}
	ssize_t at = find_long(args, name, len);
	if (at < 0)
		return gt_fail(err, GT_INVALID, "unknown flag: --%.*s", (int)(len < 100 ? len : 100), name);
	if (name[len] == '=')
		return give(args, (size_t)at, name + len + 1, err);
	if (args->flags[at].type == FLAG_BOOL)
		return give(args, (size_t)at, "true", err);
	if (left < 2)
		return gt_fail(err, GT_INVALID, "flag needs an argument: --%s", args->flags[at].name);
	*used = 2;
	return give(args, (size_t)at, argv[1], err);
}

/* One word "-abc": switches joined, the last of which may take the rest of the word or the next word as its value. */
static int parse_short(struct args *args, int left, char **argv, int *used, struct gt_error *err)
{
	*used = 1;
	for (const char *p = argv[0] + 1; *p; p++) {
		ssize_t at = find_letter(args, *p);
		if (at < 0 && *p == 'h') {
			args->help = true;
			continue;
		}
		if (at < 0)
			return gt_fail(err, GT_INVALID, "unknown shorthand flag: '%c' in %.100s", *p, argv[0]);
		if (p[1] == '=')
			return give(args, (size_t)at, p + 2, err);
		if (args->flags[at].type == FLAG_BOOL) {
			if (give(args, (size_t)at, "true", err) < 0)
				return -1;
			continue;
		}
		if (p[1])
			return give(args, (size_t)at, p + 1, err);
		if (left < 2)
			return gt_fail(err, GT_INVALID, "flag needs an argument: '%c' in %.100s", *p, argv[0]);
		*used = 2;
		return give(args, (size_t)at, argv[1], err);
	}
	return 0;
}

static const struct flag no_flags[] = { { .name = NULL } };

int args_parse(struct args *args, const struct flag *flags, bool flags_first, int argc, char **argv,
	       struct gt_error *err)
{
	args->flags = flags ? flags : no_flags;
	args->values = gt_xcalloc(flags_count(args->flags) + 1, sizeof *args->values);
	args->operands = gt_xcalloc((size_t)argc + 1, sizeof *args->operands);
	for (size_t i = 0; args->flags[i].name; i++) {
		const struct flag *flag = &args->flags[i];
		if (flag->initial && set_value(flag, &args->values[i], flag->initial, err) < 0)
			return -1;
		if (flag->initial && flag->type >= FLAG_LIST)
			abort(); /* a list has no default */
	}
	int i = 0;
	while (i < argc) {
		char *word = argv[i];
		int used = 1;
		if (strcmp(word, "--") == 0) {
			i++;
			break;
		}
		if (word[0] != '-' || word[1] == '\0') {
			if (flags_first)
				break;
			args->operands[args->count++] = word;
		} else if (word[1] == '-') {
			if (parse_long(args, argc - i, argv + i, &used, err) < 0)
				return -1;
		} else if (parse_short(args, argc - i, argv + i, &used, err) < 0) {
			return -1;
		}
		i += used;
	}
	while (i < argc)
		args->operands[args->count++] = argv[i++];
	return 0;
}

int args_check_count(const struct args *args, struct gt_error *err)
{
	int min = args->command->min, max = args->command->max;
	const char *path = args->path;
	if (args->count >= min && (max == ANY_NUMBER || args->count <= max))
		return 0;
	if (min == 0 && max == 0)
		return gt_fail(err, GT_INVALID, "'gantry %s' accepts no arguments", path);
	const char *many = (min == max ? min : args->count < min ? min : max) == 1 ? "" : "s";
	if (min == max)
		return gt_fail(err, GT_INVALID, "'gantry %s' requires %d argument%s", path, min, many);
	if (args->count < min)
		return gt_fail(err, GT_INVALID, "'gantry %s' requires at least %d argument%s", path, min, many);
	return gt_fail(err, GT_INVALID, "'gantry %s' requires at most %d argument%s", path, max, many);
}

void args_free(struct args *args)
{
	for (size_t i = 0; args->values && args->flags[i].name; i++) {
		free(args->values[i].text);
		gt_strings_free(&args->values[i].list);
	}
	free(args->values);
	free(args->operands);
	*args = (struct args){ 0 };
}

static const struct arg_value *value_of(const struct args *args, const char *name)
{
	ssize_t at = find_long(args, name, strlen(name));
	if (at < 0) {
		fprintf(stderr, "gantry: the table of commands has no flag --%s for %s\n", name, args->path);
		abort();
	}
	return &args->values[at];
}

bool arg_has_flag(const struct args *args, const char *name)
{
	return find_long(args, name, strlen(name)) >= 0;
}

bool arg_given(const struct args *args, const char *name)
{
	return value_of(args, name)->given;
}

bool arg_bool(const struct args *args, const char *name)
{
	return value_of(args, name)->yes;
}

int64_t arg_int(const struct args *args, const char *name)
{
	return value_of(args, name)->number;
}

double arg_decimal(const struct args *args, const char *name)
{
	return value_of(args, name)->decimal;
}

const char *arg_string(const struct args *args, const char *name)
{
	const char *text = value_of(args, name)->text;
	return text ? text : "";
}

const struct gt_strings *arg_list(const struct args *args, const char *name)
{
	return &value_of(args, name)->list;
}
