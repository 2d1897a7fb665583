/*
 * hosts.c - the hosts that are in etcd, in memory, by their address for tunnels. With the lock held.
 */
#include "overlay.h"

#include <arpa/inet.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
	const struct address *left = &((const struct host *)a)->vtep, *right = &((const struct host *)b)->vtep;
	return left->family != right->family ? left->family - right->family : memcmp(left->bytes, right->bytes, sizeof left->bytes);
}

static struct host *find(const struct overlay *self, const struct address *vtep)
{
	struct host key = { .vtep = *vtep };
	struct host **found = tfind(&key, &self->hosts, compare);
	return found ? *found : NULL;
}

const struct host *host_find(const struct overlay *self, const struct address *vtep)
{
	return find(self, vtep);
}

int host_put(struct overlay *self, const struct host *from)
{
	struct host *host = find(self, &from->vtep);
	if (host) {
		*host = *from;
		return 0;
	}
	host = self->host_count < MAX_HOSTS ? malloc(sizeof *host) : NULL;
	if (host)
		*host = *from;
	if (!host || !tsearch(host, &self->hosts, compare)) {
		free(host);
		return -1;
	}
	self->host_count++;
	return 0;
}

void host_drop(struct overlay *self, const struct address *vtep)
{
	struct host *host = find(self, vtep);
	if (!host)
		return;
	tdelete(host, &self->hosts, compare);
	self->host_count--;
	free(host);
}

struct walk {
	void (*fn)(struct host *host, void *arg);
	void *arg;
};

static void visit(const void *node, VISIT which, void *arg)
{
	struct walk *walk = arg;
	if (which == postorder || which == leaf)
		walk->fn(*(struct host *const *)node, walk->arg);
}

void each_host(const struct overlay *self, void (*fn)(struct host *host, void *arg), void *arg)
{
	struct walk walk = { fn, arg };
	twalk_r(self->hosts, visit, &walk);
}

void hosts_free(struct overlay *self)
{
	tdestroy(self->hosts, free);
	self->hosts = NULL;
	self->host_count = 0;
}

void host_inside(const unsigned char key[WIREGUARD_KEY_LEN], struct address *to)
{
	*to = (struct address){ .family = AF_INET6, .prefix = 64, .bytes = { 0xfe, 0x80 } };
	memcpy(to->bytes + 8, key, 8);
	inet_ntop(AF_INET6, to->bytes, to->text, sizeof to->text);
}
