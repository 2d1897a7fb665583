/*
 * conn.h - one connection to the daemon: a unix socket, a tcp socket, or TLS over tcp.
 *
 * TLS comes from libssl, which is loaded only when a tls address is dialled: a `gantry ps` over the unix socket
 * must not pay for its start-up.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

struct tls_session;

struct tls_files {
	const char *ca, *cert, *key;    /* NULL: none */
	bool verify;                    /* the daemon's certificate and name must check out */
};

struct conn {
	int fd;                         /* -1: closed */
	struct tls_session *tls;        /* NULL: plain */
};

int conn_unix(struct conn *conn, const char *path, struct gt_error *err);
/* tls NULL: plain tcp. */
int conn_tcp(struct conn *conn, const char *host, const char *port, const struct tls_files *tls, struct gt_error *err);
void conn_close(struct conn *conn);

/* Returns bytes, 0 at the end, -1 with errno (EAGAIN on a non-blocking connection). */
ssize_t conn_read(struct conn *conn, void *bytes, size_t room);
ssize_t conn_write(struct conn *conn, const void *bytes, size_t len);
/* All of it; on a blocking connection. -1 with errno. */
int conn_write_all(struct conn *conn, const void *bytes, size_t len);
/* True where bytes lie decrypted in memory, so that poll() would not tell of them. */
bool conn_pending(const struct conn *conn);
/* Nothing more will be written: the other side reads the end. */
void conn_half_close(struct conn *conn);
void conn_set_blocking(struct conn *conn, bool blocking);

/* tls.c */
struct tls_session *tls_connect(int fd, const char *host, const struct tls_files *files, struct gt_error *err);
ssize_t tls_read(struct tls_session *tls, void *bytes, size_t room);
ssize_t tls_write(struct tls_session *tls, const void *bytes, size_t len);
bool tls_pending(const struct tls_session *tls);
void tls_half_close(struct tls_session *tls);
void tls_free(struct tls_session *tls);
