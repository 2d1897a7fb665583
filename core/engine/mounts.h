/*
 * mounts.h - private to mounts*.c: one user's mount read from its several forms.
 */
#pragma once

#include "engine/volume.h"

/* A wish before volumes are made: what the user wrote, and for a volume how to make it. */
struct mount_wish {
	struct gt_container_mount mount;
	const json_t *volume_options, *volume_labels;   /* borrowed */
};

/* "SOURCE:DESTINATION[:OPTIONS]" of HostConfig.Binds. */
int mount_read_bind(const char *text, const char *volume_driver, struct mount_wish *wish, struct gt_error *err);
/* One of HostConfig.Mounts. */
int mount_read_object(const json_t *object, struct mount_wish *wish, struct gt_error *err);
/* One of HostConfig.Tmpfs. */
int mount_read_tmpfs(const char *destination, const char *options, struct mount_wish *wish, struct gt_error *err);
/* One of Config.Volumes. */
int mount_read_volume(const char *destination, const char *driver, struct mount_wish *wish, struct gt_error *err);
/* An absolute path without "." and "..", doubled or closing slashes. The caller's. NULL: not absolute, or "/". */
char *mount_clean_path(const char *path);
void mount_release(struct gt_container_mount *mount);
