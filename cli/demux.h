/*
 * demux.h - the daemon's framed output (8-byte headers: stream, length) written to standard output and error.
 *
 * Frames of one stream that follow each other go out in one write, so that many short lines cost few system calls.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

struct demux {
	bool raw;                       /* a terminal's output has no frames */
	int out, err;                   /* -1: drop */
	/* Writes all; NULL: gt_write_full. Returns -1 with errno. */
	int (*write)(void *arg, int fd, const void *bytes, size_t len);
	void *arg;

	unsigned char head[8];
	size_t have;                    /* of the header */
	uint32_t left;                  /* of the frame */
	int stream;
	struct gt_buf gathered;
	int gathered_fd;
};

int demux_feed(struct demux *demux, const char *bytes, size_t len, struct gt_error *err);
void demux_free(struct demux *demux);
