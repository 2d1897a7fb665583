/*
 * common/relay.h - carries connections that the kernel's NAT cannot: to a container's port from an IPv6 address of the host where the container has only
 * IPv4, and from ::1.
 *
 * One thread, begun with the first port, that sleeps as long as nobody comes. TCP is spliced from socket to socket; for UDP there is a table of flows, which
 * are forgotten RELAY_UDP_IDLE_S seconds after their last datagram. Both together are bounded: who comes beyond that is refused.
 *
 * What is being carried ends with the process; the listening sockets belong to the caller, so that a port is held whether or not it is relayed. In the
 * container's eyes a relayed client has the host's address in the container's network.
 *
 * Any thread may call these at any time. They wait for the relay's thread only for the one event that it is at, never for the network.
 */
#pragma once

#include <stdint.h>

#include "common/values.h"

#define RELAY_UDP_IDLE_S 90

struct relay;
struct relay_port;

/* `most`: connections and flows at a time. `host` outlives it. NULL: no memory. */
struct relay *relay_open(const struct gantry_host *host, unsigned most);
/* After relay_end() of all ports. NULL is fine. */
void relay_close(struct relay *relay);
/* Takes what comes in on `fd`, non-blocking, of IPv6: a listening socket (proto IPPROTO_TCP) or a bound one (IPPROTO_UDP), to port `port` of `to`. `fd`
 * stays the caller's, and is open until relay_end() has returned. NULL with err. */
struct relay_port *relay_begin(struct relay *relay, int fd, int proto, const struct address *to, uint16_t port, struct gantry_error *err);
/* Nothing more is taken. What the container has sent already still goes out. NULL is fine. */
void relay_end(struct relay_port *port);
