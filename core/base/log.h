/*
 * log.h - structured, leveled log lines on one fd (standard error by default).
 *
 * text:  2026-01-02T03:04:05.678Z info container started id=4f1c name=web
 * json:  {"time":"...","level":"info","msg":"container started","id":"4f1c","name":"web"}
 *
 * journal: where the fd is the one that systemd connected to the journal ($JOURNAL_STREAM, systemd.exec(5)) and the format is text, a line is an entry: MESSAGE
 * is the line without time and level, PRIORITY the level, and each pair a field as well (GANTRY_ID=4f1c). Where the journal takes none, it is a line on the fd.
 *
 * Each line is one write(2), so lines of several threads and processes do not mix.
 * Values are escaped: a hostile name cannot forge a line. Thread safe.
 */
#pragma once

#include <stdbool.h>

enum gt_level { GT_DEBUG, GT_INFO, GT_WARN, GT_ERROR };

/* Set-up, before threads start and at SIGHUP; each is one atomic store. */
void gt_log_set_level(enum gt_level level);
enum gt_level gt_log_level(void);
void gt_log_set_json(bool json);
void gt_log_set_fd(int fd);
/* "debug" | "info" | "warn" | "error"; returns -1 for any other word. */
int gt_log_level_parse(const char *word, enum gt_level *level);

/* msg is a fixed sentence; then pairs of char * key, char * value (NULL value: skipped),
 * closed by NULL. Use the macros, which close the list:
 *     gt_info("container started", "id", ctr->id, "name", ctr->name);
 */
void gt_log_kv(enum gt_level level, const char *msg, ...) __attribute__((sentinel));

#define gt_debug(...) gt_log_kv(GT_DEBUG, __VA_ARGS__, NULL)
#define gt_info(...)  gt_log_kv(GT_INFO, __VA_ARGS__, NULL)
#define gt_warn(...)  gt_log_kv(GT_WARN, __VA_ARGS__, NULL)
#define gt_err(...)   gt_log_kv(GT_ERROR, __VA_ARGS__, NULL)
