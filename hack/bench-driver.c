// bench-driver: runs commands for hack/bench and measures each with as little of its own in the way as can be.
//
//   bench-driver time ERRORS     reads lines from stdin, answers one line each on stdout:
//       run QUIET PROGRAM ARG…   (fields separated by tabs) sleeps QUIET µs, then runs the program; its stderr goes to the
//                                file ERRORS. Answer: NS STATUS PEAK_KB FAULTS SWITCHES, of the command and all it waited for;
//                                switches are the voluntary ones: the others are the machine's doing
//       many COUNT JOBS PROGRAM ARG…  runs the program COUNT times, JOBS at a time; {} in an argument becomes the number of
//                                the run, from 0. Answer: NS FAILURES
//       reap PID                 waits for an orphan: the driver is the subreaper of what the commands leave. Answer: STATUS
//   bench-driver count PROGRAM-FILE COMMAND ARG…
//       traces COMMAND and every process under it. Prints two numbers: its system calls before PROGRAM-FILE is executed
//       anywhere in the tree, and in all, without those that the program itself makes.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <linux/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_ARGS = 64, MAX_LINE = 8192, MAX_PIDS = 4096, MAX_JOBS = 64 };

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int decode(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// fork, not vfork: the peak that the kernel reports starts with the memory that the child had before exec, and after a
// fork that is next to nothing. The clock starts in the parent when the child exists, so that making it is not counted.
static void run(char **argv, long quiet, int null, int errors)
{
	int status, gate[2];
	struct rusage use;
	char byte = 0;
	if (pipe2(gate, O_CLOEXEC) < 0)
		die("pipe2");
	pid_t pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		dup2(null, 0);
		dup2(null, 1);
		dup2(errors, 2);
		if (read(gate[0], &byte, 1) != 1)
			_exit(127);
		execv(argv[0], argv);
		dprintf(2, "%s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	usleep((useconds_t)quiet);
	long long begin = now();
	if (write(gate[1], &byte, 1) != 1)
		die("write");
	if (wait4(pid, &status, 0, &use) != pid)
		die("wait4");
	long long end = now();
	close(gate[0]);
	close(gate[1]);
	printf("%lld %d %ld %ld %ld\n", end - begin, decode(status), use.ru_maxrss, use.ru_minflt + use.ru_majflt, use.ru_nvcsw);
}

// {} in a word becomes the number. The child's memory is its own: nothing is ever freed.
static char *numbered(char *word, int number)
{
	char *hole = strstr(word, "{}"), *text;
	if (!hole)
		return word;
	if (asprintf(&text, "%.*s%d%s", (int)(hole - word), word, number, hole + 2) < 0)
		_exit(127);
	return text;
}

static pid_t start_numbered(char **argv, int number, int null, int errors)
{
	pid_t pid = fork();
	if (pid < 0)
		die("fork");
	if (pid > 0)
		return pid;
	for (char **word = argv; *word; word++)
		*word = numbered(*word, number);
	dup2(null, 0);
	dup2(null, 1);
	dup2(errors, 2);
	execv(argv[0], argv);
	_exit(127);
}

// Orphans of the commands end up here too: whatever ends is reaped, but only our own children make room for the next.
static void many(int count, int jobs, char **argv, int null, int errors)
{
	pid_t running[MAX_JOBS] = { 0 };
	int started = 0, ended = 0, failures = 0, status;
	long long begin = now();
	for (int i = 0; i < jobs && i < MAX_JOBS && started < count; i++)
		running[i] = start_numbered(argv, started++, null, errors);
	while (ended < count) {
		pid_t pid = waitpid(-1, &status, 0);
		if (pid < 0)
			die("waitpid");
		for (int i = 0; i < MAX_JOBS; i++) {
			if (running[i] != pid)
				continue;
			ended++;
			failures += status != 0;
			running[i] = started < count ? start_numbered(argv, started++, null, errors) : 0;
			break;
		}
	}
	printf("%lld %d\n", now() - begin, failures);
}

static void reap(pid_t pid)
{
	int status = 0;
	if (waitpid(pid, &status, 0) != pid)
		printf("-1\n");
	else
		printf("%d\n", decode(status));
}

static int serve(const char *errors_path)
{
	static char line[MAX_LINE];
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int errors = open(errors_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (null < 0 || errors < 0)
		die(errors_path);
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		die("PR_SET_CHILD_SUBREAPER");
	while (fgets(line, sizeof line, stdin)) {
		char *field[MAX_ARGS + 3];
		int count = 0;
		line[strcspn(line, "\n")] = 0;
		for (char *word = strtok(line, "\t"); word && count < MAX_ARGS + 2; word = strtok(NULL, "\t"))
			field[count++] = word;
		field[count] = NULL;
		if (count >= 3 && !strcmp(field[0], "run"))
			run(field + 2, atol(field[1]), null, errors);
		else if (count >= 4 && !strcmp(field[0], "many"))
			many(atoi(field[1]), atoi(field[2]), field + 3, null, errors);
		else if (count == 2 && !strcmp(field[0], "reap"))
			reap(atoi(field[1]));
		else
			return 2;
		fflush(stdout);
	}
	return 0;
}

// --- counting ---------------------------------------------------------------------------------------------------

static pid_t users[MAX_PIDS];
static int user_count;

static int is_user(pid_t pid)
{
	for (int i = 0; i < user_count; i++)
		if (users[i] == pid)
			return 1;
	return 0;
}

static int executes(pid_t pid, const struct stat *program)
{
	char path[64];
	struct stat exe;
	snprintf(path, sizeof path, "/proc/%d/exe", pid);
	return stat(path, &exe) == 0 && exe.st_dev == program->st_dev && exe.st_ino == program->st_ino;
}

static int enters_call(pid_t pid)
{
	struct ptrace_syscall_info info;
	if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) <= 0)
		return 0;
	return info.op == PTRACE_SYSCALL_INFO_ENTRY;
}

// Seized before it may go on to exec: its stop at exec is then the first that the tracer sees.
static pid_t start_traced(char **argv)
{
	const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
			     PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
	int gate[2];
	char byte = 0;
	if (pipe2(gate, O_CLOEXEC) < 0)
		die("pipe2");
	pid_t pid = fork();
	if (pid == 0) {
		if (read(gate[0], &byte, 1) == 1)
			execv(argv[0], argv);
		_exit(127);
	}
	if (pid < 0 || ptrace(PTRACE_SEIZE, pid, 0, options) < 0)
		die("ptrace");
	if (write(gate[1], &byte, 1) != 1)
		die("write");
	close(gate[0]);
	close(gate[1]);
	return pid;
}

static int count(const char *program_path, char **argv)
{
	struct stat program;
	long total = 0, before = -1;
	int status, result = 1;
	if (stat(program_path, &program) < 0)
		die(program_path);
	pid_t first = start_traced(argv);
	for (pid_t pid; (pid = waitpid(-1, &status, __WALL)) > 0;) {
		long pass_on = 0;
		if (!WIFSTOPPED(status)) {
			if (pid == first)
				result = decode(status);
			continue;
		}
		int signal = WSTOPSIG(status), event = status >> 16;
		if (signal == (SIGTRAP | 0x80)) {
			if (!is_user(pid) && enters_call(pid))
				total++;
		} else if (event == PTRACE_EVENT_EXEC && executes(pid, &program)) {
			before = before < 0 ? total : before;
			if (user_count < MAX_PIDS)
				users[user_count++] = pid;
		} else if (event == 0) {
			pass_on = signal;
		}
		ptrace(PTRACE_SYSCALL, pid, 0, pass_on);
	}
	printf("%ld %ld\n", before, total);
	return result;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "time"))
		return serve(argv[2]);
	if (argc >= 4 && !strcmp(argv[1], "count"))
		return count(argv[2], argv + 3);
	dprintf(2, "usage: bench-driver time ERRORS | bench-driver count PROGRAM-FILE COMMAND ARG...\n");
	return 2;
}
