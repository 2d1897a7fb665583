/*
 * internal.h - private to core/image: the tables, layers, and what the files of this folder offer each other.
 *
 * images.c     open, close, look-ups, holds, writable layers
 * store.c      what is on disk: configs, images, references, layers; writing and loading them
 * layer.c      layers: claim, seal, count, remove
 * unpack.c     one layer's bytes: unpack and verify, rebuild
 * blob.c       a blob as a stream: decompression and digests
 * fsjob.c      the client side of gantry-fs
 * platform.c manifest.c   what the OCI image-spec calls so
 * registry/    pull, push and what else is asked of registries
 * step.c       the steps of builds: layers of copied files, of containers, and none at all
 * load.c save.c import.c commit.c list.c inspect.c remove.c reference.c config.c change.c words.c filter.c
 *
 * Counting: an image counts its top layer once, a layer its parent, a holder (container) the image's top layer, and a load under way what
 * it has got so far. A layer that counts to 0 is removed from the storage driver; where the driver refuses (a container of
 * an earlier life still stands on it) it stays with count 0 and is tried again after the next container is removed.
 *
 * Names: `hex` is 64 hex digits without "sha256:". A layer's chain id (OCI image-spec config.md) names it in our tables; its id in
 * the storage driver is the same, but for layers whose diff id was not known when they were begun (import, commit): a random one.
 */
#pragma once

#include <nettle/sha2.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/log.h"
#include "base/map.h"
#include "image/fsjob.h"
#include "image/image.h"

#define CONFIG_MAX (8u << 20)           /* bytes of a config, a manifest, an index */
#define MAX_LAYERS 512

/* A layer as a registry has it: what was pulled, or what a push made of it. */
struct layer_blob {
	char hex[65];                   /* "": none is known */
	char format;                    /* 'g' gzip, 'z' zstd, 'p' plain */
	int64_t size;
	const char *repository;         /* "docker.io/library/debian", where it was; interned */
};

struct layer {
	char chain[65], diff[65];       /* hex */
	struct layer_blob blob, packed; /* as it was pulled; as we have pushed it */
	char id[65];                    /* in the storage driver */
	struct layer *parent;
	int64_t size;                   /* bytes of files */
	int64_t tar_size;               /* bytes of its tar */
	bool recipe;                    /* the tar can be rebuilt: <root>/images/recipes/<id>.zst */
	size_t refs;                    /* see above */
};

struct image {
	char hex[65];
	json_t *document;               /* never changed after it is made */
	struct layer *top;              /* NULL: no layers */
	int64_t size, created;
	char parent[65];                /* hex of the image it was made from on this host, or "" */
	int64_t last_tag;               /* ns, 0: never */
	char key[65];                   /* hex: what a build made it from; "" for others */
	bool step;                      /* made on the way to another image, and wanted by nobody yet but the build cache */
	int64_t last_use;               /* ns, by a build; not stored */
	struct gt_strings refs;         /* keys */
	struct gt_map holders;          /* holder -> struct layer * (counted) or the image itself where it has none */
};

struct gt_images {
	const struct gt_config *config;
	struct gt_store *store;
	struct gt_driver *storage;
	struct gt_collection *documents;        /* <root>/images: refs.json, embedded.json */
	struct gt_collection *meta;             /* images/meta/<hex>.json */
	struct gt_collection *layer_documents;  /* images/layers/<chain>.json */
	char *helper;                           /* path of gantry-fs */
	int configs, manifests, recipes, spool; /* directories below <root>/images; spool is emptied at start */

	pthread_mutex_t lock;                   /* guards the tables below, and all structs image and layer */
	pthread_cond_t changed;                 /* a claim was given up */
	struct gt_map images;                   /* hex -> struct image */
	struct gt_map layers;                   /* chain -> struct layer */
	struct gt_map refs;                     /* key -> struct image */
	struct gt_map steps;                    /* build key -> struct image */
	struct gt_map claims;                   /* chain -> itself: being unpacked or removed */
	struct gt_map orphans;                  /* holder -> struct layer: holders of images that were removed by force */
	size_t idle_layers;                     /* layers that count 0, see above */
	struct gt_map names;                    /* interned repositories */
	struct gt_image_figures figures;
	struct gt_producers savers;             /* streams of save */
};

/* ---- reference.c ---- */
bool digest_is_valid(const char *text);                                 /* "sha256:" and 64 hex digits */
char *reference_repository(const struct gt_reference *reference);       /* familiar, without tag and digest */
char *reference_key(const struct gt_reference *reference);              /* "docker.io/library/busybox:latest" */
char *reference_key_familiar(const char *key);

/* ---- blob.c ---- */
struct digest {
	struct sha256_ctx state;
};
void digest_begin(struct digest *digest);
void digest_add(struct digest *digest, const void *bytes, size_t len);
void digest_end(struct digest *digest, char hex[65]);
void digest_of(const void *bytes, size_t len, char hex[65]);

/* Bytes that come from elsewhere than a descriptor. */
struct blob_remote {
	void *(*open)(const void *arg, struct gt_progress *progress);
	ssize_t (*read)(void *handle, void *bytes, size_t room, struct gt_error *err);  /* 0 at the end */
	void (*close)(void *handle);
};

/* Where a blob's bytes are. length -1: a stream, to its end; else a range of a file. */
struct blob {
	int fd;
	int64_t offset, length;
	const struct blob_remote *remote;       /* NULL: fd; else the stream is remote's */
	const void *remote_arg;
	struct gt_progress *progress;           /* asked for cancellation; may be NULL */
};
struct blob_reader;
struct blob_reader *blob_open(const struct blob *blob);
/* The next decompressed bytes (gzip, zstd, xz, bzip2 and plain are told apart by their first bytes); 0 at the end. */
ssize_t blob_read(struct blob_reader *reader, void *bytes, size_t room, struct gt_error *err);
/* After the end: digest and number of the bytes as they were stored. */
int blob_finish(struct blob_reader *reader, char hex[65], int64_t *length, struct gt_error *err);
void blob_close(struct blob_reader *reader);
char blob_format(const struct blob_reader *reader);     /* as in struct layer_blob; '?' for others */
int64_t blob_position(const struct blob_reader *reader);                /* stored bytes read so far */
/* A small blob whole. */
int blob_slurp(const struct blob *blob, size_t max, const char *what, struct gt_buf *out, struct gt_error *err);

/* ---- fsjob.c ---- */
struct fs_job {
	int pidfd, sock;
	const char *name;
};
/* request is taken over. The descriptors stay the caller's; -1: none. */
int fs_job_start(struct fs_job *job, const char *helper, json_t *request, int in_fd, int out_fd, int extra_fd, struct gt_error *err);
/* Waits for the reply (owned by the caller; may be NULL to ignore it), calling tick(arg) now and then. */
int fs_job_finish(struct fs_job *job, json_t **reply, void (*tick)(void *arg), void *arg, struct gt_error *err);
json_t *fs_mount_json(const struct gantry_mount *mount, const char *destination);

/* ---- layer.c ---- */
struct layer_source {
	struct blob blob;
	const char *blob_hex;           /* digest of the stored bytes, or NULL: not known */
	int64_t blob_size;              /* -1: not known */
	const char *diff_hex;           /* NULL: not known (import, commit) */
	const char *label;              /* pulled: what progress calls it; NULL: loaded */
	const char *repository;         /* pulled: interned, where the blob is */
};
/* The layer with source->diff_hex over parent (may be NULL), counted once for the caller: from the table, from another load that is under way, or
 * unpacked, verified and sealed. parent must be counted by the caller. */
struct layer *layer_acquire(struct gt_images *images, struct layer *parent, const struct layer_source *source,
			    struct gt_progress *progress, struct gt_error *err);
/* All layers of an image from the base up (diff_hex known, blobs in files); returns the top one, counted. Several at once where the driver can. */
struct layer *layers_acquire(struct gt_images *images, const struct layer_source *sources, size_t count, struct gt_progress *progress,
			     struct gt_error *err);
/* Gives back one count; NULL is fine. Takes the lock; may block in the storage driver. */
void layer_release(struct gt_images *images, struct layer *layer);
/* With the lock held: counts once more. */
struct layer *layer_count(struct gt_images *images, struct layer *layer);
/* Tries again to remove what counts 0. */
void layers_sweep(struct gt_images *images);
void chain_id(const char *parent_chain, const char *diff, char chain[65]);
/* ---- unpack.c ---- */
/* In the storage driver: begun; filled and verified, with its recipe; or gone again. owed: NULL where the layers below are sealed; else *owed (the
 * caller's, NULL: nothing) is what the layer lacks of them, for layer_settle once they are. GT_UNAVAILABLE from either: it must be filled again then. */
int layer_begin(struct gt_images *images, const struct layer *layer, struct gt_error *err);
int layer_fill(struct gt_images *images, struct layer *layer, const struct layer_source *source, struct gt_progress *progress, json_t **owed,
	       struct gt_error *err);
int layer_settle(struct gt_images *images, struct layer *layer, const json_t *owed, struct gt_error *err);
void layer_discard(struct gt_images *images, const struct layer *layer);
void layer_drop_recipe(struct gt_images *images, const char *id);
/* Starts to write the layer's tar, byte for byte, to out_fd; fs_job_finish() tells how it went. The caller counts the layer, and checks the
 * digest. */
int layer_rebuild_start(struct gt_images *images, const struct layer *layer, int out_fd, struct fs_job *job, struct gt_error *err);
int layer_can_rebuild(const struct layer *layer, struct gt_error *err);

/* ---- store.c ---- */
int store_open(struct gt_images *images, struct gt_error *err);         /* directories, then everything that is in them */
void store_close(struct gt_images *images);
int store_put_layer(struct gt_images *images, const struct layer *layer, struct gt_error *err);
void store_drop_layer(struct gt_images *images, const struct layer *layer);
/* With the lock held. */
int store_put_refs(struct gt_images *images, struct gt_error *err);
int store_put_meta(struct gt_images *images, const struct image *image, struct gt_error *err);
void store_drop_image(struct gt_images *images, const struct image *image);
/* The manifest that an image was pulled or pushed with, its exact bytes. */
int store_put_manifest(struct gt_images *images, const char *hex, const struct gt_buf *bytes, struct gt_error *err);
int store_read_manifest(struct gt_images *images, const char *hex, struct gt_buf *out, struct gt_error *err);
int store_put_config(struct gt_images *images, const char *hex, const struct gt_buf *bytes, struct gt_error *err);
int store_read_config(struct gt_images *images, const char *hex, struct gt_buf *out, struct gt_error *err);

/* ---- images.c ---- */
/* Makes an image of its config's exact bytes and its top layer, whose count it takes over in any case. An image that exists already is success.
 * parent_hex may be NULL. */
int image_register(struct gt_images *images, const struct gt_buf *config, struct layer *top, const char *parent_hex, char hex[65],
		   struct gt_error *err);
/* As the step of a build that `key` stands for. */
int image_register_step(struct gt_images *images, const struct gt_buf *config, struct layer *top, const char *parent_hex, const char *key,
			char hex[65], struct gt_error *err);
/* With the lock held: the look-up of images by build key follows the image's coming and going. */
void image_index_step(struct gt_images *images, struct image *image);
void image_unindex_step(struct gt_images *images, struct image *image);
/* With the lock held: points key to image, taking it from another one that had it (*previous, may be NULL). Persistent on return. */
int image_point_ref(struct gt_images *images, const char *key, struct image *image, struct image **previous, struct gt_error *err);
void image_free(struct image *image);
/* Parses and checks a config document; *top stays NULL, layers are given back as their diff ids (hex, borrowed from the document). */
struct image *image_parse(const char *bytes, size_t len, const char *hex, const char **diffs, size_t *diff_count, struct gt_error *err);
/* Sets the top layer (whose count is taken over) and what follows from it. */
void image_set_top(struct image *image, struct layer *top);
/* With the lock held. */
struct image *image_lookup(struct gt_images *images, const char *name, struct gt_error *err);
struct image *image_by_ref(struct gt_images *images, const struct gt_reference *reference);
size_t image_layer_count(const struct image *image);
bool image_has_child(struct gt_images *images, const struct image *image);
/* Tags an image by id: for load, import, commit. previous_id: "" or the id that lost the name. */
int image_tag_hex(struct gt_images *images, const char *hex, const char *repo, const char *tag, char previous[72], struct gt_error *err);
const char *intern(struct gt_images *images, const char *text);         /* takes the lock; lives as long as images */
void progress_emit(struct gt_progress *progress, json_t *message);      /* takes message over */
int strings_index(const struct gt_strings *list, const char *text);     /* -1: not there */
void strings_remove(struct gt_strings *list, const char *text);

/* ---- step.c ---- */
/* The view of an image, for requests to gantry-fs; *mount stays NULL for an image without layers. */
int image_mount(struct gt_images *images, const char *id, json_t **mount, struct gt_error *err);

/* ---- commit.c ---- */
/* The layer of a writable layer's changes over parent, counted; parent itself (counted once more) where nothing has changed. clamp: no file is later, in s.
 * points: where something was mounted; what was made for that alone is left out. May be NULL. */
int layer_of_changes(struct gt_images *images, const char *container_layer, int64_t clamp, const struct gt_strings *points, struct layer *parent,
		     struct layer **top, struct gt_error *err);
/* The layer of the tar that a gantry-fs job writes; request is taken over. */
struct layer *layer_of_job(struct gt_images *images, json_t *request, struct layer *parent, struct gt_error *err);

/* ---- change.c, for commit and import ---- */
int changes_apply(struct gt_image_config *config, const struct gt_strings *changes, struct gt_error *err);
