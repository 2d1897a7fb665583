/*
 * routes.c - the default route of a container in several networks. Plugins know nothing of the others: each sets the default route that its configuration has,
 * unless there is one already. Here it goes to the endpoint that the engine chose, and away from the others.
 */
#include "cni.h"

#include <string.h>

#include "common/interface.h"

struct wish {
	const char *ifname;
	struct address gateways[2];     /* family 0: none */
	bool wanted;
	struct gantry_error *err;
};

static bool has_default(const json_t *result, const char *dst)
{
	size_t i;
	json_t *route;
	json_array_foreach(json_object_get(result, "routes"), i, route) {
		const char *to = json_string_value(json_object_get(route, "dst"));
		if (to && strcmp(to, dst) == 0)
			return true;
	}
	return false;
}

static int set_routes(void *arg)
{
	const struct wish *wish = arg;
	struct batch batch;
	int ifindex = (int)if_nametoindex(wish->ifname);
	struct nl_sock *sock = ifindex ? netlink_open(NETLINK_ROUTE, wish->err) : NULL;
	if (!sock)
		return ifindex ? -1 : gantry_fail(wish->err, GANTRY_E_INTERNAL, "the container has no interface %.16s, though CNI plugins say they made it", wish->ifname);
	batch_begin(&batch, sock);
	for (int i = 0; i < 2; i++) {
		if (wish->gateways[i].family)
			put_default_route(&batch, "set the container's default route", &wish->gateways[i], ifindex, wish->wanted);
	}
	/* Of one that is to go, nothing may be there. */
	int rc = batch_run(&batch, wish->wanted ? wish->err : NULL);
	nl_socket_free(sock);
	return wish->wanted ? rc : 0;
}

int routes_settle(const struct cni *self, const struct gantry_endpoint *endpoint, const json_t *result, int netns_fd, struct gantry_error *err)
{
	struct wish wish = { .ifname = endpoint->ifname, .wanted = endpoint->default_route, .err = err };
	if (has_default(result, "0.0.0.0/0") && endpoint->gateway4[0] && address_parse(endpoint->gateway4, AF_INET, false, &wish.gateways[0]) < 0)
		wish.gateways[0].family = 0;
	if (has_default(result, "::/0") && endpoint->gateway6[0] && address_parse(endpoint->gateway6, AF_INET6, false, &wish.gateways[1]) < 0)
		wish.gateways[1].family = 0;
	if (!wish.gateways[0].family && !wish.gateways[1].family)
		return 0;
	return self->host->in_netns(self->host, netns_fd, set_routes, &wish, err);
}
