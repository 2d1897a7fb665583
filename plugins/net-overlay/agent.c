/*
 * agent.c - the two threads that speak to etcd without being asked.
 *
 * The keeper holds the host's lease, registers what is not registered (after the lease was lost, or where an op found etcd away), and removes what is left
 * over of this host's. The watcher reads everything once and then follows the changes; where it falls too far behind, it reads everything again. Both go on
 * for ever: while etcd is away, traffic goes on as it is, and within a second of its return they are back.
 */
#include "overlay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS 1000000000LL
#define RETRY_NS (SECOND_NS / 2)
#define STACK ((size_t)512 * 1024)
#define PAGE 40                         /* keys of one answer */
#define LEFTOVERS 32

/* ---- trouble ---- */

/* With the lock held. NULL: there is none. Each change is told once. */
static void set_trouble(struct overlay *self, const char *text)
{
	bool before = self->trouble[0];
	snprintf(self->trouble, sizeof self->trouble, "%s", text ? text : "");
	if (text && !before)
		log_line(self->host, GANTRY_WARN, "%s; running containers go on, new ones cannot join networks that span hosts until it is back", text);
	else if (!text && before)
		log_line(self->host, GANTRY_INFO, "etcd is there again");
	pthread_cond_broadcast(&self->changed);
}

/* ---- waiting ---- */

int64_t op_deadline(const struct overlay *self, const struct gantry_call *call)
{
	int64_t own = etcd_now() + self->settings.timeout_ns;
	return call->deadline_ns && call->deadline_ns < own ? call->deadline_ns : own;
}

void agent_kick(struct overlay *self)
{
	self->kicked = true;
	pthread_cond_signal(&self->kick);
}

/* -1: there is nothing to wait for any more. With the lock held, given up meanwhile. */
static int wait_on(struct overlay *self, const struct gantry_call *call, int64_t deadline, struct gantry_error *err)
{
	char why[sizeof self->trouble];
	int64_t now = etcd_now(), until = now + SECOND_NS / 4 < deadline ? now + SECOND_NS / 4 : deadline;
	struct timespec when = { .tv_sec = until / SECOND_NS, .tv_nsec = until % SECOND_NS };
	if (now >= deadline || self->stop || self->host->cancelled(self->host, call)) {
		etcd_why(self->etcd, why, sizeof why);
		return gantry_fail(err, GANTRY_E_UNAVAILABLE, "%s",
				   self->trouble[0] ? self->trouble : why[0] ? why : "etcd has not said yet what networks there are: try again");
	}
	pthread_cond_timedwait(&self->changed, &self->lock, &when);
	return 0;
}

int agent_await(struct overlay *self, const struct gantry_call *call, bool lease, int64_t deadline, struct gantry_error *err)
{
	while (!self->known || (lease && !self->lease)) {
		if (wait_on(self, call, deadline, err) < 0)
			return -1;
	}
	return 0;
}

int agent_await_key(struct overlay *self, const struct gantry_call *call, int64_t deadline, struct gantry_error *err)
{
	while (!self->lease || memcmp(self->told_key, self->tunnel.key, sizeof self->told_key) != 0) {
		if (wait_on(self, call, deadline, err) < 0)
			return -1;
	}
	return 0;
}

void agent_lease_lost(struct overlay *self, int64_t lease)
{
	if (self->lease == lease)
		self->lease = 0;
	agent_kick(self);
}

/* ---- the host's lease ---- */

static int find_vtep(struct overlay *self, struct gantry_error *err)
{
	struct address address;
	pthread_mutex_lock(&self->lock);
	bool found = self->vtep.family != 0;
	pthread_mutex_unlock(&self->lock);
	if (found)
		return 0;
	if (underlay_find(self->settings.underlay, &address, NULL, err) < 0)
		return -1;
	pthread_mutex_lock(&self->lock);
	self->vtep = address;
	pthread_mutex_unlock(&self->lock);
	return 0;
}

static int put_host(struct overlay *self, int64_t lease, bool only_if_absent, bool *done, struct etcd_pairs *found, struct gantry_error *err)
{
	struct etcd_txn txn;
	char key[KEY_ROOM];
	int64_t revision;
	unsigned char public_key[WIREGUARD_KEY_LEN];
	pthread_mutex_lock(&self->lock);
	memcpy(public_key, self->tunnel.key, sizeof public_key);
	pthread_mutex_unlock(&self->lock);
	char *text = host_to_text(self, public_key);
	key_host(self, key);
	etcd_txn_begin(&txn);
	if (only_if_absent)
		etcd_if_absent(&txn, key);
	if (text)
		etcd_put(&txn, false, key, text, lease);
	else
		txn.broken = true;
	etcd_get(&txn, true, key);
	free(text);
	if (etcd_commit(self->etcd, &txn, 0, done, &revision, found, err) < 0)
		return -1;
	if (*done) {
		pthread_mutex_lock(&self->lock);
		memcpy(self->told_key, public_key, sizeof self->told_key);
		pthread_cond_broadcast(&self->changed);
		pthread_mutex_unlock(&self->lock);
	}
	return 0;
}

/* Two engines with one address would take each other's traffic. */
static int register_host(struct overlay *self, int64_t lease, struct gantry_error *err)
{
	struct etcd_pairs found = { 0 };
	char instance[33] = "";
	struct host other = { .name = "?" };
	bool done = false;
	if (put_host(self, lease, true, &done, &found, err) < 0)
		return -1;
	if (!done && found.count)
		host_from_text(found.items[0].value, instance, &other);
	etcd_pairs_free(&found);
	if (done)
		return 0;
	if (instance[0] && strcmp(instance, self->instance) != 0)
		return gantry_fail(err, GANTRY_E_CONFLICT, "address %s is that of host %s in etcd already: set `underlay` in section [plugin.net-overlay]",
				   self->vtep.text, other.name);
	return put_host(self, lease, false, &done, NULL, err);
}

static int take_lease(struct overlay *self, struct gantry_error *err)
{
	int64_t lease;
	if (find_vtep(self, err) < 0 || etcd_grant(self->etcd, self->settings.lease_ttl, &lease, err) < 0)
		return -1;
	if (register_host(self, lease, err) < 0) {
		etcd_revoke(self->etcd, lease);
		return -1;
	}
	pthread_mutex_lock(&self->lock);
	self->lease = lease;
	for (struct local *local = self->locals; local; local = local->next)
		local->unregistered = !local->joining;
	pthread_cond_broadcast(&self->changed);
	pthread_mutex_unlock(&self->lock);
	return 0;
}

static int keep_lease(struct overlay *self, struct gantry_error *err)
{
	int64_t ttl = 0;
	pthread_mutex_lock(&self->lock);
	int64_t lease = self->lease;
	pthread_mutex_unlock(&self->lock);
	if (!lease)
		return take_lease(self, err);
	if (etcd_keepalive(self->etcd, lease, &ttl, err) < 0)
		return -1;
	if (ttl > 0)
		return 0;
	pthread_mutex_lock(&self->lock);
	agent_lease_lost(self, lease);
	pthread_mutex_unlock(&self->lock);
	return take_lease(self, err);
}

/* The host's record has the key that the tunnel has, or none. The keeper alone writes it, so that the last word is the right one. */
static int tell_key(struct overlay *self, struct gantry_error *err)
{
	bool done;
	pthread_mutex_lock(&self->lock);
	int64_t lease = self->lease;
	bool told = memcmp(self->told_key, self->tunnel.key, sizeof self->told_key) == 0;
	pthread_mutex_unlock(&self->lock);
	if (!lease || told || put_host(self, lease, false, &done, NULL, err) == 0)
		return 0;
	pthread_mutex_lock(&self->lock);
	if (err->kind == GANTRY_E_NOT_FOUND)
		agent_lease_lost(self, lease);
	pthread_mutex_unlock(&self->lock);
	return -1;
}

/* ---- what is not registered, and what is left over ---- */

static void complain(struct overlay *self, struct local *local, enum claimed how)
{
	const char *why = how == NO_NETWORK ? "the network was removed on another host" : "another host has given its address or MAC to another container";
	if (local->complained)
		return;
	local->complained = true;
	log_line(self->host, GANTRY_WARN, "container %.12s is not reached from other hosts any more: while this host was away, %s; start it anew",
		 local->member.container_id, why);
}

/* With the lock held. The record as it is in etcd now. */
static void note_registered(struct local *local, struct network *network, int64_t revision)
{
	struct member copy = local->member, *before = network ? member_find(network, local->member.id) : NULL;
	local->unregistered = local->complained = false;
	if (!network || (before && before->revision >= revision))
		return;
	if (before)
		member_drop(network, before);
	copy.names = NULL;
	copy.name_count = 0;
	copy.revision = revision;
	copy.seen = true;
	if (member_set_names(&copy, (const char *const *)local->member.names, local->member.name_count) == 0)
		member_insert(network, &copy);
}

/* 1: done, 0: none is left, -1 with err. *after: the last one that was dealt with. */
static int register_next(struct overlay *self, char after[ID_LEN + 1], struct gantry_error *err)
{
	struct claim claim;
	struct local *next = NULL;
	char network_id[ID_LEN + 1];
	enum claimed how;
	int64_t revision, lease;
	pthread_mutex_lock(&self->lock);
	for (struct local *local = self->locals; local; local = local->next) {
		if (local->unregistered && strcmp(local->member.id, after) > 0 && (!next || strcmp(local->member.id, next->member.id) < 0))
			next = local;
	}
	lease = self->lease;
	if (next) {
		snprintf(after, ID_LEN + 1, "%s", next->member.id);
		snprintf(network_id, sizeof network_id, "%s", next->network_id);
		next->member.vtep = self->vtep;
		next->unregistered = false; /* a change that comes meanwhile sets it again */
	}
	int rc = !next || !lease ? 0 : claim_make(self, network_id, &next->member, &claim) < 0 ? gantry_fail(err, GANTRY_E_INTERNAL, "out of memory") : 1;
	pthread_mutex_unlock(&self->lock);
	if (rc <= 0)
		return rc;
	rc = claim_put(self, &claim, lease, 0, &how, &revision, err);
	claim_free(&claim);
	pthread_mutex_lock(&self->lock);
	struct local *local = local_find(self, after);
	if (local && rc == 0 && how == CLAIMED) {
		bool again = local->unregistered;
		note_registered(local, network_find(self, network_id), revision);
		local->unregistered = again;
	} else if (local) {
		local->unregistered = true;
	}
	if (local && rc == 0 && how != CLAIMED)
		complain(self, local, how);
	if (rc < 0 && err->kind == GANTRY_E_NOT_FOUND)
		agent_lease_lost(self, lease);
	pthread_mutex_unlock(&self->lock);
	return rc < 0 ? -1 : 1;
}

struct leftovers {
	struct overlay *self;
	const struct network *network;
	struct claim claims[LEFTOVERS];
	size_t count;
};

static void note_leftover(struct member *member, void *arg)
{
	struct leftovers *left = arg;
	if (left->count < LEFTOVERS && is_own(left->self, member) && !local_find(left->self, member->id) &&
	    claim_make(left->self, left->network->id, member, &left->claims[left->count]) == 0)
		left->count++;
}

/* Records of ours whose endpoints are gone: an op could not tell, or the daemon died. The watch takes them out of the table. */
static int remove_leftovers(struct overlay *self, struct gantry_error *err)
{
	struct leftovers *left = calloc(1, sizeof *left);
	int rc = 0;
	if (!left)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	left->self = self;
	pthread_mutex_lock(&self->lock);
	for (left->network = self->networks; left->network && self->told && self->known; left->network = left->network->next)
		each_member(left->network, note_leftover, left);
	pthread_mutex_unlock(&self->lock);
	for (size_t i = 0; i < left->count; i++) {
		if (rc == 0)
			rc = claim_release(self, &left->claims[i], 0, err);
		claim_free(&left->claims[i]);
	}
	free(left);
	return rc;
}

/* ---- the keeper ---- */

static int tend(struct overlay *self, struct gantry_error *err)
{
	char after[ID_LEN + 1] = "";
	int more = 1;
	if (keep_lease(self, err) < 0 || tell_key(self, err) < 0)
		return -1;
	while (more > 0)
		more = register_next(self, after, err);
	return more < 0 ? -1 : remove_leftovers(self, err);
}

/* With the lock held. */
static void sleep_until_kicked(struct overlay *self, int64_t time_ns)
{
	int64_t until = etcd_now() + time_ns;
	struct timespec when = { .tv_sec = until / SECOND_NS, .tv_nsec = until % SECOND_NS };
	while (!self->kicked && !self->stop && pthread_cond_timedwait(&self->kick, &self->lock, &when) == 0)
		;
}

static void *keep(void *arg)
{
	struct overlay *self = arg;
	int64_t interval = self->settings.lease_ttl * SECOND_NS / 3;
	pthread_mutex_lock(&self->lock);
	while (!self->stop) {
		struct gantry_error err = { .size = sizeof err };
		unsigned turn = etcd_turn(self->etcd);
		self->kicked = false;
		pthread_mutex_unlock(&self->lock);
		int rc = tend(self, &err);
		/* What the watch hangs on may be as dead. */
		if (rc < 0 || etcd_turn(self->etcd) != turn)
			eventfd_write(self->wake, 1);
		pthread_mutex_lock(&self->lock);
		if (self->stop)
			break;
		set_trouble(self, rc < 0 ? err.message : NULL);
		if (rc < 0)
			self->kicked = false;
		sleep_until_kicked(self, rc < 0 ? RETRY_NS : interval);
	}
	pthread_mutex_unlock(&self->lock);
	return NULL;
}

/* ---- the watcher ---- */

/* All keys of P/live/, page by page, at one revision. */
static int read_all(struct overlay *self, bool anew, int64_t *revision, struct gantry_error *err)
{
	char prefix[KEY_ROOM], from[KEY_ROOM];
	struct etcd_pairs pairs = { 0 };
	/* Networks before their members: the walk is in the order of keys, in which they come last. */
	static const char *const PARTS[] = { "guard", "hosts/", "networks/", "endpoints/" };
	*revision = 0;
	pthread_mutex_lock(&self->lock);
	changes_begin(self, anew);
	pthread_mutex_unlock(&self->lock);
	for (size_t part = 0; part < sizeof PARTS / sizeof PARTS[0]; part++) {
		key_live(self, PARTS[part], prefix);
		snprintf(from, sizeof from, "%s", prefix);
		do {
			etcd_pairs_free(&pairs);
			if (etcd_range(self->etcd, prefix, from, PAGE, revision, &pairs, err) < 0)
				return -1;
			pthread_mutex_lock(&self->lock);
			for (size_t i = 0; i < pairs.count; i++)
				change_apply(self, &pairs.items[i]);
			pthread_mutex_unlock(&self->lock);
			if (pairs.count)
				snprintf(from, sizeof from, "%.*s!", KEY_ROOM - 2, pairs.items[pairs.count - 1].key);
		} while (pairs.more && pairs.count);
	}
	etcd_pairs_free(&pairs);
	pthread_mutex_lock(&self->lock);
	changes_end(self, *revision);
	pthread_mutex_unlock(&self->lock);
	return 0;
}

struct following {
	struct overlay *self;
	int64_t *revision;
};

static int take_news(void *arg, const struct etcd_news *news)
{
	struct following *following = arg;
	struct overlay *self = following->self;
	pthread_mutex_lock(&self->lock);
	for (size_t i = 0; i < news->pairs.count; i++)
		change_apply(self, &news->pairs.items[i]);
	bool stop = self->stop;
	pthread_mutex_unlock(&self->lock);
	/* What the line says of the store's revision may be ahead of what it tells. */
	for (size_t i = 0; i < news->pairs.count; i++) {
		if (news->pairs.items[i].revision > *following->revision)
			*following->revision = news->pairs.items[i].revision;
	}
	return stop;
}

/* A kick that came while nobody waited counts no more. */
static void drain(int fd)
{
	eventfd_t count;
	(void)eventfd_read(fd, &count);
}

static void rest(struct overlay *self)
{
	struct pollfd fd = { .fd = self->wake, .events = POLLIN };
	struct timespec pause = { .tv_nsec = RETRY_NS };
	pthread_mutex_lock(&self->lock);
	bool stop = self->stop;
	pthread_mutex_unlock(&self->lock);
	if (!stop)
		ppoll(&fd, 1, &pause, NULL);
}

static void *watch(void *arg)
{
	struct overlay *self = arg;
	char prefix[KEY_ROOM];
	int64_t revision = 0;
	bool read = false, anew = false;
	struct following following = { self, &revision };
	key_live(self, "", prefix);
	for (bool stop = false; !stop;) {
		struct gantry_error err = { .size = sizeof err };
		enum etcd_end end = ETCD_FAILED;
		if (!read)
			read = find_vtep(self, &err) == 0 && read_all(self, anew, &revision, &err) == 0;
		if (read) {
			drain(self->wake);
			anew = false;
			end = etcd_watch(self->etcd, prefix, revision, take_news, &following, self->wake, &err);
		}
		if (end == ETCD_COMPACTED || end == ETCD_ANOTHER) {
			read = false;
			anew = end == ETCD_ANOTHER;
		} else if (end == ETCD_FAILED) {
			rest(self);
		}
		pthread_mutex_lock(&self->lock);
		stop = self->stop;
		pthread_mutex_unlock(&self->lock);
	}
	return NULL;
}

/* ---- start, stop ---- */

int agent_start(struct overlay *self, struct gantry_error *err)
{
	pthread_attr_t attributes;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK);
	int rc = pthread_create(&self->keeper, &attributes, keep, self);
	if (rc == 0 && (rc = pthread_create(&self->watcher, &attributes, watch, self)) != 0) {
		pthread_mutex_lock(&self->lock);
		self->stop = true;
		agent_kick(self);
		pthread_mutex_unlock(&self->lock);
		pthread_join(self->keeper, NULL);
	}
	pthread_attr_destroy(&attributes);
	return rc ? gantry_fail_errno(err, GANTRY_E_INTERNAL, rc, "start a thread") : 0;
}

void agent_stop(struct overlay *self)
{
	pthread_mutex_lock(&self->lock);
	self->stop = true;
	agent_kick(self);
	pthread_cond_broadcast(&self->changed);
	pthread_mutex_unlock(&self->lock);
	etcd_stop(self->etcd);
	eventfd_write(self->wake, 1);
	pthread_join(self->keeper, NULL);
	pthread_join(self->watcher, NULL);
}
