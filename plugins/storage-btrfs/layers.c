/*
 * layers.c - the table of layers: rebuilt from the directory when the driver is opened, the truth from then on.
 *
 * What a crash left goes: directories without a record or without a subvolume, image layers that were not sealed. A layer whose parent is lost stays, as
 * a snapshot is whole without it; only what it changes cannot be told any more.
 */
#include "btrfs.h"

#include <btrfsutil.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/names.h"

/* ---- the table ---- */

/* The id comes first in struct layer, so a bare id can be looked for. */
_Static_assert(offsetof(struct layer, id) == 0, "layers are compared by their beginning");

static int by_id(const void *a, const void *b)
{
	return strcmp(a, b);
}

int check_id(const char *id, struct gantry_error *err)
{
	size_t len = strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-");
	if (len == 0 || len > ID_MAX || id[len] || id[0] == '-')
		return gantry_fail(err, GANTRY_E_INVALID, "\"%.64s\" is not a layer id ([a-z0-9][a-z0-9-]{0,127})", id);
	return 0;
}

struct layer *layer_find(struct btrfs *self, const char *id)
{
	struct layer **node = tfind(id, &self->table, by_id);
	return node ? *node : NULL;
}

struct layer *layer_get(struct btrfs *self, const char *id, struct gantry_error *err)
{
	if (check_id(id, err) < 0)
		return NULL;
	struct layer *layer = layer_find(self, id);
	if (!layer)
		gantry_fail(err, GANTRY_E_NOT_FOUND, "there is no layer %.12s", id);
	return layer;
}

struct layer *layer_insert(struct btrfs *self, const char *id, int kind, struct layer *parent)
{
	struct layer *layer = calloc(1, sizeof *layer);
	if (!layer)
		return NULL;
	snprintf(layer->id, sizeof layer->id, "%s", id);
	layer->kind = kind;
	if (!tsearch(layer, &self->table, by_id)) {
		free(layer);
		return NULL;
	}
	layer->parent = parent;
	if (parent)
		parent->children++;
	return layer;
}

void layer_drop(struct btrfs *self, struct layer *layer)
{
	tdelete(layer, &self->table, by_id);
	if (layer->parent)
		layer->parent->children--;
	free(layer);
}

void layers_free(struct btrfs *self)
{
	tdestroy(self->table, free);
	self->table = NULL;
}

/* ---- the table as a list ---- */

struct list {
	char (*ids)[ID_MAX + 1];
	size_t count, room;
	bool failed;
};

static void collect(const void *node, VISIT when, void *arg)
{
	struct list *list = arg;
	if (list->failed || (when != postorder && when != leaf))
		return;
	if (list->count == list->room) {
		size_t room = list->room ? 2 * list->room : 64;
		char (*ids)[ID_MAX + 1] = realloc(list->ids, room * sizeof *ids);
		if (!ids) {
			list->failed = true;
			return;
		}
		list->ids = ids;
		list->room = room;
	}
	memcpy(list->ids[list->count++], (*(struct layer *const *)node)->id, sizeof *list->ids);
}

int layers_list(struct btrfs *self, gantry_visit visit, void *arg, struct gantry_error *err)
{
	struct list list = { 0 };
	pthread_mutex_lock(&self->lock);
	twalk_r(self->table, collect, &list);
	pthread_mutex_unlock(&self->lock);
	for (size_t i = 0; !list.failed && i < list.count && visit(arg, list.ids[i]) == 0; i++)
		;
	free(list.ids);
	return list.failed ? gantry_fail(err, GANTRY_E_INTERNAL, "out of memory") : 0;
}

/* ---- records ---- */

void about_text(const struct layer *layer, char text[RECORD_ROOM])
{
	const char *parent = layer->parent ? layer->parent->id : "-";
	if (layer->kind == GANTRY_LAYER_IMAGE)
		snprintf(text, RECORD_ROOM, "image %s", parent);
	else
		snprintf(text, RECORD_ROOM, "writable %s %" PRIu64, parent, layer->limit);
}

struct record {
	int kind;
	char parent[ID_MAX + 1];        /* "-": none */
	uint64_t limit;
	bool sealed;
	int64_t bytes, inodes;
};

static bool read_link(struct btrfs *self, const char *id, const char *name, char text[RECORD_ROOM])
{
	char path[PATH_ROOM];
	snprintf(path, sizeof path, "%s/%s", id, name);
	ssize_t len = readlinkat(self->layers_fd, path, text, RECORD_ROOM - 1);
	text[len > 0 ? len : 0] = '\0';
	return len > 0;
}

/* False where there is no record, or not one of ours. */
static bool read_record(struct btrfs *self, const char *id, struct record *record)
{
	char text[RECORD_ROOM], parent[RECORD_ROOM];
	int end = 0;
	*record = (struct record){ 0 };
	if (!read_link(self, id, "about", text))
		return false;
	if (sscanf(text, "image %255s%n", parent, &end) == 1 && end && !text[end])
		record->kind = GANTRY_LAYER_IMAGE;
	else if (sscanf(text, "writable %255s %" SCNu64 "%n", parent, &record->limit, &end) == 2 && end && !text[end])
		record->kind = GANTRY_LAYER_WRITABLE;
	else
		return false;
	if (strlen(parent) > ID_MAX)
		return false;
	memcpy(record->parent, parent, strlen(parent) + 1);
	end = 0;
	record->sealed = record->kind == GANTRY_LAYER_IMAGE && read_link(self, id, "sealed", text) &&
			 sscanf(text, "%" SCNd64 " %" SCNd64 "%n", &record->bytes, &record->inodes, &end) == 2 && end && !text[end];
	return true;
}

int tree_open(struct btrfs *self, const char *id)
{
	char path[PATH_ROOM];
	snprintf(path, sizeof path, "%s/tree", id);
	return openat(self->layers_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
}

/* ---- at open ---- */

/* What the record says is made so again: a power cut, or an administrator who turned quotas off, may have undone it. */
static void settle(struct btrfs *self, const struct layer *layer, int fd)
{
	struct gantry_error why = { .size = sizeof why };
	char line[sizeof why.message + ID_MAX + 64];
	if (layer->sealed && subvolume_seal(fd) < 0)
		gantry_fail_errno(&why, GANTRY_E_INTERNAL, errno, "make its files read-only");
	else if (!layer->limit || subvolume_limit(self, fd, layer->limit, &why) == 0)
		return;
	snprintf(line, sizeof line, "layer %s: %s", layer->id, why.message);
	self->host->log(self->host, GANTRY_WARN, line);
}

/* One directory of layers/: into the table, still without its parent, which may come later; or removed. */
static int load_one(struct btrfs *self, const char *id, unsigned *removed, struct gantry_error *err)
{
	struct record record;
	struct gantry_error bad_id;
	if (check_id(id, &bad_id) < 0) {
		self->host->log(self->host, GANTRY_WARN, "there is something in the directory of layers that is no layer; it is left alone");
		return 0;
	}
	int fd = tree_open(self, id);
	if (fd < 0 || btrfs_util_is_subvolume_fd(fd) != BTRFS_UTIL_OK || !read_record(self, id, &record) ||
	    (record.kind == GANTRY_LAYER_IMAGE && !record.sealed)) {
		++*removed;
		if (fd >= 0)
			close(fd);
		return layer_remove_files(self, NULL, id, err);
	}
	struct layer *layer = layer_insert(self, id, record.kind, NULL);
	if (layer) {
		layer->sealed = record.sealed;
		layer->limit = record.limit;
		layer->bytes = record.bytes;
		layer->inodes = record.inodes;
		settle(self, layer, fd);
	}
	close(fd);
	return layer ? 0 : gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
}

static void find_parent(struct btrfs *self, const char *id)
{
	struct layer *layer = layer_find(self, id), *parent;
	struct record record;
	char line[96 + ID_MAX];
	if (!layer || !read_record(self, id, &record) || strcmp(record.parent, "-") == 0)
		return;
	parent = layer_find(self, record.parent);
	if (parent && parent->sealed && parent != layer) {
		layer->parent = parent;
		parent->children++;
		return;
	}
	layer->orphan = true;
	snprintf(line, sizeof line, "layer %s has lost the layer below it: what it changes cannot be told", id);
	self->host->log(self->host, GANTRY_WARN, line);
}

int layers_load(struct btrfs *self, struct gantry_error *err)
{
	struct names names = { 0 };
	unsigned removed = 0;
	int rc = names_read(&names, self->layers_fd);
	if (rc < 0)
		gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "read %s/layers", self->dir);
	for (size_t i = 0; rc == 0 && i < names.count; i++)
		rc = load_one(self, names.items[i], &removed, err);
	for (size_t i = 0; rc == 0 && i < names.count; i++)
		find_parent(self, names.items[i]);
	names_free(&names);
	if (removed) {
		char line[96];
		snprintf(line, sizeof line, "%u half-made %s of an earlier life removed", removed, removed == 1 ? "layer" : "layers");
		self->host->log(self->host, GANTRY_INFO, line);
	}
	return rc;
}
