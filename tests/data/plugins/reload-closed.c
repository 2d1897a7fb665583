/* One that does not open. */
#define VERSION "3"
#define OPEN_FAILS 1
#include "reload.c"
