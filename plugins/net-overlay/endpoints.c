/*
 * endpoints.c - ops of endpoints: an address and a MAC are claimed in etcd, then the link is made; and the other way round.
 */
#include "overlay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TRIES 64
#define RELEASE_NS 2000000000LL         /* a container's end waits no longer */

/* ---- addresses ---- */

/* What the user wishes for: with or without a prefix. family 0: nothing. */
static int read_wish(const char *text, int family, struct address *wish, struct gantry_error *err)
{
	*wish = (struct address){ 0 };
	if (text[0] && address_parse(text, family, strchr(text, '/') != NULL, wish) < 0)
		return gantry_fail(err, GANTRY_E_INVALID, "\"%.64s\" is no IPv%d address", text, family == AF_INET ? 4 : 6);
	return 0;
}

struct admission {
	struct gantry_endpoint *endpoint;
	struct address wish4, wish6;
	bool mac_given;
	struct tried tried;
	struct interface interface;
	bool read_claims;               /* the table was behind: what is claimed was asked for */
};

static int choose(const struct overlay *self, struct network *network, const struct address *wish, int family, const struct tried *tried,
		  struct address *to, struct gantry_error *err)
{
	if (wish->family) {
		*to = *wish;
		return place_address(network, to) == 0 ? 0 :
							 gantry_fail(err, GANTRY_E_INVALID, "address %s cannot be a container's in network %s", wish->text,
								     network->name);
	}
	if (pick_address(self, network, family, tried, to) < 0)
		return gantry_fail(err, GANTRY_E_UNAVAILABLE, "no available IPv%d addresses on network %s's address pools", family == AF_INET ? 4 : 6,
				   network->name);
	return 0;
}

static void write_address(const struct address *address, const struct address *gateway, char to[GANTRY_ADDR_MAX], char to_gateway[GANTRY_ADDR_MAX])
{
	to[0] = to_gateway[0] = '\0';
	if (address->family)
		snprintf(to, GANTRY_ADDR_MAX, "%s/%u", address->text, address->prefix);
	if (address->family && gateway)
		snprintf(to_gateway, GANTRY_ADDR_MAX, "%s", gateway->text);
}

/* Addresses, gateways and MAC into the endpoint. With the lock held. */
static int plan(const struct overlay *self, struct network *network, struct admission *admission, struct gantry_error *err)
{
	struct gantry_endpoint *endpoint = admission->endpoint;
	struct address ipv4, ipv6;
	if (choose(self, network, &admission->wish4, AF_INET, &admission->tried, &ipv4, err) < 0 ||
	    choose(self, network, &admission->wish6, AF_INET6, &admission->tried, &ipv6, err) < 0)
		return -1;
	write_address(&ipv4, network->internal ? NULL : gateway_for(network, AF_INET), endpoint->ipv4, endpoint->gateway4);
	write_address(&ipv6, network->internal ? NULL : gateway_for(network, AF_INET6), endpoint->ipv6, endpoint->gateway6);
	if (!admission->mac_given)
		endpoint->mac[0] = '\0';
	if (interface_read(endpoint, network->name, &admission->interface, err) < 0)
		return -1;
	admission->interface.default_route = endpoint->default_route && !network->internal;
	mac_format(admission->interface.mac, endpoint->mac);
	return 0;
}

static void note_tried(struct admission *admission, const struct address *address)
{
	struct address *more = realloc(admission->tried.items, (admission->tried.count + 1) * sizeof *more);
	if (!more)
		return;
	admission->tried.items = more;
	more[admission->tried.count] = *address;
	more[admission->tried.count++].prefix = 0;
}

/* ".../claims/NETWORK/ip/ADDRESS" */
static void note_claims(struct admission *admission, const struct etcd_pairs *pairs)
{
	for (size_t i = 0; i < pairs->count; i++) {
		struct address address;
		const char *last = strrchr(pairs->items[i].key, '/');
		if (last && strstr(pairs->items[i].key, "/ip/") && address_parse(last + 1, 0, false, &address) == 0)
			note_tried(admission, &address);
	}
}

/* ---- claiming ---- */

static int make_member(const struct overlay *self, const struct admission *admission, struct member *member)
{
	const struct gantry_endpoint *endpoint = admission->endpoint;
	*member = (struct member){ .vtep = self->vtep, .ipv4 = admission->interface.ipv4, .ipv6 = admission->interface.ipv6 };
	snprintf(member->id, sizeof member->id, "%s", endpoint->id);
	snprintf(member->container_id, sizeof member->container_id, "%s", endpoint->container_id);
	snprintf(member->host, sizeof member->host, "%s", self->hostname);
	memcpy(member->mac, admission->interface.mac, sizeof member->mac);
	return member_set_names(member, endpoint->names, endpoint->name_count);
}

/* The member in the table too, as the watch has not told it yet. */
static void enter_member(struct network *network, const struct member *from, int64_t revision)
{
	struct member copy = *from, *before = member_find(network, from->id);
	if (before && before->revision >= revision)
		return;
	if (before)
		member_drop(network, before);
	copy.names = NULL;
	copy.name_count = 0;
	copy.revision = revision;
	copy.seen = true;
	if (member_set_names(&copy, (const char *const *)from->names, from->name_count) == 0)
		member_insert(network, &copy);
}

/* What a claim that failed means: 0 to try again. With the lock held. */
static int take_refusal(const struct network *network, struct admission *admission, enum claimed how, struct gantry_error *err)
{
	const struct interface *interface = &admission->interface;
	switch (how) {
	case NO_NETWORK:
		return gantry_fail(err, GANTRY_E_NOT_FOUND, "network %s was removed on another host", network->name);
	case TAKEN_MAC:
		if (admission->mac_given)
			return gantry_fail(err, GANTRY_E_CONFLICT, "MAC address %s is in use in network %s", admission->endpoint->mac, network->name);
		if (interface->ipv4.family && admission->wish4.family)
			return gantry_fail(err, GANTRY_E_CONFLICT,
					   "network %s: MAC address %s, which goes with %s, is in use by another container: give one with --mac-address",
					   network->name, admission->endpoint->mac, interface->ipv4.text);
		note_tried(admission, &interface->ipv4);
		return 0;
	case TAKEN_IPV4:
	case TAKEN_IPV6:
		if ((how == TAKEN_IPV4 ? &admission->wish4 : &admission->wish6)->family)
			return gantry_fail(err, GANTRY_E_DENIED, "Address already in use: %s of network %s is another container's",
					   how == TAKEN_IPV4 ? interface->ipv4.text : interface->ipv6.text, network->name);
		note_tried(admission, how == TAKEN_IPV4 ? &interface->ipv4 : &interface->ipv6);
		return 0;
	default:
		return 0;
	}
}

/* One try: 1 claimed, 0 to be tried again, -1. With the lock held, given up while etcd is asked. */
static int try_claim(struct overlay *self, struct network *network, struct admission *admission, int64_t deadline, struct gantry_error *err)
{
	struct member member;
	struct claim claim;
	struct etcd_pairs claims = { 0 };
	enum claimed how;
	int64_t revision, lease = self->lease;
	char id[ID_LEN + 1], network_id[ID_LEN + 1];
	if (plan(self, network, admission, err) < 0)
		return -1;
	struct local *local = make_member(self, admission, &member) == 0 ? local_insert(self, network->id, &member) : NULL;
	if (!local || claim_make(self, network->id, &local->member, &claim) < 0) {
		if (local)
			local_drop(self, local);
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	}
	local->joining = true;
	memcpy(id, local->member.id, sizeof id);
	memcpy(network_id, network->id, sizeof network_id);
	pthread_mutex_unlock(&self->lock);
	int rc = claim_put(self, &claim, lease, deadline, &how, &revision, err);
	bool more = rc == 0 && how != CLAIMED && admission->tried.count > 0 && !admission->read_claims;
	if (more && claim_read(self, network_id, &claims, err) < 0)
		rc = -1;
	claim_free(&claim);
	pthread_mutex_lock(&self->lock);
	local = local_find(self, id);
	network = network_find(self, network_id);
	if (rc == 0 && more) {
		admission->read_claims = true;
		note_claims(admission, &claims);
	}
	etcd_pairs_free(&claims);
	if (rc == 0 && how == CLAIMED && local && network) {
		enter_member(network, &local->member, revision);
		/* Else the lease ended meanwhile: the keeper registers it with the new one. */
		local->unregistered = self->lease != lease;
		return 1;
	}
	if (local)
		local_drop(self, local);
	if (rc < 0 && err->kind == GANTRY_E_NOT_FOUND) {
		agent_lease_lost(self, lease);
		return 0;
	}
	return rc < 0 ? -1 : network ? take_refusal(network, admission, how, err) : gantry_fail(err, GANTRY_E_NOT_FOUND, "the network is gone");
}

static int admit(struct overlay *self, const struct gantry_call *call, struct admission *admission, struct gantry_error *err)
{
	const char *network_id = admission->endpoint->network_id;
	int64_t deadline = op_deadline(self, call);
	bool ready = false;
	for (int tries = 0; tries < TRIES; tries++) {
		if (agent_await(self, call, true, deadline, err) < 0)
			return -1;
		struct network *network = network_find(self, network_id);
		if (!network || network->gone)
			return gantry_fail(err, GANTRY_E_NOT_FOUND, "network %.12s is not there any more: another host removed it", network_id);
		if (network->encrypted && !ready) {
			if (tunnel_ensure(self, network->name, err) < 0 || agent_await_key(self, call, deadline, err) < 0)
				return -1;
			/* The lock was given up: all may be different. */
			ready = true;
			continue;
		}
		int rc = try_claim(self, network, admission, deadline, err);
		if (rc != 0)
			return rc < 0 ? -1 : 0;
	}
	return gantry_fail(err, GANTRY_E_UNAVAILABLE, "no address could be claimed in network %.12s: other hosts were faster each time; try again", network_id);
}

/* ---- join ---- */

static int read_wishes(struct admission *admission, struct gantry_error *err)
{
	const struct gantry_endpoint *endpoint = admission->endpoint;
	if (!id_valid(endpoint->id) || !id_valid(endpoint->network_id) || !id_valid(endpoint->container_id))
		return gantry_fail(err, GANTRY_E_INVALID, "ids of endpoints, networks and containers must be 64 hexadecimal digits");
	admission->mac_given = endpoint->mac[0] != '\0';
	if (read_wish(endpoint->ipv4, AF_INET, &admission->wish4, err) < 0)
		return -1;
	return read_wish(endpoint->ipv6, AF_INET6, &admission->wish6, err);
}

/* It is one of ours already: all is as it was then, but for the default route. */
static int admit_again(const struct overlay *self, const struct local *local, struct admission *admission, struct gantry_error *err)
{
	struct network *network = network_find(self, local->network_id);
	if (!network)
		return gantry_fail(err, GANTRY_E_UNAVAILABLE, "%s", self->trouble[0] ? self->trouble : "etcd has not said yet what networks there are");
	admission->wish4 = local->member.ipv4;
	admission->wish6 = local->member.ipv6;
	mac_format(local->member.mac, admission->endpoint->mac);
	admission->mac_given = true;
	return plan(self, network, admission, err);
}

static int prepare(struct overlay *self, const struct gantry_call *call, struct admission *admission, struct veth *veth, struct gantry_error *err)
{
	pthread_mutex_lock(&self->lock);
	self->tunnel.joins++;
	struct local *local = local_find(self, admission->endpoint->id);
	int rc = local ? admit_again(self, local, admission, err) : admit(self, call, admission, err);
	struct network *network = rc == 0 ? network_find(self, admission->endpoint->network_id) : NULL;
	if (rc == 0 && !network)
		rc = gantry_fail(err, GANTRY_E_NOT_FOUND, "network %.12s was removed on another host", admission->endpoint->network_id);
	if (network)
		rc = links_ensure(self, network, err);
	if (network && rc == 0) {
		*veth = (struct veth){ .host = self->host, .bridge = network->bridge, .mtu = network->link_mtu, .end = admission->interface,
				       .hairpin = published_find(&self->publishing, admission->endpoint->id) != NULL };
		veth_name(HOST_END_PREFIX, admission->endpoint->id, veth->host_end);
	}
	self->tunnel.joins--;
	if (rc < 0)
		tunnel_tidy(self);
	pthread_mutex_unlock(&self->lock);
	return rc;
}

/* The endpoint is none of ours any more: out of our list, out of etcd. */
static void forget(struct overlay *self, const char *endpoint_id)
{
	struct claim claim;
	struct gantry_error ignored = { .size = sizeof ignored };
	char network_id[ID_LEN + 1];
	pthread_mutex_lock(&self->lock);
	struct local *local = local_find(self, endpoint_id);
	if (!local) {
		pthread_mutex_unlock(&self->lock);
		return;
	}
	memcpy(network_id, local->network_id, sizeof network_id);
	bool away = self->trouble[0] || !self->known || claim_make(self, network_id, &local->member, &claim) < 0;
	local_drop(self, local);
	struct network *network = network_find(self, network_id);
	if (network && network->gone && !network_has_locals(self, network_id)) {
		links_remove(self, network);
		network_drop(self, network);
	}
	if (away)
		agent_kick(self);
	pthread_mutex_unlock(&self->lock);
	if (away)
		return; /* the keeper removes what is left over, as soon as it can */
	int rc = claim_release(self, &claim, etcd_now() + RELEASE_NS, &ignored);
	claim_free(&claim);
	pthread_mutex_lock(&self->lock);
	network = network_find(self, network_id);
	struct member *member = network && rc == 0 ? member_find(network, endpoint_id) : NULL;
	if (member)
		member_drop(network, member);
	if (rc < 0)
		agent_kick(self);
	pthread_mutex_unlock(&self->lock);
}

int overlay_join(void *driver, const struct gantry_call *call, struct gantry_endpoint *endpoint, int netns_fd, struct gantry_error *err)
{
	struct overlay *self = driver;
	struct admission admission = { .endpoint = endpoint };
	struct veth veth;
	char name[ID_LEN + 1];
	if (refuse_unconfigured(self, "the container's network", err) < 0 || read_wishes(&admission, err) < 0)
		return -1;
	pthread_mutex_lock(&self->lock);
	bool new = !local_find(self, endpoint->id);
	pthread_mutex_unlock(&self->lock);
	snprintf(name, sizeof name, "%.12s", endpoint->network_id);
	int rc = prepare(self, call, &admission, &veth, err);
	free(admission.tried.items);
	if (rc == 0) {
		veth.network = name;
		rc = veth_join(&veth, netns_fd, err);
	}
	if (rc < 0) {
		if (new)
			forget(self, endpoint->id);
		return -1;
	}
	pthread_mutex_lock(&self->lock);
	struct local *local = local_find(self, endpoint->id);
	if (local)
		local->joining = false;
	if (local && local->unregistered)
		agent_kick(self);
	pthread_mutex_unlock(&self->lock);
	snprintf(endpoint->host_ifname, sizeof endpoint->host_ifname, "%s", veth.host_end);
	endpoint->mtu = veth.mtu;
	return 0;
}

/* ---- leave, rename ---- */

int overlay_leave(void *driver, const struct gantry_call *call, const char *network_id, const char *endpoint_id, int netns_fd, struct gantry_error *err)
{
	struct overlay *self = driver;
	char host_end[IFNAMSIZ];
	if (!id_valid(endpoint_id))
		return gantry_fail(err, GANTRY_E_INVALID, "an endpoint's id must be 64 hexadecimal digits");
	if (!self->etcd)
		return 0;
	veth_name(HOST_END_PREFIX, endpoint_id, host_end);
	forget(self, endpoint_id);
	int rc = netns_fd < 0 ? veth_vanish(&self->later, host_end, err) : veth_leave(host_end, err);
	return overlay_unpublish(driver, call, network_id, endpoint_id, err) < 0 ? -1 : rc;
}

int overlay_rename(void *driver, const struct gantry_call *call, const char *network_id, const char *endpoint_id, const char *const *names,
		   size_t name_count, struct gantry_error *err)
{
	struct overlay *self = driver;
	int rc = 0;
	(void)call;
	(void)network_id;
	if (!self->etcd)
		return 0;
	pthread_mutex_lock(&self->lock);
	struct local *local = local_find(self, endpoint_id);
	if (local && member_set_names(&local->member, names, name_count) < 0)
		rc = gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	if (local && rc == 0) {
		local->unregistered = true;
		agent_kick(self);
	}
	pthread_mutex_unlock(&self->lock);
	return rc;
}

/* ---- reconcile ---- */

static int take_endpoint(struct overlay *self, const struct gantry_endpoint *endpoint, struct gantry_error *err)
{
	struct member member = { .vtep = self->vtep };
	struct interface interface;
	if (!id_valid(endpoint->id) || !id_valid(endpoint->network_id) || !id_valid(endpoint->container_id))
		return gantry_fail(err, GANTRY_E_INVALID, "its ids are none");
	if (interface_read(endpoint, "", &interface, err) < 0)
		return -1;
	snprintf(member.id, sizeof member.id, "%s", endpoint->id);
	snprintf(member.container_id, sizeof member.container_id, "%s", endpoint->container_id);
	snprintf(member.host, sizeof member.host, "%s", self->hostname);
	memcpy(member.mac, interface.mac, sizeof member.mac);
	member.ipv4 = interface.ipv4;
	member.ipv6 = interface.ipv6;
	struct local *local = member_set_names(&member, endpoint->names, endpoint->name_count) == 0 ?
				      local_insert(self, endpoint->network_id, &member) :
				      NULL;
	if (!local)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	local->unregistered = true;
	return 0;
}

/* Those that the engine does not have (any more). Joins of now are not its to know yet. */
static void drop_others(struct overlay *self, const struct gantry_endpoint *endpoints, size_t count, size_t size)
{
	struct local *next;
	for (struct local *local = self->locals; local; local = next) {
		bool told = local->joining;
		const char *item = (const char *)endpoints;
		next = local->next;
		for (size_t i = 0; i < count && !told; i++, item += size)
			told = strcmp(((const struct gantry_endpoint *)(const void *)item)->id, local->member.id) == 0;
		if (!told)
			local_drop(self, local);
	}
}

int overlay_reconcile(void *driver, const struct gantry_call *call, const struct gantry_endpoint *endpoints, size_t endpoint_count, size_t endpoint_size,
		      const struct gantry_port *ports, const uint32_t *port_owner, size_t port_count, size_t port_size, struct gantry_error *err)
{
	struct overlay *self = driver;
	const char *item = (const char *)endpoints;
	struct gantry_error why = { .size = sizeof why };
	(void)call;
	if (!self->etcd)
		return 0;
	pthread_mutex_lock(&self->lock);
	drop_others(self, endpoints, endpoint_count, endpoint_size);
	for (size_t i = 0; i < endpoint_count; i++, item += endpoint_size) {
		const struct gantry_endpoint *endpoint = (const struct gantry_endpoint *)(const void *)item;
		if (!local_find(self, endpoint->id) && take_endpoint(self, endpoint, &why) < 0)
			log_line(self->host, GANTRY_WARN, "container %.12s is not reached from other hosts: %s", endpoint->container_id, why.message);
	}
	self->told = true;
	int rc = links_sweep(self, err);
	if (ports_restore(self, endpoints, endpoint_count, endpoint_size, ports, port_owner, port_count, port_size, &why) < 0)
		log_line(self->host, GANTRY_WARN, "published ports: %s", why.message);
	for (struct network *network = self->networks; network && self->known; network = network->next) {
		if (network_has_locals(self, network->id) && links_ensure(self, network, &why) < 0)
			log_line(self->host, GANTRY_WARN, "network %s: %s", network->name, why.message);
	}
	tunnel_tidy(self);
	agent_kick(self);
	pthread_mutex_unlock(&self->lock);
	return rc;
}
