/*
 * layers.c - the table of layers: rebuilt from the directory when the driver is opened, the truth from then on.
 *
 * What a crash left goes to trash/: directories without a record, image layers that were not sealed. Short names that lead nowhere are removed,
 * missing ones made again. A layer whose parent is lost stays, as it may hold a container's files, but cannot be mounted.
 */
#include "overlay.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

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

struct layer *layer_find(struct overlay *self, const char *id)
{
	struct layer **node = tfind(id, &self->table, by_id);
	return node ? *node : NULL;
}

struct layer *layer_get(struct overlay *self, const char *id, struct gantry_error *err)
{
	if (check_id(id, err) < 0)
		return NULL;
	struct layer *layer = layer_find(self, id);
	if (!layer)
		gantry_fail(err, GANTRY_E_NOT_FOUND, "there is no layer %.12s", id);
	return layer;
}

void new_link_name(char link[LINK_LEN + 1])
{
	unsigned char random[LINK_LEN];
	if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
		abort(); /* cannot be for so few bytes */
	for (int i = 0; i < LINK_LEN; i++)
		link[i] = "abcdefghijklmnopqrstuvwxyz234567"[random[i] & 31];
	link[LINK_LEN] = '\0';
}

static void set_parent(struct layer *layer, struct layer *parent)
{
	layer->parent = parent;
	layer->height = parent ? parent->height + 1 : 0;
	if (parent)
		parent->children++;
}

struct layer *layer_insert(struct overlay *self, const char *id, int kind, struct layer *parent)
{
	struct layer *layer = calloc(1, sizeof *layer);
	if (!layer)
		return NULL;
	snprintf(layer->id, sizeof layer->id, "%s", id);
	layer->kind = kind;
	layer->mode = 0755;
	if (kind == GANTRY_LAYER_IMAGE)
		new_link_name(layer->link);
	if (!tsearch(layer, &self->table, by_id)) {
		free(layer);
		return NULL;
	}
	set_parent(layer, parent);
	return layer;
}

void layer_drop(struct overlay *self, struct layer *layer)
{
	tdelete(layer, &self->table, by_id);
	if (layer->parent)
		layer->parent->children--;
	free(layer);
}

void layers_free(struct overlay *self)
{
	tdestroy(self->table, free);
	self->table = NULL;
}

/* ---- the table as a list ---- */

struct list {
	struct layer **items;
	size_t count, room;
	bool failed;
};

static void collect(const void *node, VISIT when, void *arg)
{
	struct list *list = arg;
	if (list->failed || (when != postorder && when != leaf))
		return;
	if (list->count == list->room) {
		size_t room = list->room ? 2 * list->room : 256;
		struct layer **items = realloc(list->items, room * sizeof(struct layer *));
		if (!items) {
			list->failed = true;
			return;
		}
		list->items = items;
		list->room = room;
	}
	list->items[list->count++] = *(struct layer *const *)node;
}

/* With the lock held, or before others know the driver. */
static int list_layers(struct overlay *self, struct list *list, struct gantry_error *err)
{
	*list = (struct list){ 0 };
	twalk_r(self->table, collect, list);
	if (!list->failed)
		return 0;
	free(list->items);
	*list = (struct list){ 0 };
	gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	return -1;
}

int layers_list(struct overlay *self, gantry_visit visit, void *arg, struct gantry_error *err)
{
	struct list list;
	pthread_mutex_lock(&self->lock);
	int rc = list_layers(self, &list, err);
	char (*ids)[ID_MAX + 1] = rc == 0 ? calloc(list.count + 1, sizeof *ids) : NULL;
	for (size_t i = 0; ids && i < list.count; i++)
		memcpy(ids[i], list.items[i]->id, sizeof ids[i]);
	pthread_mutex_unlock(&self->lock);
	if (rc < 0)
		return -1;
	for (size_t i = 0; ids && i < list.count && visit(arg, ids[i]) == 0; i++)
		;
	free(list.items);
	if (!ids)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	free(ids);
	return 0;
}

/* ---- records ---- */

void about_text(const char *link, const char *parent, int kind, char text[ABOUT_ROOM])
{
	if (kind == GANTRY_LAYER_IMAGE)
		snprintf(text, ABOUT_ROOM, "image %s %s", link, parent ? parent : "-");
	else
		snprintf(text, ABOUT_ROOM, "writable %s", parent ? parent : "-");
}

struct record {
	int kind;
	char link[LINK_LEN + 1];
	char parent[ID_MAX + 1];
};

/* False where there is no record, or not one of ours. */
static bool read_record(struct overlay *self, const char *id, struct record *record)
{
	char path[ID_MAX + 16], text[ABOUT_ROOM];
	snprintf(path, sizeof path, "%s/about", id);
	ssize_t len = readlinkat(self->layers_fd, path, text, sizeof text - 1);
	if (len <= 0)
		return false;
	text[len] = '\0';
	*record = (struct record){ 0 };
	if (strncmp(text, "image ", 6) == 0) {
		char *space = strchr(text + 6, ' ');
		if (!space || space - (text + 6) != LINK_LEN || strlen(space + 1) > ID_MAX)
			return false;
		record->kind = GANTRY_LAYER_IMAGE;
		memcpy(record->link, text + 6, LINK_LEN);
		snprintf(record->parent, sizeof record->parent, "%s", space + 1);
	} else if (strncmp(text, "writable ", 9) == 0 && strlen(text + 9) <= ID_MAX) {
		record->kind = GANTRY_LAYER_WRITABLE;
		snprintf(record->parent, sizeof record->parent, "%s", text + 9);
	} else {
		return false;
	}
	return record->link[strcspn(record->link, "/.")] == '\0' && record->parent[0] != '\0';
}

void layer_note_root(struct overlay *self, struct layer *layer)
{
	char path[ID_MAX + 16];
	struct stat st;
	snprintf(path, sizeof path, "%s/diff", layer->id);
	if (fstatat(self->layers_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	layer->mode = st.st_mode & 07777;
	layer->uid = st.st_uid;
	layer->gid = st.st_gid;
}

static bool has_entry(struct overlay *self, const char *id, const char *name)
{
	char path[ID_MAX + 16];
	struct stat st;
	snprintf(path, sizeof path, "%s/%s", id, name);
	return fstatat(self->layers_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* ---- at open ---- */

/* One directory of layers/: into the table, still without its parent, which may come later; or out of the way. */
static int load_one(struct overlay *self, const char *id, unsigned *removed, struct gantry_error *err)
{
	struct record record;
	char trash_name[16];
	struct gantry_error bad_id;
	if (check_id(id, &bad_id) < 0) {
		self->host->log(self->host, GANTRY_WARN, "there is something in the directory of layers that is no layer; it is left alone");
		return 0;
	}
	bool whole = read_record(self, id, &record) && (record.kind == GANTRY_LAYER_WRITABLE || has_entry(self, id, "sealed"));
	if (!whole || !has_entry(self, id, "diff")) {
		++*removed;
		return trash_put(self, self->layers_fd, id, trash_name, err);
	}
	struct layer *layer = layer_insert(self, id, record.kind, NULL);
	if (!layer)
		return gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	memcpy(layer->link, record.link, sizeof layer->link);
	layer->sealed = record.kind == GANTRY_LAYER_IMAGE;
	if (layer->sealed)
		layer_note_root(self, layer);
	return 0;
}

static int load_directories(struct overlay *self, unsigned *removed, struct gantry_error *err)
{
	struct names names = { 0 };
	int rc = names_read(&names, self->layers_fd);
	if (rc < 0)
		gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "read %s/layers", self->dir);
	for (size_t i = 0; rc == 0 && i < names.count; i++)
		rc = load_one(self, names.items[i], removed, err);
	names_free(&names);
	return rc;
}

static void link_parents(struct overlay *self, const struct list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		struct layer *layer = list->items[i];
		struct record record;
		if (!read_record(self, layer->id, &record) || strcmp(record.parent, "-") == 0)
			continue;
		struct layer *parent = layer_find(self, record.parent);
		if (parent && parent->sealed && parent != layer)
			set_parent(layer, parent);
		else
			layer->orphan = true;
	}
	/* Heights and orphans go up through the generations; more than MAX_LOWERS of them is a ring made by hand. */
	for (size_t i = 0; i < list->count; i++) {
		struct layer *layer = list->items[i];
		layer->height = 0;
		for (const struct layer *below = layer->parent; below; below = below->parent) {
			layer->orphan |= below->orphan;
			if (++layer->height > MAX_LOWERS) {
				layer->orphan = true;
				break;
			}
		}
		if (layer->orphan) {
			char line[96 + ID_MAX];
			snprintf(line, sizeof line, "layer %s has lost a layer below it and cannot be mounted", layer->id);
			self->host->log(self->host, GANTRY_WARN, line);
		}
	}
}

/* l/ as it should be: one link for each image layer. */
static int repair_links(struct overlay *self, const struct list *list, struct gantry_error *err)
{
	struct names names = { 0 };
	char target[ID_MAX + 32], found[ID_MAX + 32];
	if (names_read(&names, self->links_fd) < 0) {
		names_free(&names);
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "read %s/l", self->dir);
	}
	for (size_t i = 0; i < names.count; i++) {
		ssize_t len = readlinkat(self->links_fd, names.items[i], found, sizeof found - 1);
		char *id = found + strlen("../layers/"), *end;
		found[len > 0 ? len : 0] = '\0';
		struct layer *layer = NULL;
		if (strncmp(found, "../layers/", strlen("../layers/")) == 0 && (end = strstr(id, "/diff")) && end[5] == '\0') {
			*end = '\0';
			layer = layer_find(self, id);
		}
		if (!layer || strcmp(layer->link, names.items[i]) != 0)
			unlinkat(self->links_fd, names.items[i], 0);
	}
	names_free(&names);
	for (size_t i = 0; i < list->count; i++) {
		const struct layer *layer = list->items[i];
		snprintf(target, sizeof target, "../layers/%s/diff", layer->id);
		if (layer->link[0] && symlinkat(target, self->links_fd, layer->link) < 0 && errno != EEXIST)
			return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "make the short name of layer %.12s", layer->id);
	}
	return 0;
}

int layers_load(struct overlay *self, struct gantry_error *err)
{
	struct list list;
	unsigned removed = 0;
	if (load_directories(self, &removed, err) < 0 || list_layers(self, &list, err) < 0)
		return -1;
	link_parents(self, &list);
	int rc = repair_links(self, &list, err);
	free(list.items);
	if (removed) {
		char line[96];
		snprintf(line, sizeof line, "%u half-made %s of an earlier life removed", removed, removed == 1 ? "layer" : "layers");
		self->host->log(self->host, GANTRY_INFO, line);
	}
	return rc;
}
