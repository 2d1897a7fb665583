/* Image references: what is taken can be written and read again as the same. */
#include "fuzz.h"

#include "image/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gt_reference first, second;
	AUTO_FREE char *text = text_of(data, size);
	if (gt_reference_parse(text, &first, NULL) < 0)
		return 0;
	AUTO_FREE char *familiar = gt_reference_familiar(&first, false);
	MUST(gt_reference_parse(familiar, &second, NULL) == 0);
	AUTO_FREE char *again = gt_reference_familiar(&second, false);
	MUST(strcmp(familiar, again) == 0);
	MUST(strcmp(first.domain, second.domain) == 0 && strcmp(first.path, second.path) == 0);
	MUST(!strstr(first.path, "..") && first.path[0] != '/');
	gt_reference_free(&first);
	gt_reference_free(&second);
	return 0;
}
