/*
 * network.c - `gantry network`.
 */
#include <arpa/inet.h>
#include <string.h>

#include "api.h"
#include "container.h"
#include "humanize.h"
#include "list.h"
#include "other.h"

static char *id_text(const struct row *row) { return short_id(js(row->item, "Id"), row->list->no_trunc); }
static char *name_text(const struct row *row) { return gt_xstrdup(js(row->item, "Name")); }
static char *driver_text(const struct row *row) { return gt_xstrdup(js(row->item, "Driver")); }
static char *scope_text(const struct row *row) { return gt_xstrdup(js(row->item, "Scope")); }
static char *ipv4_text(const struct row *row) { return gt_xstrdup(jb(row->item, "EnableIPv4") ? "true" : "false"); }
static char *ipv6_text(const struct row *row) { return gt_xstrdup(jb(row->item, "EnableIPv6") ? "true" : "false"); }
static char *internal_text(const struct row *row) { return gt_xstrdup(jb(row->item, "Internal") ? "true" : "false"); }
static char *labels_text(const struct row *row) { return join_labels(jo(row->item, "Labels")); }

/* "2026-01-02T03:04:05.6Z" as "2026-01-02 03:04:05.6 +0000 UTC". */
static char *created_text(const struct row *row)
{
	const char *text = js(row->item, "Created");
	size_t len = strlen(text);
	if (len < 20 || text[10] != 'T' || text[len - 1] != 'Z')
		return gt_xstrdup(text);
	return gt_xasprintf("%.10s %.*s +0000 UTC", text, (int)(len - 12), text + 11);
}

static char *label_text(const struct row *row, const char *name)
{
	return label_of(jo(row->item, "Labels"), name);
}

static const struct column columns[] = {
	{ "CreatedAt", "CREATED AT", created_text },
	{ "Driver", "DRIVER", driver_text },
	{ "ID", "NETWORK ID", id_text },
	{ "IPv4", "IPV4", ipv4_text },
	{ "IPv6", "IPV6", ipv6_text },
	{ "Internal", "INTERNAL", internal_text },
	{ "Labels", "LABELS", labels_text },
	{ "Name", "NAME", name_text },
	{ "Scope", "SCOPE", scope_text },
	{ NULL, NULL, NULL },
};

static int by_name(const void *a, const void *b)
{
	return strcmp(js(*(json_t *const *)a, "Name"), js(*(json_t *const *)b, "Name"));
}

static json_t *sorted(const json_t *items)
{
	size_t count = json_array_size(items);
	json_t **all = gt_xcalloc(count + 1, sizeof(json_t *));
	json_t *out = json_array();
	for (size_t i = 0; i < count; i++)
		all[i] = json_array_get(items, i);
	qsort(all, count, sizeof(json_t *), by_name);
	for (size_t i = 0; i < count; i++)
		json_array_append(out, all[i]);
	free(all);
	return out;
}

int command_network_ls(struct cli *cli, struct args *args, struct gt_error *err)
{
	struct list list = { .columns = columns, .label = label_text, .table = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
			     .quiet = "{{.ID}}", .no_trunc = arg_bool(args, "no-trunc") };
	AUTO_BUF struct gt_buf path = { 0 };
	url_path(&path, "/networks");
	url_filters(&path, arg_list(args, "filter"));
	AUTO_JSON json_t *answer = api_get(cli, path.data, err);
	AUTO_JSON json_t *items = answer ? sorted(answer) : NULL;
	return items ? list_print(&list, arg_string(args, "format"), arg_bool(args, "quiet"), items, err) : -1;
}

/* ---- create ---- */

/* Does the address (or range) lie in the subnet? */
static bool contains(const char *subnet, const char *address)
{
	unsigned char net[16], ip[16];
	size_t net_len = strcspn(subnet, "/"), ip_len = strcspn(address, "/");
	AUTO_FREE char *net_text = gt_xstrndup(subnet, net_len);
	AUTO_FREE char *ip_text = gt_xstrndup(address, ip_len);
	int family = strchr(subnet, ':') ? AF_INET6 : AF_INET;
	int64_t bits = -1;
	if (subnet[net_len] && parse_int(subnet + net_len + 1, &bits) < 0)
		return false;
	if (bits < 0 || bits > (family == AF_INET ? 32 : 128) || inet_pton(family, net_text, net) != 1 ||
	    inet_pton(family, ip_text, ip) != 1)
		return false;
	for (int i = 0; i < bits; i++) {
		if (((net[i / 8] ^ ip[i / 8]) >> (7 - i % 8)) & 1)
			return false;
	}
	return true;
}

/* The pool to which a gateway or range belongs: the subnet it lies in; with one subnet alone, that one. */
static json_t *pool_of(json_t *pools, const char *address)
{
	size_t i;
	json_t *pool;
	json_array_foreach(pools, i, pool)
	{
		if (contains(js(pool, "Subnet"), address))
			return pool;
	}
	return NULL;
}

static int assign(json_t *pools, const struct gt_strings *values, const char *field, const char *what, struct gt_error *err)
{
	for (size_t i = 0; i < values->count; i++) {
		json_t *pool = pool_of(pools, values->items[i]);
		if (!pool)
			return gt_fail(err, GT_INVALID, "no matching subnet for %s %s", what, values->items[i]);
		if (json_object_get(pool, field))
			return gt_fail(err, GT_INVALID, "a second %s (%s) is given for subnet %s", what,
				       values->items[i], js(pool, "Subnet"));
		json_object_set_new(pool, field, json_string(values->items[i]));
	}
	return 0;
}

static int assign_auxiliary(json_t *pools, const struct gt_strings *values, struct gt_error *err)
{
	for (size_t i = 0; i < values->count; i++) {
		const char *equals = strchr(values->items[i], '=');
		json_t *pool = equals ? pool_of(pools, equals + 1) : NULL;
		if (!pool)
			return gt_fail(err, GT_INVALID, "no matching subnet for aux-address %s", values->items[i]);
		AUTO_FREE char *name = gt_xstrndup(values->items[i], (size_t)(equals - values->items[i]));
		json_t *all = json_object_get(pool, "AuxiliaryAddresses");
		if (!all) {
			all = json_object();
			json_object_set_new(pool, "AuxiliaryAddresses", all);
		}
		json_object_set_new(all, name, json_string(equals + 1));
	}
	return 0;
}

static json_t *ipam(const struct args *args, struct gt_error *err)
{
	AUTO_JSON json_t *pools = json_array();
	const struct gt_strings *subnets = arg_list(args, "subnet");
	for (size_t i = 0; i < subnets->count; i++) {
		if (!strchr(subnets->items[i], '/'))
			return gt_fail_null(err, GT_INVALID, "invalid subnet %s: it reads ADDRESS/BITS", subnets->items[i]);
		json_array_append_new(pools, json_pack("{s:s}", "Subnet", subnets->items[i]));
	}
	if (assign(pools, arg_list(args, "ip-range"), "IPRange", "ip-range", err) < 0 ||
	    assign(pools, arg_list(args, "gateway"), "Gateway", "gateway", err) < 0 ||
	    assign_auxiliary(pools, arg_list(args, "aux-address"), err) < 0)
		return NULL;
	json_t *out = json_pack("{s:s,s:O}", "Driver", arg_string(args, "ipam-driver"), "Config", pools);
	jset(out, "Options", jmap(arg_list(args, "ipam-opt")));
	return out;
}

int command_network_create(struct cli *cli, struct args *args, struct gt_error *err)
{
	AUTO_JSON json_t *body = json_object();
	AUTO_JSON json_t *answer = NULL;
	json_t *addresses = ipam(args, err);
	if (!addresses)
		return -1;
	json_object_set_new(body, "IPAM", addresses);
	json_object_set_new(body, "Name", json_string(args->operands[0]));
	json_object_set_new(body, "Driver", json_string(arg_string(args, "driver")));
	json_object_set_new(body, "Internal", json_boolean(arg_bool(args, "internal")));
	json_object_set_new(body, "Attachable", json_boolean(arg_bool(args, "attachable")));
	if (arg_given(args, "ipv4"))
		json_object_set_new(body, "EnableIPv4", json_boolean(arg_bool(args, "ipv4")));
	if (arg_given(args, "ipv6"))
		json_object_set_new(body, "EnableIPv6", json_boolean(arg_bool(args, "ipv6")));
	if (arg_bool(args, "config-only"))
		json_object_set_new(body, "ConfigOnly", json_true());
	if (arg_string(args, "config-from"))
		json_object_set_new(body, "ConfigFrom", json_pack("{s:s}", "Network", arg_string(args, "config-from")));
	jset_str(body, "Scope", arg_string(args, "scope"));
	jset(body, "Options", jmap(arg_list(args, "opt")));
	jset(body, "Labels", jmap(arg_list(args, "label")));
	if (api_call(cli, "POST", "/networks/create", body, &answer, err) < 0)
		return -1;
	if (*js(answer, "Warning"))
		cli_warn("%s", js(answer, "Warning"));
	puts(js(answer, "Id"));
	return 0;
}

/* ---- the rest ---- */

int command_network_connect(struct cli *cli, struct args *args, struct gt_error *err)
{
	AUTO_JSON json_t *endpoint = json_object();
	AUTO_JSON json_t *addresses = json_object();
	jset_str(addresses, "IPv4Address", arg_string(args, "ip"));
	jset_str(addresses, "IPv6Address", arg_string(args, "ip6"));
	jset(addresses, "LinkLocalIPs", jlist(arg_list(args, "link-local-ip")));
	if (json_object_size(addresses) > 0)
		json_object_set(endpoint, "IPAMConfig", addresses);
	jset(endpoint, "Aliases", jlist(arg_list(args, "alias")));
	jset(endpoint, "Links", jlist(arg_list(args, "link")));
	jset(endpoint, "DriverOpts", jmap(arg_list(args, "driver-opt")));
	if (arg_given(args, "gw-priority"))
		json_object_set_new(endpoint, "GwPriority", json_integer(arg_int(args, "gw-priority")));
	AUTO_JSON json_t *body = json_pack("{s:s,s:O}", "Container", args->operands[1], "EndpointConfig", endpoint);
	AUTO_BUF struct gt_buf path = { 0 };
	url_path(&path, "/networks/", args->operands[0], "/connect");
	return api_call(cli, "POST", path.data, body, NULL, err);
}

int command_network_disconnect(struct cli *cli, struct args *args, struct gt_error *err)
{
	AUTO_JSON json_t *body = json_pack("{s:s,s:b}", "Container", args->operands[1], "Force", arg_bool(args, "force"));
	AUTO_BUF struct gt_buf path = { 0 };
	url_path(&path, "/networks/", args->operands[0], "/disconnect");
	return api_call(cli, "POST", path.data, body, NULL, err);
}

static int remove_one(struct cli *cli, const char *name, void *arg, struct gt_error *err)
{
	const struct args *args = arg;
	AUTO_BUF struct gt_buf path = { 0 };
	url_path(&path, "/networks/", name, "");
	int done = api_call(cli, "DELETE", path.data, NULL, NULL, err);
	return done < 0 && err->kind == GT_NOT_FOUND && arg_bool(args, "force") ? 0 : done;
}

int command_network_rm(struct cli *cli, struct args *args, struct gt_error *err)
{
	(void)err;
	return cli_for_each(cli, args, true, remove_one, args);
}

int command_network_prune(struct cli *cli, struct args *args, struct gt_error *err)
{
	if (!arg_bool(args, "force") &&
	    !cli_confirm("WARNING! This will remove all custom networks not used by at least one container.\n"
			 "Are you sure you want to continue?"))
		return gt_fail(err, GT_CANCELLED, "network prune has been cancelled");
	AUTO_BUF struct gt_buf path = { 0 };
	AUTO_JSON json_t *answer = NULL;
	url_path(&path, "/networks/prune");
	url_filters(&path, arg_list(args, "filter"));
	if (api_call(cli, "POST", path.data, NULL, &answer, err) < 0)
		return -1;
	print_deleted("Deleted Networks:", jo(answer, "NetworksDeleted"));
	return 0;
}
