/* One that opens and will not be told what there is. */
#define VERSION "4"
#define RECONCILE_FAILS 1
#include "reload.c"
