/* .dockerignore: lines, an empty one, then paths. */
#include "fuzz.h"

#include "base/ignore.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ignore ignore = { 0 };
	bool paths = false;
	AUTO_FREE char *text = text_of(data, size);
	char *rest = text;
	for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
		if (!*line)
			paths = true;
		else if (paths)
			ignore_matches(&ignore, line);
		else
			ignore_add(&ignore, line);
	}
	for (size_t i = 0; i < ignore.patterns.count; i++)
		ignore_matches(&ignore, ignore.patterns.items[i]);
	ignore_free(&ignore);
	return 0;
}
