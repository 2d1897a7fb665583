/*
 * apparmor.h - private to the engine: which AppArmor profile holds a container, and the default one, gantry-default.
 *
 * The default profile's text is apparmor.profile; compiled it is part of the program. The kernel gets it at the daemon's start, and again before a container
 * starts if somebody has taken it away meanwhile (tools that remove profiles without a file do). It stays in the kernel when the daemon ends:
 * containers run on under it. Thread safe.
 */
#pragma once

#include "engine/internal.h"

struct security;

#define GT_APPARMOR_DEFAULT "gantry-default"

/* Whether profiles can be put in force here: the kernel has AppArmor switched on and its files are mounted. */
bool gt_apparmor_on(void);
/* What holds a container with these options: a profile's name, "unconfined", or NULL where nothing is asked for and AppArmor is off. What was asked for stands, so
 * that a container whose host has lost AppArmor since does not start without it. Borrowed from `security`, or constant. */
const char *gt_apparmor_profile(const struct gt_host_config *host, const struct security *security);
/* At create: GT_UNSUPPORTED for a profile where AppArmor is off, GT_INVALID for a name that can be none or that the kernel does not have. */
int gt_apparmor_check(const char *profile, struct gt_error *err);
/* Loads the default profile where the kernel does not have it; replace: even so, as it may be an older program's. Nothing where AppArmor is off. */
int gt_apparmor_load(bool replace, struct gt_error *err);
