/*
 * network.c - forwarding, nftables, and other people's firewalls: they are read, never touched; and what encrypted networks between hosts need.
 */
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <linux/genetlink.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/wireguard.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#define OURS "gantry"
#define SHOWN 8                 /* chains that drop, named in one sentence */

/* ---- nftables ---- */

struct chains {
	struct gt_buf dropping;
	size_t count;
};

static const char *family_name(uint32_t family)
{
	return family == NFPROTO_IPV4 ? "ip" : family == NFPROTO_IPV6 ? "ip6" : family == NFPROTO_INET ? "inet" : NULL;
}

/* A base chain of somebody else at the forward hook that drops what its rules do not take. */
static int on_chain(const struct nlmsghdr *message, void *arg)
{
	struct chains *chains = arg;
	struct nftnl_chain *chain = nftnl_chain_alloc();
	if (!chain)
		return MNL_CB_ERROR;
	if (nftnl_chain_nlmsg_parse(message, chain) == 0 && nftnl_chain_is_set(chain, NFTNL_CHAIN_HOOKNUM) && nftnl_chain_is_set(chain, NFTNL_CHAIN_POLICY)) {
		const char *family = family_name(nftnl_chain_get_u32(chain, NFTNL_CHAIN_FAMILY)), *table = nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE);
		bool drops = nftnl_chain_get_u32(chain, NFTNL_CHAIN_HOOKNUM) == NF_INET_FORWARD && nftnl_chain_get_u32(chain, NFTNL_CHAIN_POLICY) == NF_DROP;
		if (family && drops && strcmp(table, OURS) != 0 && chains->count++ < SHOWN) {
			AUTO_FREE char *name = gt_xasprintf("%s %s %s", family, table, nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME));
			add_word(&chains->dropping, name);
		}
	}
	nftnl_chain_free(chain);
	return MNL_CB_OK;
}

/* Asks for all chains. Returns 0, or -1 with errno. */
static int read_chains(struct chains *chains)
{
	char *room = gt_xmalloc((size_t)MNL_SOCKET_BUFFER_SIZE);
	struct mnl_socket *socket = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	struct timeval patience = { .tv_sec = 5 };
	uint32_t seq = (uint32_t)time(NULL);
	int rc = -1;
	if (socket && mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) == 0) {
		struct nlmsghdr *message = nftnl_nlmsg_build_hdr(room, NFT_MSG_GETCHAIN, NFPROTO_UNSPEC, NLM_F_DUMP, seq);
		setsockopt(mnl_socket_get_fd(socket), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
		ssize_t len = mnl_socket_sendto(socket, message, message->nlmsg_len);
		rc = len < 0 ? -1 : MNL_CB_OK;
		while (rc == MNL_CB_OK) {
			len = mnl_socket_recvfrom(socket, room, (size_t)MNL_SOCKET_BUFFER_SIZE);
			rc = len < 0 ? -1 : mnl_cb_run(room, (size_t)len, seq, mnl_socket_get_portid(socket), on_chain, chains);
		}
	}
	int why = errno;
	if (socket)
		mnl_socket_close(socket);
	free(room);
	errno = why;
	return rc < 0 ? -1 : 0;
}

static void check_nftables(struct report *report)
{
	struct chains chains = { 0 };
	if (!report->root)
		return;
	if (read_chains(&chains) < 0) {
		found(report, "network.nftables", FAILED, "load the module (modprobe nf_tables), or run a kernel with CONFIG_NF_TABLES",
		      "the kernel's packet filter cannot be read: %s", strerror(errno));
	} else {
		found(report, "network.nftables", FINE, "", "the kernel has nftables");
		if (chains.count)
			found(report, "network.firewall", WARNING,
			      "let it accept what comes from and goes to interfaces gtb*, e.g. nft insert rule CHAIN iifname \"gtb*\" accept, and the same with oifname",
			      "another firewall drops forwarded packets, so those of containers too where no rule of it takes them: chain %s", chains.dropping.data);
		else
			found(report, "network.firewall", FINE, "", "no other firewall drops forwarded packets");
	}
	gt_buf_free(&chains.dropping);
}

static void check_legacy(struct report *report)
{
	static const char *const FILES[] = { "/proc/self/net/ip_tables_names", "/proc/self/net/ip6_tables_names" };
	AUTO_BUF struct gt_buf tables = { 0 };
	for (size_t i = 0; i < GT_COUNT(FILES); i++) {
		AUTO_BUF struct gt_buf text = { 0 };
		if (gt_read_file(AT_FDCWD, FILES[i], 4096, &text, NULL) < 0 || !text.len)
			continue;
		char *rest = text.data;
		for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
			AUTO_FREE char *name = gt_xasprintf("%s %s", i ? "ip6" : "ip", line);
			if (*line)
				add_word(&tables, name);
		}
	}
	if (tables.len)
		found(report, "network.legacy", WARNING, "move its rules to nftables (iptables-legacy-save | iptables-nft-restore), so that one tool shows all",
		      "iptables-legacy is in use beside nftables, whose tools do not show its rules: tables %s", tables.data);
	else
		found(report, "network.legacy", FINE, "", "iptables-legacy is not in use");
}

/* ---- forwarding ---- */

static void check_forwarding(struct report *report)
{
	const char *keep = plugin_setting(report, "net-bridge", "ip_forward");
	bool left_alone = keep && (strcmp(keep, "no") == 0 || strcmp(keep, "false") == 0 || strcmp(keep, "off") == 0 || strcmp(keep, "0") == 0);
	if (number_in("/proc/sys/net/ipv4/ip_forward", 0) > 0)
		found(report, "network.forwarding", FINE, "", "IPv4 packets are forwarded");
	else if (report->drivers || left_alone)
		found(report, "network.forwarding", FAILED, "sysctl -w net.ipv4.ip_forward=1, and see who turns it off in /etc/sysctl.d",
		      "IPv4 packets are not forwarded: containers reach nothing outside their network, and published ports lead nowhere");
	else
		found(report, "network.forwarding", FINE, "", "IPv4 packets are not forwarded yet: the driver of bridges turns that on");
}

static void check_bridge_filter(struct report *report)
{
	bool on = number_in("/proc/sys/net/bridge/bridge-nf-call-iptables", 0) > 0;
	found(report, "network.br_netfilter", on ? WARNING : FINE, "sysctl -w net.bridge.bridge-nf-call-iptables=0, unless another program (Kubernetes) needs it",
	      on ? "br_netfilter sends packets between containers of one network through the host's firewall"
		 : "packets between containers of one network do not pass the host's firewall");
}

/* ---- networks between hosts ---- */

/* Asks for the number of its messages, at which the kernel loads the module. Returns 0, or -1 with errno. */
static int find_wireguard(void)
{
	char room[1024];
	struct mnl_socket *socket = mnl_socket_open2(NETLINK_GENERIC, SOCK_CLOEXEC);
	struct timeval patience = { .tv_sec = 5 };
	uint32_t seq = (uint32_t)time(NULL);
	int rc = -1;
	if (socket && mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) == 0) {
		struct nlmsghdr *message = mnl_nlmsg_put_header(room);
		message->nlmsg_type = GENL_ID_CTRL;
		message->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
		message->nlmsg_seq = seq;
		struct genlmsghdr *header = mnl_nlmsg_put_extra_header(message, sizeof *header);
		header->cmd = CTRL_CMD_GETFAMILY;
		header->version = 1;
		mnl_attr_put_strz(message, CTRL_ATTR_FAMILY_NAME, WG_GENL_NAME);
		setsockopt(mnl_socket_get_fd(socket), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
		ssize_t len = mnl_socket_sendto(socket, message, message->nlmsg_len);
		rc = len < 0 ? -1 : MNL_CB_OK;
		while (rc == MNL_CB_OK) {
			len = mnl_socket_recvfrom(socket, room, sizeof room);
			rc = len < 0 ? -1 : mnl_cb_run(room, (size_t)len, seq, mnl_socket_get_portid(socket), NULL, NULL);
		}
	}
	int why = errno;
	if (socket)
		mnl_socket_close(socket);
	errno = why;
	return rc < 0 ? -1 : 0;
}

/* Told where there are such networks. */
static void check_encryption(struct report *report)
{
	const char *etcd = plugin_setting(report, "net-overlay", "etcd");
	if (!report->root || !etcd || !etcd[0])
		return;
	if (find_wireguard() == 0)
		found(report, "network.wireguard", FINE, "", "the kernel has WireGuard: networks between hosts can be encrypted");
	else
		found(report, "network.wireguard", WARNING, "load the module (modprobe wireguard), or run a kernel with CONFIG_WIREGUARD",
		      "this host cannot join encrypted networks (overlay's option `encrypted`), which need WireGuard: %s",
		      errno == ENOENT ? "this kernel does not have it" : strerror(errno));
}

/* ---- Docker ---- */

static void check_docker(struct report *report)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "/run/docker.sock" };
	struct ucred peer = { 0 };
	socklen_t len = sizeof peer;
	AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool there = fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 &&
		     getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.pid != getpid();
	AUTO_BUF struct gt_buf comm = { 0 };
	AUTO_FREE char *path = gt_xasprintf("/proc/%d/comm", peer.pid);
	if (there)
		gt_read_file(AT_FDCWD, path, 64, &comm, NULL);
	if (comm.len)
		comm.data[strcspn(comm.data, "\n")] = '\0';
	if (!there || (comm.len && strcmp(comm.data, "gantryd") == 0))
		found(report, "docker", FINE, "", "no other engine serves /run/docker.sock");
	else
		found(report, "docker", WARNING, "give one of both other subnets ([network] address_pools), and see network.firewall: Docker's firewall drops forwarded packets",
		      "another engine serves /run/docker.sock: %s, pid %d; both take subnets of 172.16.0.0/12 by default", comm.len ? comm.data : "its name is unknown", peer.pid);
}

void check_network(struct report *report)
{
	check_forwarding(report);
	check_nftables(report);
	check_legacy(report);
	check_bridge_filter(report);
	check_encryption(report);
	check_docker(report);
}
