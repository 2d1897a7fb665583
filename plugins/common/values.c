/*
 * common/values.c - see values.h.
 */
#include "common/values.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <unistd.h>

static int parse_prefix(const char *text, unsigned max, unsigned *prefix)
{
	size_t len = strspn(text, "0123456789");
	if (len == 0 || len > 3 || text[len])
		return -1;
	*prefix = (unsigned)strtoul(text, NULL, 10);
	return *prefix <= max ? 0 : -1;
}

int address_parse(const char *text, int family, bool with_prefix, struct address *address)
{
	char host[GANTRY_ADDR_MAX];
	size_t len = strcspn(text, "/");
	*address = (struct address){ .family = strchr(text, ':') ? AF_INET6 : AF_INET };
	if (len >= sizeof host || (family && address->family != family) || with_prefix != (text[len] == '/'))
		return -1;
	memcpy(host, text, len);
	host[len] = '\0';
	unsigned bits = address->family == AF_INET ? 32 : 128;
	address->prefix = bits;
	if (inet_pton(address->family, host, address->bytes) != 1 || (with_prefix && parse_prefix(text + len + 1, bits, &address->prefix) < 0))
		return -1;
	inet_ntop(address->family, address->bytes, address->text, sizeof address->text);
	return 0;
}

unsigned address_len(const struct address *address)
{
	return address->family == AF_INET ? 4 : 16;
}

bool address_any(const struct address *address)
{
	static const unsigned char zero[16];
	return memcmp(address->bytes, zero, address_len(address)) == 0;
}

bool address_equal(const struct address *a, const struct address *b)
{
	return a->family == b->family && memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

int mac_parse(const char *text, unsigned char mac[6])
{
	if (strlen(text) != 17 || strspn(text, "0123456789abcdefABCDEF:") != 17)
		return -1;
	for (size_t i = 0; i < 6; i++) {
		const char *pair = text + i * 3;
		if (pair[0] == ':' || pair[1] == ':' || (i < 5 && pair[2] != ':'))
			return -1;
		mac[i] = (unsigned char)strtoul(pair, NULL, 16);
	}
	/* The kernel takes no multicast and no zero address. */
	static const unsigned char zero[6];
	return (mac[0] & 1) || memcmp(mac, zero, 6) == 0 ? -1 : 0;
}

void mac_format(const unsigned char mac[6], char text[18])
{
	snprintf(text, 18, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

int mac_derive(const struct address *ipv4, unsigned char mac[6])
{
	mac[0] = 0x02;
	mac[1] = 0x42;
	if (ipv4->family == AF_INET)
		memcpy(mac + 2, ipv4->bytes, 4);
	else if (getrandom(mac + 2, 4, 0) != 4)
		return -1;
	return 0;
}

bool ifname_valid(const char *name)
{
	static const char *const TAKEN[] = { ".", "..", "lo", "all", "default" };
	size_t len = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-");
	if (len == 0 || len >= IFNAMSIZ || name[len] || name[0] == '-')
		return false;
	for (size_t i = 0; i < sizeof TAKEN / sizeof TAKEN[0]; i++) {
		if (strcmp(name, TAKEN[i]) == 0)
			return false;
	}
	return true;
}

bool id_valid(const char *id)
{
	return id && strlen(id) == ID_LEN && strspn(id, "0123456789abcdef") == ID_LEN;
}

int option_number(const char *network, const char *key, const char *value, uint32_t min, uint32_t max, uint32_t *to, struct gantry_error *err)
{
	size_t len = strspn(value, "0123456789");
	unsigned long number = len && len <= 9 && !value[len] ? strtoul(value, NULL, 10) : UINT32_MAX;
	if (number < min || number > max)
		return gantry_fail(err, GANTRY_E_INVALID, "network %s: option %s is \"%.32s\"; allowed is %u to %u", network, key, value, min, max);
	*to = (uint32_t)number;
	return 0;
}

int proc_of_its_own(void)
{
	int context = fsopen("proc", FSOPEN_CLOEXEC);
	int proc = context >= 0 && fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0 ? fsmount(context, FSMOUNT_CLOEXEC, 0) : -1;
	if (context >= 0)
		close(context);
	return proc >= 0 ? proc : open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

int sysctl_set(const char *value, const char *family, const char *ifname, const char *key)
{
	int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int rc = proc < 0 ? -1 : sysctl_set_at(proc, value, family, ifname, key);
	int saved = errno;
	if (proc >= 0)
		close(proc);
	errno = saved;
	return rc;
}

int sysctl_set_at(int proc, const char *value, const char *family, const char *ifname, const char *key)
{
	char path[128], old[16];
	snprintf(path, sizeof path, "sys/net/%s/%s%s%s%s", family, ifname ? "conf/" : "", ifname ? ifname : "", ifname ? "/" : "", key);
	int fd = openat(proc, path, O_WRONLY | O_CLOEXEC);
	size_t len = strlen(value);
	ssize_t done = fd < 0 ? -1 : write(fd, value, len);
	int saved = errno;
	if (fd >= 0)
		close(fd);
	if (done == (ssize_t)len)
		return 0;
	/* Where /proc/sys is read-only, it may be as it should be. */
	fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	done = fd < 0 ? -1 : read(fd, old, sizeof old);
	if (fd >= 0)
		close(fd);
	errno = saved;
	return done == (ssize_t)len + 1 && strncmp(old, value, len) == 0 ? 0 : -1;
}

void log_line(const struct gantry_host *host, int level, const char *fmt, ...)
{
	char line[700];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	host->log(host, level, line);
}
