#include "doctor/doctor.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

void gt_doctor_add(json_t *report, const char *name, const char *status, const char *message, const char *remedy)
{
	json_array_append_new(json_object_get(report, "Checks"),
			      json_pack("{s:s s:s s:s s:s}", "Name", name, "Status", status, "Message", message, "Remedy", remedy));
}

void found(struct report *report, const char *name, enum finding finding, const char *remedy, const char *fmt, ...)
{
	static const char *const WORDS[] = { "ok", "warning", "failed" };
	char message[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(message, sizeof message, fmt, ap);
	va_end(ap);
	gt_doctor_add(report->json, name, WORDS[finding], message, finding == FINE ? "" : remedy);
}

void add_word(struct gt_buf *list, const char *word)
{
	gt_buf_printf(list, "%s%s", list->len ? ", " : "", word);
}

int64_t number_in(const char *path, int64_t absent)
{
	int64_t number = absent;
	gt_read_number(AT_FDCWD, path, &number, NULL);
	return number;
}

const char *plugin_setting(const struct report *report, const char *plugin, const char *key)
{
	const char *value = NULL;
	for (size_t i = 0; i < report->config->plugin_setting_count; i++) {
		const struct gt_plugin_setting *setting = &report->config->plugin_settings[i];
		if (strcmp(setting->plugin, plugin) == 0 && strcmp(setting->key, key) == 0)
			value = setting->value;
	}
	return value;
}

json_t *gt_doctor(const struct gt_config *config, struct gt_drivers *drivers)
{
	struct report report = { .json = json_pack("{s:[]}", "Checks"), .config = config, .drivers = drivers, .root = geteuid() == 0 };
	if (!report.root)
		found(&report, "user", WARNING, "run it as root", "without root, not everything can be looked at");
	check_kernel(&report);
	check_cgroups(&report);
	check_network(&report);
	check_limits(&report);
	check_storage(&report);
	check_settings(&report);
	return report.json;
}

bool gt_doctor_failed(const json_t *report)
{
	size_t i;
	json_t *row;
	json_array_foreach(json_object_get(report, "Checks"), i, row) {
		const char *status = json_string_value(json_object_get(row, "Status"));
		if (status && strcmp(status, "failed") == 0)
			return true;
	}
	return false;
}
