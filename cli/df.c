/*
 * df.c - `gantry system df`: what images, containers, volumes and the build cache take.
 */
#include <string.h>

#include "api.h"
#include "humanize.h"
#include "list.h"
#include "container.h"
#include "image.h"
#include "other.h"

struct usage {
	const char *type;
	size_t total, active;
	double size, reclaimable;
	bool percent;
};

static const struct usage *of(const struct row *row) { return row->extra; }
static char *type_text(const struct row *row) { return gt_xstrdup(of(row)->type); }
static char *total_text(const struct row *row) { return gt_xasprintf("%zu", of(row)->total); }
static char *active_text(const struct row *row) { return gt_xasprintf("%zu", of(row)->active); }
static char *size_text(const struct row *row) { return human_size(of(row)->size, 4); }

static char *reclaimable_text(const struct row *row)
{
	const struct usage *usage = of(row);
	AUTO_FREE char *size = human_size(usage->reclaimable, 4);
	if (usage->percent && usage->size > 0)
		return gt_xasprintf("%s (%d%%)", size, (int)(usage->reclaimable / usage->size * 100));
	return gt_xstrdup(size);
}

static const struct column columns[] = {
	{ "Active", "ACTIVE", active_text }, { "Reclaimable", "RECLAIMABLE", reclaimable_text },
	{ "Size", "SIZE", size_text },	     { "TotalCount", "TOTAL", total_text },
	{ "Type", "TYPE", type_text },	     { NULL, NULL, NULL },
};

static bool alive(const json_t *container)
{
	const char *state = js(container, "State");
	return strcmp(state, "running") == 0 || strcmp(state, "paused") == 0 || strcmp(state, "restarting") == 0;
}

static void add_images(const json_t *df, struct usage *usage)
{
	size_t i;
	json_t *image;
	double used = 0;
	*usage = (struct usage){ .type = "Images", .size = jd(df, "LayersSize"), .percent = true };
	json_array_foreach(jo(df, "Images"), i, image)
	{
		usage->total++;
		if (ji(image, "Containers") > 0) {
			usage->active++;
			if (ji(image, "Size") >= 0 && ji(image, "SharedSize") >= 0)
				used += jd(image, "Size") - jd(image, "SharedSize");
		}
	}
	usage->reclaimable = usage->size - used;
}

static void add_containers(const json_t *df, struct usage *usage)
{
	size_t i;
	json_t *container;
	*usage = (struct usage){ .type = "Containers", .percent = true };
	json_array_foreach(jo(df, "Containers"), i, container)
	{
		usage->total++;
		usage->size += jd(container, "SizeRw");
		if (alive(container))
			usage->active++;
		else
			usage->reclaimable += jd(container, "SizeRw");
	}
}

static void add_volumes(const json_t *df, struct usage *usage)
{
	size_t i;
	json_t *volume;
	*usage = (struct usage){ .type = "Local Volumes", .percent = true };
	json_array_foreach(jo(df, "Volumes"), i, volume)
	{
		const json_t *data = jo(volume, "UsageData");
		double size = jd(data, "Size") > 0 ? jd(data, "Size") : 0;
		usage->total++;
		usage->size += size;
		if (ji(data, "RefCount") > 0)
			usage->active++;
		else
			usage->reclaimable += size;
	}
}

static void add_cache(const json_t *df, struct usage *usage)
{
	size_t i;
	json_t *record;
	*usage = (struct usage){ .type = "Build Cache" };
	json_array_foreach(jo(df, "BuildCache"), i, record)
	{
		usage->total++;
		if (!jb(record, "Shared"))
			usage->size += jd(record, "Size");
		if (jb(record, "InUse"))
			usage->active++;
		else if (!jb(record, "Shared"))
			usage->reclaimable += jd(record, "Size");
	}
}

static int print_summary(const json_t *df, const char *format, struct gt_error *err)
{
	static const struct list list = { .columns = columns,
					  .table = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}" };
	struct usage usages[4];
	add_images(df, &usages[0]);
	add_containers(df, &usages[1]);
	add_volumes(df, &usages[2]);
	add_cache(df, &usages[3]);
	struct printer *printer = printer_new(&list, format, false, err);
	int done = printer ? 0 : -1;
	for (size_t i = 0; done == 0 && i < GT_COUNT(usages); i++)
		done = printer_add(printer, NULL, &usages[i], err);
	if (done == 0)
		done = printer_end(printer, err);
	printer_free(printer);
	return done;
}

/* ---- --verbose: one table for each kind ---- */

static void image_lines(const json_t *df, struct gt_buf *lines)
{
	size_t i;
	json_t *image;
	gt_buf_str(lines, "REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE\tSHARED SIZE\tUNIQUE SIZE\tCONTAINERS\n");
	json_array_foreach(jo(df, "Images"), i, image)
	{
		AUTO_FREE char *name = NULL, *tag = NULL;
		split_reference(jv(json_array_get(jo(image, "RepoTags"), 0)), &name, &tag);
		double shared_bytes = jd(image, "SharedSize") > 0 ? jd(image, "SharedSize") : 0;
		AUTO_FREE char *id = short_id(js(image, "Id"), false);
		AUTO_FREE char *created = human_ago(ji(image, "Created"));
		AUTO_FREE char *size = human_size(jd(image, "Size"), 4);
		AUTO_FREE char *shared = human_size(shared_bytes, 4);
		AUTO_FREE char *unique = human_size(jd(image, "Size") - shared_bytes, 4);
		gt_buf_printf(lines, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%lld\n", *name ? name : "<none>",
			      tag ? tag : "<none>", id, created, size, shared, unique,
			      (long long)ji(image, "Containers"));
	}
}

static void volume_lines(const json_t *df, struct gt_buf *lines)
{
	size_t i;
	json_t *volume;
	gt_buf_str(lines, "VOLUME NAME\tLINKS\tSIZE\n");
	json_array_foreach(jo(df, "Volumes"), i, volume)
	{
		const json_t *usage = jo(volume, "UsageData");
		AUTO_FREE char *size = human_size(jd(usage, "Size"), 4);
		gt_buf_printf(lines, "%s\t%lld\t%s\n", js(volume, "Name"), (long long)ji(usage, "RefCount"), size);
	}
}

static void cache_lines(const json_t *df, struct gt_buf *lines)
{
	size_t i;
	json_t *record;
	gt_buf_str(lines, "CACHE ID\tCACHE TYPE\tSIZE\tUSAGE\tSHARED\n");
	json_array_foreach(jo(df, "BuildCache"), i, record)
	{
		AUTO_FREE char *id = short_id(js(record, "ID"), false);
		AUTO_FREE char *size = human_size(jd(record, "Size"), 4);
		gt_buf_printf(lines, "%s\t%s\t%s\t%lld\t%s\n", id, js(record, "Type"), size,
			      (long long)ji(record, "UsageCount"), jb(record, "Shared") ? "true" : "false");
	}
}

static int print_details(const json_t *df, struct gt_error *err)
{
	static const struct {
		const char *title;
		void (*lines)(const json_t *df, struct gt_buf *lines);
	} parts[] = {
		{ "Images space usage:", image_lines },
		{ "\nLocal Volumes space usage:", volume_lines },
		{ "\nBuild cache usage:", cache_lines },
	};
	for (size_t i = 0; i < GT_COUNT(parts); i++) {
		AUTO_BUF struct gt_buf lines = { 0 };
		if (i == 1) {
			printf("\nContainers space usage:\n\n");
			if (ps_print_usage(jo(df, "Containers"), err) < 0)
				return -1;
		}
		parts[i].lines(df, &lines);
		printf("%s\n\n", parts[i].title);
		if (table_print(lines.data, err) < 0)
			return -1;
	}
	return 0;
}

int command_df(struct cli *cli, struct args *args, struct gt_error *err)
{
	const char *format = arg_string(args, "format");
	bool verbose = arg_bool(args, "verbose");
	if (verbose && *format && strcmp(format, "json") != 0)
		return gt_fail(err, GT_INVALID, "--verbose takes no --format but json");
	AUTO_JSON json_t *df = api_get(cli, "/system/df", err);
	if (!df)
		return -1;
	if (verbose && *format) {
		json_dumpf(df, stdout, JSON_COMPACT);
		putchar('\n');
		return 0;
	}
	return verbose ? print_details(df, err) : print_summary(df, format, err);
}
