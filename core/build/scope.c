/*
 * scope.c - what variables stand for: ENV of the image so far, then ARG.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "build/internal.h"

static ssize_t find(const struct vars *args, const char *name, size_t len)
{
	for (size_t i = 0; i < args->names.count; i++) {
		if (strncmp(args->names.items[i], name, len) == 0 && !args->names.items[i][len])
			return (ssize_t)i;
	}
	return -1;
}

void vars_set(struct vars *args, const char *name, const char *value)
{
	ssize_t at = find(args, name, strlen(name));
	if (at < 0) {
		at = (ssize_t)args->names.count;
		gt_strings_add(&args->names, name);
		args->values = gt_xrealloc(args->values, args->names.count * sizeof *args->values);
		args->values[at] = NULL;
	}
	char *copy = gt_xstrdup(value);
	free(args->values[at]);
	args->values[at] = copy;
}

bool vars_declared(const struct vars *args, const char *name)
{
	return find(args, name, strlen(name)) >= 0;
}

const char *vars_get(const struct vars *args, const char *name, size_t len)
{
	ssize_t at = find(args, name, len);
	return at < 0 ? NULL : args->values[at];
}

void vars_copy(struct vars *to, const struct vars *from)
{
	for (size_t i = 0; i < from->names.count; i++)
		vars_set(to, from->names.items[i], from->values[i]);
}

void vars_free(struct vars *args)
{
	for (size_t i = 0; i < args->names.count; i++)
		free(args->values[i]);
	free(args->values);
	gt_strings_free(&args->names);
	*args = (struct vars){ 0 };
}

bool arg_is_proxy(const char *name)
{
	static const char *const names[] = { "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY" };
	for (size_t i = 0; i < GT_COUNT(names); i++) {
		if (strcasecmp(name, names[i]) == 0)
			return true;
	}
	return false;
}

static const char *run_value(const void *arg, const char *name, size_t len)
{
	const struct run *run = arg;
	for (size_t i = run->config.env.count; i-- > 0;) {
		const char *item = run->config.env.items[i];
		if (strncmp(item, name, len) == 0 && item[len] == '=')
			return item + len + 1;
	}
	return vars_get(&run->args, name, len);
}

struct gt_scope run_scope(struct run *run)
{
	return (struct gt_scope){ run_value, run, run->file->escape };
}

int arg_apply(const struct gt_build_options *options, const struct gt_scope *scope, const char *text, const struct vars *global,
	      struct vars *args, struct gt_error *err)
{
	while (*(text = gt_skip_space(text))) {
		AUTO_BUF struct gt_buf name = { 0 };
		AUTO_BUF struct gt_buf value = { 0 };
		if (gt_word_take(scope, &text, '=', &name, err) < 0)
			return -1;
		bool given = *text == '=';
		if (name.len == 0)
			return gt_fail(err, GT_INVALID, "ARG: a name is missing in front of \"%.40s\"", text);
		if (given) {
			text++;
			if (gt_word_take(scope, &text, '\0', &value, err) < 0)
				return -1;
		}
		json_t *wanted = options->build_args ? json_object_get(options->build_args, name.data) : NULL;
		const char *now = json_string_value(wanted);
		if (!now && given)
			now = value.data;
		if (!now && !given && global)
			now = vars_get(global, name.data, name.len);
		/* once more without a default, as a stage that begins with another may say it: the value stays */
		if (now || !vars_declared(args, name.data))
			vars_set(args, name.data, now);
	}
	return 0;
}
