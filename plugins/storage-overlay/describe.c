/*
 * describe.c - what to mount for a layer.
 *
 *   writable             lowerdir=<parent>:...:<base>,upperdir=<own diff>,workdir=<own work>
 *   read-only            lowerdir=<own>:<parent>:...:<base>
 *
 * overlayfs wants at least one lower directory, and two where there is no upper one: empty/ fills in. A read-only view of a layer that a running
 * container writes to is allowed (and never with index=on, which would forbid it).
 */
#include "overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

struct text {
	char *to;
	size_t len, room;
	bool full;
};

__attribute__((format(printf, 2, 3))) static void append(struct text *text, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int len = vsnprintf(text->to + text->len, text->room - text->len, fmt, ap);
	va_end(ap);
	if (len < 0 || (size_t)len >= text->room - text->len)
		text->full = true;
	else
		text->len += (size_t)len;
}

/* With the lock held. */
static int check(const struct layer *layer, bool read_only, struct gantry_error *err)
{
	if (layer->orphan)
		return gantry_fail(err, GANTRY_E_INTERNAL, "layer %.12s cannot be mounted: a layer below it is lost", layer->id);
	if (layer->kind == GANTRY_LAYER_WRITABLE)
		return 0;
	if (!layer->sealed)
		return gantry_fail(err, GANTRY_E_CONFLICT, "layer %.12s cannot be mounted before it is sealed", layer->id);
	if (!read_only)
		return gantry_fail(err, GANTRY_E_INVALID, "layer %.12s is an image layer: it can be mounted read-only alone", layer->id);
	return 0;
}

/* With the lock held. */
static void describe(const struct overlay *self, const struct layer *layer, bool read_only, struct text *text)
{
	unsigned lowers = 0;
	append(text, "lowerdir=");
	if (read_only) {
		if (layer->link[0])
			append(text, "%s/l/%s", self->dir, layer->link);
		else
			append(text, "%s/layers/%s/diff", self->dir, layer->id);
		lowers++;
	}
	for (const struct layer *below = layer->parent; below && !text->full; below = below->parent)
		append(text, "%s%s/l/%s", lowers++ ? ":" : "", self->dir, below->link);
	if (lowers == 0 || (read_only && lowers == 1))
		append(text, "%s%s/empty", lowers ? ":" : "", self->dir);
	if (!read_only)
		append(text, ",upperdir=%s/layers/%s/diff,workdir=%s/layers/%s/work", self->dir, layer->id, self->dir, layer->id);
	append(text, "%s%s", self->options, read_only ? ",index=off" : self->rw_options);
}

/* A volatile mount leaves a mark that forbids the next one, as after a power cut the files may be torn. The engine knows of a power cut: its run
 * directory is empty. Here the mark of an earlier mount is taken away. */
static void forget_volatile(const struct overlay *self, const char *id)
{
	static const char *const MARKS[] = { "work/work/incompat/volatile/dirty", "work/work/incompat/volatile", "work/work/incompat" };
	char path[ID_MAX + 48];
	for (size_t i = 0; i < 3; i++) {
		snprintf(path, sizeof path, "%s/%s", id, MARKS[i]);
		if (unlinkat(self->layers_fd, path, i ? AT_REMOVEDIR : 0) < 0 && errno != ENOENT)
			return; /* the mount will say what is wrong */
	}
}

int describe_mount(struct overlay *self, const char *id, bool read_only, struct gantry_mount *mount, struct gantry_error *err)
{
	struct text text = { .to = mount->options, .room = sizeof mount->options };
	pthread_mutex_lock(&self->lock);
	const struct layer *layer = layer_get(self, id, err);
	int rc = layer ? check(layer, read_only, err) : -1;
	if (rc == 0)
		describe(self, layer, read_only, &text);
	pthread_mutex_unlock(&self->lock);
	if (rc < 0)
		return -1;
	if (text.full)
		return gantry_fail(err, GANTRY_E_UNSUPPORTED, "layer %.12s stands on too many layers to be described in %d bytes", id,
				   GANTRY_MOUNT_OPTIONS_MAX);
	if (self->is_volatile && !read_only)
		forget_volatile(self, id);
	snprintf(mount->type, sizeof mount->type, "overlay");
	snprintf(mount->source, sizeof mount->source, "overlay");
	mount->flags = GANTRY_MOUNT_IDMAP;
	return 0;
}
