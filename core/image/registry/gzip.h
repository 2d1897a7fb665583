/*
 * gzip.h - private to core/image/registry: gzip by several threads, as a stream that is pulled.
 *
 * ISA-L compresses. The same bytes give the same gzip whatever the number of threads (on one kind of processor): blocks of a fixed size are
 * compressed each on its own. Blocks in flight are
 * bounded, so a slow taker slows the source.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct packer;
/* Compresses what fd gives until its end; fd stays the caller's and must stay open until packer_close(). */
struct packer *packer_open(int fd, struct gt_error *err);
/* Compressed bytes; 0 at the end, -1 where reading fd failed. */
ssize_t packer_read(struct packer *packer, void *bytes, size_t room, struct gt_error *err);
int64_t packer_position(struct packer *packer);         /* bytes that have come from fd so far */
/* Once packer_read() has told the end: sha256 of the bytes that came from fd. */
void packer_plain(struct packer *packer, char hex[65]);
void packer_close(struct packer *packer);       /* NULL is fine */
