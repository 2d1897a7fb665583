/*
 * etcd_internal.h - private to etcd.c and etcd_watch.c.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "common/curl.h"
#include "etcd.h"

#define IDLE_MAX 4

struct etcd {
	const struct curl_calls *curl;
	char *endpoints[ETCD_ENDPOINTS_MAX];    /* without a slash at the end */
	unsigned count;
	char *ca, *cert, *key, *user, *password;
	int64_t timeout_ns;
	atomic_uint turn;               /* modulo count: the endpoint that is spoken to */
	atomic_bool stopped;
	pthread_mutex_t lock;           /* guards what follows */
	CURL *idle[IDLE_MAX];           /* with their connections */
	unsigned idle_count;
	char token[512];                /* of the user; empty: none yet */
	char failure[512];              /* of the last endpoint that was out of order; empty: one has answered since */
};

/* An answer as it comes in. */
struct etcd_body {
	struct etcd *etcd;
	char *bytes;
	size_t len, room;
	bool too_long;
};

/* What all requests have in common. *headers: to be freed after the transfer. */
int etcd_prepare(struct etcd *etcd, CURL *handle, const char *url, const char *body, struct curl_slist **headers);
CURL *etcd_handle(struct etcd *etcd);
/* Kept for the next request, with its connection, or freed. */
void etcd_handle_put(struct etcd *etcd, CURL *handle);
size_t etcd_body_take(char *bytes, size_t size, size_t count, void *arg);
