/*
 * namespace.c - other network namespaces by the numbers that the kernel has for them in this one (rtnetlink's nsid). A number is given once, stays while both
 * namespaces live, and is free for another one then; so what is found by it has to say whose it is.
 */
#include "macvlan.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <string.h>

static int number_of(const struct nlmsghdr *answer)
{
	struct nlattr *attributes[NETNSA_MAX + 1];
	if (answer->nlmsg_type != RTM_NEWNSID ||
	    nlmsg_parse((struct nlmsghdr *)(uintptr_t)answer, sizeof(struct rtgenmsg), attributes, NETNSA_MAX, NULL) < 0 || !attributes[NETNSA_NSID])
		return -1;
	return (int)nla_get_u32(attributes[NETNSA_NSID]);
}

static void take_number(void *arg, unsigned index, struct nlmsghdr *answer)
{
	int number = number_of(answer);
	(void)index;
	if (number >= 0)
		*(int *)arg = number;
}

int namespace_number(struct nl_sock *sock, int netns_fd, int *nsid, struct gantry_error *err)
{
	struct batch batch;
	struct rtgenmsg header = { .rtgen_family = AF_UNSPEC };
	*nsid = -1;
	batch_begin(&batch, sock);
	batch.answer = take_number;
	batch.arg = nsid;
	message(&batch, "number a network namespace", RTM_NEWNSID, 0, &header, sizeof header);
	put_u32(&batch, NETNSA_NSID, UINT32_MAX);
	put_u32(&batch, NETNSA_FD, (uint32_t)netns_fd);
	message(&batch, "ask for a network namespace's number", RTM_GETNSID, 0, &header, sizeof header);
	put_u32(&batch, NETNSA_FD, (uint32_t)netns_fd);
	/* The first fails where it has one. */
	int rc = batch_run(&batch, err);
	if (*nsid >= 0)
		return 0;
	return rc < 0 ? -1 : gantry_fail(err, GANTRY_E_INTERNAL, "the kernel gives a network namespace no number");
}

struct each {
	void (*fn)(void *arg, int nsid);
	void *arg;
};

static int visit_number(void *arg, struct nlmsghdr *answer)
{
	const struct each *each = arg;
	int number = number_of(answer);
	if (number >= 0)
		each->fn(each->arg, number);
	return 0;
}

int namespace_each(struct nl_sock *sock, void (*fn)(void *arg, int nsid), void *arg, struct gantry_error *err)
{
	struct each each = { fn, arg };
	struct rtgenmsg header = { .rtgen_family = AF_UNSPEC };
	struct nl_msg *request = nlmsg_alloc_simple(RTM_GETNSID, NLM_F_REQUEST | NLM_F_DUMP);
	if (request && nlmsg_append(request, &header, sizeof header, NLMSG_ALIGNTO) < 0) {
		nlmsg_free(request);
		request = NULL;
	}
	if (netlink_ask(sock, request, visit_number, &each) < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "list the numbers of network namespaces");
	return 0;
}

int namespace_delete_link(struct nl_sock *sock, int nsid, int ifindex, struct gantry_error *err)
{
	struct batch batch;
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC, .ifi_index = ifindex };
	batch_begin(&batch, sock);
	message(&batch, "remove a container's link", RTM_DELLINK, 0, &header, sizeof header);
	put_u32(&batch, IFLA_TARGET_NETNSID, (uint32_t)nsid);
	if (batch_run(&batch, err) == 0 || (batch.count && (batch.errnums[0] == ENODEV || batch.errnums[0] == EINVAL)))
		return 0;
	return -1;
}

bool link_is_of_endpoint(const struct link *link)
{
	return strcmp(link->kind, "macvlan") == 0 && (strncmp(link->alias, ENDPOINT_ALIAS, strlen(ENDPOINT_ALIAS)) == 0 || link->group == MARK);
}
