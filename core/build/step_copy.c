/*
 * step_copy.c - ADD, COPY and WORKDIR: files into a layer, by gantry-fs, without a container.
 *
 * Sources come from the context, from another stage or image, from here-documents, or (ADD) from URLs, which are fetched into the build's own
 * directory. First the digest of what the layer will have is taken, which is part of the step's key; then, where the cache has no such step, the layer
 * is made.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "build/internal.h"

#define MAX_SOURCES 100

/* ---- here-documents ---- */

static int write_file(const char *path, const char *text, size_t len, struct gt_error *err)
{
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0 || fchmod(fd, 0644) < 0 || gt_write_full(fd, text, len) < 0)
		return gt_fail_errno(err, errno, "write a here-document");
	return 0;
}

static int add_heredoc(struct run *run, const struct heredoc *doc, struct gt_copy *copy, struct gt_error *err)
{
	struct gt_scope scope = run_scope(run);
	AUTO_FREE char *content = doc->expand ? gt_words_expand(&scope, doc->content, err) : gt_xstrdup(doc->content);
	AUTO_FREE char *dir = content ? build_make_dir(run->build, "heredoc", err) : NULL;
	if (!dir)
		return -1;
	AUTO_FREE char *path = gt_xasprintf("%s/%s", dir, doc->name);
	if (write_file(path, content, strlen(content), err) < 0)
		return -1;
	gt_copy_add_source(copy, dir, NULL);
	gt_copy_add_item(copy, doc->name, copy->source_count - 1);
	return 0;
}

/* ---- URLs ---- */

static bool is_url(const char *text)
{
	return strncasecmp(text, "http://", 7) == 0 || strncasecmp(text, "https://", 8) == 0;
}

static int check_digest(const char *path, const char *wanted, struct gt_error *err)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	AUTO_FREE char *bytes = gt_xmalloc(1 << 18);
	struct sha256_ctx state;
	uint8_t raw[SHA256_DIGEST_SIZE];
	char found[72] = "sha256:";
	ssize_t n;
	sha256_init(&state);
	while ((n = fd < 0 ? -1 : gt_read_full(fd, bytes, 1 << 18)) > 0)
		sha256_update(&state, (size_t)n, (const uint8_t *)bytes);
	if (n < 0)
		return gt_fail_errno(err, errno, "read what was fetched");
	sha256_digest(&state, sizeof raw, raw);
	for (size_t i = 0; i < sizeof raw; i++)
		snprintf(found + 7 + 2 * i, 3, "%02x", raw[i]);
	return strcasecmp(found, wanted) == 0 ? 0 : gt_fail(err, GT_INVALID, "digest mismatch %s: %.80s was expected", found, wanted);
}

/* The name that a URL's file has. */
static char *url_name(const char *url, const char *dest, bool dest_is_dir, struct gt_error *err)
{
	const char *path = strstr(url, "://") + 3;
	path += strcspn(path, "/?#");
	size_t len = strcspn(path, "?#"), start = len;
	while (start > 0 && path[start - 1] != '/')
		start--;
	AUTO_FREE char *name = gt_xstrndup(path + start, len - start);
	if (!name[0] && !dest_is_dir) {
		const char *slash = strrchr(dest, '/');
		free(name);
		name = gt_xstrdup(slash ? slash + 1 : dest);
	}
	if (!name[0] || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return gt_fail_null(err, GT_INVALID, "cannot determine filename for source %.200s", url);
	return take(name);
}

static int add_url(struct run *run, const char *url, const char *checksum, struct gt_copy *copy, struct gt_error *err)
{
	struct build *build = run->build;
	int64_t modified = 0;
	if (checksum && (strncmp(checksum, "sha256:", 7) != 0 || strlen(checksum) != 71 ||
			 strspn(checksum + 7, "0123456789abcdefABCDEF") != 64))
		return gt_fail(err, GT_INVALID, "--checksum=%.80s is not sha256: and 64 hex digits", checksum);
	AUTO_FREE char *name = url_name(url, copy->dest, copy->dest_is_dir, err);
	AUTO_FREE char *dir = name ? build_make_dir(build, "url", err) : NULL;
	if (!dir)
		return -1;
	AUTO_FREE char *path = gt_xasprintf("%s/%s", dir, name);
	AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return gt_fail_errno(err, errno, "make a file for %.200s", url);
	if (build->host->fetch(build->host->arg, url, fd, &modified, err) < 0)
		return -1;
	struct timespec times[2] = { { .tv_sec = modified }, { .tv_sec = modified } };
	if (fchmod(fd, 0600) < 0 || futimens(fd, times) < 0)
		return gt_fail_errno(err, errno, "make a file for %.200s", url);
	if (checksum && check_digest(path, checksum, err) < 0)
		return gt_context(err, "ADD %.200s", url);
	gt_copy_add_source(copy, dir, NULL);
	gt_copy_add_item(copy, name, copy->source_count - 1);
	return 0;
}

/* ---- git ---- */

/* The content of the repository's directory goes to the target, as that of a directory of the context would. */
static int add_git(struct run *run, const char *text, const char *checksum, struct gt_copy *copy, struct gt_error *err)
{
	struct build *build = run->build;
	struct gt_git_url url;
	char commit[65] = "";
	bool keep;
	if (instruction_switch(run->item, "keep-git-dir", &keep, err) < 0 || gt_git_url_read(text, &url, err) < 0)
		return -1;
	AUTO_FREE char *dir = build_make_dir(build, "git", err), *files = NULL;
	int rc = dir ? build->host->clone(build->host->arg, &url, keep, dir, &files, commit, err) : -1;
	gt_git_url_free(&url);
	if (rc == 0 && checksum && (strlen(checksum) < 7 || strncmp(commit, checksum, strlen(checksum)) != 0))
		rc = gt_fail(err, GT_INVALID, "ADD %.200s: its commit is %s, not %.60s", text, commit, checksum);
	if (rc < 0)
		return -1;
	gt_copy_add_source(copy, files, NULL);
	gt_copy_add_item(copy, "/", copy->source_count - 1);
	return 0;
}

/* ---- the instruction ---- */

/* Words of the instruction: sources, and the target as the last. */
static int read_words(struct run *run, struct gt_strings *words, struct gt_error *err)
{
	struct gt_scope scope = run_scope(run);
	struct gt_strings raw = { 0 };
	if (!gt_words_json(run->item->args, &raw))
		return gt_words_split(&scope, run->item->args, words, err);
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < raw.count; i++) {
		AUTO_FREE char *word = gt_words_value(&scope, raw.items[i], err);
		rc = word ? 0 : -1;
		if (word)
			gt_strings_add(words, word);
	}
	gt_strings_free(&raw);
	return rc;
}

static char *expand_flag(struct run *run, const char *name, struct gt_error *err)
{
	struct gt_scope scope = run_scope(run);
	const char *value = instruction_flag(run->item, name);
	return value ? gt_words_value(&scope, value, err) : NULL;
}

static int read_flags(struct run *run, struct gt_copy *copy, struct gt_error *err)
{
	const struct instruction *item = run->item;
	struct gt_scope scope = run_scope(run);
	if (instruction_switch(item, "link", &copy->link, err) < 0 || instruction_switch(item, "parents", &copy->parents, err) < 0)
		return -1;
	copy->chown = expand_flag(run, "chown", err);
	copy->chmod = expand_flag(run, "chmod", err);
	if ((instruction_flag(item, "chown") && !copy->chown) || (instruction_flag(item, "chmod") && !copy->chmod))
		return -1;
	for (size_t i = 0; i < item->flag_count; i++) {
		if (strcmp(item->flags[i].name, "exclude") != 0)
			continue;
		AUTO_FREE char *pattern = gt_words_value(&scope, item->flags[i].value, err);
		if (!pattern)
			return -1;
		gt_strings_add(&copy->exclude, pattern);
	}
	return 0;
}

static void set_dest(struct run *run, struct gt_copy *copy, const char *dest)
{
	const char *dir = run->config.working_dir && run->config.working_dir[0] ? run->config.working_dir : "/";
	size_t len = strlen(dest);
	copy->dest_is_dir = len == 0 || dest[len - 1] == '/' || strcmp(dest, ".") == 0 || (len > 1 && strcmp(dest + len - 2, "/.") == 0);
	copy->dest = dest[0] == '/' ? gt_xstrdup(dest) : gt_xasprintf("%s/%s", dir, dest);
}

static const struct heredoc *find_heredoc(const struct instruction *item, const char *word, size_t *next)
{
	/* words that announce here-documents stand in their order */
	while (isdigit((unsigned char)*word))
		word++;
	return strncmp(word, "<<", 2) == 0 && *next < item->heredoc_count ? &item->heredocs[(*next)++] : NULL;
}

static int add_source(struct run *run, const char *word, size_t *docs, ssize_t base, const char *checksum, struct gt_copy *copy, bool *remote,
		      struct gt_error *err)
{
	const struct heredoc *doc = find_heredoc(run->item, word, docs);
	bool adds = run->item->keyword == KW_ADD;
	if (doc)
		return add_heredoc(run, doc, copy, err);
	if (adds && gt_git_is_url(word)) {
		*remote = true;
		return add_git(run, word, checksum, copy, err);
	}
	if (adds && is_url(word)) {
		*remote = true;
		return add_url(run, word, checksum, copy, err);
	}
	if (!adds && is_url(word))
		return gt_fail(err, GT_INVALID, "source can't be a URL for COPY: %.200s", word);
	gt_copy_add_item(copy, word, (size_t)base);
	return 0;
}

static int read_sources(struct run *run, const struct gt_strings *words, struct gt_copy *copy, struct gt_error *err)
{
	const char *from = instruction_flag(run->item, "from");
	AUTO_FREE char *checksum = expand_flag(run, "checksum", err);
	char id[72];
	size_t docs = 0;
	bool remote = false, unpack, unpack_given = instruction_flag(run->item, "unpack") != NULL;
	if (words->count - 1 > MAX_SOURCES)
		return gt_fail(err, GT_TOO_LARGE, "more than %d sources", MAX_SOURCES);
	if (instruction_switch(run->item, "unpack", &unpack, err) < 0 || (instruction_flag(run->item, "checksum") && !checksum))
		return -1;
	if (from && run->item->heredoc_count)
		return gt_fail(err, GT_INVALID, "a here-document cannot be combined with --from");
	if (from && resolve_from(run, from, id, err) < 0)
		return -1;
	/* source 0 is the context, of which .dockerignore speaks */
	gt_copy_add_source(copy, run->build->options->context_dir, NULL);
	if (from)
		gt_copy_add_source(copy, NULL, id);
	for (size_t i = 0; i + 1 < words->count; i++) {
		if (add_source(run, words->items[i], &docs, from ? 1 : 0, checksum, copy, &remote, err) < 0)
			return -1;
	}
	if (checksum && !remote)
		return gt_fail(err, GT_INVALID, "checksum can't be specified for local sources");
	copy->unpack = run->item->keyword == KW_ADD && (unpack_given ? unpack : !remote);
	copy->uid = copy->gid = from ? -1 : 0;
	if (copy->items.count > 1 && !copy->dest_is_dir)
		return gt_fail(err, GT_INVALID, "When using %s with more than one source file, the destination must be a directory and end with a /",
			       keyword_name(run->item->keyword));
	return 0;
}

static void set_times(struct run *run, struct gt_copy *copy)
{
	const struct build *build = run->build;
	copy->now = build->epoch >= 0 ? build->epoch : build->began / GT_SECOND;
	copy->clamp = build->epoch >= 0 ? build->epoch : INT64_MAX;
}

static int copy_files(struct run *run, struct gt_copy *copy, const struct gt_strings *words, struct gt_error *err)
{
	char digest[65];
	int64_t count = 0;
	const char *word = keyword_name(run->item->keyword), *parent = run->image[0] ? run->image : NULL;
	set_times(run, copy);
	copy->ignore = run->build->options->ignore;
	copy->known = run->build->options->digests;
	if (gt_image_copy_digest(run->build->images, parent, copy, digest, &count, err) < 0)
		return gt_context(err, "%s failed", word);
	const char *what = copy->items.count > 1 ? "multi" : count > 1 ? "dir" : "file";
	AUTO_FREE char *created_by = gt_xasprintf("/bin/sh -c #(nop) %s %s:%s in %s ", word, what, digest, words->items[words->count - 1]);
	AUTO_FREE char *config = config_text(&run->config);
	struct gt_image_step step = step_begin(run, created_by);
	step_key(run, step.key, created_by, digest, copy->dest, copy->link ? "link" : "", config, NULL);
	step.copy = count > 0 ? copy : NULL; /* all that was named has been left out: no layer */
	if (step_do(run, &step, err) < 0)
		return gt_context(err, "%s failed", word);
	return 0;
}

int step_copy(struct run *run, struct gt_error *err)
{
	struct gt_copy copy = { 0 };
	struct gt_strings words = { 0 };
	int rc = read_words(run, &words, err);
	if (rc == 0 && words.count < 2)
		rc = gt_fail(err, GT_INVALID, "%s requires a source and a destination", keyword_name(run->item->keyword));
	if (rc == 0) {
		set_dest(run, &copy, words.items[words.count - 1]);
		rc = read_flags(run, &copy, err);
	}
	if (rc == 0)
		rc = read_sources(run, &words, &copy, err);
	if (rc == 0)
		rc = copy_files(run, &copy, &words, err);
	gt_strings_free(&words);
	gt_copy_free(&copy);
	return rc;
}

/* ---- WORKDIR ---- */

int step_workdir(struct run *run, struct gt_error *err)
{
	struct gt_scope scope = run_scope(run);
	struct gt_copy copy = { .dest_is_dir = true };
	char digest[65];
	int64_t count = 0;
	AUTO_FREE char *text = gt_xasprintf("WORKDIR %s", run->item->args);
	if (gt_image_config_apply(&run->config, &scope, text, err) < 0)
		return -1;
	copy.dest = gt_xstrdup(run->config.working_dir);
	set_times(run, &copy);
	/* it belongs to the user that commands run as, where the image knows that one */
	const char *user = run->config.user && run->config.user[0] && strcmp(run->config.user, "root") != 0 ? run->config.user : NULL;
	copy.chown = gt_xstrdup(user);
	AUTO_FREE char *created_by = gt_xasprintf("/bin/sh -c #(nop) %s", run->item->shown);
	AUTO_FREE char *config = config_text(&run->config);
	int rc = gt_image_copy_digest(run->build->images, run->image[0] ? run->image : NULL, &copy, digest, &count, err);
	if (rc < 0 && user && err->kind == GT_INVALID) {
		free(take(copy.chown));
		rc = gt_image_copy_digest(run->build->images, run->image[0] ? run->image : NULL, &copy, digest, &count, err);
	}
	if (rc == 0) {
		struct gt_image_step step = step_begin(run, created_by);
		step_key(run, step.key, created_by, digest, config, NULL);
		step.copy = count > 0 ? &copy : NULL;
		rc = step_do(run, &step, err);
	}
	gt_copy_free(&copy);
	return rc;
}
