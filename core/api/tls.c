/*
 * tls.c - the TLS front of tcp listeners: only clients whose certificate our CA has signed come through.
 *
 * One thread accepts; each connection has a thread that shakes hands and then relays between TLS and one end of a socket pair, whose other
 * end MHD serves like any plain connection. So attach, exec and half-closes work over TLS as they do over unix sockets, the shim included, at
 * the price of one copy. TLS sessions cannot outlive this process.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/internal.h"
#include "api/listen.h"
#include "base/log.h"

enum { HANDSHAKE_MS = 10000, STACK = 256 << 10, STOP_WAIT = 5 /* s */ };

struct front {
	struct gt_api *api;
	struct MHD_Daemon *daemon;
	gnutls_certificate_credentials_t credentials;
	gnutls_priority_t priority;
	pthread_t acceptor;
	bool accepting;
	int refuse_pipe[2];             /* the write end closes: accept no more */
	pthread_mutex_t lock;           /* guards the list */
	pthread_cond_t gone;
	struct session *sessions;       /* from the accept to the close of each */
	int64_t count;
};

struct session {
	struct session *next, **slot;
	struct front *front;
	int fd;
	char peer[INET6_ADDRSTRLEN];
};

/* ---- one connection ---- */

static gnutls_session_t shake_hands(struct session *session)
{
	struct front *front = session->front;
	gnutls_session_t tls;
	if (gnutls_init(&tls, GNUTLS_SERVER | GNUTLS_NO_SIGNAL) < 0)
		return NULL;
	gnutls_typed_vdata_st purpose = { GNUTLS_DT_KEY_PURPOSE_OID, (void *)GNUTLS_KP_TLS_WWW_CLIENT, 0 };
	gnutls_priority_set(tls, front->priority);
	gnutls_credentials_set(tls, GNUTLS_CRD_CERTIFICATE, front->credentials);
	gnutls_certificate_server_set_request(tls, GNUTLS_CERT_REQUIRE);
	gnutls_session_set_verify_cert2(tls, &purpose, 1, 0);
	gnutls_transport_set_int(tls, session->fd);
	gnutls_handshake_set_timeout(tls, HANDSHAKE_MS);
	int rc;
	do
		rc = gnutls_handshake(tls);
	while (rc < 0 && !gnutls_error_is_fatal(rc));
	if (rc == 0) {
		/* A client with Nagle's algorithm holds its first request until the end of its handshake is acknowledged. */
		int one = 1;
		setsockopt(session->fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one);
		return tls;
	}
	gnutls_alert_send_appropriate(tls, rc);
	gt_info("a TLS client was turned away", "peer", session->peer, "reason", gnutls_strerror(rc));
	gnutls_deinit(tls);
	return NULL;
}

static void serve_session(struct session *session)
{
	struct front *front = session->front;
	gnutls_session_t tls = shake_hands(session);
	if (!tls)
		return;
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		gnutls_deinit(tls);
		return;
	}
	struct sockaddr_un nobody = { .sun_family = AF_UNIX };
	/* MHD owns and closes pair[1], also where it refuses. */
	if (MHD_add_connection(front->daemon, pair[1], (struct sockaddr *)&nobody, sizeof nobody.sun_family) == MHD_YES) {
		struct relay_end client = { .fd = session->fd, .tls = tls }, inner = { .fd = pair[0] };
		relay_run(&client, &inner, NULL, 0);
	}
	close(pair[0]);
	gnutls_bye(tls, GNUTLS_SHUT_WR);
	gnutls_deinit(tls);
}

/* Out of the list, and gone. The descriptor closes under the lock: front_stop() shuts down what it finds in the list. */
static void end_session(struct session *session)
{
	struct front *front = session->front;
	LOCKED(&front->lock);
	shutdown(session->fd, SHUT_RDWR);
	close(session->fd);
	*session->slot = session->next;
	if (session->next)
		session->next->slot = session->slot;
	if (--front->count == 0)
		pthread_cond_broadcast(&front->gone);
	free(session);
}

static void *session_thread(void *arg)
{
	struct session *session = arg;
	serve_session(session);
	end_session(session);
	return NULL;
}

/* ---- accepting ---- */

static void tune(int fd)
{
	/* A client that vanished without a word is noticed in about two minutes. */
	int one = 1, idle = 60, interval = 15, count = 4;
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	/* For a handshake on a blocking socket; the relay does not block. */
	struct timeval limit = { .tv_sec = HANDSHAKE_MS / 1000 };
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

static void peer_text(const struct sockaddr_storage *peer, char text[INET6_ADDRSTRLEN])
{
	const void *address = peer->ss_family == AF_INET6 ? (const void *)&((const struct sockaddr_in6 *)peer)->sin6_addr
							   : (const void *)&((const struct sockaddr_in *)peer)->sin_addr;
	text[0] = '\0';
	if (peer->ss_family == AF_INET || peer->ss_family == AF_INET6)
		inet_ntop(peer->ss_family, address, text, INET6_ADDRSTRLEN);
}

/* NULL where there are too many. */
static struct session *begin_session(struct front *front, int fd)
{
	LOCKED(&front->lock);
	if (front->count >= front->api->config->max_connections)
		return NULL;
	struct session *session = gt_xcalloc(1, sizeof *session);
	*session = (struct session){ .front = front, .fd = fd, .next = front->sessions, .slot = &front->sessions };
	if (session->next)
		session->next->slot = &session->next;
	front->sessions = session;
	front->count++;
	return session;
}

static void accept_one(struct front *front, int listen_fd)
{
	struct sockaddr_storage peer = { 0 };
	socklen_t len = sizeof peer;
	AUTO_CLOSE int fd = accept4(listen_fd, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC);
	if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
		usleep(50000); /* descriptors come back as others end */
	struct session *session = fd < 0 ? NULL : begin_session(front, fd);
	if (!session)
		return;
	tune(fd);
	take_fd(fd);
	peer_text(&peer, session->peer);
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK);
	pthread_t thread;
	int rc = pthread_create(&thread, &attr, session_thread, session);
	pthread_attr_destroy(&attr);
	if (rc != 0)
		end_session(session);
}

static void *acceptor_thread(void *arg)
{
	struct front *front = arg;
	const struct gt_api *api = front->api;
	struct pollfd look[API_MAX_LISTENERS + 1] = { { .fd = front->refuse_pipe[0] } };
	nfds_t count = 1;
	for (size_t i = 0; i < api->listener_count; i++) {
		if (api->listeners[i].tls)
			look[count++] = (struct pollfd){ .fd = api->listeners[i].fd, .events = POLLIN };
	}
	for (;;) {
		if (poll(look, count, -1) < 0 && errno != EINTR)
			return NULL;
		if (look[0].revents)
			return NULL;
		for (nfds_t i = 1; i < count; i++) {
			if (look[i].revents)
				accept_one(front, look[i].fd);
		}
	}
}

/* ---- start and stop ---- */

static int load_credentials(struct front *front, const struct gt_config *config, struct gt_error *err)
{
	int rc = gnutls_certificate_allocate_credentials(&front->credentials);
	if (rc < 0)
		return gt_fail(err, GT_INTERNAL, "TLS: %s", gnutls_strerror(rc));
	rc = gnutls_certificate_set_x509_trust_file(front->credentials, config->tls_ca, GNUTLS_X509_FMT_PEM);
	if (rc <= 0)
		return gt_fail(err, GT_INVALID, "[daemon] tls_ca %s: %s", config->tls_ca, rc ? gnutls_strerror(rc) : "no certificate in it");
	rc = gnutls_certificate_set_x509_key_file(front->credentials, config->tls_cert, config->tls_key, GNUTLS_X509_FMT_PEM);
	if (rc < 0)
		return gt_fail(err, GT_INVALID, "[daemon] tls_cert %s, tls_key %s: %s", config->tls_cert, config->tls_key, gnutls_strerror(rc));
	rc = gnutls_priority_init(&front->priority, "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2", NULL);
	return rc < 0 ? gt_fail(err, GT_INTERNAL, "TLS: %s", gnutls_strerror(rc)) : 0;
}

static void close_slot(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void front_free(struct front *front)
{
	close_slot(&front->refuse_pipe[0]);
	close_slot(&front->refuse_pipe[1]);
	if (front->priority)
		gnutls_priority_deinit(front->priority);
	if (front->credentials)
		gnutls_certificate_free_credentials(front->credentials);
	pthread_cond_destroy(&front->gone);
	pthread_mutex_destroy(&front->lock);
	free(front);
}

int front_start(struct gt_api *api, struct MHD_Daemon *daemon, struct front **out, struct gt_error *err)
{
	struct front *front = gt_xcalloc(1, sizeof *front);
	*front = (struct front){ .api = api, .daemon = daemon, .refuse_pipe = { -1, -1 } };
	pthread_mutex_init(&front->lock, NULL);
	pthread_cond_init(&front->gone, NULL);
	if (load_credentials(front, api->config, err) < 0) {
		front_free(front);
		return -1;
	}
	int rc = pipe2(front->refuse_pipe, O_CLOEXEC) < 0 ? errno : 0;
	if (rc == 0)
		rc = pthread_create(&front->acceptor, NULL, acceptor_thread, front);
	if (rc != 0) {
		front_free(front);
		return gt_fail_errno(err, rc, "start the TLS front");
	}
	front->accepting = true;
	*out = front;
	return 0;
}

void front_refuse(struct front *front)
{
	if (!front || !front->accepting)
		return;
	close_slot(&front->refuse_pipe[1]);
	pthread_join(front->acceptor, NULL);
	front->accepting = false;
}

void front_stop(struct front *front)
{
	if (!front)
		return;
	front_refuse(front);
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += STOP_WAIT;
	pthread_mutex_lock(&front->lock);
	int rc = 0;
	for (const struct session *it = front->sessions; it; it = it->next)
		shutdown(it->fd, SHUT_RDWR);
	while (front->count > 0 && rc == 0)
		rc = pthread_cond_timedwait(&front->gone, &front->lock, &until);
	bool idle = front->count == 0;
	pthread_mutex_unlock(&front->lock);
	if (idle)
		front_free(front);
}
