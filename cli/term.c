#include "term.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* ---- the terminal ---- */

int terminal_raw(struct terminal *terminal, int fd, struct gt_error *err)
{
	terminal->fd = fd;
	if (tcgetattr(fd, &terminal->before) < 0)
		return gt_fail_errno(err, errno, "cannot read the terminal's settings");
	struct termios raw = terminal->before;
	cfmakeraw(&raw);
	if (tcsetattr(fd, TCSADRAIN, &raw) < 0)
		return gt_fail_errno(err, errno, "cannot set the terminal to raw mode");
	terminal->raw = true;
	return 0;
}

void terminal_restore(struct terminal *terminal)
{
	if (terminal->raw)
		tcsetattr(terminal->fd, TCSADRAIN, &terminal->before);
	terminal->raw = false;
}

bool terminal_size(int fd, unsigned *rows, unsigned *cols)
{
	struct winsize size;
	if (ioctl(fd, TIOCGWINSZ, &size) < 0 || size.ws_row == 0 || size.ws_col == 0)
		return false;
	*rows = size.ws_row;
	*cols = size.ws_col;
	return true;
}

/* ---- detach keys ---- */

static int parse_key(const char *text, size_t len, unsigned char *key)
{
	if (len == 1) {
		*key = (unsigned char)*text;
		return 0;
	}
	if (len != 6 || strncmp(text, "ctrl-", 5) != 0)
		return -1;
	char c = (char)tolower((unsigned char)text[5]);
	if (c >= 'a' && c <= 'z') {
		*key = (unsigned char)(c - 'a' + 1);
		return 0;
	}
	static const char others[] = "@[\\]^_";
	static const unsigned char codes[] = { 0, 27, 28, 29, 30, 31 };
	const char *at = strchr(others, c);
	if (!at || c == '\0')
		return -1;
	*key = codes[at - others];
	return 0;
}

int keys_parse(struct keys *keys, const char *text, struct gt_error *err)
{
	*keys = (struct keys){ 0 };
	for (const char *p = text; *p;) {
		size_t len = strcspn(p, ",");
		if (keys->count == sizeof keys->sequence)
			return gt_fail(err, GT_INVALID, "invalid detach keys \"%.100s\": more than %zu keys", text,
				       sizeof keys->sequence);
		if (parse_key(p, len, &keys->sequence[keys->count++]) < 0)
			return gt_fail(err, GT_INVALID,
				       "invalid detach keys (%.100s): \"%.*s\" is not a letter or ctrl-LETTER", text,
				       (int)(len < 50 ? len : 50), p);
		p += len;
		if (*p == ',')
			p++;
	}
	return 0;
}

bool keys_filter(struct keys *keys, const char *bytes, size_t len, struct gt_buf *out)
{
	if (keys->count == 0) {
		gt_buf_add(out, bytes, len);
		return false;
	}
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)bytes[i] == keys->sequence[keys->seen]) {
			if (++keys->seen == keys->count) {
				keys->seen = 0;
				return true;
			}
			continue;
		}
		/* Not the sequence after all: what was held back goes on. */
		gt_buf_add(out, keys->sequence, keys->seen);
		keys->seen = (unsigned char)bytes[i] == keys->sequence[0];
		if (!keys->seen)
			gt_buf_char(out, bytes[i]);
		else if (keys->count == 1)
			return true;
	}
	return false;
}

/* ---- signals ---- */

/* A handler has no argument of ours, so the pipe's end must be global. */
static volatile sig_atomic_t signal_pipe = -1;

static void on_signal(int number)
{
	int saved = errno;
	char byte = (char)number;
	if (write(signal_pipe, &byte, 1) < 0) {
		/* full: one of the kind is waiting already */
	}
	errno = saved;
}

static bool wants(int wanted, int number)
{
	switch (number) {
	case SIGKILL:
	case SIGSTOP:
	case SIGCHLD:
	case SIGPIPE:
	case SIGURG:
	case SIGTTIN:
	case SIGTTOU:
	case SIGSEGV:
	case SIGBUS:
	case SIGFPE:
	case SIGILL:
	case SIGABRT:
	case SIGTRAP:
	case SIGSYS:
		return false;
	case SIGWINCH:
		return wanted & SIGNALS_WINCH;
	case SIGTERM:
	case SIGHUP:
	case SIGINT:
	case SIGQUIT:
		return wanted & (SIGNALS_END | SIGNALS_ALL);
	default:
		return (wanted & SIGNALS_ALL) && (number < 32 || (number >= SIGRTMIN && number <= SIGRTMAX));
	}
}

static void set_handlers(int wanted, void (*handler)(int))
{
	struct sigaction action = { .sa_handler = handler }; /* no SA_RESTART: a blocked write must return */
	for (int number = 1; number <= SIGRTMAX; number++) {
		if (wants(wanted, number))
			sigaction(number, &action, NULL);
	}
}

int signals_catch(int wanted, struct gt_error *err)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return gt_fail_errno(err, errno, "cannot make a pipe");
	signal_pipe = ends[1];
	set_handlers(wanted, on_signal);
	return ends[0];
}

void signals_release(int fd)
{
	if (fd < 0)
		return;
	set_handlers(SIGNALS_WINCH | SIGNALS_ALL, SIG_DFL);
	close(signal_pipe);
	signal_pipe = -1;
	close(fd);
}
