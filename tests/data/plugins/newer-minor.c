/* Compiled against a newer minor version than there is: every struct is longer, there are ops and a capability that nobody knows yet. */
#include "broken.h"

static int nobody_calls_this(void *driver)
{
	(void)driver;
	__builtin_trap();
}

struct newer_ops {
	struct gantry_volume_ops known;
	int (*extra[3])(void *driver);
};

struct newer_key {
	struct gantry_key known;
	const char *unit;
};

struct newer_driver {
	struct gantry_driver known;
	uint64_t more;
};

struct newer_plugin {
	struct gantry_plugin known;
	const char *homepage;
};

static const struct newer_ops ops = { .known = { NOTHING_OPS }, .extra = { nobody_calls_this, nobody_calls_this, nobody_calls_this } };
static struct newer_ops sized_ops;
static const struct newer_key keys[] = {
	{ .known = { .size = sizeof(struct newer_key), .type = GANTRY_KEY_INT, .name = "one", .default_value = "1", .doc = "a key" }, .unit = "s" },
	{ .known = { .size = sizeof(struct newer_key), .type = GANTRY_KEY_STRING, .name = "two", .default_value = "b", .doc = "a key" }, .unit = "m" },
};
static const struct newer_driver drivers[] = {
	{ .known = { .size = sizeof(struct newer_driver), .kind = GANTRY_VOLUME, .name = "newer-minor", .capabilities = 1ull << 62, .ops = &sized_ops }, .more = 1 },
	{ .known = { .size = sizeof(struct newer_driver), .kind = GANTRY_VOLUME, .name = "newer-second", .ops = &sized_ops }, .more = 2 },
};

static void __attribute__((constructor)) state_size(void)
{
	sized_ops = ops;
	sized_ops.known.size = sizeof sized_ops;
}

/* The symbol is longer than the header of today has it. */
extern const struct newer_plugin newer __asm__("gantry_plugin_v1") __attribute__((visibility("default")));
const struct newer_plugin newer = {
	.known = { .size = sizeof(struct newer_plugin), .abi_major = GANTRY_ABI_MAJOR, .abi_minor = GANTRY_ABI_MINOR + 9, .name = "newer-minor", .version = "1",
		   .description = "a test", .keys = &keys[0].known, .key_count = 2, .key_size = sizeof keys[0], .drivers = &drivers[0].known, .driver_count = 2,
		   .driver_size = sizeof drivers[0] },
	.homepage = "nowhere",
};
