/*
 * spec_port.c - "-p [ADDRESS:][HOSTPORT[-END]:]PORT[-END][/PROTO]".
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>

#include "args.h"
#include "base/auto.h"
#include "base/buf.h"
#include "spec.h"

struct range {
	int first, last;
};

static int bad_port(const char *text, const char *why, struct gt_error *err)
{
	return gt_fail(err, GT_INVALID, "invalid port \"%.200s\": %s", text, why);
}

static int parse_port(const char *text, int *port)
{
	int64_t number;
	if (!isdigit((unsigned char)*text) || parse_int(text, &number) < 0 || number < 0 || number > 65535)
		return -1;
	*port = (int)number;
	return 0;
}

/* "80" or "80-90". */
static int parse_range(const char *text, struct range *range)
{
	AUTO_FREE char *copy = gt_xstrdup(text);
	char *dash = strchr(copy, '-');
	if (dash)
		*dash = '\0';
	if (parse_port(copy, &range->first) < 0)
		return -1;
	range->last = range->first;
	if (dash && (parse_port(dash + 1, &range->last) < 0 || range->last < range->first))
		return -1;
	return 0;
}

/* Cuts "/tcp" off; the protocol is lower case. */
static const char *cut_protocol(char *text)
{
	static const char *const known[] = { "tcp", "udp", "sctp" };
	char *slash = strrchr(text, '/');
	if (!slash)
		return "tcp";
	*slash = '\0';
	for (size_t i = 0; i < GT_COUNT(known); i++) {
		if (strcasecmp(slash + 1, known[i]) == 0)
			return known[i];
	}
	return NULL;
}

static void expose(json_t *exposed, int port, const char *protocol)
{
	char key[32];
	snprintf(key, sizeof key, "%d/%s", port, protocol);
	json_object_set_new(exposed, key, json_object());
}

int spec_expose(const char *text, json_t *exposed, struct gt_error *err)
{
	AUTO_FREE char *copy = gt_xstrdup(text);
	const char *protocol = cut_protocol(copy);
	struct range range;
	if (!protocol)
		return bad_port(text, "the protocol is tcp, udp or sctp", err);
	if (parse_range(copy, &range) < 0)
		return bad_port(text, "write PORT or FIRST-LAST, from 0 to 65535", err);
	for (int port = range.first; port <= range.last; port++)
		expose(exposed, port, protocol);
	return 0;
}

static void bind_port(json_t *bindings, int port, const char *protocol, const char *address, const char *host_port)
{
	char key[32];
	snprintf(key, sizeof key, "%d/%s", port, protocol);
	json_t *list = json_object_get(bindings, key);
	if (!list) {
		list = json_array();
		json_object_set_new(bindings, key, list);
	}
	json_array_append_new(list, json_pack("{s:s,s:s}", "HostIp", address, "HostPort", host_port));
}

/* Splits "address:host:container" from the right; the parts point into text. */
static int split(char *text, const char **address, const char **host, const char **container)
{
	*address = *host = "";
	char *colon = strrchr(text, ':');
	*container = colon ? colon + 1 : text;
	if (!colon)
		return 0;
	*colon = '\0';
	if (*text == '[') {
		char *close = strchr(text, ']');
		if (!close || (close[1] != ':' && close[1] != '\0'))
			return -1;
		*close = '\0';
		*address = text + 1;
		*host = close[1] == ':' ? close + 2 : "";
		return 0;
	}
	colon = strrchr(text, ':');
	*host = colon ? colon + 1 : text;
	if (colon) {
		*colon = '\0';
		*address = text;
	}
	return 0;
}

static bool is_address(const char *text)
{
	unsigned char address[16];
	return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
}

int spec_publish(const char *text, json_t *exposed, json_t *bindings, struct gt_error *err)
{
	AUTO_FREE char *copy = gt_xstrdup(text);
	const char *protocol = cut_protocol(copy), *address, *host, *container;
	struct range inside, outside = { 0, 0 };
	if (!protocol)
		return bad_port(text, "the protocol is tcp, udp or sctp", err);
	if (split(copy, &address, &host, &container) < 0)
		return bad_port(text, "']' is missing after the address", err);
	if (!*container)
		return bad_port(text, "no container port is given", err);
	if (*address && !is_address(address))
		return bad_port(text, "what stands before the host's port must be an IP address", err);
	if (parse_range(container, &inside) < 0)
		return bad_port(text, "the container's port is a number or FIRST-LAST, from 0 to 65535", err);
	if (*host && parse_range(host, &outside) < 0)
		return bad_port(text, "the host's port is a number or FIRST-LAST, from 0 to 65535", err);
	bool single = inside.first == inside.last;
	if (*host && !single && outside.last - outside.first != inside.last - inside.first)
		return bad_port(text, "the two ranges differ in length", err);
	for (int port = inside.first; port <= inside.last; port++) {
		char host_port[24] = "";
		if (*host && single && outside.first != outside.last)
			snprintf(host_port, sizeof host_port, "%d-%d", outside.first, outside.last);
		else if (*host)
			snprintf(host_port, sizeof host_port, "%d", outside.first + port - inside.first);
		expose(exposed, port, protocol);
		bind_port(bindings, port, protocol, address, host_port);
	}
	return 0;
}
