/*
 * volume.c - `gantry volume`.
 */
#include "other.h"

#include <string.h>

#include "api.h"
#include "container.h"
#include "humanize.h"
#include "list.h"
#include "spec.h"

static char *name_text(const struct row *row) { return gt_xstrdup(js(row->item, "Name")); }
static char *driver_text(const struct row *row) { return gt_xstrdup(js(row->item, "Driver")); }
static char *scope_text(const struct row *row) { return gt_xstrdup(js(row->item, "Scope")); }
static char *mountpoint_text(const struct row *row) { return gt_xstrdup(js(row->item, "Mountpoint")); }
static char *labels_text(const struct row *row) { return join_labels(jo(row->item, "Labels")); }
static char *none_text(const struct row *row) { (void)row; return gt_xstrdup("N/A"); }

static char *links_text(const struct row *row)
{
	const json_t *usage = jo(row->item, "UsageData");
	return usage ? gt_xasprintf("%lld", (long long)ji(usage, "RefCount")) : gt_xstrdup("N/A");
}

static char *size_text(const struct row *row)
{
	const json_t *usage = jo(row->item, "UsageData");
	return usage ? human_size(jd(usage, "Size"), 4) : gt_xstrdup("N/A");
}

static char *label_text(const struct row *row, const char *name)
{
	return label_of(jo(row->item, "Labels"), name);
}

static const struct column columns[] = {
	{ "Availability", "AVAILABILITY", none_text },
	{ "Driver", "DRIVER", driver_text },
	{ "Group", "GROUP", none_text },
	{ "Labels", "LABELS", labels_text },
	{ "Links", "LINKS", links_text },
	{ "Mountpoint", "MOUNTPOINT", mountpoint_text },
	{ "Name", "VOLUME NAME", name_text },
	{ "Scope", "SCOPE", scope_text },
	{ "Size", "SIZE", size_text },
	{ "Status", "STATUS", none_text },
	{ NULL, NULL, NULL },
};

int command_volume_ls(struct cli *cli, struct args *args, struct gt_error *err)
{
	static const struct list list = {
		.columns = columns, .label = label_text, .table = "{{.Driver}}\t{{.Name}}", .quiet = "{{.Name}}"
	};
	AUTO_BUF struct gt_buf path = { 0 };
	url_path(&path, "/volumes");
	url_filters(&path, arg_list(args, "filter"));
	AUTO_JSON json_t *answer = api_get(cli, path.data, err);
	if (!answer)
		return -1;
	cli_print_warnings(answer);
	return list_print(&list, arg_string(args, "format"), arg_bool(args, "quiet"), jo(answer, "Volumes"), err);
}

int command_volume_create(struct cli *cli, struct args *args, struct gt_error *err)
{
	AUTO_JSON json_t *body = json_object();
	AUTO_JSON json_t *answer = NULL;
	if (args->count == 1)
		json_object_set_new(body, "Name", json_string(args->operands[0]));
	json_object_set_new(body, "Driver", json_string(arg_string(args, "driver")));
	jset(body, "DriverOpts", jmap(arg_list(args, "opt")));
	jset(body, "Labels", jmap(arg_list(args, "label")));
	if (api_call(cli, "POST", "/volumes/create", body, &answer, err) < 0)
		return -1;
	puts(js(answer, "Name"));
	return 0;
}

static int remove_one(struct cli *cli, const char *name, void *arg, struct gt_error *err)
{
	const struct args *args = arg;
	AUTO_BUF struct gt_buf path = { 0 };
	url_path(&path, "/volumes/", name, "");
	url_flag(&path, "force", arg_bool(args, "force"));
	return api_call(cli, "DELETE", path.data, NULL, NULL, err);
}

int command_volume_rm(struct cli *cli, struct args *args, struct gt_error *err)
{
	(void)err;
	return cli_for_each(cli, args, true, remove_one, args);
}

int command_volume_prune(struct cli *cli, struct args *args, struct gt_error *err)
{
	bool all = arg_bool(args, "all");
	if (!arg_bool(args, "force") &&
	    !cli_confirm(all ? "WARNING! This will remove all local volumes not used by at least one container.\n"
			       "Are you sure you want to continue?"
			     : "WARNING! This will remove anonymous local volumes not used by at least one container.\n"
			       "Are you sure you want to continue?"))
		return gt_fail(err, GT_CANCELLED, "volume prune has been cancelled");
	AUTO_BUF struct gt_buf path = { 0 };
	AUTO_JSON json_t *answer = NULL;
	AUTO_JSON json_t *filters = filters_json(arg_list(args, "filter"));
	if (all)
		json_object_set_new(filters, "all", json_pack("{s:b}", "true", 1));
	url_path(&path, "/volumes/prune");
	url_filters_json(&path, filters);
	if (api_call(cli, "POST", path.data, NULL, &answer, err) < 0)
		return -1;
	print_deleted("Deleted Volumes:", jo(answer, "VolumesDeleted"));
	return print_reclaimed(answer);
}
