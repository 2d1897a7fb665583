/*
 * journal.h - entries for systemd's journal, in its "Native Journal Protocol": one datagram for each.
 *
 * libsystemd does the same, but brings libgcrypt and four libraries for compression into each process. Thread safe.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

#define GT_JOURNAL_SOCKET "/run/systemd/journal/socket"

/* Appends a field. name: [A-Z0-9_], at most 64 bytes, neither "_" nor a digit first. The value may hold any bytes. */
void gt_journal_field(struct gt_buf *entry, const char *name, const char *value, size_t len);

/* Sends an entry by fd, a datagram socket (AF_UNIX) that is not connected, so that a journal that was started anew is found. What is too large for a datagram
 * goes as a file in memory. wait: as long as fd's SO_SNDTIMEO says for a journal that is behind. Returns 0, or -1 with errno: EAGAIN where it is behind. */
int gt_journal_send(int fd, const struct gt_buf *entry, bool wait);
