/*
 * image.h - what the image commands share with `run`: splitting references, pulling.
 */
#pragma once

#include "cli.h"

/* "host:5000/name:tag" -> name and tag; tag is NULL where there is none. "name@sha256:..." has the digest as tag. */
void split_reference(const char *reference, char **name, char **tag);
/* Pulls, showing progress on out. */
int pull_image(struct cli *cli, const char *reference, const char *platform, bool all_tags, bool quiet, FILE *out,
	       struct gt_error *err);
/* Pushes a tag, or all of a name. */
int push_image(struct cli *cli, const char *reference, const char *platform, bool all, bool quiet, struct gt_error *err);
void print_deleted_images(const json_t *deleted);
