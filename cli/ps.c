/*
 * ps.c - `gantry ps`: the columns of a list of containers.
 */
#include <string.h>

#include "api.h"
#include "container.h"
#include "humanize.h"
#include "list.h"

static char *id_text(const struct row *row)
{
	return short_id(js(row->item, "Id"), row->list->no_trunc);
}

/* A container's own name; with --no-trunc also the names that links give it. */
static char *names_text(const struct row *row)
{
	struct gt_buf out = { 0 };
	size_t i;
	json_t *item;
	json_array_foreach(jo(row->item, "Names"), i, item)
	{
		const char *name = jv(item);
		name += *name == '/';
		if (strchr(name, '/') && !row->list->no_trunc)
			continue;
		gt_buf_printf(&out, "%s%s", out.len ? "," : "", name);
	}
	return gt_buf_take(&out);
}

static char *image_text(const struct row *row)
{
	const char *image = js(row->item, "Image"), *id = js(row->item, "ImageID");
	if (!*image)
		return gt_xstrdup("<no image>");
	if (row->list->no_trunc)
		return gt_xstrdup(image);
	const char *bare = strncmp(image, "sha256:", 7) == 0 ? image + 7 : image;
	const char *bare_id = strncmp(id, "sha256:", 7) == 0 ? id + 7 : id;
	if (strlen(bare) >= 12 && strncmp(bare, bare_id, strlen(bare)) == 0)
		return short_id(image, false);
	const char *digest = strchr(image, '@');
	return digest ? gt_xstrndup(image, (size_t)(digest - image)) : gt_xstrdup(image);
}

static char *command_text(const struct row *row)
{
	AUTO_FREE char *cut = ellipsis(js(row->item, "Command"), row->list->no_trunc ? INT64_MAX : 20);
	return quoted(cut);
}

static char *created_text(const struct row *row)
{
	return human_time(ji(row->item, "Created"));
}

static char *running_text(const struct row *row)
{
	return human_ago(ji(row->item, "Created"));
}

static char *state_text(const struct row *row)
{
	return gt_xstrdup(js(row->item, "State"));
}

static char *status_text(const struct row *row)
{
	return gt_xstrdup(js(row->item, "Status"));
}

static char *size_text(const struct row *row)
{
	AUTO_FREE char *rw = human_size(jd(row->item, "SizeRw"), 3);
	AUTO_FREE char *root = human_size(jd(row->item, "SizeRootFs"), 3);
	return ji(row->item, "SizeRootFs") > 0 ? gt_xasprintf("%s (virtual %s)", rw, root) : gt_xstrdup(rw);
}

static char *labels_text(const struct row *row)
{
	return join_labels(jo(row->item, "Labels"));
}

static char *mounts_text(const struct row *row)
{
	struct gt_buf out = { 0 };
	size_t i;
	json_t *mount;
	json_array_foreach(jo(row->item, "Mounts"), i, mount)
	{
		const char *name = *js(mount, "Name") ? js(mount, "Name") : js(mount, "Source");
		AUTO_FREE char *cut = ellipsis(name, row->list->no_trunc ? INT64_MAX : 15);
		gt_buf_printf(&out, "%s%s", out.len ? "," : "", cut);
	}
	return gt_buf_take(&out);
}

static char *volumes_text(const struct row *row)
{
	size_t i, count = 0;
	json_t *mount;
	json_array_foreach(jo(row->item, "Mounts"), i, mount)
	{
		count += strcmp(js(mount, "Driver"), "local") == 0;
	}
	return gt_xasprintf("%zu", count);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static char *networks_text(const struct row *row)
{
	json_t *networks = jo(jo(row->item, "NetworkSettings"), "Networks"), *value;
	size_t count = json_object_size(networks), i = 0;
	const char **names = gt_xcalloc(count + 1, sizeof *names), *name;
	struct gt_buf out = { 0 };
	json_object_foreach(networks, name, value)
	{
		names[i++] = name;
	}
	qsort(names, count, sizeof *names, by_name);
	for (i = 0; i < count; i++)
		gt_buf_printf(&out, "%s%s", i ? "," : "", names[i]);
	free(names);
	return gt_buf_take(&out);
}

static char *platform_text(const struct row *row)
{
	const json_t *platform = jo(jo(row->item, "ImageManifestDescriptor"), "platform");
	return platform ? gt_xasprintf("%s/%s", js(platform, "os"), js(platform, "architecture")) : NULL;
}

/* ---- ports ---- */

struct port {
	const char *address, *protocol;
	int64_t inside, outside;
};

/* Ports of one address and protocol that follow each other are shown as one range. */
struct group {
	const char *address, *protocol;
	int64_t first, last;
};

static int by_port(const void *left, const void *right)
{
	const struct port *a = left, *b = right;
	if (a->inside != b->inside)
		return a->inside < b->inside ? -1 : 1;
	int order = strcmp(a->address, b->address);
	if (order)
		return order;
	if (a->outside != b->outside)
		return a->outside < b->outside ? -1 : 1;
	return strcmp(a->protocol, b->protocol);
}

static void separate(struct gt_buf *out)
{
	if (out->len)
		gt_buf_str(out, ", ");
}

static void put_address(struct gt_buf *out, const char *address)
{
	gt_buf_printf(out, strchr(address, ':') ? "[%s]:" : "%s:", address);
}

static void put_group(struct gt_buf *out, const struct group *group)
{
	char range[48];
	if (group->first == group->last)
		snprintf(range, sizeof range, "%lld", (long long)group->first);
	else
		snprintf(range, sizeof range, "%lld-%lld", (long long)group->first, (long long)group->last);
	separate(out);
	if (*group->address) {
		put_address(out, group->address);
		gt_buf_printf(out, "%s->", range);
	}
	gt_buf_printf(out, "%s/%s", range, group->protocol);
}

static struct group *group_of(struct group *groups, size_t count, const struct port *port)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(groups[i].address, port->address) == 0 && strcmp(groups[i].protocol, port->protocol) == 0)
			return &groups[i];
	}
	return NULL;
}

static char *ports_text(const struct row *row)
{
	const json_t *list = jo(row->item, "Ports");
	size_t count = json_array_size(list), group_count = 0;
	struct port *ports = gt_xcalloc(count + 1, sizeof *ports);
	struct group *groups = gt_xcalloc(count + 1, sizeof *groups);
	struct gt_buf out = { 0 };
	AUTO_BUF struct gt_buf mapped = { 0 };
	for (size_t i = 0; i < count; i++) {
		const json_t *port = json_array_get(list, i);
		ports[i] = (struct port){ js(port, "IP"), js(port, "Type"), ji(port, "PrivatePort"), ji(port, "PublicPort") };
	}
	qsort(ports, count, sizeof *ports, by_port);
	for (size_t i = 0; i < count; i++) {
		const struct port *port = &ports[i];
		if (*port->address && port->outside != port->inside) {
			separate(&mapped);
			put_address(&mapped, port->address);
			gt_buf_printf(&mapped, "%lld->%lld/%s", (long long)port->outside, (long long)port->inside,
				      port->protocol);
			continue;
		}
		struct group *group = group_of(groups, group_count, port);
		if (!group)
			groups[group_count++] = (struct group){ port->address, port->protocol, port->inside, port->inside };
		else if (port->inside == group->last + 1)
			group->last = port->inside;
		else if (port->inside != group->last) {
			put_group(&out, group);
			group->first = group->last = port->inside;
		}
	}
	for (size_t i = 0; i < group_count; i++)
		put_group(&out, &groups[i]);
	if (mapped.len) {
		separate(&out);
		gt_buf_add(&out, mapped.data, mapped.len);
	}
	free(ports);
	free(groups);
	return gt_buf_take(&out);
}

static char *label_text(const struct row *row, const char *name)
{
	return label_of(jo(row->item, "Labels"), name);
}

static const struct column columns[] = {
	{ "Command", "COMMAND", command_text },    { "CreatedAt", "CREATED AT", created_text },
	{ "ID", "CONTAINER ID", id_text },         { "Image", "IMAGE", image_text },
	{ "Labels", "LABELS", labels_text },       { "LocalVolumes", "LOCAL VOLUMES", volumes_text },
	{ "Mounts", "MOUNTS", mounts_text },       { "Names", "NAMES", names_text },
	{ "Networks", "NETWORKS", networks_text }, { "Platform", "PLATFORM", platform_text },
	{ "Ports", "PORTS", ports_text },          { "RunningFor", "CREATED", running_text },
	{ "Size", "SIZE", size_text },             { "State", "STATE", state_text },
	{ "Status", "STATUS", status_text },       { NULL, NULL, NULL },
};

#define TABLE "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"

int command_ps(struct cli *cli, struct args *args, struct gt_error *err)
{
	const char *format = arg_string(args, "format");
	bool size = arg_bool(args, "size"), latest = arg_bool(args, "latest");
	int64_t last = latest ? 1 : arg_int(args, "last");
	struct list list = {
		.columns = columns,
		.label = label_text,
		.table = size ? TABLE "\t{{.Size}}" : TABLE,
		.quiet = "{{.ID}}",
		.no_trunc = arg_bool(args, "no-trunc"),
	};
	AUTO_BUF struct gt_buf path = { 0 };
	url_path(&path, "/containers/json");
	url_flag(&path, "all", arg_bool(args, "all"));
	url_flag(&path, "size", size || (strstr(format, ".Size") && !arg_given(args, "size")));
	if (last > 0)
		url_int(&path, "limit", last);
	url_filters(&path, arg_list(args, "filter"));
	if (!*format && !arg_bool(args, "quiet"))
		format = js(config_load(cli, NULL), "psFormat");
	/* A bad template is told before the daemon is asked. */
	struct printer *printer = printer_new(&list, format, arg_bool(args, "quiet"), err);
	AUTO_JSON json_t *items = printer ? api_get(cli, path.data, err) : NULL;
	int done = items ? 0 : -1;
	for (size_t i = 0; done == 0 && i < json_array_size(items); i++)
		done = printer_add(printer, json_array_get(items, i), NULL, err);
	if (done == 0)
		done = printer_end(printer, err);
	printer_free(printer);
	return done;
}

int ps_print_usage(const json_t *containers, struct gt_error *err)
{
	static const struct list list = {
		.columns = columns,
		.table = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}"
			 "\t{{.Names}}",
	};
	return list_print(&list, "", false, containers, err);
}
