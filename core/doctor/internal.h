/*
 * internal.h - private to core/doctor: the report, and the groups of checks.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/fd.h"
#include "doctor/doctor.h"

enum finding { FINE, WARNING, FAILED };

struct report {
	json_t *json;
	const struct gt_config *config;
	struct gt_drivers *drivers;     /* NULL: no daemon */
	bool root;
};

/* One row. remedy is kept only where something is wrong. */
void found(struct report *report, const char *name, enum finding finding, const char *remedy, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
/* "a", "b" -> ", a, b" without the first ", ". */
void add_word(struct gt_buf *list, const char *word);
/* The one number in a file of /proc or /sys; `absent` where there is none. */
int64_t number_in(const char *path, int64_t absent);
/* The value of a key of a plugin's section; NULL where it is not set. */
const char *plugin_setting(const struct report *report, const char *plugin, const char *key);

void check_kernel(struct report *report);       /* kernel.c */
void check_cgroups(struct report *report);      /* kernel.c */
void check_network(struct report *report);      /* network.c */
void check_limits(struct report *report);       /* limits.c */
void check_storage(struct report *report);      /* storage.c */
void check_settings(struct report *report);     /* settings.c */
