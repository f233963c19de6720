// order-steps: executes a command one instruction at a time, for hack/order.
//
//   order-steps LOW HIGH COMMAND ARG…
//
// Prints the address of each instruction between LOW and HIGH (hexadecimal) when the command first executes it, and after a +
// when a process under it does. What another program does, once it is executed, is not looked at.
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned char seen[2][1 << 22];

// The program under test executes itself from a mount that is attached nowhere: its name is `/` then.
static int is_other(pid_t pid, const char *command)
{
	char link[64], where[4096];
	snprintf(link, sizeof link, "/proc/%d/exe", pid);
	ssize_t n = readlink(link, where, sizeof where - 1);
	if (n < 0)
		return 0;
	where[n] = 0;
	return strcmp(where, "/") && strcmp(where, command);
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	unsigned long low = strtoul(argv[1], NULL, 16), high = strtoul(argv[2], NULL, 16);
	pid_t child = fork(), pid;
	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		execv(argv[3], argv + 3);
		_exit(127);
	}
	int status;
	waitpid(child, &status, 0);
	ptrace(PTRACE_SETOPTIONS, child, NULL,
	       PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL);
	ptrace(PTRACE_SINGLESTEP, child, NULL, NULL);
	int begun = 0; // what comes before the command is executed is this program's own
	while ((pid = waitpid(-1, &status, __WALL)) > 0) {
		if (!WIFSTOPPED(status)) {
			if (pid == child)
				break;
			continue;
		}
		begun |= status >> 16 == PTRACE_EVENT_EXEC;
		if (status >> 16 == PTRACE_EVENT_EXEC && is_other(pid, argv[3])) {
			ptrace(PTRACE_DETACH, pid, NULL, NULL);
			continue;
		}
		struct user_regs_struct regs;
		if (begun && ptrace(PTRACE_GETREGS, pid, NULL, &regs) == 0 && regs.rip >= low && regs.rip < high) {
			unsigned long at = regs.rip - low;
			int under = pid != child;
			if (at < sizeof seen[0] && !seen[under][at]) {
				seen[under][at] = 1;
				printf("%s%lx\n", under ? "+" : "", (unsigned long)regs.rip);
			}
		}
		int signal = WSTOPSIG(status);
		ptrace(PTRACE_SINGLESTEP, pid, NULL, signal == SIGTRAP || signal == SIGSTOP ? 0 : signal);
	}
	return 0;
}
