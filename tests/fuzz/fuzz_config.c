/* gantryd.ini: what is taken is printed, and what is printed is read as the same. */
#include "fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "config/config.h"

static int load(const void *bytes, size_t size, struct gt_config **config, struct gt_error *err)
{
	char path[64];
	AUTO_CLOSE int fd = memfd_create("ini", MFD_CLOEXEC);
	MUST(fd >= 0 && gt_write_full(fd, bytes, size) == 0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return gt_config_load(path, true, config, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gt_error err = { 0 };
	struct gt_config *config = NULL, *again = NULL;
	AUTO_BUF struct gt_buf first = { 0 };
	AUTO_BUF struct gt_buf second = { 0 };
	if (load(data, size, &config, &err) < 0) {
		MUST(err.kind == GT_INVALID && err.message[0]);
		return 0;
	}
	gt_config_print(config, &first);
	if (config->plugin_setting_count == 0) { /* a plugin's value may hold what INI has no way to write */
		if (load(first.data, first.len, &again, &err) == 0) {
			gt_config_print(again, &second);
			gt_config_free(again);
			MUST(strcmp(first.data, second.data) == 0);
		} else {
			MUST(strstr(err.message, "longer than")); /* values of several lines */
		}
	}
	gt_config_free(config);
	return 0;
}
