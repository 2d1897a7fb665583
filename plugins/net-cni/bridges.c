/*
 * bridges.c - bridges that the plugin "bridge" makes for a network. It never takes one down; here they go with the network, unless they were there before or
 * somebody uses them still.
 *
 * On disk, below state_dir: <network id>.bridges, the names of those that were not there when a container joined.
 */
#include "cni.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/link.h"

#define SUFFIX ".bridges"
#define NOTES_MAX 4096

static void file_name(const char *network_id, char file[96])
{
	snprintf(file, 96, "%.64s" SUFFIX, network_id);
}

/* The name of the bridge that a plugin of a configuration uses; NULL: none. */
static const char *bridge_of(const json_t *plugin)
{
	const char *type = json_string_value(json_object_get(plugin, "type")), *name = json_string_value(json_object_get(plugin, "bridge"));
	if (!type || strcmp(type, "bridge") != 0)
		return NULL;
	if (!name || !*name)
		return "cni0"; /* its default */
	return strlen(name) < GANTRY_IFNAME_MAX && !strpbrk(name, "/ \t\n") ? name : NULL;
}

static json_t *read_notes(const struct cni *self, const char *network_id)
{
	char file[96], text[NOTES_MAX];
	file_name(network_id, file);
	int fd = openat(self->fd, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof text);
	if (fd >= 0)
		close(fd);
	return len > 0 ? json_loadb(text, (size_t)len, 0, NULL) : NULL;
}

static int write_notes(const struct cni *self, const char *network_id, const json_t *names, struct gantry_error *err)
{
	char file[96];
	file_name(network_id, file);
	int fd = openat(self->fd, file, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	int rc = fd < 0 || json_dumpfd(names, fd, JSON_COMPACT) < 0 ? -1 : 0;
	int errnum = errno;
	if (fd >= 0)
		close(fd);
	if (rc == 0)
		return 0;
	unlinkat(self->fd, file, 0);
	return gantry_fail_errno(err, GANTRY_E_INTERNAL, errnum, "write %.300s/%s", self->host->state_dir, file);
}

int bridges_note(const struct cni *self, const char *network_id, const json_t *conf, struct gantry_error *err)
{
	char file[96];
	struct link link;
	size_t i;
	json_t *plugin;
	file_name(network_id, file);
	if (faccessat(self->fd, file, F_OK, 0) == 0)
		return 0;
	json_t *names = json_array();
	struct nl_sock *sock = NULL;
	int rc = 0;
	json_array_foreach(json_object_get(conf, "plugins"), i, plugin) {
		const char *name = bridge_of(plugin);
		if (!name || rc < 0)
			continue;
		if (!sock && !(sock = netlink_open(NETLINK_ROUTE, err)))
			rc = -1;
		int absent = rc < 0 ? -1 : link_find(sock, name, &link, err);
		if (absent < 0)
			rc = -1;
		else if (absent)
			json_array_append_new(names, json_string(name));
	}
	nl_socket_free(sock);
	if (rc == 0 && json_array_size(names))
		rc = write_notes(self, network_id, names, err);
	json_decref(names);
	return rc;
}

static bool is_port_of(const struct link *link, void *arg)
{
	return link->master == *(const int *)arg;
}

static int remove_bridge(struct nl_sock *sock, const char *name, struct gantry_error *err)
{
	struct link bridge, *ports = NULL;
	size_t count = 0;
	int rc = link_find(sock, name, &bridge, err);
	if (rc != 0 || strcmp(bridge.kind, "bridge") != 0)
		return rc < 0 ? -1 : 0;
	rc = link_list(sock, -1, NULL, is_port_of, &bridge.ifindex, &ports, &count, err);
	free(ports);
	return rc < 0 ? -1 : count ? 0 : link_delete(sock, bridge.ifindex, err);
}

int bridges_remove(const struct cni *self, const char *network_id, const char *heir_id, struct gantry_error *err)
{
	char file[96], to[96];
	size_t i;
	json_t *name, *names = read_notes(self, network_id);
	int rc = 0;
	file_name(network_id, file);
	if (heir_id && names) {
		file_name(heir_id, to);
		rc = renameat(self->fd, file, self->fd, to);
	} else if (names) {
		struct nl_sock *sock = netlink_open(NETLINK_ROUTE, err);
		rc = sock ? 0 : -1;
		json_array_foreach(names, i, name) {
			if (rc == 0 && json_is_string(name))
				rc = remove_bridge(sock, json_string_value(name), err);
		}
		nl_socket_free(sock);
	}
	json_decref(names);
	if (rc == 0 && unlinkat(self->fd, file, 0) < 0 && errno != ENOENT)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "remove %.300s/%s", self->host->state_dir, file);
	return rc;
}
