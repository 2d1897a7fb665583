/*
 * doctor.h - looks at the host and tells what a container engine lacks there, and what to do about it.
 *
 * It changes nothing and keeps nothing; what it asks of the kernel is answered at once. It runs in the daemon, whose namespaces, limits and drivers it
 * then sees, and without one (`gantryd --check-host`), where it looks from the caller's place.
 */
#pragma once

#include <jansson.h>

#include "config/config.h"
#include "driver/driver.h"

/* {"Checks": [{"Name", "Status": "ok"|"warning"|"failed", "Message", "Remedy"}]}: one sentence what is, and one what to do ("" where all is well). The
 * caller's. drivers NULL: there is no daemon, so those that it would load are looked at. Thread safe. */
json_t *gt_doctor(const struct gt_config *config, struct gt_drivers *drivers);
/* One row more, for checks of those who know more than the host. */
void gt_doctor_add(json_t *report, const char *name, const char *status, const char *message, const char *remedy);
/* Whether a row of it failed. */
bool gt_doctor_failed(const json_t *report);
