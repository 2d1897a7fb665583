/* One whose network driver gives addresses by itself. */
#define VERSION "6"
#define NETWORK_CAPABILITIES (GANTRY_NET_PUBLISH | GANTRY_NET_OWN_IPAM)
#include "reload.c"
