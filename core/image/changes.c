/*
 * changes.c - what a container has changed against its image, for `diff`, `commit` and builds.
 */
#include <string.h>

#include "internal.h"

/* In every container these are mounts of the engine's. What lies beneath is a mount point that the engine made, and no change of the container's. */
static bool is_network_file(const char *path)
{
	return strcmp(path, "/etc/hosts") == 0 || strcmp(path, "/etc/hostname") == 0 || strcmp(path, "/etc/resolv.conf") == 0;
}

struct filter_changes {
	gantry_visit_change visit;
	void *arg;
	int etc;        /* the kind of /etc's change while it is not known whether more than the engine's files stands behind it; -1: none */
	bool own;       /* the engine's files have been met */
	bool moot;
};

/* Other changes below /etc, or none of the engine's: then /etc counts. */
static int settle_etc(struct filter_changes *filter, bool other)
{
	int kind = filter->etc;
	filter->etc = -1;
	if (kind >= 0 && (other || !filter->own))
		return filter->visit(filter->arg, kind, "/etc");
	filter->moot |= kind == GANTRY_MODIFIED;
	return 0;
}

static int pass_on(void *arg, int kind, const char *path)
{
	struct filter_changes *filter = arg;
	if (strcmp(path, "/etc") == 0) {
		filter->etc = kind;
		return 0;
	}
	if (is_network_file(path)) {
		filter->own = true;
		return 0;
	}
	int rc = settle_etc(filter, strncmp(path, "/etc/", 5) == 0);
	return rc ? rc : filter->visit(filter->arg, kind, path);
}

int gt_container_layer_changes(struct gt_driver *storage, const char *layer, gantry_visit_change visit, void *arg, bool *moot,
			       struct gt_error *err)
{
	struct filter_changes filter = { .visit = visit, .arg = arg, .etc = -1 };
	int rc = gt_layer_diff(storage, layer, pass_on, &filter, err);
	if (rc == 0)
		rc = settle_etc(&filter, false);
	if (moot)
		*moot = filter.moot;
	return rc;
}
