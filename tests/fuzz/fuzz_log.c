/* Bytes of a log, in both formats and in pieces of any size; and what a container writes, through the shim's formats and back. */
#include "fuzz.h"

#include "engine/logs.h"
#include "shim/log.h"

static void read_all(bool local, const char *bytes, size_t len)
{
	AUTO_BUF struct gt_buf scratch = { 0 };
	struct log_record record;
	size_t taken;
	while (len && (taken = log_record_take(local, bytes, len, true, &record, &scratch)) > 0) {
		MUST(taken <= len && record.stream >= 0 && record.stream <= 2);
		for (size_t i = 0; record.stream && i < record.len; i++)
			(void)*(volatile const char *)&record.text[i];
		bytes += taken;
		len -= taken;
	}
}

static void write_and_read(const char *text, size_t len, bool whole)
{
	AUTO_BUF struct gt_buf tail = { 0 };
	AUTO_BUF struct gt_buf json = { 0 };
	AUTO_BUF struct gt_buf local = { 0 };
	AUTO_BUF struct gt_buf scratch = { 0 };
	struct log_record record;
	gt_log_json_stamp(&tail, 2, NULL, 1);
	gt_log_json_record(&json, &tail, text, len, whole);
	MUST(memchr(json.data, '\n', json.len) == json.data + json.len - 1);
	MUST(log_record_take(false, json.data, json.len, true, &record, &scratch) == json.len && record.stream == 2 && record.at == 1);
	AUTO_JSON json_t *line = json_loadb(json.data, json.len, JSON_ALLOW_NUL, NULL);
	const json_t *again = json_object_get(line, "log");
	MUST(json_string_length(again) == record.len && memcmp(json_string_value(again), record.text, record.len) == 0);
	gt_log_local_record(&local, 1, 7, text, len, whole);
	MUST(log_record_take(true, local.data, local.len, true, &record, &scratch) == local.len && record.stream == 1 && record.at == 7);
	MUST(record.len == len + whole && memcmp(record.text, text, len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	AUTO_FREE char *bytes = gt_xmalloc(size); /* of this size exactly, so that a read past its end is seen */
	memcpy(bytes, data + 1, size - 1);
	read_all(data[0] & 1, bytes, size - 1);
	write_and_read(bytes, size - 1, data[0] & 2);
	return 0;
}
