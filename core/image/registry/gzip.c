#include "gzip.h"

#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "../internal.h"

#define BLOCK (512u << 10)
#define LEVEL 2                 /* as small as zlib's 2 at six times its speed */
#define MAX_THREADS 8
#define SLOTS (2 * MAX_THREADS)

struct slot {
	char *plain, *packed;
	size_t plain_len, packed_len;
	uint32_t crc;
	bool ready;
};

struct packer {
	int fd;
	size_t threads;
	pthread_t thread[MAX_THREADS];
	size_t packed_room;
	pthread_mutex_t reading;        /* fd, taken, ended, plain; total may be read without */
	uint64_t taken;                 /* blocks that were read */
	bool ended;
	int read_errno;
	struct digest plain;
	_Atomic int64_t total;
	pthread_mutex_t lock;           /* slots' ready, given, stop */
	pthread_cond_t changed;
	uint64_t given;                 /* blocks that the taker is done with */
	uint64_t last;                  /* the number of blocks once it is known, else UINT64_MAX */
	bool stop;
	/* the taker's */
	size_t at;                      /* of the current block, or of edge[] */
	int stage;                      /* 0: header, 1: blocks, 2: trailer, 3: end */
	unsigned char edge[16];
	size_t edge_len;
	uLong crc;
	struct slot slots[SLOTS];
};

/* ---- the workers ---- */

/* Waits until block `number` has a slot. */
static bool wait_for_slot(struct packer *packer, uint64_t number)
{
	LOCKED(&packer->lock);
	while (!packer->stop && number >= packer->given + 2 * packer->threads)
		pthread_cond_wait(&packer->changed, &packer->lock);
	return !packer->stop;
}

/* Takes the next block of plain bytes; NULL at the end. */
static struct slot *take_block(struct packer *packer)
{
	LOCKED(&packer->reading);
	if (packer->ended || !wait_for_slot(packer, packer->taken))
		return NULL;
	struct slot *slot = &packer->slots[packer->taken % (2 * packer->threads)];
	if (!slot->plain) {
		slot->plain = gt_xmalloc(BLOCK);
		slot->packed = gt_xmalloc(packer->packed_room);
	}
	ssize_t got = gt_read_full(packer->fd, slot->plain, BLOCK);
	if (got <= 0) {
		packer->ended = true;
		packer->read_errno = got < 0 ? errno : 0;
		LOCKED(&packer->lock);
		packer->last = packer->taken;
		pthread_cond_broadcast(&packer->changed);
		return NULL;
	}
	digest_add(&packer->plain, slot->plain, (size_t)got);
	packer->total += got;
	packer->taken++;
	slot->plain_len = (size_t)got;
	return slot;
}

/* Ends at a byte, with nothing before it to look back at: the blocks just follow each other. */
static void pack(struct packer *packer, struct isal_zstream *z, uint8_t *level_buf, struct slot *slot)
{
	isal_deflate_init(z);
	z->level = LEVEL;
	z->level_buf = level_buf;
	z->level_buf_size = ISAL_DEF_LVL2_DEFAULT;
	z->flush = FULL_FLUSH;
	z->next_in = (uint8_t *)slot->plain;
	z->avail_in = (uint32_t)slot->plain_len;
	z->next_out = (uint8_t *)slot->packed;
	z->avail_out = (uint32_t)packer->packed_room;
	if (isal_deflate(z) != COMP_OK || z->avail_in > 0)
		abort(); /* there is room for all of it */
	slot->packed_len = packer->packed_room - z->avail_out;
	slot->crc = crc32_gzip_refl(0, (unsigned char *)slot->plain, slot->plain_len);
}

static void *worker(void *arg)
{
	struct packer *packer = arg;
	struct slot *slot;
	AUTO_FREE struct isal_zstream *z = gt_xmalloc(sizeof *z);
	AUTO_FREE uint8_t *level_buf = gt_xmalloc(ISAL_DEF_LVL2_DEFAULT);
	while ((slot = take_block(packer)) != NULL) {
		pack(packer, z, level_buf, slot);
		LOCKED(&packer->lock);
		slot->ready = true;
		pthread_cond_broadcast(&packer->changed);
	}
	return NULL;
}

struct packer *packer_open(int fd, struct gt_error *err)
{
	static const unsigned char header[10] = { 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255 };
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	struct packer *packer = gt_xcalloc(1, sizeof *packer);
	packer->fd = fd;
	packer->last = UINT64_MAX;
	packer->packed_room = BLOCK + BLOCK / 8 + 4096;
	memcpy(packer->edge, header, packer->edge_len = sizeof header);
	digest_begin(&packer->plain);
	pthread_mutex_init(&packer->reading, NULL);
	pthread_mutex_init(&packer->lock, NULL);
	pthread_cond_init(&packer->changed, NULL);
	size_t wanted = cpus < 1 ? 1 : cpus > MAX_THREADS ? MAX_THREADS : (size_t)cpus, started = 0;
	packer->threads = wanted;
	while (started < wanted && pthread_create(&packer->thread[started], NULL, worker, packer) == 0)
		started++;
	if (started == wanted)
		return packer;
	pthread_mutex_lock(&packer->lock);
	packer->stop = true;
	pthread_cond_broadcast(&packer->changed);
	pthread_mutex_unlock(&packer->lock);
	for (size_t i = 0; i < started; i++)
		pthread_join(packer->thread[i], NULL);
	packer->threads = 0;
	packer_close(packer);
	return gt_fail_null(err, GT_INTERNAL, "threads to compress a layer cannot be started");
}

void packer_close(struct packer *packer)
{
	if (!packer)
		return;
	pthread_mutex_lock(&packer->lock);
	packer->stop = true;
	pthread_cond_broadcast(&packer->changed);
	pthread_mutex_unlock(&packer->lock);
	for (size_t i = 0; i < packer->threads; i++)
		pthread_join(packer->thread[i], NULL);
	for (size_t i = 0; i < SLOTS; i++) {
		free(packer->slots[i].plain);
		free(packer->slots[i].packed);
	}
	pthread_cond_destroy(&packer->changed);
	pthread_mutex_destroy(&packer->lock);
	pthread_mutex_destroy(&packer->reading);
	free(packer);
}

/* ---- the taker ---- */

static size_t give(struct packer *packer, const void *from, size_t len, void *bytes, size_t room)
{
	size_t part = len - packer->at < room ? len - packer->at : room;
	memcpy(bytes, (const char *)from + packer->at, part);
	packer->at += part;
	return part;
}

/* The next block, once it is ready; NULL after the last. */
static struct slot *current_block(struct packer *packer)
{
	LOCKED(&packer->lock);
	struct slot *slot = &packer->slots[packer->given % (2 * packer->threads)];
	while (!slot->ready && packer->given != packer->last)
		pthread_cond_wait(&packer->changed, &packer->lock);
	return packer->given == packer->last ? NULL : slot;
}

static void done_with(struct packer *packer, struct slot *slot)
{
	packer->crc = crc32_combine(packer->crc, slot->crc, (z_off_t)slot->plain_len);
	packer->at = 0;
	LOCKED(&packer->lock);
	slot->ready = false;
	packer->given++;
	pthread_cond_broadcast(&packer->changed);
}

static void put_le32(unsigned char *to, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		to[i] = (unsigned char)(value >> (8 * i));
}

/* An empty last block, then crc and length. */
static void begin_trailer(struct packer *packer)
{
	packer->edge[0] = 3;
	packer->edge[1] = 0;
	put_le32(packer->edge + 2, (uint32_t)packer->crc);
	put_le32(packer->edge + 6, (uint32_t)packer->total);
	packer->edge_len = 10;
	packer->at = 0;
	packer->stage = 2;
}

ssize_t packer_read(struct packer *packer, void *bytes, size_t room, struct gt_error *err)
{
	if (packer->stage == 1) {
		struct slot *slot;
		while ((slot = current_block(packer)) != NULL) {
			size_t part = give(packer, slot->packed, slot->packed_len, bytes, room);
			if (part > 0)
				return (ssize_t)part;
			done_with(packer, slot);
		}
		if (packer->read_errno)
			return gt_fail_sys(err, GT_INTERNAL, packer->read_errno, "read a layer");
		begin_trailer(packer);
	}
	if (packer->stage == 3)
		return 0;
	size_t part = give(packer, packer->edge, packer->edge_len, bytes, room);
	if (packer->at == packer->edge_len) {
		packer->at = 0;
		packer->stage++;
	}
	return (ssize_t)part;
}

int64_t packer_position(struct packer *packer)
{
	return packer->total;
}

void packer_plain(struct packer *packer, char hex[65])
{
	LOCKED(&packer->reading); /* free at the end: no worker waits for the taker any more */
	struct digest copy = packer->plain;
	digest_end(&copy, hex);
}
