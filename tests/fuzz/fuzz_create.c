/* A create request against the checks, with its mounts and ports: every refusal has a sentence, and nothing that is let through is unbounded. */
#include "fuzz.h"

#include "engine/config_check.h"
#include "engine/mounts.h"
#include "engine/network.h"

static struct gt_engine engine;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static struct gt_config *config;
	(void)argc;
	(void)argv;
	MUST(gt_config_load(NULL, false, &config, NULL) == 0);
	atomic_store(&engine.config, config);
	return 0;
}

static void read_mounts(const struct gt_host_config *host)
{
	struct mount_wish wish;
	struct gt_error err = { 0 };
	size_t i;
	json_t *item;
	const char *key;
	for (i = 0; i < host->binds.count; i++) {
		if (mount_read_bind(host->binds.items[i], "local", &wish, &err) == 0)
			MUST(wish.mount.destination[0] == '/' && wish.mount.destination[1] && !strstr(wish.mount.destination, "/../"));
		mount_release(&wish.mount);
	}
	json_array_foreach(host->mounts, i, item) {
		if (mount_read_object(item, &wish, &err) == 0)
			MUST(wish.mount.destination[0] == '/' && wish.mount.destination[1] && !strstr(wish.mount.destination, "/../"));
		mount_release(&wish.mount);
	}
	json_object_foreach(host->tmpfs, key, item) {
		if (json_is_string(item))
			mount_read_tmpfs(key, json_string_value(item), &wish, &err);
		else
			continue;
		mount_release(&wish.mount);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gt_error err = { 0 };
	struct gt_container ctr = { 0 };
	AUTO_JSON json_t *json = gt_json_parse((const char *)data, size, "body", NULL);
	AUTO_JSON json_t *warnings = json_array();
	if (!json)
		return 0;
	if (gt_container_config_read(&engine, json, &ctr.config, warnings, &err) < 0) {
		MUST(err.message[0] && err.kind != GT_INTERNAL);
	} else {
		struct gt_image_config image = { 0 };
		struct security security;
		gt_container_config_merge(&ctr.config, &image);
		MUST(config_read_security(&ctr.config.host.security_opt, &security, &err) == 0);
		read_mounts(&ctr.config.host);
		ports_check(&ctr, &err);
	}
	gt_container_config_release(&ctr.config);
	return 0;
}
