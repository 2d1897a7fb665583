/* One that does not open again. */
#define VERSION "7"
#define OPENS_ONCE 1
#include "reload.c"
