/* config.json of a bundle as the shim reads it. */
#include "fuzz.h"

#include "runtime/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gt_error err = { 0 };
	struct spec spec;
	AUTO_JSON json_t *config = gt_json_parse((const char *)data, size, "config.json", NULL);
	if (!config)
		return 0;
	if (spec_read("/bundle", config, &spec, &err) < 0) {
		MUST(err.message[0]);
		return 0;
	}
	MUST(spec.mount_count > 0 && spec.mount_count <= MAX_MOUNTS && spec.namespace_count <= 8);
	for (size_t i = 0; i < spec.mount_count; i++)
		MUST(spec.mounts[i].destination[0] == '/' && spec.mounts[i].type && spec.mounts[i].source);
	spec_release(&spec);
	return 0;
}
