#include "demux.h"

#include <errno.h>
#include <string.h>

#include "base/fd.h"

enum { STREAM_STDIN, STREAM_STDOUT, STREAM_STDERR, STREAM_ERROR };

static int put(struct demux *demux, int fd, const char *bytes, size_t len, struct gt_error *err)
{
	if (fd < 0 || len == 0)
		return 0;
	int done = demux->write ? demux->write(demux->arg, fd, bytes, len) : gt_write_full(fd, bytes, len);
	return done < 0 ? gt_fail_errno(err, errno, "cannot write the output") : 0;
}

static int flush(struct demux *demux, struct gt_error *err)
{
	int done = put(demux, demux->gathered_fd, demux->gathered.data, demux->gathered.len, err);
	gt_buf_reset(&demux->gathered);
	return done;
}

static int begin_frame(struct demux *demux, struct gt_error *err)
{
	const unsigned char *head = demux->head;
	demux->have = 0;
	demux->stream = head[0];
	demux->left = (uint32_t)head[4] << 24 | (uint32_t)head[5] << 16 | (uint32_t)head[6] << 8 | head[7];
	if (head[0] > STREAM_ERROR || head[1] || head[2] || head[3])
		return gt_fail(err, GT_INTERNAL, "unrecognized input header: %d", head[0]);
	int fd = demux->stream == STREAM_STDERR ? demux->err : demux->out;
	if (demux->stream == STREAM_ERROR)
		fd = 2;
	if (fd != demux->gathered_fd && flush(demux, err) < 0)
		return -1;
	demux->gathered_fd = fd;
	return 0;
}

int demux_feed(struct demux *demux, const char *bytes, size_t len, struct gt_error *err)
{
	if (demux->raw)
		return put(demux, demux->out, bytes, len, err);
	while (len > 0) {
		size_t part;
		if (demux->left == 0) {
			part = sizeof demux->head - demux->have;
			if (part > len)
				part = len;
			memcpy(demux->head + demux->have, bytes, part);
			demux->have += part;
			if (demux->have == sizeof demux->head && begin_frame(demux, err) < 0)
				return -1;
		} else {
			part = demux->left < len ? demux->left : len;
			gt_buf_add(&demux->gathered, bytes, part);
			demux->left -= (uint32_t)part;
		}
		bytes += part;
		len -= part;
	}
	return flush(demux, err);
}

void demux_free(struct demux *demux)
{
	gt_buf_free(&demux->gathered);
}
