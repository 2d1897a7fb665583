/* redirect.h - private to core/dns: port 53 of 127.0.0.11 leads to another port of it. */
#pragma once

#include <stdint.h>

/* To be called inside the network namespace: packets to port 53 (UDP and TCP) go to `port`, and come back as if from 53. What an earlier call has set up
 * is replaced. 0, or an errno. */
int dns_redirect(uint16_t port);
