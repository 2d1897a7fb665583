/* Dockerfile instructions of commit and import: lines, applied one after the other; what comes of them can be stored and read again. */
#include "fuzz.h"

#include "image/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gt_image_config config = { 0 }, again = { 0 };
	struct gt_error err = { 0 };
	AUTO_FREE char *text = text_of(data, size);
	char *rest = text;
	for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
		if (gt_image_config_change(&config, line, &err) < 0)
			MUST(err.message[0]);
	}
	AUTO_JSON json_t *first = gt_json_encode(gt_image_config_fields, &config);
	if (first && gt_json_decode(first, gt_image_config_fields, &again, &err) == 0) {
		AUTO_JSON json_t *second = gt_json_encode(gt_image_config_fields, &again);
		MUST(json_equal(first, second));
	}
	gt_json_release(gt_image_config_fields, &config);
	gt_json_release(gt_image_config_fields, &again);
	return 0;
}
