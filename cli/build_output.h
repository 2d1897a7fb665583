/*
 * build_output.h - `gantry build --output`: where the result goes besides, or instead of, the daemon's images.
 */
#pragma once

#include "cli.h"

enum output_kind { OUTPUT_IMAGE, OUTPUT_TAR, OUTPUT_LOCAL, OUTPUT_ARCHIVE, OUTPUT_CACHE };

struct build_output {
	enum output_kind kind;
	char *dest;                     /* file or directory; NULL: none, or standard output */
	char *name;                     /* OUTPUT_IMAGE: tags, separated by commas */
	bool push;
};

/* --output, or what the command does without it. Free it in either case. */
int build_output_read(const struct args *args, struct build_output *output, struct gt_error *err);
void build_output_free(struct build_output *output);
/* Whether the result is wanted as files alone: it becomes no image then unless it gets a tag. */
bool build_output_is_files(const struct build_output *output);
/* Whether standard output is where it goes, so that messages cannot. */
bool build_output_to_stdout(const struct build_output *output);
/* Writes, or pushes, what was built. tags: those the image has now. */
int build_output_write(struct cli *cli, const struct build_output *output, const char *id, const struct gt_strings *tags, struct gt_error *err);
