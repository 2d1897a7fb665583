/*
 * gantry/plugin.h - the gantry driver ABI, version 1.
 *
 * A driver is a shared object that exports one symbol, `gantry_plugin_v1`: a struct
 * gantry_plugin that names the plugin, declares its INI keys, and lists one or more drivers,
 * each of one kind (network, volume, storage) with a table of operations.
 *
 * Rules that hold for everything below
 * - Versions. The major version is part of the symbol's name; minor versions only append members to
 *   the end of structs. Every struct that crosses the border begins with `size`, set by
 *   its maker to sizeof of the struct as the maker knows it; a reader never looks past that. An op
 *   beyond a table's `size`, or NULL, is one the driver does not have. So a driver and an engine of different minors work together: of the newer one, what
 *   the older does not know is left alone. A driver that cannot do without something says so in open(), where host->abi_minor tells what it has to do with.
 * - Plain data. Arguments are integers, NUL-terminated UTF-8 strings, arrays with counts, and
 *   explicit file descriptors, so that every op can be carried to another process.
 * - Ownership. What the engine passes in belongs to the engine and is valid during the call: copy
 *   what you keep. Output structs are the engine's memory: fill them. File descriptors passed in stay the
 *   engine's; dup() what you keep.
 * - Threads. The engine calls ops of one driver from several threads at once. It never runs two ops on the same
 *   object (volume name, layer id, endpoint id) at the same time.
 * - Blocking. An op may block, but must return soon after `call->deadline_ns` or once
 *   host->cancelled(call) is true.
 * - Idempotence. create, remove, join, leave, publish and their kin may be repeated with the same arguments, as the
 *   engine retries after a crash: doing what is done already is success; removing what is absent is success.
 * - Errors. An op returns 0, or -1 with `err` filled by gantry_fail(). A driver never logs and fails
 *   the same thing, never exits, never changes process-wide state (umask, cwd, signal handlers, locale, environment).
 * - Reload. The engine may close() a driver and open() the one in its place, of a newer file or with other settings, while containers use what the first
 *   has made. So close() takes nothing from them: networks, mounts and layers stay as they are. It leaves no thread, timer, exit handler or thread's
 *   destructor behind, as the code is unmapped after it. The next one finds what it needs in state_dir, run_dir and the kernel, and is told the rest: networks by
 *   network_create() with GANTRY_NETWORK_KNOWN, endpoints and ports by reconcile(), mounts by the volume driver's reconcile().
 * - Host symbols. A driver calls nothing of the engine but the host table.
 */
#ifndef GANTRY_PLUGIN_H
#define GANTRY_PLUGIN_H

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GANTRY_ABI_MAJOR 1
#define GANTRY_ABI_MINOR 2
#define GANTRY_PLUGIN_SYMBOL "gantry_plugin_v1"

/* ---- errors ------------------------------------------------------------------------- */

enum gantry_error_kind {
	GANTRY_E_INVALID = 1,           /* the user's options are wrong */
	GANTRY_E_NOT_FOUND = 2,
	GANTRY_E_CONFLICT = 3,          /* in use, exists with other options, port taken */
	GANTRY_E_DENIED = 4,
	GANTRY_E_UNSUPPORTED = 5,       /* this driver, or this kernel, cannot do it */
	GANTRY_E_UNAVAILABLE = 6,       /* try again later */
	GANTRY_E_TIMEOUT = 7,
	GANTRY_E_INTERNAL = 8
};

struct gantry_error {
	uint32_t size;
	int32_t kind;                   /* enum gantry_error_kind */
	int32_t errnum;                 /* an errno value, or 0 */
	uint32_t reserved;
	char message[512];              /* one sentence for a person: what, why, remedy */
};

/* Fills err and returns -1. err->errnum becomes 0. */
__attribute__((format(printf, 3, 4), unused)) static inline int gantry_fail(struct gantry_error *err, int kind,
									     const char *fmt, ...)
{
	va_list ap;
	err->kind = kind;
	err->errnum = 0;
	va_start(ap, fmt);
	vsnprintf(err->message, sizeof err->message, fmt, ap);
	va_end(ap);
	return -1;
}

/* The same with ": " and errnum's text (strerror) at the end, and err->errnum set. */
__attribute__((format(printf, 4, 5), unused)) static inline int gantry_fail_errno(struct gantry_error *err, int kind, int errnum,
										   const char *fmt, ...)
{
	va_list ap;
	int len;
	err->kind = kind;
	err->errnum = errnum;
	va_start(ap, fmt);
	len = vsnprintf(err->message, sizeof err->message, fmt, ap);
	va_end(ap);
	errno = errnum;
	if (len >= 0 && (size_t)len < sizeof err->message)
		snprintf(err->message + len, sizeof err->message - (size_t)len, ": %m");
	return -1;
}

/* ---- what the engine offers ------------------------------------------------------------ */

enum gantry_log_level { GANTRY_DEBUG = 0, GANTRY_INFO = 1, GANTRY_WARN = 2, GANTRY_ERROR = 3 };

/* The call in progress; made by the engine, one for each op. */
struct gantry_call {
	uint32_t size;
	uint32_t reserved;
	int64_t deadline_ns;            /* CLOCK_MONOTONIC; 0: none */
	uint64_t id;                    /* for log lines */
};

/* The host table. Its functions are thread safe and do not block, except where noted. `host` is valid until
 * close() returns. */
struct gantry_host {
	uint32_t size;
	uint16_t abi_major, abi_minor;
	const char *engine_version;
	/* Absolute directories of this driver alone, made by the engine, mode 0700: `state_dir`
	 * (<root>/networks/NAME, <root>/volumes/NAME or <root>/storage/NAME by the driver's kind) survives
	 * a reboot, `run_dir` (<run>/plugins/KIND-NAME) does not. What is in them is the driver's, except for the name
	 * ".state", where state_put() writes. */
	const char *state_dir;
	const char *run_dir;

	/* One log line, marked with the driver's name. */
	void (*log)(const struct gantry_host *host, int level, const char *message);
	/* The value of a declared INI key (its default where the file has none); NULL for an undeclared key, or one that
	 * has neither value nor default. Valid as long as host. */
	const char *(*config)(const struct gantry_host *host, const char *key);
	/* True once the op should give up (deadline passed, client gone, daemon stopping): undo, and fail with GANTRY_E_TIMEOUT. */
	int (*cancelled)(const struct gantry_host *host, const struct gantry_call *call);
	/* Tells users of something that happened to an object of the driver's ("link down"). */
	void (*event)(const struct gantry_host *host, const char *object, const char *action, const char *detail);
	/* Replaces / reads / removes a small document (at most 64 KiB) below state_dir, crash-safe: a reader sees the
	 * old or the new one whole. May block on the disk. `name` obeys [A-Za-z0-9_-][A-Za-z0-9._-]{0,199}. state_get
	 * writes at most `room` bytes and returns the whole document's length, which may be more; or -1, with
	 * GANTRY_E_NOT_FOUND where there is none. Removing what is absent is success. */
	int (*state_put)(const struct gantry_host *host, const char *name, const void *bytes, size_t len,
			 struct gantry_error *err);
	int64_t (*state_get)(const struct gantry_host *host, const char *name, void *bytes, size_t room,
			     struct gantry_error *err);
	int (*state_remove)(const struct gantry_host *host, const char *name, struct gantry_error *err);
	/* Runs fn(arg) in a fresh thread that has entered the network namespace behind netns_fd; returns what fn
	 * returns (err untouched), or -1 with err where the thread or the namespace cannot be had. Blocks until fn
	 * returns. */
	int (*in_netns)(const struct gantry_host *host, int netns_fd, int (*fn)(void *arg), void *arg,
			struct gantry_error *err);
	void *engine;                   /* the engine's own */
};

/* ---- the descriptor --------------------------------------------------------------------- */

enum gantry_key_type {
	GANTRY_KEY_STRING = 1,
	GANTRY_KEY_BOOL = 2,            /* yes/no, true/false, on/off, 1/0; config() gives "true" or "false" */
	GANTRY_KEY_INT = 3,             /* within min..max */
	GANTRY_KEY_SIZE = 4,            /* bytes, with k/m/g/t suffixes; config() gives plain bytes */
	GANTRY_KEY_CHOICE = 5,          /* one of `choices` */
	GANTRY_KEY_PATH = 6             /* an absolute path */
};

/* One INI key of section [plugin.<name>]. The engine checks the file against this and reports what is wrong
 * with file and line, before open() is called. Names obey [a-z][a-z0-9_-]{0,63}; "enabled", "path" and
 * "isolate" are the engine's own. */
struct gantry_key {
	uint32_t size;
	int32_t type;                   /* enum gantry_key_type */
	const char *name;
	const char *default_value;      /* checked as a user's value is; NULL: none */
	int64_t min, max;               /* GANTRY_KEY_INT and _SIZE; both 0: any */
	const char *const *choices;     /* GANTRY_KEY_CHOICE; ends with NULL */
	const char *doc;                /* one line */
};

enum gantry_kind { GANTRY_NETWORK = 1, GANTRY_VOLUME = 2, GANTRY_STORAGE = 3 };

/* One driver of a plugin. */
struct gantry_driver {
	uint32_t size;
	int32_t kind;                   /* enum gantry_kind */
	const char *name;               /* what users write: "bridge", "local"; [a-z0-9][a-z0-9-]{0,31} */
	uint64_t capabilities;          /* GANTRY_NET_*, GANTRY_VOL_*, GANTRY_STORAGE_* */
	const void *ops;                /* struct gantry_{network,volume,storage}_ops */
};

struct gantry_plugin {
	uint32_t size;
	uint16_t abi_major, abi_minor;  /* what the plugin was compiled against */
	const char *name;               /* the INI section is [plugin.<name>], the file <name>.so; [a-z0-9][a-z0-9-]{0,31} */
	const char *version;
	const char *description;        /* one line */
	const struct gantry_key *keys;
	size_t key_count;
	size_t key_size;                /* sizeof(struct gantry_key), for stepping through `keys` */
	const struct gantry_driver *drivers;
	size_t driver_count;
	size_t driver_size;             /* sizeof(struct gantry_driver) */
};

/* Defines the exported symbol: GANTRY_PLUGIN_EXPORT = { .size = sizeof(struct gantry_plugin), ... }; */
extern __attribute__((visibility("default"))) const struct gantry_plugin gantry_plugin_v1;
#define GANTRY_PLUGIN_EXPORT const struct gantry_plugin gantry_plugin_v1

/* ---- data that several kinds share -------------------------------------------------------- */

/* A user's option (`-o key=value`, `--opt`), or a label. */
struct gantry_option {
	const char *key;
	const char *value;
};

/* A list of options; looked up with gantry_option(). */
struct gantry_options {
	uint32_t size;
	uint32_t count;
	const struct gantry_option *items;
};

__attribute__((unused)) static inline const char *gantry_option(const struct gantry_options *options, const char *key)
{
	for (uint32_t i = 0; options && i < options->count; i++) {
		const char *a = options->items[i].key, *b = key;
		while (*a && *a == *b)
			a++, b++;
		if (*a == *b)
			return options->items[i].value;
	}
	return NULL;
}

#define GANTRY_PATH_MAX 4096
#define GANTRY_MOUNT_OPTIONS_MAX 65536

/* A mount, described and not performed: the container's own process mounts it inside its mount namespace.
 * type "bind": source is a directory or file; any other type: a file system with `source` as its source.
 * options are comma-separated as in mount(8); a comma inside a value is written "\,". Those of mounts ("ro", "nosuid", "noatime") are of the container's
 * mount alone, never of the file system, which others may have mounted otherwise; the rest is for the file system. For "overlay", a
 * lowerdir list of any length is passed on layer by layer. A source that is a block device is opened by the engine: no container needs the right to. */
struct gantry_mount {
	uint32_t size;
	uint32_t flags;                 /* GANTRY_MOUNT_* */
	char type[64];
	char source[GANTRY_PATH_MAX];
	char options[GANTRY_MOUNT_OPTIONS_MAX];
};
#define GANTRY_MOUNT_IDMAP 1u           /* out: can be id-mapped (user namespaces); of an overlay, its layers can */

/* Receives list entries; `name` is valid during the call. Return non-zero to stop. */
typedef int (*gantry_visit)(void *arg, const char *name);

/* ---- network drivers ------------------------------------------------------------------------- */

#define GANTRY_NET_PUBLISH   (1ull << 0)        /* has publish/unpublish */
#define GANTRY_NET_GLOBAL    (1ull << 1)        /* networks span hosts */
#define GANTRY_NET_OWN_IPAM  (1ull << 2)        /* picks addresses itself; else the engine gives them */
#define GANTRY_NET_HOST_NS   (1ull << 3)        /* containers use the host's network namespace: no endpoint */
#define GANTRY_NET_NONE      (1ull << 4)        /* a namespace with loopback alone */
#define GANTRY_NET_INTERNAL  (1ull << 5)        /* understands internal networks */
#define GANTRY_NET_RELAY     (1ull << 6)        /* since 1.2: publishes on IPv6 addresses of the host too where the container has IPv4 alone. publish() may answer
						 * GANTRY_E_UNSUPPORTED all the same; where nobody named the address, the engine does without */

#define GANTRY_ADDR_MAX 64      /* "fd00:....:1/64" */
#define GANTRY_IFNAME_MAX 16

struct gantry_subnet {
	uint32_t size;
	uint32_t family;                /* 4 or 6 */
	char subnet[GANTRY_ADDR_MAX];   /* CIDR */
	char gateway[GANTRY_ADDR_MAX];  /* address without prefix; empty: none */
	/* since 1.1 */
	char range[GANTRY_ADDR_MAX];    /* CIDR: where containers' addresses are to be from; empty: the whole subnet */
};

struct gantry_network {
	uint32_t size;
	uint32_t flags;                 /* GANTRY_NETWORK_* */
	const char *id;                 /* 64 hex digits */
	const char *name;
	const struct gantry_subnet *subnets;
	size_t subnet_count;
	size_t subnet_size;
	struct gantry_options options;  /* driver options, e.g. com.docker.network.bridge.name */
	/* since 1.1 */
	const char *const *reserved;    /* addresses that no container gets unless it asks for them */
	size_t reserved_count;
	const char *document;           /* GANTRY_NET_GLOBAL: the engine's own description of the network, which the driver hands to the
					 * engines of other hosts as it is (global_networks); at most GANTRY_DOCUMENT_MAX bytes. Else NULL */
};
#define GANTRY_DOCUMENT_MAX 65536
#define GANTRY_NETWORK_INTERNAL 1u      /* no way out of the host */
#define GANTRY_NETWORK_IPV6     2u
#define GANTRY_NETWORK_DEFAULT  4u      /* the engine's own default network */
#define GANTRY_NETWORK_KNOWN    8u      /* since 1.1: not a new one. The engine has it from before its start, or from global_networks():
					 * nothing is to be made on other hosts */

struct gantry_endpoint {
	uint32_t size;
	uint32_t flags;
	const char *id;                 /* 64 hex digits */
	const char *network_id;
	const char *container_id;
	const char *ifname;             /* wanted name inside the container, e.g. "eth0" */
	char mac[18];                   /* "02:42:ac:11:00:02"; in: given or empty; out: in force */
	char ipv4[GANTRY_ADDR_MAX];     /* CIDR, or empty; in from the engine's IPAM, out from the driver's own */
	char ipv6[GANTRY_ADDR_MAX];
	char gateway4[GANTRY_ADDR_MAX]; /* in: the engine's idea; out: where a default route would go; empty: nowhere */
	char gateway6[GANTRY_ADDR_MAX];
	char host_ifname[GANTRY_IFNAME_MAX];    /* out: for people and counters */
	uint32_t mtu;                   /* out, 0: unknown */
	uint32_t default_route;         /* in: this endpoint carries the container's default route; join is repeated to
					 * give it to, or take it from, a joined one */
	struct gantry_options options;  /* endpoint driver options */
	/* since 1.1 */
	const char *const *names;       /* in: under which the others of the network know the container; the first is the one that addresses
					 * are shown with */
	size_t name_count;
};

/* A network that spans hosts, wherever it was made; since 1.1. */
struct gantry_global_network {
	uint32_t size;
	uint32_t reserved;
	const char *id;                 /* 64 hex digits */
	const char *document;           /* as the engine that made it gave it to network_create() */
	uint64_t generation;            /* another one whenever members() has other things to tell */
};

/* A container of another host in such a network; since 1.1. */
struct gantry_member {
	uint32_t size;
	uint32_t reserved;
	const char *endpoint_id, *container_id;         /* 64 hex digits each */
	const char *host;               /* for people */
	const char *mac, *ipv4, *ipv6;  /* addresses as CIDR; empty: none */
	const char *const *names;
	size_t name_count;
};

/* What they point to is valid during the call. Return non-zero to stop. */
typedef int (*gantry_visit_network)(void *arg, const struct gantry_global_network *network);
typedef int (*gantry_visit_member)(void *arg, const struct gantry_member *member);
/* Since 1.2: a host's name, for people, and the address that the others reach it at. */
typedef int (*gantry_visit_peer)(void *arg, const char *name, const char *address);

/* A published port. The engine has expanded ranges and picked ephemeral ports (and re-picks on
 * GANTRY_E_CONFLICT where the user named none). */
struct gantry_port {
	uint32_t size;
	uint32_t proto;                 /* IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP */
	char host_ip[GANTRY_ADDR_MAX];  /* "0.0.0.0", "::", or one address */
	uint16_t host_port;
	uint16_t container_port;
	uint32_t reserved;
};

struct gantry_network_ops {
	uint32_t size;
	uint32_t reserved;
	/* Once, before any other op; checks the host (kernel features). *driver is the context of all further
	 * calls. close: once, after the last. */
	int (*open)(const struct gantry_host *host, const char *driver_name, void **driver, struct gantry_error *err);
	void (*close)(void *driver);

	int (*network_create)(void *driver, const struct gantry_call *call, const struct gantry_network *network,
			      struct gantry_error *err);
	/* The engine has removed every endpoint before. */
	int (*network_remove)(void *driver, const struct gantry_call *call, const char *network_id,
			      struct gantry_error *err);

	/* Plumbs the endpoint into the namespace behind netns_fd: link, MAC, addresses, routes, all up. One op for
	 * create and join, as it stands on the start path. Runs while the container's mounts are prepared. */
	int (*endpoint_join)(void *driver, const struct gantry_call *call, struct gantry_endpoint *endpoint,
			     int netns_fd, struct gantry_error *err);
	/* netns_fd is -1 where the namespace is gone already. */
	int (*endpoint_leave)(void *driver, const struct gantry_call *call, const char *network_id,
			      const char *endpoint_id, int netns_fd, struct gantry_error *err);

	/* All published ports of an endpoint, at once or not at all. The driver holds each port so that
	 * a second bind on the host fails (GANTRY_E_CONFLICT names the port). */
	int (*publish)(void *driver, const struct gantry_call *call, const struct gantry_endpoint *endpoint,
		       const struct gantry_port *ports, size_t port_count, size_t port_size, struct gantry_error *err);
	int (*unpublish)(void *driver, const struct gantry_call *call, const char *network_id, const char *endpoint_id,
			 struct gantry_error *err);

	/* At start of the engine, after network_create was called for every known network, and when the engine
	 * suspects damage: `endpoints` and their ports are all there should be. Remove any other kernel object of
	 * this driver's; restore what is missing of these (firewall entries; a live link is never touched). ports[i]
	 * belongs to the endpoint port_owner[i]. */
	int (*reconcile)(void *driver, const struct gantry_call *call, const struct gantry_endpoint *endpoints,
			 size_t endpoint_count, size_t endpoint_size, const struct gantry_port *ports,
			 const uint32_t *port_owner, size_t port_count, size_t port_size, struct gantry_error *err);

	/* Since 1.1, for GANTRY_NET_GLOBAL; a driver without them has its networks on each host by hand. None waits for other hosts: they tell what
	 * the driver has heard.
	 *
	 * After open(): *fd becomes readable when global_networks() or members() have news. It is non-blocking, eight bytes read at once make it
	 * wait again (eventfd(2)), and it is the engine's to close; the driver keeps a duplicate. GANTRY_E_UNSUPPORTED: there never will be news
	 * (nothing is configured). */
	int (*watch)(void *driver, const struct gantry_call *call, int *fd, struct gantry_error *err);
	/* All networks there are, those of this host too. A network that the engine has and that is not told was removed on another host.
	 * GANTRY_E_UNAVAILABLE as long as the driver cannot know. */
	int (*global_networks)(void *driver, const struct gantry_call *call, gantry_visit_network visit, void *arg, struct gantry_error *err);
	/* The endpoints that other hosts have in a network. An unknown network has none. */
	int (*members)(void *driver, const struct gantry_call *call, const char *network_id, gantry_visit_member visit, void *arg,
		       struct gantry_error *err);
	/* A joined endpoint has other names now. */
	int (*endpoint_rename)(void *driver, const struct gantry_call *call, const char *network_id, const char *endpoint_id,
			       const char *const *names, size_t name_count, struct gantry_error *err);

	/* Since 1.2, for GANTRY_NET_GLOBAL: the hosts that have endpoints in a network, this one among them where it does. As members(). */
	int (*peers)(void *driver, const struct gantry_call *call, const char *network_id, gantry_visit_peer visit, void *arg,
		     struct gantry_error *err);
};

/* ---- volume drivers --------------------------------------------------------------------------- */

#define GANTRY_VOL_GLOBAL (1ull << 0)           /* volumes are seen from several hosts */
#define GANTRY_VOL_USAGE  (1ull << 1)           /* has usage() */
/* Since 1.2: stands for drivers whose names are known at run time alone (servers that come and go). The engine opens it under its own name for
 * family() only. Where a user names a volume driver that no plugin lists, the engine calls open() with that name, of [a-zA-Z0-9][a-zA-Z0-9_-]{0,63}:
 * success makes it a driver with a host table, state_dir and run_dir of its own, until the engine ends; GANTRY_E_NOT_FOUND: there is none of
 * that name. It must be found as long as its state_dir tells of volumes, even where what serves it is away. */
#define GANTRY_VOL_FAMILY (1ull << 2)

struct gantry_volume_info {
	uint32_t size;
	uint32_t flags;                 /* out: GANTRY_VOLUME_*; zero before 1.2 */
	int64_t created_ns;             /* CLOCK_REALTIME; 0: unknown */
	char mountpoint[GANTRY_PATH_MAX];       /* for people; empty where there is none on the host */
	/* since 1.2 */
	char status[8192];              /* for people: a JSON object of what the driver has to tell; empty: nothing */
};
#define GANTRY_VOLUME_GLOBAL 1u         /* this one is seen from several hosts, whatever the driver's capabilities say */

/* A volume that a container has mounted; since 1.2. */
struct gantry_volume_use {
	uint32_t size;
	uint32_t reserved;
	const char *name;
	const char *container_id;
};

struct gantry_usage {
	uint32_t size;
	uint32_t reserved;
	int64_t bytes;                  /* -1: unknown */
	int64_t inodes;                 /* the same */
};

/* Volumes' names obey [a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}. */
struct gantry_volume_ops {
	uint32_t size;
	uint32_t reserved;
	int (*open)(const struct gantry_host *host, const char *driver_name, void **driver, struct gantry_error *err);
	void (*close)(void *driver);
	/* An existing volume with the same options is success; with others GANTRY_E_CONFLICT. Unknown options
	 * are refused by name. */
	int (*create)(void *driver, const struct gantry_call *call, const char *name, const struct gantry_options *options,
		      struct gantry_error *err);
	int (*remove)(void *driver, const struct gantry_call *call, const char *name, struct gantry_error *err);
	/* Describes the mount for a container, or for work on the files of one that does not run (container_id is then its id and a
	 * suffix). read_only: for a driver whose mounts differ then; the engine makes the container's mount read-only in any case. Each mount() is paired with one release(), but of several mounts of a volume for one container_id the first release() ends all;
	 * after a crash the engine may call release() without mount(). */
	int (*mount)(void *driver, const struct gantry_call *call, const char *name, const char *container_id, int read_only,
		     struct gantry_mount *mount, struct gantry_error *err);
	int (*release)(void *driver, const struct gantry_call *call, const char *name, const char *container_id,
		       struct gantry_error *err);
	int (*list)(void *driver, const struct gantry_call *call, gantry_visit visit, void *arg, struct gantry_error *err);
	int (*inspect)(void *driver, const struct gantry_call *call, const char *name, struct gantry_volume_info *info,
		       struct gantry_error *err);
	int (*usage)(void *driver, const struct gantry_call *call, const char *name, struct gantry_usage *usage,
		     struct gantry_error *err);
	/* Since 1.2, where the driver counts its mounts. Once after open(), when the engine knows which containers live (release() may come before): of the
	 * mounts of an earlier life, those in `uses` are all there should be. Release the others; restore what is missing. Mounts made since open() are none of
	 * its business, as other ops run at the same time. */
	int (*reconcile)(void *driver, const struct gantry_call *call, const struct gantry_volume_use *uses, size_t count, size_t use_size,
			 struct gantry_error *err);
	/* Since 1.2, for GANTRY_VOL_FAMILY: the names that open() would find now. */
	int (*family)(void *driver, const struct gantry_call *call, gantry_visit visit, void *arg, struct gantry_error *err);
};

/* ---- storage drivers ---------------------------------------------------------------------------- */
/*
 * A layer is a directory tree that is a change set over its parent. Ids obey [a-z0-9][a-z0-9-]{0,127}: chain ids (hex)
 * for image layers, container ids for writable layers, with suffixes of the engine's ("-init", "-stage-7").
 *
 * An image layer is born by prepare(IMAGE), filled by the engine through layer_dir(), then sealed by commit(); nothing
 * changes it any more. A writable layer is born by prepare(WRITABLE); its parent is sealed. An image layer's parent exists, and is
 * sealed before the layer itself is; with GANTRY_STORAGE_PARALLEL it need not be before.
 */

#define GANTRY_STORAGE_QUOTA    (1ull << 0)     /* understands option "size" in prepare() */
#define GANTRY_STORAGE_PARALLEL (1ull << 1)     /* layer_dir() of an image layer does not need its parent to
						 * be sealed: layers unpack in parallel */
#define GANTRY_STORAGE_IDMAP    (1ull << 2)     /* mounts can be id-mapped */

enum gantry_layer_kind { GANTRY_LAYER_IMAGE = 1, GANTRY_LAYER_WRITABLE = 2 };

/* How the engine writes deletions into layer_dir(). */
enum gantry_whiteouts {
	GANTRY_WHITEOUT_DELETE = 1,     /* the directory shows the parent's content: just delete */
	GANTRY_WHITEOUT_OVERLAY = 2     /* a 0:0 character device for a deleted name; the xattr
					 * trusted.overlay.opaque=y for an opaque directory */
};

struct gantry_layer_dir {
	uint32_t size;
	int32_t whiteouts;              /* enum gantry_whiteouts */
	char path[GANTRY_PATH_MAX];
};

enum gantry_change_kind { GANTRY_MODIFIED = 0, GANTRY_ADDED = 1, GANTRY_DELETED = 2 };
/* path is absolute inside the layer. Parents come before their children. Return non-zero to stop. */
typedef int (*gantry_visit_change)(void *arg, int change_kind, const char *path);

struct gantry_storage_ops {
	uint32_t size;
	uint32_t reserved;
	/* Checks the file system below host->state_dir and removes half-made layers of an earlier life. */
	int (*open)(const struct gantry_host *host, const char *driver_name, void **driver, struct gantry_error *err);
	void (*close)(void *driver);
	/* parent: NULL for a base layer. An existing unsealed image layer of that id is emptied and begun anew; an existing
	 * writable layer, or a sealed one, is success as it is; with another parent it is GANTRY_E_CONFLICT. */
	int (*prepare)(void *driver, const struct gantry_call *call, int layer_kind, const char *id, const char *parent,
		       const struct gantry_options *options, struct gantry_error *err);
	int (*layer_dir)(void *driver, const struct gantry_call *call, const char *id, struct gantry_layer_dir *dir,
			 struct gantry_error *err);
	/* Seals an image layer, durable on return. Already sealed: success. */
	int (*commit)(void *driver, const struct gantry_call *call, const char *id, struct gantry_error *err);
	/* 0 and *sealed (0 for a writable layer), or GANTRY_E_NOT_FOUND. */
	int (*lookup)(void *driver, const struct gantry_call *call, const char *id, int *sealed, struct gantry_error *err);
	/* Describes the mount of a layer over its parents. */
	int (*mount)(void *driver, const struct gantry_call *call, const char *id, int read_only, struct gantry_mount *mount,
		     struct gantry_error *err);
	/* The changes of a layer against its parent; may run while the layer is mounted and written to. Names of one directory come in strcmp()'s order. A
	 * directory with changes in it is told too, as GANTRY_MODIFIED, but for the layer's root; of an added directory all that is in it, of a deleted
	 * one the directory alone. A file that was changed and changed back may be told. */
	int (*diff)(void *driver, const struct gantry_call *call, const char *id, gantry_visit_change visit, void *arg,
		    struct gantry_error *err);
	/* Refused (GANTRY_E_CONFLICT) while other layers have it as parent. */
	int (*remove)(void *driver, const struct gantry_call *call, const char *id, struct gantry_error *err);
	/* The layer's own bytes, without its parents. */
	int (*usage)(void *driver, const struct gantry_call *call, const char *id, struct gantry_usage *usage,
		     struct gantry_error *err);
	int (*list)(void *driver, const struct gantry_call *call, gantry_visit visit, void *arg, struct gantry_error *err);
};

#ifdef __cplusplus
}
#endif
#endif
