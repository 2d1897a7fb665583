/*
 * console.c - a process's terminal: a pty of the container's own devpts.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "runtime/internal.h"

static void set_size(int master, const json_t *process)
{
	const json_t *size = gt_json_get(process, "consoleSize");
	int64_t rows = 0, cols = 0;
	gt_json_int(size, "height", &rows, NULL);
	gt_json_int(size, "width", &cols, NULL);
	if (rows > 0 && cols > 0 && rows < 65536 && cols < 65536) {
		struct winsize window = { .ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols };
		ioctl(master, TIOCSWINSZ, &window);
	}
}

static int bind_on_console(int slave, struct gt_error *err)
{
	AUTO_CLOSE int place = mount_place("/dev/console", false, err);
	if (place < 0)
		return -1;
	AUTO_CLOSE int tree = sys_open_tree(slave, "", 1 /* OPEN_TREE_CLONE */ | AT_EMPTY_PATH);
	if (tree < 0)
		return gt_fail_errno(err, errno, "bind the terminal on /dev/console");
	return mount_attach(tree, place, "/dev/console", err);
}

int console_open(const json_t *process, bool bind_console, struct gt_error *err)
{
	AUTO_CLOSE int master = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	int unlocked = 0, number;
	char path[32];
	if (master < 0 || ioctl(master, TIOCSPTLCK, &unlocked) < 0 || ioctl(master, TIOCGPTN, &number) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "open a terminal below /dev/pts");
	snprintf(path, sizeof path, "/dev/pts/%d", number);
	set_size(master, process);
	AUTO_CLOSE int slave = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "open the terminal %s", path);
	if (bind_console && bind_on_console(slave, err) < 0)
		return -1;
	for (int fd = 0; fd < 3; fd++) {
		if (dup2(slave, fd) < 0)
			return gt_fail_sys(err, GT_INTERNAL, errno, "use the terminal %s", path);
	}
	if (ioctl(0, TIOCSCTTY, 0) < 0)
		return gt_fail_sys(err, GT_INTERNAL, errno, "make %s the controlling terminal", path);
	return take_fd(master);
}
