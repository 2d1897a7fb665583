/*
 * check.c - values that would only fail later, at a container's start, are refused with file and line when they are read.
 */
#include "config/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/buf.h"
#include "config/config.h"

static bool is_port(const char *text)
{
	size_t digits = strspn(text, "0123456789");
	return digits >= 1 && digits <= 5 && !text[digits] && strtoul(text, NULL, 10) <= 65535;
}

static int check_listen(const char *value, struct gt_error *err)
{
	bool good = strncmp(value, "unix:///", 8) == 0 || strcmp(value, "fd://") == 0;
	if (strncmp(value, "tcp://", 6) == 0) {
		const char *colon = strrchr(value + 6, ':');
		good = colon && is_port(colon + 1);
	}
	return good ? 0 : gt_fail(err, GT_INVALID, "%s is not unix:///PATH, tcp://HOST:PORT or fd://", value);
}

/* "HOST:PORT", "[ADDRESS]:PORT" or ":PORT". */
static int check_metrics(const char *value, struct gt_error *err)
{
	const char *colon = strrchr(value, ':');
	size_t host = colon ? (size_t)(colon - value) : 0;
	bool bracketed = *value == '[' && host > 2 && value[host - 1] == ']';
	bool plain = colon && !memchr(value, ':', host) && !memchr(value, '/', host) && !memchr(value, '[', host);
	if (colon && is_port(colon + 1) && (bracketed || plain))
		return 0;
	return gt_fail(err, GT_INVALID, "%s is not HOST:PORT such as 127.0.0.1:9323 or [::1]:9323", value);
}

static int check_label(const char *value, struct gt_error *err)
{
	const char *equals = strchr(value, '=');
	return equals && equals > value ? 0 : gt_fail(err, GT_INVALID, "%s is not key=value", value);
}

static int check_cgroup(const char *value, struct gt_error *err)
{
	size_t len = strlen(value);
	if (len < 2 || value[len - 1] == '/' || strstr(value, "//") || strstr(value, "/.") || len > 512)
		return gt_fail(err, GT_INVALID, "%s is not a cgroup of this engine's own such as /gantry", value);
	return 0;
}

/* ---- numbers ---- */

static bool read_number(const char **text, int64_t *number)
{
	char *end;
	errno = 0;
	*number = strtoll(*text, &end, 10);
	bool good = ((**text >= '0' && **text <= '9') || (**text == '-' && *number == -1)) && !errno;
	*text = end;
	return good;
}

/* "START:COUNT" */
static int check_remap(const char *value, struct gt_error *err)
{
	const char *p = value;
	int64_t first = 0, count = 0;
	bool good = read_number(&p, &first) && *p++ == ':' && read_number(&p, &count) && !*p;
	if (!good || first < 1 || count < 1 || first > UINT32_MAX || count > UINT32_MAX || first + count > UINT32_MAX)
		return gt_fail(err, GT_INVALID, "%s is not START:COUNT of ids above 0 such as 100000:65536", value);
	return 0;
}

bool gt_ulimit_known(const char *name)
{
	static const char *const NAMES[] = { "core", "cpu",        "data",   "fsize", "locks", "memlock", "msgqueue", "nice",
					     "nofile", "nproc",    "rss",    "rtprio", "rttime", "sigpending", "stack", "as" };
	for (size_t i = 0; i < GT_COUNT(NAMES); i++) {
		if (strcmp(name, NAMES[i]) == 0)
			return true;
	}
	return false;
}

/* "NAME=SOFT[:HARD]", -1: unlimited. */
static int check_ulimit(const char *value, struct gt_error *err)
{
	size_t len = strcspn(value, "=");
	AUTO_FREE char *name = gt_xstrndup(value, len);
	const char *p = value + len + (value[len] == '=');
	int64_t soft = 0, hard = 0;
	bool good = gt_ulimit_known(name) && read_number(&p, &soft);
	hard = soft;
	if (good && *p == ':') {
		p++;
		good = read_number(&p, &hard);
	}
	if (!good || *p)
		return gt_fail(err, GT_INVALID, "%s is not NAME=SOFT or NAME=SOFT:HARD such as nofile=1024:4096", value);
	if (hard != -1 && (soft == -1 || soft > hard))
		return gt_fail(err, GT_INVALID, "%s: the soft limit is above the hard one", value);
	return 0;
}

static int check_log_driver(const char *value, struct gt_error *err)
{
	if (strcmp(value, "json-file") == 0 || strcmp(value, "local") == 0 || strcmp(value, "none") == 0 ||
	    strcmp(value, "journald") == 0 || strcmp(value, "syslog") == 0)
		return 0;
	return gt_fail(err, GT_INVALID, "%s is not one of json-file, local, journald, syslog, none", value);
}

/* ---- addresses ---- */

static bool is_address(const char *text, int family)
{
	unsigned char address[16];
	return inet_pton(family, text, address) == 1;
}

/* *prefix: how many bits. */
static bool is_cidr(const char *text, int family, unsigned long *prefix)
{
	const char *slash = strchr(text, '/');
	AUTO_FREE char *address = gt_xstrndup(text, slash ? (size_t)(slash - text) : 0);
	size_t digits = slash ? strspn(slash + 1, "0123456789") : 0;
	if (digits < 1 || digits > 3 || slash[1 + digits])
		return false;
	*prefix = strtoul(slash + 1, NULL, 10);
	return is_address(address, family) && *prefix <= (family == AF_INET ? 32 : 128);
}

static int check_address(const char *value, struct gt_error *err)
{
	if (is_address(value, AF_INET) || is_address(value, AF_INET6))
		return 0;
	return gt_fail(err, GT_INVALID, "%s is not an IPv4 or IPv6 address", value);
}

static int check_subnet(const char *value, struct gt_error *err)
{
	unsigned long prefix;
	return is_cidr(value, AF_INET, &prefix) ? 0 : gt_fail(err, GT_INVALID, "%s is not an IPv4 subnet such as 172.17.0.0/16", value);
}

static int check_subnet6(const char *value, struct gt_error *err)
{
	unsigned long prefix;
	return is_cidr(value, AF_INET6, &prefix) ? 0 : gt_fail(err, GT_INVALID, "%s is not an IPv6 subnet such as fd00:1::/64", value);
}

/* "SUBNET size PREFIX" */
static int check_pool(const char *value, struct gt_error *err)
{
	size_t len = strcspn(value, " ");
	AUTO_FREE char *subnet = gt_xstrndup(value, len);
	int family = strchr(subnet, ':') ? AF_INET6 : AF_INET;
	unsigned long prefix, size;
	char *end;
	const char *text = strncmp(value + len, " size ", 6) == 0 ? value + len + 6 : "";
	size = strtoul(text, &end, 10);
	if (!is_cidr(subnet, family, &prefix) || *text < '0' || *text > '9' || *end || size < prefix || size > (family == AF_INET ? 30u : 126u))
		return gt_fail(err, GT_INVALID, "%s is not SUBNET size PREFIX such as 172.17.0.0/12 size 16", value);
	return 0;
}

/* ---- registries ---- */

static bool is_host(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (text[i] <= ' ' || strchr("/?#@=\"'", text[i]))
			return false;
	}
	return len > 0 && len < 256;
}

static int check_insecure(const char *value, struct gt_error *err)
{
	unsigned long prefix;
	if (strchr(value, '/') ? is_cidr(value, AF_INET, &prefix) || is_cidr(value, AF_INET6, &prefix) : is_host(value, strlen(value)))
		return 0;
	return gt_fail(err, GT_INVALID, "%s is not HOST, HOST:PORT or a subnet such as 10.0.0.0/8", value);
}

static int check_mirror(const char *value, struct gt_error *err)
{
	const char *equals = strchr(value, '='), *url = equals ? equals + 1 : value;
	size_t scheme = strncmp(url, "https://", 8) == 0 ? 8 : strncmp(url, "http://", 7) == 0 ? 7 : 0;
	size_t host = scheme ? strcspn(url + scheme, "/") : 0;
	if (!scheme || !is_host(url + scheme, host) || strpbrk(url, "?#@ ") || (equals && !is_host(value, (size_t)(equals - value))))
		return gt_fail(err, GT_INVALID, "%s is not https://HOST[:PORT] or REGISTRY=https://HOST[:PORT]", value);
	return 0;
}

static int check_directory(const char *value, struct gt_error *err)
{
	return value[0] == '/' ? 0 : gt_fail(err, GT_INVALID, "%s is not an absolute path", value);
}

static int check_proxy(const char *value, struct gt_error *err)
{
	static const char *const schemes[] = { "http://", "https://", "socks5://", "socks5h://" };
	for (size_t i = 0; i < GT_COUNT(schemes); i++) {
		if (strncmp(value, schemes[i], strlen(schemes[i])) == 0 && value[strlen(schemes[i])])
			return 0;
	}
	return gt_fail(err, GT_INVALID, "%s is not http://HOST:PORT (or https, socks5, socks5h)", value);
}

/* ---- the table ---- */

static const struct {
	const char *section, *name;
	int (*check)(const char *value, struct gt_error *err);
} CHECKS[] = {
	{ "daemon", "listen", check_listen },
	{ "daemon", "labels", check_label },
	{ "daemon", "metrics_addr", check_metrics },
	{ "runtime", "cgroup_parent", check_cgroup },
	{ "runtime", "userns_remap", check_remap },
	{ "runtime", "default_ulimits", check_ulimit },
	{ "registry", "insecure", check_insecure },
	{ "registry", "mirrors", check_mirror },
	{ "registry", "certs", check_directory },
	{ "registry", "http_proxy", check_proxy },
	{ "registry", "https_proxy", check_proxy },
	{ "log", "driver", check_log_driver },
	{ "network", "bridge_subnet", check_subnet },
	{ "network", "bridge_subnet6", check_subnet6 },
	{ "network", "address_pools", check_pool },
	{ "network", "global_address_pools", check_pool },
	{ "network", "dns", check_address },
	{ "network", "host_gateway", check_address },
};

int config_check_value(const char *section, const char *name, const char *value, struct gt_error *err)
{
	for (size_t i = 0; i < GT_COUNT(CHECKS); i++) {
		if (strcmp(section, CHECKS[i].section) == 0 && strcmp(name, CHECKS[i].name) == 0)
			return CHECKS[i].check(value, err);
	}
	return 0;
}
