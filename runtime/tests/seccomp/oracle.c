/* Turns a profile in words that libseccomp knows into the BPF that libseccomp makes of it: lines of
 *   default VERDICT | arch NAME | tree | rule VERDICT CALL [INDEX OP A B]...
 * come in, struct sock_filter goes out. With an argument: compile that many times and print microseconds each. */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char *word(char *line) { return strtok(line, " \n"); }

static int rule(scmp_filter_ctx ctx)
{
	struct scmp_arg_cmp args[6];
	unsigned count = 0, verdict = strtoul(word(NULL), NULL, 0);
	int call = seccomp_syscall_resolve_name(word(NULL));
	for (char *index; (index = word(NULL)); count++) {
		args[count].arg = strtoul(index, NULL, 0);
		args[count].op = strtoul(word(NULL), NULL, 0);
		args[count].datum_a = strtoull(word(NULL), NULL, 0);
		args[count].datum_b = strtoull(word(NULL), NULL, 0);
	}
	if (call == __NR_SCMP_ERROR)
		return 0;
	return seccomp_rule_add_array(ctx, verdict, call, count, args);
}

static scmp_filter_ctx compile(char *text, int *failed)
{
	scmp_filter_ctx ctx = NULL;
	char *copy = strdup(text), *rest = copy;
	for (char *line; (line = strsep(&rest, "\n"));) {
		char *what = word(line);
		int rc = 0;
		if (!what)
			continue;
		if (!strcmp(what, "default"))
			ctx = seccomp_init(strtoul(word(NULL), NULL, 0));
		else if (!strcmp(what, "arch"))
			rc = seccomp_arch_add(ctx, seccomp_arch_resolve_name(word(NULL)));
		else if (!strcmp(what, "tree"))
			rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
		else
			rc = rule(ctx);
		/* The native architecture is there from the start. */
		if (rc && strcmp(what, "arch"))
			*failed = rc == -EEXIST ? 3 : 1;
	}
	free(copy);
	return ctx;
}

int main(int argc, char **argv)
{
	static char text[1 << 20];
	int failed = 0;
	/* Some profiles keep libseccomp busy for hours. */
	alarm(2);
	text[fread(text, 1, sizeof(text) - 1, stdin)] = 0;
	if (argc > 1) {
		int runs = atoi(argv[1]);
		struct timespec a, b;
		FILE *null = fopen("/dev/null", "w");
		clock_gettime(CLOCK_MONOTONIC, &a);
		for (int i = 0; i < runs; i++) {
			scmp_filter_ctx ctx = compile(text, &failed);
			seccomp_export_bpf(ctx, fileno(null));
			seccomp_release(ctx);
		}
		clock_gettime(CLOCK_MONOTONIC, &b);
		printf("%.1f\n", ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / 1e3 / runs);
		return failed;
	}
	scmp_filter_ctx ctx = compile(text, &failed);
	return failed ? failed : seccomp_export_bpf(ctx, 1) != 0;
}
