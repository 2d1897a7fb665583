/*
 * import.c - `import`: a root file system's tar becomes an image of one layer.
 *
 * The tar is unpacked as it comes; its diff id is known when it ends.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "internal.h"

static const char *default_architecture(void)
{
	struct utsname host;
	if (uname(&host) == 0 && strcmp(host.machine, "aarch64") == 0)
		return "arm64";
	return "amd64";
}

/* "linux", "linux/arm64", "linux/arm/v7" */
static int set_platform(json_t *document, const char *platform, struct gt_error *err)
{
	char os[32] = "linux", architecture[32], variant[32] = "";
	snprintf(architecture, sizeof architecture, "%s", default_architecture());
	int parts = platform && platform[0] ? sscanf(platform, "%31[a-z0-9]/%31[a-z0-9_]/%31[a-z0-9.]", os, architecture, variant) : 1;
	AUTO_FREE char *again = gt_xasprintf("%s%s%s%s%s", os, parts > 1 ? "/" : "", parts > 1 ? architecture : "", parts > 2 ? "/" : "",
					     parts > 2 ? variant : "");
	if (platform && platform[0] && strcmp(again, platform) != 0)
		return gt_fail(err, GT_INVALID, "\"%.60s\" is not a platform (OS, OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT)", platform);
	if (strcmp(os, "linux") != 0)
		return gt_fail(err, GT_UNSUPPORTED, "operating system \"%s\" is not supported here, only linux", os);
	json_object_set_new(document, "os", json_string(os));
	json_object_set_new(document, "architecture", json_string(architecture));
	if (variant[0])
		json_object_set_new(document, "variant", json_string(variant));
	return 0;
}

static int make_document(const struct gt_image_config *config, const char *message, const char *platform, json_t **document,
			 struct gt_error *err)
{
	char now[36];
	gt_time_format(gt_now(), now);
	const char *comment = message && message[0] ? message : "Imported";
	*document = json_pack("{s:s, s:s, s:o, s:[{s:s, s:s}]}", "created", now, "comment", comment, "config",
			      gt_json_encode(gt_image_config_fields, config), "history", "created", now, "comment", comment);
	if (!*document)
		return gt_fail(err, GT_INVALID, "the message is not UTF-8");
	return set_platform(*document, platform, err);
}

/* Before a large archive is read: is the name one at all? */
static int check_name(const char *repo, const char *tag, struct gt_error *err)
{
	struct gt_reference reference;
	if (!repo || !repo[0])
		return 0;
	AUTO_FREE char *text = tag && tag[0] ? gt_xasprintf("%s:%s", repo, tag) : gt_xstrdup(repo);
	if (gt_reference_parse(text, &reference, err) < 0)
		return -1;
	int rc = reference.digest ? gt_fail(err, GT_INVALID, "refusing to create a tag with a digest reference") : 0;
	gt_reference_free(&reference);
	return rc;
}

int gt_image_import(struct gt_images *images, int in_fd, const char *repo, const char *tag, const char *message,
		    const struct gt_strings *changes, const char *platform, struct gt_progress *progress, char id[72],
		    struct gt_error *err)
{
	struct gt_image_config config = { 0 };
	AUTO_JSON json_t *document = NULL;
	int rc = check_name(repo, tag, err);
	if (rc == 0)
		rc = changes_apply(&config, changes, err);
	if (rc == 0)
		rc = make_document(&config, message, platform, &document, err);
	gt_json_release(gt_image_config_fields, &config);
	if (rc < 0)
		return -1;
	struct layer_source source = { .blob = { .fd = in_fd, .length = -1 }, .blob_size = -1 };
	struct layer *top = layer_acquire(images, NULL, &source, progress, err);
	if (!top)
		return gt_context(err, "import");
	char diff[72], hex[65], previous[72];
	snprintf(diff, sizeof diff, "sha256:%s", top->diff);
	json_object_set_new(document, "rootfs", json_pack("{s:s, s:[s]}", "type", "layers", "diff_ids", diff));
	AUTO_FREE char *text = json_dumps(document, JSON_COMPACT);
	struct gt_buf bytes = { .data = text, .len = strlen(text) };
	if (image_register(images, &bytes, top, NULL, hex, err) < 0)
		return -1;
	snprintf(id, 72, "sha256:%s", hex);
	if (repo && repo[0] && image_tag_hex(images, hex, repo, tag, previous, err) < 0)
		return -1;
	progress_emit(progress, json_pack("{s:s}", "status", id));
	return 0;
}
