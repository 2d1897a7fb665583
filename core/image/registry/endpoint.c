/*
 * endpoint.c - where a registry is, and how it is reached.
 *
 * docker.io is at registry-1.docker.io; mirrors come first. A registry that may be insecure (loopback, or listed in [registry] insecure) is tried
 * with https without checking its certificate, then with http. certs.d directories hold, for each HOST[:PORT], CAs (*.crt) and client
 * certificates (NAME.cert with NAME.key).
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "registry.h"

#define CERTS_MAX (1u << 20)

/* ---- insecure ---- */

/* The host of "host", "host:port", "[address]:port". */
static char *host_alone(const char *host)
{
	if (host[0] == '[')
		return gt_xstrndup(host + 1, strcspn(host + 1, "]"));
	const char *colon = strchr(host, ':');
	return colon && !strchr(colon + 1, ':') ? gt_xstrndup(host, (size_t)(colon - host)) : gt_xstrdup(host);
}

static bool in_subnet(const char *address, const char *subnet)
{
	unsigned char a[16], b[16];
	int family = strchr(subnet, ':') ? AF_INET6 : AF_INET;
	size_t len = strcspn(subnet, "/");
	AUTO_FREE char *base = gt_xstrndup(subnet, len);
	if (!subnet[len] || inet_pton(family, address, a) != 1 || inet_pton(family, base, b) != 1)
		return false;
	unsigned bits = (unsigned)strtoul(subnet + len + 1, NULL, 10);
	for (unsigned i = 0; i < bits; i++) {
		if (((a[i / 8] ^ b[i / 8]) >> (7 - i % 8)) & 1)
			return false;
	}
	return true;
}

static bool is_loopback(const char *host)
{
	AUTO_FREE char *alone = host_alone(host);
	return strcasecmp(alone, "localhost") == 0 || in_subnet(alone, "127.0.0.0/8") || strcmp(alone, "::1") == 0;
}

bool endpoint_is_insecure(const struct gt_config *config, const char *host)
{
	AUTO_FREE char *alone = host_alone(host);
	if (is_loopback(host))
		return true;
	for (size_t i = 0; i < config->registry_insecure.count; i++) {
		const char *item = config->registry_insecure.items[i];
		if (strcasecmp(item, host) == 0 || strcasecmp(item, alone) == 0 || in_subnet(alone, item))
			return true;
	}
	return false;
}

/* ---- endpoints ---- */

static void add(struct endpoints *out, const struct endpoint *item)
{
	out->items = gt_xrealloc(out->items, (out->count + 1) * sizeof *out->items);
	out->items[out->count++] = *item;
}

/* url: "https://host[:port][/...]". */
static void add_mirror(const struct gt_config *config, const char *url, struct endpoints *out)
{
	AUTO_FREE char *host = url_host(url);
	size_t len = strlen(url);
	while (len > 0 && url[len - 1] == '/')
		len--;
	add(out, &(struct endpoint){ .base = gt_xstrndup(url, len), .mirror = true, .insecure = endpoint_is_insecure(config, host) });
}

void endpoints_of(const struct gt_config *config, const char *domain, bool mirrors, struct endpoints *out)
{
	*out = (struct endpoints){ 0 };
	for (size_t i = 0; mirrors && i < config->registry_mirrors.count; i++) {
		const char *item = config->registry_mirrors.items[i], *equals = strchr(item, '=');
		AUTO_FREE char *of = equals ? gt_xstrndup(item, (size_t)(equals - item)) : gt_xstrdup("docker.io");
		if (strcasecmp(of, domain) == 0)
			add_mirror(config, equals ? equals + 1 : item, out);
	}
	const char *host = strcmp(domain, "docker.io") == 0 ? "registry-1.docker.io" : domain;
	bool insecure = endpoint_is_insecure(config, host);
	add(out, &(struct endpoint){ .base = gt_xasprintf("https://%s", host), .insecure = insecure });
	if (insecure)
		add(out, &(struct endpoint){ .base = gt_xasprintf("http://%s", host), .insecure = true, .last_try = true });
}

void endpoints_free(struct endpoints *endpoints)
{
	for (size_t i = 0; i < endpoints->count; i++)
		free(endpoints->items[i].base);
	free(endpoints->items);
	*endpoints = (struct endpoints){ 0 };
}

/* ---- certs.d ---- */

static bool ends_with(const char *name, const char *end)
{
	size_t a = strlen(name), b = strlen(end);
	return a > b && strcmp(name + a - b, end) == 0;
}

static int take_file(const char *dir, const char *name, struct http_route *route, struct gt_buf *ca, struct gt_error *err)
{
	AUTO_FREE char *path = gt_xasprintf("%s/%s", dir, name);
	if (ends_with(name, ".crt")) {
		if (gt_read_file(AT_FDCWD, path, CERTS_MAX, ca, err) < 0)
			return gt_context(err, "CA certificate %s", path);
		gt_buf_char(ca, '\n');
		return 0;
	}
	if (!ends_with(name, ".cert") || route->cert)
		return 0;
	AUTO_FREE char *key = gt_xasprintf("%.*skey", (int)(strlen(path) - 4), path);
	if (access(key, R_OK) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "client certificate %s has no key %s", path, key);
	route->cert = take(path);
	route->key = take(key);
	return 0;
}

static int take_directory(const char *dir, struct http_route *route, struct gt_buf *ca, struct gt_error *err)
{
	struct dirent **entries = NULL;
	int count = scandir(dir, &entries, NULL, alphasort), rc = 0;
	if (count < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : gt_fail_sys(err, GT_INTERNAL, errno, "read %s", dir);
	for (int i = 0; i < count; i++) {
		if (rc == 0 && entries[i]->d_name[0] != '.')
			rc = take_file(dir, entries[i]->d_name, route, ca, err);
		free(entries[i]);
	}
	free(entries);
	return rc;
}

static int find_certificates(const struct gt_config *config, const char *host, struct http_route *route, struct gt_error *err)
{
	AUTO_BUF struct gt_buf ca = { 0 };
	if (!host[0] || host[0] == '.' || strchr(host, '/'))
		return 0;
	for (size_t i = 0; i < config->registry_certs.count; i++) {
		AUTO_FREE char *dir = gt_xasprintf("%s/%s", config->registry_certs.items[i], host);
		if (take_directory(dir, route, &ca, err) < 0)
			return -1;
	}
	route->ca = ca.len ? gt_buf_take(&ca) : NULL;
	return 0;
}

/* ---- proxies ---- */

static const char *either(const char *configured, const char *upper, const char *lower)
{
	if (configured && configured[0])
		return configured;
	const char *value = getenv(upper);
	if (!value || !value[0])
		value = getenv(lower);
	return value ? value : "";
}

int route_of(const struct gt_config *config, const char *url, struct http_route *route, struct gt_error *err)
{
	AUTO_FREE char *host = url_host(url);
	bool tls = strncmp(url, "https://", 8) == 0;
	*route = (struct http_route){ .insecure = endpoint_is_insecure(config, host) };
	const char *proxy = is_loopback(host) ? "" :
			    tls		      ? either(config->https_proxy, "HTTPS_PROXY", "https_proxy") :
						either(config->http_proxy, "HTTP_PROXY", "http_proxy");
	route->proxy = gt_xstrdup(proxy);
	route->no_proxy = gt_xstrdup(either(config->no_proxy, "NO_PROXY", "no_proxy"));
	if (tls && find_certificates(config, host, route, err) < 0) {
		route_free(route);
		return -1;
	}
	/* whoever names a CA wants it to be asked */
	if (route->ca)
		route->insecure = false;
	return 0;
}

void route_free(struct http_route *route)
{
	free(route->ca);
	free(route->cert);
	free(route->key);
	free(route->proxy);
	free(route->no_proxy);
	*route = (struct http_route){ 0 };
}
