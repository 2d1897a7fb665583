/*
 * inspect.c - Docker's ImageInspect and history of one image.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "platform.h"

static json_t *digest_id(const char *hex)
{
	char text[72];
	snprintf(text, sizeof text, "sha256:%s", hex);
	return json_string(text);
}

static json_t *string_of(const json_t *document, const char *name)
{
	const char *text = "";
	gt_json_string(document, name, &text, NULL);
	return json_string(text);
}

static json_t *time_json(int64_t ns)
{
	char text[36];
	gt_time_format(ns, text);
	return json_string(text);
}

static json_t *config_json(json_t *object)
{
	struct gt_image_config config = { 0 };
	if (json_is_object(object))
		gt_json_decode(object, gt_image_config_fields, &config, NULL);
	json_t *result = gt_json_encode(gt_image_config_fields, &config);
	gt_json_release(gt_image_config_fields, &config);
	return result;
}

/* Of an overlay's options, as Docker names them. */
static void add_overlay_dirs(json_t *data, char *options)
{
	static const char *const NAMES[][2] = { { "lowerdir", "LowerDir" }, { "workdir", "WorkDir" } };
	char *rest = options, *option;
	while ((option = strsep(&rest, ",")) != NULL) {
		char *value = strchr(option, '=');
		if (!value)
			continue;
		*value++ = '\0';
		for (size_t i = 0; i < GT_COUNT(NAMES); i++) {
			if (strcmp(option, NAMES[i][0]) == 0)
				json_object_set_new(data, NAMES[i][1], json_string(value));
		}
	}
}

json_t *gt_image_graph_driver(struct gt_images *images, const char *layer_id, bool writable)
{
	json_t *data = json_object();
	AUTO_FREE struct gantry_layer_dir *dir = gt_xcalloc(1, sizeof *dir);
	AUTO_FREE struct gantry_mount *mount = gt_xcalloc(1, sizeof *mount);
	if (layer_id[0] && gt_layer_dir(images->storage, layer_id, dir, NULL) == 0)
		json_object_set_new(data, "UpperDir", json_string(dir->path));
	if (writable) {
		json_object_set_new(data, "ID", json_string(layer_id));
		if (gt_layer_mount(images->storage, layer_id, false, mount, NULL) == 0 && strcmp(mount->type, "overlay") == 0)
			add_overlay_dirs(data, mount->options);
	}
	return json_pack("{s:s, s:o}", "Name", gt_driver_name(images->storage), "Data", data);
}

/* Images of Docker's old builder tell of the container they were committed from. Docker's API has dropped it, yet docker-compose 1 fails without. */
static json_t *container_config(const struct image *image)
{
	json_t *own = gt_json_get(image->document, "container_config");
	return config_json(json_is_object(own) ? own : gt_json_get(image->document, "config"));
}

/* With the lock held. */
static json_t *inspect_locked(const struct image *image)
{
	json_t *tags = json_array(), *digests = json_array();
	for (size_t i = 0; i < image->refs.count; i++) {
		AUTO_FREE char *familiar = reference_key_familiar(image->refs.items[i]);
		json_array_append_new(strchr(familiar, '@') ? digests : tags, json_string(familiar));
	}
	json_t *rootfs = json_object();
	json_object_set_new(rootfs, "Type", json_string("layers"));
	json_t *diffs = gt_json_get(gt_json_get(image->document, "rootfs"), "diff_ids");
	if (json_array_size(diffs))
		json_object_set_new(rootfs, "Layers", json_deep_copy(diffs));

	const json_t *document = image->document;
	json_t *out = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "Id", digest_id(image->hex), "RepoTags", tags,
				"RepoDigests", digests, "Parent", image->parent[0] ? digest_id(image->parent) : json_string(""),
				"Comment", string_of(document, "comment"), "Created", time_json(image->created), "DockerVersion",
				string_of(document, "docker_version"), "Author", string_of(document, "author"), "Config",
				config_json(gt_json_get(document, "config")), "Architecture", string_of(document, "architecture"));
	json_t *variant = string_of(document, "variant");
	if (json_string_length(variant))
		json_object_set(out, "Variant", variant);
	json_decref(variant);
	json_object_set_new(out, "Os", string_of(document, "os"));
	json_t *os_version = string_of(document, "os.version");
	if (json_string_length(os_version))
		json_object_set(out, "OsVersion", os_version);
	json_decref(os_version);
	json_object_set_new(out, "ContainerConfig", container_config(image));
	json_object_set_new(out, "Size", json_integer(image->size));
	json_object_set_new(out, "RootFS", rootfs);
	json_object_set_new(out, "Metadata", json_pack("{s:o}", "LastTagTime", time_json(image->last_tag)));
	return out;
}

int gt_image_check_platform(struct gt_images *images, const char *name, const char *platform, struct gt_error *err)
{
	struct platform wanted;
	if (!platform || !platform[0])
		return 0;
	if (platform_ask(platform, &wanted, err) < 0)
		return -1;
	LOCKED(&images->lock);
	const struct image *image = image_lookup(images, name, err);
	return image ? platform_check(&wanted, image->document, name, err) : -1;
}

json_t *gt_image_inspect(struct gt_images *images, const char *name, struct gt_error *err)
{
	char top[65] = "";
	pthread_mutex_lock(&images->lock);
	struct image *image = image_lookup(images, name, err);
	json_t *out = image ? inspect_locked(image) : NULL;
	if (image && image->top)
		memcpy(top, image->top->id, sizeof top);
	pthread_mutex_unlock(&images->lock);
	if (out)
		json_object_set_new(out, "GraphDriver", gt_image_graph_driver(images, top, false));
	return out;
}

/* ---- history ---- */

static json_t *tags_of(const struct image *image)
{
	json_t *tags = json_array();
	for (size_t i = 0; i < image->refs.count; i++) {
		AUTO_FREE char *familiar = reference_key_familiar(image->refs.items[i]);
		if (!strchr(familiar, '@'))
			json_array_append_new(tags, json_string(familiar));
	}
	if (json_array_size(tags))
		return tags;
	json_decref(tags);
	return json_null();
}

static json_t *history_entry(const json_t *step, int64_t size)
{
	const char *created = "", *created_by = "", *comment = "";
	int64_t when = 0;
	gt_json_string(step, "created", &created, NULL);
	gt_json_string(step, "created_by", &created_by, NULL);
	gt_json_string(step, "comment", &comment, NULL);
	if (created[0] && gt_time_parse(created, &when, NULL) < 0)
		when = 0;
	return json_pack("{s:s, s:I, s:s, s:n, s:I, s:s}", "Id", "<missing>", "Created", (json_int_t)(when / GT_SECOND), "CreatedBy",
			 created_by, "Tags", "Size", (json_int_t)size, "Comment", comment);
}

/* Layers base first. */
static size_t layer_sizes(const struct image *image, int64_t sizes[MAX_LAYERS])
{
	size_t count = image_layer_count(image), at = count;
	for (const struct layer *layer = image->top; layer; layer = layer->parent)
		sizes[--at] = layer->size;
	return count;
}

json_t *gt_image_history(struct gt_images *images, const char *name, struct gt_error *err)
{
	LOCKED(&images->lock);
	struct image *image = image_lookup(images, name, err);
	if (!image)
		return NULL;
	int64_t sizes[MAX_LAYERS] = { 0 };
	size_t layers = layer_sizes(image, sizes), used = 0;
	json_t *steps = gt_json_get(image->document, "history"), *list = json_array();
	for (size_t i = 0; i < json_array_size(steps); i++) {
		const json_t *step = json_array_get(steps, i);
		bool empty = false;
		gt_json_bool(step, "empty_layer", &empty, NULL);
		json_array_insert_new(list, 0, history_entry(step, empty || used >= layers ? 0 : sizes[used++]));
	}
	/* layers that the history does not tell of */
	AUTO_JSON json_t *nothing = json_object();
	while (used < layers)
		json_array_insert_new(list, 0, history_entry(nothing, sizes[used++]));
	/* the image and those it was made from here are known by id */
	for (size_t i = 0; i < json_array_size(list) && image; i++) {
		json_t *entry = json_array_get(list, i);
		json_object_set_new(entry, "Id", digest_id(image->hex));
		json_object_set_new(entry, "Tags", tags_of(image));
		image = image->parent[0] ? gt_map_get(&images->images, image->parent) : NULL;
	}
	return list;
}
