/* What a registry answers: a flag byte, then a manifest or an index, or the values of WWW-Authenticate. */
#include "fuzz.h"

#include "../../core/image/registry/registry.h"

static void read_manifest(const uint8_t *data, size_t size)
{
	struct manifest manifest = { 0 };
	struct gt_error err = { 0 };
	struct platform wanted = { .os = "linux", .architecture = "amd64" };
	if (manifest_parse((const char *)data, size, NULL, &manifest, &err) < 0) {
		MUST(err.message[0]);
		return;
	}
	MUST(manifest.media_type && manifest.count <= INDEX_ENTRIES);
	for (size_t i = 0; i < manifest.count; i++) {
		MUST(manifest.items[i].digest && manifest.items[i].size >= 0);
		if (!manifest.index)
			descriptor_check_layer(&manifest.items[i], &err);
	}
	if (manifest.index) {
		const struct descriptor *chosen = manifest_choose(&manifest, &wanted, &err);
		MUST(!chosen || (chosen >= manifest.items && chosen < manifest.items + manifest.count));
	}
	manifest_free(&manifest);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	if (data[0] & 1) {
		struct challenge challenge = { 0 };
		AUTO_FREE char *headers = text_of(data + 1, size - 1);
		challenge_parse(headers, &challenge);
		MUST(challenge.scheme != SCHEME_BEARER || challenge.realm);
		challenge_free(&challenge);
	} else {
		read_manifest(data + 1, size - 1);
	}
	return 0;
}
