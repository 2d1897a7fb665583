/*
 * main.c - gantryd: options, start-up order, signals, the way down.
 *
 * Start: configuration, lock (one daemon for each root), the thread for SIGUSR1 (dump.c), engine (drivers, images, networks, volumes, containers,
 * reconcile), API, then restart policies. Down: API, engine; containers run on. The engine's threads
 * inherit a mask that leaves all signals to the main thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/api.h"
#include "base/auto.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
#include "config/config.h"
#include "daemon/dump.h"
#include "daemon/notify.h"
#include "doctor/doctor.h"
#include "driver/driver.h"
#include "engine/engine.h"

#define DEFAULT_CONFIG GANTRY_SYSCONF "/gantryd.ini"
#define FD_TABLE 4096   /* room for a thousand containers */

struct daemon {
	const char *config_path;
	bool config_given;
	struct gt_config *config;       /* older ones stay until the end: the engine may still read them */
	struct gt_config **retired;
	size_t retired_count;
	int lock_fd;
	struct gt_engine *engine;
	struct gt_api *api;
	struct dump *dump;
};

static const char HELP[] =
	"Usage: gantryd [OPTIONS]\n"
	"\n"
	"The gantry container engine's daemon.\n"
	"\n"
	"Options:\n"
	"  -c, --config FILE    configuration (default " DEFAULT_CONFIG "); FILE's conf.d/*.ini follow it\n"
	"      --check-config   check the configuration, say what is wrong with file:line, and end\n"
	"      --check-host     look at this host and print what is missing as JSON, and end; `gantry system doctor` shows it to people\n"
	"      --print-config   print the configuration in force with the doc of each key, and end\n"
	"  -V, --version        print the version and end\n"
	"  -h, --help           print this and end\n";

static void apply_log_settings(const struct gt_config *config)
{
	gt_log_set_level(config->log_level);
	gt_log_set_json(config->log_json);
}

/* A child that a killed daemon was just about to start holds its lock until it execs. */
static bool lock_soon(int fd)
{
	for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
		if (errno != EWOULDBLOCK || i >= 50)
			return false;
		usleep(20 * 1000);
	}
	return true;
}

/* One daemon for each state directory: the lock lives and dies with the process. */
static int lock_root(struct daemon *daemon, struct gt_error *err)
{
	const struct gt_config *config = daemon->config;
	if (gt_mkdirs(AT_FDCWD, config->root, 0711, err) < 0 || gt_mkdirs(AT_FDCWD, config->run, 0711, err) < 0)
		return gt_context(err, "make the daemon's directories");
	AUTO_FREE char *path = gt_xasprintf("%s/gantryd.lock", config->root);
	AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return gt_fail_errno(err, errno, "open %s", path);
	if (!lock_soon(fd))
		return gt_fail(err, GT_CONFLICT, "another gantryd uses %s (see %s): stop it first, or set [daemon] root", config->root,
			       path);
	char pid[32];
	int len = snprintf(pid, sizeof pid, "%d\n", getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, (size_t)len, 0) < 0)
		return gt_fail_errno(err, errno, "write %s", path);
	daemon->lock_fd = take_fd(fd);
	return 0;
}

/* Small and flat memory matters more here than allocation speed across many threads. */
static void tune_process(void)
{
	mallopt(M_ARENA_MAX, 2);
	mallopt(M_TRIM_THRESHOLD, 256 * 1024);
	umask(022);
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	/* The table of descriptors grows now: with more than one thread each growth waits until every CPU has been through the scheduler. */
	int high = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, FD_TABLE - 1);
	if (high >= 0)
		close(high);
}

static void reload(struct daemon *daemon)
{
	struct gt_error err = { 0 };
	struct gt_config *fresh = NULL;
	if (gt_config_load(daemon->config_path, daemon->config_given, &fresh, &err) < 0) {
		gt_err("the configuration was not reloaded", "error", err.message);
		return;
	}
	daemon->retired = gt_xrealloc(daemon->retired, (daemon->retired_count + 1) * sizeof *daemon->retired);
	daemon->retired[daemon->retired_count++] = daemon->config;
	daemon->config = fresh;
	apply_log_settings(fresh);
	gt_engine_reload(daemon->engine, fresh);
	gt_info("configuration reloaded", "file", daemon->config_path);
}

/* Until SIGTERM or SIGINT. */
static void serve(struct daemon *daemon, const sigset_t *signals)
{
	for (;;) {
		int signo;
		if (sigwait(signals, &signo) != 0)
			continue;
		if (signo == SIGHUP) {
			gt_notify("RELOADING=1");
			reload(daemon);
			gt_notify("READY=1");
			continue;
		}
		gt_info("going down; containers run on", "signal", strsignal(signo));
		gt_notify("STOPPING=1");
		return;
	}
}

static int run(struct daemon *daemon, struct gt_error *err)
{
	sigset_t signals;
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGUSR1); /* for the thread that writes dumps */
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	sigdelset(&signals, SIGUSR1);
	signal(SIGPIPE, SIG_IGN);
	tune_process();

	if (geteuid() != 0)
		return gt_fail(err, GT_DENIED, "gantryd needs root: it makes namespaces, mounts and cgroups");
	if (lock_root(daemon, err) < 0)
		return -1;
	if (dump_start(daemon->config, &daemon->dump, err) < 0)
		return -1;
	if (gt_engine_open(daemon->config, &daemon->engine, err) < 0)
		return gt_context(err, "start the engine");
	dump_about(daemon->dump, daemon->engine, NULL);
	if (gt_api_start(daemon->engine, daemon->config, &daemon->api, err) < 0)
		return gt_context(err, "serve the API");
	dump_about(daemon->dump, daemon->engine, daemon->api);
	gt_engine_start_restarts(daemon->engine);
	malloc_trim(0);
	gt_info("gantryd is ready", "version", GANTRY_VERSION, "root", daemon->config->root);
	gt_notify("READY=1");
	serve(daemon, &signals);
	return 0;
}

static void close_daemon(struct daemon *daemon)
{
	if (daemon->dump)
		dump_about(daemon->dump, daemon->engine, NULL);
	if (daemon->api)
		gt_api_stop(daemon->api);
	dump_stop(daemon->dump);
	if (daemon->engine)
		gt_engine_close(daemon->engine);
	if (daemon->lock_fd >= 0)
		close(daemon->lock_fd);
	for (size_t i = 0; i < daemon->retired_count; i++)
		gt_config_free(daemon->retired[i]);
	free(daemon->retired);
	gt_config_free(daemon->config);
}

static int fail(const struct gt_error *err, int status)
{
	fprintf(stderr, "gantryd: %s\n", err->message);
	return status;
}

static int check_config(struct daemon *daemon)
{
	struct gt_error err = { 0 };
	if (gt_drivers_check(daemon->config, &err) < 0)
		return fail(&err, 1);
	printf("%s: the configuration is fine\n", daemon->config_path);
	return 0;
}

static int check_host(struct daemon *daemon)
{
	AUTO_JSON json_t *report = gt_doctor(daemon->config, NULL);
	json_dumpf(report, stdout, JSON_INDENT(2));
	putchar('\n');
	return fflush(stdout) == 0 && !gt_doctor_failed(report) ? 0 : 1;
}

static int print_config(struct daemon *daemon)
{
	AUTO_BUF struct gt_buf text = { 0 };
	gt_config_print(daemon->config, &text);
	fwrite(text.data, 1, text.len, stdout);
	return fflush(stdout) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	enum { CHECK = 256, CHECK_HOST, PRINT };
	static const struct option OPTIONS[] = {
		{ "config", required_argument, NULL, 'c' }, { "check-config", no_argument, NULL, CHECK },
		{ "check-host", no_argument, NULL, CHECK_HOST },
		{ "print-config", no_argument, NULL, PRINT }, { "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },           { NULL, 0, NULL, 0 },
	};
	struct daemon daemon = { .config_path = DEFAULT_CONFIG, .lock_fd = -1 };
	int mode = 0;
	for (int option; (option = getopt_long(argc, argv, "c:Vh", OPTIONS, NULL)) != -1;) {
		switch (option) {
		case 'c':
			daemon.config_path = optarg;
			daemon.config_given = true;
			break;
		case CHECK:
		case CHECK_HOST:
		case PRINT:
			mode = option;
			break;
		case 'V':
			printf("gantryd %s\n", GANTRY_VERSION);
			return 0;
		case 'h':
			fputs(HELP, stdout);
			return 0;
		default:
			fputs("Try 'gantryd --help'.\n", stderr);
			return 2;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "gantryd: unexpected argument %s\nTry 'gantryd --help'.\n", argv[optind]);
		return 2;
	}

	struct gt_error err = { 0 };
	if (gt_config_load(daemon.config_path, daemon.config_given, &daemon.config, &err) < 0)
		return fail(&err, 1);
	apply_log_settings(daemon.config);
	int status = mode == CHECK ? check_config(&daemon) : mode == CHECK_HOST ? check_host(&daemon) : mode == PRINT ? print_config(&daemon) : 0;
	if (!mode && run(&daemon, &err) < 0)
		status = fail(&err, 1);
	close_daemon(&daemon);
	return status;
}
