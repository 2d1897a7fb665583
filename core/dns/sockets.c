/*
 * sockets.c - a container's two sockets, at 127.0.0.11 inside its namespace and at one port for both.
 *
 * The port follows from the container's id where it is free: a daemon that starts anew takes up the one that questions under way are already led to.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/log.h"
#include "base/netns.h"
#include "dns/redirect.h"
#include "dns/server.h"

#define FIRST_PORT 32768        /* where the kernel picks ports for clients: programs seldom listen there */
#define PORTS 28000
#define DNS_PORT 53
#define ATTEMPTS 16
#define BACKLOG 64
#define RECEIVE_BUFFER (512 * 1024)

struct opening {
	struct dns_client *client;
	int error;              /* of the sockets */
	int redirect_error;     /* why port 53 itself had to be taken */
};

static int open_one(int type, uint16_t port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = inet_addr(GT_DNS_ADDRESS) };
	int one = 1, room = RECEIVE_BUFFER;
	AUTO_CLOSE int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	/* Room for a thousand questions or so that come all at once; where it is refused, the system's default has to do. */
	if (type == SOCK_DGRAM)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
	/* Connections of an earlier daemon may linger at the port. */
	if (type == SOCK_STREAM && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0)
		return -1;
	if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || (type == SOCK_STREAM && listen(fd, BACKLOG) < 0))
		return -1;
	return take_fd(fd);
}

/* The container's init brings it up as well, maybe later than this; while it is down the address is none. */
static int raise_loopback(void)
{
	struct ifreq request = { .ifr_name = "lo" };
	AUTO_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request) < 0)
		return -1;
	if (request.ifr_flags & IFF_UP)
		return 0;
	request.ifr_flags |= IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, &request);
}

static int open_both(struct dns_client *client, uint16_t port)
{
	client->udp.fd = open_one(SOCK_DGRAM, port);
	if (client->udp.fd < 0)
		return -1;
	client->tcp.fd = open_one(SOCK_STREAM, port);
	if (client->tcp.fd >= 0)
		return 0;
	int errnum = errno;
	dns_watch_close(&client->udp);
	errno = errnum;
	return -1;
}

/* Inside the namespace. Returns the port, 0 with errno. */
static uint16_t open_anywhere(struct dns_client *client)
{
	unsigned start = (unsigned)strtoul((char[]){ client->id[0], client->id[1], client->id[2], client->id[3], '\0' }, NULL, 16);
	for (unsigned i = 0; i < ATTEMPTS; i++) {
		uint16_t port = (uint16_t)(FIRST_PORT + (start + i * 1237) % PORTS);
		if (open_both(client, port) == 0)
			return port;
		if (errno != EADDRINUSE)
			return 0;
	}
	return 0;
}

static int open_inside(void *arg)
{
	struct opening *opening = arg;
	struct dns_client *client = opening->client;
	uint16_t port = raise_loopback() < 0 ? 0 : open_anywhere(client);
	if (port) {
		opening->redirect_error = dns_redirect(port);
		if (!opening->redirect_error)
			return 0;
		dns_watch_close(&client->udp);
		dns_watch_close(&client->tcp);
	}
	if (open_both(client, DNS_PORT) == 0)
		return 0;
	opening->error = errno;
	return -1;
}

int dns_sockets_open(struct dns_client *client, int netns_fd, struct gt_error *err)
{
	struct opening opening = { .client = client };
	if (gt_in_netns(netns_fd, open_inside, &opening, err) < 0)
		return opening.error ? gt_fail_sys(err, GT_INTERNAL, opening.error, "bind port 53 of " GT_DNS_ADDRESS) : -1;
	if (opening.redirect_error)
		gt_warn("packets cannot be redirected in a container's network namespace, so that the resolver has port 53 of " GT_DNS_ADDRESS " itself", "id",
			client->id, "error", strerror(opening.redirect_error));
	return 0;
}
