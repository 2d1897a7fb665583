/*
 * ports.c - ops of published ports. A port is published on the host that its container runs on: by the kernel's NAT, as in the bridge driver.
 */
#include "overlay.h"

#include <stdlib.h>

static int ensure_tables(void *driver, struct gantry_error *err)
{
	return nat_ensure(driver, err);
}

static int add_ports(void *driver, const struct published *published, struct gantry_error *err)
{
	return nat_publish(driver, published, err);
}

static int remove_ports(void *driver, const struct published *published, struct gantry_error *err)
{
	return nat_unpublish(driver, published, err);
}

int ports_open(struct overlay *self, struct gantry_error *err)
{
	if (publishing_open(&self->publishing, self->host, err) < 0)
		return -1;
	self->publishing.driver = self;
	self->publishing.host_end_prefix = HOST_END_PREFIX;
	self->publishing.ensure = ensure_tables;
	self->publishing.add = add_ports;
	self->publishing.remove = remove_ports;
	return 0;
}

static struct publish_place place_of(const struct network *network)
{
	return (struct publish_place){ .network_id = network->id, .network = network->name, .internal = network->internal };
}

int overlay_publish(void *driver, const struct gantry_call *call, const struct gantry_endpoint *endpoint, const struct gantry_port *ports, size_t port_count,
		    size_t port_size, struct gantry_error *err)
{
	struct overlay *self = driver;
	const struct published *forget = NULL;
	int rc;
	(void)call;
	if (refuse_unconfigured(self, "published ports", err) < 0)
		return -1;
	if (!id_valid(endpoint->id))
		return gantry_fail(err, GANTRY_E_INVALID, "an endpoint's id must be 64 hexadecimal digits");
	pthread_mutex_lock(&self->lock);
	const struct network *network = network_find(self, endpoint->network_id);
	if (network) {
		struct publish_place place = place_of(network);
		rc = publish_ports(&self->publishing, &place, endpoint, ports, port_count, port_size, &forget, err);
	} else {
		rc = gantry_fail(err, GANTRY_E_NOT_FOUND, "network %.12s is not there any more: another host removed it", endpoint->network_id);
	}
	pthread_mutex_unlock(&self->lock);
	conntrack_forget(forget);
	return rc;
}

int overlay_unpublish(void *driver, const struct gantry_call *call, const char *network_id, const char *endpoint_id, struct gantry_error *err)
{
	struct overlay *self = driver;
	struct published *gone;
	(void)call;
	(void)network_id;
	if (!self->etcd)
		return 0;
	pthread_mutex_lock(&self->lock);
	int rc = unpublish_ports(&self->publishing, endpoint_id, &gone, err);
	pthread_mutex_unlock(&self->lock);
	conntrack_forget(gone);
	published_free(gone);
	return rc;
}

/* etcd may not have told yet what networks there are: the ports are as they were all the same. */
static bool find_place(void *driver, const struct gantry_endpoint *endpoint, struct publish_place *place)
{
	const struct network *network = network_find(driver, endpoint->network_id);
	*place = network ? place_of(network) : (struct publish_place){ .network_id = endpoint->network_id, .network = endpoint->network_id };
	return true;
}

int ports_restore(struct overlay *self, const struct gantry_endpoint *endpoints, size_t endpoint_count, size_t endpoint_size, const struct gantry_port *ports,
		  const uint32_t *port_owner, size_t port_count, size_t port_size, struct gantry_error *err)
{
	if (published_restore(&self->publishing, endpoints, endpoint_count, endpoint_size, ports, port_owner, port_count, port_size, find_place, err) < 0)
		return -1;
	/* What is not known yet has no links in the table: they and their rules, which the last life left, stay as they are until it is. */
	return self->known ? nat_rebuild(self, err) : 0;
}
