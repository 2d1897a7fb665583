#include "base/journal.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/auto.h"

/* A value may hold anything where its length comes first. */
void gt_journal_field(struct gt_buf *entry, const char *name, const char *value, size_t len)
{
	uint64_t size = htole64(len);
	gt_buf_printf(entry, "%s\n", name);
	gt_buf_add(entry, &size, sizeof size);
	gt_buf_add(entry, value, len);
	gt_buf_char(entry, '\n');
}

/* data: NULL: an empty datagram. pass: -1: no descriptor goes with it. */
static int send_datagram(int fd, void *data, size_t len, int pass, int flags)
{
	static const struct sockaddr_un JOURNAL = { .sun_family = AF_UNIX, .sun_path = GT_JOURNAL_SOCKET };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec bytes = { .iov_base = data, .iov_len = len };
	struct msghdr message = { .msg_name = (void *)(uintptr_t)&JOURNAL, .msg_namelen = sizeof JOURNAL, .msg_iov = &bytes, .msg_iovlen = data ? 1 : 0 };
	if (pass >= 0) {
		control.head = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof pass) };
		memcpy(CMSG_DATA(&control.head), &pass, sizeof pass);
		message.msg_control = &control;
		message.msg_controllen = sizeof control.room;
	}
	ssize_t sent;
	do
		sent = sendmsg(fd, &message, MSG_NOSIGNAL | flags);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -1 : 0;
}

/* The journal maps the file, so nobody may change it any more: it takes it with all seals alone. */
static int send_file(int fd, const struct gt_buf *entry, int flags)
{
	AUTO_CLOSE int file = memfd_create("gantry-journal", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (file < 0)
		return -1;
	for (size_t done = 0; done < entry->len;) {
		ssize_t wrote = write(file, entry->data + done, entry->len - done);
		if (wrote < 0)
			return -1;
		done += (size_t)wrote;
	}
	if (fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		return -1;
	return send_datagram(fd, NULL, 0, file, flags);
}

int gt_journal_send(int fd, const struct gt_buf *entry, bool wait)
{
	int flags = wait ? 0 : MSG_DONTWAIT;
	int rc = send_datagram(fd, entry->data, entry->len, -1, flags);
	return rc < 0 && (errno == EMSGSIZE || errno == ENOBUFS) ? send_file(fd, entry, flags) : rc;
}
