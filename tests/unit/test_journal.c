/*
 * The log as entries of systemd's journal. The journal is a socket of ours at its place, in a mount namespace of this program's own.
 */
#include "testing.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/journal.h"
#include "base/log.h"

#define LARGE (1u << 20)

static int journal = -1;
static int shown[2];            /* what the log's fd is, and where its lines can be read */

static int listen_as_journal(void)
{
	static const struct sockaddr_un ADDRESS = { .sun_family = AF_UNIX, .sun_path = GT_JOURNAL_SOCKET };
	journal = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	unlink(GT_JOURNAL_SOCKET);
	return journal < 0 ? -1 : bind(journal, (const struct sockaddr *)&ADDRESS, sizeof ADDRESS);
}

static int prepare(void **state)
{
	char stream[64];
	struct stat st;
	(void)state;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || (mkdir("/run/systemd", 0755) < 0 && errno != EEXIST) ||
	    mount("tmpfs", "/run/systemd", "tmpfs", 0, NULL) < 0 || mkdir("/run/systemd/journal", 0755) < 0 || listen_as_journal() < 0)
		return -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, shown) < 0 || fstat(shown[0], &st) < 0)
		return -1;
	snprintf(stream, sizeof stream, "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	return setenv("JOURNAL_STREAM", stream, 1);
}

/* What has come on a socket; "" for nothing. The caller's. */
static char *take_text(int fd, size_t *len)
{
	char *text = gt_xcalloc(1, 65536);
	ssize_t got = recv(fd, text, 65535, 0);
	*len = got < 0 ? 0 : (size_t)got;
	return text;
}

static void add_field(struct gt_buf *out, const char *name, const char *value)
{
	uint64_t len = htole64(strlen(value));
	gt_buf_printf(out, "%s\n", name);
	gt_buf_add(out, &len, sizeof len);
	gt_buf_printf(out, "%s\n", value);
}

static void another_fd_gets_lines(void **state)
{
	(void)state;
	int ends[2], status;
	char line[256];
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) { /* as a process decides once, at its first line */
		gt_log_set_fd(ends[1]);
		gt_info("a line", "id", "4f1c");
		_exit(0);
	}
	close(ends[1]);
	ssize_t got = read(ends[0], line, sizeof line - 1);
	close(ends[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(got > 0);
	line[got] = '\0';
	assert_non_null(strstr(line, "Z info  a line id=4f1c\n"));
	gt_log_set_fd(shown[0]);
}

static void a_line_is_an_entry_and_each_pair_a_field(void **state)
{
	(void)state;
	AUTO_BUF struct gt_buf wanted = { 0 };
	size_t len;
	gt_warn("it is so", "id", "4f1c", "odd-key", "two\nlines=\"x\"", "nothing", NULL, "driver", "");
	AUTO_FREE char *entry = take_text(journal, &len);
	gt_buf_printf(&wanted, "PRIORITY=4\nSYSLOG_IDENTIFIER=%s\n", program_invocation_short_name);
	add_field(&wanted, "GANTRY_ID", "4f1c");
	add_field(&wanted, "GANTRY_ODD_KEY", "two\nlines=\"x\"");
	add_field(&wanted, "GANTRY_DRIVER", "");
	add_field(&wanted, "MESSAGE", "it is so id=4f1c odd-key=\"two\\nlines=\\\"x\\\"\" driver=\"\"");
	assert_int_equal(len, wanted.len);
	assert_memory_equal(entry, wanted.data, len);
	AUTO_FREE char *line = take_text(shown[1], &len);
	assert_int_equal(len, 0);
}

static void levels_are_priorities(void **state)
{
	(void)state;
	static const char *const PRIORITIES[] = { "PRIORITY=7\n", "PRIORITY=6\n", "PRIORITY=4\n", "PRIORITY=3\n" };
	size_t len;
	gt_debug("not shown");
	AUTO_FREE char *none = take_text(journal, &len);
	assert_int_equal(len, 0);
	gt_log_set_level(GT_DEBUG);
	for (int level = GT_DEBUG; level <= GT_ERROR; level++) {
		gt_log_kv((enum gt_level)level, "shown", NULL);
		AUTO_FREE char *entry = take_text(journal, &len);
		assert_memory_equal(entry, PRIORITIES[level], strlen(PRIORITIES[level]));
	}
	gt_log_set_level(GT_INFO);
}

static void json_stays_json(void **state)
{
	(void)state;
	size_t len;
	gt_log_set_json(true);
	gt_info("a line", "id", "4f1c");
	gt_log_set_json(false);
	AUTO_FREE char *entry = take_text(journal, &len);
	assert_int_equal(len, 0);
	AUTO_FREE char *line = take_text(shown[1], &len);
	assert_non_null(strstr(line, "\"msg\":\"a line\",\"id\":\"4f1c\"}\n"));
}

static void a_long_name_is_cut(void **state)
{
	(void)state;
	char key[101], field[80];
	size_t len;
	memset(key, 'k', sizeof key - 1);
	key[100] = '\0';
	memset(field, 'K', sizeof field);
	memcpy(field, "\nGANTRY_", 8);
	memcpy(field + 65, "\n", 2);
	gt_info("a line", key, "x");
	AUTO_FREE char *entry = take_text(journal, &len);
	assert_non_null(memmem(entry, len, field, strlen(field)));
}

static void what_is_too_large_for_a_datagram_goes_as_a_sealed_file(void **state)
{
	(void)state;
	AUTO_FREE char *value = gt_xcalloc(1, LARGE + 1);
	AUTO_FREE char *data = gt_xcalloc(1, 3 * LARGE);
	char byte, control[256];
	struct iovec room = { &byte, 1 };
	struct msghdr message = { .msg_iov = &room, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	int file, before = open_fds();
	memset(value, 'v', LARGE);
	gt_info("much", "value", value);
	assert_int_equal(open_fds(), before);
	assert_int_equal(recvmsg(journal, &message, MSG_CMSG_CLOEXEC), 0);
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	assert_true(head && head->cmsg_type == SCM_RIGHTS && head->cmsg_len == CMSG_LEN(sizeof file));
	memcpy(&file, CMSG_DATA(head), sizeof file);
	assert_int_equal(fcntl(file, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
	ssize_t len = pread(file, data, 3 * LARGE, 0);
	close(file);
	assert_true(len > 2 * (ssize_t)LARGE && memcmp(data, "PRIORITY=6\n", 11) == 0 && data[len - 1] == '\n');
	char *field = memmem(data, (size_t)len, "GANTRY_VALUE\n", 13);
	assert_non_null(field);
	assert_memory_equal(field + 13 + 8, value, LARGE);
}

static void a_journal_that_is_away_is_done_without_and_found_again(void **state)
{
	(void)state;
	size_t len;
	close(journal);
	gt_info("nobody is there");
	AUTO_FREE char *line = take_text(shown[1], &len);
	assert_non_null(strstr(line, "Z info  nobody is there\n"));
	assert_int_equal(listen_as_journal(), 0);
	gt_info("it is back");
	AUTO_FREE char *entry = take_text(journal, &len);
	assert_non_null(memmem(entry, len, "it is back", 10));
}

static void a_journal_that_is_behind_loses_no_line(void **state)
{
	(void)state;
	size_t len, entries = 0, lines = 0;
	char text[32];
	for (int i = 0; lines < 3; i++) {
		snprintf(text, sizeof text, "line %d.", i);
		gt_info(text);
		AUTO_FREE char *line = take_text(shown[1], &len);
		if (len) {
			assert_non_null(strstr(line, text));
			lines++;
		} else {
			entries++;
		}
		assert_true(i < 100000);
	}
	for (size_t i = 0; i < entries; i++) {
		snprintf(text, sizeof text, "line %zu.", i);
		AUTO_FREE char *entry = take_text(journal, &len);
		assert_non_null(memmem(entry, len, text, strlen(text)));
	}
	gt_info("goes on");
	AUTO_FREE char *entry = take_text(journal, &len);
	assert_non_null(memmem(entry, len, "goes on", 7));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(another_fd_gets_lines), /* first: see there */
		cmocka_unit_test(a_line_is_an_entry_and_each_pair_a_field),
		cmocka_unit_test(levels_are_priorities),
		cmocka_unit_test(json_stays_json),
		cmocka_unit_test(a_long_name_is_cut),
		cmocka_unit_test(what_is_too_large_for_a_datagram_goes_as_a_sealed_file),
		cmocka_unit_test(a_journal_that_is_away_is_done_without_and_found_again),
		cmocka_unit_test(a_journal_that_is_behind_loses_no_line),
	};
	return cmocka_run_group_tests_name("journal", tests, prepare, NULL);
}
