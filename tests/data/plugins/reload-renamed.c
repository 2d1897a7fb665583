/* One whose network driver has another name. */
#define VERSION "5"
#define NETWORK_NAME "other"
#include "reload.c"
