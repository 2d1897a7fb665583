/* The next version. */
#define VERSION "2"
#include "reload.c"
