/*
 * blob.c - a blob as a stream of decompressed bytes, and sha256.
 *
 * gzip goes through ISA-L (3 to 4 times the speed of zlib), with zlib for a header that ISA-L does not take; zstd through libzstd; xz and bzip2,
 * which only imports meet, through libarchive. The digest of the stored bytes is taken on the way; the rest of the input after
 * the end of the compressed stream belongs to it and must be nothing but padding.
 *
 * A reader belongs to one thread.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "internal.h"

#define IN_ROOM (256u * 1024)

/* ---- digests ---- */

void digest_begin(struct digest *digest)
{
	sha256_init(&digest->state);
}

void digest_add(struct digest *digest, const void *bytes, size_t len)
{
	sha256_update(&digest->state, len, bytes);
}

void digest_end(struct digest *digest, char hex[65])
{
	static const char digits[] = "0123456789abcdef";
	uint8_t raw[SHA256_DIGEST_SIZE];
	sha256_digest(&digest->state, sizeof raw, raw);
	for (size_t i = 0; i < sizeof raw; i++) {
		hex[2 * i] = digits[raw[i] >> 4];
		hex[2 * i + 1] = digits[raw[i] & 15];
		hex[2 * i + 2] = '\0';
	}
}

void digest_of(const void *bytes, size_t len, char hex[65])
{
	struct digest digest;
	digest_begin(&digest);
	digest_add(&digest, bytes, len);
	digest_end(&digest, hex);
}

/* ---- readers ---- */

enum format { FORMAT_UNKNOWN, FORMAT_PLAIN, FORMAT_GZIP, FORMAT_ZLIB_GZIP, FORMAT_ZSTD, FORMAT_OTHER };

struct blob_reader {
	struct blob blob;
	void *remote;                   /* of blob.remote */
	int64_t stored;                 /* bytes read from the fd */
	struct digest digest;
	enum format format;
	bool ended;                     /* of the compressed stream */
	bool started;                   /* some output was made */
	struct inflate_state *isal;
	z_stream *zlib;
	ZSTD_DStream *zstd;
	struct archive *other;
	size_t at, have;                /* of in[]: used, filled */
	bool eof;
	char in[IN_ROOM + 8];           /* room for the first bytes of a stream that comes in drops */
};

struct blob_reader *blob_open(const struct blob *blob)
{
	struct blob_reader *reader = gt_xmalloc(sizeof *reader);
	memset(reader, 0, offsetof(struct blob_reader, in));
	reader->blob = *blob;
	if (blob->remote)
		reader->remote = blob->remote->open(blob->remote_arg, blob->progress);
	digest_begin(&reader->digest);
	return reader;
}

void blob_close(struct blob_reader *reader)
{
	if (!reader)
		return;
	if (reader->remote)
		reader->blob.remote->close(reader->remote);
	free(reader->isal);
	if (reader->zlib)
		inflateEnd(reader->zlib);
	free(reader->zlib);
	ZSTD_freeDStream(reader->zstd);
	if (reader->other)
		archive_read_free(reader->other);
	free(reader);
}

int64_t blob_position(const struct blob_reader *reader)
{
	return __atomic_load_n(&reader->stored, __ATOMIC_RELAXED);
}

char blob_format(const struct blob_reader *reader)
{
	switch (reader->format) {
	case FORMAT_GZIP:
	case FORMAT_ZLIB_GZIP:
		return 'g';
	case FORMAT_ZSTD:
		return 'z';
	case FORMAT_PLAIN:
		return 'p';
	default:
		return '?';
	}
}

static ssize_t read_local(struct blob_reader *reader, size_t room, struct gt_error *err)
{
	ssize_t n;
	do {
		n = reader->blob.length < 0 ? read(reader->blob.fd, reader->in, room) :
					      pread(reader->blob.fd, reader->in, room, reader->blob.offset + reader->stored);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? gt_fail_sys(err, GT_INTERNAL, errno, "read a blob") : n;
}

/* Refills in[] once it is used up. */
static int refill(struct blob_reader *reader, struct gt_error *err)
{
	if (reader->at < reader->have || reader->eof)
		return 0;
	size_t room = IN_ROOM;
	if (reader->blob.length >= 0 && reader->blob.length - reader->stored < (int64_t)room)
		room = (size_t)(reader->blob.length - reader->stored);
	ssize_t n = reader->remote ? reader->blob.remote->read(reader->remote, reader->in, room, err) : read_local(reader, room, err);
	if (n < 0)
		return -1;
	if (n == 0 && room > 0 && reader->blob.length >= 0)
		return gt_fail(err, GT_INVALID, "a blob is cut short: %lld of %lld bytes are there", (long long)reader->stored,
			       (long long)reader->blob.length);
	digest_add(&reader->digest, reader->in, (size_t)n);
	__atomic_store_n(&reader->stored, reader->stored + n, __ATOMIC_RELAXED);
	reader->at = 0;
	reader->have = (size_t)n;
	reader->eof = n == 0;
	return 0;
}

static int begin(struct blob_reader *reader, struct gt_error *err)
{
	/* a pipe may give the magic in pieces */
	while (reader->have < 6 && !reader->eof) {
		size_t have = reader->have;
		char keep[6];
		memcpy(keep, reader->in, have);
		reader->at = reader->have;
		if (refill(reader, err) < 0)
			return -1;
		memmove(reader->in + have, reader->in, reader->have);
		memcpy(reader->in, keep, have);
		reader->have += have;
		reader->at = 0;
	}
	const unsigned char *m = (const unsigned char *)reader->in;
	size_t n = reader->have;
	reader->format = FORMAT_PLAIN;
	if (n >= 2 && m[0] == 0x1f && m[1] == 0x8b) {
		reader->format = FORMAT_GZIP;
		reader->isal = gt_xcalloc(1, sizeof *reader->isal);
		isal_inflate_init(reader->isal);
		reader->isal->crc_flag = ISAL_GZIP;
	} else if (n >= 4 && m[0] == 0x28 && m[1] == 0xb5 && m[2] == 0x2f && m[3] == 0xfd) {
		reader->format = FORMAT_ZSTD;
		reader->zstd = ZSTD_createDStream();
		if (!reader->zstd || ZSTD_isError(ZSTD_DCtx_setParameter(reader->zstd, ZSTD_d_windowLogMax, 27)))
			return gt_fail(err, GT_INTERNAL, "set up zstd");
	} else if ((n >= 6 && memcmp(m, "\xfd" "7zXZ", 6) == 0) || (n >= 3 && memcmp(m, "BZh", 3) == 0)) {
		reader->format = FORMAT_OTHER;
	}
	return 0;
}

/* What follows a compressed stream: another member, or zeros. Returns 1 where another gzip member begins. */
static int after_member(struct blob_reader *reader, struct gt_error *err)
{
	if (refill(reader, err) < 0)
		return -1;
	if (reader->at < reader->have && (unsigned char)reader->in[reader->at] == 0x1f)
		return 1;
	while (!reader->eof) {
		for (; reader->at < reader->have; reader->at++) {
			if (reader->in[reader->at])
				return gt_fail(err, GT_INVALID, "a compressed blob has other data after its end");
		}
		if (refill(reader, err) < 0)
			return -1;
	}
	reader->ended = true;
	return 0;
}

static ssize_t read_isal(struct blob_reader *reader, void *bytes, size_t room, struct gt_error *err)
{
	struct inflate_state *state = reader->isal;
	state->next_out = bytes;
	state->avail_out = room < UINT32_MAX ? (uint32_t)room : UINT32_MAX;
	size_t wanted = state->avail_out;
	while (state->avail_out > 0 && !reader->ended) {
		if (refill(reader, err) < 0)
			return -1;
		state->next_in = (uint8_t *)reader->in + reader->at;
		state->avail_in = (uint32_t)(reader->have - reader->at);
		int rc = isal_inflate(state);
		size_t before = reader->at;
		reader->at = reader->have - state->avail_in;
		if (rc < 0 && !reader->started && state->avail_out == wanted && reader->stored == (int64_t)reader->have) {
			reader->at = 0; /* nothing is lost yet: let zlib try from the start */
			reader->format = FORMAT_ZLIB_GZIP;
			return blob_read(reader, bytes, room, err);
		}
		if (rc < 0)
			return gt_fail(err, GT_INVALID, "the gzip data is damaged (%d)", rc);
		if (state->block_state == ISAL_BLOCK_FINISH) {
			int more = after_member(reader, err);
			if (more < 0)
				return -1;
			if (more > 0) {
				isal_inflate_reset(state);
				state->crc_flag = ISAL_GZIP;
			}
		} else if (reader->eof && reader->at == before && state->avail_out > 0) {
			return gt_fail(err, GT_INVALID, "the gzip data ends too early");
		}
	}
	return (ssize_t)(wanted - state->avail_out);
}

static ssize_t read_zlib(struct blob_reader *reader, void *bytes, size_t room, struct gt_error *err)
{
	if (!reader->zlib) {
		reader->zlib = gt_xcalloc(1, sizeof *reader->zlib);
		if (inflateInit2(reader->zlib, 15 + 16) != Z_OK)
			return gt_fail(err, GT_INTERNAL, "set up zlib");
	}
	z_stream *z = reader->zlib;
	uInt wanted = room < UINT_MAX ? (uInt)room : UINT_MAX;
	z->next_out = bytes;
	z->avail_out = wanted;
	while (z->avail_out > 0 && !reader->ended) {
		if (refill(reader, err) < 0)
			return -1;
		z->next_in = (Bytef *)reader->in + reader->at;
		z->avail_in = (uInt)(reader->have - reader->at);
		int rc = inflate(z, Z_NO_FLUSH);
		reader->at = reader->have - z->avail_in;
		if (rc == Z_STREAM_END) {
			int more = after_member(reader, err);
			if (more < 0)
				return -1;
			if (more > 0)
				inflateReset(z);
		} else if (rc == Z_BUF_ERROR && reader->eof) {
			return gt_fail(err, GT_INVALID, "the gzip data ends too early");
		} else if (rc != Z_OK && rc != Z_BUF_ERROR) {
			return gt_fail(err, GT_INVALID, "the gzip data is damaged: %s", z->msg ? z->msg : "unknown error");
		}
	}
	return (ssize_t)(wanted - z->avail_out);
}

static ssize_t read_zstd(struct blob_reader *reader, void *bytes, size_t room, struct gt_error *err)
{
	ZSTD_outBuffer out = { bytes, room, 0 };
	size_t hint = 1;
	while (out.pos < room) {
		if (refill(reader, err) < 0)
			return -1;
		if (reader->eof) {
			if (!reader->ended)
				return gt_fail(err, GT_INVALID, "the zstd data ends too early");
			break;
		}
		ZSTD_inBuffer in = { reader->in, reader->have, reader->at };
		hint = ZSTD_decompressStream(reader->zstd, &out, &in);
		if (ZSTD_isError(hint))
			return gt_fail(err, GT_INVALID, "the zstd data is damaged: %s", ZSTD_getErrorName(hint));
		reader->at = in.pos;
		reader->ended = hint == 0; /* at the end of a frame; another may follow */
	}
	return (ssize_t)out.pos;
}

static ssize_t feed_other(struct archive *archive, void *arg, const void **bytes)
{
	struct blob_reader *reader = arg;
	struct gt_error err;
	if (refill(reader, &err) < 0) {
		archive_set_error(archive, EIO, "%s", err.message);
		return -1;
	}
	*bytes = reader->in + reader->at;
	ssize_t n = (ssize_t)(reader->have - reader->at);
	reader->at = reader->have;
	return n;
}

static ssize_t read_other(struct blob_reader *reader, void *bytes, size_t room, struct gt_error *err)
{
	struct archive_entry *entry;
	if (!reader->other) {
		reader->other = archive_read_new();
		archive_read_support_filter_xz(reader->other);
		archive_read_support_filter_bzip2(reader->other);
		archive_read_support_format_raw(reader->other);
		if (archive_read_open(reader->other, reader, NULL, feed_other, NULL) != ARCHIVE_OK ||
		    archive_read_next_header(reader->other, &entry) != ARCHIVE_OK)
			return gt_fail(err, GT_INVALID, "the compressed data is damaged: %s",
				       archive_error_string(reader->other) ?: "unknown error");
	}
	la_ssize_t n = archive_read_data(reader->other, bytes, room);
	if (n < 0)
		return gt_fail(err, GT_INVALID, "the compressed data is damaged: %s",
			       archive_error_string(reader->other) ?: "unknown error");
	return (ssize_t)n;
}

static ssize_t read_plain(struct blob_reader *reader, void *bytes, size_t room, struct gt_error *err)
{
	if (refill(reader, err) < 0)
		return -1;
	size_t part = reader->have - reader->at < room ? reader->have - reader->at : room;
	memcpy(bytes, reader->in + reader->at, part);
	reader->at += part;
	return (ssize_t)part;
}

ssize_t blob_read(struct blob_reader *reader, void *bytes, size_t room, struct gt_error *err)
{
	if (reader->format == FORMAT_UNKNOWN && begin(reader, err) < 0)
		return -1;
	ssize_t n = 0;
	switch (reader->format) {
	case FORMAT_GZIP:
		n = read_isal(reader, bytes, room, err);
		break;
	case FORMAT_ZLIB_GZIP:
		n = read_zlib(reader, bytes, room, err);
		break;
	case FORMAT_ZSTD:
		n = read_zstd(reader, bytes, room, err);
		break;
	case FORMAT_OTHER:
		n = read_other(reader, bytes, room, err);
		break;
	default:
		n = read_plain(reader, bytes, room, err);
		break;
	}
	reader->started = reader->started || n > 0;
	return n;
}

int blob_finish(struct blob_reader *reader, char hex[65], int64_t *length, struct gt_error *err)
{
	while (!reader->eof) {
		reader->at = reader->have;
		if (refill(reader, err) < 0)
			return -1;
	}
	digest_end(&reader->digest, hex);
	*length = reader->stored;
	return 0;
}

int blob_slurp(const struct blob *blob, size_t max, const char *what, struct gt_buf *out, struct gt_error *err)
{
	if (blob->length < 0 || blob->length > (int64_t)max)
		return gt_fail(err, GT_TOO_LARGE, "%.200s is larger than %zu bytes", what, max);
	char *room = gt_buf_reserve(out, (size_t)blob->length + 1);
	for (int64_t done = 0; done < blob->length;) {
		ssize_t n = pread(blob->fd, room + done, (size_t)(blob->length - done), blob->offset + done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return gt_fail_sys(err, GT_INTERNAL, n < 0 ? errno : EIO, "read %.200s", what);
		done += n;
	}
	out->len += (size_t)blob->length;
	out->data[out->len] = '\0';
	return 0;
}
