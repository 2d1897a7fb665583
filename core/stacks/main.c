/*
 * gantry-stacks PID - where each waiting thread of a process is, read from outside without stopping it.
 *
 * The kernel tells the stack pointer and program counter of a thread that waits in a system call (/proc/PID/task/TID/syscall); libdw follows the call
 * frames from there through copies of the stack. No thread is signalled or traced, so no call of it is cut short, and a thread that hangs is as good
 * as any. A thread that runs meanwhile gives no stack, or one with a wrong end: it is for people to read. A process of its own, so that whatever goes wrong
 * here is not the daemon's, nor its memory.
 *
 * Lines on standard output: "TID FUNCTION+OFFSET FILE", innermost frame first.
 */
#include <dirent.h>
#include <elfutils/libdwfl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#if defined __x86_64__
enum { STACK_POINTER = 7, PROGRAM_COUNTER = 16 };       /* numbers of DWARF (System V ABI, AMD64 supplement, figure 3.36) */
#elif defined __aarch64__
enum { STACK_POINTER = 31, PROGRAM_COUNTER = -1 };      /* AADWARF64 */
#else
#error "tell the DWARF numbers of this machine's stack pointer and program counter"
#endif

enum { MAX_FRAMES = 48, MAX_THREADS = 4096 };

static pid_t process;

/* Of a thread in a system call: "NUMBER ARGUMENTS... SP PC"; of one that runs: "running". */
static int read_place(pid_t tid, Dwarf_Word *sp, Dwarf_Word *pc)
{
	char path[64], line[256] = "";
	snprintf(path, sizeof path, "/proc/%d/task/%d/syscall", process, tid);
	FILE *file = fopen(path, "re");
	if (!file)
		return -1;
	if (!fgets(line, sizeof line, file))
		line[0] = '\0';
	fclose(file);
	char *last = strrchr(line, ' ');
	if (!last || last == line)
		return -1;
	*pc = strtoull(last, NULL, 16);
	*last = '\0';
	last = strrchr(line, ' ');
	*sp = last ? strtoull(last, NULL, 16) : 0;
	return *sp && *pc ? 0 : -1;
}

static bool set_registers(Dwfl_Thread *thread, void *arg)
{
	Dwarf_Word sp, pc;
	(void)arg;
	if (read_place(dwfl_thread_tid(thread), &sp, &pc) < 0)
		return false;
	if (PROGRAM_COUNTER >= 0 && !dwfl_thread_state_registers(thread, PROGRAM_COUNTER, 1, &pc))
		return false;
	if (PROGRAM_COUNTER < 0)
		dwfl_thread_state_register_pc(thread, pc);
	return dwfl_thread_state_registers(thread, STACK_POINTER, 1, &sp);
}

static bool read_memory(Dwfl *dwfl, Dwarf_Addr address, Dwarf_Word *word, void *arg)
{
	unsigned long value = 0;
	struct iovec here = { &value, sizeof value }, there = { (void *)(uintptr_t)address, sizeof value };
	(void)dwfl;
	(void)arg;
	if (process_vm_readv(process, &here, 1, &there, 1, 0) != (ssize_t)sizeof value)
		return false;
	*word = value;
	return true;
}

static pid_t no_thread(Dwfl *dwfl, void *arg, void **thread_arg)
{
	(void)dwfl;
	(void)arg;
	(void)thread_arg;
	return 0; /* threads are asked for one by one */
}

static bool get_thread(Dwfl *dwfl, pid_t tid, void *arg, void **thread_arg)
{
	(void)dwfl;
	(void)tid;
	*thread_arg = arg;
	return true;
}

struct walk {
	Dwfl *dwfl;
	pid_t tid;
	unsigned count;
};

static int on_frame(Dwfl_Frame *frame, void *arg)
{
	struct walk *walk = arg;
	Dwarf_Addr pc;
	bool exact;
	if (walk->count++ == MAX_FRAMES || !dwfl_frame_pc(frame, &pc, &exact))
		return DWARF_CB_ABORT;
	Dwfl_Module *module = dwfl_addrmodule(walk->dwfl, pc - (exact ? 0 : 1));
	GElf_Off offset = 0;
	GElf_Sym symbol;
	const char *name = module ? dwfl_module_addrinfo(module, pc - (exact ? 0 : 1), &offset, &symbol, NULL, NULL, NULL) : NULL;
	const char *file = module ? dwfl_module_info(module, NULL, NULL, NULL, NULL, NULL, NULL, NULL) : NULL;
	const char *base = file && strrchr(file, '/') ? strrchr(file, '/') + 1 : file;
	if (name)
		printf("%d %s+0x%llx %s\n", walk->tid, name, (unsigned long long)offset, base ? base : "?");
	else
		printf("%d 0x%llx %s\n", walk->tid, (unsigned long long)pc, base ? base : "?");
	return DWARF_CB_OK;
}

static int no_debuginfo(Dwfl_Module *module, void **userdata, const char *name, Dwarf_Addr base, const char *file, const char *link, GElf_Word crc,
			char **found)
{
	(void)module;
	(void)userdata;
	(void)name;
	(void)base;
	(void)file;
	(void)link;
	(void)crc;
	(void)found;
	return -1; /* symbol tables will do: nothing is searched for, least of all on a server */
}

static void walk_threads(Dwfl *dwfl)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/task", process);
	DIR *dir = opendir(path);
	unsigned count = 0;
	for (const struct dirent *entry; dir && count < MAX_THREADS && (entry = readdir(dir)) != NULL;) {
		Dwarf_Word sp, pc;
		struct walk walk = { .dwfl = dwfl, .tid = (pid_t)strtol(entry->d_name, NULL, 10) };
		if (walk.tid <= 0 || read_place(walk.tid, &sp, &pc) < 0)
			continue;
		dwfl_getthread_frames(dwfl, walk.tid, on_frame, &walk);
		count++;
	}
	if (dir)
		closedir(dir);
}

int main(int argc, char **argv)
{
	static const Dwfl_Callbacks CALLBACKS = { .find_elf = dwfl_linux_proc_find_elf, .find_debuginfo = no_debuginfo };
	static const Dwfl_Thread_Callbacks THREADS = { .next_thread = no_thread, .get_thread = get_thread, .memory_read = read_memory,
						       .set_initial_registers = set_registers };
	process = argc == 2 ? (pid_t)strtol(argv[1], NULL, 10) : 0;
	if (process <= 0) {
		fputs("usage: gantry-stacks PID\n", stderr);
		return 2;
	}
	Dwfl *dwfl = dwfl_begin(&CALLBACKS);
	int failed = !dwfl || dwfl_linux_proc_report(dwfl, process) != 0 || dwfl_report_end(dwfl, NULL, NULL) != 0 ||
		     !dwfl_attach_state(dwfl, NULL, process, &THREADS, NULL);
	if (failed)
		fprintf(stderr, "gantry-stacks: process %d cannot be looked at: %s\n", process, dwfl_errmsg(-1));
	else
		walk_threads(dwfl);
	dwfl_end(dwfl);
	return failed;
}
