/*
 * diff.c - what a layer changes, read from its own directory and those below; nothing is mounted for it.
 *
 * A directory of the layer is seen three ways:
 *   upper  what the layer itself has there (-1: nothing; the directory came along with a renamed one above)
 *   base   the lower directories that shine through it now: none where it is opaque, others where it was renamed (redirected)
 *   old    the lower directories that stood at this path before the layer
 * In nearly all of them base is old, and only what upper has can be a change. Where they differ, all names of the three are compared.
 *
 * Changes come in order of names, parents first. A directory that was copied up without a change of its own is told only where something in
 * it changed (`docker diff` shows it as changed then). Layers below the first are sealed image layers: they have no redirects. Running containers may
 * change things meanwhile: what vanishes is passed over.
 */
#include "overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Lower directories, topmost first. */
struct stack {
	int *fds;
	size_t count;
};

struct frame {
	struct frame *up;
	int upper;
	struct stack base, old;
	bool same;              /* base is old */
	bool told;              /* has been reported, or need not be */
	size_t path_len;
};

struct walk {
	struct overlay *self;
	const struct gantry_call *call;
	gantry_visit_change visit;
	void *arg;
	struct gantry_error *err;
	struct frame *root;
	unsigned depth, entries;
	char path[GANTRY_PATH_MAX];
};

enum { STOPPED = 1 };   /* the visitor has had enough: not an error */

static int fail(struct walk *walk, const char *what)
{
	return gantry_fail_errno(walk->err, GANTRY_E_INTERNAL, errno, "compare %s: %s", walk->path[0] ? walk->path : "/", what);
}

/* ---- overlayfs' marks ---- */

static bool is_whiteout(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

static bool is_opaque(int fd)
{
	char value[4];
	return fgetxattr(fd, "trusted.overlay.opaque", value, sizeof value) == 1 && value[0] == 'y';
}

static int open_dir(int dirfd, const char *name)
{
	return openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
}

/* ---- stacks ---- */

static void stack_free(struct stack *stack)
{
	for (size_t i = 0; i < stack->count; i++)
		close(stack->fds[i]);
	free(stack->fds);
	*stack = (struct stack){ 0 };
}

/* Takes fd over. */
static int stack_push(struct stack *stack, int fd)
{
	int *fds = realloc(stack->fds, (stack->count + 1) * sizeof *fds);
	if (!fds) {
		close(fd);
		errno = ENOMEM;
		return -1;
	}
	stack->fds = fds;
	fds[stack->count++] = fd;
	return 0;
}

/* What the merged lower directories show as `name`: 1 and *st, 0 for nothing, -1 with errno. Where it is a directory and `sub` is given, its own
 * stack. */
static int find(const struct stack *in, const char *name, struct stat *st, struct stack *sub)
{
	bool found = false;
	for (size_t i = 0; i < in->count; i++) {
		struct stat here;
		if (fstatat(in->fds[i], name, &here, AT_SYMLINK_NOFOLLOW) < 0) {
			if (errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG)
				continue;
			return -1;
		}
		if (is_whiteout(&here) || (found && !S_ISDIR(here.st_mode)))
			break;
		if (!found)
			*st = here;
		found = true;
		if (!S_ISDIR(here.st_mode) || !sub)
			break;
		int fd = open_dir(in->fds[i], name);
		if (fd < 0)
			return -1;
		bool last = is_opaque(fd);
		if (stack_push(sub, fd) < 0)
			return -1;
		if (last)
			break;
	}
	return found;
}

/* The stack behind a redirect: an absolute path in the lower layers, or another name in the same directory. */
static int follow_redirect(struct walk *walk, const struct frame *frame, char *value, struct stack *sub)
{
	struct stack at = { 0 };
	struct stat st;
	char *rest = value, *word;
	int rc = 1;
	if (value[0] != '/')
		return strchr(value, '/') ? 0 : find(&frame->base, value, &st, sub);
	const struct stack *from = &walk->root->base;
	while (rc > 0 && (word = strsep(&rest, "/")) != NULL) {
		struct stack next = { 0 };
		if (!*word)
			continue;
		if (strcmp(word, ".") == 0 || strcmp(word, "..") == 0)
			rc = 0;
		else
			rc = find(from, word, &st, &next);
		stack_free(&at);
		at = next;
		from = &at;
	}
	if (rc > 0)
		*sub = at;
	else
		stack_free(&at);
	return rc;
}

/* ---- reporting ---- */

static int report(struct walk *walk, int kind)
{
	return walk->visit(walk->arg, kind, walk->path) ? STOPPED : 0;
}

/* A directory above a change has changed too. */
static int tell_parents(struct walk *walk, struct frame *frame)
{
	if (frame->told)
		return 0;
	int rc = tell_parents(walk, frame->up);
	if (rc != 0)
		return rc;
	char cut = walk->path[frame->path_len];
	walk->path[frame->path_len] = '\0';
	frame->told = true;
	rc = report(walk, GANTRY_MODIFIED);
	walk->path[frame->path_len] = cut;
	return rc;
}

static int change(struct walk *walk, struct frame *frame, int kind)
{
	int rc = tell_parents(walk, frame);
	return rc != 0 ? rc : report(walk, kind);
}

/* ---- directories ---- */

static bool same_xattr(int a, int b, const char *name)
{
	char one[4096], two[4096];
	ssize_t len = fgetxattr(a, name, one, sizeof one);
	return len >= 0 && fgetxattr(b, name, two, sizeof two) == len && memcmp(one, two, (size_t)len) == 0;
}

/* Attributes but overlayfs' own. What cannot be read counts as different. */
static bool same_xattrs(int a, int b)
{
	char list[2][8192];
	ssize_t len[2] = { flistxattr(a, list[0], sizeof list[0]), flistxattr(b, list[1], sizeof list[1]) };
	unsigned count[2] = { 0 };
	if (len[0] < 0 || len[1] < 0)
		return len[0] < 0 && len[1] < 0 && errno == EOPNOTSUPP;
	for (int side = 0; side < 2; side++) {
		for (const char *p = list[side]; p < list[side] + len[side]; p += strlen(p) + 1) {
			if (strncmp(p, "trusted.overlay.", 16) == 0)
				continue;
			count[side]++;
			if (side == 0 && !same_xattr(a, b, p))
				return false;
		}
	}
	return count[0] == count[1];
}

static bool dir_changed(int upper, const struct stack *old)
{
	struct stat a, b;
	if (upper < 0 || old->count == 0 || fstat(upper, &a) < 0 || fstat(old->fds[0], &b) < 0)
		return true;
	return a.st_mode != b.st_mode || a.st_uid != b.st_uid || a.st_gid != b.st_gid || a.st_mtim.tv_sec != b.st_mtim.tv_sec ||
	       a.st_mtim.tv_nsec != b.st_mtim.tv_nsec || !same_xattrs(upper, old->fds[0]);
}

static int walk_frame(struct walk *walk, struct frame *frame);

/* What shines through the directory `name`, whose upper part is child->upper. */
static int find_base(struct walk *walk, const struct frame *frame, const char *name, struct frame *child)
{
	struct stat st;
	char value[GANTRY_PATH_MAX];
	if (child->upper < 0)
		return find(&frame->base, name, &st, &child->base);
	if (is_opaque(child->upper)) {
		child->same = false;
		return 0;
	}
	ssize_t len = walk->self->follow ? fgetxattr(child->upper, "trusted.overlay.redirect", value, sizeof value - 1) : -1;
	if (len > 0) {
		value[len] = '\0';
		child->same = false;
		return follow_redirect(walk, frame, value, &child->base);
	}
	return child->same ? 0 : find(&frame->base, name, &st, &child->base);
}

static void frame_free(struct frame *frame)
{
	if (frame->upper >= 0)
		close(frame->upper);
	if (!frame->same)
		stack_free(&frame->base);
	stack_free(&frame->old);
}

static int walk_dir(struct walk *walk, struct frame *frame, const char *name, bool in_upper)
{
	struct frame child = { .up = frame, .upper = -1, .same = frame->same && in_upper, .path_len = strlen(walk->path) };
	struct stat before;
	int rc = 0;
	if (in_upper && (child.upper = open_dir(frame->upper, name)) < 0)
		return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? 0 : fail(walk, "open it");
	before.st_mode = 0;
	int had = find(&frame->old, name, &before, &child.old);
	if (had < 0 || find_base(walk, frame, name, &child) < 0)
		rc = fail(walk, "look it up below");
	if (child.same)
		child.base = child.old;
	if (rc == 0 && (had == 0 || !S_ISDIR(before.st_mode) || !child.same || dir_changed(child.upper, &child.old))) {
		rc = change(walk, frame, had ? GANTRY_MODIFIED : GANTRY_ADDED);
		child.told = true;
	}
	if (rc == 0 && walk->depth >= MAX_DEPTH)
		rc = gantry_fail(walk->err, GANTRY_E_UNSUPPORTED, "%.100s...: directories are nested deeper than %d levels", walk->path, MAX_DEPTH);
	if (rc == 0) {
		walk->depth++;
		rc = walk_frame(walk, &child);
		walk->depth--;
	}
	frame_free(&child);
	return rc;
}

/* One name of a directory; walk->path is its path. */
static int walk_name(struct walk *walk, struct frame *frame, const char *name)
{
	struct stat now, before;
	bool in_upper = frame->upper >= 0 && fstatat(frame->upper, name, &now, AT_SYMLINK_NOFOLLOW) == 0;
	if (frame->upper >= 0 && !in_upper && errno != ENOENT)
		return fail(walk, "look at it");
	if (!in_upper && frame->same)
		return 0; /* gone meanwhile */
	int is = in_upper && !is_whiteout(&now);
	if (!in_upper) {
		now.st_mode = 0;
		is = find(&frame->base, name, &now, NULL);
	}
	if (is > 0 && S_ISDIR(now.st_mode))
		return walk_dir(walk, frame, name, in_upper);
	int was = is < 0 ? -1 : find(&frame->old, name, &before, NULL);
	if (was < 0)
		return fail(walk, "look it up below");
	if (is == 0)
		return was ? change(walk, frame, GANTRY_DELETED) : 0;
	return change(walk, frame, was ? GANTRY_MODIFIED : GANTRY_ADDED);
}

static int add_names(struct names *names, const struct stack *stack)
{
	for (size_t i = 0; i < stack->count; i++) {
		if (names_read(names, stack->fds[i]) < 0)
			return -1;
	}
	return 0;
}

static int list_names(const struct frame *frame, struct names *names)
{
	if (frame->upper >= 0 && names_read(names, frame->upper) < 0)
		return -1;
	if (!frame->same && (add_names(names, &frame->base) < 0 || add_names(names, &frame->old) < 0))
		return -1;
	names_sort(names);
	return 0;
}

static int walk_frame(struct walk *walk, struct frame *frame)
{
	struct names names = { 0 };
	size_t at = frame->path_len;
	int rc = list_names(frame, &names) < 0 ? fail(walk, "list it") : 0;
	for (size_t i = 0; rc == 0 && i < names.count; i++) {
		if (++walk->entries % 256 == 0 && walk->self->host->cancelled(walk->self->host, walk->call)) {
			rc = gantry_fail(walk->err, GANTRY_E_TIMEOUT, "comparing was given up at %.200s", walk->path);
			break;
		}
		size_t len = strlen(names.items[i]);
		if (at + 1 + len >= sizeof walk->path) {
			rc = gantry_fail(walk->err, GANTRY_E_UNSUPPORTED, "%.100s...: a path has more than %zu bytes", walk->path,
					 sizeof walk->path - 1);
			break;
		}
		walk->path[at] = '/';
		memcpy(walk->path + at + 1, names.items[i], len + 1);
		rc = walk_name(walk, frame, names.items[i]);
		walk->path[at] = '\0';
	}
	names_free(&names);
	return rc;
}

/* ---- the layer ---- */

/* The ids of a layer and those below it, NULL for no memory. */
static char (*chain_of(struct overlay *self, const char *id, size_t *count, struct gantry_error *err))[ID_MAX + 1]
{
	pthread_mutex_lock(&self->lock);
	const struct layer *layer = layer_get(self, id, err);
	char (*ids)[ID_MAX + 1] = NULL;
	*count = 0;
	if (layer && layer->orphan)
		gantry_fail(err, GANTRY_E_INTERNAL, "layer %.12s cannot be compared: a layer below it is lost", id);
	else if (layer && !(ids = calloc(layer->height + 1, sizeof *ids)))
		gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	for (; ids && layer; layer = layer->parent)
		memcpy(ids[(*count)++], layer->id, sizeof *ids);
	pthread_mutex_unlock(&self->lock);
	return ids;
}

static int open_chain(struct overlay *self, char (*ids)[ID_MAX + 1], size_t count, struct frame *root, struct gantry_error *err)
{
	char path[ID_MAX + 16];
	for (size_t i = 0; i < count; i++) {
		snprintf(path, sizeof path, "%s/diff", ids[i]);
		int fd = open_dir(self->layers_fd, path);
		if (fd < 0 || (i > 0 && stack_push(&root->old, fd) < 0))
			return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "open the files of layer %.12s", ids[i]);
		if (i == 0)
			root->upper = fd;
		else if (is_opaque(fd))
			break;
	}
	root->base = root->old;
	return 0;
}

int diff_layer(struct overlay *self, const struct gantry_call *call, const char *id, gantry_visit_change visit, void *arg,
	       struct gantry_error *err)
{
	struct frame root = { .upper = -1, .same = true, .told = true };
	size_t count;
	char (*ids)[ID_MAX + 1] = chain_of(self, id, &count, err);
	struct walk *walk = ids ? calloc(1, sizeof *walk) : NULL;
	int rc = -1;
	if (ids && !walk)
		gantry_fail(err, GANTRY_E_INTERNAL, "out of memory");
	if (walk && open_chain(self, ids, count, &root, err) == 0) {
		*walk = (struct walk){ .self = self, .call = call, .visit = visit, .arg = arg, .err = err, .root = &root };
		rc = walk_frame(walk, &root);
	}
	frame_free(&root);
	free(walk);
	free(ids);
	return rc < 0 ? -1 : 0;
}
