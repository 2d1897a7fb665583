/*
 * list.c - GET /containers/json, with its filters.
 */
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

/* "5 minutes": as people read it in `ps`. */
static void human_duration(int64_t ns, char out[64])
{
	int64_t seconds = ns / GT_SECOND, minutes = seconds / 60, hours = (minutes + 30) / 60;
	if (seconds < 1)
		snprintf(out, 64, "Less than a second");
	else if (seconds == 1)
		snprintf(out, 64, "1 second");
	else if (seconds < 60)
		snprintf(out, 64, "%lld seconds", (long long)seconds);
	else if (minutes == 1)
		snprintf(out, 64, "About a minute");
	else if (minutes < 60)
		snprintf(out, 64, "%lld minutes", (long long)minutes);
	else if (hours == 1)
		snprintf(out, 64, "About an hour");
	else if (hours < 48)
		snprintf(out, 64, "%lld hours", (long long)hours);
	else if (hours < 24 * 7 * 2)
		snprintf(out, 64, "%lld days", (long long)(hours / 24));
	else if (hours < 24 * 30 * 2)
		snprintf(out, 64, "%lld weeks", (long long)(hours / 24 / 7));
	else if (hours < 24 * 365 * 2)
		snprintf(out, 64, "%lld months", (long long)(hours / 24 / 30));
	else
		snprintf(out, 64, "%lld years", (long long)(hours / 24 / 365));
}

/* With the container's lock held. */
static char *status_text(const struct gt_container *ctr)
{
	char up[64], ended[64];
	int64_t now = gt_now();
	const char *health = json_string_value(json_object_get(ctr->health, "Status"));
	human_duration(now - ctr->started, up);
	human_duration(now - ctr->finished, ended);
	switch (ctr->status) {
	case GT_RUNNING:
		if (health)
			return gt_xasprintf("Up %s (%s%s)", up, strcmp(health, "starting") ? "" : "health: ", health);
		return gt_xasprintf("Up %s", up);
	case GT_PAUSED:
		return gt_xasprintf("Up %s (Paused)", up);
	case GT_RESTARTING:
		return gt_xasprintf("Restarting (%d) %s ago", ctr->exit_code, ended);
	case GT_REMOVING:
		return gt_xstrdup("Removal In Progress");
	case GT_DEAD:
		return gt_xstrdup("Dead");
	case GT_CREATED:
		return gt_xstrdup("Created");
	default:
		return ctr->finished ? gt_xasprintf("Exited (%d) %s ago", ctr->exit_code, ended) : gt_xstrdup("Created");
	}
}

/* ---- filters ---- */

struct filter {
	const json_t *all;
	int64_t before, since;          /* creation times; 0: not asked */
	struct gt_strings images;       /* ids that "ancestor" names */
	int task;                       /* 1 or 0 as asked for, or -1; nothing here is one */
};

static int find_time(struct gt_engine *engine, const json_t *filters, const char *key, int64_t *created, struct gt_error *err)
{
	const char *ref = json_string_value(json_array_get(json_object_get(filters, key), 0));
	if (!ref)
		return 0;
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, ref, err);
	if (!ctr)
		return -1;
	*created = ctr->created;
	return 0;
}

static int read_filter(struct gt_engine *engine, const json_t *filters, struct filter *filter, struct gt_error *err)
{
	static const char *const KNOWN[] = { "ancestor", "before", "expose",  "exited",  "health", "id",     "is-task", "isolation", "label",
					     "name",     "network", "publish", "since",  "status", "volume", NULL };
	static const char *const STATUS[] = { "created", "running", "paused", "restarting", "removing", "exited", "dead", NULL };
	static const char *const HEALTH[] = { "starting", "healthy", "unhealthy", "none", NULL };
	size_t i;
	json_t *name;
	*filter = (struct filter){ .all = filters };
	if (gt_filter_check(filters, KNOWN, err) < 0 || gt_filter_check_values(filters, "status", STATUS, err) < 0 ||
	    gt_filter_check_values(filters, "health", HEALTH, err) < 0 || find_time(engine, filters, "before", &filter->before, err) < 0 ||
	    find_time(engine, filters, "since", &filter->since, err) < 0 || gt_filter_bool(filters, "is-task", &filter->task, err) < 0)
		return -1;
	json_array_foreach(json_object_get(filters, "exited"), i, name) {
		char *end;
		strtol(json_string_value(name), &end, 10);
		if (*end || end == json_string_value(name))
			return gt_fail(err, GT_INVALID, "invalid filter 'exited=%.64s': it is no number", json_string_value(name));
	}
	json_array_foreach(json_object_get(filters, "ancestor"), i, name) {
		struct gt_image image = { 0 };
		if (gt_image_find(engine->images, json_string_value(name), &image, NULL) == 0)
			gt_strings_add(&filter->images, image.id);
		gt_image_free(&image);
	}
	return 0;
}

/* By part or pattern, as Docker. */
static bool name_matches(const json_t *patterns, const char *name)
{
	size_t i;
	json_t *pattern;
	if (!json_array_size(patterns))
		return true;
	json_array_foreach(patterns, i, pattern) {
		const char *text = json_string_value(pattern);
		AUTO_FREE char *whole = gt_xasprintf("/%s", name);
		regex_t regex;
		if (strlen(text) > 256 || regcomp(&regex, text, REG_EXTENDED | REG_NOSUB))
			continue;
		bool matches = regexec(&regex, whole, 0, NULL, 0) == 0 || regexec(&regex, name, 0, NULL, 0) == 0;
		regfree(&regex);
		if (matches)
			return true;
	}
	return false;
}

static bool id_matches(const json_t *prefixes, const char *id)
{
	size_t i;
	json_t *prefix;
	json_array_foreach(prefixes, i, prefix) {
		const char *text = json_string_value(prefix);
		if (strncmp(id, text, strlen(text)) == 0)
			return true;
	}
	return !json_array_size(prefixes);
}

/* "80", "80/tcp", "80-90/udp" against the keys of {"80/tcp": ...}. */
static bool port_matches(const json_t *wanted, const json_t *ports)
{
	size_t i;
	json_t *value;
	json_array_foreach(wanted, i, value) {
		unsigned from, to;
		char proto[8] = "tcp";
		const char *text = json_string_value(value), *key;
		json_t *ignored;
		int n = sscanf(text, "%u-%u/%7s", &from, &to, proto);
		if (n < 2) {
			to = from;
			if (sscanf(text, "%u/%7s", &from, proto) < 1)
				continue;
			to = from;
		}
		json_object_foreach((json_t *)ports, key, ignored) {
			unsigned port;
			char own[8] = "tcp";
			if (sscanf(key, "%u/%7s", &port, own) >= 1 && port >= from && port <= to && strcmp(own, proto) == 0)
				return true;
		}
	}
	return !json_array_size(wanted);
}

static bool uses_network(const struct gt_container *ctr, const json_t *wanted)
{
	for (size_t i = 0; i < ctr->endpoint_count; i++) {
		size_t w;
		json_t *name;
		json_array_foreach(wanted, w, name) {
			const char *text = json_string_value(name);
			if (strcmp(text, ctr->endpoints[i].network_name) == 0 || strncmp(text, ctr->endpoints[i].network_id, strlen(text)) == 0)
				return true;
		}
	}
	return !json_array_size(wanted);
}

static bool uses_volume(const struct gt_container *ctr, const json_t *wanted)
{
	for (size_t i = 0; i < ctr->mount_count; i++) {
		size_t w;
		json_t *name;
		json_array_foreach(wanted, w, name) {
			const char *text = json_string_value(name);
			if ((ctr->mounts[i].name && strcmp(text, ctr->mounts[i].name) == 0) || strcmp(text, ctr->mounts[i].destination) == 0)
				return true;
		}
	}
	return !json_array_size(wanted);
}

static bool is_ancestor(const struct filter *filter, const struct gt_container *ctr)
{
	if (!gt_filter_has(filter->all, "ancestor") || gt_filter_match(filter->all, "ancestor", ctr->image_name))
		return true;
	for (size_t i = 0; i < filter->images.count; i++) {
		if (ctr->image_id && strcmp(filter->images.items[i], ctr->image_id) == 0)
			return true;
	}
	return false;
}

/* With the container's lock held. */
static bool matches(const struct filter *filter, const struct gt_container *ctr)
{
	const json_t *all = filter->all;
	char code[16];
	const char *health = json_string_value(json_object_get(ctr->health, "Status"));
	snprintf(code, sizeof code, "%d", ctr->exit_code);
	if ((filter->before && ctr->created >= filter->before) || (filter->since && ctr->created <= filter->since))
		return false;
	if (!json_object_size(all))
		return true;
	if (gt_filter_has(all, "exited") && (ctr->status != GT_EXITED || !gt_filter_match(all, "exited", code)))
		return false;
	if (filter->task == 1)
		return false;
	return gt_filter_match(all, "status", gt_status_name(ctr->status)) && gt_filter_match(all, "health", health ? health : "none") &&
	       id_matches(json_object_get(all, "id"), ctr->id) && name_matches(json_object_get(all, "name"), ctr->name) &&
	       gt_filter_match_labels(all, "label", ctr->config.labels) && is_ancestor(filter, ctr) &&
	       port_matches(json_object_get(all, "expose"), ctr->config.exposed_ports) &&
	       port_matches(json_object_get(all, "publish"), ctr->config.host.port_bindings) &&
	       uses_network(ctr, json_object_get(all, "network")) && uses_volume(ctr, json_object_get(all, "volume"));
}

/* ---- rows ---- */

/* The whole command in one line, words with spaces in quotes. */
static char *command_text(const struct gt_container *ctr)
{
	AUTO_BUF struct gt_buf text = { 0 };
	gt_buf_str(&text, ctr->path);
	for (size_t i = 0; i < ctr->args.count; i++)
		gt_buf_printf(&text, strchr(ctr->args.items[i], ' ') ? " '%s'" : " %s", ctr->args.items[i]);
	return gt_buf_take(&text);
}

static void append_sizes(struct gt_container *ctr, struct gt_buf *out)
{
	struct gantry_usage usage = { .size = sizeof usage };
	struct gt_image image = { 0 };
	int64_t below = ctr->image_id && gt_image_find(ctr->engine->images, ctr->image_id, &image, NULL) == 0 ? image.size : 0;
	gt_image_free(&image);
	if (gt_layer_usage(gt_images_storage(ctr->engine->images), ctr->id, &usage, NULL) == 0 && usage.bytes > 0) {
		gt_buf_printf(out, ",\"SizeRw\":%lld", (long long)usage.bytes);
		below += usage.bytes;
	}
	gt_buf_printf(out, ",\"SizeRootFs\":%lld", (long long)below);
}

void gt_container_row_changed(struct gt_container *ctr)
{
	free(ctr->row);
	ctr->row = NULL;
}

/* With the container's lock held. */
static bool is_live(const struct gt_container *ctr)
{
	return ctr->status == GT_RUNNING || ctr->status == GT_PAUSED || ctr->status == GT_RESTARTING;
}

/* A list of hundreds is asked for often and changes little: what lasts of a row is kept as text. With the container's lock held. */
static void make_row(struct gt_container *ctr, json_t *mounts)
{
	AUTO_FREE char *command = command_text(ctr);
	AUTO_JSON json_t *row =
		json_pack("{s:s s:[s+] s:s s:s s:s s:I s:o s:{s:s} s:{s:o} s:O? s:O*}", "Id", ctr->id, "Names", "/", ctr->name, "Image",
			  ctr->image_name ? ctr->image_name : "", "ImageID", ctr->image_id ? ctr->image_id : "", "Command", command, "Created",
			  (json_int_t)(ctr->created / GT_SECOND), "Ports", gt_endpoints_list_ports(ctr), "HostConfig", "NetworkMode",
			  ctr->config.host.network_mode ? ctr->config.host.network_mode : "", "NetworkSettings", "Networks",
			  gt_endpoints_list_networks(ctr), "Mounts", mounts, "Labels", json_is_object(ctr->config.labels) ? ctr->config.labels : NULL);
	if (row && !json_is_object(ctr->config.labels))
		json_object_set_new(row, "Labels", json_object());
	gt_container_row_changed(ctr);
	ctr->row = row ? json_dumps(row, JSON_COMPACT) : NULL;
	ctr->row_live = is_live(ctr);
}

/* Nothing where the container has words in it that are no JSON. */
static void append_row(struct gt_container *ctr, bool size, struct gt_buf *out)
{
	pthread_mutex_lock(&ctr->lock);
	if (!ctr->row || ctr->row_live != is_live(ctr)) {
		pthread_mutex_unlock(&ctr->lock);
		AUTO_JSON json_t *mounts = gt_mounts_inspect(ctr); /* takes the lock of the volumes, which comes before */
		pthread_mutex_lock(&ctr->lock);
		make_row(ctr, mounts);
	}
	bool shown = ctr->row != NULL;
	if (shown) {
		AUTO_FREE char *status = status_text(ctr);
		gt_buf_str(out, out->len > 1 ? "," : "");
		gt_buf_add(out, ctr->row, strlen(ctr->row) - 1); /* without its brace */
		gt_buf_printf(out, ",\"State\":\"%s\",\"Status\":\"%s\"", gt_status_name(ctr->status), status);
	}
	pthread_mutex_unlock(&ctr->lock);
	if (shown && size)
		append_sizes(ctr, out);
	if (shown)
		gt_buf_char(out, '}');
}

int gt_container_list(struct gt_engine *engine, bool all, int limit, bool size, const json_t *filters, struct gt_buf *out, struct gt_error *err)
{
	struct filter filter;
	if (read_filter(engine, filters, &filter, err) < 0) {
		gt_strings_free(&filter.images);
		return -1;
	}
	bool every = all || limit > 0 || gt_filter_has(filters, "status") || gt_filter_has(filters, "exited");
	int rows = 0;
	struct gt_container **list = gt_containers_all(engine, NULL);
	gt_buf_char(out, '[');
	for (size_t i = 0; list[i] && (limit <= 0 || rows < limit); i++) {
		struct gt_container *ctr = list[i];
		pthread_mutex_lock(&ctr->lock);
		bool shown = (every || is_live(ctr)) && !ctr->removed && matches(&filter, ctr);
		pthread_mutex_unlock(&ctr->lock);
		if (!shown)
			continue;
		append_row(ctr, size, out);
		rows++;
	}
	gt_buf_char(out, ']');
	gt_containers_put(list);
	gt_strings_free(&filter.images);
	return 0;
}
