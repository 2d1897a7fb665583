/*
 * mkembedded.c - build tool: wraps a static busybox into the image gantry/busybox:latest, as a Docker archive.
 *
 *     mkembedded BUSYBOX OUT.tar
 *
 * The archive depends on the busybox's bytes alone: names are sorted, times are fixed, so the image's id is the same on every build.
 * busybox itself is asked for its applets; each becomes a hard link, which costs one tar header.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/spawn.h"

#define TIME 1700000000
#define CREATED "2023-11-14T22:13:20Z"
#define BUSYBOX_MAX (64u << 20)
#define NAME "gantry/busybox:latest"

static int fail(const char *what, const char *why)
{
	fprintf(stderr, "mkembedded: %s: %s\n", what, why);
	return -1;
}

/* ---- a tar in memory ---- */

static la_ssize_t to_buf(struct archive *archive, void *arg, const void *bytes, size_t len)
{
	(void)archive;
	gt_buf_add(arg, bytes, len);
	return (la_ssize_t)len;
}

static struct archive *tar_open(struct gt_buf *out)
{
	struct archive *tar = archive_write_new();
	archive_write_set_format_ustar(tar);
	archive_write_set_bytes_per_block(tar, 10240);
	archive_write_open(tar, out, NULL, to_buf, NULL);
	return tar;
}

static int put(struct archive *tar, const char *name, mode_t mode, const char *link, const void *bytes, size_t len)
{
	struct archive_entry *entry = archive_entry_new();
	archive_entry_set_pathname(entry, name);
	archive_entry_set_mode(entry, mode);
	archive_entry_set_mtime(entry, TIME, 0);
	archive_entry_set_size(entry, (int64_t)len);
	if (link && S_ISLNK(mode))
		archive_entry_set_symlink(entry, link);
	else if (link)
		archive_entry_set_hardlink(entry, link);
	int rc = archive_write_header(tar, entry) == ARCHIVE_OK && archive_write_data(tar, bytes, len) == (la_ssize_t)len ? 0 : -1;
	archive_entry_free(entry);
	return rc < 0 ? fail(name, archive_error_string(tar)) : 0;
}

static int put_text(struct archive *tar, const char *name, mode_t mode, const char *text)
{
	return put(tar, name, S_IFREG | mode, NULL, text, strlen(text));
}

/* ---- the root file system ---- */

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "bin/ls" and so on, sorted. */
static int list_applets(const char *busybox, struct gt_strings *applets)
{
	int ends[2], pidfd, status;
	struct gt_error err = { 0 };
	AUTO_BUF struct gt_buf text = { 0 };
	char *argv[] = { "busybox", "--list-full", NULL };
	if (pipe2(ends, O_CLOEXEC) < 0)
		return fail("pipe", strerror(errno));
	int fds[] = { -1, ends[1], 2 };
	struct gt_spawn how = { .path = busybox, .argv = argv, .fds = fds, .nfds = 3 };
	pid_t pid;
	int rc = gt_spawn(&how, &pid, &pidfd, &err);
	close(ends[1]);
	AUTO_CLOSE int from = ends[0];
	if (rc < 0)
		return fail("list the applets", err.message);
	for (ssize_t n = 1; n > 0;) {
		n = gt_read_full(from, gt_buf_reserve(&text, 4096), 4096);
		text.len += n > 0 ? (size_t)n : 0;
	}
	if (gt_reap(pidfd, &status, &err) < 0 || status != 0)
		return fail(busybox, "--list-full failed");
	close(pidfd);
	gt_buf_char(&text, '\0');
	for (char *save = NULL, *line = strtok_r(text.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (line[0] && strcmp(line, "bin/busybox") != 0)
			gt_strings_add(applets, line);
	}
	qsort(applets->items, applets->count, sizeof *applets->items, by_name);
	return applets->count ? 0 : fail(busybox, "it lists no applets");
}

static int put_skeleton(struct archive *tar)
{
	static const struct {
		const char *name;
		mode_t mode;
	} dirs[] = { { "bin/", 0755 },     { "dev/", 0755 },     { "etc/", 0755 },      { "home/", 0755 },     
		     { "proc/", 0755 },    { "root/", 0700 },    { "sbin/", 0755 },     { "sys/", 0755 },      { "tmp/", 01777 },
		     { "usr/", 0755 },     { "usr/bin/", 0755 }, { "usr/sbin/", 0755 }, { "var/", 0755 },      { "var/log/", 0755 },
		     { "var/spool/", 0755 }, { "var/spool/mail/", 0755 }, { "var/www/", 0755 } };
	for (size_t i = 0; i < GT_COUNT(dirs); i++) {
		if (put(tar, dirs[i].name, S_IFDIR | dirs[i].mode, NULL, "", 0) < 0)
			return -1;
	}
	if (put_text(tar, "etc/passwd", 0644,
		     "root:x:0:0:root:/root:/bin/sh\n"
		     "daemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
		     "bin:x:2:2:bin:/bin:/bin/false\n"
		     "mail:x:8:8:mail:/var/spool/mail:/bin/false\n"
		     "www-data:x:33:33:www-data:/var/www:/bin/false\n"
		     "nobody:x:65534:65534:nobody:/home:/bin/false\n") < 0 ||
	    put_text(tar, "etc/group", 0644,
		     "root:x:0:\ndaemon:x:1:\nbin:x:2:\nmail:x:8:\nwheel:x:10:root\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n") < 0 ||
	    put_text(tar, "etc/shadow", 0640,
		     "root:*:::::::\ndaemon:*:::::::\nbin:*:::::::\nmail:*:::::::\nwww-data:*:::::::\nnobody:*:::::::\n") < 0 ||
	    put_text(tar, "etc/hostname", 0644, "gantry\n") < 0 ||
	    put_text(tar, "etc/hosts", 0644, "127.0.0.1\tlocalhost\n::1\tlocalhost\n") < 0 ||
	    put_text(tar, "etc/nsswitch.conf", 0644, "passwd: files\ngroup: files\nhosts: files dns\n") < 0 ||
	    put_text(tar, "etc/profile", 0644, "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\numask 022\n") < 0)
		return -1;
	return put(tar, "etc/mtab", S_IFLNK | 0777, "../proc/mounts", "", 0);
}

static int make_layer(const char *busybox, struct gt_buf *out)
{
	AUTO_BUF struct gt_buf program = { 0 };
	struct gt_error err = { 0 };
	struct gt_strings applets = { 0 };
	if (gt_read_file(AT_FDCWD, busybox, BUSYBOX_MAX, &program, &err) < 0)
		return fail(busybox, err.message);
	if (list_applets(busybox, &applets) < 0)
		return -1;
	struct archive *tar = tar_open(out);
	int rc = put_skeleton(tar);
	if (rc == 0)
		rc = put(tar, "bin/busybox", S_IFREG | 0755, NULL, program.data, program.len);
	for (size_t i = 0; rc == 0 && i < applets.count; i++)
		rc = put(tar, applets.items[i], S_IFREG | 0755, "bin/busybox", "", 0);
	archive_write_free(tar);
	gt_strings_free(&applets);
	return rc;
}

/* ---- the archive ---- */

static void sha256(const struct gt_buf *bytes, char hex[65])
{
	uint8_t raw[SHA256_DIGEST_SIZE];
	struct sha256_ctx state;
	sha256_init(&state);
	sha256_update(&state, bytes->len, (const uint8_t *)bytes->data);
	sha256_digest(&state, sizeof raw, raw);
	for (size_t i = 0; i < sizeof raw; i++)
		snprintf(hex + 2 * i, 3, "%02x", raw[i]);
}

static void dump(json_t *json, struct gt_buf *out)
{
	AUTO_FREE char *text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
	gt_buf_str(out, text);
	json_decref(json);
}

static const char *architecture(void)
{
#if defined(__aarch64__)
	return "arm64";
#elif defined(__x86_64__)
	return "amd64";
#else
#error "name this architecture as OCI does"
#endif
}

static int write_archive(const struct gt_buf *layer, const char *path)
{
	char diff[72] = "sha256:", id[65], layer_name[96], config_name[96];
	AUTO_BUF struct gt_buf config = { 0 };
	AUTO_BUF struct gt_buf manifest = { 0 };
	AUTO_BUF struct gt_buf out = { 0 };
	sha256(layer, diff + 7);
	dump(json_pack("{s:s, s:s, s:s, s:{s:[s], s:[s], s:s}, s:{s:s, s:[s]}, s:[{s:s, s:s}]}", "architecture", architecture(), "os",
		       "linux", "created", CREATED, "config", "Cmd", "sh", "Env",
		       "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "WorkingDir", "/", "rootfs", "type", "layers",
		       "diff_ids", diff, "history", "created", CREATED, "created_by", "mkembedded busybox"),
	     &config);
	sha256(&config, id);
	snprintf(layer_name, sizeof layer_name, "blobs/sha256/%s", diff + 7);
	snprintf(config_name, sizeof config_name, "blobs/sha256/%s", id);
	dump(json_pack("[{s:s, s:[s], s:[s]}]", "Config", config_name, "RepoTags", NAME, "Layers", layer_name), &manifest);

	struct archive *tar = tar_open(&out);
	int rc = put(tar, "manifest.json", S_IFREG | 0644, NULL, manifest.data, manifest.len);
	if (rc == 0)
		rc = put(tar, config_name, S_IFREG | 0644, NULL, config.data, config.len);
	if (rc == 0)
		rc = put(tar, layer_name, S_IFREG | 0644, NULL, layer->data, layer->len);
	archive_write_free(tar);
	if (rc < 0)
		return -1;
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || gt_write_full(fd, out.data, out.len) < 0)
		return fail(path, strerror(errno));
	return 0;
}

int main(int argc, char **argv)
{
	AUTO_BUF struct gt_buf layer = { 0 };
	if (argc != 3) {
		fputs("usage: mkembedded BUSYBOX OUT.tar\n", stderr);
		return 2;
	}
	return make_layer(argv[1], &layer) == 0 && write_archive(&layer, argv[2]) == 0 ? 0 : 1;
}
