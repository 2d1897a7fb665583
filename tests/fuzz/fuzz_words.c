/* Small things that users write: sizes, times, signals, keys, ports, subnets, paths, device rules. */
#include "fuzz.h"

#include "base/clock.h"
#include "engine/config_check.h"
#include "engine/mounts.h"
#include "engine/network.h"

static void subnets(const char *text)
{
	struct ipam_pool pool = { 0 };
	struct gt_error err = { 0 };
	char out[64];
	if (ipam_open(&pool, text, NULL, NULL, &err) == 0) {
		for (int i = 0; i < 5; i++) {
			if (ipam_take(&pool, out) == 0)
				MUST(ipam_contains(&pool, out) && ipam_overlap(text, out));
		}
		ipam_reserve(&pool, text, NULL);
		ipam_close(&pool);
	}
	if (ipam_candidate(text, 1, out))
		MUST(strchr(out, '/'));
	ipam_overlap(text, "10.0.0.0/8");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_FREE char *text = text_of(data, size);
	AUTO_BUF struct gt_buf keys = { 0 };
	struct gt_error err = { 0 };
	struct device_rule rule;
	int64_t number = 0;
	int signo = 0;
	uint16_t port;
	uint32_t proto;
	char time[36];
	if (gt_size_parse(text, &number) == 0)
		MUST(number >= 0);
	if (gt_time_parse(text, &number, &err) == 0)
		gt_time_format(number, time);
	gt_duration_parse(text, &number, &err);
	if (gt_signal_parse(text, &signo, &err) == 0)
		MUST(signo > 0 && signo <= 64);
	if (gt_detach_keys_parse(text, &keys, &err) == 0)
		MUST(keys.len <= 32);
	if (port_parse(text, &port, &proto) == 0)
		MUST(port > 0);
	if (config_device_rule(text, &rule, &err) == 0)
		MUST(rule.major >= -1 && rule.minor >= -1 && strlen(rule.access) <= 3);
	AUTO_FREE char *clean = mount_clean_path(text);
	if (clean)
		MUST(clean[0] == '/' && clean[1] && !strstr(clean, "//") && !strstr(clean, "/../") && !strstr(clean, "/./"));
	subnets(text);
	return 0;
}
