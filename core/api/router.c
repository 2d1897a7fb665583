#include "router.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/handlers.h"

/* Every path of Docker's API v1.50. What is not offered stands here too, so that it is refused by name. */
static const struct route ROUTES[] = {
	{ "HEAD", "/_ping", serve_ping, BODY_NONE, 0 },
	{ "GET", "/_ping", serve_ping, BODY_NONE, 0 },
	{ "GET", "/version", serve_version, BODY_NONE, 0 },
	{ "GET", "/info", serve_info, BODY_NONE, 0 },
	{ "GET", "/events", serve_events, BODY_NONE, 0 },
	{ "GET", "/system/df", serve_df, BODY_NONE, 25 },
	{ "GET", "/system/doctor", serve_doctor, BODY_NONE, 0 },        /* gantry's own */

	{ "GET", "/containers/json", serve_container_list, BODY_NONE, 0 },
	{ "POST", "/containers/create", serve_container_create, BODY_JSON, 0 },
	{ "POST", "/containers/prune", serve_container_prune, BODY_NONE, 25 },
	{ "GET", "/containers/{id}/json", serve_container_inspect, BODY_NONE, 0 },
	{ "GET", "/containers/{id}/top", serve_container_top, BODY_NONE, 0 },
	{ "GET", "/containers/{id}/logs", serve_container_logs, BODY_NONE, 0 },
	{ "GET", "/containers/{id}/changes", serve_container_changes, BODY_NONE, 0 },
	{ "GET", "/containers/{id}/export", serve_container_export, BODY_NONE, 0 },
	{ "GET", "/containers/{id}/stats", serve_container_stats, BODY_NONE, 0 },
	{ "POST", "/containers/{id}/resize", serve_container_resize, BODY_NONE, 0 },
	{ "POST", "/containers/{id}/start", serve_container_start, BODY_NONE, 0 },
	{ "POST", "/containers/{id}/stop", serve_container_stop, BODY_NONE, 0 },
	{ "POST", "/containers/{id}/restart", serve_container_restart, BODY_NONE, 0 },
	{ "POST", "/containers/{id}/kill", serve_container_kill, BODY_NONE, 0 },
	{ "POST", "/containers/{id}/update", serve_container_update, BODY_JSON, 0 },
	{ "POST", "/containers/{id}/rename", serve_container_rename, BODY_NONE, 0 },
	{ "POST", "/containers/{id}/pause", serve_container_pause, BODY_NONE, 0 },
	{ "POST", "/containers/{id}/unpause", serve_container_unpause, BODY_NONE, 0 },
	{ "POST", "/containers/{id}/attach", serve_container_attach, BODY_NONE, 0 },
	{ "GET", "/containers/{id}/attach/ws", serve_container_attach_ws, BODY_NONE, 0 },
	{ "POST", "/containers/{id}/wait", serve_container_wait, BODY_NONE, 0 },
	{ "POST", "/containers/{id}/exec", serve_exec_create, BODY_JSON, 0 },
	{ "HEAD", "/containers/{id}/archive", serve_archive_stat, BODY_NONE, 0 },
	{ "GET", "/containers/{id}/archive", serve_archive_get, BODY_NONE, 0 },
	{ "PUT", "/containers/{id}/archive", serve_archive_put, BODY_STREAM, 0 },
	{ "DELETE", "/containers/{id}", serve_container_remove, BODY_NONE, 0 },
	{ "POST", "/commit", serve_container_commit, BODY_JSON, 0 },

	{ "POST", "/exec/{id}/start", serve_exec_start, BODY_JSON, 0 },
	{ "POST", "/exec/{id}/resize", serve_exec_resize, BODY_NONE, 0 },
	{ "GET", "/exec/{id}/json", serve_exec_inspect, BODY_NONE, 0 },

	{ "GET", "/images/json", serve_image_list, BODY_NONE, 0 },
	{ "GET", "/images/search", serve_image_search, BODY_NONE, 0 },
	{ "GET", "/images/get", serve_image_save_many, BODY_NONE, 0 },
	{ "POST", "/images/load", serve_image_load, BODY_STREAM, 0 },
	{ "POST", "/images/create", serve_image_create, BODY_STREAM, 0 },
	{ "POST", "/images/prune", serve_image_prune, BODY_NONE, 25 },
	{ "GET", "/images/{name...}/json", serve_image_inspect, BODY_NONE, 0 },
	{ "GET", "/images/{name...}/history", serve_image_history, BODY_NONE, 0 },
	{ "GET", "/images/{name...}/get", serve_image_save, BODY_NONE, 0 },
	{ "POST", "/images/{name...}/push", serve_image_push, BODY_STREAM, 0 },
	{ "POST", "/images/{name...}/tag", serve_image_tag, BODY_NONE, 0 },
	{ "DELETE", "/images/{name...}", serve_image_remove, BODY_NONE, 0 },
	{ "GET", "/distribution/{name...}/json", serve_distribution, BODY_NONE, 30 },
	{ "POST", "/auth", serve_auth, BODY_JSON, 0 },
	{ "POST", "/build", serve_build, BODY_STREAM, 0 },
	{ "POST", "/build/session", serve_build_session, BODY_NONE, 0 },
	{ "GET", "/build/files", serve_build_files, BODY_NONE, 0 },
	{ "POST", "/build/prune", serve_build_prune, BODY_NONE, 31 },
	{ "POST", "/build/cancel", serve_build_cancel, BODY_NONE, 39 },
	{ "POST", "/session", serve_session, BODY_NONE, 31 },
	{ "POST", "/grpc", serve_session, BODY_NONE, 39 },

	{ "GET", "/networks", serve_network_list, BODY_NONE, 0 },
	{ "POST", "/networks/create", serve_network_create, BODY_JSON, 0 },
	{ "POST", "/networks/prune", serve_network_prune, BODY_NONE, 25 },
	{ "GET", "/networks/{id}", serve_network_inspect, BODY_NONE, 0 },
	{ "DELETE", "/networks/{id}", serve_network_remove, BODY_NONE, 0 },
	{ "POST", "/networks/{id}/connect", serve_network_connect, BODY_JSON, 0 },
	{ "POST", "/networks/{id}/disconnect", serve_network_disconnect, BODY_JSON, 0 },

	{ "GET", "/volumes", serve_volume_list, BODY_NONE, 0 },
	{ "POST", "/volumes/create", serve_volume_create, BODY_JSON, 0 },
	{ "POST", "/volumes/prune", serve_volume_prune, BODY_NONE, 25 },
	{ "GET", "/volumes/{name}", serve_volume_inspect, BODY_NONE, 0 },
	{ "PUT", "/volumes/{name}", serve_swarm_none, BODY_NONE, 42 },
	{ "DELETE", "/volumes/{name}", serve_volume_remove, BODY_NONE, 0 },

	{ "GET", "/plugins", serve_plugin_list, BODY_NONE, 25 },
	{ "GET", "/plugins/privileges", serve_plugin_other, BODY_NONE, 25 },
	{ "POST", "/plugins/pull", serve_plugin_other, BODY_NONE, 25 },
	{ "POST", "/plugins/create", serve_plugin_other, BODY_NONE, 25 },
	{ "GET", "/plugins/{name...}/json", serve_plugin_inspect, BODY_NONE, 25 },
	{ "POST", "/plugins/{name...}/enable", serve_plugin_enable, BODY_NONE, 25 },
	{ "POST", "/plugins/{name...}/disable", serve_plugin_disable, BODY_NONE, 25 },
	{ "POST", "/plugins/{name...}/reload", serve_plugin_reload, BODY_NONE, 25 },
	{ "POST", "/plugins/{name...}/upgrade", serve_plugin_other, BODY_NONE, 26 },
	{ "POST", "/plugins/{name...}/push", serve_plugin_other, BODY_NONE, 25 },
	{ "POST", "/plugins/{name...}/set", serve_plugin_other, BODY_NONE, 25 },
	{ "DELETE", "/plugins/{name...}", serve_plugin_other, BODY_NONE, 25 },

	{ "GET", "/swarm", serve_swarm_none, BODY_NONE, 0 },
	{ "POST", "/swarm/init", serve_swarm_join, BODY_NONE, 0 },
	{ "POST", "/swarm/join", serve_swarm_join, BODY_NONE, 0 },
	{ "POST", "/swarm/leave", serve_swarm_leave, BODY_NONE, 0 },
	{ "POST", "/swarm/update", serve_swarm_none, BODY_NONE, 0 },
	{ "GET", "/swarm/unlockkey", serve_swarm_none, BODY_NONE, 0 },
	{ "POST", "/swarm/unlock", serve_swarm_none, BODY_NONE, 0 },
	{ "GET", "/nodes", serve_swarm_none, BODY_NONE, 0 },
	{ "GET", "/nodes/{id}", serve_swarm_none, BODY_NONE, 0 },
	{ "DELETE", "/nodes/{id}", serve_swarm_none, BODY_NONE, 0 },
	{ "POST", "/nodes/{id}/update", serve_swarm_none, BODY_NONE, 0 },
	{ "GET", "/services", serve_swarm_none, BODY_NONE, 0 },
	{ "POST", "/services/create", serve_swarm_none, BODY_NONE, 0 },
	{ "GET", "/services/{id}", serve_swarm_none, BODY_NONE, 0 },
	{ "DELETE", "/services/{id}", serve_swarm_none, BODY_NONE, 0 },
	{ "POST", "/services/{id}/update", serve_swarm_none, BODY_NONE, 0 },
	{ "GET", "/services/{id}/logs", serve_swarm_none, BODY_NONE, 0 },
	{ "GET", "/tasks", serve_swarm_none, BODY_NONE, 0 },
	{ "GET", "/tasks/{id}", serve_swarm_none, BODY_NONE, 0 },
	{ "GET", "/tasks/{id}/logs", serve_swarm_none, BODY_NONE, 0 },
	{ "GET", "/secrets", serve_swarm_none, BODY_NONE, 0 },
	{ "POST", "/secrets/create", serve_swarm_none, BODY_NONE, 0 },
	{ "GET", "/secrets/{id}", serve_swarm_none, BODY_NONE, 0 },
	{ "DELETE", "/secrets/{id}", serve_swarm_none, BODY_NONE, 0 },
	{ "POST", "/secrets/{id}/update", serve_swarm_none, BODY_NONE, 0 },
	{ "GET", "/configs", serve_swarm_none, BODY_NONE, 0 },
	{ "POST", "/configs/create", serve_swarm_none, BODY_NONE, 0 },
	{ "GET", "/configs/{id}", serve_swarm_none, BODY_NONE, 0 },
	{ "DELETE", "/configs/{id}", serve_swarm_none, BODY_NONE, 0 },
	{ "POST", "/configs/{id}/update", serve_swarm_none, BODY_NONE, 0 },
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Up to 6 digits at *at; -1 where there are none or more. */
static int number_at(const char **at)
{
	int number = 0, digits = 0;
	for (; is_digit(**at); (*at)++) {
		if (++digits > 6)
			return -1;
		number = number * 10 + (**at - '0');
	}
	return digits ? number : -1;
}

/* Takes "/vX.YY" off the path. A path that only looks alike ("/version") has no version. */
static int take_version(const char **path, int *minor, struct gt_error *err)
{
	const char *at = *path;
	*minor = GT_API_VERSION_MINOR;
	if (at[0] != '/' || at[1] != 'v' || !is_digit(at[2]))
		return 0;
	const char *text = at + 2;
	at = text;
	int major = number_at(&at), low = 0;
	if (major >= 0 && *at == '.') {
		at++;
		low = number_at(&at);
	} else {
		low = -1;
	}
	if (major < 0 || low < 0 || *at != '/')
		return 0;
	int len = (int)(at - text);
	if (major > 1 || (major == 1 && low > GT_API_VERSION_MINOR))
		return gt_fail(err, GT_INVALID, "client version %.*s is too new. Maximum supported API version is %s", len, text,
			       GT_API_VERSION);
	if (major < 1 || low < GT_API_VERSION_MIN_MINOR)
		return gt_fail(err, GT_INVALID,
			       "client version %.*s is too old. Minimum supported API version is %s, please upgrade your client to a newer "
			       "version",
			       len, text, GT_API_VERSION_MIN);
	*minor = low;
	*path = at;
	return 0;
}

struct span {
	const char *at;
	size_t len;
};

/* Compares path[0..len) with the pattern; spans[] get what the names in it stand for. */
static bool fits(const char *pattern, const char *path, size_t len, struct span spans[ROUTE_MAX_SEGMENTS])
{
	const char *end = path + len;
	size_t count = 0;
	memset(spans, 0, ROUTE_MAX_SEGMENTS * sizeof *spans);
	while (*pattern) {
		if (*pattern != '{') {
			if (path == end || *path != *pattern)
				return false;
			path++;
			pattern++;
			continue;
		}
		const char *close = strchr(pattern, '}');
		bool many = close[-1] == '.';
		const char *tail = close + 1;
		const char *stop;
		if (many) {
			/* All but what the rest of the pattern, which has no names, stands for. */
			size_t tail_len = strlen(tail);
			if ((size_t)(end - path) <= tail_len || memcmp(end - tail_len, tail, tail_len) != 0)
				return false;
			stop = end - tail_len;
		} else {
			stop = memchr(path, '/', (size_t)(end - path));
			stop = stop ? stop : end;
		}
		if (stop == path || stop[-1] == '/' || *path == '/' || count == ROUTE_MAX_SEGMENTS)
			return false;
		spans[count++] = (struct span){ path, (size_t)(stop - path) };
		path = stop;
		pattern = tail;
	}
	return path == end;
}

static const struct route *look_up(const char *method, const char *path, size_t len, struct span spans[ROUTE_MAX_SEGMENTS],
				   char allow[ROUTE_ALLOW_ROOM])
{
	allow[0] = '\0';
	for (size_t i = 0; i < GT_COUNT(ROUTES); i++) {
		if (!fits(ROUTES[i].pattern, path, len, spans))
			continue;
		if (strcmp(ROUTES[i].method, method) == 0)
			return &ROUTES[i];
		size_t used = strlen(allow);
		snprintf(allow + used, ROUTE_ALLOW_ROOM - used, "%s%s", used ? ", " : "", ROUTES[i].method);
	}
	return NULL;
}

int route_find(const char *method, const char *path, struct route_match *match, char allow[ROUTE_ALLOW_ROOM], struct gt_error *err)
{
	struct span spans[ROUTE_MAX_SEGMENTS] = { 0 };
	*match = (struct route_match){ .version = GT_API_VERSION_MINOR };
	allow[0] = '\0';
	if (take_version(&path, &match->version, err) < 0)
		return -1;
	size_t len = strcspn(path, "?");
	const struct route *route = look_up(method, path, len, spans, allow);
	if (!route && *allow)
		return gt_fail(err, GT_INVALID, "method not allowed");
	if (!route)
		return gt_fail(err, GT_NOT_FOUND, "page not found");
	allow[0] = '\0';
	if (match->version < route->since)
		return gt_fail(err, GT_INVALID, "\"%s %.*s\" requires API version 1.%d, but the client asked for version 1.%d", method,
			       (int)(len < 200 ? len : 200), path, route->since, match->version);
	for (size_t i = 0; i < ROUTE_MAX_SEGMENTS && spans[i].at; i++) {
		match->segments[i] = query_unescape(spans[i].at, spans[i].len, false, err);
		if (!match->segments[i]) {
			route_match_free(match);
			return -1;
		}
	}
	match->route = route;
	return 0;
}

void route_match_free(struct route_match *match)
{
	for (size_t i = 0; i < ROUTE_MAX_SEGMENTS; i++)
		free(match->segments[i]);
	*match = (struct route_match){ 0 };
}
