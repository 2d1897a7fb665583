/*
 * top.c - GET /containers/{id}/top: the processes of a container as ps(1) would show them, read from /proc.
 *
 * The usual words of ps are understood: -ef, -f, -e, aux, -o with a list of columns. Any other is refused by name.
 */
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/internal.h"
#include "runtime/cgroup.h"

#define MAX_COLUMNS 32

struct process {
	pid_t pid, ppid;
	int pgid, sid, tty, nice, threads, priority;
	char state, comm[64];
	unsigned long long utime, stime, start, vsize;  /* ticks; bytes */
	long long rss;                                  /* pages */
	uid_t uid;
	gid_t gid;
	struct gt_buf args;
};

struct host {
	long ticks, page;
	double uptime;          /* s */
	long long memory;       /* pages */
};

/* ---- columns ---- */

static void put_user(const struct process *p, const struct host *host, struct gt_buf *out)
{
	(void)host;
	struct passwd entry, *found = NULL;
	char room[4096];
	if (getpwuid_r(p->uid, &entry, room, sizeof room, &found) == 0 && found)
		gt_buf_str(out, found->pw_name);
	else
		gt_buf_printf(out, "%u", p->uid);
}

#define NUMBER_COLUMN(name, format, value)                                                              \
	static void put_##name(const struct process *p, const struct host *host, struct gt_buf *out)    \
	{                                                                                                \
		(void)host;                                                                              \
		gt_buf_printf(out, format, value);                                                       \
	}
NUMBER_COLUMN(uid, "%u", p->uid)
NUMBER_COLUMN(gid, "%u", p->gid)
NUMBER_COLUMN(pid, "%d", p->pid)
NUMBER_COLUMN(ppid, "%d", p->ppid)
NUMBER_COLUMN(pgid, "%d", p->pgid)
NUMBER_COLUMN(sid, "%d", p->sid)
NUMBER_COLUMN(nice, "%d", p->nice)
NUMBER_COLUMN(pri, "%d", p->priority)
NUMBER_COLUMN(nlwp, "%d", p->threads)
NUMBER_COLUMN(state, "%c", p->state)
NUMBER_COLUMN(comm, "%s", p->comm)
NUMBER_COLUMN(vsz, "%llu", p->vsize / 1024)

static void put_rss(const struct process *p, const struct host *host, struct gt_buf *out)
{
	gt_buf_printf(out, "%lld", p->rss * (host->page / 1024));
}

static void put_args(const struct process *p, const struct host *host, struct gt_buf *out)
{
	(void)host;
	if (p->args.len)
		gt_buf_add(out, p->args.data, p->args.len);
	else
		gt_buf_printf(out, "[%s]", p->comm);
}

static double age(const struct process *p, const struct host *host)
{
	double seconds = host->uptime - (double)p->start / (double)host->ticks;
	return seconds > 0 ? seconds : 0;
}

static void put_cpu(const struct process *p, const struct host *host, struct gt_buf *out)
{
	double seconds = age(p, host), used = (double)(p->utime + p->stime) / (double)host->ticks;
	gt_buf_printf(out, "%.1f", seconds > 0 ? 100 * used / seconds : 0);
}

static void put_c(const struct process *p, const struct host *host, struct gt_buf *out)
{
	double seconds = age(p, host), used = (double)(p->utime + p->stime) / (double)host->ticks;
	double percent = seconds > 0 ? 100 * used / seconds : 0;
	gt_buf_printf(out, "%.0f", percent < 99 ? percent : 99);
}

static void put_mem(const struct process *p, const struct host *host, struct gt_buf *out)
{
	gt_buf_printf(out, "%.1f", host->memory ? 100.0 * (double)p->rss / (double)host->memory : 0);
}

static void put_time(const struct process *p, const struct host *host, struct gt_buf *out)
{
	unsigned long long seconds = (p->utime + p->stime) / (unsigned long long)host->ticks;
	gt_buf_printf(out, "%02llu:%02llu:%02llu", seconds / 3600, seconds / 60 % 60, seconds % 60);
}

static void put_etime(const struct process *p, const struct host *host, struct gt_buf *out)
{
	unsigned long long seconds = (unsigned long long)age(p, host);
	if (seconds >= 86400)
		gt_buf_printf(out, "%llu-", seconds / 86400);
	if (seconds >= 3600)
		gt_buf_printf(out, "%02llu:", seconds / 3600 % 24);
	gt_buf_printf(out, "%02llu:%02llu", seconds / 60 % 60, seconds % 60);
}

static void put_stime(const struct process *p, const struct host *host, struct gt_buf *out)
{
	time_t began = time(NULL) - (time_t)age(p, host);
	struct tm local;
	char text[16];
	localtime_r(&began, &local);
	strftime(text, sizeof text, age(p, host) < 86400 ? "%H:%M" : "%b%d", &local);
	gt_buf_str(out, text);
}

static void put_tty(const struct process *p, const struct host *host, struct gt_buf *out)
{
	(void)host;
	unsigned major_number = (unsigned)p->tty >> 8 & 0xfff, minor_number = ((unsigned)p->tty & 0xff) | ((unsigned)p->tty >> 12 & 0xfff00);
	if (!p->tty)
		gt_buf_str(out, "?");
	else if (major_number >= 136 && major_number <= 143)
		gt_buf_printf(out, "pts/%u", minor_number + (major_number - 136) * 256);
	else
		gt_buf_printf(out, "%u:%u", major_number, minor_number);
}

struct column {
	const char *word, *title;
	void (*put)(const struct process *p, const struct host *host, struct gt_buf *out);
};

static const struct column COLUMNS[] = {
	{ "user", "USER", put_user },   { "euser", "EUSER", put_user }, { "uid", "UID", put_uid },       { "gid", "GID", put_gid },
	{ "pid", "PID", put_pid },      { "ppid", "PPID", put_ppid },   { "pgid", "PGID", put_pgid },    { "pgrp", "PGRP", put_pgid },
	{ "sid", "SID", put_sid },      { "sess", "SESS", put_sid },    { "c", "C", put_c },             { "pcpu", "%CPU", put_cpu },
	{ "%cpu", "%CPU", put_cpu },    { "pmem", "%MEM", put_mem },    { "%mem", "%MEM", put_mem },     { "vsz", "VSZ", put_vsz },
	{ "rss", "RSS", put_rss },      { "tty", "TT", put_tty },       { "tt", "TT", put_tty },         { "tname", "TTY", put_tty },
	{ "stat", "STAT", put_state },  { "state", "S", put_state },    { "s", "S", put_state },         { "start", "STARTED", put_stime },
	{ "stime", "STIME", put_stime }, { "time", "TIME", put_time },  { "cputime", "TIME", put_time }, { "etime", "ELAPSED", put_etime },
	{ "ni", "NI", put_nice },       { "nice", "NI", put_nice },     { "pri", "PRI", put_pri },       { "nlwp", "NLWP", put_nlwp },
	{ "thcount", "THCNT", put_nlwp }, { "comm", "COMMAND", put_comm }, { "ucmd", "CMD", put_comm },  { "args", "COMMAND", put_args },
	{ "cmd", "CMD", put_args },     { "command", "COMMAND", put_args },
};

static const struct column FULL[] = { { NULL, "UID", put_user },     { NULL, "PID", put_pid }, { NULL, "PPID", put_ppid }, { NULL, "C", put_c },
				      { NULL, "STIME", put_stime }, { NULL, "TTY", put_tty }, { NULL, "TIME", put_time }, { NULL, "CMD", put_args } };
static const struct column AUX[] = { { NULL, "USER", put_user }, { NULL, "PID", put_pid }, { NULL, "%CPU", put_cpu },    { NULL, "%MEM", put_mem },
				     { NULL, "VSZ", put_vsz },   { NULL, "RSS", put_rss }, { NULL, "TTY", put_tty },     { NULL, "STAT", put_state },
				     { NULL, "START", put_stime }, { NULL, "TIME", put_time }, { NULL, "COMMAND", put_args } };
static const struct column SHORT[] = { { NULL, "PID", put_pid }, { NULL, "TTY", put_tty }, { NULL, "TIME", put_time }, { NULL, "CMD", put_comm } };

struct table {
	struct column columns[MAX_COLUMNS];
	size_t count;
};

static void use(struct table *table, const struct column *columns, size_t count)
{
	memcpy(table->columns, columns, count * sizeof *columns);
	table->count = count;
}

static int add_columns(struct table *table, char *list, struct gt_error *err)
{
	for (char *word; (word = strsep(&list, ",")) != NULL;) {
		const char *title = NULL;
		char *equals = strchr(word, '=');
		if (equals) {
			*equals = '\0';
			title = equals + 1;
		}
		size_t i = 0;
		while (i < GT_COUNT(COLUMNS) && strcmp(COLUMNS[i].word, word))
			i++;
		if (i == GT_COUNT(COLUMNS))
			return gt_fail(err, GT_INVALID, "ps: unknown column \"%.32s\"", word);
		if (title && *title)
			return gt_fail(err, GT_INVALID, "ps: a title of one's own (\"%.32s=\") is not supported", word);
		if (table->count == MAX_COLUMNS)
			return gt_fail(err, GT_INVALID, "ps: more than %d columns", MAX_COLUMNS);
		table->columns[table->count++] = COLUMNS[i];
	}
	return 0;
}

/* Letters of -e, -f, a, u, x: which table they ask for. */
static int read_letters(struct table *table, const char *word, struct gt_error *err)
{
	for (const char *p = word[0] == '-' ? word + 1 : word; *p; p++) {
		if (*p == 'f')
			use(table, FULL, GT_COUNT(FULL));
		else if (*p == 'u' && word[0] != '-')
			use(table, AUX, GT_COUNT(AUX));
		else if (!strchr("eAaxw", *p))
			return gt_fail(err, GT_INVALID, "ps: the option \"%.64s\" is not supported: use -ef, aux or -o COLUMN,...", word);
	}
	return 0;
}

static int read_arguments(struct table *table, const char *ps_args, struct gt_error *err)
{
	AUTO_FREE char *copy = gt_xstrdup(ps_args && ps_args[0] ? ps_args : "-ef");
	char *rest = copy;
	bool own = false;
	if (strlen(copy) > 1024)
		return gt_fail(err, GT_INVALID, "ps: the arguments are too long");
	use(table, SHORT, GT_COUNT(SHORT));
	for (char *word; (word = strsep(&rest, " ")) != NULL;) {
		bool dash_o = strncmp(word, "-o", 2) == 0, bare_o = strcmp(word, "o") == 0;
		if (!*word)
			continue;
		if (dash_o || bare_o || strncmp(word, "-eo", 3) == 0) {
			char *list = bare_o ? word + 1 : dash_o ? word + 2 : word + 3;
			if (!*list)
				list = strsep(&rest, " ");
			if (!own)
				table->count = 0;
			own = true;
			if (!list || add_columns(table, list, err) < 0)
				return list ? -1 : gt_fail(err, GT_INVALID, "ps: -o needs a list of columns");
		} else if (read_letters(table, word, err) < 0) {
			return -1;
		}
	}
	return 0;
}

/* ---- processes ---- */

/* False where it has gone meanwhile. */
static bool read_process(pid_t pid, struct process *p)
{
	char path[64];
	struct stat info;
	AUTO_BUF struct gt_buf text = { 0 };
	snprintf(path, sizeof path, "/proc/%d", pid);
	AUTO_CLOSE int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || fstat(dir, &info) < 0 || gt_read_file(dir, "stat", 8192, &text, NULL) < 0 || !text.data)
		return false;
	char *open_paren = strchr(text.data, '('), *close_paren = strrchr(text.data, ')');
	if (!open_paren || !close_paren || close_paren[1] != ' ')
		return false;
	*p = (struct process){ .pid = pid, .uid = info.st_uid, .gid = info.st_gid };
	snprintf(p->comm, sizeof p->comm, "%.*s", (int)(close_paren - open_paren - 1), open_paren + 1);
	if (sscanf(close_paren + 2, "%c %d %d %d %d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %d %d %d %*d %llu %llu %lld", &p->state, &p->ppid,
		   &p->pgid, &p->sid, &p->tty, &p->utime, &p->stime, &p->priority, &p->nice, &p->threads, &p->start, &p->vsize, &p->rss) != 13)
		return false;
	gt_read_file(dir, "cmdline", 1 << 20, &p->args, NULL);
	if (p->args.len > 4096)
		p->args.len = 4096;
	while (p->args.len && !p->args.data[p->args.len - 1])
		p->args.len--;
	for (size_t i = 0; i < p->args.len; i++) {
		if (!p->args.data[i])
			p->args.data[i] = ' ';
	}
	return true;
}

static void add_row(json_t *rows, const struct table *table, const struct process *p, const struct host *host)
{
	json_t *row = json_array();
	for (size_t i = 0; i < table->count; i++) {
		AUTO_BUF struct gt_buf cell = { 0 };
		table->columns[i].put(p, host, &cell);
		json_t *text = json_stringn(cell.data ? cell.data : "", cell.len);
		json_array_append_new(row, text ? text : json_string("?")); /* not UTF-8 */
	}
	json_array_append_new(rows, row);
}

static struct host read_host(void)
{
	struct host host = { .ticks = sysconf(_SC_CLK_TCK), .page = sysconf(_SC_PAGESIZE), .memory = sysconf(_SC_PHYS_PAGES) };
	struct timespec up;
	clock_gettime(CLOCK_BOOTTIME, &up);
	host.uptime = (double)up.tv_sec + (double)up.tv_nsec / 1e9;
	return host;
}

json_t *gt_container_top(struct gt_engine *engine, const char *ref, const char *ps_args, struct gt_error *err)
{
	AUTO_CONTAINER struct gt_container *ctr = gt_container_get(engine, ref, err);
	struct table table = { 0 };
	struct gt_cgroup *cgroup = NULL;
	AUTO_FREE pid_t *pids = NULL;
	size_t count = 0;
	if (!ctr || read_arguments(&table, ps_args, err) < 0)
		return NULL;
	if (!gt_container_is_running(ctr))
		return gt_fail_null(err, GT_CONFLICT, "container %s is not running", ctr->id);
	if (gt_cgroup_open(ctr->cgroup, &cgroup, err) < 0)
		return NULL;
	int rc = gt_cgroup_procs(cgroup, &pids, &count, err);
	gt_cgroup_free(cgroup);
	if (rc < 0)
		return NULL;
	struct host host = read_host();
	json_t *titles = json_array(), *rows = json_array();
	for (size_t i = 0; i < table.count; i++)
		json_array_append_new(titles, json_string(table.columns[i].title));
	for (size_t i = 0; i < count; i++) {
		struct process process = { 0 };
		if (read_process(pids[i], &process))
			add_row(rows, &table, &process, &host);
		gt_buf_free(&process.args);
	}
	gt_container_event(ctr, "top", NULL);
	return json_pack("{s:o s:o}", "Titles", titles, "Processes", rows);
}
