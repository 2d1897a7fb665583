/*
 * listen.h - the sockets that the API is served on: unix, tcp, and those that systemd passes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"
#include "config/config.h"

struct listener {
	int fd;
	char *name;             /* as configured, for messages */
	bool tls;
	char *unlink_path;      /* a unix socket of ours, removed at the end; NULL: none */
	dev_t dev;
	ino_t ino;
};

/* Opens every entry of config->listen, all or nothing. *list has *count entries (at most max). */
int listeners_open(const struct gt_config *config, size_t max, struct listener **list, size_t *count, struct gt_error *err);
/* The tcp sockets of "HOST:PORT" (127.0.0.1 where HOST is empty) without TLS; key is the setting's name, for messages. */
int listeners_open_plain(const char *key, const char *address, size_t max, struct listener **list, size_t *count, struct gt_error *err);
void listeners_close(struct listener *list, size_t count);
