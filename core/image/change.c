/*
 * change.c - one Dockerfile instruction applied to an image's config: `commit --change`, `import --change`.
 *
 * The instructions that only set configuration are taken: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR.
 * Words are split, quoted and expanded as in a Dockerfile (words.h), from the config's own Env unless the caller, a build, brings its own scope. A value sees
 * the variables as they were before its instruction. Pure work on memory.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/signals.h"
#include "internal.h"
#include "image/words.h"

#define MAX_INSTRUCTION (256u * 1024)

static const char *env_value(const void *arg, const char *name, size_t len)
{
	const struct gt_image_config *config = arg;
	for (size_t i = config->env.count; i-- > 0;) {
		const char *item = config->env.items[i];
		if (strncmp(item, name, len) == 0 && item[len] == '=')
			return item + len + 1;
	}
	return NULL;
}

static void set_string(char **slot, const char *value)
{
	free(*slot);
	*slot = gt_xstrdup(value);
}

/* ---- instructions ---- */

static void command(struct gt_image_config *config, const char *text, struct gt_strings *list)
{
	struct gt_strings parsed = { 0 };
	if (!gt_words_json(text, &parsed)) {
		for (size_t i = 0; i < config->shell.count; i++)
			gt_strings_add(&parsed, config->shell.items[i]);
		if (config->shell.count == 0) {
			gt_strings_add(&parsed, "/bin/sh");
			gt_strings_add(&parsed, "-c");
		}
		gt_strings_add(&parsed, text);
	}
	gt_strings_free(list);
	*list = parsed;
}

static int change_cmd(struct gt_image_config *config, const struct gt_scope *scope, const char *text, struct gt_error *err)
{
	(void)scope;
	(void)err;
	command(config, text, &config->cmd);
	config->cmd_changed = true;
	return 0;
}

/* A command of the base image means nothing to another entry point. */
static int change_entrypoint(struct gt_image_config *config, const struct gt_scope *scope, const char *text, struct gt_error *err)
{
	(void)scope;
	(void)err;
	command(config, text, &config->entrypoint);
	if (!config->cmd_changed)
		gt_strings_free(&config->cmd);
	return 0;
}

/* Whether the first word has no "=": the old form "KEY the rest". */
static bool old_form(const struct gt_scope *scope, const char *text)
{
	AUTO_BUF struct gt_buf key = { 0 };
	return gt_word_take(scope, &text, '=', &key, NULL) == 0 && *text != '=' && *text;
}

/* Calls set(config, key, value) for each KEY=VALUE, or once for the old form. All values are read before the first is set. */
static int pairs(struct gt_image_config *config, const struct gt_scope *scope, const char *text, const char *what,
		 void (*set)(struct gt_image_config *config, const char *key, const char *value), struct gt_error *err)
{
	struct gt_strings keys = { 0 }, values = { 0 };
	int rc = 0;
	if (old_form(scope, text)) {
		size_t first = strcspn(text, " \t");
		AUTO_FREE char *key = gt_xstrndup(text, first);
		AUTO_FREE char *value = gt_words_value(scope, gt_skip_space(text + first), err);
		if (!value)
			return -1;
		set(config, key, value);
		return 0;
	}
	while (rc == 0 && *(text = gt_skip_space(text))) {
		AUTO_BUF struct gt_buf key = { 0 };
		AUTO_BUF struct gt_buf value = { 0 };
		rc = gt_word_take(scope, &text, '=', &key, err);
		if (rc == 0 && (*text != '=' || key.len == 0))
			rc = gt_fail(err, GT_INVALID, "%s wants KEY=VALUE, not \"%.100s\"", what, key.len ? key.data : text);
		if (rc == 0) {
			text++;
			rc = gt_word_take(scope, &text, '\0', &value, err);
		}
		if (rc == 0) {
			gt_strings_add(&keys, key.data);
			gt_strings_add(&values, value.data);
		}
	}
	for (size_t i = 0; rc == 0 && i < keys.count; i++)
		set(config, keys.items[i], values.items[i]);
	gt_strings_free(&keys);
	gt_strings_free(&values);
	return rc;
}

static void set_env(struct gt_image_config *config, const char *key, const char *value)
{
	AUTO_FREE char *text = gt_xasprintf("%s=%s", key, value);
	size_t len = strlen(key) + 1;
	for (size_t i = 0; i < config->env.count; i++) {
		if (strncmp(config->env.items[i], text, len) == 0) {
			free(config->env.items[i]);
			config->env.items[i] = take(text);
			return;
		}
	}
	gt_strings_add(&config->env, text);
}

static int change_env(struct gt_image_config *config, const struct gt_scope *scope, const char *text, struct gt_error *err)
{
	return pairs(config, scope, text, "ENV", set_env, err);
}

static void set_label(struct gt_image_config *config, const char *key, const char *value)
{
	if (!json_is_object(config->labels)) {
		json_decref(config->labels);
		config->labels = json_object();
	}
	json_object_set_new(config->labels, key, gt_json_text(value));
}

static int change_label(struct gt_image_config *config, const struct gt_scope *scope, const char *text, struct gt_error *err)
{
	return pairs(config, scope, text, "LABEL", set_label, err);
}

static void add_key(json_t **object, const char *key)
{
	if (!json_is_object(*object)) {
		json_decref(*object);
		*object = json_object();
	}
	json_object_set_new(*object, key, json_object());
}

static int add_port(struct gt_image_config *config, const char *word, struct gt_error *err)
{
	char *end;
	long from = strtol(word, &end, 10), to = from;
	if (end != word && *end == '-')
		to = strtol(end + 1, &end, 10);
	const char *proto = *end == '/' ? end + 1 : "tcp";
	if (!isdigit((unsigned char)word[0]) || (*end && *end != '/') || from < 1 || to < from || to > 65535 ||
	    (strcasecmp(proto, "tcp") != 0 && strcasecmp(proto, "udp") != 0 && strcasecmp(proto, "sctp") != 0))
		return gt_fail(err, GT_INVALID, "EXPOSE: \"%.60s\" is not PORT, PORT/PROTOCOL or FROM-TO", word);
	for (long port = from; port <= to; port++) {
		char key[32];
		int len = snprintf(key, sizeof key, "%ld/%s", port, proto);
		for (int i = 0; i < len; i++)
			key[i] = (char)tolower((unsigned char)key[i]);
		add_key(&config->exposed_ports, key);
	}
	return 0;
}

static int change_expose(struct gt_image_config *config, const struct gt_scope *scope, const char *text, struct gt_error *err)
{
	while (*(text = gt_skip_space(text))) {
		AUTO_BUF struct gt_buf word = { 0 };
		if (gt_word_take(scope, &text, '\0', &word, err) < 0 || add_port(config, word.data ? word.data : "", err) < 0)
			return -1;
	}
	return 0;
}

static int change_volume(struct gt_image_config *config, const struct gt_scope *scope, const char *text, struct gt_error *err)
{
	struct gt_strings given = { 0 }, list = { 0 };
	int rc = 0;
	if (!gt_words_json(text, &given))
		rc = gt_words_split(scope, text, &list, err);
	for (size_t i = 0; rc == 0 && i < given.count; i++) {
		AUTO_FREE char *path = gt_words_value(scope, given.items[i], err);
		rc = path ? 0 : -1;
		if (path)
			gt_strings_add(&list, path);
	}
	for (size_t i = 0; rc == 0 && i < list.count; i++) {
		if (list.items[i][0] == '\0')
			rc = gt_fail(err, GT_INVALID, "VOLUME: an empty path");
		else
			add_key(&config->volumes, list.items[i]);
	}
	gt_strings_free(&given);
	gt_strings_free(&list);
	return rc;
}

static int change_user(struct gt_image_config *config, const struct gt_scope *scope, const char *text, struct gt_error *err)
{
	AUTO_FREE char *value = gt_words_value(scope, text, err);
	if (!value)
		return -1;
	set_string(&config->user, value);
	return 0;
}

static int change_workdir(struct gt_image_config *config, const struct gt_scope *scope, const char *text, struct gt_error *err)
{
	AUTO_FREE char *value = gt_words_value(scope, text, err);
	if (!value)
		return -1;
	const char *old = config->working_dir ? config->working_dir : "";
	AUTO_FREE char *joined = value[0] == '/' ? gt_xstrdup(value) : gt_xasprintf("%s/%s", old, value);
	AUTO_BUF struct gt_buf clean = { 0 };
	for (const char *p = joined; *p;) {
		size_t part = strcspn(p, "/");
		if (part == 2 && memcmp(p, "..", 2) == 0) {
			while (clean.len && clean.data[--clean.len] != '/')
				;
		} else if (part && !(part == 1 && *p == '.')) {
			gt_buf_char(&clean, '/');
			gt_buf_add(&clean, p, part);
		}
		p += part + (p[part] == '/');
	}
	AUTO_FREE char *path = gt_xasprintf("%.*s", (int)clean.len, clean.data ? clean.data : "");
	set_string(&config->working_dir, path[0] ? path : "/");
	return 0;
}

static int change_stopsignal(struct gt_image_config *config, const struct gt_scope *scope, const char *text, struct gt_error *err)
{
	AUTO_FREE char *value = gt_words_value(scope, text, err);
	int signo;
	if (!value || gt_signal_parse(value, &signo, err) < 0)
		return value ? gt_context(err, "STOPSIGNAL") : -1;
	set_string(&config->stop_signal, value);
	return 0;
}

static int change_onbuild(struct gt_image_config *config, const struct gt_scope *scope, const char *text, struct gt_error *err)
{
	(void)scope;
	size_t word = strcspn(text, " \t");
	if ((word == 7 && strncasecmp(text, "ONBUILD", 7) == 0) || (word == 4 && strncasecmp(text, "FROM", 4) == 0) ||
	    (word == 10 && strncasecmp(text, "MAINTAINER", 10) == 0))
		return gt_fail(err, GT_INVALID, "%.*s isn't allowed as an ONBUILD trigger", (int)word, text);
	gt_strings_add(&config->on_build, text);
	return 0;
}

/* ---- HEALTHCHECK ---- */

static int health_option(json_t *check, const char *name, const char *value, struct gt_error *err)
{
	static const struct {
		const char *option, *field;
	} times[] = { { "interval", "Interval" }, { "timeout", "Timeout" }, { "start-period", "StartPeriod" },
		      { "start-interval", "StartInterval" } };
	if (strcmp(name, "retries") == 0) {
		char *end;
		long count = strtol(value, &end, 10);
		if (end == value || *end || count < 1 || count > 1000000)
			return gt_fail(err, GT_INVALID, "HEALTHCHECK: --retries=%.60s is not a count of at least 1", value);
		json_object_set_new(check, "Retries", json_integer(count));
		return 0;
	}
	for (size_t i = 0; i < GT_COUNT(times); i++) {
		int64_t ns;
		if (strcmp(times[i].option, name) != 0)
			continue;
		if (gt_duration_parse(value, &ns, err) < 0)
			return gt_context(err, "HEALTHCHECK: --%s", name);
		if (ns < GT_MILLISECOND && ns != 0)
			return gt_fail(err, GT_INVALID, "HEALTHCHECK: --%s cannot be less than 1ms", name);
		json_object_set_new(check, times[i].field, json_integer(ns));
		return 0;
	}
	return gt_fail(err, GT_INVALID, "HEALTHCHECK: unknown flag --%.60s", name);
}

static int change_healthcheck(struct gt_image_config *config, const struct gt_scope *scope, const char *text, struct gt_error *err)
{
	(void)scope;
	AUTO_JSON json_t *check = json_object();
	while (strncmp(text, "--", 2) == 0) {
		size_t len = strcspn(text, " \t");
		AUTO_FREE char *option = gt_xstrndup(text + 2, len - 2);
		char *value = strchr(option, '=');
		if (!value)
			return gt_fail(err, GT_INVALID, "HEALTHCHECK: --%.60s needs a value", option);
		*value++ = '\0';
		if (health_option(check, option, value, err) < 0)
			return -1;
		text = gt_skip_space(text + len);
	}
	size_t kind = strcspn(text, " \t");
	const char *rest = gt_skip_space(text + kind);
	json_t *test = json_array();
	json_object_set_new(check, "Test", test);
	if (kind == 4 && strncasecmp(text, "NONE", 4) == 0 && !*rest) {
		json_array_append_new(test, json_string("NONE"));
	} else if (kind == 3 && strncasecmp(text, "CMD", 3) == 0 && *rest) {
		struct gt_strings list = { 0 };
		bool exec = gt_words_json(rest, &list);
		json_array_append_new(test, json_string(exec ? "CMD" : "CMD-SHELL"));
		for (size_t i = 0; exec && i < list.count; i++)
			json_array_append_new(test, gt_json_text(list.items[i]));
		if (!exec)
			json_array_append_new(test, gt_json_text(rest));
		gt_strings_free(&list);
	} else {
		return gt_fail(err, GT_INVALID, "HEALTHCHECK wants CMD and a command, or NONE, not \"%.60s\"", text);
	}
	json_decref(config->healthcheck);
	config->healthcheck = take(check);
	return 0;
}

static int change_shell(struct gt_image_config *config, const struct gt_scope *scope, const char *text, struct gt_error *err)
{
	(void)scope;
	struct gt_strings list = { 0 };
	if (!gt_words_json(text, &list) || list.count == 0) {
		gt_strings_free(&list);
		return gt_fail(err, GT_INVALID, "SHELL requires the arguments to be in JSON form, not \"%.60s\"", text);
	}
	gt_strings_free(&config->shell);
	config->shell = list;
	return 0;
}

static const struct {
	const char *name;
	int (*apply)(struct gt_image_config *config, const struct gt_scope *scope, const char *text, struct gt_error *err);
} instructions[] = {
	{ "CMD", change_cmd },           { "ENTRYPOINT", change_entrypoint }, { "ENV", change_env },
	{ "EXPOSE", change_expose },     { "HEALTHCHECK", change_healthcheck }, { "LABEL", change_label },
	{ "ONBUILD", change_onbuild },   { "SHELL", change_shell },         { "STOPSIGNAL", change_stopsignal }, { "USER", change_user },
	{ "VOLUME", change_volume },     { "WORKDIR", change_workdir },
};

int gt_image_config_apply(struct gt_image_config *config, const struct gt_scope *scope, const char *instruction, struct gt_error *err)
{
	if (strlen(instruction) > MAX_INSTRUCTION)
		return gt_fail(err, GT_TOO_LARGE, "an instruction is longer than %u bytes", MAX_INSTRUCTION);
	AUTO_JSON json_t *utf8 = json_string(instruction);
	if (!utf8)
		return gt_fail(err, GT_INVALID, "an instruction is not UTF-8, which an image's configuration has to be");
	instruction = gt_skip_space(instruction);
	size_t len = strcspn(instruction, " \t\n");
	AUTO_FREE char *text = gt_xstrdup(gt_skip_space(instruction + len));
	for (size_t end = strlen(text); end > 0 && isspace((unsigned char)text[end - 1]);)
		text[--end] = '\0';
	for (size_t i = 0; i < GT_COUNT(instructions); i++) {
		if (strlen(instructions[i].name) != len || strncasecmp(instructions[i].name, instruction, len) != 0)
			continue;
		if (!text[0])
			return gt_fail(err, GT_INVALID, "%s requires at least one argument", instructions[i].name);
		return instructions[i].apply(config, scope, text, err);
	}
	return gt_fail(err, GT_INVALID, "%.*s is not a valid change command", (int)(len < 60 ? len : 60), instruction);
}

int gt_image_config_change(struct gt_image_config *config, const char *instruction, struct gt_error *err)
{
	struct gt_scope scope = { env_value, config, '\\' };
	return gt_image_config_apply(config, &scope, instruction, err);
}

int changes_apply(struct gt_image_config *config, const struct gt_strings *changes, struct gt_error *err)
{
	for (size_t i = 0; changes && i < changes->count; i++) {
		if (gt_image_config_change(config, changes->items[i], err) < 0)
			return -1;
	}
	return 0;
}
