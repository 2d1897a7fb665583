/*
 * events.c - what happened, on its way to the daemon.
 *
 * Notices wait in a bounded list until a daemon has room for them: a daemon that was away hears what it missed. A list that is full loses its oldest
 * (the end of some exec); the container's exit is in exit.json besides.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "shim/shim.h"

#define MAX_EVENTS 2048

struct gt_event_node {
	struct gt_event_node *next;
	struct gt_shim_notice notice;
};

static void drop_oldest(struct shim *shim)
{
	struct gt_event_node *node = shim->event_head;
	shim->event_head = node->next;
	if (!shim->event_head)
		shim->event_tail = NULL;
	shim->event_count--;
	free(node);
}

void gt_events_flush(struct shim *shim)
{
	while (shim->event_head && gt_server_has_listener(shim)) {
		ssize_t n = send(shim->events.fd, &shim->event_head->notice, sizeof(struct gt_shim_notice), MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break; /* full, or gone: then the loop tells */
		drop_oldest(shim);
	}
	gt_loop_want(&shim->loop, &shim->events, EPOLLIN | (shim->event_head ? EPOLLOUT : 0));
}

void gt_events_add(struct shim *shim, const struct gt_shim_notice *notice)
{
	if (shim->event_count >= MAX_EVENTS)
		drop_oldest(shim);
	struct gt_event_node *node = gt_xcalloc(1, sizeof *node);
	node->notice = *notice;
	node->notice.magic = GT_SHIM_MAGIC;
	node->notice.type = GT_SHIM_MSG_NOTICE;
	if (shim->event_tail)
		shim->event_tail->next = node;
	else
		shim->event_head = node;
	shim->event_tail = node;
	shim->event_count++;
	gt_events_flush(shim);
}

void gt_events_free(struct shim *shim)
{
	while (shim->event_head)
		drop_oldest(shim);
}
