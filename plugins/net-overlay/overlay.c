/*
 * overlay.c - the network driver "overlay": containers on different hosts share one network. State in etcd, traffic in VXLAN tunnels between the
 * hosts, within WireGuard where a network is encrypted.
 *
 * overlay.h tells which file does what. Without `etcd` in its section the driver is there and refuses networks; it holds then neither threads nor libcurl.
 */
#include "overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define PASSWORD_MAX 1024

/* ---- settings ---- */

static const char *text_of(const struct gantry_host *host, const char *key)
{
	const char *value = host->config(host, key);
	return value ? value : "";
}

static uint32_t number_of(const struct gantry_host *host, const char *key)
{
	return (uint32_t)strtoul(text_of(host, key), NULL, 10);
}

static int read_settings(struct overlay *self, struct gantry_error *err)
{
	const struct gantry_host *host = self->host;
	struct settings *settings = &self->settings;
	*settings = (struct settings){
		.prefix = text_of(host, "prefix"), .underlay = text_of(host, "underlay"), .port = number_of(host, "port"),
		.wireguard_port = number_of(host, "wireguard_port"), .mtu = number_of(host, "mtu"),
		.lease_ttl = number_of(host, "lease_ttl"), .timeout_ns = number_of(host, "timeout") * 1000000000LL,
		.ip_forward = strcmp(text_of(host, "ip_forward"), "true") == 0,
	};
	size_t len = strlen(settings->prefix);
	if (len == 0 || len > 128 || settings->prefix[len - 1] == '/' ||
	    settings->prefix[strspn(settings->prefix, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-/")])
		return gantry_fail(err, GANTRY_E_INVALID, "[plugin.net-overlay] prefix is \"%.128s\": use up to 128 of [A-Za-z0-9_.-/], no slash at the end",
				   settings->prefix);
	if (!settings->underlay[0])
		return gantry_fail(err, GANTRY_E_INVALID,
				   "[plugin.net-overlay] has etcd and no underlay: set underlay to the address that other hosts reach this one at, or to its "
				   "interface");
	if (settings->mtu && settings->mtu < 68)
		return gantry_fail(err, GANTRY_E_INVALID, "[plugin.net-overlay] mtu is %u; allowed are 0 and 68 to 65535", settings->mtu);
	return 0;
}

/* The first line of password_file. */
static int read_password(const struct gantry_host *host, char password[PASSWORD_MAX], struct gantry_error *err)
{
	const char *path = text_of(host, "password_file");
	struct stat st;
	password[0] = '\0';
	if (!path[0])
		return 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) < 0) {
		int saved = errno;
		if (fd >= 0)
			close(fd);
		return gantry_fail_errno(err, GANTRY_E_INVALID, saved, "[plugin.net-overlay] password_file: open %s", path);
	}
	ssize_t got = st.st_mode & S_IRWXO ? -1 : read(fd, password, PASSWORD_MAX - 1);
	close(fd);
	if (st.st_mode & S_IRWXO)
		return gantry_fail(err, GANTRY_E_DENIED, "[plugin.net-overlay] password_file: everybody can get at %s (chmod o-rwx)", path);
	if (got <= 0)
		return gantry_fail(err, GANTRY_E_INVALID, "[plugin.net-overlay] password_file: %s is empty", path);
	password[got] = '\0';
	password[strcspn(password, "\r\n")] = '\0';
	return 0;
}

/* Random, and the same as long as the state directory lives. */
static int read_instance(struct overlay *self, struct gantry_error *err)
{
	unsigned char bytes[16];
	int64_t len = self->host->state_get(self->host, "instance", self->instance, sizeof self->instance - 1, err);
	if (len == 32 && strspn(self->instance, "0123456789abcdef") == 32)
		return 0;
	if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "get random bytes");
	for (size_t i = 0; i < sizeof bytes; i++)
		snprintf(self->instance + 2 * i, 3, "%02x", bytes[i]);
	return self->host->state_put(self->host, "instance", self->instance, 32, err);
}

/* Of what a record may hold. */
static void read_hostname(struct overlay *self)
{
	if (gethostname(self->hostname, sizeof self->hostname - 1) < 0 || !self->hostname[0])
		snprintf(self->hostname, sizeof self->hostname, "?");
	for (char *c = self->hostname; *c; c++) {
		if (*c <= ' ' || *c > '~' || *c == '"' || *c == '\\')
			*c = '-';
	}
}

/* ---- open, close ---- */

static void make_conditions(struct overlay *self)
{
	pthread_condattr_t attributes;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_mutex_init(&self->lock, NULL);
	pthread_cond_init(&self->changed, &attributes);
	pthread_cond_init(&self->kick, &attributes);
	pthread_condattr_destroy(&attributes);
}

static int open_etcd(struct overlay *self, struct gantry_error *err)
{
	const struct gantry_host *host = self->host;
	char password[PASSWORD_MAX];
	if (read_password(host, password, err) < 0)
		return -1;
	struct etcd_settings settings = { .endpoints = text_of(host, "etcd"), .ca = text_of(host, "ca"), .cert = text_of(host, "cert"),
					  .key = text_of(host, "key"), .user = text_of(host, "user"), .password = password,
					  .timeout_ns = self->settings.timeout_ns };
	int rc = etcd_open(&settings, &self->etcd, err);
	explicit_bzero(password, sizeof password);
	return rc;
}

static void release_all(struct overlay *self)
{
	etcd_close(self->etcd);
	publishing_close(&self->publishing);
	nat_close(self);
	table_free(self);
	hosts_free(self);
	if (self->news >= 0)
		close(self->news);
	if (self->wake >= 0)
		close(self->wake);
	pthread_mutex_destroy(&self->lock);
	pthread_cond_destroy(&self->changed);
	pthread_cond_destroy(&self->kick);
	free(self);
}

static int start(struct overlay *self, struct gantry_error *err)
{
	if (read_settings(self, err) < 0 || read_instance(self, err) < 0)
		return -1;
	read_hostname(self);
	self->news = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	self->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (self->news < 0 || self->wake < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "make an eventfd");
	tunnel_adopt(self);
	if (ports_open(self, err) < 0 || open_etcd(self, err) < 0 || later_open(&self->later, self->host, veth_look, err) < 0)
		return -1;
	if (agent_start(self, err) == 0)
		return 0;
	later_close(&self->later);
	return -1;
}

static int overlay_open(const struct gantry_host *host, const char *driver_name, void **driver, struct gantry_error *err)
{
	(void)driver_name;
	if (host->abi_minor < 1)
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "this driver needs an engine with ABI 1.1 or newer, and this one has 1.%u", host->abi_minor);
	struct overlay *self = calloc(1, sizeof *self);
	if (!self)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	self->host = host;
	self->news = self->wake = -1;
	make_conditions(self);
	if (text_of(host, "etcd")[0] && start(self, err) < 0) {
		release_all(self);
		return -1;
	}
	*driver = self;
	return 0;
}

static void overlay_close(void *driver)
{
	struct overlay *self = driver;
	if (self->etcd) {
		agent_stop(self);
		later_close(&self->later);
	}
	release_all(self);
}

/* ---- descriptor ---- */

static const struct gantry_network_ops ops = {
	.size = sizeof(struct gantry_network_ops),
	.open = overlay_open,
	.close = overlay_close,
	.network_create = overlay_network_create,
	.network_remove = overlay_network_remove,
	.endpoint_join = overlay_join,
	.endpoint_leave = overlay_leave,
	.publish = overlay_publish,
	.unpublish = overlay_unpublish,
	.reconcile = overlay_reconcile,
	.watch = overlay_watch,
	.global_networks = overlay_global_networks,
	.members = overlay_members,
	.endpoint_rename = overlay_rename,
	.peers = overlay_peers,
};

#define KEY(type_, name_, default_, doc_, ...) \
	{ .size = sizeof(struct gantry_key), .type = (type_), .name = (name_), .default_value = (default_), .doc = (doc_), __VA_ARGS__ }

static const struct gantry_key keys[] = {
	KEY(GANTRY_KEY_STRING, "etcd", NULL, "etcd's client URLs, separated by commas: http://HOST:2379; without it there are no networks that span hosts"),
	KEY(GANTRY_KEY_STRING, "prefix", "gantry/overlay", "of all keys in etcd; hosts with another one do not see each other"),
	KEY(GANTRY_KEY_PATH, "ca", NULL, "certificates that vouch for etcd's (https)"),
	KEY(GANTRY_KEY_PATH, "cert", NULL, "this host's certificate for etcd"),
	KEY(GANTRY_KEY_PATH, "key", NULL, "its key"),
	KEY(GANTRY_KEY_STRING, "user", NULL, "a user of etcd's"),
	KEY(GANTRY_KEY_PATH, "password_file", NULL, "the user's password; not readable by everybody"),
	KEY(GANTRY_KEY_STRING, "underlay", NULL, "the address that other hosts reach this one at, or the interface that has it"),
	KEY(GANTRY_KEY_INT, "port", "4789", "UDP port of the tunnels; the same on all hosts", .min = 1, .max = 65535),
	KEY(GANTRY_KEY_INT, "wireguard_port", "51871", "UDP port of encrypted networks' traffic; the same on all hosts", .min = 1, .max = 65535),
	KEY(GANTRY_KEY_INT, "mtu", "0",
	    "MTU of networks whose options name none; 0: the underlay's, less 50 (70 where that is IPv6). Encrypted ones have 80 less",
	    .max = 65535),
	KEY(GANTRY_KEY_INT, "lease_ttl", "30", "seconds after which a host that is not heard of is gone", .min = 3, .max = 3600),
	KEY(GANTRY_KEY_INT, "timeout", "5", "seconds after which a change is given up where etcd does not answer", .min = 1, .max = 25),
	KEY(GANTRY_KEY_INT, "relay_connections", "1024",
	    "connections at a time from IPv6 to published ports of containers without it; 0: these are published on IPv4 alone", .max = 65536),
	KEY(GANTRY_KEY_BOOL, "ip_forward", "yes", "set the kernel's net.ipv4.ip_forward, and net.ipv6.conf.all.forwarding for networks with IPv6"),
};

static const struct gantry_driver drivers[] = {
	{ .size = sizeof(struct gantry_driver), .kind = GANTRY_NETWORK, .name = "overlay",
	  .capabilities = GANTRY_NET_GLOBAL | GANTRY_NET_OWN_IPAM | GANTRY_NET_INTERNAL | GANTRY_NET_PUBLISH | GANTRY_NET_RELAY, .ops = &ops },
};

GANTRY_PLUGIN_EXPORT = {
	.size = sizeof(struct gantry_plugin),
	.abi_major = GANTRY_ABI_MAJOR,
	.abi_minor = GANTRY_ABI_MINOR,
	.name = "net-overlay",
	.version = GANTRY_VERSION,
	.description = "networks that span hosts: VXLAN, WireGuard for those that are encrypted, and etcd for who is where",
	.keys = keys,
	.key_count = sizeof keys / sizeof keys[0],
	.key_size = sizeof keys[0],
	.drivers = drivers,
	.driver_count = 1,
	.driver_size = sizeof drivers[0],
};
