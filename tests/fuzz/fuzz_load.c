/* Image archives, Docker's and OCI's, up to the layers: these are stubs here (linked by --wrap), as they are fuzz_unpack's. */
#include "fuzz.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "../../core/image/internal.h"

struct layer *__wrap_layers_acquire(struct gt_images *images, const struct layer_source *sources, size_t count, struct gt_progress *progress,
				    struct gt_error *err);
int __wrap_image_register(struct gt_images *images, const struct gt_buf *config, struct layer *top, const char *parent_hex, char hex[65],
			  struct gt_error *err);
int __wrap_image_tag_hex(struct gt_images *images, const char *hex, const char *repo, const char *tag, char previous[72], struct gt_error *err);

static struct layer layer;

struct layer *__wrap_layers_acquire(struct gt_images *images, const struct layer_source *sources, size_t count, struct gt_progress *progress,
				    struct gt_error *err)
{
	(void)images;
	(void)progress;
	(void)err;
	MUST(count > 0 && count <= MAX_LAYERS);
	for (size_t i = 0; i < count; i++) {
		MUST(gt_is_id(sources[i].diff_hex) && (!sources[i].blob_hex || gt_is_id(sources[i].blob_hex)));
		MUST(sources[i].blob.offset >= 0 && sources[i].blob.length >= 0);
	}
	return &layer;
}

int __wrap_image_register(struct gt_images *images, const struct gt_buf *config, struct layer *top, const char *parent_hex, char hex[65],
			  struct gt_error *err)
{
	(void)images;
	(void)top;
	(void)parent_hex;
	(void)err;
	MUST(config->len > 0);
	digest_of(config->data, config->len, hex);
	return 0;
}

int __wrap_image_tag_hex(struct gt_images *images, const char *hex, const char *repo, const char *tag, char previous[72], struct gt_error *err)
{
	struct gt_reference reference;
	(void)images;
	(void)tag;
	(void)err;
	previous[0] = '\0';
	MUST(gt_is_id(hex) && gt_reference_parse(repo, &reference, NULL) == 0);
	gt_reference_free(&reference);
	return 0;
}

static void forget(void *arg, json_t *message)
{
	(void)arg;
	MUST(json_is_object(message));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gt_error err = { 0 };
	struct gt_images images = { .spool = open("/dev/shm", O_RDONLY | O_DIRECTORY | O_CLOEXEC) };
	struct gt_progress progress = { .emit = forget };
	json_t *loaded = NULL;
	AUTO_FREE uint8_t *bytes = gt_xmalloc(size + 1);
	memcpy(bytes, data, size);
	mend_tar(bytes, size);
	AUTO_CLOSE int tar = memfd_create("tar", MFD_CLOEXEC);
	MUST(tar >= 0 && gt_write_full(tar, bytes, size) == 0 && lseek(tar, 0, SEEK_SET) == 0);
	if (gt_image_load(&images, tar, NULL, &progress, &loaded, &err) == 0)
		MUST(json_is_array(loaded));
	else
		MUST(err.message[0]);
	json_decref(loaded);
	close(images.spool);
	return 0;
}
