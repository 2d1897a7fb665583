/*
 * notify.h - tells the service manager how the daemon stands (sd_notify(3)'s datagram on $NOTIFY_SOCKET).
 */
#pragma once

/* state: "READY=1", "STOPPING=1", ... Nothing happens where no one listens. Thread safe. */
void gt_notify(const char *state);
