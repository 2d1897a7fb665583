/*
 * inspect.c - `gantry inspect` and its forms for one kind: the daemon's JSON as it is, or through a template.
 */
#include "inspect.h"

#include <string.h>

#include "api.h"
#include "container.h"
#include "list.h"

static json_t *fetch(struct cli *cli, const char *before, const char *name, const char *after, bool slashes,
		     struct gt_error *err)
{
	AUTO_BUF struct gt_buf path = { 0 };
	if (!*name)
		return gt_fail_null(err, GT_INVALID, "the name is empty");
	if (slashes)
		url_image(&path, before, name, after);
	else
		url_path(&path, before, name, after);
	return api_get(cli, path.data, err);
}

static json_t *get_container(struct cli *cli, const struct args *args, const char *name, struct gt_error *err)
{
	bool size = arg_has_flag(args, "size") && arg_bool(args, "size");
	return fetch(cli, "/containers/", name, size ? "/json?size=1" : "/json", false, err);
}

static json_t *get_image(struct cli *cli, const struct args *args, const char *name, struct gt_error *err)
{
	(void)args;
	return fetch(cli, "/images/", name, "/json", true, err);
}

static json_t *get_volume(struct cli *cli, const struct args *args, const char *name, struct gt_error *err)
{
	(void)args;
	return fetch(cli, "/volumes/", name, "", false, err);
}

static json_t *get_network(struct cli *cli, const struct args *args, const char *name, struct gt_error *err)
{
	bool verbose = arg_has_flag(args, "verbose") && arg_bool(args, "verbose");
	return fetch(cli, "/networks/", name, verbose ? "?verbose=1" : "", false, err);
}

static json_t *get_plugin(struct cli *cli, const struct args *args, const char *name, struct gt_error *err)
{
	(void)args;
	return fetch(cli, "/plugins/", name, "/json", true, err);
}

static const struct {
	const char *type;
	inspect_function *get;
} kinds[] = {
	{ "container", get_container }, { "image", get_image },	  { "network", get_network },
	{ "volume", get_volume },	{ "plugin", get_plugin },
};

static json_t *get_any(struct cli *cli, const struct args *args, const char *name, struct gt_error *err)
{
	const char *type = arg_string(args, "type");
	bool known = !*type;
	for (size_t i = 0; i < GT_COUNT(kinds); i++) {
		if (*type && strcmp(type, kinds[i].type) != 0)
			continue;
		known = true;
		gt_error_clear(err);
		json_t *object = kinds[i].get(cli, args, name, err);
		if (object)
			return object;
		if (*type || (err->kind != GT_NOT_FOUND && err->kind != GT_INVALID && err->kind != GT_UNSUPPORTED))
			return NULL;
	}
	if (!known)
		return gt_fail_null(err, GT_INVALID,
				    "unknown type: \"%s\": it is container, image, network, volume or plugin", type);
	return gt_fail_null(err, GT_NOT_FOUND, "Error: No such object: %s", name);
}

static int print_one(const struct template *template, const json_t *object, struct gt_error *err)
{
	AUTO_BUF struct gt_buf out = { 0 };
	struct template_root root = { .json = object };
	if (template_execute(template, &root, &out, err) < 0)
		return -1;
	gt_buf_char(&out, '\n');
	fwrite(out.data, 1, out.len, stdout);
	return 0;
}

int inspect_all(struct cli *cli, struct args *args, inspect_function *get, struct gt_error *err)
{
	const char *format = arg_string(args, "format");
	AUTO_JSON json_t *found = json_array();
	struct template *template = NULL;
	int status = 0;
	if (*format) {
		template = template_parse(strcmp(format, "json") == 0 ? "{{json .}}" : format, err);
		if (!template)
			return -1;
	}
	for (int i = 0; i < args->count; i++) {
		struct gt_error why = { 0 };
		AUTO_JSON json_t *object = get(cli, args, args->operands[i], &why);
		if (object && !template)
			json_array_append(found, object);
		if (!object || (template && print_one(template, object, &why) < 0)) {
			if (!template && status == 0 && json_array_size(found) == 0 && args->count == 1)
				puts("[]");
			cli_print_error(cli, &why);
			status = 1;
		}
	}
	template_free(template);
	if (json_array_size(found) > 0) {
		json_dumpf(found, stdout, JSON_INDENT(4));
		putchar('\n');
	}
	return status;
}

int command_inspect(struct cli *cli, struct args *args, struct gt_error *err)
{
	return inspect_all(cli, args, get_any, err);
}

int command_container_inspect(struct cli *cli, struct args *args, struct gt_error *err)
{
	return inspect_all(cli, args, get_container, err);
}

int command_image_inspect(struct cli *cli, struct args *args, struct gt_error *err)
{
	return inspect_all(cli, args, get_image, err);
}

int command_volume_inspect(struct cli *cli, struct args *args, struct gt_error *err)
{
	return inspect_all(cli, args, get_volume, err);
}

int command_network_inspect(struct cli *cli, struct args *args, struct gt_error *err)
{
	return inspect_all(cli, args, get_network, err);
}

int command_plugin_inspect(struct cli *cli, struct args *args, struct gt_error *err)
{
	return inspect_all(cli, args, get_plugin, err);
}
