/*
 * overlay.h - what is peculiar to mounting overlay file systems on kernels of different age.
 *
 * Linux 6.8 takes layers one by one ("lowerdir+"), any number of them. Before, they go as one list: by fsconfig(2) up to 255 bytes, by mount(2) up to a page.
 */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "base/json.h"

#define GT_OVERLAY_LIST_MAX 255

/* Whether the kernel says at once that it does not know an option. Before Linux 6.5 overlay takes any, and fails when the mount is made. */
bool gt_overlay_checks_options(void);
/* The mount by mount(2), as a detached one. options: "key=value", one of them "lowerdir=...". It is mounted for an instant over its first lower directory: the
 * caller's mount namespace is its own, and nothing propagates out of it. Returns a descriptor. */
int gt_overlay_mount_classic(const struct gt_strings *options, struct gt_error *err);
/* To be held while a mount with a work directory ("workdir=..." among options) is made: the kernel clears and makes directories there, and of two that do so
 * at once one fails. Waits for others, which take no longer than a mount. Returns a descriptor that ends it when closed; -1 where there is nothing to hold. */
int gt_overlay_claim(const struct gt_strings *options);
