/*
 * term.h - the user's terminal: raw mode and its end, size, detach keys; and signals as bytes in a pipe.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <termios.h>

#include "base/buf.h"
#include "base/error.h"

struct terminal {
	int fd;
	bool raw;
	struct termios before;
};

int terminal_raw(struct terminal *terminal, int fd, struct gt_error *err);
void terminal_restore(struct terminal *terminal);
/* False where fd is no terminal. */
bool terminal_size(int fd, unsigned *rows, unsigned *cols);

#define DEFAULT_DETACH_KEYS "ctrl-p,ctrl-q"

/* The sequence of keys that leaves a container running, and how much of it has been typed. */
struct keys {
	unsigned char sequence[16];
	size_t count, seen;
};

/* "ctrl-p,ctrl-q", "a", "ctrl-@": letters, or ctrl- with a letter or one of @ [ \ ] ^ _ */
int keys_parse(struct keys *keys, const char *text, struct gt_error *err);
/* Appends to out what is to be sent on; true where the sequence was completed. */
bool keys_filter(struct keys *keys, const char *bytes, size_t len, struct gt_buf *out);

/* Signals come out of a pipe, one byte each, so that they can be polled beside the streams. One catch at a time. */
enum signals_wanted {
	SIGNALS_WINCH = 1,              /* the window's size */
	SIGNALS_END = 2,                /* TERM, HUP, INT, QUIT: to restore the terminal first */
	SIGNALS_ALL = 4,                /* every signal that a user may send on */
};
int signals_catch(int wanted, struct gt_error *err);    /* the fd to read, or -1 */
void signals_release(int fd);
