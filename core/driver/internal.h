/*
 * internal.h - private to core/driver: plugins and drivers as they are in memory.
 *
 * loader.c      plugin_dir and [plugin.NAME] path: which files there are; open()
 * slot.c        the places of plugins, and what people ask of them: find, names
 * change.c      plugins that are enabled, disabled and reloaded while the daemon runs
 * object.c      one file: is it to be trusted, dlopen
 * remote/       plugins with a process of their own
 * descriptor.c  reads and checks what a file exports
 * settings.c    [plugin.NAME] against the declared keys
 * host.c        the host table that drivers call
 * gate.c        calls come in, and are kept out while a driver is changed
 * dispatch.c    the calls of driver.h
 * records.c     what a driver has been told, for the next one in its place
 * describe.c    plugins and calls, for people
 * metrics.c     the figures of every driver's calls
 * family.c      drivers that come into being while the daemon runs
 *
 * A struct gt_driver is what the engine holds, as long as the daemon runs. A struct driver is what it calls now: a driver of a file that is loaded, open
 * or not. The first stays when the second is replaced.
 *
 * Locks, in the order in which they are taken: `changing` (one change at a time, whole), `opening` (of members of families), `table` (short: the lists of slots
 * and drivers), `noting` (a few instructions). A driver is called under the first two alone.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/map.h"
#include "base/metrics.h"
#include "driver/driver.h"
#include "driver/remote/wire.h"
#include "gantry/abi_check.h"

#define DRIVER_NAME_RULE "[a-z0-9][a-z0-9-]{0,31}"
#define KEY_NAME_RULE "[a-z][a-z0-9_-]{0,63}"

/* A file that is loaded. Written by who loads it, and read-only from then on, but for what the process does. */
struct plugin {
	char *path;
	char *name;                     /* of the file: what its descriptor must say */
	int fd;                         /* stays open: the name /proc/self/fd/N under which it is loaded must stay its own */
	struct stat file;               /* as it was when it was opened */
	void *handle;                   /* NULL where it has a process of its own */
	struct remote *remote;          /* that process; NULL where it is loaded */
	struct gantry_plugin info;      /* as much of it as we know; pointers into the shared object */
	struct gantry_key *keys;
	char **values;                  /* one for each key; NULL: neither value nor default */
	struct driver *drivers;
	size_t driver_count;
};

/* One driver of such a file. */
struct driver {
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
	char *state_dir, *run_dir;
	bool durable;                   /* state_put() waits for the disk */
	struct records *records;        /* the gt_driver's; NULL in a plugin's process */
};

/* records.c: what a driver has been told and has not been told to forget. */
struct records {
	pthread_mutex_t lock;           /* guards the next two; nothing else is locked under it */
	struct gt_map map;              /* key -> struct record */
	uint64_t last;                  /* number of a record */
	atomic_size_t making;           /* image layers that are not sealed yet */
	atomic_uint_fast64_t changes;   /* to networks and endpoints */
	atomic_bool reconciled;         /* the engine has told a volume driver its mounts */
};

/* What the engine holds. */
struct gt_driver {
	struct gt_drivers *all;
	struct slot *slot;
	enum gantry_kind kind;
	bool is_member;                 /* of a family; its name is not one of the plugin's */
	char *name;
	struct records records;
	_Atomic uint64_t capabilities;  /* of `now`, and after it of the last one */
	struct gt_histogram time;       /* of its calls, failed ones too */
	struct gt_counter failures, reloads;
	/* guarded by all->noting */
	struct driver *now;             /* open; NULL: `why` tells why it cannot be called */
	char *why;
	bool shut;                      /* calls wait */
	bool awaited;                   /* somebody waits for calls to end, or for layers to be sealed */
	unsigned inside;                /* calls under way */
};

/* Where a plugin is, or is not. Guarded by `table`. */
struct slot {
	char *name;
	struct plugin *plugin;          /* NULL: none is loaded */
	bool off;                       /* disabled by a user */
	char *path, *version, *description;     /* of the last one that was loaded, or NULL */
	struct gt_driver **drivers;     /* of all that were loaded here, by kind and name */
	size_t driver_count;
};

struct refusal {
	char *path;
	char *reason;
};

/* A call that is under way, on the stack of its thread. */
struct call_note {
	struct call_note *next, **slot;
	struct gt_driver *driver;
	const char *op;
	int64_t began;                  /* CLOCK_MONOTONIC, ns */
	pid_t thread;
};

struct gt_drivers {
	pthread_mutex_t changing, opening;
	pthread_rwlock_t table;
	pthread_mutex_t noting;
	pthread_cond_t moved;           /* with noting: a gate opened, a call that is awaited ended, the daemon goes down */
	struct call_note *under_way;    /* guarded by noting */
	/* guarded by table */
	struct slot **slots;            /* a slot lives as long as all */
	size_t slot_count;
	struct gt_driver **members;     /* a member lives as long as all */
	size_t member_count;
	struct refusal *refusals;
	size_t refusal_count;
	/* fixed */
	gt_driver_event event;
	void *event_arg;
	atomic_bool cancelled;
	atomic_uint_fast64_t calls;
	char *root, *run, *plugin_dir, *libexec_dir;
	char *storage;                  /* the storage driver in use */
	bool fsync;
};

const char *driver_kind_name(int kind);         /* "network"; NULL for an unknown kind */

/* ---- object.c ---- */
/* On failure err is the whole sentence. */
int object_open(struct plugin *plugin, struct gt_error *err);           /* sets fd and file: a file that only root can write */
/* Maps it once more where it is the file of `before`, unchanged: both then have one descriptor, which the last to be unmapped closes. */
int object_share(struct plugin *plugin, const struct plugin *before, struct gt_error *err);
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
int host_prepare(struct driver *driver, struct gt_error *err);
/* Fills the host table alone, from state_dir, run_dir and durable. */
void host_fill(struct driver *driver);

/* ---- loader.c ---- */
/* What a section says of its plugin; NULL with err, FILE:LINE and all, where it makes no sense. */
struct placing {
	bool enabled, isolated;
	const struct gt_plugin_setting *off;    /* the line that says enabled = no */
	char *file;                             /* the caller's to free */
};
/* What is wrong is appended to complaints. */
void placing_read(const struct gt_drivers *drivers, const struct gt_config *config, const char *name, struct placing *placing, struct gt_buf *complaints);
/* A plugin with its settings, not open. NULL with err. before: one of the same name that is loaded, or NULL. */
struct plugin *plugin_load(const struct gt_drivers *drivers, const struct gt_config *config, const char *name, const struct placing *placing,
			   const struct plugin *before, struct gt_error *err);
/* No other plugin that is loaded has drivers of these names. Takes `table`. */
int check_free_names(struct gt_drivers *drivers, const struct plugin *plugin, struct gt_error *err);
/* The driver's directories and its op open. Fails without a log line. */
int driver_open(struct driver *driver, struct gt_error *err);
void driver_close(struct driver *driver);
/* The same for what has not been called yet: the gate leads there, or tells why not, with a line in the log. err may be NULL. */
int driver_open_first(struct gt_driver *driver, struct driver *now, struct gt_error *err);

/* ---- slot.c ---- */
/* The slot of that name, or NULL. With `table`. */
struct slot *slot_find(const struct gt_drivers *drivers, const char *name);
/* The same, made where it is not there. With `table` for writing. */
struct slot *slot_get(struct gt_drivers *drivers, const char *name);
/* Puts a plugin in its place: each of its drivers has a gt_driver from then on, which calls nothing yet. With `table` for writing. */
void slot_attach(struct slot *slot, struct gt_drivers *drivers, struct plugin *plugin);
/* The slot's gt_driver for a driver, or NULL. With `table`, or `changing`. */
struct gt_driver *slot_driver(const struct slot *slot, int kind, const char *name);
struct gt_driver *gt_driver_new(struct gt_drivers *drivers, struct slot *slot, enum gantry_kind kind, const char *name);
void gt_driver_free(struct gt_driver *driver);
void slot_free(struct slot *slot);
void refusal_note(struct gt_drivers *drivers, const char *path, const char *reason);
void refusal_forget(struct gt_drivers *drivers, const char *path);

/* ---- gate.c ---- */
/* Begins a call: waits where the gate is shut, `time` at most. Returns what is to be called until gate_leave(), or NULL with err. */
struct driver *gate_enter(struct call_note *note, int64_t time, struct gt_error *err);
/* rc: the op's, 0 or -1; 1: none was called. */
void gate_leave(struct call_note *note, int rc);
/* Keeps calls out of all of these, and waits for those that are in, and for image layers in the making, `patience` at most. Fails with the gates open. */
int gates_shut(struct gt_drivers *drivers, struct gt_driver *const *list, size_t count, int64_t patience, struct gt_error *err);
void gates_open(struct gt_drivers *drivers, struct gt_driver *const *list, size_t count);
/* What is called from now on; NULL, and why. */
void gate_set(struct gt_driver *driver, struct driver *now, const char *why);
bool gate_is_open(struct gt_driver *driver);    /* there is something to be called */
/* The reason why not; the caller's. */
char *gate_why(struct gt_driver *driver);
void gates_wake(struct gt_drivers *drivers);

/* ---- records.c ---- */
void records_init(struct records *records);
void records_free(struct records *records);
/* Forgets all, as a driver does that nothing uses. */
void records_clear(struct records *records);
/* After each call, of whatever outcome. */
void records_note(const struct driver *driver, enum wire_opcode op, const struct wire_args *args, bool success);
/* After a call that nobody was there for: what it asks to go is not brought back. */
void records_note_unheard(struct gt_driver *driver, enum wire_opcode op, const struct wire_args *args);
/* One call of those that tell. */
typedef int (*records_tell)(struct driver *driver, enum wire_opcode op, struct wire_args *args, struct gantry_error *err);
/* Tells a network driver its networks, and then all endpoints and ports by reconcile(). No call is in progress. */
int records_tell_networks(struct driver *driver, records_tell tell, struct gantry_error *err);
/* Tells a volume driver that counts its mounts which of them there should be, where the engine has told it once. */
int records_tell_uses(struct driver *driver, records_tell tell, struct gantry_error *err);

/* ---- family.c ---- */
bool is_family(const struct gt_driver *driver);
/* The member, opened where it is not yet. NULL with GT_NOT_FOUND where no family knows the name; then err's text is nothing for people. */
struct gt_driver *family_find(struct gt_drivers *drivers, enum gantry_kind kind, const char *name, struct gt_error *err);
/* Names of members, open or not, are added to names. */
void family_names(struct gt_drivers *drivers, enum gantry_kind kind, struct gt_strings *names);
/* A driver of the family's under the member's name, not open. */
struct driver *member_driver(const struct driver *family, struct gt_driver *member);
/* Closes it where it is open. */
void member_driver_free(struct driver *member);

/* ---- dispatch.c ---- */
int family_list(struct gt_driver *driver, gantry_visit visit, void *arg, struct gt_error *err);
void driver_error(const char *driver, const char *op, struct gantry_error *from, struct gt_error *err);
/* An op of a driver that is not shared with others now. */
int driver_tell(struct driver *driver, enum wire_opcode op, struct wire_args *args, struct gantry_error *err);
/* Tells a volume driver, through its gate, the mounts that there should be. Errors are logged. */
void driver_tell_uses(struct gt_driver *driver);
