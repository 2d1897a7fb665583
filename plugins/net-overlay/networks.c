/*
 * networks.c - ops of networks. A network is made and removed in etcd, in one transaction that fails where anybody made or removed another since: so names,
 * VXLAN identifiers and subnets are each one network's. Its links are made where containers join it (dataplane.c).
 */
#include "overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define OPT_MTU "com.docker.network.driver.mtu"
#define OPT_ENCRYPTED "encrypted"
#define TRIES 32

int refuse_unconfigured(const struct overlay *self, const char *what, struct gantry_error *err)
{
	if (self->etcd)
		return 0;
	return gantry_fail(err, GANTRY_E_UNSUPPORTED,
			   "%s: networks that span hosts need etcd: set etcd = http://HOST:2379 and underlay = ADDRESS in section [plugin.net-overlay] of gantryd.ini",
			   what);
}

/* ---- what is asked for ---- */

/* Nothing means yes: `-o encrypted`. */
static int read_truth(struct network *network, const char *value, struct gantry_error *err)
{
	static const char *const YES[] = { "", "true", "1" }, *const NO[] = { "false", "0" };
	for (size_t i = 0; i < sizeof YES / sizeof YES[0]; i++)
		network->encrypted |= strcmp(value, YES[i]) == 0;
	if (network->encrypted || strcmp(value, NO[0]) == 0 || strcmp(value, NO[1]) == 0)
		return 0;
	return gantry_fail(err, GANTRY_E_INVALID, "network %s: option " OPT_ENCRYPTED " is \"%.64s\"; allowed are true and false", network->name, value);
}

static int read_option(struct network *network, const char *key, const char *value, struct gantry_error *err)
{
	if (strcmp(key, OPT_MTU) == 0)
		return option_number(network->name, key, value, 68, 65535, &network->mtu, err);
	if (strcmp(key, OPT_ENCRYPTED) == 0)
		return read_truth(network, value, err);
	return gantry_fail(err, GANTRY_E_INVALID, "network %s: unknown option \"%.64s\" (there are: " OPT_MTU ", " OPT_ENCRYPTED ")", network->name, key);
}

static int read_subnets(const struct gantry_network *from, struct network *to, struct gantry_error *err)
{
	const char *item = (const char *)from->subnets;
	for (size_t i = 0; i < from->subnet_count; i++, item += from->subnet_size) {
		const struct gantry_subnet *subnet = (const struct gantry_subnet *)(const void *)item;
		if (subnet_read(to, subnet->subnet, subnet->gateway, subnet->range) < 0)
			return gantry_fail(err, GANTRY_E_INVALID, "network %s: subnet \"%.64s\", its gateway or its range cannot be used", to->name,
					   subnet->subnet);
	}
	if (!to->subnet_count)
		return gantry_fail(err, GANTRY_E_INVALID, "network %s has no subnet", to->name);
	if (to->ipv6 && to->mtu && to->mtu < 1280)
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: an MTU of %u is too small for IPv6, which needs 1280", to->name, to->mtu);
	return 0;
}

static int read_network(const struct gantry_network *from, struct network *to, struct gantry_error *err)
{
	*to = (struct network){ .internal = from->flags & GANTRY_NETWORK_INTERNAL, .seen = true };
	if (!id_valid(from->id))
		return gantry_fail(err, GANTRY_E_INVALID, "a network's id must be 64 hexadecimal digits");
	snprintf(to->id, sizeof to->id, "%s", from->id);
	if (!from->name || strlen(from->name) >= sizeof to->name)
		return gantry_fail(err, GANTRY_E_INVALID, "a network's name has at most %zu bytes", sizeof to->name - 1);
	snprintf(to->name, sizeof to->name, "%s", from->name);
	for (uint32_t i = 0; i < from->options.count; i++) {
		if (read_option(to, from->options.items[i].key, from->options.items[i].value, err) < 0)
			return -1;
	}
	if (read_subnets(from, to, err) < 0)
		return -1;
	if (from->reserved_count > MAX_RESERVED)
		return gantry_fail(err, GANTRY_E_INVALID, "network %s has more than %d auxiliary addresses", to->name, MAX_RESERVED);
	to->document = strdup(from->document ? from->document : "{}");
	to->reserved = calloc(from->reserved_count + 1, sizeof *to->reserved);
	if (!to->document || !to->reserved)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	for (size_t i = 0; i < from->reserved_count; i++) {
		if (address_parse(from->reserved[i], 0, false, &to->reserved[to->reserved_count++]) < 0)
			return gantry_fail(err, GANTRY_E_INVALID, "network %s: \"%.64s\" is no address", to->name, from->reserved[i]);
	}
	return 0;
}

/* ---- create; with the lock held where not said otherwise ---- */

static bool overlap(const struct network *a, const struct network *b, const struct subnet **which)
{
	for (unsigned i = 0; i < a->subnet_count; i++) {
		for (unsigned k = 0; k < b->subnet_count; k++) {
			*which = &b->subnets[k];
			if (address_within(&a->subnets[i].network, &b->subnets[k].network) || address_within(&b->subnets[k].network, &a->subnets[i].network))
				return true;
		}
	}
	return false;
}

static int check_others(const struct overlay *self, const struct network *network, struct gantry_error *err)
{
	const struct subnet *which;
	if (self->network_count >= MAX_NETWORKS)
		return gantry_fail(err, GANTRY_E_CONFLICT, "there are %d networks that span hosts already: remove those that are not used", MAX_NETWORKS);
	if (network_by_name(self, network->name))
		return gantry_fail(err, GANTRY_E_CONFLICT, "network with name %s already exists: another host made it", network->name);
	for (const struct network *other = self->networks; other; other = other->next) {
		if (!other->gone && overlap(network, other, &which))
			return gantry_fail(err, GANTRY_E_CONFLICT, "network %s: its subnet overlaps with %s/%u of network %s, which spans hosts", network->name,
					   which->network.text, which->network.prefix, other->name);
	}
	return 0;
}

static int pick_vni(const struct overlay *self, struct network *network, struct gantry_error *err)
{
	for (uint32_t vni = VNI_FIRST; vni <= VNI_LAST; vni++) {
		const struct network *other = self->networks;
		while (other && other->vni != vni)
			other = other->next;
		if (!other) {
			network->vni = vni;
			return 0;
		}
	}
	return gantry_fail(err, GANTRY_E_CONFLICT, "network %s: no VXLAN identifier is free", network->name);
}

/* Without the lock. *done false: the guard has moved. */
static int put_network(struct overlay *self, const struct network *network, int64_t guard, int64_t deadline, bool *done, int64_t *revision,
		       struct gantry_error *err)
{
	struct etcd_txn txn;
	char guard_key[KEY_ROOM], key[KEY_ROOM];
	char *text = network_to_text(network);
	key_live(self, "guard", guard_key);
	key_network(self, network->id, key);
	if (text && strlen(text) > ETCD_VALUE_MAX) {
		free(text);
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: what other hosts are to know of it is too long", network->name);
	}
	etcd_txn_begin(&txn);
	etcd_if_revision(&txn, guard_key, guard);
	etcd_put(&txn, false, guard_key, network->id, 0);
	if (text)
		etcd_put(&txn, false, key, text, 0);
	else
		txn.broken = true;
	free(text);
	return etcd_commit(self->etcd, &txn, deadline, done, revision, NULL, err);
}

/* The table is behind: the watch brings it up. Gives the lock up meanwhile. */
static int await_guard(struct overlay *self, const struct gantry_call *call, int64_t guard, int64_t deadline, struct gantry_error *err)
{
	struct timespec when;
	for (int i = 0; i < 20 && self->guard == guard; i++) {
		clock_gettime(CLOCK_MONOTONIC, &when);
		if (when.tv_sec * 1000000000LL + when.tv_nsec >= deadline)
			break;
		when.tv_nsec += 50000000;
		when.tv_sec += when.tv_nsec / 1000000000;
		when.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&self->changed, &self->lock, &when);
	}
	return agent_await(self, call, false, deadline, err);
}

/* With the lock held; given up while etcd is asked. */
static int make(struct overlay *self, const struct gantry_call *call, struct network *network, struct gantry_error *err)
{
	int64_t deadline = op_deadline(self, call), revision = 0;
	for (int tries = 0; tries < TRIES; tries++) {
		bool done = false;
		if (agent_await(self, call, false, deadline, err) < 0)
			return -1;
		if (network_find(self, network->id))
			return 0;
		if (check_others(self, network, err) < 0 || pick_vni(self, network, err) < 0)
			return -1;
		int64_t guard = self->guard;
		pthread_mutex_unlock(&self->lock);
		int rc = put_network(self, network, guard, deadline, &done, &revision, err);
		pthread_mutex_lock(&self->lock);
		if (rc < 0)
			return -1;
		if (done) {
			network->revision = revision;
			if (revision > self->guard)
				self->guard = revision;
			/* The watch may have been faster. */
			if (!network_find(self, network->id)) {
				network_insert(self, network);
				*network = (struct network){ 0 };
			}
			tell_news(self, NULL);
			return 0;
		}
		if (await_guard(self, call, guard, deadline, err) < 0)
			return -1;
	}
	return gantry_fail(err, GANTRY_E_UNAVAILABLE, "network %s cannot be made: other hosts make and remove networks all the time; try again", network->name);
}

int overlay_network_create(void *driver, const struct gantry_call *call, const struct gantry_network *wanted, struct gantry_error *err)
{
	struct overlay *self = driver;
	struct network network;
	char what[200];
	snprintf(what, sizeof what, "network %.128s", wanted->name ? wanted->name : "");
	if (refuse_unconfigured(self, what, err) < 0)
		return -1;
	int rc = read_network(wanted, &network, err);
	/* One that another host made is known here too, where it cannot be joined. */
	bool new = !(wanted->flags & GANTRY_NETWORK_KNOWN);
	if (rc == 0 && new && network.encrypted)
		rc = tunnel_possible(network.name, err);
	if (rc == 0 && new) {
		pthread_mutex_lock(&self->lock);
		rc = make(self, call, &network, err);
		pthread_mutex_unlock(&self->lock);
	}
	network_release(&network);
	return rc;
}

/* ---- remove ---- */

static int fail_in_use(const struct network *network, const struct etcd_pairs *users, struct gantry_error *err)
{
	struct member member = { 0 };
	int rc;
	if (member_from_text(users->items[0].value, &member) == 0)
		rc = gantry_fail(err, GANTRY_E_DENIED, "network %s has active endpoints: container %s (%.12s) on host %s is in it", network->name,
				 member.name_count ? member.names[0] : "", member.container_id, member.host);
	else
		rc = gantry_fail(err, GANTRY_E_DENIED, "network %s has active endpoints on other hosts", network->name);
	member_release(&member);
	return rc;
}

/* Without the lock. */
static int remove_record(struct overlay *self, const struct network *network, int64_t deadline, int64_t *revision, struct gantry_error *err)
{
	struct etcd_txn txn;
	struct etcd_pairs users = { 0 };
	char guard[KEY_ROOM], key[KEY_ROOM], endpoints[KEY_ROOM], claims[KEY_ROOM];
	bool done = false;
	key_live(self, "guard", guard);
	key_network(self, network->id, key);
	key_endpoint(self, network->id, "", endpoints);
	key_claims(self, network->id, claims);
	etcd_txn_begin(&txn);
	etcd_if_none(&txn, endpoints);
	etcd_put(&txn, false, guard, network->id, 0);
	etcd_remove(&txn, false, key);
	etcd_remove_all(&txn, false, claims);
	etcd_get_some(&txn, true, endpoints, 4);
	if (etcd_commit(self->etcd, &txn, deadline, &done, revision, &users, err) < 0)
		return -1;
	int rc = done ? 0 : users.count ? fail_in_use(network, &users, err) :
					  gantry_fail(err, GANTRY_E_UNAVAILABLE, "network %s: its last container has just left; try again", network->name);
	etcd_pairs_free(&users);
	return rc;
}

int overlay_network_remove(void *driver, const struct gantry_call *call, const char *network_id, struct gantry_error *err)
{
	struct overlay *self = driver;
	struct network copy = { 0 };
	int64_t revision = 0;
	if (!self->etcd)
		return 0;
	int64_t deadline = op_deadline(self, call);
	pthread_mutex_lock(&self->lock);
	int rc = agent_await(self, call, false, deadline, err);
	struct network *network = rc == 0 ? network_find(self, network_id) : NULL;
	if (network && network_has_locals(self, network_id))
		rc = gantry_fail(err, GANTRY_E_DENIED, "network %s has active endpoints on this host", network->name);
	if (network) {
		memcpy(copy.id, network->id, sizeof copy.id);
		memcpy(copy.name, network->name, sizeof copy.name);
	}
	pthread_mutex_unlock(&self->lock);
	if (rc < 0 || !network)
		return rc;
	if (remove_record(self, &copy, deadline, &revision, err) < 0)
		return -1;
	pthread_mutex_lock(&self->lock);
	network = network_find(self, network_id);
	if (network && network->revision < revision) {
		links_remove(self, network);
		network_drop(self, network);
		tell_news(self, NULL);
	}
	if (revision > self->guard)
		self->guard = revision;
	pthread_mutex_unlock(&self->lock);
	return 0;
}

/* ---- what the engine asks for ---- */

int overlay_watch(void *driver, const struct gantry_call *call, int *fd, struct gantry_error *err)
{
	const struct overlay *self = driver;
	(void)call;
	if (!self->etcd)
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "etcd is not configured");
	*fd = fcntl(self->news, F_DUPFD_CLOEXEC, 0);
	return *fd < 0 ? gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "duplicate a descriptor") : 0;
}

int overlay_global_networks(void *driver, const struct gantry_call *call, gantry_visit_network visit, void *arg, struct gantry_error *err)
{
	struct overlay *self = driver;
	int rc = 0;
	(void)call;
	if (!self->etcd)
		return gantry_fail(err, GANTRY_E_UNAVAILABLE, "etcd is not configured");
	pthread_mutex_lock(&self->lock);
	if (!self->known)
		rc = gantry_fail(err, GANTRY_E_UNAVAILABLE, "etcd has not said yet what networks there are");
	for (const struct network *network = rc == 0 ? self->networks : NULL; network; network = network->next) {
		struct gantry_global_network told = { .size = sizeof told, .id = network->id, .document = network->document, .generation = network->generation };
		if (!network->gone && visit(arg, &told) != 0)
			break;
	}
	pthread_mutex_unlock(&self->lock);
	return rc;
}

struct telling {
	const struct overlay *self;
	gantry_visit_member visit;
	void *arg;
	bool stopped;
};

static void tell_member(struct member *member, void *arg)
{
	struct telling *telling = arg;
	char mac[18], ipv4[ADDRESS_TEXT + 8] = "", ipv6[ADDRESS_TEXT + 8] = "";
	if (telling->stopped || is_own(telling->self, member))
		return;
	mac_format(member->mac, mac);
	if (member->ipv4.family)
		snprintf(ipv4, sizeof ipv4, "%s/%u", member->ipv4.text, member->ipv4.prefix);
	if (member->ipv6.family)
		snprintf(ipv6, sizeof ipv6, "%s/%u", member->ipv6.text, member->ipv6.prefix);
	struct gantry_member told = { .size = sizeof told, .endpoint_id = member->id, .container_id = member->container_id, .host = member->host, .mac = mac,
				      .ipv4 = ipv4, .ipv6 = ipv6, .names = (const char *const *)member->names, .name_count = member->name_count };
	telling->stopped = telling->visit(telling->arg, &told) != 0;
}

int overlay_members(void *driver, const struct gantry_call *call, const char *network_id, gantry_visit_member visit, void *arg, struct gantry_error *err)
{
	struct overlay *self = driver;
	struct telling telling = { self, visit, arg, false };
	(void)call;
	(void)err;
	if (!self->etcd)
		return 0;
	pthread_mutex_lock(&self->lock);
	const struct network *network = network_find(self, network_id);
	if (network)
		each_member(network, tell_member, &telling);
	pthread_mutex_unlock(&self->lock);
	return 0;
}

struct peers {
	const struct member **items;
	size_t count;
};

static void note_member(struct member *member, void *arg)
{
	struct peers *peers = arg;
	peers->items[peers->count++] = member;
}

static int by_vtep(const void *a, const void *b)
{
	const struct address *left = &(*(const struct member *const *)a)->vtep, *right = &(*(const struct member *const *)b)->vtep;
	return left->family != right->family ? left->family - right->family : memcmp(left->bytes, right->bytes, sizeof left->bytes);
}

/* Hosts of members, each once. */
int overlay_peers(void *driver, const struct gantry_call *call, const char *network_id, gantry_visit_peer visit, void *arg, struct gantry_error *err)
{
	struct overlay *self = driver;
	struct peers peers = { 0 };
	int rc = 0;
	(void)call;
	if (!self->etcd)
		return 0;
	pthread_mutex_lock(&self->lock);
	const struct network *network = network_find(self, network_id);
	if (network && network->member_count) {
		peers.items = calloc(network->member_count, sizeof *peers.items);
		if (peers.items)
			each_member(network, note_member, &peers);
		else
			rc = gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	}
	if (peers.count)
		qsort(peers.items, peers.count, sizeof *peers.items, by_vtep);
	for (size_t i = 0; i < peers.count; i++) {
		if (i > 0 && by_vtep(&peers.items[i - 1], &peers.items[i]) == 0)
			continue;
		if (visit(arg, peers.items[i]->host, peers.items[i]->vtep.text) != 0)
			break;
	}
	pthread_mutex_unlock(&self->lock);
	free(peers.items);
	return rc;
}
