/*
 * settings.c - the lines of a [plugin.NAME] section against the keys that the plugin declares.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/auto.h"
#include "internal.h"

bool setting_is_loaders(const char *key)
{
	return strcmp(key, "enabled") == 0 || strcmp(key, "path") == 0 || strcmp(key, "isolate") == 0;
}

bool setting_flag(const char *value, bool *flag)
{
	static const char *const YES[] = { "yes", "true", "on", "1" }, *const NO[] = { "no", "false", "off", "0" };
	for (size_t i = 0; i < GT_COUNT(YES); i++) {
		if (strcasecmp(value, YES[i]) == 0)
			return *flag = true;
		if (strcasecmp(value, NO[i]) == 0) {
			*flag = false;
			return true;
		}
	}
	return false;
}

static char *check_flag(const char *value, char **normal)
{
	bool flag = false;
	if (!setting_flag(value, &flag))
		return gt_xasprintf("%s is neither yes nor no", value);
	*normal = gt_xstrdup(flag ? "true" : "false");
	return NULL;
}

/* Digits with an optional sign; for sizes then one of k m g t (powers of 1024), then maybe b. */
static bool parse_number(const char *text, bool size, int64_t *number)
{
	char *end;
	errno = 0;
	long long value = strtoll(text, &end, 10);
	if (end == text || errno || text[strspn(text, " \t")] != text[0] || (size && value < 0))
		return false;
	if (size && *end) {
		static const char UNITS[] = "kmgt";
		const char *unit = strchr(UNITS, *end | 0x20);
		if (unit) {
			int shift = 10 * (int)(unit - UNITS + 1);
			if (value > (INT64_MAX >> shift))
				return false;
			value <<= shift;
			end++;
		}
		if (*end == 'b' || *end == 'B')
			end++;
	}
	*number = value;
	return *end == '\0';
}

static char *check_number(const struct gantry_key *key, const char *value, char **normal)
{
	bool size = key->type == GANTRY_KEY_SIZE;
	int64_t number = 0;
	if (!parse_number(value, size, &number))
		return gt_xasprintf("%s is not %s", value, size ? "a size (such as 512k, 64m, 2g)" : "a whole number");
	if ((key->min || key->max) && (number < key->min || number > key->max))
		return gt_xasprintf("%s is out of range %lld to %lld", value, (long long)key->min, (long long)key->max);
	*normal = gt_xasprintf("%lld", (long long)number);
	return NULL;
}

static char *check_choice(const struct gantry_key *key, const char *value, char **normal)
{
	AUTO_BUF struct gt_buf list = { 0 };
	for (const char *const *choice = key->choices; *choice; choice++) {
		if (strcmp(*choice, value) == 0) {
			*normal = gt_xstrdup(value);
			return NULL;
		}
		gt_buf_printf(&list, "%s%s", list.len ? ", " : "", *choice);
	}
	return gt_xasprintf("%s is not one of %s", value, list.data);
}

char *setting_check(const struct gantry_key *key, const char *value, char **normal)
{
	*normal = NULL;
	switch (key->type) {
	case GANTRY_KEY_BOOL:
		return check_flag(value, normal);
	case GANTRY_KEY_INT:
	case GANTRY_KEY_SIZE:
		return check_number(key, value, normal);
	case GANTRY_KEY_CHOICE:
		return check_choice(key, value, normal);
	case GANTRY_KEY_PATH:
		if (*value && *value != '/')
			return gt_xasprintf("%s is not an absolute path", value);
		/* fall through */
	default:
		*normal = gt_xstrdup(value);
		return NULL;
	}
}

void complain(struct gt_buf *complaints, const struct gt_plugin_setting *setting, const char *fmt, ...)
{
	va_list ap;
	gt_buf_printf(complaints, "%s%s:%d: [plugin.%s] %s: ", complaints->len ? "\n" : "", setting->file, setting->line, setting->plugin,
		      setting->key);
	va_start(ap, fmt);
	gt_buf_vprintf(complaints, fmt, ap);
	va_end(ap);
}

static void unknown_key(const struct plugin *plugin, const struct gt_plugin_setting *setting, struct gt_buf *complaints)
{
	AUTO_BUF struct gt_buf known = { 0 };
	for (size_t i = 0; i < plugin->info.key_count; i++)
		gt_buf_printf(&known, "%s, ", plugin->keys[i].name);
	complain(complaints, setting, "unknown key (there are: %senabled, path, isolate)", known.data ? known.data : "");
}

void settings_apply(struct plugin *plugin, const struct gt_config *config, struct gt_buf *complaints)
{
	for (size_t i = 0; i < plugin->info.key_count; i++) {
		if (plugin->keys[i].default_value)
			free(setting_check(&plugin->keys[i], plugin->keys[i].default_value, &plugin->values[i]));
	}
	for (size_t i = 0; i < config->plugin_setting_count; i++) {
		const struct gt_plugin_setting *setting = &config->plugin_settings[i];
		if (strcmp(setting->plugin, plugin->name) != 0 || setting_is_loaders(setting->key))
			continue;
		size_t at = 0;
		while (at < plugin->info.key_count && strcmp(plugin->keys[at].name, setting->key) != 0)
			at++;
		if (at == plugin->info.key_count) {
			unknown_key(plugin, setting, complaints);
			continue;
		}
		AUTO_FREE char *normal = NULL;
		AUTO_FREE char *reason = setting_check(&plugin->keys[at], setting->value, &normal);
		if (reason) {
			complain(complaints, setting, "%s", reason);
			continue;
		}
		free(plugin->values[at]);
		plugin->values[at] = take(normal);
	}
}
