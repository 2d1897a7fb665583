/* log_local.c - records of the local format: a little-endian header and the bytes as they came. */
#include <endian.h>
#include <string.h>

#include "shim/log.h"
#include "shim/logformat.h"

void gt_log_local_record(struct gt_buf *out, unsigned stream, int64_t time, const char *text, size_t len, bool whole)
{
	struct gt_log_record record = {
		.len = htole32((uint32_t)len),
		.stream = (uint8_t)stream,
		.flags = whole ? 0 : GT_LOG_PARTIAL,
		.magic = htole16(GT_LOG_MAGIC),
		.time = (int64_t)htole64((uint64_t)time),
	};
	char *at = gt_buf_reserve(out, sizeof record + len);
	memcpy(at, &record, sizeof record);
	memcpy(at + sizeof record, text, len);
	out->len += sizeof record + len;
}
