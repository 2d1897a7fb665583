/*
 * load.c - `load`: a tar that is a Docker archive (manifest.json) or an OCI layout (index.json), plain or compressed.
 *
 * The order of entries in such a tar is free and its description mostly comes last, so the tar is first made random-access: a plain file is
 * just indexed, a stream is spooled to a nameless file below the root. Names in it are keys and never become paths. Then images are made from the base
 * up; every blob whose digest is known is checked, layers are checked against the config's diff ids, and what an image consists of is
 * counted until the image itself counts it, so a failure half-way leaves nothing.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"
#include "manifest.h"
#include "platform.h"

#define MAX_FILES 100000
#define MAX_IMAGES 1000
#define MAX_LINKS 10
#define MAX_INDEX_DEPTH 4

/* ---- the tar as a set of named ranges of one file ---- */

struct file {
	int64_t offset, length;
	char *link;             /* a link to another name, cleaned; NULL: the bytes are at offset */
};

struct bundle {
	struct gt_images *images;
	struct gt_progress *progress;
	json_t *loaded;
	struct platform wanted; /* the host's, where by_platform does not say that the user named one */
	bool by_platform;
	int fd;                 /* borrowed, or ours where spool is set */
	bool spool;
	int64_t end;            /* of the spool */
	struct gt_map files;
};

static void bundle_free(struct bundle *bundle)
{
	struct gt_map_slot *slot;
	for (size_t i = 0; (slot = gt_map_next(&bundle->files, &i)) != NULL;) {
		struct file *file = slot->value;
		free(file->link);
		free(file);
	}
	gt_map_free(&bundle->files);
	if (bundle->spool && bundle->fd >= 0)
		close(bundle->fd);
}

/* "./a//b/../c" -> "a/c"; NULL where it leads out. dir: what a link's relative target is relative to. */
static char *clean_name(const char *dir, const char *name)
{
	AUTO_FREE char *joined = name[0] == '/' ? gt_xstrdup(name) : gt_xasprintf("%s/%s", dir, name);
	AUTO_BUF struct gt_buf out = { 0 };
	for (const char *p = joined; *p;) {
		size_t part = strcspn(p, "/");
		if (part == 2 && memcmp(p, "..", 2) == 0) {
			if (out.len == 0)
				return NULL;
			while (out.len > 0 && out.data[--out.len] != '/')
				;
		} else if (part && !(part == 1 && *p == '.')) {
			if (out.len)
				gt_buf_char(&out, '/');
			gt_buf_add(&out, p, part);
		}
		p += part + (p[part] == '/');
	}
	return gt_xasprintf("%.*s", (int)out.len, out.data ? out.data : "");
}

static int archive_failed(struct archive *archive, struct gt_error *err)
{
	const char *reason = archive_error_string(archive);
	return gt_fail(err, GT_INVALID, "the archive cannot be read: %s", reason ? reason : "it is damaged");
}

static int spool_data(struct bundle *bundle, struct archive *archive, struct file *file, struct gt_error *err)
{
	const void *bytes;
	size_t len;
	int64_t offset, done = 0;
	int rc;
	file->offset = bundle->end;
	while ((rc = archive_read_data_block(archive, &bytes, &len, &offset)) == ARCHIVE_OK || rc == ARCHIVE_WARN) {
		if (offset != done)
			return gt_fail(err, GT_UNSUPPORTED, "the archive has a sparse file, which images do not have");
		if (gt_write_full(bundle->fd, bytes, len) < 0)
			return gt_fail_sys(err, GT_INTERNAL, errno, "store the archive's files");
		done += (int64_t)len;
	}
	if (rc != ARCHIVE_EOF)
		return archive_failed(archive, err);
	bundle->end += done;
	file->length = done;
	return 0;
}

static int add_entry(struct bundle *bundle, struct archive *archive, struct archive_entry *entry, int64_t base, struct gt_error *err)
{
	const char *raw = archive_entry_pathname(entry), *link = archive_entry_hardlink(entry);
	AUTO_FREE char *name = raw ? clean_name("", raw) : NULL;
	bool symlink = !link && archive_entry_filetype(entry) == AE_IFLNK;
	if (!name)
		return gt_fail(err, GT_INVALID, "the archive has an entry named \"%.100s\", which leads out of it", raw ? raw : "?");
	if (archive_entry_filetype(entry) == AE_IFDIR || !name[0])
		return 0;
	if (!link && !symlink && archive_entry_filetype(entry) != AE_IFREG)
		return gt_fail(err, GT_INVALID, "the archive's \"%.100s\" is neither file nor link", name);
	if (bundle->files.count >= MAX_FILES)
		return gt_fail(err, GT_TOO_LARGE, "the archive has more than %d files: it is not an image", MAX_FILES);
	struct file *file = gt_xcalloc(1, sizeof *file);
	struct file *old = gt_map_set(&bundle->files, name, file);
	if (old)
		free(old->link);
	free(old);
	if (link || symlink) {
		AUTO_FREE char *dir = gt_xstrdup(name);
		char *slash = strrchr(dir, '/');
		*(slash ? slash : dir) = '\0';
		const char *target = symlink ? archive_entry_symlink(entry) : link;
		file->link = target ? clean_name(symlink ? dir : "", target) : NULL;
		return file->link ? 0 : gt_fail(err, GT_INVALID, "the archive's link \"%.100s\" leads out of it", name);
	}
	if (bundle->spool)
		return spool_data(bundle, archive, file, err);
	if (archive_entry_sparse_count(entry) > 0)
		return gt_fail(err, GT_UNSUPPORTED, "the archive has a sparse file, which images do not have");
	file->offset = base + archive_filter_bytes(archive, 0);
	file->length = archive_entry_size(entry);
	return 0;
}

static int add_entries(struct bundle *bundle, struct archive *archive, int64_t base, struct gt_error *err)
{
	struct archive_entry *entry;
	int rc;
	while ((rc = archive_read_next_header(archive, &entry)) == ARCHIVE_OK || rc == ARCHIVE_WARN) {
		if (add_entry(bundle, archive, entry, base, err) < 0)
			return -1;
	}
	return rc == ARCHIVE_EOF ? 0 : archive_failed(archive, err);
}

/* A plain tar in a file: the ranges are in the file itself. */
static bool is_plain_file(int fd, int64_t *base)
{
	struct stat st;
	char block[512];
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (*base = lseek(fd, 0, SEEK_CUR)) < 0)
		return false;
	return pread(fd, block, sizeof block, *base) == (ssize_t)sizeof block && memcmp(block + 257, "ustar", 5) == 0;
}

struct decompressed {
	struct blob_reader *reader;
	struct gt_error err;
	char bytes[256 * 1024];
};

static ssize_t read_decompressed(struct archive *archive, void *arg, const void **bytes)
{
	struct decompressed *source = arg;
	*bytes = source->bytes;
	ssize_t n = blob_read(source->reader, source->bytes, sizeof source->bytes, &source->err);
	if (n < 0)
		archive_set_error(archive, EIO, "%s", source->err.message);
	return n;
}

static int spool_stream(struct bundle *bundle, struct archive *archive, int in_fd, struct gt_error *err)
{
	bundle->fd = openat(bundle->images->spool, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (bundle->fd < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "make a temporary file below the engine's root");
	AUTO_FREE struct decompressed *source = gt_xmalloc(sizeof *source);
	source->err = (struct gt_error){ 0 };
	source->reader = blob_open(&(struct blob){ .fd = in_fd, .offset = 0, .length = -1 });
	int rc = archive_read_open(archive, source, NULL, read_decompressed, NULL) == ARCHIVE_OK ? 0 : archive_failed(archive, err);
	if (rc == 0)
		rc = add_entries(bundle, archive, 0, err);
	blob_close(source->reader);
	return rc;
}

static int bundle_open(struct bundle *bundle, int in_fd, struct gt_error *err)
{
	int64_t base = 0;
	struct archive *archive = archive_read_new();
	archive_read_support_format_tar(archive);
	bundle->spool = !is_plain_file(in_fd, &base);
	bundle->fd = -1;
	int rc;
	if (bundle->spool) {
		rc = spool_stream(bundle, archive, in_fd, err);
	} else {
		bundle->fd = in_fd;
		rc = archive_read_open_fd(archive, in_fd, 65536) == ARCHIVE_OK ? 0 : archive_failed(archive, err);
		if (rc == 0)
			rc = add_entries(bundle, archive, base, err);
	}
	archive_read_free(archive);
	return rc;
}

static const struct file *find_file(const struct bundle *bundle, const char *name)
{
	AUTO_FREE char *clean = clean_name("", name);
	const struct file *file = clean ? gt_map_get(&bundle->files, clean) : NULL;
	for (int i = 0; file && file->link && i < MAX_LINKS; i++)
		file = gt_map_get(&bundle->files, file->link);
	return file && !file->link ? file : NULL;
}

static int read_file(const struct bundle *bundle, const char *name, struct gt_buf *out, struct gt_error *err)
{
	const struct file *file = find_file(bundle, name);
	if (!file)
		return gt_fail(err, GT_INVALID, "the archive has no file \"%.200s\"", name);
	struct blob blob = { .fd = bundle->fd, .offset = file->offset, .length = file->length };
	return blob_slurp(&blob, CONFIG_MAX, name, out, err);
}

static json_t *read_json(const struct bundle *bundle, const char *name, struct gt_error *err)
{
	AUTO_BUF struct gt_buf text = { 0 };
	if (read_file(bundle, name, &text, err) < 0)
		return NULL;
	return gt_json_parse(text.data ? text.data : "", text.len, name, err);
}

/* ---- one image ---- */

struct source_layer {
	struct blob blob;
	char blob_hex[65];      /* "" where it is not known */
	int64_t size;           /* -1: not known */
};

/* "blobs/sha256/<hex>" tells the digest. */
static void digest_from_name(const char *name, char hex[65])
{
	const char *base = strrchr(name, '/');
	hex[0] = '\0';
	if (base && strncmp(name, "blobs/sha256/", 13) == 0 && base == name + 12 && gt_is_id(base + 1))
		memcpy(hex, base + 1, 65);
}

static struct layer *acquire_all(struct bundle *bundle, const struct source_layer *layers, const char *const *diffs, size_t count,
				 struct gt_error *err)
{
	AUTO_FREE struct layer_source *sources = gt_xcalloc(count, sizeof *sources);
	for (size_t i = 0; i < count; i++)
		sources[i] = (struct layer_source){ .blob = layers[i].blob, .blob_hex = layers[i].blob_hex[0] ? layers[i].blob_hex : NULL,
						    .blob_size = layers[i].size, .diff_hex = diffs[i] };
	return layers_acquire(bundle->images, sources, count, bundle->progress, err);
}

static int make_image(struct bundle *bundle, const struct gt_buf *config, const struct source_layer *layers, size_t count,
		      const char *parent_hex, char hex[65], struct gt_error *err)
{
	AUTO_FREE const char **diffs = gt_xcalloc(MAX_LAYERS, sizeof *diffs);
	size_t wanted = 0;
	digest_of(config->data, config->len, hex);
	struct image *image = image_parse(config->data, config->len, hex, diffs, &wanted, err);
	if (!image)
		return -1;
	int rc = 0;
	struct layer *top = NULL;
	if (bundle->by_platform && platform_check(&bundle->wanted, image->document, hex, err) < 0)
		rc = -1;
	else if (wanted != count)
		rc = gt_fail(err, GT_INVALID, "image %.12s: the manifest has %zu layers, the config %zu", hex, count, wanted);
	else if (count > 0 && !(top = acquire_all(bundle, layers, diffs, count, err)))
		rc = gt_context(err, "image %.12s", hex);
	image_free(image); /* diffs point into it */
	return rc < 0 ? -1 : image_register(bundle->images, config, top, parent_hex, hex, err);
}

static void tell(struct bundle *bundle, const char *fmt, const char *a, const char *b)
{
	AUTO_FREE char *text = NULL;
	if (b)
		text = gt_xasprintf("The image %s already exists, renaming the old one with ID %s to empty string\n", a, b);
	else
		text = gt_xasprintf("%s: %s\n", fmt, a);
	progress_emit(bundle->progress, json_pack("{s:s}", "stream", text));
}

static int name_image(struct bundle *bundle, const char *hex, const char *name, struct gt_error *err)
{
	struct gt_reference reference;
	char previous[72];
	if (gt_reference_parse(name, &reference, err) < 0)
		return gt_context(err, "name of image %.12s", hex);
	AUTO_FREE char *familiar = gt_reference_familiar(&reference, true);
	gt_reference_free(&reference);
	if (image_tag_hex(bundle->images, hex, name, NULL, previous, err) < 0)
		return -1;
	if (previous[0])
		tell(bundle, NULL, familiar, previous);
	tell(bundle, "Loaded image", familiar, NULL);
	json_array_append_new(bundle->loaded, json_string(familiar));
	return 0;
}

static void tell_id(struct bundle *bundle, const char *hex)
{
	char id[72];
	snprintf(id, sizeof id, "sha256:%s", hex);
	tell(bundle, "Loaded image ID", id, NULL);
	json_array_append_new(bundle->loaded, json_string(id));
}

/* ---- Docker archives ---- */

static int docker_layers(struct bundle *bundle, const json_t *names, struct source_layer *layers, struct gt_error *err)
{
	for (size_t i = 0; i < json_array_size(names); i++) {
		const char *name = json_string_value(json_array_get(names, i));
		const struct file *file = name ? find_file(bundle, name) : NULL;
		if (!file)
			return gt_fail(err, GT_INVALID, "the archive lacks layer \"%.200s\"", name ? name : "?");
		layers[i].blob = (struct blob){ .fd = bundle->fd, .offset = file->offset, .length = file->length };
		layers[i].size = -1;
		digest_from_name(name, layers[i].blob_hex);
	}
	return 0;
}

static int check_config_name(const char *name, const struct gt_buf *config, struct gt_error *err)
{
	char wanted[65], hex[65];
	digest_from_name(name, wanted);
	if (!wanted[0] && strlen(name) == 69 && strcmp(name + 64, ".json") == 0) {
		memcpy(wanted, name, 64);
		wanted[64] = '\0';
		if (!gt_is_id(wanted))
			wanted[0] = '\0';
	}
	digest_of(config->data, config->len, hex);
	if (wanted[0] && strcmp(wanted, hex) != 0)
		return gt_fail(err, GT_INVALID, "config %.200s is damaged: its digest is sha256:%s", name, hex);
	return 0;
}

static int load_docker_image(struct bundle *bundle, const json_t *item, struct gt_error *err)
{
	const char *config_name = "", *parent = "";
	json_t *tags = NULL, *names = NULL;
	AUTO_BUF struct gt_buf config = { 0 };
	if (gt_json_string(item, "Config", &config_name, err) < 0 || gt_json_array(item, "RepoTags", &tags, err) < 0 ||
	    gt_json_array(item, "Layers", &names, err) < 0 || gt_json_string(item, "Parent", &parent, err) < 0 ||
	    read_file(bundle, config_name, &config, err) < 0 || check_config_name(config_name, &config, err) < 0)
		return gt_context(err, "manifest.json");
	if (json_array_size(names) > MAX_LAYERS)
		return gt_fail(err, GT_INVALID, "manifest.json: more than %d layers", MAX_LAYERS);
	AUTO_FREE struct source_layer *layers = gt_xcalloc(json_array_size(names) + 1, sizeof *layers);
	char hex[65];
	if (docker_layers(bundle, names, layers, err) < 0 ||
	    make_image(bundle, &config, layers, json_array_size(names), digest_is_valid(parent) ? parent + 7 : NULL, hex, err) < 0)
		return -1;
	if (json_array_size(tags) == 0)
		tell_id(bundle, hex);
	for (size_t i = 0; i < json_array_size(tags); i++) {
		const char *tag = json_string_value(json_array_get(tags, i));
		if (!tag)
			return gt_fail(err, GT_INVALID, "manifest.json: RepoTags holds something other than text");
		if (name_image(bundle, hex, tag, err) < 0)
			return -1;
	}
	return 0;
}

static int load_docker(struct bundle *bundle, struct gt_error *err)
{
	AUTO_JSON json_t *manifest = read_json(bundle, "manifest.json", err);
	if (!manifest)
		return -1;
	if (!json_is_array(manifest) || json_array_size(manifest) > MAX_IMAGES)
		return gt_fail(err, GT_INVALID, "manifest.json is not a list of at most %d images", MAX_IMAGES);
	for (size_t i = 0; i < json_array_size(manifest); i++) {
		if (load_docker_image(bundle, json_array_get(manifest, i), err) < 0)
			return -1;
	}
	return 0;
}

/* ---- OCI layouts ---- */

/* The descriptor's blob, checked against it. */
static int read_blob(const struct bundle *bundle, const struct descriptor *descriptor, struct gt_buf *out, struct gt_error *err)
{
	char name[96], hex[65];
	snprintf(name, sizeof name, "blobs/sha256/%s", descriptor->digest + 7);
	if (read_file(bundle, name, out, err) < 0)
		return -1;
	digest_of(out->data, out->len, hex);
	if (strcmp(hex, descriptor->digest + 7) != 0)
		return gt_fail(err, GT_INVALID, "blob %s is damaged: its digest is sha256:%s", descriptor->digest, hex);
	if (descriptor->size >= 0 && descriptor->size != (int64_t)out->len)
		return gt_fail(err, GT_INVALID, "blob %s has %zu bytes where its descriptor says %lld", descriptor->digest, out->len,
			       (long long)descriptor->size);
	return 0;
}

static bool fits(const struct bundle *bundle, const struct descriptor *descriptor)
{
	struct platform offered;
	platform_read(descriptor->platform, &offered);
	return platform_rank(&bundle->wanted, &offered) > 0;
}

/* The name an archive gives to an image; NULL where it is no reference (a bare tag names no repository). */
static const char *name_of(const struct descriptor *descriptor)
{
	const char *name = NULL;
	gt_json_string(descriptor->annotations, "io.containerd.image.name", &name, NULL);
	if (name)
		return name;
	gt_json_string(descriptor->annotations, "org.opencontainers.image.ref.name", &name, NULL);
	return name && strpbrk(name, ":/") ? name : NULL;
}

static int oci_layer(struct bundle *bundle, const json_t *json, struct source_layer *layer, struct gt_error *err)
{
	struct descriptor descriptor;
	char name[96];
	if (descriptor_parse(json, &descriptor, err) < 0 || descriptor_check_layer(&descriptor, err) < 0)
		return -1;
	snprintf(name, sizeof name, "blobs/sha256/%s", descriptor.digest + 7);
	const struct file *file = find_file(bundle, name);
	if (!file)
		return gt_fail(err, GT_INVALID, "the archive lacks layer %s", descriptor.digest);
	layer->blob = (struct blob){ .fd = bundle->fd, .offset = file->offset, .length = file->length };
	layer->size = descriptor.size;
	memcpy(layer->blob_hex, descriptor.digest + 7, 65);
	return 0;
}

static int load_manifest(struct bundle *bundle, const struct descriptor *descriptor, char hex[65], struct gt_error *err)
{
	AUTO_BUF struct gt_buf text = { 0 };
	AUTO_BUF struct gt_buf config = { 0 };
	struct descriptor config_descriptor;
	json_t *list = NULL, *config_json = NULL;
	if (read_blob(bundle, descriptor, &text, err) < 0)
		return -1;
	AUTO_JSON json_t *manifest = gt_json_parse(text.data ? text.data : "", text.len, "image manifest", err);
	if (!manifest || gt_json_object(manifest, "config", &config_json, err) < 0 || gt_json_array(manifest, "layers", &list, err) < 0)
		return -1;
	if (!config_json || descriptor_parse(config_json, &config_descriptor, err) < 0)
		return gt_fail(err, GT_INVALID, "manifest %s has no valid config", descriptor->digest);
	const char *type = config_descriptor.media_type;
	if (strcmp(type, TYPE_OCI_CONFIG) != 0 && strcmp(type, TYPE_DOCKER_CONFIG) != 0)
		return gt_fail(err, GT_UNSUPPORTED, "manifest %s is not an image: its config has type \"%.100s\"", descriptor->digest, type);
	if (json_array_size(list) > MAX_LAYERS)
		return gt_fail(err, GT_INVALID, "manifest %s has more than %d layers", descriptor->digest, MAX_LAYERS);
	AUTO_FREE struct source_layer *layers = gt_xcalloc(json_array_size(list) + 1, sizeof *layers);
	for (size_t i = 0; i < json_array_size(list); i++) {
		if (oci_layer(bundle, json_array_get(list, i), &layers[i], err) < 0)
			return gt_context(err, "manifest %s", descriptor->digest);
	}
	if (read_blob(bundle, &config_descriptor, &config, err) < 0)
		return -1;
	return make_image(bundle, &config, layers, json_array_size(list), NULL, hex, err);
}

static int no_match(const struct bundle *bundle, const struct descriptor *descriptor, struct gt_error *err)
{
	char text[100];
	platform_format(&bundle->wanted, text);
	return gt_fail(err, GT_NOT_FOUND, "index %s has no image for %s", descriptor->digest, text);
}

/* Goes down through indexes to the manifest for the platform. */
static int load_descriptor(struct bundle *bundle, const struct descriptor *descriptor, int depth, char hex[65], struct gt_error *err)
{
	if (descriptor_is_manifest(descriptor))
		return load_manifest(bundle, descriptor, hex, err);
	if (!descriptor_is_index(descriptor))
		return gt_fail(err, GT_UNSUPPORTED, "%s: type \"%.100s\" is not an image", descriptor->digest, descriptor->media_type);
	if (depth >= MAX_INDEX_DEPTH)
		return gt_fail(err, GT_INVALID, "image indexes are nested deeper than %d levels", MAX_INDEX_DEPTH);
	AUTO_BUF struct gt_buf text = { 0 };
	json_t *list = NULL;
	if (read_blob(bundle, descriptor, &text, err) < 0)
		return -1;
	AUTO_JSON json_t *index = gt_json_parse(text.data ? text.data : "", text.len, "image index", err);
	if (!index || gt_json_array(index, "manifests", &list, err) < 0)
		return -1;
	struct descriptor chosen = { 0 }, candidate;
	size_t candidates = 0;
	for (size_t i = 0; i < json_array_size(list); i++) {
		if (descriptor_parse(json_array_get(list, i), &candidate, err) < 0)
			return -1;
		if (descriptor_is_attestation(&candidate))
			continue;
		candidates++;
		if (!chosen.digest || (fits(bundle, &candidate) && !fits(bundle, &chosen)))
			chosen = candidate;
	}
	if (!chosen.digest || (candidates > 1 && chosen.platform && !fits(bundle, &chosen)))
		return no_match(bundle, descriptor, err);
	return load_descriptor(bundle, &chosen, depth + 1, hex, err);
}

/* Whether another entry of the layout's index is the same image for the platform. */
static bool better_elsewhere(const struct bundle *bundle, const json_t *list, size_t at, const struct descriptor *descriptor)
{
	const char *name = name_of(descriptor);
	if (!descriptor->platform || fits(bundle, descriptor))
		return false;
	for (size_t i = 0; i < json_array_size(list); i++) {
		struct descriptor other;
		if (i == at || descriptor_parse(json_array_get(list, i), &other, NULL) < 0)
			continue;
		const char *other_name = name_of(&other);
		if (fits(bundle, &other) && ((!name && !other_name) || (name && other_name && strcmp(name, other_name) == 0)))
			return true;
	}
	return false;
}

static int load_oci(struct bundle *bundle, struct gt_error *err)
{
	AUTO_JSON json_t *index = read_json(bundle, "index.json", err);
	json_t *list = NULL;
	if (!index || gt_json_array(index, "manifests", &list, err) < 0)
		return -1;
	if (json_array_size(list) == 0 || json_array_size(list) > MAX_IMAGES)
		return gt_fail(err, GT_INVALID, "index.json does not list 1 to %d images", MAX_IMAGES);
	for (size_t i = 0; i < json_array_size(list); i++) {
		struct descriptor descriptor;
		char hex[65];
		if (descriptor_parse(json_array_get(list, i), &descriptor, err) < 0)
			return gt_context(err, "index.json");
		if (descriptor_is_attestation(&descriptor) || better_elsewhere(bundle, list, i, &descriptor))
			continue;
		if (load_descriptor(bundle, &descriptor, 0, hex, err) < 0)
			return -1;
		const char *name = name_of(&descriptor);
		if (!name)
			tell_id(bundle, hex);
		else if (name_image(bundle, hex, name, err) < 0)
			return -1;
	}
	return 0;
}

int gt_image_load(struct gt_images *images, int in_fd, const char *platform, struct gt_progress *progress, json_t **loaded, struct gt_error *err)
{
	struct bundle bundle = { .images = images, .progress = progress, .by_platform = platform && platform[0], .fd = -1 };
	if (platform_ask(platform, &bundle.wanted, err) < 0)
		return -1;
	bundle.loaded = json_array();
	int rc = bundle_open(&bundle, in_fd, err);
	bool choose = bundle.by_platform && rc == 0 && find_file(&bundle, "index.json"); /* a Docker archive may hold several without saying which */
	if (rc == 0 && !choose && find_file(&bundle, "manifest.json"))
		rc = load_docker(&bundle, err);
	else if (rc == 0 && find_file(&bundle, "index.json"))
		rc = load_oci(&bundle, err);
	else if (rc == 0 && find_file(&bundle, "repositories"))
		rc = gt_fail(err, GT_UNSUPPORTED, "the archive is in the format of Docker before 1.10, without a manifest.json: save the image "
						  "again with a newer Docker");
	else if (rc == 0)
		rc = gt_fail(err, GT_INVALID, "the archive holds neither manifest.json (Docker) nor index.json (OCI): it is no saved image; "
					      "a root file system is taken by import");
	bundle_free(&bundle);
	if (rc == 0 && loaded)
		*loaded = bundle.loaded;
	else
		json_decref(bundle.loaded);
	return rc;
}
