//! Numbers of the kernel's ABI that plans carry. Pure data: the floor that makes system calls is [`crate::sys`].
//!
//! Sources: linux/sched.h, linux/mount.h, linux/capability.h, linux/stat.h of kernel 6.12.

/// Flags of clone3(2), unshare(2) and setns(2).
pub mod clone {
    /// New mount namespace.
    pub const NEWNS: u64 = 0x0002_0000;
    /// New cgroup namespace.
    pub const NEWCGROUP: u64 = 0x0200_0000;
    /// New UTS namespace.
    pub const NEWUTS: u64 = 0x0400_0000;
    /// New IPC namespace.
    pub const NEWIPC: u64 = 0x0800_0000;
    /// New user namespace.
    pub const NEWUSER: u64 = 0x1000_0000;
    /// New PID namespace.
    pub const NEWPID: u64 = 0x2000_0000;
    /// New network namespace.
    pub const NEWNET: u64 = 0x4000_0000;
    /// New time namespace (unshare and clone3 only).
    pub const NEWTIME: u64 = 0x0000_0080;
    /// Ask for a pidfd.
    pub const PIDFD: u64 = 0x0000_1000;
    /// The child's parent is the caller's parent.
    pub const PARENT: u64 = 0x0000_8000;
    /// The child starts in the cgroup of `clone_args.cgroup`.
    pub const INTO_CGROUP: u64 = 0x2_0000_0000;
}

/// Attributes of a mount, see mount_setattr(2).
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x01;
    /// Ignore set-user-ID.
    pub const NOSUID: u64 = 0x02;
    /// No device files.
    pub const NODEV: u64 = 0x04;
    /// No execution.
    pub const NOEXEC: u64 = 0x08;
    /// The field of access time modes.
    pub const ATIME: u64 = 0x70;
    /// Never update access times.
    pub const NOATIME: u64 = 0x10;
    /// Always update access times.
    pub const STRICTATIME: u64 = 0x20;
    /// Never update access times of directories.
    pub const NODIRATIME: u64 = 0x80;
    /// The mount is id-mapped.
    pub const IDMAP: u64 = 0x0010_0000;
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: u64 = 0x0020_0000;
}

/// Words of a mask of memory nodes: room for the most that a kernel can have (CONFIG_NODES_SHIFT is 10 at the highest).
pub const NODE_WORDS: usize = 16;
/// A mask of memory nodes, as set_mempolicy(2) takes it.
pub type NodeMask = [u64; NODE_WORDS];

/// Propagation types, see mount(2).
pub mod propagation {
    /// `unbindable`
    pub const UNBINDABLE: u64 = 1 << 17;
    /// `private`
    pub const PRIVATE: u64 = 1 << 18;
    /// `slave`
    pub const SLAVE: u64 = 1 << 19;
    /// `shared`
    pub const SHARED: u64 = 1 << 20;
}

/// File types of st_mode.
pub mod file {
    /// The field of the file type.
    pub const FMT: u32 = 0o170_000;
    /// Named pipe.
    pub const FIFO: u32 = 0o010_000;
    /// Character device.
    pub const CHR: u32 = 0o020_000;
    /// Block device.
    pub const BLK: u32 = 0o060_000;
    /// Directory.
    pub const DIR: u32 = 0o040_000;
    /// Symbolic link.
    pub const LNK: u32 = 0o120_000;
    /// Regular file.
    pub const REG: u32 = 0o100_000;
}

/// The kernel's capability names by number.
pub const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// CAP_SYS_ADMIN as a bit of a set.
pub const CAP_SYS_ADMIN: u64 = 1 << 21;
/// CAP_SYS_RESOURCE as a bit of a set.
pub const CAP_SYS_RESOURCE: u64 = 1 << 24;

/// Resource limits by number (x86, arm and riscv agree), see getrlimit(2).
pub const RLIMITS: [&str; 16] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];

/// Device numbers as the kernel packs them for user space, see makedev(3).
pub const fn makedev(major: u32, minor: u32) -> u64 {
    let (major, minor) = (major as u64, minor as u64);
    ((major & 0xffff_f000) << 32) | ((major & 0xfff) << 8) | ((minor & 0xffff_ff00) << 12) | (minor & 0xff)
}

/// Scheduling, laid out as sched_setattr(2) takes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scheduler {
    /// SCHED_… number.
    pub policy: u32,
    /// SCHED_FLAG_… bits.
    pub flags: u64,
    /// Nice value.
    pub nice: i32,
    /// Static priority.
    pub priority: u32,
    /// Nanoseconds.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
}

/// Three of the capability sets, as bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapSets {
    /// Effective.
    pub effective: u64,
    /// Permitted.
    pub permitted: u64,
    /// Inheritable.
    pub inheritable: u64,
}

/// One instruction of a seccomp filter: the kernel's `sock_filter` (linux/filter.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Insn {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when a comparison holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}
