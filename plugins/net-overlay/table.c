/*
 * table.c - what etcd says, in memory: networks with their members, and the endpoints of this host. With the lock held.
 */
#include "overlay.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct member *)a)->id, ((const struct member *)b)->id);
}

/* ---- looking ---- */

struct network *network_find(const struct overlay *self, const char *id)
{
	struct network *network = self->networks;
	while (network && strcmp(network->id, id) != 0)
		network = network->next;
	return network;
}

struct network *network_by_name(const struct overlay *self, const char *name)
{
	struct network *network = self->networks;
	while (network && (network->gone || strcmp(network->name, name) != 0))
		network = network->next;
	return network;
}

struct member *member_find(const struct network *network, const char *id)
{
	struct member key;
	snprintf(key.id, sizeof key.id, "%s", id);
	struct member **found = tfind(&key, &network->members, compare);
	return found ? *found : NULL;
}

struct local *local_find(const struct overlay *self, const char *endpoint_id)
{
	struct local *local = self->locals;
	while (local && strcmp(local->member.id, endpoint_id) != 0)
		local = local->next;
	return local;
}

bool network_has_locals(const struct overlay *self, const char *network_id)
{
	const struct local *local = self->locals;
	while (local && strcmp(local->network_id, network_id) != 0)
		local = local->next;
	return local != NULL;
}

bool is_own(const struct overlay *self, const struct member *member)
{
	return address_equal(&member->vtep, &self->vtep);
}

struct walk {
	void (*fn)(struct member *member, void *arg);
	void *arg;
};

static void visit(const void *node, VISIT which, void *arg)
{
	struct walk *walk = arg;
	if (which == postorder || which == leaf)
		walk->fn(*(struct member *const *)node, walk->arg);
}

void each_member(const struct network *network, void (*fn)(struct member *member, void *arg), void *arg)
{
	struct walk walk = { fn, arg };
	twalk_r(network->members, visit, &walk);
}

/* ---- changing ---- */

struct network *network_insert(struct overlay *self, struct network *from)
{
	struct network *network = self->network_count < MAX_NETWORKS ? malloc(sizeof *network) : NULL;
	if (!network) {
		network_release(from);
		return NULL;
	}
	*network = *from;
	network->generation = 1;
	network->next = self->networks;
	self->networks = network;
	self->network_count++;
	return network;
}

static void free_member(void *arg)
{
	struct member *member = arg;
	member_release(member);
	free(member);
}

void network_drop(struct overlay *self, struct network *network)
{
	struct network **at = &self->networks;
	while (*at != network)
		at = &(*at)->next;
	*at = network->next;
	self->network_count--;
	tdestroy(network->members, free_member);
	network_release(network);
	free(network);
}

struct member *member_insert(struct network *network, struct member *from)
{
	struct member *member = network->member_count < MAX_MEMBERS ? malloc(sizeof *member) : NULL;
	if (member)
		*member = *from;
	struct member **slot = member ? tsearch(member, &network->members, compare) : NULL;
	if (!slot || *slot != member) {
		member_release(from);
		free(member);
		return NULL;
	}
	network->member_count++;
	return member;
}

void member_drop(struct network *network, struct member *member)
{
	tdelete(member, &network->members, compare);
	network->member_count--;
	free_member(member);
}

struct local *local_insert(struct overlay *self, const char *network_id, struct member *from)
{
	struct local *local = calloc(1, sizeof *local);
	if (!local) {
		member_release(from);
		return NULL;
	}
	snprintf(local->network_id, sizeof local->network_id, "%s", network_id);
	local->member = *from;
	local->next = self->locals;
	self->locals = local;
	return local;
}

void local_drop(struct overlay *self, struct local *local)
{
	struct local **at = &self->locals;
	while (*at != local)
		at = &(*at)->next;
	*at = local->next;
	member_release(&local->member);
	free(local);
}

void table_free(struct overlay *self)
{
	while (self->networks)
		network_drop(self, self->networks);
	while (self->locals)
		local_drop(self, self->locals);
}

void tell_news(struct overlay *self, struct network *network)
{
	if (network)
		network->generation++;
	eventfd_write(self->news, 1);
}
