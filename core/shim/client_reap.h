/* client_reap.h - shims that ended are reaped, wherever they end. Private to core/shim. */
#pragma once

#include <stdbool.h>

/* Reaps the child behind pidfd where it has ended already. False: it has not. */
bool gt_shim_reap_now(int pidfd);
/* Takes pidfd over: a thread that lives only while there is something to wait for reaps the child when it ends. Thread safe. */
void gt_shim_reap_later(int pidfd);
