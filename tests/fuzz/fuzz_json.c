/* JSON of requests: parsed, decoded by the tables, written and read again. */
#include "fuzz.h"

#include "base/json.h"
#include "engine/container_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gt_error err = { 0 };
	AUTO_JSON json_t *json = gt_json_parse((const char *)data, size, "body", &err);
	if (!json) {
		MUST(err.kind == GT_INVALID && err.message[0]);
		return 0;
	}
	struct gt_container_config config = { 0 };
	if (gt_json_decode(json, gt_container_config_fields, &config, &err) == 0) {
		AUTO_JSON json_t *first = gt_json_encode(gt_container_config_fields, &config);
		struct gt_container_config again = { 0 };
		MUST(gt_json_decode(first, gt_container_config_fields, &again, &err) == 0);
		AUTO_JSON json_t *second = gt_json_encode(gt_container_config_fields, &again);
		MUST(json_equal(first, second));
		gt_json_release(gt_container_config_fields, &again);
	}
	gt_json_release(gt_container_config_fields, &config);
	return 0;
}
