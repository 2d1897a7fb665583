/*
 * image_fixture.h - for the tests of images and file jobs: tars made byte by byte (so that they can be hostile), image archives made of them, and a
 * store with the real storage driver below a scratch directory.
 */
#pragma once

#include <sys/stat.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/fd.h"
#include "image/fsjob.h"
#include "base/log.h"
#include "image/image.h"
#include "testing.h"

/* ---- tars ---- */

struct entry {
	const char *name;
	char type;              /* '0' file, '1' hard link, '2' symlink, '3' char, '4' block, '5' directory, '6' fifo */
	unsigned mode, uid, gid;
	const char *data;       /* a file's content */
	const char *link;
	unsigned major, minor;
	int64_t mtime;
	const char *pax;        /* "key=value\n..." records of a pax header before it */
	size_t len;             /* of data where it is not text */
};

void tar_add(struct gt_buf *tar, const struct entry *entry);
void tar_end(struct gt_buf *tar);
#define TAR(buf, ...)                                                                  \
	do {                                                                           \
		const struct entry tar_entries[] = { __VA_ARGS__ };                    \
		for (size_t tar_i = 0; tar_i < GT_COUNT(tar_entries); tar_i++)         \
			tar_add(buf, &tar_entries[tar_i]);                             \
		tar_end(buf);                                                          \
	} while (0)

/* A readable descriptor of the bytes: a file, or a pipe that a thread fills. */
int fd_of(const struct gt_buf *bytes);
int pipe_of(const struct gt_buf *bytes);
void gzip_of(const struct gt_buf *from, struct gt_buf *to);
void zstd_of(const struct gt_buf *from, struct gt_buf *to);
void sha256_of(const struct gt_buf *bytes, char hex[65]);
/* Everything that comes out. Returns 0, or -1 with err. */
int drain(struct gt_stream *stream, struct gt_buf *out, struct gt_error *err);

/* ---- image archives ---- */

enum pack { PLAIN, GZIP, ZSTD };
struct layer_bytes {
	struct gt_buf tar;
	enum pack pack;
};
/* A Docker archive of one image; returns its id in hex. tag may be NULL. */
void docker_archive(struct gt_buf *out, const struct layer_bytes *layers, size_t count, const char *tag, char id[65]);
void oci_layout(struct gt_buf *out, const struct layer_bytes *layers, size_t count, const char *tag, char id[65]);

/* ---- a store ---- */

struct fixture {
	char *dir;
	struct gt_config *config;
	struct gt_store *store;
	struct gt_drivers *drivers;
	struct gt_driver *storage;
	struct gt_images *images;
	char *helper;
};
int fixture_make(void **state);
int fixture_remove(void **state);
void fixture_close(struct fixture *fixture);
void fixture_open(struct fixture *fixture);
/* Names of the files in a directory below the fixture's root. */
size_t count_files(const struct fixture *fixture, const char *below);

/* Loads the archive's bytes; -1 with err. */
int load_bytes(struct fixture *fixture, const struct gt_buf *archive, struct gt_error *err);

#define assert_ok(call, err)                                                                               \
	do {                                                                                               \
		if ((call) < 0)                                                                            \
			fail_msg("%s: %s", #call, (err).message);                                          \
	} while (0)
#define assert_fails(call, err, kind_, text)                                                               \
	do {                                                                                               \
		gt_error_clear(&(err));                                                                    \
		assert_int_equal((call), -1);                                                              \
		if ((err).kind != (kind_) || !strstr((err).message, (text)))                               \
			fail_msg("%s: got %s: %s", #call, gt_kind_name((err).kind), (err).message);        \
	} while (0)
