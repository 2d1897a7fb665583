/*
 * dns.c - the face of the module: opened and closed, tables and clients changed.
 */
#include "dns/dns.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "dns/server.h"

#define STACK (128 * 1024)

/* ---- open and close ---- */

static int start_thread(struct gt_dns *dns)
{
	pthread_attr_t attr;
	pthread_attr_init(&attr);
#ifndef GT_SANITIZED
	pthread_attr_setstacksize(&attr, STACK);
#endif
	int rc = pthread_create(&dns->thread, &attr, dns_server_run, dns);
	pthread_attr_destroy(&attr);
	return rc;
}

int gt_dns_open(struct gt_dns **out, struct gt_error *err)
{
	struct gt_dns *dns = gt_xcalloc(1, sizeof *dns);
	pthread_mutex_init(&dns->lock, NULL);
	TAILQ_INIT(&dns->errands);
	TAILQ_INIT(&dns->streams);
	dns->epoll = epoll_create1(EPOLL_CLOEXEC);
	dns->wake = (struct dns_watch){ .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	if (dns->epoll < 0 || dns->wake.fd < 0 || dns_watch_add(dns, &dns->wake, EPOLLIN) < 0 || (errno = start_thread(dns)) != 0) {
		int errnum = errno;
		close(dns->epoll);
		close(dns->wake.fd);
		pthread_mutex_destroy(&dns->lock);
		free(dns);
		return gt_fail_sys(err, GT_INTERNAL, errnum, "start the name server of containers");
	}
	*out = dns;
	return 0;
}

void gt_dns_close(struct gt_dns *dns)
{
	struct gt_map_slot *slot;
	if (!dns)
		return;
	atomic_store(&dns->closing, true);
	dns_server_wake(dns);
	pthread_join(dns->thread, NULL);
	for (size_t i = 0; (slot = gt_map_next(&dns->clients, &i)) != NULL;)
		dns_client_free(dns, slot->value);
	for (struct dns_client *client = dns->departed, *next; client; client = next) {
		next = client->next_departed;
		dns_client_free(dns, client);
	}
	dns_streams_sweep(dns);
	dns_errands_sweep(dns);
	gt_map_free(&dns->clients);
	table_free(&dns->table);
	close(dns->epoll);
	close(dns->wake.fd);
	pthread_mutex_destroy(&dns->lock);
	free(dns);
}

/* ---- who is in a network ---- */

void gt_dns_enter(struct gt_dns *dns, const struct gt_dns_member *member)
{
	LOCKED(&dns->lock);
	table_enter(&dns->table, member);
}

void gt_dns_leave(struct gt_dns *dns, const char *network_id, const char *container_id)
{
	LOCKED(&dns->lock);
	table_leave(&dns->table, network_id, container_id);
}

/* ---- who asks ---- */

void dns_view_release(struct dns_view *view)
{
	for (size_t i = 0; i < view->network_count; i++)
		free(view->network_ids[i]);
	for (size_t i = 0; i < view->link_count; i++) {
		free(view->links[i].network_id);
		free(view->links[i].alias);
		free(view->links[i].target);
	}
	free(view->network_ids);
	free(view->links);
	*view = (struct dns_view){ 0 };
}

static void copy_link(struct dns_view *view, const struct gt_dns_link *link)
{
	char alias[NS_MAXDNAME], target[NS_MAXDNAME];
	if (!dns_name_normal(link->alias, alias))
		return;
	/* an id is in normal form as it is, and longer than a label may be */
	const char *name = dns_name_normal(link->target, target) ? target : link->target;
	view->links[view->link_count++] = (struct dns_view_link){ gt_xstrdup(link->network_id), gt_xstrdup(alias), gt_xstrdup(name) };
}

static struct dns_view copy_view(const struct gt_dns_view *from)
{
	struct dns_view view = { .own_upstreams = from->upstream_count > 0, .forward = from->forward, .dotted_only = from->dotted_only };
	view.network_ids = gt_xcalloc(from->network_count + 1, sizeof(char *));
	view.links = gt_xcalloc(from->link_count + 1, sizeof *view.links);
	for (size_t i = 0; i < from->network_count; i++)
		view.network_ids[view.network_count++] = gt_xstrdup(from->network_ids[i]);
	for (size_t i = 0; i < from->link_count; i++)
		copy_link(&view, &from->links[i]);
	for (size_t i = 0; i < from->upstream_count; i++)
		dns_upstream_add(&view.upstreams, from->upstreams[i]);
	return view;
}

/* With the lock held. */
static void depart(struct gt_dns *dns, struct dns_client *client)
{
	gt_map_remove(&dns->clients, client->id);
	client->next_departed = dns->departed;
	dns->departed = client;
	dns_server_wake(dns);
}

int gt_dns_serve(struct gt_dns *dns, const struct gt_dns_view *view, int netns_fd, struct gt_error *err)
{
	struct dns_client *client = gt_xcalloc(1, sizeof *client);
	*client = (struct dns_client){ .id = gt_xstrdup(view->container_id),
				       .udp = { .ready = dns_udp_ready, .fd = -1 },
				       .tcp = { .ready = dns_tcp_ready, .fd = -1 },
				       .view = copy_view(view) };
	gt_dns_stop(dns, view->container_id);
	if (dns_sockets_open(client, netns_fd, err) < 0) {
		dns_client_free(dns, client);
		return gt_context(err, "open the resolver of container %s", view->container_id);
	}
	LOCKED(&dns->lock);
	gt_map_set(&dns->clients, client->id, client);
	if (dns_watch_add(dns, &client->udp, EPOLLIN) == 0 && dns_watch_add(dns, &client->tcp, EPOLLIN) == 0)
		return 0;
	int errnum = errno;
	depart(dns, client);
	return gt_fail_sys(err, GT_INTERNAL, errnum, "watch the resolver of container %s", view->container_id);
}

bool gt_dns_change(struct gt_dns *dns, const struct gt_dns_view *view)
{
	LOCKED(&dns->lock);
	struct dns_client *client = gt_map_get(&dns->clients, view->container_id);
	if (!client)
		return false;
	dns_view_release(&client->view);
	client->view = copy_view(view);
	return true;
}

void gt_dns_stop(struct gt_dns *dns, const char *container_id)
{
	LOCKED(&dns->lock);
	struct dns_client *client = gt_map_get(&dns->clients, container_id);
	if (client)
		depart(dns, client);
}
