/*
 * internal.h - private to core/driver: plugins and drivers as they are in memory.
 *
 * loader.c      plugin_dir and [plugin.NAME] path: which files there are; open()
 * object.c      one file: is it to be trusted, dlopen
 * remote/       plugins with a process of their own
 * descriptor.c  reads and checks what a file exports
 * settings.c    [plugin.NAME] against the declared keys
 * host.c        the host table that drivers call
 * dispatch.c    the calls of driver.h
 * describe.c    find, names, describe
 * metrics.c     the figures of every driver's calls
 * family.c      drivers that come into being while the daemon runs
 *
 * All is written while loading, by one thread, and read-only afterwards, but for the atomics, the calls under way and the members of families.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/metrics.h"
#include "driver/driver.h"
#include "gantry/abi_check.h"

#define DRIVER_NAME_RULE "[a-z0-9][a-z0-9-]{0,31}"
#define KEY_NAME_RULE "[a-z][a-z0-9_-]{0,63}"

struct plugin {
	char *path;
	char *name;                     /* of the file: what its descriptor must say */
	int fd;                         /* stays open: the name /proc/self/fd/N under which it is loaded must stay its own */
	void *handle;                   /* NULL where it has a process of its own */
	struct remote *remote;          /* that process; NULL where it is loaded */
	struct gantry_plugin info;      /* as much of it as we know; pointers into the shared object */
	struct gantry_key *keys;
	char **values;                  /* one for each key; NULL: neither value nor default */
	struct gt_driver *drivers;
	size_t driver_count;
};

struct gt_driver {
	struct gantry_host host;
	struct gt_drivers *all;
	struct plugin *plugin;
	uint32_t index;                 /* in plugin->drivers; a member's: its family's */
	uint32_t member;                /* remote/members.c: the number of a member; 0: it has none */
	bool is_member;                 /* of a family */
	enum gantry_kind kind;
	const char *name;
	uint64_t capabilities;
	union {
		struct gantry_network_ops network;
		struct gantry_volume_ops volume;
		struct gantry_storage_ops storage;
	} ops;                          /* missing ones are NULL */
	void *context;
	bool open;
	char *failure;                  /* why open() failed */
	char *state_dir, *run_dir;
	bool durable;                   /* state_put() waits for the disk */
	struct gt_histogram time;       /* of its calls, failed ones too */
	struct gt_counter failures;
};

struct refusal {
	char *path;
	char *reason;
};

/* A call that is under way, on the stack of its thread. */
struct call_note {
	struct call_note *next, **slot;
	const struct gt_driver *driver;
	const char *op;
	int64_t began;                  /* CLOCK_MONOTONIC, ns */
	pid_t thread;
};

struct gt_drivers {
	pthread_mutex_t noting;         /* guards under_way; held for a few instructions */
	struct call_note *under_way;
	struct plugin **plugins;
	size_t plugin_count;
	struct refusal *refusals;
	size_t refusal_count;
	struct gt_strings disabled;     /* names */
	gt_driver_event event;
	void *event_arg;
	atomic_bool cancelled;
	atomic_uint_fast64_t calls;
	char *root, *run;               /* for the directories of members */
	bool fsync;
	pthread_mutex_t members_lock;   /* guards the list; a member lives as long as all */
	struct gt_driver **members;     /* all open */
	size_t member_count;
};

const char *driver_kind_name(int kind);         /* "network"; NULL for an unknown kind */

/* ---- object.c ---- */
/* On failure err is the whole sentence. */
int object_open(struct plugin *plugin, struct gt_error *err);           /* sets fd: a file that only root can write */
int object_map(struct plugin *plugin, struct gt_error *err);            /* fd to handle */
void object_unmap(struct plugin *plugin);
/* what: "plugin" or "plugin directory". */
int check_owner(const char *what, const char *path, const struct stat *st, struct gt_error *err);
/* Frees what descriptor_read() made, and all else of a plugin. */
void plugin_free(struct plugin *plugin);

/* ---- descriptor.c ---- */
/* Fills plugin from its handle. On failure err is the whole sentence: "plugin FILE: WHAT: found X, wanted Y". */
int descriptor_read(struct plugin *plugin, struct gt_error *err);
/* The same from a descriptor that is not the handle's. info and all it points to live as long as plugin. */
int descriptor_take(struct plugin *plugin, const struct gantry_plugin *info, struct gt_error *err);
int refuse(const struct plugin *plugin, struct gt_error *err, const char *what, const char *found, const char *wanted);

/* ---- settings.c ---- */
/* Sets plugin->values from defaults and the configuration; what is wrong is appended to complaints, one per line. */
void settings_apply(struct plugin *plugin, const struct gt_config *config, struct gt_buf *complaints);
/* Why value cannot be the key's: NULL where it can, with *normal as config() gives it. The reason and *normal are the caller's to free. */
char *setting_check(const struct gantry_key *key, const char *value, char **normal);
bool setting_flag(const char *value, bool *flag);
/* "enabled", "path", "isolate": no plugin's own. */
bool setting_is_loaders(const char *key);
void complain(struct gt_buf *complaints, const struct gt_plugin_setting *setting, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* ---- host.c ---- */
/* Makes the driver's directories and fills its host table. */
int host_prepare(struct gt_driver *driver, const struct gt_config *config, struct gt_error *err);
/* Fills the host table alone, from state_dir, run_dir and durable. */
void host_fill(struct gt_driver *driver);

/* ---- loader.c ---- */
/* The driver's directories and its op open. Fails without a log line. */
int driver_open(struct gt_driver *driver, const struct gt_config *config, struct gt_error *err);
void driver_close(struct gt_driver *driver);

/* ---- family.c ---- */
bool is_family(const struct gt_driver *driver);
/* The member, opened where it is not yet. NULL with GT_NOT_FOUND where no family knows the name; then err's text is nothing for people. */
struct gt_driver *family_find(struct gt_drivers *drivers, enum gantry_kind kind, const char *name, struct gt_error *err);
/* Names of members, open or not, are added to names. */
void family_names(struct gt_drivers *drivers, enum gantry_kind kind, struct gt_strings *names);
/* Closes and frees all. */
void family_free(struct gt_drivers *drivers);

/* ---- dispatch.c ---- */
int family_list(struct gt_driver *driver, gantry_visit visit, void *arg, struct gt_error *err);
void driver_error(const struct gt_driver *driver, const char *op, struct gantry_error *from, struct gt_error *err);
