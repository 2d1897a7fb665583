/*
 * stats.c - `gantry stats`: one stream of samples for each container, all polled together, drawn as one table.
 *
 * With no names given, the list of containers is asked for again each second, so that new ones appear and dead ones go.
 */
#include <poll.h>
#include <string.h>

#include "api.h"
#include "base/clock.h"
#include "container.h"
#include "humanize.h"
#include "list.h"

enum { MAX_SAMPLE = 1 << 20 };

struct watched {
	char *id, *name;
	struct http_response *stream;   /* NULL: ended */
	struct gt_buf pending;
	json_t *sample;                 /* the newest, or NULL */
	int samples;
	bool listed;
};

struct stats {
	struct cli *cli;
	const struct args *args;
	bool all;                       /* no names were given */
	struct watched *items;
	size_t count;
};

/* ---- figures ---- */

static double cpu_percent(const json_t *sample)
{
	const json_t *now = jo(sample, "cpu_stats"), *before = jo(sample, "precpu_stats");
	double used = jd(jo(now, "cpu_usage"), "total_usage") - jd(jo(before, "cpu_usage"), "total_usage");
	double system = jd(now, "system_cpu_usage") - jd(before, "system_cpu_usage");
	double cpus = jd(now, "online_cpus");
	if (cpus == 0)
		cpus = (double)json_array_size(jo(jo(now, "cpu_usage"), "percpu_usage"));
	return used > 0 && system > 0 ? used / system * cpus * 100 : 0;
}

/* Pages of files that could be dropped at once do not count. */
static double memory_used(const json_t *sample)
{
	const json_t *memory = jo(sample, "memory_stats"), *detail = jo(memory, "stats");
	double usage = jd(memory, "usage");
	const char *name = jo(detail, "total_inactive_file") ? "total_inactive_file" : "inactive_file";
	double inactive = jd(detail, name);
	return inactive < usage ? usage - inactive : usage;
}

static char *container_text(const struct row *row)
{
	const struct watched *item = row->extra;
	return short_id(item->id, row->list->no_trunc);
}

static char *name_text(const struct row *row)
{
	const struct watched *item = row->extra;
	return gt_xstrdup(item->name);
}

static char *cpu_text(const struct row *row)
{
	return row->item ? gt_xasprintf("%.2f%%", cpu_percent(row->item)) : gt_xstrdup("--");
}

static char *memory_text(const struct row *row)
{
	if (!row->item)
		return gt_xstrdup("-- / --");
	AUTO_FREE char *used = human_bytes(memory_used(row->item));
	AUTO_FREE char *limit = human_bytes(jd(jo(row->item, "memory_stats"), "limit"));
	return gt_xasprintf("%s / %s", used, limit);
}

static char *memory_percent_text(const struct row *row)
{
	double limit = jd(jo(row->item, "memory_stats"), "limit");
	return row->item ? gt_xasprintf("%.2f%%", limit > 0 ? memory_used(row->item) / limit * 100 : 0) : gt_xstrdup("--");
}

static char *pair_text(double in, double out)
{
	AUTO_FREE char *first = human_size(in, 3);
	AUTO_FREE char *second = human_size(out, 3);
	return gt_xasprintf("%s / %s", first, second);
}

static char *network_text(const struct row *row)
{
	double received = 0, sent = 0;
	const char *name;
	json_t *link;
	if (!row->item)
		return gt_xstrdup("--");
	json_object_foreach(jo(row->item, "networks"), name, link)
	{
		received += jd(link, "rx_bytes");
		sent += jd(link, "tx_bytes");
	}
	return pair_text(received, sent);
}

static char *block_text(const struct row *row)
{
	double in = 0, out = 0;
	size_t i;
	json_t *entry;
	if (!row->item)
		return gt_xstrdup("--");
	json_array_foreach(jo(jo(row->item, "blkio_stats"), "io_service_bytes_recursive"), i, entry)
	{
		if (strcasecmp(js(entry, "op"), "read") == 0)
			in += jd(entry, "value");
		else if (strcasecmp(js(entry, "op"), "write") == 0)
			out += jd(entry, "value");
	}
	return pair_text(in, out);
}

static char *pids_text(const struct row *row)
{
	return row->item ? gt_xasprintf("%lld", (long long)ji(jo(row->item, "pids_stats"), "current")) : gt_xstrdup("--");
}

static const struct column columns[] = {
	{ "BlockIO", "BLOCK I/O", block_text },  { "CPUPerc", "CPU %", cpu_text },
	{ "Container", "CONTAINER", container_text }, { "ID", "CONTAINER ID", container_text },
	{ "MemPerc", "MEM %", memory_percent_text }, { "MemUsage", "MEM USAGE / LIMIT", memory_text },
	{ "Name", "NAME", name_text },           { "NetIO", "NET I/O", network_text },
	{ "PIDs", "PIDS", pids_text },           { NULL, NULL, NULL },
};

/* ---- streams ---- */

static void forget(struct watched *item)
{
	http_close(item->stream);
	json_decref(item->sample);
	gt_buf_free(&item->pending);
	free(item->id);
	free(item->name);
}

static int watch(struct stats *stats, const char *id, const char *name, struct gt_error *err)
{
	AUTO_BUF struct gt_buf path = { 0 };
	url_path(&path, "/containers/", id, "/stats");
	url_param(&path, "stream", "1");
	struct http_request request = { .method = "GET", .path = path.data };
	struct http_response *stream = api_open(stats->cli, &request, err);
	if (!stream)
		return -1;
	stats->items = gt_xrealloc(stats->items, (stats->count + 1) * sizeof *stats->items);
	stats->items[stats->count++] = (struct watched){
		.id = gt_xstrdup(id), .name = gt_xstrdup(name + (*name == '/')), .stream = stream, .listed = true
	};
	return 0;
}

static struct watched *find(struct stats *stats, const char *id)
{
	for (size_t i = 0; i < stats->count; i++) {
		if (strcmp(stats->items[i].id, id) == 0)
			return &stats->items[i];
	}
	return NULL;
}

/* Brings the set in line with the list of containers. */
static int refresh(struct stats *stats, struct gt_error *err)
{
	AUTO_JSON json_t *list =
		api_get(stats->cli, arg_bool(stats->args, "all") ? "/containers/json?all=1" : "/containers/json", err);
	size_t i, kept = 0;
	json_t *container;
	if (!list)
		return -1;
	for (i = 0; i < stats->count; i++)
		stats->items[i].listed = false;
	json_array_foreach(list, i, container)
	{
		struct watched *item = find(stats, js(container, "Id"));
		if (item)
			item->listed = true;
		else
			watch(stats, js(container, "Id"), jv(json_array_get(jo(container, "Names"), 0)),
			      NULL); /* gone again: fine */
	}
	for (i = 0; i < stats->count; i++) {
		if (stats->items[i].listed)
			stats->items[kept++] = stats->items[i];
		else
			forget(&stats->items[i]);
	}
	stats->count = kept;
	return 0;
}

static int watch_named(struct stats *stats, struct gt_error *err)
{
	for (int i = 0; i < stats->args->count; i++) {
		AUTO_JSON json_t *container = container_inspect(stats->cli, stats->args->operands[i], err);
		if (!container || watch(stats, js(container, "Id"), js(container, "Name"), err) < 0)
			return -1;
	}
	return 0;
}

static void take_samples(struct watched *item)
{
	char *end;
	while ((end = item->pending.len ? memchr(item->pending.data, '\n', item->pending.len) : NULL)) {
		size_t len = (size_t)(end - item->pending.data);
		json_t *sample = gt_json_parse(item->pending.data, len, "sample", NULL);
		gt_buf_consume(&item->pending, len + 1);
		if (!sample)
			continue;
		json_decref(item->sample);
		item->sample = sample;
		item->samples++;
	}
}

static void read_stream(struct watched *item)
{
	const char *bytes;
	bool idle;
	ssize_t got = http_next_timed(item->stream, &bytes, 0, &idle, NULL);
	if (got > 0) {
		gt_buf_add(&item->pending, bytes, (size_t)got);
		take_samples(item);
	}
	if ((got <= 0 && !idle) || item->pending.len > MAX_SAMPLE) {
		http_close(item->stream);
		item->stream = NULL;
		json_decref(item->sample);
		item->sample = NULL;
	}
}

/* Reads what comes within a time; stops early where every stream has had `enough` samples (0: never). */
static void collect(struct stats *stats, int64_t milliseconds, int enough)
{
	int64_t end = gt_monotonic() + milliseconds * GT_MILLISECOND;
	struct pollfd *look = gt_xcalloc(stats->count + 1, sizeof *look);
	for (;;) {
		int64_t left = (end - gt_monotonic()) / GT_MILLISECOND;
		bool lacking = enough == 0;
		for (size_t i = 0; i < stats->count; i++) {
			struct watched *item = &stats->items[i];
			look[i] = (struct pollfd){ .fd = -1, .events = POLLIN };
			if (!item->stream)
				continue;
			lacking |= item->samples < enough;
			look[i].fd = http_poll_fd(item->stream);
			if (look[i].fd < 0)
				left = 0;
		}
		if (!lacking || (left <= 0 && gt_monotonic() >= end))
			break;
		poll(look, stats->count, left > 0 ? (int)left : 0);
		for (size_t i = 0; i < stats->count; i++) {
			if (stats->items[i].stream && (look[i].fd < 0 || look[i].revents))
				read_stream(&stats->items[i]);
		}
	}
	free(look);
}

static int draw(const struct stats *stats, const struct list *list, bool clear, struct gt_error *err)
{
	struct printer *printer = printer_new(list, arg_string(stats->args, "format"), false, err);
	int done = printer ? 0 : -1;
	if (clear)
		fputs("\033[2J\033[H", stdout);
	for (size_t i = 0; done == 0 && i < stats->count; i++)
		done = printer_add(printer, stats->items[i].sample, &stats->items[i], err);
	if (done == 0)
		done = printer_end(printer, err);
	printer_free(printer);
	fflush(stdout);
	return done;
}

static int run(struct stats *stats, const struct list *list, struct gt_error *err)
{
	bool live = !arg_bool(stats->args, "no-stream");
	if ((stats->all ? refresh(stats, err) : watch_named(stats, err)) < 0)
		return -1;
	/* Two samples make a difference, from which the CPU share comes. */
	collect(stats, 3000, 2);
	if (!live)
		return draw(stats, list, false, err);
	while (!ferror(stdout)) {
		if (draw(stats, list, isatty(1), err) < 0)
			return -1;
		collect(stats, 1000, 0);
		if (stats->all && refresh(stats, err) < 0)
			return -1;
		bool any = stats->all;
		for (size_t i = 0; i < stats->count; i++)
			any |= stats->items[i].stream != NULL;
		if (!any)
			break;
	}
	return 0;
}

int command_stats(struct cli *cli, struct args *args, struct gt_error *err)
{
	struct stats stats = { .cli = cli, .args = args, .all = args->count == 0 };
	struct list list = {
		.columns = columns,
		.table = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
		.no_trunc = arg_bool(args, "no-trunc"),
	};
	int done = run(&stats, &list, err);
	for (size_t i = 0; i < stats.count; i++)
		forget(&stats.items[i]);
	free(stats.items);
	return done;
}
