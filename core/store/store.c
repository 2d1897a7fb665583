#include "store/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/parallel.h"

#define QUARANTINE "quarantine"
#define FEW 32          /* documents for which a thread is not worth its making */

struct gt_collection {
	struct gt_store *store;
	struct gt_collection *next;
	char *name;
	int dirfd;
};

struct gt_store {
	char *root;
	int dirfd;
	bool fsync;
	pthread_mutex_t lock;           /* guards collections */
	struct gt_collection *collections;
};

/* Temporary files of writes that a crash has cut (gt_replace_file): nobody writes here yet. */
static void sweep(int dirfd)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	for (struct dirent *entry; dir && (entry = readdir(dir)) != NULL;) {
		size_t len = strlen(entry->d_name);
		if (entry->d_name[0] == '.' && len > 4 && !strcmp(entry->d_name + len - 4, ".tmp"))
			unlinkat(dirfd, entry->d_name, 0);
	}
	if (dir)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
}

int gt_store_open(const char *root, bool fsync, struct gt_store **out, struct gt_error *err)
{
	if (gt_mkdirs(AT_FDCWD, root, 0711, err) < 0)
		return gt_context(err, "make the state directory %s", root);
	AUTO_CLOSE int dirfd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return gt_fail_errno(err, errno, "open the state directory %s", root);
	sweep(dirfd);
	struct gt_store *store = gt_xcalloc(1, sizeof *store);
	store->root = gt_xstrdup(root);
	store->dirfd = take_fd(dirfd);
	store->fsync = fsync;
	pthread_mutex_init(&store->lock, NULL);
	*out = store;
	return 0;
}

void gt_store_close(struct gt_store *store)
{
	if (!store)
		return;
	while (store->collections) {
		struct gt_collection *collection = store->collections;
		store->collections = collection->next;
		close(collection->dirfd);
		free(collection->name);
		free(collection);
	}
	close(store->dirfd);
	pthread_mutex_destroy(&store->lock);
	free(store->root);
	free(store);
}

int gt_store_dirfd(const struct gt_store *store)
{
	return store->dirfd;
}

const char *gt_store_root(const struct gt_store *store)
{
	return store->root;
}

struct gt_collection *gt_store_collection(struct gt_store *store, const char *name, struct gt_error *err)
{
	LOCKED(&store->lock);
	for (struct gt_collection *known = store->collections; known; known = known->next)
		if (!strcmp(known->name, name))
			return known;
	if (gt_mkdirs(store->dirfd, name, 0700, err) < 0)
		return NULL;
	int dirfd = openat(store->dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0) {
		gt_fail_errno(err, errno, "open %s/%s", store->root, name);
		return NULL;
	}
	sweep(dirfd);
	struct gt_collection *collection = gt_xcalloc(1, sizeof *collection);
	collection->store = store;
	collection->name = gt_xstrdup(name);
	collection->dirfd = dirfd;
	collection->next = store->collections;
	store->collections = collection;
	return collection;
}

/* ---- documents ---- */

static int file_name(const char *id, char name[static 160], struct gt_error *err)
{
	size_t len = strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
	if (len == 0 || len > 128 || id[len] || id[0] == '.')
		return gt_fail(err, GT_INVALID, "\"%.64s\" cannot name a document: use 1 to 128 of A-Z a-z 0-9 . _ -", id);
	snprintf(name, 160, "%s.json", id);
	return 0;
}

int gt_store_put(struct gt_collection *collection, const char *id, const json_t *document, bool durable,
		 struct gt_error *err)
{
	char name[160];
	if (file_name(id, name, err) < 0)
		return -1;
	AUTO_FREE char *text = json_dumps(document, JSON_COMPACT | JSON_ENCODE_ANY);
	if (!text)
		return gt_fail(err, GT_INTERNAL, "document %s/%s cannot be written as JSON", collection->name, id);
	if (gt_replace_file(collection->dirfd, name, text, strlen(text), 0600, durable && collection->store->fsync, err) < 0)
		return gt_context(err, "save %s/%s", collection->name, id);
	return 0;
}

/* Out of the way, with its bytes kept for a person to look at: as quarantine/COLLECTION-TIME-NAME, a slash of the collection's name as a dot. */
static void put_aside(struct gt_store *store, int dirfd, const char *collection, const char *name, const char *why)
{
	AUTO_FREE char *kept = gt_xasprintf(QUARANTINE "/%s-%lld-%s", collection, (long long)gt_now(), name);
	for (char *p = kept + strlen(QUARANTINE "/"); (p = strchr(p, '/')) != NULL;)
		*p = '.';
	if (mkdirat(store->dirfd, QUARANTINE, 0700) < 0 && errno != EEXIST)
		gt_warn("no quarantine directory can be made", "error", strerror(errno));
	const char *moved = renameat(dirfd, name, store->dirfd, kept) == 0 ? kept : strerror(errno);
	gt_warn("a state document is unreadable and was put aside", "collection", collection, "file", name, "reason", why, "moved_to", moved);
}

static void quarantine(struct gt_collection *collection, const char *name, const char *why)
{
	put_aside(collection->store, collection->dirfd, collection->name, name, why);
}

void gt_store_check_file(struct gt_store *store, const char *name)
{
	struct stat st;
	if (fstatat(store->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st.st_mode))
		put_aside(store, store->dirfd, "root", name, "it is not a regular file");
}

static json_t *read_document(struct gt_collection *collection, const char *name, struct gt_error *err)
{
	AUTO_BUF struct gt_buf text = { 0 };
	struct stat st;
	if (fstatat(collection->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st.st_mode))
		return gt_fail_null(err, GT_INVALID, "it is not a regular file");
	if (gt_read_file(collection->dirfd, name, GT_DOCUMENT_MAX, &text, err) < 0)
		return NULL;
	return gt_json_parse(text.data ? text.data : "", text.len, "document", err);
}

json_t *gt_store_get(struct gt_collection *collection, const char *id, struct gt_error *err)
{
	char name[160];
	struct gt_error why = { 0 };
	if (file_name(id, name, err) < 0)
		return NULL;
	json_t *document = read_document(collection, name, &why);
	if (document)
		return document;
	if (why.kind != GT_NOT_FOUND)
		quarantine(collection, name, why.message);
	return gt_fail_null(err, why.kind == GT_NOT_FOUND ? GT_NOT_FOUND : GT_INTERNAL, "document %s/%s: %s",
			    collection->name, id, why.message);
}

int gt_store_remove(struct gt_collection *collection, const char *id, struct gt_error *err)
{
	char name[160];
	if (file_name(id, name, err) < 0)
		return -1;
	if (unlinkat(collection->dirfd, name, 0) < 0 && errno != ENOENT)
		return gt_fail_errno(err, errno, "remove document %s/%s", collection->name, id);
	return 0;
}

/* ---- all of them ---- */

/* Ends with ".json" and has a name before it. */
static bool is_document(const char *name, size_t *id_len)
{
	size_t len = strlen(name);
	if (len <= 5 || name[0] == '.' || strcmp(name + len - 5, ".json"))
		return false;
	*id_len = len - 5;
	return true;
}

int gt_store_each_id(struct gt_collection *collection, int (*fn)(void *arg, const char *id), void *arg, struct gt_error *err)
{
	int fd = openat(collection->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		gt_fail_errno(err, errno, "read %s/%s", collection->store->root, collection->name);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	int stop = 0;
	for (struct dirent *entry; !stop && (entry = readdir(dir)) != NULL;) {
		size_t id_len;
		if (!is_document(entry->d_name, &id_len))
			continue;
		AUTO_FREE char *id = gt_xstrndup(entry->d_name, id_len);
		stop = fn(arg, id);
	}
	closedir(dir);
	return stop < 0 ? -1 : 0;
}

struct reading {
	struct gt_collection *collection;
	int (*fn)(void *arg, const char *id, json_t *document);
	void *arg;
};

static int read_one(void *arg, const char *id)
{
	struct reading *reading = arg;
	struct gt_error why = { 0 };
	AUTO_FREE char *name = gt_xasprintf("%s.json", id);
	AUTO_JSON json_t *document = read_document(reading->collection, name, &why);
	if (document)
		return reading->fn(reading->arg, id, document);
	quarantine(reading->collection, name, why.message);
	return 0;
}

int gt_store_each(struct gt_collection *collection, int (*fn)(void *arg, const char *id, json_t *document), void *arg,
		  struct gt_error *err)
{
	struct reading reading = { collection, fn, arg };
	return gt_store_each_id(collection, read_one, &reading, err);
}

struct reading_all {
	struct gt_collection *collection;
	struct gt_strings ids;
	void (*fn)(void *arg, const char *id, json_t *document);
	void *arg;
};

static int note_id(void *arg, const char *id)
{
	struct reading_all *all = arg;
	gt_strings_add(&all->ids, id);
	return 0;
}

static int pass_on(void *arg, const char *id, json_t *document)
{
	const struct reading_all *all = arg;
	all->fn(all->arg, id, document);
	return 0;
}

static void read_ith(void *arg, size_t i)
{
	struct reading_all *all = arg;
	struct reading reading = { all->collection, pass_on, all };
	read_one(&reading, all->ids.items[i]);
}

int gt_store_each_parallel(struct gt_collection *collection, void (*fn)(void *arg, const char *id, json_t *document), void *arg,
			   struct gt_error *err)
{
	struct reading_all all = { .collection = collection, .fn = fn, .arg = arg };
	if (gt_store_each_id(collection, note_id, &all, err) < 0)
		return -1;
	size_t cpus = (size_t)sysconf(_SC_NPROCESSORS_ONLN), worth = all.ids.count / FEW;
	gt_parallel(all.ids.count, cpus < worth ? cpus : worth, read_ith, &all);
	gt_strings_free(&all.ids);
	return 0;
}

int gt_store_each_aside(struct gt_collection *collection, int (*fn)(void *arg, const char *id), void *arg, struct gt_error *err)
{
	const struct gt_store *store = collection->store;
	size_t prefix = strlen(collection->name);
	int fd = openat(store->dirfd, QUARANTINE, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		if (fd < 0 && errno == ENOENT)
			return 0;
		gt_fail_errno(err, errno, "read %s/" QUARANTINE, store->root);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	int stop = 0;
	for (struct dirent *entry; !stop && (entry = readdir(dir)) != NULL;) {
		size_t len;
		bool ours = strncmp(entry->d_name, collection->name, prefix) == 0 && entry->d_name[prefix] == '-';
		const char *name = ours ? strchr(entry->d_name + prefix + 1, '-') : NULL;
		if (!name || !is_document(name + 1, &len))
			continue;
		AUTO_FREE char *id = gt_xstrndup(name + 1, len);
		stop = fn(arg, id);
	}
	closedir(dir);
	return stop < 0 ? -1 : 0;
}
