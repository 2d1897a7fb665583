/*
 * sandbox_files.c - hosts, resolv.conf and hostname of a container, in its directory, from where they are bind-mounted.
 *
 * They are written before the bundle is made, as the mounts need them to be there, and hosts once more when addresses are known: in place, as a mount
 * holds on to the inode. The process itself runs only after that.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "dns/dns.h"
#include "engine/config_check.h"
#include "engine/network.h"

#define MAX_HOST_FILE (1 << 20)

static int write_file(const struct gt_container *ctr, const char *name, const struct gt_buf *text, struct gt_error *err)
{
	AUTO_FREE char *path = gt_xasprintf("%s/%s", ctr->dir, name);
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0 || (text->len && gt_write_full(fd, text->data, text->len) < 0))
		return gt_fail_errno(err, errno, "write %s", path);
	return 0;
}

/* ---- hosts ---- */

static void gateway_of_host(struct gt_engine *engine, char address[64])
{
	const struct gt_config *config = atomic_load(&engine->config);
	snprintf(address, 64, "%s", config->host_gateway);
	if (address[0])
		return;
	LOCKED(&engine->networks->lock);
	const struct network *bridge = gt_map_get(&engine->networks->by_name, "bridge");
	if (bridge && bridge->pool_count)
		memcpy(address, bridge->pools[0].addresses.gateway, sizeof bridge->pools[0].addresses.gateway);
}

/* --add-host NAME:ADDRESS (or NAME=ADDRESS), ADDRESS maybe "host-gateway". */
static int add_extra_hosts(const struct gt_container *ctr, struct gt_buf *hosts, struct gt_error *err)
{
	const struct gt_strings *extra = &ctr->config.host.extra_hosts;
	for (size_t i = 0; i < extra->count; i++) {
		const char *entry = extra->items[i], *colon = entry + strcspn(entry, ":="); /* checked at create */
		char gateway[64] = "";
		const char *address = *colon ? colon + 1 : "";
		size_t brackets = *address == '[';
		if (strcmp(address, "host-gateway") == 0) {
			gateway_of_host(ctr->engine, gateway);
			if (!gateway[0])
				return gt_fail(err, GT_UNAVAILABLE, "unable to derive the IP value for host-gateway: set [network] host_gateway");
			address = gateway;
		}
		gt_buf_printf(hosts, "%.*s\t%.*s\n", (int)(strlen(address) - 2 * brackets), address + brackets, (int)(colon - entry), entry);
	}
	return 0;
}

/* The container's own names behind each of its addresses. */
static void add_own(const struct gt_container *ctr, struct gt_buf *hosts)
{
	const char *hostname = ctr->config.hostname, *domain = ctr->config.domainname;
	for (size_t i = 0; i < ctr->endpoint_count && hostname && hostname[0]; i++) {
		const char *addresses[] = { ctr->endpoints[i].ipv4, ctr->endpoints[i].ipv6 };
		for (size_t a = 0; a < GT_COUNT(addresses); a++) {
			if (!addresses[a][0])
				continue;
			gt_buf_printf(hosts, "%.*s\t", (int)strcspn(addresses[a], "/"), addresses[a]);
			if (domain && domain[0])
				gt_buf_printf(hosts, "%s.%s ", hostname, domain);
			gt_buf_printf(hosts, "%s\n", hostname);
		}
	}
}

static int compose_hosts(struct gt_container *ctr, struct gt_buf *hosts, struct gt_error *err)
{
	static const char BASE[] = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n"
				   "ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";
	if (strcmp(ctr->config.host.network_mode, "host") != 0 || gt_read_file(AT_FDCWD, "/etc/hosts", MAX_HOST_FILE, hosts, NULL) < 0)
		gt_buf_str(hosts, BASE);
	else if (hosts->len && hosts->data[hosts->len - 1] != '\n')
		gt_buf_char(hosts, '\n');
	if (add_extra_hosts(ctr, hosts, err) < 0 || links_add_hosts(ctr, hosts, err) < 0)
		return -1;
	add_own(ctr, hosts);
	return 0;
}

/* ---- resolv.conf ---- */

/* Servers on the host's loopback are out of reach of a container that has a loopback of its own. */
static void copy_servers(const char *text, bool keep_loopback, struct gt_buf *out)
{
	AUTO_FREE char *copy = gt_xstrdup(text);
	char *rest = copy, *line;
	while ((line = strsep(&rest, "\n")) != NULL) {
		const char *word = line + strspn(line, " \t");
		if (!*word || *word == '#' || *word == ';')
			continue;
		bool server = strncmp(word, "nameserver", 10) == 0;
		const char *address = server ? word + 10 + strspn(word + 10, " \t") : "";
		if (server && !keep_loopback && (strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0))
			continue;
		gt_buf_printf(out, "%s\n", word);
	}
}

/* The host's resolver; where that is systemd-resolved's stub, the servers behind it. */
static void read_host_resolver(bool keep_loopback, struct gt_buf *out)
{
	static const char *const FILES[] = { "/etc/resolv.conf", "/run/systemd/resolve/resolv.conf" };
	for (size_t i = 0; i < GT_COUNT(FILES); i++) {
		AUTO_BUF struct gt_buf text = { 0 };
		gt_buf_reset(out);
		if (gt_read_file(AT_FDCWD, FILES[i], MAX_HOST_FILE, &text, NULL) == 0 && text.data)
			copy_servers(text.data, keep_loopback, out);
		if (out->data && strstr(out->data, "nameserver"))
			return;
	}
}

/* Lines of the host that begin with `word` give way to the lists. */
static void replace_lines(struct gt_buf *text, const char *word, const struct gt_strings *first, const struct gt_strings *second, bool one_line)
{
	const struct gt_strings *list = first->count ? first : second;
	if (!list->count)
		return;
	AUTO_BUF struct gt_buf kept = { 0 };
	AUTO_FREE char *copy = gt_xstrdup(text->data ? text->data : "");
	char *rest = copy, *line;
	while ((line = strsep(&rest, "\n")) != NULL) {
		if (*line && strncmp(line, word, strlen(word)))
			gt_buf_printf(&kept, "%s\n", line);
	}
	if (one_line)
		gt_buf_str(&kept, word);
	for (size_t i = 0; i < list->count; i++) {
		bool nothing = strcmp(list->items[i], ".") == 0 && strcmp(word, "search") == 0; /* --dns-search=. asks for none */
		if (one_line && !nothing)
			gt_buf_printf(&kept, " %s", list->items[i]);
		else if (!one_line)
			gt_buf_printf(&kept, "%s %s\n", word, list->items[i]);
	}
	if (one_line)
		gt_buf_char(&kept, '\n');
	gt_buf_reset(text);
	gt_buf_add(text, kept.data, kept.len);
}

/* The servers become a comment, as they are asked by the resolver at 127.0.0.11 now; a name without a dot is asked for as it is. */
static void interpose(struct gt_buf *text)
{
	AUTO_BUF struct gt_buf rest = { 0 }, servers = { 0 };
	AUTO_FREE char *copy = gt_xstrdup(text->data ? text->data : "");
	char *lines = copy, *line;
	bool ndots = strstr(copy, "ndots:") != NULL, options = false;
	while ((line = strsep(&lines, "\n")) != NULL) {
		if (strncmp(line, "nameserver", 10) == 0)
			gt_buf_printf(&servers, "%shost(%s)", servers.len ? " " : "", line + 10 + strspn(line + 10, " \t"));
		else if (strncmp(line, "options", 7) == 0 && !ndots && !options)
			gt_buf_printf(&rest, "%s ndots:0\n", line);
		else if (*line)
			gt_buf_printf(&rest, "%s\n", line);
		options = options || strncmp(line, "options", 7) == 0;
	}
	gt_buf_reset(text);
	gt_buf_printf(text, "nameserver %s\n%s%s\n# ExtServers: [%s]\n", GT_DNS_ADDRESS, rest.data ? rest.data : "",
		      ndots || options ? "" : "options ndots:0\n", servers.data ? servers.data : "");
}

static int check_resolver(const struct gt_container *ctr, struct gt_error *err)
{
	const struct gt_host_config *host = &ctr->config.host;
	const struct gt_strings *lists[] = { &host->dns, &host->dns_search, &host->dns_options };
	for (size_t l = 0; l < GT_COUNT(lists); l++) {
		for (size_t i = 0; i < lists[l]->count; i++) {
			if (!lists[l]->items[i][0] || strpbrk(lists[l]->items[i], " \t\n\r"))
				return gt_fail(err, GT_INVALID, "dns: \"%.255s\" is not one word", lists[l]->items[i]);
		}
	}
	return 0;
}

int resolver_write_file(const struct gt_container *ctr, struct gt_error *err)
{
	const struct gt_config *config = atomic_load(&ctr->engine->config);
	const struct gt_host_config *host = &ctr->config.host;
	AUTO_BUF struct gt_buf text = { 0 };
	if (check_resolver(ctr, err) < 0)
		return -1;
	bool own_resolver = resolver_wanted(ctr);
	read_host_resolver(own_resolver || strcmp(host->network_mode, "host") == 0, &text);
	replace_lines(&text, "nameserver", &host->dns, &config->dns, false);
	replace_lines(&text, "search", &host->dns_search, &config->dns_search, true);
	replace_lines(&text, "options", &host->dns_options, &config->dns_options, true);
	if (own_resolver)
		interpose(&text);
	return write_file(ctr, "resolv.conf", &text, err);
}

/* ---- all three ---- */

/* "container:X": what it has is X's, as its network is. */
static int copy_files(struct gt_container *ctr, struct gt_error *err)
{
	static const char *const FILES[] = { "hosts", "resolv.conf", "hostname" };
	AUTO_CONTAINER struct gt_container *other = gt_container_get(ctr->engine, config_container_mode(ctr->config.host.network_mode), err);
	if (!other)
		return gt_context(err, "joining network namespace of container");
	for (size_t i = 0; i < GT_COUNT(FILES); i++) {
		AUTO_FREE char *path = gt_xasprintf("%s/%s", other->dir, FILES[i]);
		AUTO_BUF struct gt_buf text = { 0 };
		if (gt_read_file(AT_FDCWD, path, MAX_HOST_FILE, &text, err) < 0)
			return gt_context(err, "take over %s from container %s", FILES[i], other->id);
		if (write_file(ctr, FILES[i], &text, err) < 0)
			return -1;
	}
	return 0;
}

static bool has_addresses(const struct gt_container *ctr)
{
	for (size_t i = 0; i < ctr->endpoint_count; i++) {
		if (ctr->endpoints[i].ipv4[0] || ctr->endpoints[i].ipv6[0])
			return true;
	}
	return false;
}

int gt_endpoints_write_files(struct gt_container *ctr, struct gt_error *err)
{
	bool running = ctr->starting || gt_container_is_running(ctr); /* the mounts are there: hosts alone has something new */
	AUTO_BUF struct gt_buf text = { 0 };
	if (endpoints_are_shared(ctr))
		return running ? 0 : copy_files(ctr, err);
	if (running && ctr->endpoint_count == 1 && !has_addresses(ctr))
		return 0; /* "host", "none": nothing has become known */
	if (compose_hosts(ctr, &text, err) < 0 || write_file(ctr, "hosts", &text, err) < 0)
		return -1;
	if (running)
		return 0;
	gt_buf_reset(&text);
	gt_buf_printf(&text, "%s\n", ctr->config.hostname ? ctr->config.hostname : "");
	return write_file(ctr, "hostname", &text, err) < 0 || resolver_write_file(ctr, err) < 0 ? -1 : 0;
}
