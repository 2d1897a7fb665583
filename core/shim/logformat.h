/*
 * logformat.h - what a container's log looks like on disk: written by the shim (log.c), read by the engine (logs.c).
 *
 * json-file: Docker's lines {"log":"text\n","stream":"stdout","time":"2026-01-02T03:04:05.000000000Z"}\n, with "attrs":{...} before the
 *            time where labels, variables or a tag were asked for. A line of more than 16 KiB is cut into several records; only the last ends with \n.
 * local:     binary records: struct gt_log_record (little endian), then `len` bytes of text without a final newline
 *            unless GT_LOG_PARTIAL is clear (the newline is implied).
 * Rotation:  PATH, PATH.1, PATH.2 ... (newest first), .gz where compressed. The current file is always written whole records at a time.
 */
#pragma once

#include <stdint.h>

#define GT_LOG_CHUNK 16384u
#define GT_LOG_JSON_TIME 41     /* bytes of ,"time":"2026-01-02T03:04:05.000000000Z"} */

#define GT_LOG_PARTIAL 1u       /* the line goes on in the next record of the same stream */

struct gt_log_record {
	uint32_t len;           /* of the text that follows */
	uint8_t stream;         /* 1 stdout, 2 stderr */
	uint8_t flags;
	uint16_t magic;         /* GT_LOG_MAGIC */
	int64_t time;           /* ns, CLOCK_REALTIME */
};
#define GT_LOG_MAGIC 0x6c67
