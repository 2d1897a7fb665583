/*
 * vanish.c - host ends of links whose namespace is gone.
 *
 * The kernel removes a namespace's links by itself within milliseconds, many at a time. Removing one by hand costs more than that (the kernel waits for
 * all its readers, each time, with everybody's link changes held up), so a container's end does not wait for it: one thread looks a while later, and removes
 * what is still there because something else keeps the namespace alive.
 */
#include "bridge.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define PATIENCE_NS 300000000LL
#define STACK_SIZE ((size_t)256 * 1024)

static int64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static bool is_there(int ifindex)
{
	char name[IF_NAMESIZE];
	return if_indextoname((unsigned)ifindex, name) != NULL;
}

static void remove_now(const struct bridge *self, int ifindex)
{
	struct gantry_error err = { .size = sizeof err };
	if (!is_there(ifindex))
		return;
	struct nl_sock *sock = netlink_open(NETLINK_ROUTE, &err);
	if (!sock || link_delete(sock, ifindex, &err) < 0)
		LOG_WARN(self, "a container's link is left: %s", err.message);
	nl_socket_free(sock);
}

static void *look_after(void *arg)
{
	struct bridge *self = arg;
	pthread_mutex_lock(&self->vanish_lock);
	while (!self->vanish_stop) {
		struct vanishing *first = self->vanishing;
		if (!first) {
			pthread_cond_wait(&self->vanish_wake, &self->vanish_lock);
		} else if (first->due_ns > now_ns()) {
			struct timespec due = { .tv_sec = first->due_ns / 1000000000, .tv_nsec = first->due_ns % 1000000000 };
			pthread_cond_timedwait(&self->vanish_wake, &self->vanish_lock, &due);
		} else {
			self->vanishing = first->next;
			pthread_mutex_unlock(&self->vanish_lock);
			remove_now(self, first->ifindex);
			free(first);
			pthread_mutex_lock(&self->vanish_lock);
		}
	}
	pthread_mutex_unlock(&self->vanish_lock);
	return NULL;
}

int vanish_open(struct bridge *self)
{
	pthread_condattr_t attributes;
	pthread_mutex_init(&self->vanish_lock, NULL);
	pthread_condattr_init(&attributes);
	int rc = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&self->vanish_wake, &attributes);
	pthread_condattr_destroy(&attributes);
	return rc ? -1 : 0;
}

void vanish_close(struct bridge *self)
{
	pthread_mutex_lock(&self->vanish_lock);
	self->vanish_stop = true;
	pthread_cond_signal(&self->vanish_wake);
	pthread_mutex_unlock(&self->vanish_lock);
	if (self->vanish_runs)
		pthread_join(self->vanish_thread, NULL);
	for (struct vanishing *next, *each = self->vanishing; each; each = next) {
		next = each->next;
		free(each);
	}
	pthread_cond_destroy(&self->vanish_wake);
	pthread_mutex_destroy(&self->vanish_lock);
}

/* With the lock held. */
static int start_thread(struct bridge *self)
{
	pthread_attr_t attributes;
	if (self->vanish_runs)
		return 0;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	int rc = pthread_create(&self->vanish_thread, &attributes, look_after, self);
	pthread_attr_destroy(&attributes);
	self->vanish_runs = rc == 0;
	return rc;
}

int vanish_expect(struct bridge *self, const char *host_end, struct gantry_error *err)
{
	int ifindex = (int)if_nametoindex(host_end);
	if (!ifindex)
		return 0;
	struct vanishing *entry = malloc(sizeof *entry);
	if (!entry)
		return link_leave(host_end, err);
	*entry = (struct vanishing){ .ifindex = ifindex, .due_ns = now_ns() + PATIENCE_NS };
	pthread_mutex_lock(&self->vanish_lock);
	int rc = start_thread(self);
	if (rc == 0) {
		struct vanishing **end = &self->vanishing;
		while (*end)
			end = &(*end)->next;
		*end = entry;
		pthread_cond_signal(&self->vanish_wake);
	}
	pthread_mutex_unlock(&self->vanish_lock);
	if (rc == 0)
		return 0;
	free(entry);
	return link_leave(host_end, err);
}
