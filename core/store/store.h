/*
 * store.h - a directory of crash-safe JSON documents.
 *
 * A collection is a directory below the engine's root; a document is <id>.json in it. Documents are replaced
 * whole (temporary file, fsync, rename, fsync of the directory). A torn, foreign or oversize file is moved to
 * <root>/quarantine/ with a warning and stops nothing else. Thread safe; writers of one document are serialised by
 * the object's own lock.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"

struct gt_store;
struct gt_collection;

#define GT_DOCUMENT_MAX (16u << 20)

/* root is made (mode 0711) where missing. fsync: config's [storage] fsync. */
int gt_store_open(const char *root, bool fsync, struct gt_store **store, struct gt_error *err);
void gt_store_close(struct gt_store *store);
int gt_store_dirfd(const struct gt_store *store);               /* of root; the store's own */
const char *gt_store_root(const struct gt_store *store);

/* `name` may hold slashes ("images/refs"); the directory is made, mode 0700. Temporary files that an earlier process left are removed. Freed with
 * the store. */
struct gt_collection *gt_store_collection(struct gt_store *store, const char *name, struct gt_error *err);

/* id: [A-Za-z0-9._-]{1,128}, not beginning with a dot. durable = false leaves the fsyncs out: for what may be
 * lost with the machine (state of a container that is removed at exit, or that is rebuilt at start). */
int gt_store_put(struct gt_collection *collection, const char *id, const json_t *document, bool durable,
		 struct gt_error *err);
/* GT_NOT_FOUND where there is none. Owned by the caller. */
json_t *gt_store_get(struct gt_collection *collection, const char *id, struct gt_error *err);
int gt_store_remove(struct gt_collection *collection, const char *id, struct gt_error *err);    /* absent: success */

/* Calls fn for each readable document (borrowed); stops where it returns non-zero. Only at start-up, before others
 * use the collection; fn may put and remove documents, and may then see one again. */
int gt_store_each(struct gt_collection *collection, int (*fn)(void *arg, const char *id, json_t *document), void *arg,
		  struct gt_error *err);
/* The same, called by several threads at a time where there are many; fn leaves the collection as it is. */
int gt_store_each_parallel(struct gt_collection *collection, void (*fn)(void *arg, const char *id, json_t *document), void *arg,
			   struct gt_error *err);
/* The same for the ids alone: nothing is read. */
int gt_store_each_id(struct gt_collection *collection, int (*fn)(void *arg, const char *id), void *arg, struct gt_error *err);
/* The ids of its documents that lie in quarantine; one may come several times. Of a collection without a slash in its name. */
int gt_store_each_aside(struct gt_collection *collection, int (*fn)(void *arg, const char *id), void *arg, struct gt_error *err);
/* For a file in the store's own directory: what is there by its name and is no regular file goes into quarantine, with a warning. */
void gt_store_check_file(struct gt_store *store, const char *name);
