/*
 * driver.h - drivers as the engine sees them: loaded, checked, found by kind and name, called.
 *
 * loader.c opens the shared objects of config's plugin_dir, checks file, symbol, version, sizes, names and INI keys,
 * and refuses what is wrong with the exact reason (a warning; the daemon goes on without it). The calls below
 * fill in struct sizes, a deadline (30 s; 10 min for those that move a layer's or volume's bytes), and turn a driver's error into
 * ours: "driver NAME: MESSAGE".
 *
 * State of drivers: <root>/{networks,volumes,storage}/<driver name>/ by kind, and <run>/plugins/<kind>-<driver name>/.
 *
 * Thread safe. A gt_driver lives as long as the gt_drivers it came from, while what it calls may be replaced (change.c): calls wait for that. An op that the
 * driver lacks fails with GT_UNSUPPORTED, one of a driver that is not open any more with GT_UNAVAILABLE.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/error.h"
#include "config/config.h"
#include "gantry/plugin.h"

struct gt_drivers;
struct gt_driver;

/* event: passed on from host->event(); may be NULL. */
typedef void (*gt_driver_event)(void *arg, const char *driver, const char *object, const char *action, const char *detail);

/* Fails where a setting of a plugin that is there is wrong ("FILE:LINE: [plugin.NAME] KEY: why", one per line); a plugin or driver that cannot be
 * used is a warning. off: names of plugins that a user has disabled; may be NULL. */
int gt_drivers_load(const struct gt_config *config, const struct gt_strings *off, gt_driver_event event, void *event_arg, struct gt_drivers **drivers,
		    struct gt_error *err);
void gt_drivers_free(struct gt_drivers *drivers);
/* Makes host->cancelled() true for every call: the daemon is going down. */
void gt_drivers_cancel(struct gt_drivers *drivers);
/* Checks [plugin.*] sections against the declarations of the plugins that are there, without open(). For --check-config. */
int gt_drivers_check(const struct gt_config *config, struct gt_error *err);
/* The same, and what gt_drivers_describe() tells of those that would be loaded, none of them open. NULL where a section is wrong. The caller's. */
json_t *gt_drivers_look(const struct gt_config *config, struct gt_error *err);

/* A volume driver of a family (GANTRY_VOL_FAMILY) is opened when it is first asked for.
 * GT_NOT_FOUND: `no network driver named "x" is loaded (there are: bridge, host)`. GT_UNAVAILABLE where its open() failed, with the reason. */
struct gt_driver *gt_driver_find(struct gt_drivers *drivers, enum gantry_kind kind, const char *name, struct gt_error *err);
const char *gt_driver_name(const struct gt_driver *driver);
uint64_t gt_driver_capabilities(const struct gt_driver *driver);
/* Names of one kind that are open, and those of families that could be, sorted: a JSON array. And all plugins, for `info` and `plugin ls`:
 * {"Plugins":[{"Name","Version","Description","Path","ABI","Drivers":[{"Kind","Name","Open","Capabilities":[],"Error"}],"Settings":{},
 *              "Process":{"State","Pid","Starts","LastEnd"}}],        Process: with isolate = process alone
 *  "Refused":[{"Path","Reason"}],
 *  "Absent":[{"Name","Off","Version","Description","Path"}]}          not loaded; Off: disabled by a user. The texts are those of the last one, or empty
 * The caller's. */
json_t *gt_driver_names(struct gt_drivers *drivers, enum gantry_kind kind);
json_t *gt_drivers_describe(struct gt_drivers *drivers);
/* Calls that are under way: [{"Kind","Driver","Op","Thread","Seconds"}]. Calls no driver; thread safe. The caller's. */
json_t *gt_drivers_calls(struct gt_drivers *drivers);
/* Plugins with a process of their own: [{"Plugin","State","Pid","Starts","LastEnd","CallsInProgress","Channels"}], or "LockHeldBy" where that cannot be read
 * within a moment. Pid 0: none is there. Thread safe. The caller's. */
json_t *gt_drivers_processes(struct gt_drivers *drivers);
/* Appends calls, failures and times of every driver, in Prometheus' text format. Takes no lock that anybody holds long and calls no driver; thread safe. */
void gt_drivers_metrics(struct gt_drivers *drivers, struct gt_buf *out);

/*
 * Plugins while the daemon runs. config: read anew, of which [plugin.NAME] counts; borrowed. patience: ns, for calls that are under way. One change at a time:
 * others wait. GT_NOT_FOUND: no such plugin. GT_CONFLICT: it is in that state already, or calls do not end.
 */
/* Its drivers and those of its families that were opened: [{"Kind","Name"}]; the caller's. */
json_t *gt_plugin_drivers(struct gt_drivers *drivers, const char *name, struct gt_error *err);
/* Takes the file as it is now, and its settings, into use. Where that fails, all is as before. *disturbed: the drivers were closed and opened, whatever
 * came of it: networks' watch() has to be called again, and gt_plugin_tell_uses(). */
int gt_plugin_reload(struct gt_drivers *drivers, const struct gt_config *config, const char *name, int64_t patience, bool *disturbed, struct gt_error *err);
/* Tells volume drivers that count which mounts there are. They may wait for others: at most ten minutes each. Errors are logged. */
void gt_plugin_tell_uses(struct gt_drivers *drivers, const char *name);
/* Whether gt_driver_find() still gives out its drivers; at once. GT_CONFLICT: it is disabled already. */
int gt_plugin_mark(struct gt_drivers *drivers, const char *name, bool off, struct gt_error *err);
/* Closes and unloads one that is marked and that nothing uses. */
int gt_plugin_disable(struct gt_drivers *drivers, const char *name, int64_t patience, struct gt_error *err);
/* Loads one that is disabled, was refused, or is new in plugin_dir. Fails where none of its drivers can be opened. */
int gt_plugin_enable(struct gt_drivers *drivers, const struct gt_config *config, const char *name, struct gt_error *err);

/* Options as a JSON object of strings ({"type":"tmpfs"}; NULL: none). */

/* network */
int gt_net_create(struct gt_driver *driver, const struct gantry_network *network, struct gt_error *err);
int gt_net_remove(struct gt_driver *driver, const char *network_id, struct gt_error *err);
int gt_net_join(struct gt_driver *driver, struct gantry_endpoint *endpoint, int netns_fd, struct gt_error *err);
int gt_net_leave(struct gt_driver *driver, const char *network_id, const char *endpoint_id, int netns_fd,
		 struct gt_error *err);
int gt_net_publish(struct gt_driver *driver, const struct gantry_endpoint *endpoint, const struct gantry_port *ports,
		   size_t count, struct gt_error *err);
int gt_net_unpublish(struct gt_driver *driver, const char *network_id, const char *endpoint_id, struct gt_error *err);
int gt_net_reconcile(struct gt_driver *driver, const struct gantry_endpoint *endpoints, size_t endpoint_count,
		     const struct gantry_port *ports, const uint32_t *port_owner, size_t port_count,
		     struct gt_error *err);
/* Networks that span hosts (ABI 1.1). *fd becomes readable when the others have news; it is the caller's. */
int gt_net_watch(struct gt_driver *driver, int *fd, struct gt_error *err);
int gt_net_global(struct gt_driver *driver, gantry_visit_network visit, void *arg, struct gt_error *err);
int gt_net_members(struct gt_driver *driver, const char *network_id, gantry_visit_member visit, void *arg, struct gt_error *err);
/* ABI 1.2. */
int gt_net_peers(struct gt_driver *driver, const char *network_id, gantry_visit_peer visit, void *arg, struct gt_error *err);
int gt_net_rename(struct gt_driver *driver, const char *network_id, const char *endpoint_id, const char *const *names, size_t name_count,
		  struct gt_error *err);

/* volume */
int gt_vol_create(struct gt_driver *driver, const char *name, const json_t *options, struct gt_error *err);
int gt_vol_remove(struct gt_driver *driver, const char *name, struct gt_error *err);
int gt_vol_mount(struct gt_driver *driver, const char *name, const char *container_id, bool read_only,
		 struct gantry_mount *mount, struct gt_error *err);
int gt_vol_release(struct gt_driver *driver, const char *name, const char *container_id, struct gt_error *err);
int gt_vol_list(struct gt_driver *driver, gantry_visit visit, void *arg, struct gt_error *err);
int gt_vol_inspect(struct gt_driver *driver, const char *name, struct gantry_volume_info *info, struct gt_error *err);
int gt_vol_usage(struct gt_driver *driver, const char *name, struct gantry_usage *usage, struct gt_error *err);
/* ABI 1.2, for drivers that count their mounts; sizes need not be set. */
bool gt_vol_counts(struct gt_driver *driver);
int gt_vol_reconcile(struct gt_driver *driver, const struct gantry_volume_use *uses, size_t count, struct gt_error *err);

/* storage; parent may be NULL */
int gt_layer_prepare(struct gt_driver *driver, enum gantry_layer_kind kind, const char *id, const char *parent,
		     const json_t *options, struct gt_error *err);
int gt_layer_dir(struct gt_driver *driver, const char *id, struct gantry_layer_dir *dir, struct gt_error *err);
int gt_layer_commit(struct gt_driver *driver, const char *id, struct gt_error *err);
int gt_layer_lookup(struct gt_driver *driver, const char *id, bool *sealed, struct gt_error *err);
int gt_layer_mount(struct gt_driver *driver, const char *id, bool read_only, struct gantry_mount *mount, struct gt_error *err);
int gt_layer_diff(struct gt_driver *driver, const char *id, gantry_visit_change visit, void *arg, struct gt_error *err);
int gt_layer_remove(struct gt_driver *driver, const char *id, struct gt_error *err);
int gt_layer_usage(struct gt_driver *driver, const char *id, struct gantry_usage *usage, struct gt_error *err);
int gt_layer_list(struct gt_driver *driver, gantry_visit visit, void *arg, struct gt_error *err);
