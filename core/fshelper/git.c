/*
 * git.c - a commit of a git repository as files: contexts of builds, ADD.
 *
 * Only http, https and git URLs are spoken to, also for submodules; no configuration of this host counts. What comes is bounded: bytes on the wire, objects,
 * files and bytes of the commit, memory of the process, and the time in which nothing moves. Nothing of a repository is ever run: libgit2 knows no hooks,
 * and no filter is registered. The process has no privileges beyond its user's.
 *
 * A name is looked for among the remote's references first, so that one of them alone is fetched; what looks like a commit's id may be on any of its branches
 * and tags.
 */
#include "git.h"

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/capability.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fs.h"

#define LIBRARY_NAME "libgit2.so.1.5"
#define STALLED_S 120
#define MAX_OBJECTS 20000000
#define MAX_MEMORY (4ll << 30)
#define MAX_SUBMODULES 256
#define MAX_NESTING 8
#define FETCHED "refs/gantry/fetched"

struct clone {
	struct git_calls git;
	int64_t max_bytes, max_entries;
	int64_t received;               /* by repositories that are done */
	int64_t bytes, entries;         /* of files */
	int submodules;
	bool too_large;
	git_odb *odb;                   /* of the repository at hand */
	git_repository *repository;
	struct gt_error *err;
};

int git_load(struct git_calls *git, struct gt_error *err)
{
	void *handle = dlopen(LIBRARY_NAME, RTLD_NOW | RTLD_LOCAL);
	if (!handle)
		return gt_fail(err, GT_UNSUPPORTED, "git repositories need libgit2 (package libgit2-1.5): %s", dlerror());
#define FIND(name)                                                                             \
	git->name = (__typeof__(git->name))dlsym(handle, #name);                                 \
	if (!git->name)                                                                        \
		return gt_fail(err, GT_UNSUPPORTED, LIBRARY_NAME " lacks %s", #name);
	GIT_CALLS(FIND)
#undef FIND
	if (git->git_libgit2_init() < 0)
		return gt_fail(err, GT_INTERNAL, "libgit2 cannot be set up");
	static const int levels[] = { GIT_CONFIG_LEVEL_SYSTEM, GIT_CONFIG_LEVEL_XDG, GIT_CONFIG_LEVEL_GLOBAL, GIT_CONFIG_LEVEL_PROGRAMDATA };
	for (size_t i = 0; i < GT_COUNT(levels); i++)
		git->git_libgit2_opts(GIT_OPT_SET_SEARCH_PATH, levels[i], "");
	git->git_libgit2_opts(GIT_OPT_SET_PACK_MAX_OBJECTS, (size_t)MAX_OBJECTS);
	git->git_libgit2_opts(GIT_OPT_SET_MWINDOW_MAPPED_LIMIT, (size_t)512 << 20);
	git->git_libgit2_opts(GIT_OPT_SET_SSL_CERT_LOCATIONS, "/etc/ssl/certs/ca-certificates.crt", NULL);
	return 0;
}

static int failed(struct clone *clone, const char *what)
{
	const git_error *last = clone->git.git_error_last();
	if (clone->too_large)
		return gt_fail(clone->err, GT_TOO_LARGE, "%s: the repository is larger than %lld bytes", what, (long long)clone->max_bytes);
	if (clone->err && clone->err->kind != GT_OK)
		return -1;
	return gt_fail(clone->err, GT_UNAVAILABLE, "%s: %s", what, last && last->message ? last->message : "it failed");
}

/* ---- bounds ---- */

static void on_alarm(int signo)
{
	static const char reply[] = "{\"error\":{\"kind\":10,\"errno\":0,\"message\":\"the git server has sent nothing for two minutes\"}}";
	_Static_assert(GT_TIMEOUT == 10, "the kind above");
	(void)signo;
	if (write(FS_CONTROL, reply, sizeof reply - 1) < 0)
		_exit(2);
	_exit(1);
}

static int on_progress(const git_indexer_progress *stats, void *arg)
{
	struct clone *clone = arg;
	alarm(STALLED_S);
	clone->too_large = clone->received + (int64_t)stats->received_bytes > clone->max_bytes;
	if (clone->too_large)
		return -1;
	if (stats->received_objects == stats->total_objects && stats->indexed_objects == stats->total_objects)
		clone->received += (int64_t)stats->received_bytes;
	return 0;
}

static int on_text(const char *text, int len, void *arg)
{
	(void)text;
	(void)len;
	(void)arg;
	alarm(STALLED_S);
	return 0;
}

static void on_file(const char *path, size_t done, size_t total, void *arg)
{
	(void)path;
	(void)done;
	(void)total;
	(void)arg;
	alarm(STALLED_S);
}

static int confine(int64_t max_bytes, struct gt_error *err)
{
	struct rlimit memory = { MAX_MEMORY, MAX_MEMORY }, file = { (rlim_t)max_bytes, (rlim_t)max_bytes };
	cap_t none = cap_init();
	int rc = none ? cap_set_proc(none) : -1;
	cap_free(none);
	if (rc < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "give up privileges");
#ifndef GT_SANITIZED
	setrlimit(RLIMIT_AS, &memory);
#else
	(void)memory;
#endif
	setrlimit(RLIMIT_FSIZE, &file);
	signal(SIGXFSZ, SIG_IGN);
	signal(SIGALRM, on_alarm);
	alarm(STALLED_S);
	umask(022);
	return 0;
}

static int check_url(const char *url, struct gt_error *err)
{
	static const char *const schemes[] = { "https://", "http://", "git://" };
	for (size_t i = 0; i < GT_COUNT(schemes); i++) {
		if (strncasecmp(url, schemes[i], strlen(schemes[i])) == 0)
			return 0;
	}
	return gt_fail(err, GT_UNSUPPORTED, "%.200s: only https, http and git URLs of repositories are spoken to", url);
}

/* ---- the remote ---- */

static bool is_commit_id(const char *ref)
{
	size_t len = strspn(ref, "0123456789abcdef");
	return len >= 7 && len <= 40 && !ref[len];
}

/* The remote's own name for what the user calls `ref` ("": its HEAD). NULL: there is none. The caller's. */
static char *remote_name(struct clone *clone, git_remote *remote, const char *ref)
{
	static const char *const patterns[] = { "refs/heads/%s", "refs/tags/%s", "refs/%s", "%s" };
	const git_remote_head **heads = NULL;
	size_t count = 0;
	if (clone->git.git_remote_ls(&heads, &count, remote) < 0)
		return NULL;
	for (size_t p = 0; p < GT_COUNT(patterns); p++) {
		const char *percent = strchr(patterns[p], '%');
		AUTO_FREE char *wanted = gt_xasprintf("%.*s%s", (int)(percent - patterns[p]), patterns[p], ref[0] ? ref : "HEAD");
		for (size_t i = 0; i < count; i++) {
			if (strcmp(heads[i]->name, wanted) == 0)
				return take(wanted);
		}
	}
	return NULL;
}

static int fetch(struct clone *clone, git_remote *remote, const char *url, const char *ref)
{
	struct git_calls *git = &clone->git;
	const git_remote_callbacks callbacks = { .version = GIT_REMOTE_CALLBACKS_VERSION, .transfer_progress = on_progress, .sideband_progress = on_text,
						 .payload = clone };
	const git_proxy_options proxy = { .version = GIT_PROXY_OPTIONS_VERSION, .type = GIT_PROXY_AUTO };
	const git_fetch_options options = { .version = GIT_FETCH_OPTIONS_VERSION, .callbacks = callbacks, .proxy_opts = proxy,
					    .download_tags = GIT_REMOTE_DOWNLOAD_TAGS_NONE };
	if (git->git_remote_connect(remote, GIT_DIRECTION_FETCH, &callbacks, &proxy, NULL) < 0)
		return failed(clone, url);
	AUTO_FREE char *name = remote_name(clone, remote, ref);
	if (!name && !is_commit_id(ref))
		return gt_fail(clone->err, GT_NOT_FOUND, "%.200s has no branch, tag or commit \"%.100s\"", url, ref);
	AUTO_FREE char *one = name ? gt_xasprintf("+%s:" FETCHED, name) : NULL;
	char *specs[] = { one ? one : "+refs/heads/*:refs/gantry/heads/*", "+refs/tags/*:refs/gantry/tags/*" };
	git_strarray list = { specs, one ? 1 : 2 };
	if (git->git_remote_fetch(remote, &list, &options, NULL) < 0)
		return failed(clone, url);
	return name ? 1 : 0;
}

/* ---- files ---- */

static int count_entry(const char *root, const git_tree_entry *entry, void *arg)
{
	struct clone *clone = arg;
	size_t len = 0;
	git_object_t type;
	(void)root;
	if (++clone->entries > clone->max_entries)
		return gt_fail(clone->err, GT_TOO_LARGE, "the commit has more than %lld files", (long long)clone->max_entries);
	if (clone->git.git_tree_entry_type(entry) != GIT_OBJECT_BLOB)
		return 0;
	if (clone->git.git_odb_read_header(&len, &type, clone->odb, clone->git.git_tree_entry_id(entry)) < 0)
		return -1;
	clone->bytes += (int64_t)len;
	clone->too_large = clone->bytes > clone->max_bytes;
	return clone->too_large ? -1 : 0;
}

static int check_out(struct clone *clone, git_repository *repository, const git_object *commit)
{
	struct git_calls *git = &clone->git;
	const git_checkout_options options = { .version = GIT_CHECKOUT_OPTIONS_VERSION, .checkout_strategy = GIT_CHECKOUT_FORCE,
					       .progress_cb = on_file };
	git_tree *tree = NULL;
	if (git->git_commit_tree(&tree, (const git_commit *)commit) < 0 || git->git_repository_odb(&clone->odb, repository) < 0 ||
	    git->git_tree_walk(tree, GIT_TREEWALK_PRE, count_entry, clone) < 0 ||
	    git->git_repository_set_head_detached(repository, git->git_object_id(commit)) < 0 ||
	    git->git_checkout_tree(repository, commit, &options) < 0)
		failed(clone, "check out the commit");
	git->git_odb_free(take(clone->odb));
	git->git_tree_free(tree);
	return clone->err->kind == GT_OK ? 0 : -1;
}

static int find_commit(struct clone *clone, git_repository *repository, const char *url, const char *name, git_object **commit)
{
	git_object *object = NULL;
	int rc = clone->git.git_revparse_single(&object, repository, name);
	if (rc == 0)
		rc = clone->git.git_object_peel(commit, object, GIT_OBJECT_COMMIT);
	clone->git.git_object_free(object);
	return rc < 0 ? gt_fail(clone->err, GT_NOT_FOUND, "%.200s has no commit \"%.100s\"", url, name) : 0;
}

static int clone_submodules(struct clone *clone, git_repository *repository, const char *dir, bool keep, int depth);

static int clone_one(struct clone *clone, const char *url, const char *ref, const char *dir, bool keep, int depth, char id[65])
{
	struct git_calls *git = &clone->git;
	git_repository_init_options options = { .version = GIT_REPOSITORY_INIT_OPTIONS_VERSION, .flags = GIT_REPOSITORY_INIT_MKPATH };
	git_repository *repository = NULL;
	git_remote *remote = NULL;
	git_object *commit = NULL;
	if (check_url(url, clone->err) < 0)
		return -1;
	int rc = 0;
	if (git->git_repository_init_ext(&repository, dir, &options) < 0 || git->git_remote_create(&remote, repository, "origin", url) < 0)
		rc = failed(clone, url);
	int named = rc == 0 ? fetch(clone, remote, url, ref) : -1;
	rc = named < 0 ? -1 : find_commit(clone, repository, url, named ? FETCHED : ref, &commit);
	if (rc == 0)
		rc = check_out(clone, repository, commit);
	if (rc == 0 && id)
		git->git_oid_tostr(id, 41, git->git_object_id(commit));
	if (rc == 0)
		rc = clone_submodules(clone, repository, dir, keep, depth);
	git->git_object_free(commit);
	git->git_remote_free(remote);
	git->git_repository_free(repository);
	AUTO_FREE char *inside = gt_xasprintf("%s/.git", dir);
	return rc == 0 && !keep ? gt_remove_tree(AT_FDCWD, inside, clone->err) : rc;
}

/* ---- submodules ---- */

struct submodule {
	char *url, *path, commit[65];
};

struct submodules {
	struct clone *clone;
	git_repository *repository;
	struct submodule *items;
	size_t count;
};

static int note_submodule(git_submodule *found, const char *name, void *arg)
{
	struct submodules *list = arg;
	struct git_calls *git = &list->clone->git;
	const git_oid *id = git->git_submodule_index_id(found);
	const char *url = git->git_submodule_url(found);
	git_buf resolved = { 0 };
	(void)name;
	if (!id || !url)
		return 0; /* named in .gitmodules, and no part of the commit */
	if (++list->clone->submodules > MAX_SUBMODULES)
		return gt_fail(list->clone->err, GT_TOO_LARGE, "the repository has more than %d submodules", MAX_SUBMODULES);
	if (git->git_submodule_resolve_url(&resolved, list->repository, url) < 0)
		return failed(list->clone, url);
	list->items = gt_xrealloc(list->items, (list->count + 1) * sizeof *list->items);
	struct submodule *item = &list->items[list->count++];
	*item = (struct submodule){ .url = gt_xstrndup(resolved.ptr, resolved.size), .path = gt_xstrdup(git->git_submodule_path(found)) };
	git->git_oid_tostr(item->commit, 41, id);
	git->git_buf_dispose(&resolved);
	return 0;
}

/* The place of a submodule is a directory that the checkout made: what a hostile commit has put there instead is refused. */
static int clone_submodule(struct clone *clone, const struct submodule *item, const char *dir, bool keep, int depth)
{
	char link[64], path[FS_PATH_MAX];
	AUTO_CLOSE int root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	AUTO_CLOSE int place = root < 0 ? -1 : gt_openat2(root, item->path, O_PATH | O_DIRECTORY, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
	if (place < 0)
		return gt_fail_errno(clone->err, errno, "open the place of the submodule %.200s", item->path);
	snprintf(link, sizeof link, "/proc/self/fd/%d", place);
	ssize_t len = readlink(link, path, sizeof path - 1);
	if (len < 0)
		return gt_fail_errno(clone->err, errno, "find the place of the submodule %.200s", item->path);
	path[len] = '\0';
	return clone_one(clone, item->url, item->commit, path, keep, depth, NULL) < 0 ? gt_context(clone->err, "submodule %.200s", item->path) : 0;
}

static int clone_submodules(struct clone *clone, git_repository *repository, const char *dir, bool keep, int depth)
{
	struct submodules list = { .clone = clone, .repository = repository };
	int rc = 0;
	if (clone->git.git_submodule_foreach(repository, note_submodule, &list) < 0)
		rc = failed(clone, "read the submodules");
	if (rc == 0 && list.count > 0 && depth == MAX_NESTING)
		rc = gt_fail(clone->err, GT_TOO_LARGE, "submodules are nested deeper than %d levels", MAX_NESTING);
	for (size_t i = 0; i < list.count; i++) {
		if (rc == 0)
			rc = clone_submodule(clone, &list.items[i], dir, keep, depth + 1);
		free(list.items[i].url);
		free(list.items[i].path);
	}
	free(list.items);
	return rc;
}

/* ---- the job ---- */

/* As libcurl takes them for other URLs. */
static void take_proxies(const json_t *request)
{
	static const char *const names[] = { "http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY" };
	const json_t *proxies = json_object_get(request, "proxies");
	for (size_t i = 0; i < GT_COUNT(names); i++) {
		const char *value = json_string_value(json_object_get(proxies, names[i]));
		if (value && value[0])
			setenv(names[i], value, 1);
	}
}

int fs_job_clone(const json_t *request, json_t *reply, struct gt_error *err)
{
	const char *url = "", *ref = "", *dir = "";
	char id[65] = "";
	bool keep = false;
	struct clone clone = { .err = err };
	if (gt_json_string(request, "url", &url, err) < 0 || gt_json_string(request, "ref", &ref, err) < 0 ||
	    gt_json_string(request, "dir", &dir, err) < 0 || gt_json_bool(request, "keep", &keep, err) < 0 ||
	    gt_json_int(request, "max_bytes", &clone.max_bytes, err) < 0 || gt_json_int(request, "max_entries", &clone.max_entries, err) < 0)
		return -1;
	take_proxies(request);
	if (git_load(&clone.git, err) < 0 || confine(clone.max_bytes, err) < 0)
		return -1;
	int rc = clone_one(&clone, url, ref, dir, keep, 0, id);
	alarm(0);
	json_object_set_new(reply, "commit", json_string(id));
	return rc;
}
