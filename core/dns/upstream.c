/*
 * upstream.c - the servers that know everything else.
 */
#include <fcntl.h>
#include <netdb.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "dns/server.h"

#define HOST_FILE "/etc/resolv.conf"
#define HOST_FILE_MAX 65536
#define LOOK_EVERY GT_SECOND

bool dns_upstream_add(struct dns_upstreams *upstreams, const char *address)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_DGRAM }, *found = NULL;
	if (upstreams->count == GT_DNS_MAX_UPSTREAMS || getaddrinfo(address, "53", &hints, &found) != 0)
		return false;
	memcpy(&upstreams->servers[upstreams->count++], found->ai_addr, found->ai_addrlen);
	freeaddrinfo(found);
	return true;
}

static void read_host_file(struct dns_upstreams *upstreams)
{
	AUTO_BUF struct gt_buf text = { 0 };
	upstreams->count = 0;
	if (gt_read_file(AT_FDCWD, HOST_FILE, HOST_FILE_MAX, &text, NULL) < 0 || !text.data)
		return;
	char *rest = text.data, *line;
	while ((line = strsep(&rest, "\n")) != NULL) {
		char *word = strsep(&line, " \t");
		if (strcmp(word, "nameserver") || !line)
			continue;
		line += strspn(line, " \t");
		line[strcspn(line, " \t\r#;")] = '\0';
		dns_upstream_add(upstreams, line);
	}
}

const struct dns_upstreams *dns_upstreams_of_host(struct gt_dns *dns)
{
	int64_t now = gt_monotonic();
	struct stat stat_now;
	if (dns->host_looked_at && now - dns->host_looked_at < LOOK_EVERY)
		return &dns->host;
	dns->host_looked_at = now;
	if (stat(HOST_FILE, &stat_now) < 0 || memcmp(&stat_now.st_ctim, &dns->host_changed, sizeof dns->host_changed) == 0)
		return &dns->host;
	dns->host_changed = stat_now.st_ctim;
	read_host_file(&dns->host);
	return &dns->host;
}
