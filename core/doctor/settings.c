/*
 * settings.c - drivers, the journal, and who can reach the API.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/journal.h"
#include "internal.h"

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? text : "";
}

/* ---- drivers ---- */

/* A storage driver that is not the one in use wants another file system, as a rule: nobody misses it. */
static bool is_spare(const struct report *report, const json_t *driver)
{
	return strcmp(text_of(driver, "Kind"), "storage") == 0 && strcmp(text_of(driver, "Name"), report->config->storage_driver) != 0;
}

/* Without a daemon none is open. */
static void check_plugin(struct report *report, const json_t *plugin, struct gt_buf *names)
{
	size_t i;
	json_t *driver;
	json_array_foreach(json_object_get(plugin, "Drivers"), i, driver) {
		AUTO_FREE char *name = gt_xasprintf("%s (%s)", text_of(driver, "Name"), text_of(driver, "Kind"));
		if (!report->drivers || json_is_true(json_object_get(driver, "Open")))
			add_word(names, name);
		else if (!is_spare(report, driver))
			found(report, "drivers", FAILED, "mend that, or switch it off (enabled = no in its section)", "driver %s could not be opened: %s", name,
			      text_of(driver, "Error"));
	}
}

static void check_drivers(struct report *report)
{
	struct gt_error err = { 0 };
	if (!report->drivers && !report->root)
		return;
	AUTO_JSON json_t *all = report->drivers ? gt_drivers_describe(report->drivers) : gt_drivers_look(report->config, &err);
	if (!all) {
		found(report, "drivers", FAILED, "check the [plugin.NAME] sections", "%s", err.message);
		return;
	}
	AUTO_BUF struct gt_buf names = { 0 };
	size_t i;
	json_t *row;
	json_array_foreach(json_object_get(all, "Plugins"), i, row)
		check_plugin(report, row, &names);
	json_array_foreach(json_object_get(all, "Refused"), i, row)
		found(report, "drivers", FAILED, "take it out of [daemon] plugin_dir, or put a good one there", "%s", text_of(row, "Reason"));
	if (names.len)
		found(report, "drivers", FINE, "", "drivers: %s", names.data);
	else
		found(report, "drivers", FAILED, "install gantry whole, or set [daemon] plugin_dir", "there are no drivers in %s", report->config->plugin_dir);
}

/* ---- logs ---- */

static void check_journal(struct report *report)
{
	bool there = access(GT_JOURNAL_SOCKET, W_OK) == 0, wanted = strcmp(report->config->log_driver, "journald") == 0;
	if (there)
		found(report, "journal", FINE, "", "journald takes logs at " GT_JOURNAL_SOCKET);
	else if (wanted)
		found(report, "journal", FAILED, "start systemd-journald, or set another [log] driver", "[log] driver is journald, and nobody serves " GT_JOURNAL_SOCKET);
	else
		found(report, "journal", FINE, "", "there is no journald: --log-driver journald cannot be used, which is not the default");
}

/* ---- who can reach the API ---- */

static bool is_loopback(const char *address)
{
	return strncmp(address, "127.", 4) == 0 || strncmp(address, "localhost:", 10) == 0 || strncmp(address, "[::1]:", 6) == 0;
}

static void check_api(struct report *report)
{
	const struct gt_config *config = report->config;
	bool tls = *config->tls_cert && *config->tls_key && *config->tls_ca, remote = false;
	for (size_t i = 0; i < config->listen.count; i++) {
		const char *entry = config->listen.items[i];
		if (strncmp(entry, "tcp://", 6) != 0)
			continue;
		remote = true;
		if (!tls)
			found(report, "api", is_loopback(entry + 6) ? WARNING : FAILED, "set [daemon] tls_cert, tls_key and tls_ca, or serve the unix socket alone",
			      "the API is served without TLS at %s: whoever reaches it is root on this host", entry);
	}
	if (!remote)
		found(report, "api", FINE, "", "the API is served on this host alone");
	else if (tls)
		found(report, "api", FINE, "", "the API is served to the network with TLS and client certificates");
	struct stat st;
	if (*config->tls_key && stat(config->tls_key, &st) == 0 && (st.st_mode & 077))
		found(report, "api.key", WARNING, "chmod 0600 it, and make a new one where others may have read it", "%s, the key of the API, is open to other users",
		      config->tls_key);
}

void check_settings(struct report *report)
{
	check_drivers(report);
	check_journal(report);
	check_api(report);
}
