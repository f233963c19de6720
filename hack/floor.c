// floor: the kernel work of a container and nothing else.
//
// A runtime cannot be faster than the system calls that its container needs. This program makes them in the cheapest
// way known, for the one container that hack/bench describes, without reading a config, so that its times are the
// measure that every runtime is held against. It is no runtime: it checks nothing that only a user could get wrong.
//
//   floor [--root DIR] create|run [--bundle DIR] [--pid-file FILE] ID
//   floor [--root DIR] start|state|kill|delete|exec ID
//
// The program is BUNDLE/rootfs/bin/pause for create, bin/true for run and exec. BUNDLE/floor.docker, if it exists, asks
// for what Docker's config has beyond the default one: three bind mounts, two sysctls and a seccomp filter.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define CGROUPS "/sys/fs/cgroup"
#define CGROUP1_MAGIC 0x27e0ebL
#define CGROUP2_MAGIC 0x63677270L
#define MAX_HIERARCHIES 24
#define PATH_ROOM 512

static const char *root = "/run/tare-floor";
static const char *bundle = ".";
static const char *pid_file;
static const char *id;

static void die(const char *what)
{
	int error = errno;
	dprintf(2, "floor: %s: %s\n", what, strerror(error));
	_exit(1);
}

#define MUST(call) ({ long made = (long)(call); if (made < 0) die(#call); made; })

static void write_file(const char *path, const char *text)
{
	int fd = (int)MUST(open(path, O_WRONLY | O_CLOEXEC));
	if (write(fd, text, strlen(text)) < 0)
		die(path);
	close(fd);
}

static size_t read_file(const char *path, char *into, size_t room)
{
	int fd = (int)MUST(open(path, O_RDONLY | O_CLOEXEC));
	ssize_t got = MUST(read(fd, into, room - 1));
	close(fd);
	into[got] = 0;
	return (size_t)got;
}

static char *state_path(const char *file)
{
	static char path[PATH_ROOM];
	snprintf(path, sizeof path, "%s/%s%s%s", root, id, *file ? "/" : "", file);
	return path;
}

static void write_new(const char *path, const char *text)
{
	int fd = (int)MUST(open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600));
	MUST(write(fd, text, strlen(text)));
	close(fd);
}

// --- control groups ---------------------------------------------------------------------------------------------

static struct hierarchy {
	char name[NAME_MAX + 1];
	int v2;
} hierarchies[MAX_HIERARCHIES];
static int hierarchy_count;
static int unified_only;

static void find_hierarchies(void)
{
	struct statfs fs;
	MUST(statfs(CGROUPS, &fs));
	if (fs.f_type == CGROUP2_MAGIC) {
		unified_only = 1;
		hierarchies[hierarchy_count++] = (struct hierarchy){ ".", 1 };
		return;
	}
	DIR *dir = opendir(CGROUPS);
	if (!dir)
		die(CGROUPS);
	for (struct dirent *e; (e = readdir(dir)) && hierarchy_count < MAX_HIERARCHIES;) {
		char path[PATH_ROOM];
		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, CGROUPS "/%s", e->d_name);
		if (statfs(path, &fs) < 0 || (fs.f_type != CGROUP1_MAGIC && fs.f_type != CGROUP2_MAGIC))
			continue;
		struct hierarchy *h = &hierarchies[hierarchy_count++];
		snprintf(h->name, sizeof h->name, "%s", e->d_name);
		h->v2 = fs.f_type == CGROUP2_MAGIC;
	}
	closedir(dir);
}

static char *group_path(const struct hierarchy *h, const char *file)
{
	static char path[PATH_ROOM];
	snprintf(path, sizeof path, CGROUPS "/%s/%s%s%s", h->name, id, *file ? "/" : "", file);
	return path;
}

// A new cpuset is empty, and a task cannot enter an empty one.
static void inherit_cpuset(const struct hierarchy *h)
{
	static const char *const files[] = { "cpuset.cpus", "cpuset.mems" };
	for (int i = 0; i < 2; i++) {
		char parent[PATH_ROOM], value[256];
		snprintf(parent, sizeof parent, CGROUPS "/%s/%s", h->name, files[i]);
		read_file(parent, value, sizeof value);
		write_file(group_path(h, files[i]), value);
	}
}

static void limit_devices_v1(const struct hierarchy *h)
{
	static const char *const allowed[] = { "c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm",
					       "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm" };
	write_file(group_path(h, "devices.deny"), "a");
	int fd = (int)MUST(open(group_path(h, "devices.allow"), O_WRONLY | O_CLOEXEC));
	for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
		MUST(write(fd, allowed[i], strlen(allowed[i])));
	close(fd);
}

static void limit_devices_v2(int group)
{
	struct bpf_insn allow[] = { { .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 1 },
				    { .code = BPF_JMP | BPF_EXIT } };
	union bpf_attr load = { .prog_type = BPF_PROG_TYPE_CGROUP_DEVICE, .insns = (unsigned long)allow,
				.insn_cnt = 2, .license = (unsigned long)"Apache" };
	int prog = (int)MUST(syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load));
	union bpf_attr attach = { .target_fd = (unsigned)group, .attach_bpf_fd = (unsigned)prog,
				  .attach_type = BPF_CGROUP_DEVICE, .attach_flags = BPF_F_ALLOW_MULTI };
	MUST(syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach));
	close(prog);
}

// Makes the container's group in every hierarchy; answers with a handle on the version 2 one, or -1.
static int make_groups_v2(void)
{
	for (int i = 0; i < hierarchy_count; i++) {
		if (!hierarchies[i].v2)
			continue;
		MUST(mkdir(group_path(&hierarchies[i], ""), 0755));
		int group = (int)MUST(open(group_path(&hierarchies[i], ""), O_DIRECTORY | O_RDONLY | O_CLOEXEC));
		if (unified_only)
			limit_devices_v2(group);
		return group;
	}
	return -1;
}

static void make_groups_v1(void)
{
	for (int i = 0; i < hierarchy_count; i++) {
		const struct hierarchy *h = &hierarchies[i];
		if (h->v2)
			continue;
		MUST(mkdir(group_path(h, ""), 0755));
		if (strstr(h->name, "cpuset"))
			inherit_cpuset(h);
		if (strstr(h->name, "devices"))
			limit_devices_v1(h);
	}
}

// A pid in cgroup.procs waits for an RCU grace period; a task that moves only itself does not.
static void enter_groups_v1(void)
{
	for (int i = 0; i < hierarchy_count; i++)
		if (!hierarchies[i].v2)
			write_file(group_path(&hierarchies[i], "tasks"), "0");
}

static void remove_groups(void)
{
	for (int i = 0; i < hierarchy_count; i++)
		for (int tries = 0; rmdir(group_path(&hierarchies[i], "")) < 0 && errno == EBUSY && tries < 2000; tries++)
			usleep(500);
}

// --- the container's side ---------------------------------------------------------------------------------------

static void attach(const char *source, const char *type, const char *target, unsigned long flags, const char *data)
{
	if (mount(source, target, type, flags, data) < 0)
		die(target);
}

static void set_attributes(const char *target, unsigned flags, unsigned long long attributes)
{
	struct mount_attr attr = { .attr_set = attributes };
	if (syscall(SYS_mount_setattr, AT_FDCWD, target, flags, &attr, sizeof attr) < 0)
		die(target);
}

static void mount_groups(void)
{
	if (unified_only) {
		attach("cgroup", "cgroup2", "sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL);
		return;
	}
	attach("tmpfs", "tmpfs", "sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755");
	for (int i = 0; i < hierarchy_count; i++) {
		char target[PATH_ROOM];
		snprintf(target, sizeof target, "sys/fs/cgroup/%s", hierarchies[i].name);
		MUST(mkdir(target, 0755));
		attach(group_path(&hierarchies[i], ""), NULL, target, MS_BIND, NULL);
	}
	set_attributes("sys/fs/cgroup", AT_RECURSIVE,
		       MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
}

static void mount_all(void)
{
	const unsigned long hard = MS_NOSUID | MS_NOEXEC | MS_NODEV;
	attach("proc", "proc", "proc", 0, NULL);
	attach("tmpfs", "tmpfs", "dev", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
	MUST(mkdir("dev/pts", 0755));
	MUST(mkdir("dev/shm", 0755));
	MUST(mkdir("dev/mqueue", 0755));
	attach("devpts", "devpts", "dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5");
	attach("shm", "tmpfs", "dev/shm", hard, "mode=1777,size=65536k");
	attach("mqueue", "mqueue", "dev/mqueue", hard, NULL);
	attach("sysfs", "sysfs", "sys", hard | MS_RDONLY, NULL);
	mount_groups();
}

static void make_devices(void)
{
	static const struct { const char *path; unsigned major, minor; } devices[] = {
		{ "dev/null", 1, 3 }, { "dev/zero", 1, 5 }, { "dev/full", 1, 7 },
		{ "dev/random", 1, 8 }, { "dev/urandom", 1, 9 }, { "dev/tty", 5, 0 },
	};
	static const char *const links[][2] = { { "/proc/self/fd", "dev/fd" }, { "/proc/self/fd/0", "dev/stdin" },
						{ "/proc/self/fd/1", "dev/stdout" }, { "/proc/self/fd/2", "dev/stderr" },
						{ "pts/ptmx", "dev/ptmx" }, { "/proc/kcore", "dev/core" } };
	umask(0);
	for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
		MUST(mknod(devices[i].path, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)));
	for (size_t i = 0; i < sizeof links / sizeof *links; i++)
		MUST(symlink(links[i][0], links[i][1]));
	umask(022);
}

static void add_dockers_extras(void)
{
	static const char *const files[][2] = { { "resolv.conf", "etc/resolv.conf" }, { "hostname", "etc/hostname" },
						{ "hosts", "etc/hosts" } };
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		char source[PATH_ROOM];
		snprintf(source, sizeof source, "../%s", files[i][0]);
		attach(source, NULL, files[i][1], MS_BIND | MS_REC, NULL);
	}
	write_file("proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
	write_file("proc/sys/net/ipv4/ping_group_range", "0 2147483647");
}

static void hide_paths(void)
{
	static const char *const masked[] = { "proc/acpi", "proc/asound", "proc/kcore", "proc/keys", "proc/latency_stats",
					      "proc/timer_list", "proc/timer_stats", "proc/sched_debug", "sys/firmware",
					      "proc/scsi" };
	static const char *const readonly[] = { "proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger" };
	struct stat st;
	for (size_t i = 0; i < sizeof masked / sizeof *masked; i++) {
		if (mount("dev/null", masked[i], NULL, MS_BIND, NULL) == 0 || errno == ENOENT)
			continue;
		attach("tmpfs", "tmpfs", masked[i], MS_RDONLY, "nr_blocks=1,nr_inodes=1");
	}
	for (size_t i = 0; i < sizeof readonly / sizeof *readonly; i++) {
		if (stat(readonly[i], &st) < 0)
			continue;
		attach(readonly[i], NULL, readonly[i], MS_BIND | MS_REC, NULL);
		set_attributes(readonly[i], AT_RECURSIVE, MOUNT_ATTR_RDONLY);
	}
}

static void change_root(unsigned long long attributes)
{
	if (attributes)
		set_attributes(".", 0, attributes);
	MUST(syscall(SYS_pivot_root, ".", "."));
	MUST(umount2(".", MNT_DETACH));
	MUST(chdir("/"));
}

static void raise_loopback(void)
{
	int fd = (int)MUST(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	MUST(ioctl(fd, SIOCSIFFLAGS, &lo));
	close(fd);
}

static void drop_capabilities(void)
{
	const unsigned keep = 1u << CAP_AUDIT_WRITE | 1u << CAP_KILL | 1u << CAP_NET_BIND_SERVICE;
	for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
		if (cap > 31 || !(keep >> cap & 1))
			prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { { .effective = keep, .permitted = keep } };
	MUST(syscall(SYS_capset, &header, data));
}

// A range tree with as many leaves as Docker's profile has ranges. The numbers do not exist (from 1000 on): the filter has
// its size and its depth, and the program is refused nothing.
struct tree {
	struct sock_filter code[4 * 64 + 8];
	unsigned short used;
};

static void add(struct tree *t, unsigned short code, unsigned k, unsigned char yes, unsigned char no)
{
	t->code[t->used++] = (struct sock_filter){ code, yes, no, k };
}

static void add_ranges(struct tree *t, unsigned first, unsigned count)
{
	if (count == 1) {
		add(t, BPF_JMP | BPF_JEQ | BPF_K, 1000 + first, 0, 1);
		add(t, BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM, 0, 0);
		add(t, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
		return;
	}
	unsigned short branch = t->used;
	add(t, BPF_JMP | BPF_JGE | BPF_K, 1000 + first + count / 2, 0, 0);
	add_ranges(t, first, count / 2);
	t->code[branch].jt = (unsigned char)(t->used - branch - 1);
	add_ranges(t, first + count / 2, count - count / 2);
}

static void load_filter(void)
{
	struct tree t = { .used = 0 };
	add(&t, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch), 0, 0);
	add(&t, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
	add(&t, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
	add(&t, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
	add_ranges(&t, 0, 64);
	struct sock_fprog program = { .len = t.used, .filter = t.code };
	MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
}

static void become(char *program, int filter)
{
	char *const argv[] = { program, NULL };
	static char *const envp[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", NULL };
	struct rlimit files = { 1024, 1024 };
	MUST(setrlimit(RLIMIT_NOFILE, &files));
	drop_capabilities();
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	if (filter)
		load_filter();
	MUST(syscall(SYS_close_range, 3, UINT_MAX, 0));
	MUST(execve(argv[0], argv, envp));
}

// The first process: `go` says that the groups are there, `ready` that all is set up but the program; `gate` is the
// fifo that start opens, or -1 to go on at once.
static _Noreturn void init(int go, int ready, int gate, int docker)
{
	char byte;
	MUST(setsid());
	MUST(unshare(CLONE_NEWNET));
	MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	MUST(chdir(bundle));
	attach("rootfs", NULL, "rootfs", MS_BIND | MS_REC, NULL);
	MUST(chdir("rootfs"));
	raise_loopback();
	MUST(sethostname("floor", 5));
	if (read(go, &byte, 1) != 1)
		_exit(1);
	enter_groups_v1();
	if (unified_only)
		MUST(unshare(CLONE_NEWCGROUP));
	mount_all();
	make_devices();
	if (docker)
		add_dockers_extras();
	hide_paths();
	change_root(docker ? 0 : MOUNT_ATTR_RDONLY);
	MUST(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "floor"));
	if (gate >= 0) {
		MUST(write(ready, "r", 1));
		close(ready);
		MUST(read(gate, &byte, 1));
	}
	become(gate >= 0 ? "/bin/pause" : "/bin/true", docker);
	_exit(127);
}

// --- the verbs --------------------------------------------------------------------------------------------------

static pid_t clone_init(int group, unsigned long long namespaces)
{
	struct clone_args args = { .flags = namespaces, .exit_signal = SIGCHLD };
	if (group >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (unsigned long long)group;
	}
	return (pid_t)MUST(syscall(SYS_clone3, &args, sizeof args));
}

static pid_t create(int wait_for_start)
{
	int go[2], ready[2], gate = -1;
	char path[PATH_ROOM];
	snprintf(path, sizeof path, "%s/floor.docker", bundle);
	int docker = access(path, F_OK) == 0;
	mkdir(root, 0700);
	MUST(mkdir(state_path(""), 0700));
	if (wait_for_start) {
		MUST(mkfifo(state_path("gate"), 0600));
		gate = (int)MUST(open(state_path("gate"), O_RDWR | O_CLOEXEC));
	}
	MUST(pipe2(go, O_CLOEXEC));
	MUST(pipe2(ready, O_CLOEXEC));
	int group = make_groups_v2();
	pid_t pid = clone_init(group, CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS);
	if (pid == 0)
		init(go[0], ready[1], gate, docker);
	close(ready[1]);
	make_groups_v1();
	MUST(write(go[1], "g", 1));
	char text[24], byte;
	snprintf(text, sizeof text, "%d", pid);
	write_new(state_path("pid"), text);
	if (pid_file)
		write_new(pid_file, text);
	if (wait_for_start && read(ready[0], &byte, 1) != 1) {
		dprintf(2, "floor: init ended before it was ready\n");
		_exit(1);
	}
	return pid;
}

static pid_t pid_of(void)
{
	char text[24];
	read_file(state_path("pid"), text, sizeof text);
	return (pid_t)atoi(text);
}

// A zombie has stopped: its pidfd polls readable and its stat says so, but kill(2) still finds it.
static const char *status_of(pid_t pid)
{
	char path[64], text[512];
	struct stat st;
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	if (access(path, F_OK) < 0)
		return "stopped";
	read_file(path, text, sizeof text);
	char *end = strrchr(text, ')');
	if (!end || end[2] == 'Z' || end[2] == 'X')
		return "stopped";
	return stat(state_path("gate"), &st) == 0 ? "created" : "running";
}

static void start(void)
{
	int gate = (int)MUST(open(state_path("gate"), O_WRONLY | O_CLOEXEC));
	MUST(write(gate, "s", 1));
	MUST(unlink(state_path("gate")));
}

static void print_state(void)
{
	pid_t pid = pid_of();
	printf("{\"id\":\"%s\",\"pid\":%d,\"status\":\"%s\"}\n", id, pid, status_of(pid));
	fflush(stdout);
}

static void kill_init(int signal)
{
	int handle = (int)MUST(syscall(SYS_pidfd_open, pid_of(), 0));
	MUST(syscall(SYS_pidfd_send_signal, handle, signal, NULL, 0));
}

static void remove_all(void)
{
	remove_groups();
	unlink(state_path("gate"));
	unlink(state_path("pid"));
	MUST(rmdir(state_path("")));
	rmdir(root);
}

static void delete(void)
{
	pid_t pid = pid_of();
	if (strcmp(status_of(pid), "stopped") != 0)
		kill(pid, SIGKILL);
	remove_all();
}

static int wait_for(pid_t pid)
{
	int status = 0;
	MUST(waitpid(pid, &status, 0));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int exec_true(void)
{
	int group = -1, handle = (int)MUST(syscall(SYS_pidfd_open, pid_of(), 0));
	for (int i = 0; i < hierarchy_count; i++)
		if (hierarchies[i].v2)
			group = (int)MUST(open(group_path(&hierarchies[i], ""), O_DIRECTORY | O_RDONLY | O_CLOEXEC));
	MUST(setns(handle, CLONE_NEWPID));
	pid_t pid = clone_init(group, 0);
	if (pid == 0) {
		MUST(setsid());
		enter_groups_v1();
		MUST(setns(handle, CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS));
		become("/bin/true", 0);
		_exit(127);
	}
	return wait_for(pid);
}

static int run(void)
{
	int status = wait_for(create(0));
	remove_all();
	return status;
}

static int perform(const char *verb)
{
	if (!strcmp(verb, "create"))
		return create(1) > 0 ? 0 : 1;
	if (!strcmp(verb, "run"))
		return run();
	if (!strcmp(verb, "exec"))
		return exec_true();
	if (!strcmp(verb, "start"))
		start();
	else if (!strcmp(verb, "state"))
		print_state();
	else if (!strcmp(verb, "kill"))
		kill_init(SIGKILL);
	else if (!strcmp(verb, "delete"))
		delete();
	else
		return 2;
	return 0;
}

int main(int argc, char **argv)
{
	const char *verb = NULL;
	for (int i = 1; i < argc; i++) {
		if (i + 1 < argc && !strcmp(argv[i], "--root"))
			root = argv[++i];
		else if (i + 1 < argc && !strcmp(argv[i], "--bundle"))
			bundle = argv[++i];
		else if (i + 1 < argc && !strcmp(argv[i], "--pid-file"))
			pid_file = argv[++i];
		else if (!verb)
			verb = argv[i];
		else if (!id)
			id = argv[i];
	}
	if (!verb || !id) {
		dprintf(2, "usage: floor [--root DIR] create|start|state|kill|delete|exec|run [--bundle DIR] [--pid-file FILE] ID\n");
		return 2;
	}
	if (strcmp(verb, "start") && strcmp(verb, "state") && strcmp(verb, "kill"))
		find_hierarchies();
	return perform(verb);
}
