/*
 * config.h - one checked configuration out of gantryd.ini and its drop-ins.
 *
 * Every key stands in one table (config.c): section, name, type, default, doc line; the struct below is
 * filled from it and --print-config is printed from it. An unknown key or section and a bad value are errors
 * with file:line. Sections [plugin.NAME] belong to plugins: their keys are kept as text with file:line and
 * checked against the plugin's own declaration when it is loaded (driver/).
 *
 * Read-only after gt_config_load(), so any thread may read it. SIGHUP loads a second one and hands
 * over what can change while running.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"

struct gt_config {
	char *file;                     /* it was read from, for reading it again; NULL: none */
	bool file_given;                /* it has to be there */

	/* [daemon] */
	struct gt_strings listen;       /* "unix:///run/gantry/gantry.sock", "tcp://127.0.0.1:2376" */
	char *socket_group;             /* group of the unix socket; used where it exists */
	char *tls_cert, *tls_key, *tls_ca;
	bool insecure_tcp;              /* plain tcp without client certificates is refused unless set */
	char *root;                     /* /var/lib/gantry */
	char *run;                      /* /run/gantry */
	char *plugin_dir;
	char *libexec_dir;              /* gantry-shim, gantry-init, gantry-fs, gantry-plugin-host */
	enum gt_level log_level;        /* reloadable */
	bool log_json;
	int64_t max_body;               /* bytes of a JSON request body */
	int64_t max_connections;
	int64_t request_timeout;        /* s */
	int64_t shutdown_timeout;       /* s */
	struct gt_strings labels;       /* of this engine, for `info` */
	char *metrics_addr;             /* "HOST:PORT"; empty: no metrics are served */

	/* [runtime] */
	char *cgroup_parent;            /* "/gantry" */
	char *seccomp_profile;          /* path; empty: built in */
	char *userns_remap;             /* "START:COUNT" of host ids, empty: off */
	bool no_new_privileges;         /* for every container */
	bool init;                      /* gantry-init in every container */
	int64_t stop_timeout;           /* s */
	int64_t shm_size;               /* bytes */
	struct gt_strings cdi_spec_dirs;
	struct gt_strings default_ulimits;      /* "nofile=1024:2048" */

	/* [storage] */
	char *storage_driver;           /* "overlay" */
	bool fsync;                     /* off: for tests and throw-away machines */
	char *embedded_image;           /* archive loaded once into a fresh store; empty: none */

	/* [registry] */
	struct gt_strings registry_insecure;    /* "host", "host:port", "192.168.0.0/16" */
	struct gt_strings registry_mirrors;     /* "https://mirror" for docker.io, "HOST=https://mirror" */
	struct gt_strings registry_certs;       /* directories that hold HOST/ca.crt and so on */
	char *http_proxy, *https_proxy, *no_proxy;      /* empty: the daemon's environment */
	int64_t max_downloads;          /* layers of one pull at a time */

	/* [log] defaults of containers */
	char *log_driver;               /* json-file, local, journald, syslog, none */
	int64_t log_max_size;           /* bytes; 0: no rotation */
	int64_t log_max_file;

	/* [network] */
	char *default_network_driver;   /* "bridge" */
	char *bridge_subnet;            /* of the default bridge, CIDR */
	char *bridge_subnet6;           /* empty: no IPv6 on the default bridge */
	struct gt_strings address_pools;        /* "172.18.0.0/14 size 16" */
	struct gt_strings global_address_pools; /* of networks that span hosts */
	struct gt_strings dns;          /* servers, in place of the host's */
	struct gt_strings dns_search, dns_options;
	char *host_gateway;             /* address behind "host-gateway" in add-host; empty: the bridge's */

	/* [plugin.NAME] */
	struct gt_plugin_setting *plugin_settings;      /* file order */
	size_t plugin_setting_count;
};

/* One line of a [plugin.NAME] section. "enabled" (yes/no), "path" and "isolate" are the loader's own keys; all others are
 * checked against the plugin's declaration. */
struct gt_plugin_setting {
	char *plugin;
	char *key;
	char *value;
	char *file;
	int line;
};

/* Reads path (NULL: built-in defaults alone), then the *.ini of conf.d beside it in name order. A missing default
 * file is no error; a missing file named by the user is. All complaints are gathered, one per line. */
int gt_config_load(const char *path, bool must_exist, struct gt_config **config, struct gt_error *err);
void gt_config_free(struct gt_config *config);

/* Whether a resource limit (setrlimit(2)) has this name: "nofile", "core" ... */
bool gt_ulimit_known(const char *name);

/* The whole configuration as an INI file, each key with its doc line and default. */
void gt_config_print(const struct gt_config *config, struct gt_buf *out);
