#include "platform.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/utsname.h>

#include "base/auto.h"
#include "base/json.h"

static void copy(char to[32], const char *from)
{
	size_t len = strnlen(from, 31);
	memmove(to, from, len);
	to[len] = '\0';
	for (char *p = to; *p; p++) {
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p | 0x20);
	}
}

/* Names that mean the same. */
static void normalise(struct platform *platform)
{
	static const struct {
		const char *name, *architecture, *variant;
	} names[] = { { "x86_64", "amd64", NULL },  { "x86-64", "amd64", NULL }, { "i386", "386", NULL },  { "i686", "386", NULL },
		      { "aarch64", "arm64", NULL }, { "armhf", "arm", "v7" },    { "armel", "arm", "v6" }, { "armv7l", "arm", "v7" },
		      { "armv6l", "arm", "v6" },    { "armv5tel", "arm", "v5" } };
	for (size_t i = 0; i < GT_COUNT(names); i++) {
		if (strcmp(platform->architecture, names[i].name) != 0)
			continue;
		copy(platform->architecture, names[i].architecture);
		if (names[i].variant)
			copy(platform->variant, names[i].variant);
		break;
	}
	char *variant = platform->variant;
	if (variant[0] >= '0' && variant[0] <= '9' && !variant[1]) {
		variant[1] = variant[0];
		variant[0] = 'v';
		variant[2] = '\0';
	}
	if (strcmp(platform->architecture, "arm") == 0 && !variant[0])
		copy(variant, "v7");
	if ((strcmp(platform->architecture, "arm64") == 0 && strcmp(variant, "v8") == 0) ||
	    (strcmp(platform->architecture, "amd64") == 0 && strcmp(variant, "v1") == 0))
		variant[0] = '\0';
}

static bool is_word(const char *text)
{
	size_t len = strlen(text);
	return len > 0 && len < 32 && strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == len;
}

static void host_platform(struct platform *platform)
{
	struct utsname host;
	*platform = (struct platform){ .os = "linux", .architecture = "amd64" };
	if (uname(&host) == 0)
		copy(platform->architecture, host.machine);
	normalise(platform);
}

int platform_parse(const char *text, struct platform *platform, struct gt_error *err)
{
	host_platform(platform);
	if (!text || !text[0])
		return 0;
	char parts[3][40] = { "", "", "" };
	size_t count = 0;
	for (const char *p = text;; p++) {
		size_t len = strcspn(p, "/");
		if (count == 3 || len >= sizeof parts[0])
			return gt_fail(err, GT_INVALID, "%.100s: a platform is OS/ARCHITECTURE[/VARIANT] such as linux/arm64", text);
		memcpy(parts[count], p, len);
		parts[count++][len] = '\0';
		p += len;
		if (!*p)
			break;
	}
	for (size_t i = 0; i < count; i++) {
		if (!is_word(parts[i]))
			return gt_fail(err, GT_INVALID, "%.100s: a platform is OS/ARCHITECTURE[/VARIANT] such as linux/arm64", text);
	}
	if (count == 1 && strcasecmp(parts[0], "linux") == 0)
		return 0;
	platform->variant[0] = '\0';
	copy(platform->architecture, parts[count == 1 ? 0 : 1]);
	if (count > 1)
		copy(platform->os, parts[0]);
	if (count == 3)
		copy(platform->variant, parts[2]);
	normalise(platform);
	if (strcmp(platform->os, "linux") != 0)
		return gt_fail(err, GT_UNSUPPORTED, "%.100s: only linux images are supported", text);
	return 0;
}

void platform_read(const json_t *object, struct platform *platform)
{
	const char *os = "", *architecture = "", *variant = "";
	gt_json_string(object, "os", &os, NULL);
	gt_json_string(object, "architecture", &architecture, NULL);
	gt_json_string(object, "variant", &variant, NULL);
	copy(platform->os, os);
	copy(platform->architecture, architecture);
	copy(platform->variant, variant);
	normalise(platform);
}

/* "v7" -> 7; the usual variant of an architecture has no name. */
static int version_of(const struct platform *platform)
{
	if (platform->variant[0] == 'v' && platform->variant[1] >= '0' && platform->variant[1] <= '9' && !platform->variant[2])
		return platform->variant[1] - '0';
	if (platform->variant[0])
		return -1;
	return strcmp(platform->architecture, "arm64") == 0 ? 8 : strcmp(platform->architecture, "amd64") == 0 ? 1 : -1;
}

int platform_rank(const struct platform *wanted, const struct platform *offered)
{
	if (strcmp(wanted->os, offered->os) != 0 || strcmp(wanted->architecture, offered->architecture) != 0)
		return 0;
	if (strcmp(wanted->variant, offered->variant) == 0)
		return 100;
	int want = version_of(wanted), have = version_of(offered);
	return want > 0 && have > 0 && have < want ? have : 0;
}

void platform_format(const struct platform *platform, char text[100])
{
	snprintf(text, 100, "%s/%s%s%s", platform->os, platform->architecture, platform->variant[0] ? "/" : "", platform->variant);
}

int platform_ask(const char *text, struct platform *platform, struct gt_error *err)
{
	if (!text || text[0] != '{')
		return platform_parse(text, platform, err);
	AUTO_JSON json_t *object = gt_json_parse(text, strlen(text), "platform", err);
	if (!object)
		return -1;
	*platform = (struct platform){ 0 };
	platform_read(object, platform);
	if (!platform->os[0] || !platform->architecture[0])
		return gt_fail(err, GT_INVALID, "a platform is {\"os\": \"linux\", \"architecture\": \"arm64\", \"variant\": \"v8\"}, the variant where there is one");
	return 0;
}

int platform_check(const struct platform *wanted, const json_t *config, const char *name, struct gt_error *err)
{
	struct platform offered;
	char want[100], found[100];
	platform_read(config, &offered);
	if (platform_rank(wanted, &offered))
		return 0;
	platform_format(wanted, want);
	platform_format(&offered, found);
	return gt_fail(err, GT_NOT_FOUND, "image with reference %s was found but does not provide the specified platform: wanted %s, found %s", name, want, found);
}
