/*
 * changes.c - what a change in etcd does to the table and to the kernel.
 *
 * Changes come one by one from the watch, or all at once when everything is read. Records of ours that an op has just written are in the table already, with
 * their revision: what is older than that changes nothing.
 */
#include "overlay.h"

#include <string.h>

#define QUIET_NS 10000000000LL

/* A record that cannot be taken. Whoever writes many of them does not fill the log. */
static void pass_over(struct overlay *self, const char *what, const char *id, const char *why)
{
	int64_t now = etcd_now();
	if (self->passed_over_ns && now - self->passed_over_ns < QUIET_NS)
		return;
	self->passed_over_ns = now;
	log_line(self->host, GANTRY_WARN, "the record of %s %.*s in etcd is passed over: %s", what, id_valid(id) ? 12 : ADDRESS_TEXT, id, why);
}

/* ---- networks ---- */

/* Its last container here is gone, or it never had one: nothing is left of it. */
static void bury(struct overlay *self, struct network *network)
{
	links_remove(self, network);
	network_drop(self, network);
}

static void network_is_gone(struct overlay *self, struct network *network, int64_t revision)
{
	if (network->revision > revision || network->gone)
		return;
	tell_news(self, NULL);
	if (!network_has_locals(self, network->id)) {
		bury(self, network);
		return;
	}
	network->gone = true;
	log_line(self->host, GANTRY_WARN, "network %s (%.12s) was removed on another host while this one was away; the containers that are in it keep it here",
		 network->name, network->id);
}

static void network_is(struct overlay *self, const char *id, const struct etcd_pair *pair)
{
	struct network from = { .revision = pair->revision, .seen = true }, *network = network_find(self, id);
	if (!id_valid(id))
		return;
	if (network && network->revision >= pair->revision) {
		network->seen = true;
		return;
	}
	if (network_from_text(pair->value, &from) < 0) {
		network_release(&from);
		pass_over(self, "network", id, "it is none");
		return;
	}
	snprintf(from.id, sizeof from.id, "%s", id);
	if (network) {
		/* Records of networks never change; this one was written again. */
		network->seen = true;
		network->gone = false;
		network->revision = pair->revision;
		network_release(&from);
		return;
	}
	if (network_insert(self, &from))
		tell_news(self, NULL);
	else
		pass_over(self, "network", id, "there are too many");
}

/* ---- hosts ---- */

/* Who is behind which key. */
static void hosts_changed(struct overlay *self)
{
	struct gantry_error err = { .size = sizeof err };
	if (self->reading || !self->tunnel.ifindex)
		return;
	if (tunnel_sync(self, &err) < 0)
		log_line(self->host, GANTRY_WARN, "keys of other hosts: %s", err.message);
	for (struct network *network = self->networks; network; network = network->next) {
		if (network->encrypted && neighbours_sync(self, network, &err) < 0)
			log_line(self->host, GANTRY_WARN, "network %s: %s", network->name, err.message);
	}
}

static void host_is(struct overlay *self, const struct address *vtep, const struct etcd_pair *pair)
{
	struct host from = { .vtep = *vtep, .revision = pair->revision, .seen = true };
	const struct host *before = host_find(self, vtep);
	char instance[33];
	if (host_from_text(pair->value, instance, &from) < 0) {
		pass_over(self, "host", vtep->text, "it is none");
		memset(from.key, 0, sizeof from.key);
	}
	bool same = before ? memcmp(before->key, from.key, sizeof from.key) == 0 : !wireguard_key_is_set(from.key);
	if (host_put(self, &from) < 0)
		pass_over(self, "host", vtep->text, "there are too many");
	else if (!same)
		hosts_changed(self);
}

static void host_is_gone(struct overlay *self, const struct host *host)
{
	bool keyed = wireguard_key_is_set(host->key);
	struct address vtep = host->vtep;
	host_drop(self, &vtep);
	if (keyed)
		hosts_changed(self);
}

/* "ADDRESS" */
static void change_host(struct overlay *self, const char *rest, const struct etcd_pair *pair)
{
	struct address vtep;
	if (address_parse(rest, 0, false, &vtep) < 0)
		return;
	const struct host *host = host_find(self, &vtep);
	if (pair->value)
		host_is(self, &vtep, pair);
	else if (host)
		host_is_gone(self, host);
}

struct unseen_hosts {
	struct address list[64];
	size_t count;
};

static void note_unseen_host(struct host *host, void *arg)
{
	struct unseen_hosts *unseen = arg;
	if (!host->seen && unseen->count < sizeof unseen->list / sizeof unseen->list[0])
		unseen->list[unseen->count++] = host->vtep;
}

static void drop_unseen_hosts(struct overlay *self)
{
	struct unseen_hosts unseen;
	do {
		unseen.count = 0;
		each_host(self, note_unseen_host, &unseen);
		for (size_t i = 0; i < unseen.count; i++)
			host_drop(self, &unseen.list[i]);
	} while (unseen.count);
}

static void unsee_host(struct host *host, void *arg)
{
	(void)arg;
	host->seen = false;
}

/* ---- members ---- */

static void member_is_gone(struct overlay *self, struct network *network, struct member *member)
{
	struct local *local = is_own(self, member) ? local_find(self, member->id) : NULL;
	if (!is_own(self, member))
		neighbour_remove(self, network, member);
	member_drop(network, member);
	tell_news(self, network);
	/* The lease has run out, or somebody removed it: it lives, so it is told again. */
	if (local && !local->joining) {
		local->unregistered = true;
		agent_kick(self);
	}
}

static bool same_place(const struct member *a, const struct member *b)
{
	return address_equal(&a->vtep, &b->vtep) && memcmp(a->mac, b->mac, sizeof a->mac) == 0 && address_equal(&a->ipv4, &b->ipv4) &&
	       address_equal(&a->ipv6, &b->ipv6);
}

static void member_is(struct overlay *self, struct network *network, const char *id, const struct etcd_pair *pair)
{
	struct member from = { .revision = pair->revision, .seen = true }, *member = member_find(network, id);
	if (member && member->revision >= pair->revision) {
		member->seen = true;
		return;
	}
	if (member_from_text(pair->value, &from) < 0) {
		member_release(&from);
		pass_over(self, "endpoint", id, "it is none");
		return;
	}
	snprintf(from.id, sizeof from.id, "%s", id);
	if (member && !is_own(self, member) && !same_place(member, &from))
		neighbour_remove(self, network, member);
	if (member)
		member_drop(network, member);
	member = member_insert(network, &from);
	if (!member) {
		pass_over(self, "endpoint", id, "its network has too many");
		return;
	}
	if (!is_own(self, member))
		neighbour_add(self, network, member);
	tell_news(self, network);
}

/* "NETWORK/ENDPOINT" */
static void change_endpoint(struct overlay *self, const char *rest, const struct etcd_pair *pair)
{
	char network_id[ID_LEN + 1];
	if (strlen(rest) != 2 * ID_LEN + 1 || rest[ID_LEN] != '/' || !id_valid(rest + ID_LEN + 1))
		return;
	snprintf(network_id, sizeof network_id, "%.*s", ID_LEN, rest);
	struct network *network = network_find(self, network_id);
	if (!network)
		return;
	if (pair->value) {
		member_is(self, network, rest + ID_LEN + 1, pair);
		return;
	}
	struct member *member = member_find(network, rest + ID_LEN + 1);
	if (member && member->revision < pair->revision)
		member_is_gone(self, network, member);
}

/* ---- all ---- */

void change_apply(struct overlay *self, const struct etcd_pair *pair)
{
	char live[KEY_ROOM];
	key_live(self, "", live);
	size_t len = strlen(live);
	if (strncmp(pair->key, live, len) != 0)
		return;
	const char *rest = pair->key + len;
	if (strncmp(rest, "networks/", 9) == 0) {
		struct network *network = network_find(self, rest + 9);
		if (pair->value)
			network_is(self, rest + 9, pair);
		else if (network)
			network_is_gone(self, network, pair->revision);
	} else if (strncmp(rest, "hosts/", 6) == 0) {
		change_host(self, rest + 6, pair);
	} else if (strncmp(rest, "endpoints/", 10) == 0) {
		change_endpoint(self, rest + 10, pair);
	} else if (strcmp(rest, "guard") == 0) {
		if (pair->revision > self->guard)
			self->guard = pair->value ? pair->revision : 0;
		pthread_cond_broadcast(&self->changed);
	}
}

static void unsee(struct member *member, void *arg)
{
	const bool *anew = arg;
	member->seen = false;
	if (*anew)
		member->revision = 0;
}

void changes_begin(struct overlay *self, bool anew)
{
	self->guard = 0;
	self->reading = true;
	each_host(self, unsee_host, NULL);
	for (struct network *network = self->networks; network; network = network->next) {
		network->seen = false;
		if (anew)
			network->revision = 0;
		each_member(network, unsee, &anew);
	}
}

/* A tree cannot be changed while it is walked. */
struct unseen {
	int64_t revision;
	struct member *list[64];
	size_t count;
};

static void note_unseen(struct member *member, void *arg)
{
	struct unseen *unseen = arg;
	if (!member->seen && member->revision <= unseen->revision && unseen->count < sizeof unseen->list / sizeof unseen->list[0])
		unseen->list[unseen->count++] = member;
}

static void drop_unseen(struct overlay *self, struct network *network, int64_t revision)
{
	struct unseen unseen = { .revision = revision };
	do {
		unseen.count = 0;
		each_member(network, note_unseen, &unseen);
		for (size_t i = 0; i < unseen.count; i++)
			member_is_gone(self, network, unseen.list[i]);
	} while (unseen.count);
}

void changes_end(struct overlay *self, int64_t revision)
{
	struct network *next;
	struct gantry_error err = { .size = sizeof err };
	self->reading = false;
	drop_unseen_hosts(self);
	for (struct network *network = self->networks; network; network = next) {
		next = network->next;
		drop_unseen(self, network, revision);
		if (!network->seen)
			network_is_gone(self, network, revision);
	}
	self->known = true;
	if (tunnel_sync(self, &err) < 0)
		log_line(self->host, GANTRY_WARN, "keys of other hosts: %s", err.message);
	for (struct network *network = self->networks; network; network = network->next) {
		bool new = network_has_locals(self, network->id) && !network->vxlan;
		if ((new ? links_ensure(self, network, &err) : neighbours_sync(self, network, &err)) < 0)
			log_line(self->host, GANTRY_WARN, "network %s: %s", network->name, err.message);
	}
	tunnel_tidy(self);
	tell_news(self, NULL);
	pthread_cond_broadcast(&self->changed);
}
