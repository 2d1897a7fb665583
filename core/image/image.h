/*
 * image.h - images: references, config blobs, layers, and the ways in and out of archives.
 *
 * An image is its config document, named by its sha256 (the image id). References (repository:tag, repository@digest) point to image
 * ids. A layer is named by its chain id (OCI image-spec) and counted by the images that use it; its diff id is verified while it is
 * unpacked, before anything refers to it. What is on disk is told in store.c; with each layer a recipe is kept by which its tar can be rebuilt
 * byte for byte, so that saved images have the ids they were loaded with.
 *
 * Thread safe. One lock for the tables, never held across unpacking. Layers under way are claimed by chain id, so that two loads of one layer meet.
 * A crash leaves at most unsealed layers and unreferenced configs: gt_images_open() removes them.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "base/json.h"
#include "base/metrics.h"
#include "base/stream.h"
#include "config/config.h"
#include "driver/driver.h"
#include "image/config.h"
#include "store/store.h"

struct gt_images;

/* "library/busybox:latest" style names: parsed and normalised by Docker's rules. */
struct gt_reference {
	char *domain;           /* "docker.io", "localhost:5000" */
	char *path;             /* "library/busybox" */
	char *tag;              /* NULL: none given */
	char *digest;           /* "sha256:..." or NULL */
};
int gt_reference_parse(const char *text, struct gt_reference *reference, struct gt_error *err);
void gt_reference_free(struct gt_reference *reference);
/* As users see it: "busybox:latest", "localhost:5000/a/b@sha256:...". default_tag adds ":latest" where neither stands. */
char *gt_reference_familiar(const struct gt_reference *reference, bool default_tag);

/* fs_helper: path of gantry-fs. */
int gt_images_open(const struct gt_config *config, struct gt_store *store, struct gt_driver *storage, struct gt_images **images,
		   struct gt_error *err);
void gt_images_close(struct gt_images *images);
struct gt_driver *gt_images_storage(struct gt_images *images);

/* A resolved image, a copy that the caller frees with gt_image_free(). While `hold` is not released the image's layers stay. */
struct gt_image {
	char id[72];                    /* "sha256:<hex>" */
	char top_layer[65];             /* its id in the storage driver; "" for an image without layers */
	char *architecture, *os, *variant;
	struct gt_image_config config;
	json_t *document;               /* the whole config document */
	int64_t size;                   /* bytes of all layers */
	int64_t created;                /* ns */
	struct gt_strings diff_ids;     /* "sha256:..." base first */
};
/* By reference, id, or id prefix. GT_NOT_FOUND: "No such image: NAME". */
int gt_image_find(struct gt_images *images, const char *name, struct gt_image *image, struct gt_error *err);
void gt_image_free(struct gt_image *image);

/* Containers hold their image's layers: one hold for each container, given back at its removal. Rebuilt at start-up, so not stored. */
int gt_image_hold(struct gt_images *images, const char *id, const char *holder, struct gt_error *err);
void gt_image_release(struct gt_images *images, const char *id, const char *holder);
/* Whether any container holds it, and how many. */
size_t gt_image_holders(struct gt_images *images, const char *id);

/* Docker's JSON: ImageSummary list (filters: dangling, label, before, since, reference, until), ImageInspect, history. */
json_t *gt_images_list(struct gt_images *images, bool all, const json_t *filters, bool shared_size, struct gt_error *err);
/* GT_NOT_FOUND where the image is for another platform than a client asked for (see gt_image_load); success where it named none. */
int gt_image_check_platform(struct gt_images *images, const char *name, const char *platform, struct gt_error *err);
json_t *gt_image_inspect(struct gt_images *images, const char *name, struct gt_error *err);
/* DriverData of a layer, an image's or (writable) a container's: where its files are, as far as the storage driver tells. The caller's; never NULL. */
json_t *gt_image_graph_driver(struct gt_images *images, const char *layer_id, bool writable);
json_t *gt_image_history(struct gt_images *images, const char *name, struct gt_error *err);

int gt_image_tag(struct gt_images *images, const char *name, const char *repo, const char *tag, struct gt_error *err);
/* Returns [{"Untagged":...},{"Deleted":...}]. In use by containers or children: GT_CONFLICT unless force (running containers always conflict:
 * the engine checks that first). */
json_t *gt_image_remove(struct gt_images *images, const char *name, bool force, bool no_prune, struct gt_error *err);
json_t *gt_images_prune(struct gt_images *images, const json_t *filters, struct gt_error *err); /* {"ImagesDeleted","SpaceReclaimed"} */
json_t *gt_images_usage(struct gt_images *images, int64_t *layers_size, struct gt_error *err);  /* as the list, with SharedSize and Containers */
size_t gt_images_count(struct gt_images *images);
/* Counted since the start, without a lock. */
struct gt_image_figures {
	struct gt_counter pulled_bytes;         /* of blobs, as registries send them: compressed */
	struct gt_counter pushed_bytes;
};
const struct gt_image_figures *gt_images_figures(const struct gt_images *images);

/* Progress of a long operation: message is Docker's JSON ({"status":..., "progressDetail":...,"id":...}); borrowed. May be NULL.
 * cancelled (may be NULL) is asked now and then, from any thread of the operation: true ends it with GT_CANCELLED. */
struct gt_progress {
	void (*emit)(void *arg, json_t *message);
	void *arg;
	bool (*cancelled)(void *arg);
};
static inline bool gt_progress_cancelled(const struct gt_progress *progress)
{
	return progress && progress->cancelled && progress->cancelled(progress->arg);
}

/* Docker archive or OCI layout, tar, plain or gzip/zstd/xz/bzip2, from in_fd. *loaded: array of names for events. */
/* platform: JSON as Docker's API has it or "linux/arm64"; NULL: the host's, and any where an archive holds one image alone. */
int gt_image_load(struct gt_images *images, int in_fd, const char *platform, struct gt_progress *progress, json_t **loaded, struct gt_error *err);
/* names: references or ids. The stream is a tar which is both a Docker archive and an OCI layout. */
struct gt_stream *gt_image_save(struct gt_images *images, const struct gt_strings *names, struct gt_error *err);
/* A root file system as tar. Returns the id. changes: Dockerfile instructions. repo, tag, message, platform may be NULL. */
int gt_image_import(struct gt_images *images, int in_fd, const char *repo, const char *tag, const char *message,
		    const struct gt_strings *changes, const char *platform, struct gt_progress *progress, char id[72],
		    struct gt_error *err);

/* ---- registries (registry/) ---- */

/* auth: Docker's AuthConfig ({"username", "password", "identitytoken", "registrytoken", "serveraddress"}) or NULL, as X-Registry-Auth has it. */

/* What an X-Registry-Config ({"HOST": AuthConfig, ...}, as builds get it) has for the reference's registry; borrowed, NULL: nothing. */
json_t *gt_registry_auth_for(const json_t *configs, const char *reference);
/* Pulls name[:tag][@digest]; without both, the tag is latest. platform ("linux/arm64/v8"): NULL for the host's. The id is the image's, which is there
 * on return. */
int gt_image_pull(struct gt_images *images, const char *reference, const char *platform, const json_t *auth, struct gt_progress *progress,
		  char id[72], struct gt_error *err);
/* Every tag of a repository. *pulled: array of references, also of those that came before a failure; the caller's. */
int gt_image_pull_all(struct gt_images *images, const char *repository, const char *platform, const json_t *auth,
		      struct gt_progress *progress, json_t **pulled, struct gt_error *err);
/* name:tag, or every tag of name where it has none. */
int gt_image_push(struct gt_images *images, const char *reference, const json_t *auth, struct gt_progress *progress, struct gt_error *err);
/* Questions to registries; progress is asked for cancellation alone. */
/* Whether the credentials are good for the registry at auth's serveraddress; Docker's answer to POST /auth. */
json_t *gt_registry_login(struct gt_images *images, const json_t *auth, struct gt_progress *progress, struct gt_error *err);
/* Docker's DistributionInspect of a reference. */
json_t *gt_registry_inspect(struct gt_images *images, const char *reference, const json_t *auth, struct gt_progress *progress,
			    struct gt_error *err);
/* Docker's search results; term may begin with a registry. limit 0: the registry's. filters: is-official, is-automated, stars. */
json_t *gt_registry_search(struct gt_images *images, const char *term, int64_t limit, const json_t *filters, const json_t *auth,
			   struct gt_progress *progress, struct gt_error *err);

/*
 * What a container has changed, in the order of gt_layer_diff: without the mount points of the engine's own files (/etc/hosts, /etc/hostname,
 * /etc/resolv.conf), and without an /etc in which nothing else changed. A visit that is not 0 ends it, as there. *moot (or NULL): such an /etc was left out that
 * the image has too, so that its own attributes may have changed.
 */
int gt_container_layer_changes(struct gt_driver *storage, const char *layer, gantry_visit_change visit, void *arg, bool *moot,
			       struct gt_error *err);
/* commit: seals a container's changes as a new layer on `parent` (image id, or NULL). */
struct gt_image_commit {
	const char *parent;             /* image id */
	const char *container_layer;    /* writable layer id in the storage driver */
	const char *container_id;
	const struct gt_strings *command;       /* what the container ran, for the history; NULL: unknown */
	const char *author, *message, *repo, *tag;      /* NULL: none */
	struct gt_image_config config;  /* borrowed */
};
int gt_image_commit(struct gt_images *images, const struct gt_image_commit *how, char id[72], struct gt_error *err);

/* Writable layers of containers. */
int gt_image_layer_create(struct gt_images *images, const char *container_id, const char *image_id, const json_t *storage_opt,
			  struct gt_error *err);
int gt_image_layer_remove(struct gt_images *images, const char *container_id, struct gt_error *err);

/* Called after start-up with an embedded image file (<libexec>/../share or config): loads it where a fresh store has never had it. */
int gt_images_load_embedded(struct gt_images *images, const char *path, struct gt_error *err);

/* ---- steps of builds (step.c) ---- */

/* What COPY, ADD and WORKDIR put into a layer (fshelper/copy.c). */
struct gt_copy_source {
	char *dir;                      /* a directory of the host, of ours; */
	char *image;                    /* or an image's id */
};
struct gt_copy {
	struct gt_copy_source *sources; /* none: WORKDIR, dest alone is made */
	size_t source_count;
	struct gt_strings items;        /* patterns, */
	size_t *item_sources;           /* relative to sources[item_sources[i]] */
	char *dest;                     /* absolute */
	bool dest_is_dir, parents, unpack;
	bool link;                      /* without a look at what the image has */
	char *chown, *chmod;            /* NULL: as they are */
	int64_t uid, gid;               /* where chown is NULL; -1: the source's */
	struct gt_strings exclude;
	const struct gt_strings *ignore;        /* .dockerignore, for sources[0]; may be NULL */
	const char *known;              /* path of digests of files of sources[0] (gt_fs_context); NULL */
	int64_t now, clamp;             /* s: time of directories that are made; latest of all files */
};
void gt_copy_free(struct gt_copy *copy);
void gt_copy_add_source(struct gt_copy *copy, const char *dir, const char *image);
void gt_copy_add_item(struct gt_copy *copy, const char *path, size_t source);
/* The digest of the layer that it would make on image `parent` (id; NULL: from scratch), and how many entries that has. */
int gt_image_copy_digest(struct gt_images *images, const char *parent, const struct gt_copy *copy, char digest[65], int64_t *count,
			 struct gt_error *err);
/* The same files into a fresh directory of the host. */
int gt_image_copy_out(struct gt_images *images, const struct gt_copy *copy, const char *dir, struct gt_error *err);

struct gt_image_step {
	const char *parent;             /* image id; NULL: from scratch */
	const struct gt_image_config *config;
	const char *architecture, *variant;     /* from scratch alone */
	const char *author;             /* NULL: the parent's */
	const char *created_by, *comment;
	int64_t created;                /* ns */
	int64_t clamp;                  /* s: latest time of files */
	char key[65];                   /* what it is made from: found again by it */
	const char *container_layer;    /* the layer is: the changes of this writable layer, */
	const struct gt_strings *mount_points;  /* without what was made there to mount on; NULL */
	const struct gt_copy *copy;     /* or these files, */
	const char *adopt;              /* or the same as in this image, right above the parent's; */
};                                      /* none of them: no layer */
/* Makes an image of one step, held for `holder`. */
int gt_image_step(struct gt_images *images, const struct gt_image_step *step, const char *holder, char id[72], struct gt_error *err);
/* An image like `id`, with one layer for all those that it has over image `base` (NULL: all it has); held for `holder`. clamp: as in a step. */
int gt_image_squash(struct gt_images *images, const char *base, const char *id, int64_t clamp, const char *holder, char squashed[72],
		    struct gt_error *err);
/* All files of an image as a tar. */
struct gt_stream *gt_image_files(struct gt_images *images, const char *name, struct gt_error *err);
/* Whether there is an image of that key on that parent; it is held for `holder` then. */
bool gt_image_step_find(struct gt_images *images, const char *parent, const char *key, const char *holder, char id[72]);
/* The image is the result of a build: no mere step any more. */
int gt_image_step_keep(struct gt_images *images, const char *id, struct gt_error *err);
/* Whether `ancestor` is the image `id` or one that it was made from on this host. */
bool gt_image_descends(struct gt_images *images, const char *id, const char *ancestor);
/* A build holds its images by one name, and gives them back all at once. */
int gt_image_hold_for(struct gt_images *images, const char *id, const char *holder, struct gt_error *err);
void gt_image_release_all(struct gt_images *images, const char *holder);
/* Steps that no image stands on and nobody holds. older: ns, those not used since alone; keep: bytes of layers that may stay, oldest go first.
 * Returns ids removed; *bytes grows by what is freed. */
json_t *gt_image_steps_prune(struct gt_images *images, int64_t older, int64_t keep, int64_t *bytes, struct gt_error *err);
/* Docker's BuildCache records. */
json_t *gt_image_steps_usage(struct gt_images *images);
